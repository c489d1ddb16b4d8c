package emulator

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// stateVersion is the form of a snapshot. A program that has another form refuses it, rather than to lose what it does not
// know.
const stateVersion = 1

// snapshot is everything that outlives the process, as JSON. Connections do not: agents come back by themselves. Nor do
// faults and the log of requests.
type snapshot struct {
	Version     int               `json:"version"`
	Account     string            `json:"account"`
	Region      string            `json:"region"`
	Authority   string            `json:"authority,omitempty"` // PEM, with the private key
	Clusters    []savedCluster    `json:"clusters"`
	Activations []savedActivation `json:"activations"`
	Nodes       []savedNode       `json:"nodes"` // oldest first
	Keys        []savedKey        `json:"keys"`
	Tasks       []savedTask       `json:"tasks"` // oldest first
	Services    []savedService    `json:"services"`
	Definitions []TaskDefinition  `json:"taskDefinitions"`
	Roles       []role            `json:"roles"`
	Sequence    int64             `json:"sequence"`
}

type savedCluster struct {
	Name      string          `json:"name"`
	Status    string          `json:"status"`
	Instances []savedInstance `json:"instances"` // oldest first
}

type savedInstance struct {
	Instance
	Attributes []attribute `json:"attributes"`
	Tags       []attribute `json:"tags"`
	Elsewhere  bool        `json:"elsewhere"`
}

type savedActivation struct {
	Activation
	Tags []tag `json:"tags"`
}

type savedNode struct {
	Node
	Fingerprint string `json:"fingerprint"`
	PublicKey   []byte `json:"publicKey"` // DER
	Gone        bool   `json:"gone"`

	GoneAt time.Time `json:"goneAt,omitzero"`
}

type savedKey struct {
	ID      string    `json:"id"`
	Secret  string    `json:"secret"`
	Token   string    `json:"token,omitempty"`
	Deny    []string  `json:"deny,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Node    string    `json:"node,omitempty"`
	Role    string    `json:"role,omitempty"` // of a task
}

type savedTask struct {
	Task
	Cluster     string                 `json:"cluster"`
	Since       time.Time              `json:"since"`
	Stopped     time.Time              `json:"stopped,omitzero"`
	Plain       bool                   `json:"plain,omitempty"`
	Replacement string                 `json:"replacement,omitempty"` // ARN
	Told        string                 `json:"told,omitempty"`
	Sent        bool                   `json:"sent,omitempty"`
	Roles       map[string]savedIssued `json:"roles,omitempty"`
}

type savedIssued struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	KeyID   string    `json:"keyId"`
	Former  string    `json:"former,omitempty"`
	Expires time.Time `json:"expires"`
}

type savedService struct {
	Service
	Cluster string    `json:"cluster"`
	Owed    int       `json:"owed"`
	Left    []string  `json:"left,omitempty"`
	Next    time.Time `json:"next,omitzero"`
}

// snapshot copies the state, so that it can be written while the emulator goes on.
func (e *Emulator) snapshot() *snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &snapshot{
		Version: stateVersion, Account: e.opts.Account, Region: e.opts.Region, Clusters: []savedCluster{},
		Activations: []savedActivation{}, Nodes: []savedNode{}, Keys: []savedKey{}, Tasks: []savedTask{},
		Services: []savedService{}, Definitions: append([]TaskDefinition{}, e.definitions...), Sequence: e.lastSequence,
	}
	if e.opts.Authority != nil {
		s.Authority = string(e.opts.Authority.PrivatePEM())
	}
	for _, name := range sortedNames(e.clusters) {
		c := e.clusters[name]
		saved := savedCluster{Name: c.name, Status: c.status, Instances: make([]savedInstance, 0, len(c.instances))}
		for _, i := range c.instances {
			saved.Instances = append(saved.Instances, savedInstance{
				Instance: i.Instance, Attributes: append([]attribute{}, i.attributes...), Tags: append([]attribute{}, i.tags...),
				Elsewhere: i.elsewhere,
			})
		}
		s.Clusters = append(s.Clusters, saved)
	}
	for _, id := range sortedNames(e.activations) {
		s.Activations = append(s.Activations, savedActivation{e.activations[id].view(), e.activations[id].tags})
	}
	for _, id := range e.nodeOrder {
		n := e.nodes[id]
		der, _ := x509.MarshalPKIXPublicKey(n.publicKey) // parsePublicKey has read it from this form
		s.Nodes = append(s.Nodes, savedNode{Node: n.Node, Fingerprint: n.fingerprint, PublicKey: der, Gone: n.gone, GoneAt: n.goneAt})
	}
	for _, keys := range []map[string]*key{e.keys, e.taskKeys} {
		for _, id := range sortedNames(keys) {
			k := keys[id]
			if !k.expires.IsZero() && e.opts.Now().Sub(k.expires) > keepExpired {
				continue
			}
			s.Keys = append(s.Keys, savedKey{
				ID: k.ID, Secret: k.Secret.Reveal(), Token: k.Token.Reveal(), Deny: k.Deny, Expires: k.expires, Node: k.node,
				Role: k.role,
			})
		}
	}
	s.Roles = []role{}
	for _, name := range sortedNames(e.roles) {
		r := *e.roles[name]
		r.Policies = append([]string(nil), r.Policies...)
		s.Roles = append(s.Roles, r)
	}
	for _, t := range e.tasks {
		s.Tasks = append(s.Tasks, t.save())
	}
	for _, id := range sortedNames(e.services) {
		v := e.services[id]
		s.Services = append(s.Services, savedService{
			Service: v.Service, Cluster: id[:len(id)-len(v.Name)-1], Owed: v.owed, Left: append([]string(nil), v.left...), Next: v.next,
		})
	}
	return s
}

// keepExpired is how long keys that have expired are told apart from keys that never were. AWS does not say; the agents
// ask for new ones long before.
const keepExpired = 24 * time.Hour

func (t *task) save() savedTask {
	s := savedTask{
		Task: t.Task, Cluster: t.cluster, Since: t.since, Stopped: t.stopped, Plain: t.plain, Told: t.told, Sent: t.sent,
	}
	s.Containers = append([]Container(nil), t.Containers...)
	if t.replacement != nil {
		s.Replacement = t.replacement.ARN
	}
	for kind, r := range t.roles {
		if s.Roles == nil {
			s.Roles = map[string]savedIssued{}
		}
		s.Roles[kind] = savedIssued{ID: r.id, Role: r.role, KeyID: r.keyID, Former: r.former, Expires: r.expires}
	}
	return s
}

// Save writes the whole state, with its secrets.
func (e *Emulator) Save(w io.Writer) error {
	return e.snapshot().write(w)
}

func (s *snapshot) write(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return fmt.Errorf("writing the emulator's state: %w", err)
	}
	return nil
}

// Load returns an Emulator with the state that [Emulator.Save] wrote. Account, Region and authority are the state's; opts
// may name none of them, or the same.
func Load(opts Options, data []byte) (*Emulator, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("this is no state of an emulator: %w", err)
	}
	switch {
	case head.Version == 0:
		return nil, errors.New("this is no state of an emulator: it has no version")
	case head.Version != stateVersion:
		return nil, fmt.Errorf("the state has version %d, and this program reads version %d", head.Version, stateVersion)
	}
	var s snapshot
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&s); err != nil {
		return nil, fmt.Errorf("the state cannot be read: %w", err)
	}
	switch {
	case opts.Account != "" && opts.Account != s.Account:
		return nil, fmt.Errorf("the state is of account %s, and not of %s", s.Account, opts.Account)
	case opts.Region != "" && opts.Region != s.Region:
		return nil, fmt.Errorf("the state is of Region %s, and not of %s", s.Region, opts.Region)
	}
	opts.Account, opts.Region = s.Account, s.Region
	if s.Authority != "" {
		authority, err := ReadAuthority([]byte(s.Authority))
		if err != nil {
			return nil, err
		}
		opts.Authority = authority
	}
	e := New(opts)
	if err := e.restore(&s); err != nil {
		return nil, fmt.Errorf("the state cannot be read: %w", err)
	}
	return e, nil
}

// Authority is the one that signs the certificates of this emulator; nil without TLS.
func (e *Emulator) Authority() *Authority { return e.opts.Authority }

// Account is the emulated account's id.
func (e *Emulator) Account() string { return e.opts.Account }

// Region is the emulated Region.
func (e *Emulator) Region() string { return e.opts.Region }

func (e *Emulator) restore(s *snapshot) error {
	for _, c := range s.Clusters {
		made := &cluster{name: c.Name, status: c.Status}
		for _, i := range c.Instances {
			made.instances = append(made.instances, &instance{
				Instance: i.Instance, attributes: i.Attributes, tags: i.Tags, elsewhere: i.Elsewhere, sockets: map[*socket]bool{},
			})
		}
		e.clusters[c.Name] = made
	}
	for _, a := range s.Activations {
		e.activations[a.ID] = &activation{
			id: a.ID, code: a.Code, role: a.Role, name: a.Name, description: a.Description, limit: a.Limit, used: a.Used,
			created: a.Created, expires: a.Expires, tags: a.Tags,
		}
	}
	for _, n := range s.Nodes {
		parsed, err := x509.ParsePKIXPublicKey(n.PublicKey)
		public, ok := parsed.(*rsa.PublicKey)
		if err != nil || !ok {
			return fmt.Errorf("node %s has no public key: %w", n.ID, err)
		}
		e.nodes[n.ID] = &node{
			Node: n.Node, fingerprint: n.Fingerprint, publicKey: public, gone: n.Gone, goneAt: n.GoneAt, channels: map[*channel]bool{},
		}
		e.nodeOrder = append(e.nodeOrder, n.ID)
	}
	for _, k := range s.Keys {
		keys := e.keys
		if k.Role != "" {
			keys = e.taskKeys
		}
		keys[k.ID] = &key{
			Key:     Key{ID: k.ID, Secret: secret.NewText(k.Secret), Token: secret.NewText(k.Token), Deny: k.Deny},
			expires: k.Expires, node: k.Node, role: k.Role,
		}
	}
	for _, r := range s.Roles {
		e.roles[r.Name] = &r
	}
	e.restoreTasks(s)
	for _, v := range s.Services {
		e.services[v.Cluster+"/"+v.Name] = &service{Service: v.Service, owed: v.Owed, left: v.Left, next: v.Next}
	}
	e.definitions, e.lastSequence = s.Definitions, s.Sequence
	return nil
}

func (e *Emulator) restoreTasks(s *snapshot) {
	byARN := map[string]*task{}
	for _, t := range s.Tasks {
		made := &task{
			Task: t.Task, cluster: t.Cluster, since: t.Since, stopped: t.Stopped, plain: t.Plain, told: t.Told, sent: t.Sent,
		}
		for kind, r := range t.Roles {
			if made.roles == nil {
				made.roles = map[string]*issued{}
			}
			made.roles[kind] = &issued{id: r.ID, role: r.Role, keyID: r.KeyID, former: r.Former, expires: r.Expires}
		}
		byARN[t.ARN] = made
		e.tasks = append(e.tasks, made)
	}
	for i, t := range s.Tasks {
		e.tasks[i].replacement = byARN[t.Replacement]
	}
}
