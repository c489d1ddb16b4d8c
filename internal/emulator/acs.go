package emulator

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// direction is the conversation with an agent that runs its tasks: what it is to run and to stop goes down over ACS, and
// comes back as Submit…StateChange. Messages and their order: amazon-ecs-agent 1.105.1, ecs-agent/acs/session.
type direction struct {
	e      *Emulator
	i      *instance
	conn   *websocket.Conn
	signer string

	waiting map[string][]delivery // by message, until the agent acknowledges it; e.mu guards it
	asked   map[*task]delivery    // what was last said of a task
	settled time.Time             // when the account was last looked through for what is due
}

// delivery is a wish that was sent.
type delivery struct {
	t       *task
	desired string
	at      time.Time
}

// sendAgain is how long an agent has to acknowledge a payload.
const sendAgain = 10 * time.Second

// direct tells the agent what it has to run, until ctx ends. The manifest comes first: an agent that runs what is not in
// it asks whether to stop that.
func (d *direction) direct(ctx context.Context, credentials bool) {
	d.asked = map[*task]delivery{}
	if !d.send(ctx, "TaskManifestMessage", d.manifest()) {
		return
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if payload := d.payload(); payload != nil && !d.send(ctx, "PayloadMessage", payload) {
			return
		}
		for _, m := range d.credentials(credentials) {
			if !d.send(ctx, "IAMRoleCredentialsMessage", m) {
				return
			}
		}
		credentials = false
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (d *direction) send(ctx context.Context, kind string, message any) bool {
	text, _ := json.Marshal(map[string]any{"type": kind, "message": message}) // maps of what was JSON before, and strings
	return d.conn.Write(ctx, websocket.MessageText, text) == nil
}

// sequence numbers payloads and manifests together: an agent drops a manifest that is older than what it has seen, before
// a restart of either too.
func (e *Emulator) sequence() int64 {
	e.lastSequence = max(e.lastSequence+1, e.opts.Now().UnixMilli())
	return e.lastSequence
}

func (d *direction) manifest() map[string]any {
	e := d.e
	e.mu.Lock()
	defer e.mu.Unlock()
	tasks := []any{}
	for _, t := range e.on(d.i.ARN) {
		if t.Desired == "RUNNING" {
			tasks = append(tasks, map[string]string{
				"taskArn": t.ARN, "taskClusterArn": e.clusterARN(t.cluster), "desiredStatus": t.Desired,
			})
		}
	}
	return map[string]any{
		"messageId": uuid(), "clusterArn": e.clusterARN(d.i.Cluster), "containerInstanceArn": d.i.ARN,
		"timeline": e.sequence(), "generatedAt": e.opts.Now().UnixMilli(), "tasks": tasks,
	}
}

// payload is what the agent has to be told now, or nil.
func (d *direction) payload() map[string]any {
	never := d.e.isArmed(FaultTaskNeverStops)
	e := d.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(d.settled) > time.Second { // every call does it too
		e.settle()
		d.settled = time.Now()
	}
	now := e.opts.Now()
	id, tasks := uuid(), []any{}
	for _, t := range e.on(d.i.ARN) {
		said := d.asked[t]
		if t.told == t.Desired || t.Desired == "STOPPED" && never ||
			said.desired == t.Desired && now.Sub(said.at) < sendAgain {
			continue
		}
		said = delivery{t, t.Desired, now}
		d.asked[t], t.sent = said, true
		d.waiting[id] = append(d.waiting[id], said)
		tasks = append(tasks, e.acsTask(t))
	}
	if len(tasks) == 0 {
		return nil
	}
	return map[string]any{
		"messageId": id, "clusterArn": e.clusterARN(d.i.Cluster), "containerInstanceArn": d.i.ARN,
		"seqNum": e.sequence(), "generatedAt": now.UnixMilli(), "tasks": tasks,
	}
}

// credentials are the messages that renew the roles of tasks: of all of them, for an agent that has just started and has
// forgotten them, otherwise of those that are past their half.
func (d *direction) credentials(all bool) []any {
	e := d.e
	e.mu.Lock()
	defer e.mu.Unlock()
	var messages []any
	for _, t := range e.on(d.i.ARN) {
		for _, kind := range slices.Sorted(maps.Keys(t.roles)) {
			r := t.roles[kind]
			if t.told == "" || !all && r.expires.Sub(e.opts.Now()) > e.opts.TokenLife/2 {
				continue
			}
			messages = append(messages, map[string]any{
				"messageId": uuid(), "taskArn": t.ARN, "roleType": kind, "roleCredentials": e.issue(t, kind, r.role),
			})
		}
	}
	return messages
}

// issued is what a task has of a role. Its id stays when the keys change, and when the emulator starts anew: the task's
// containers ask for it.
type issued struct {
	id, role      string
	keyID, former string // the keys before the present ones are good until they are renewed again
	expires       time.Time
}

// nameUUID is a UUID that follows from a name.
func nameUUID(name string) string {
	sum := sha256.Sum256([]byte(name))
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], "5" + h[13:16], "a" + h[17:20], h[20:]}, "-")
}

// The two roles of a task, as ACS names them.
const (
	taskRole      = "TaskApplication"
	executionRole = "TaskExecution"
)

// issue makes new keys for a role of a task, in ACS's words.
func (e *Emulator) issue(t *task, kind, role string) map[string]string {
	if t.roles == nil {
		t.roles = map[string]*issued{}
	}
	r := t.roles[kind]
	if r == nil {
		r = &issued{id: nameUUID(t.ARN + kind)}
		t.roles[kind] = r
	}
	k := e.newSessionKey()
	k.role = strings.Replace(strings.Replace(role, ":iam:", ":sts:", 1), ":role/", ":assumed-role/", 1) + "/" + lastPart(t.ARN)
	delete(e.taskKeys, r.former)
	e.taskKeys[k.ID] = k
	r.former, r.keyID, r.role, r.expires = r.keyID, k.ID, role, k.expires
	return map[string]string{
		"credentialsId": r.id, "roleArn": role, "accessKeyId": k.ID, "secretAccessKey": k.Secret.Reveal(),
		"sessionToken": k.Token.Reveal(), "expiration": k.expires.UTC().Format(time.RFC3339),
	}
}

// newSessionKey makes keys that expire.
func (e *Emulator) newSessionKey() *key {
	return &key{
		Key: Key{
			ID:     "ASIA" + strings.ToUpper(hexID(8)),
			Secret: secret.NewText(base64.StdEncoding.EncodeToString([]byte(hexID(15)))),
			Token:  secret.NewText(base64.StdEncoding.EncodeToString([]byte(hexID(150)))),
		},
		expires: e.opts.Now().Add(e.opts.TokenLife),
	}
}

// taskIdentifier names a task in manifests and what follows them.
type taskIdentifier struct {
	TaskARN       string `json:"taskArn"`
	ClusterARN    string `json:"taskClusterArn"`
	DesiredStatus string `json:"desiredStatus"`
}

// listen takes the agent's acknowledgements and questions until the socket or ctx ends.
func (d *direction) listen(ctx context.Context, cancel context.CancelFunc) {
	defer cancel()
	for {
		_, data, err := d.conn.Read(ctx)
		if err != nil {
			return
		}
		var in struct {
			Type    string
			Message struct {
				MessageID      string           `json:"messageId"`
				StopCandidates []taskIdentifier `json:"stopCandidates"`
			}
		}
		if json.Unmarshal(data, &in) != nil {
			continue
		}
		switch in.Type {
		case "AckRequest":
			d.acknowledge(in.Message.MessageID)
		case "TaskStopVerificationMessage":
			if !d.send(ctx, "TaskStopVerificationAck", d.verify(in.Message.MessageID, in.Message.StopCandidates)) {
				return
			}
		}
	}
}

func (d *direction) acknowledge(id string) {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	for _, said := range d.waiting[id] {
		said.t.told = said.desired
	}
	delete(d.waiting, id)
}

// verify tells which of the tasks that the manifest did not have are to be stopped: all that nobody wants by now.
func (d *direction) verify(id string, candidates []taskIdentifier) map[string]any {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	stop := []taskIdentifier{}
	for _, c := range candidates {
		t := d.e.task(c.TaskARN)
		if t == nil || t.Instance != d.i.ARN || t.Desired != "RUNNING" {
			stop = append(stop, c)
		}
	}
	return map[string]any{"messageId": id, "generatedAt": d.e.opts.Now().UnixMilli(), "stopTasks": stop}
}
