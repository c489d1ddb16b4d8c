package emulator_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/coder/websocket"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

type nameValue struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// agent is the ECS agent of a wire's machine.
type agent struct {
	*wire
	arn  string
	conn *websocket.Conn
	seen chan frame // what came over ACS, heartbeats left out
}

// frame is a message of ACS. The fields are those of the agent's model that these tests look at.
type frame struct {
	Type    string `json:"type"`
	Message struct {
		MessageID            string           `json:"messageId"`
		ClusterARN           string           `json:"clusterArn"`
		ContainerInstanceARN string           `json:"containerInstanceArn"`
		SeqNum               int64            `json:"seqNum"`
		Timeline             int64            `json:"timeline"`
		Tasks                []task           `json:"tasks"`
		StopTasks            []taskIdentifier `json:"stopTasks"`
		TaskARN              string           `json:"taskArn"`
		RoleType             string           `json:"roleType"`
		RoleCredentials      *roleCredentials `json:"roleCredentials"`
	} `json:"message"`
}

type task struct {
	ARN           string `json:"arn"`
	TaskARN       string `json:"taskArn"` // in a manifest
	DesiredStatus string `json:"desiredStatus"`
	Family        string `json:"family"`
	Version       string `json:"version"`
	NetworkMode   string `json:"networkMode"`
	LaunchType    string `json:"launchType"`
	Containers    []struct {
		Name         string            `json:"name"`
		Image        string            `json:"image"`
		CPU          int               `json:"cpu"`
		Memory       int               `json:"memory"`
		Essential    bool              `json:"essential"`
		Command      []string          `json:"command"`
		Environment  map[string]string `json:"environment"`
		Overrides    string            `json:"overrides"`
		PortMappings []struct {
			ContainerPort, HostPort int
			Protocol                string
		} `json:"portMappings"`
		DockerConfig struct{ Config, HostConfig, Version string } `json:"dockerConfig"`
	} `json:"containers"`
	RoleCredentials          *roleCredentials `json:"roleCredentials"`
	ExecutionRoleCredentials *roleCredentials `json:"executionRoleCredentials"`
}

type roleCredentials struct {
	CredentialsID   string `json:"credentialsId"`
	RoleARN         string `json:"roleArn"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	SessionToken    string `json:"sessionToken"`
	Expiration      string `json:"expiration"`
}

type taskIdentifier struct {
	DesiredStatus  string `json:"desiredStatus"`
	TaskARN        string `json:"taskArn"`
	TaskClusterARN string `json:"taskClusterArn"`
}

// enlist registers the container instance: the attributes that have a value must come back.
func (w *wire) enlist(arn string) (string, int, map[string]any) {
	w.t.Helper()
	in := map[string]any{
		"cluster": "demo", "clientToken": "0f8fad5b-d9cb-469f-a165-70867728950e",
		"instanceIdentityDocument": "", "instanceIdentityDocumentSignature": "",
		"attributes": []nameValue{
			{"ecs.os-type", "linux"}, {"ecs.os-family", "LINUX"}, {"ecs.cpu-architecture", "x86_64"},
			{Name: "ecs.capability.external"},
		},
		"totalResources": []map[string]any{
			{"name": "CPU", "type": "INTEGER", "integerValue": 2048},
			{"name": "MEMORY", "type": "INTEGER", "integerValue": 1954},
			{"name": "PORTS", "type": "STRINGSET", "stringSetValue": []string{"22", "51678"}},
			{"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []string{}},
		},
	}
	if arn != "" {
		in["containerInstanceArn"] = arn
	}
	status, out := w.call("ecs", ecsTarget+"RegisterContainerInstance", in, w.keys)
	made, _ := out["containerInstance"].(map[string]any)
	got, _ := made["containerInstanceArn"].(string)
	if status == http.StatusOK && !strings.Contains(fmt.Sprint(made["attributes"]), "map[name:ecs.os-type value:linux]") {
		w.t.Errorf("valued attributes do not come back: %v", made["attributes"])
	}
	return got, status, out
}

func newAgent(t *testing.T, opts emulator.Options) *agent {
	t.Helper()
	w := newWire(t, opts)
	arn, status, out := w.enlist("")
	if status != http.StatusOK {
		t.Fatalf("RegisterContainerInstance: %d %v", status, out)
	}
	a := &agent{wire: w, arn: arn}
	a.connect(true)
	return a
}

// connect opens the socket to ACS and takes the manifest.
func (a *agent) connect(sendCredentials bool) frame {
	a.t.Helper()
	found := a.asNode("ecs", ecsTarget+"DiscoverPollEndpoint", map[string]string{
		"cluster": "demo", "containerInstance": a.arn, "zoneId": "",
	})
	endpoint, _ := found["endpoint"].(string)
	path := strings.TrimPrefix(endpoint, a.url)
	a.conn = a.mustDial("ecs", path+query("agentHash", "a8b3e7d3", "agentVersion", "1.105.1", "clusterArn", "demo",
		"containerInstanceArn", a.arn, "dockerVersion", "DockerVersion: 20.10.24+dfsg1", "protocolVersion", "2",
		"sendCredentials", fmt.Sprint(sendCredentials), "seqNum", "1"))
	a.seen = make(chan frame, 100)
	go a.listen(a.conn, a.seen)
	m := a.next("TaskManifestMessage")
	a.ack(m)
	return m
}

func (a *agent) listen(conn *websocket.Conn, seen chan<- frame) {
	defer close(seen)
	for {
		_, data, err := conn.Read(a.t.Context())
		if err != nil {
			return
		}
		var f frame
		if json.Unmarshal(data, &f) != nil {
			continue
		}
		if f.Type != "HeartbeatMessage" {
			seen <- f
			continue
		}
		ack, _ := json.Marshal(map[string]any{ // strings always marshal
			"type": "HeartbeatAckRequest", "message": map[string]string{"messageId": f.Message.MessageID},
		})
		if conn.Write(a.t.Context(), websocket.MessageText, ack) != nil {
			return
		}
	}
}

// next is the next message, which must be of a kind.
func (a *agent) next(kind string) frame {
	a.t.Helper()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	select {
	case f, ok := <-a.seen:
		if !ok || f.Type != kind {
			a.t.Fatalf("want a %s, got %+v (open: %v)", kind, f, ok)
		}
		if f.Type == "PayloadMessage" && (f.Message.MessageID == "" || f.Message.ClusterARN == "" ||
			f.Message.ContainerInstanceARN != a.arn) { // the agent takes none without
			a.t.Errorf("the payload's envelope is %+v", f.Message)
		}
		return f
	case <-timeout.C:
		a.t.Fatalf("no %s came", kind)
		return frame{}
	}
}

func (a *agent) ack(f frame) {
	a.t.Helper()
	a.write(a.conn, map[string]any{"type": "AckRequest", "message": map[string]string{
		"cluster": f.Message.ClusterARN, "containerInstance": a.arn, "messageId": f.Message.MessageID,
	}})
}

// submit is SubmitTaskStateChange for a task of one container.
func (a *agent) submit(arn, status, reason string) map[string]any {
	a.t.Helper()
	container := map[string]any{
		"containerName": "web", "status": status, "runtimeId": "4d8915fabbc0606869c398d2bd7fda690d7e298b2539862d28fc525ab9956cc9",
		"networkBindings": []map[string]any{{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"}},
	}
	in := map[string]any{
		"cluster": "demo", "task": arn, "status": status, "reason": reason, "containers": []any{container},
	}
	if status == "STOPPED" {
		container["exitCode"], in["executionStoppedAt"] = 0, 1795651211.742
	}
	return a.asNode("ecs", ecsTarget+"SubmitTaskStateChange", in)
}

func (a *agent) describe(arn string) map[string]any {
	a.t.Helper()
	out := a.asOperator("DescribeTasks", map[string]any{"cluster": "demo", "tasks": []string{arn}})
	tasks, _ := out["tasks"].([]any)
	if len(tasks) != 1 {
		a.t.Fatalf("DescribeTasks of %s: %v", arn, out)
	}
	described, _ := tasks[0].(map[string]any)
	return described
}

func (a *agent) define(more map[string]any) {
	a.t.Helper()
	in := map[string]any{
		"family": "web", "requiresCompatibilities": []string{"EXTERNAL"},
		"containerDefinitions": []map[string]any{{
			"name": "web", "image": "lab/sleeper:1", "memory": 32, "cpu": 10, "command": []string{"a"},
			"environment":  []map[string]string{{"name": "X", "value": "1"}},
			"portMappings": []map[string]any{{"containerPort": 80}},
		}},
	}
	for name, value := range more {
		in[name] = value
	}
	a.asOperator("RegisterTaskDefinition", in)
}

func (a *agent) run(more map[string]any) string {
	a.t.Helper()
	in := map[string]any{"cluster": "demo", "taskDefinition": "web", "launchType": "EXTERNAL"}
	for name, value := range more {
		in[name] = value
	}
	out := a.asOperator("RunTask", in)
	tasks, _ := out["tasks"].([]any)
	if len(tasks) != 1 {
		a.t.Fatalf("RunTask: %v", out)
	}
	started, _ := tasks[0].(map[string]any)
	arn, _ := started["taskArn"].(string)
	return arn
}

func TestATaskGoesDownAndItsStateComesUp(t *testing.T) {
	a := newAgent(t, emulator.Options{TaskTime: time.Nanosecond}) // of tasks that the emulator plays; not of these
	a.define(nil)
	arn := a.run(map[string]any{"overrides": map[string]any{"containerOverrides": []map[string]any{{
		"name": "web", "command": []string{"b", "c"}, "environment": []map[string]string{{"name": "Y", "value": "2"}},
	}}}})
	down := a.next("PayloadMessage")
	if len(down.Message.Tasks) != 1 {
		t.Fatalf("the payload has %d tasks", len(down.Message.Tasks))
	}
	got := down.Message.Tasks[0]
	c := got.Containers[0]
	if got.ARN != arn || got.DesiredStatus != "RUNNING" || got.Family != "web" || got.Version != "1" ||
		got.NetworkMode != "bridge" || got.LaunchType != "EXTERNAL" || c.Name != "web" || c.Image != "lab/sleeper:1" ||
		c.Memory != 32 || c.CPU != 10 || !c.Essential || c.Environment["X"] != "1" || c.Environment["Y"] != "2" ||
		c.Overrides != `{"command":["b","c"]}` || c.PortMappings[0].ContainerPort != 80 ||
		c.PortMappings[0].Protocol != "tcp" || c.DockerConfig.HostConfig != `{"NetworkMode":"bridge"}` {
		t.Errorf("the task is %+v", got)
	}
	if last := a.describe(arn)["lastStatus"]; last != "PENDING" {
		t.Errorf("before the agent reports, the task is %v", last)
	}
	a.ack(down)
	if out := a.submit(arn, "RUNNING", ""); out["acknowledgment"] == "" {
		t.Errorf("the report is answered with %v", out)
	}
	instance := fmt.Sprint(a.asOperator("DescribeContainerInstances", map[string]any{
		"cluster": "demo", "containerInstances": []string{a.arn},
	}))
	registered, remaining, _ := strings.Cut(instance[strings.Index(instance, "registeredResources"):], "remainingResources")
	if !strings.Contains(registered, "integerValue:1954") || !strings.Contains(remaining, "integerValue:1922") ||
		!strings.Contains(remaining, "integerValue:2038") {
		t.Errorf("of %s there remains %s", registered, remaining)
	}
	running := a.describe(arn)
	if text := fmt.Sprint(running); running["lastStatus"] != "RUNNING" || running["startedAt"] == nil || running["createdAt"] == nil ||
		!strings.Contains(text, "hostPort:32768") || !strings.Contains(text, "runtimeId:4d8915fa") {
		t.Errorf("the running task is %s", text)
	}

	a.asOperator("StopTask", map[string]string{"cluster": "demo", "task": arn, "reason": "enough"})
	stop := a.next("PayloadMessage")
	if s := stop.Message.Tasks[0]; s.ARN != arn || s.DesiredStatus != "STOPPED" || stop.Message.SeqNum <= down.Message.SeqNum {
		t.Errorf("the second payload is %+v after %d", stop.Message, down.Message.SeqNum)
	}
	if still := a.describe(arn); still["lastStatus"] != "RUNNING" || still["desiredStatus"] != "STOPPED" {
		t.Errorf("before the agent reports, the task is %v", still)
	}
	a.ack(stop)
	a.submit(arn, "STOPPED", "")
	stopped := a.describe(arn)
	if text := fmt.Sprint(stopped); stopped["lastStatus"] != "STOPPED" || stopped["stoppedReason"] != "enough" ||
		!strings.Contains(text, "exitCode:0") || stopped["executionStoppedAt"] == nil {
		t.Errorf("the stopped task is %s", text)
	}
}

func TestReportsOfOthersTasksAreForgotten(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	a.define(nil)
	elsewhere := a.AddTask(a.AddInstance("demo"), emulator.Task{Family: "web"})
	for _, arn := range []string{elsewhere, "arn:aws:ecs:us-east-1:123456789012:task/demo/none"} {
		// The agent sends every other refusal again, for a day.
		if _, out := a.call("ecs", ecsTarget+"SubmitTaskStateChange", map[string]string{
			"cluster": "demo", "task": arn, "status": "STOPPED",
		}, a.keys); code(out) != "InvalidParameterException" {
			t.Errorf("a report on %s: %v", arn, out)
		}
	}
	out := a.asNode("ecs", ecsTarget+"SubmitAttachmentStateChanges", map[string]any{"cluster": "demo", "attachments": []any{}})
	if out["acknowledgment"] == "" {
		t.Errorf("attachments are answered with %v", out)
	}
}

func TestATaskThatEndsByItself(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	a.define(nil)
	arn := a.run(nil)
	a.ack(a.next("PayloadMessage"))
	a.asNode("ecs", ecsTarget+"SubmitContainerStateChange", map[string]any{
		"cluster": "demo", "task": arn, "containerName": "web", "status": "STOPPED", "exitCode": 3, "reason": "OOM",
	})
	a.submit(arn, "STOPPED", "CannotPullContainerError: no such image")
	if got := a.describe(arn); got["stopCode"] != "TaskFailedToStart" ||
		got["stoppedReason"] != "CannotPullContainerError: no such image" || got["desiredStatus"] != "STOPPED" ||
		!strings.Contains(fmt.Sprint(got), "reason:OOM") {
		t.Errorf("a task that never ran is %v", got)
	}
	arn = a.run(nil)
	a.ack(a.next("PayloadMessage"))
	a.submit(arn, "RUNNING", "")
	a.submit(arn, "STOPPED", "")
	if got := a.describe(arn); got["stopCode"] != "EssentialContainerExited" {
		t.Errorf("a task that ran is %v", got)
	}
	a.submit(arn, "RUNNING", "") // late, after a retry
	if got := a.describe(arn)["lastStatus"]; got != "STOPPED" {
		t.Errorf("a late report brings it back to %v", got)
	}
}

func TestAServiceIsDrained(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	a.define(nil)
	a.asOperator("CreateService", map[string]any{
		"cluster": "demo", "serviceName": "api", "taskDefinition": "web", "desiredCount": 2, "launchType": "EXTERNAL",
		"deploymentConfiguration": map[string]int{"minimumHealthyPercent": 0, "maximumPercent": 100},
	})
	var arns []string
	take := func() {
		t.Helper()
		for len(arns) < 2 {
			f := a.next("PayloadMessage")
			for _, started := range f.Message.Tasks {
				arns = append(arns, started.ARN)
				a.submit(started.ARN, "RUNNING", "")
			}
			a.ack(f)
		}
	}
	take()
	loose := a.run(nil)
	a.ack(a.next("PayloadMessage"))
	a.submit(loose, "RUNNING", "")

	state := func(status string) {
		t.Helper()
		a.asOperator("UpdateContainerInstancesState", map[string]any{
			"cluster": "demo", "status": status, "containerInstances": []string{a.arn},
		})
	}
	state("DRAINING")
	var stopped []string
	for len(stopped) < 2 {
		f := a.next("PayloadMessage")
		for _, s := range f.Message.Tasks {
			if s.DesiredStatus != "STOPPED" {
				t.Errorf("a DRAINING instance is sent %+v", s)
			}
			stopped = append(stopped, s.ARN)
			a.submit(s.ARN, "STOPPED", "")
		}
		a.ack(f)
	}
	slices.Sort(arns)
	slices.Sort(stopped)
	if !slices.Equal(arns, stopped) {
		t.Errorf("stopped are %v of %v", stopped, arns)
	}
	if got := a.describe(loose)["desiredStatus"]; got != "RUNNING" {
		t.Errorf("what RunTask started is wished %v: draining leaves it alone", got)
	}
	out := a.asOperator("RunTask", map[string]any{"cluster": "demo", "taskDefinition": "web", "launchType": "EXTERNAL"})
	if fmt.Sprint(out["tasks"]) != "[]" || !strings.Contains(fmt.Sprint(out["failures"]), "INACTIVE") {
		t.Errorf("a DRAINING instance takes tasks: %v", out)
	}

	state("ACTIVE")
	arns = nil
	take() // the service starts two again
	a.asOperator("UpdateService", map[string]any{"cluster": "demo", "service": "api", "desiredCount": 1})
	if f := a.next("PayloadMessage"); len(f.Message.Tasks) != 1 || f.Message.Tasks[0].DesiredStatus != "STOPPED" {
		t.Errorf("one task less is %+v", f.Message.Tasks)
	}
	a.asOperator("DeleteService", map[string]any{"cluster": "demo", "service": "api", "force": true})
	_, gone := a.call("ecs", ecsTarget+"UpdateService", map[string]any{"cluster": "demo", "service": "api"}, operatorKeys)
	if code(gone) != "ServiceNotActiveException" {
		t.Errorf("a service that was deleted: %v", gone)
	}
}

func TestADaemonRunsOnEveryInstance(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	a.define(nil)
	a.asOperator("CreateService", map[string]any{
		"cluster": "demo", "serviceName": "log", "taskDefinition": "web:1", "launchType": "EXTERNAL",
		"schedulingStrategy": "DAEMON",
	})
	f := a.next("PayloadMessage")
	if len(f.Message.Tasks) != 1 || f.Message.Tasks[0].DesiredStatus != "RUNNING" {
		t.Fatalf("the daemon's payload is %+v", f.Message.Tasks)
	}
	a.ack(f)
	a.submit(f.Message.Tasks[0].ARN, "RUNNING", "")
	a.asOperator("UpdateContainerInstancesState", map[string]any{
		"cluster": "demo", "status": "DRAINING", "containerInstances": []string{a.arn},
	})
	if f := a.next("PayloadMessage"); len(f.Message.Tasks) != 1 || f.Message.Tasks[0].DesiredStatus != "STOPPED" {
		t.Errorf("a DRAINING instance keeps its daemon: %+v", f.Message.Tasks)
	}
}

func TestAnUnacknowledgedPayloadIsSentAgain(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	a.define(nil)
	arn := a.run(nil)
	first := a.next("PayloadMessage")
	a.clock.pass(11 * time.Second)
	again := a.next("PayloadMessage")
	if again.Message.MessageID == first.Message.MessageID || again.Message.Tasks[0].ARN != arn {
		t.Errorf("the second payload is %+v", again.Message)
	}
	a.ack(again)
	a.submit(arn, "RUNNING", "")
	_ = a.conn.CloseNow()
	if m := a.connect(false); len(m.Message.Tasks) != 1 || m.Message.Tasks[0].TaskARN != arn ||
		m.Message.Timeline <= again.Message.SeqNum { // the agent drops a manifest that is older than a payload
		t.Errorf("after a reconnect the manifest is %+v", m.Message)
	}
	a.asOperator("StopTask", map[string]string{"cluster": "demo", "task": arn})
	if f := a.next("PayloadMessage"); f.Message.Tasks[0].DesiredStatus != "STOPPED" {
		t.Errorf("over the new connection comes %+v", f.Message)
	}
}

// An agent that runs what the manifest does not have asks before it stops that: TaskStopVerificationMessage.
func TestTasksThatNobodyKnowsAreStopped(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	a.define(nil)
	arn := a.run(nil)
	a.ack(a.next("PayloadMessage"))
	a.submit(arn, "RUNNING", "")
	const stray = "arn:aws:ecs:us-east-1:123456789012:task/demo/0123456789abcdef0123456789abcdef"
	a.write(a.conn, map[string]any{"type": "TaskStopVerificationMessage", "message": map[string]any{
		"messageId": "m-1", "stopCandidates": []taskIdentifier{
			{"STOPPED", stray, "arn:aws:ecs:us-east-1:123456789012:cluster/demo"},
			{"STOPPED", arn, "arn:aws:ecs:us-east-1:123456789012:cluster/demo"},
		},
	}})
	answer := a.next("TaskStopVerificationAck")
	if s := answer.Message.StopTasks; answer.Message.MessageID != "m-1" || len(s) != 1 || s[0].TaskARN != stray {
		t.Errorf("to be stopped are %+v", answer.Message)
	}
}

func TestRolesOfTasks(t *testing.T) {
	a := newAgent(t, emulator.Options{TokenLife: time.Hour})
	a.define(map[string]any{
		"taskRoleArn": "arn:aws:iam::123456789012:role/web", "executionRoleArn": "arn:aws:iam::123456789012:role/pull",
	})
	arn := a.run(nil)
	f := a.next("PayloadMessage")
	a.ack(f)
	a.submit(arn, "RUNNING", "")
	role := f.Message.Tasks[0].RoleCredentials
	if role == nil || f.Message.Tasks[0].ExecutionRoleCredentials == nil || role.RoleARN != "arn:aws:iam::123456789012:role/web" ||
		role.CredentialsID == "" || role.Expiration != "2026-11-25T13:00:00Z" {
		t.Fatalf("the task's roles are %+v", f.Message.Tasks[0])
	}
	keys := aws.Credentials{
		AccessKeyID: role.AccessKeyID, SecretAccessKey: role.SecretAccessKey, SessionToken: role.SessionToken,
	}
	if _, out := a.call("ecs", ecsTarget+"ListClusters", struct{}{}, keys); code(out) != "AccessDeniedException" ||
		!strings.Contains(fmt.Sprint(out["message"]), "assumed-role/web/") {
		t.Errorf("the task's role may list clusters, or is somebody else: %v", out)
	}
	renewed := func() map[string]*roleCredentials {
		t.Helper()
		got := map[string]*roleCredentials{}
		for len(got) < 2 {
			m := a.next("IAMRoleCredentialsMessage")
			if m.Message.TaskARN != arn {
				t.Errorf("renewed is a role of %s", m.Message.TaskARN)
			}
			got[m.Message.RoleType] = m.Message.RoleCredentials
		}
		return got
	}
	a.clock.pass(31 * time.Minute)
	if got := renewed()["TaskApplication"]; got == nil || got.CredentialsID != role.CredentialsID ||
		got.AccessKeyID == role.AccessKeyID || got.Expiration != "2026-11-25T13:31:00Z" {
		t.Errorf("after half its life the role is %+v", got)
	}
	_ = a.conn.CloseNow()
	a.connect(true) // an agent that has just started has kept the ids alone
	if got := renewed()["TaskExecution"]; got == nil || got.CredentialsID == role.CredentialsID {
		t.Errorf("to an agent that has started the execution role is %+v", got)
	}
}

func TestAnInstanceRegistersAgain(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	if got, status, out := a.enlist(a.arn); got != a.arn || status != http.StatusOK {
		t.Errorf("again it is %s: %d %v", got, status, out)
	}
	a.asOperator("DeregisterContainerInstance", map[string]any{"cluster": "demo", "containerInstance": a.arn, "force": true})
	if _, ok := <-a.seen; ok {
		t.Error("the socket of an instance that was deregistered stays open")
	}
	if _, status, out := a.enlist(a.arn); status != http.StatusBadRequest || code(out) != "ClientException" ||
		!strings.Contains(fmt.Sprint(out["message"]), "is inactive") {
		t.Errorf("an INACTIVE instance registers again: %d %v", status, out)
	}
	_, answer, err := a.dial("ecs", "/acs"+query("clusterArn", "demo", "containerInstanceArn", a.arn), a.keys)
	if err == nil {
		t.Fatal("an INACTIVE instance connects")
	}
	var named map[string]string
	if json.NewDecoder(answer.Body).Decode(&named) != nil || named["InactiveInstanceException"] == "" {
		t.Errorf("it is refused with %v", named) // the agent waits an hour after this one
	}
}

// publish sends a message over TCS as the agent does: a signed header of HTTP, then JSON.
func (a *agent) publish(conn *websocket.Conn, path, kind string, message any, keys aws.Credentials) {
	a.t.Helper()
	body, err := json.Marshal(map[string]any{"type": kind, "message": message})
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, a.url+path, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.ContentLength = 0 // the agent's signer does not sign it
	a.sign(r, body, "ecs", keys)
	r.Header.Set("Host", r.Host)
	var b bytes.Buffer
	if err := r.Header.Write(&b); err != nil {
		a.t.Fatal(err)
	}
	b.WriteString("\r\n")
	b.Write(body)
	if err := conn.Write(a.t.Context(), websocket.MessageText, b.Bytes()); err != nil {
		a.t.Fatal(err)
	}
}

func TestTelemetryIsVerifiedAndAcknowledged(t *testing.T) {
	a := newAgent(t, emulator.Options{Heartbeat: time.Hour})
	path := "/tcs" + query("agentHash", "a8b3e7d3", "agentVersion", "1.105.1", "cluster", "demo", "containerInstance", a.arn,
		"dockerVersion", "20.10.24+dfsg1")
	conn := a.mustDial("ecs", path)
	answer := func() string {
		t.Helper()
		for {
			_, data, err := conn.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var f frame
			if err := json.Unmarshal(data, &f); err != nil {
				t.Fatal(err)
			}
			if f.Type != "HeartbeatMessage" {
				return f.Type
			}
		}
	}
	metrics := map[string]any{"metadata": map[string]any{
		"cluster": "demo", "containerInstance": a.arn, "fin": true, "idle": true,
		"messageId": "9d16391f-7132-4c70-b84c-9f34ba5d7238",
	}, "timestamp": 1795651210.685}
	a.publish(conn, path, "PublishMetricsRequest", metrics, a.keys)
	if got := answer(); got != "AckPublishMetric" {
		t.Errorf("metrics are answered with %s", got)
	}
	forged := a.keys
	forged.SecretAccessKey = "forged"
	a.publish(conn, path, "PublishMetricsRequest", metrics, forged) // is not answered
	a.publish(conn, path, "PublishInstanceStatusRequest", map[string]any{"metadata": map[string]string{
		"cluster": "demo", "containerInstance": a.arn, "requestId": "b5ef70a3-1d65-48b8-ae03-0003ffa992cc",
	}, "statuses": []map[string]any{{
		"type": "ContainerRuntime", "status": "OK", "lastUpdated": 1795651210.677, "lastStatusChange": 1795651210.686,
	}}, "timestamp": 1795651230.685}, a.keys)
	if got := answer(); got != "AckPublishInstanceStatus" {
		t.Errorf("the instance's status is answered with %s", got)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"PublishMetricsRequest"}`)); err != nil {
		t.Fatal(err)
	}
	a.define(nil)
	arn := a.run(nil)
	for _, status := range []string{"HEALTHY", "UNHEALTHY"} {
		a.publish(conn, path, "PublishHealthRequest", map[string]any{
			"metadata": map[string]any{"cluster": "demo", "containerInstance": a.arn, "fin": true, "messageId": "h-1"},
			"tasks": []map[string]any{{
				"taskArn": arn, "taskDefinitionFamily": "web", "taskDefinitionVersion": "1", "clusterArn": "demo",
				"containers": []map[string]any{{"containerName": "web", "healthStatus": status, "statusSince": 1795651210.685}},
			}, {"taskArn": "arn:aws:ecs:us-east-1:123456789012:task/demo/none"}},
			"timestamp": 1795651210.685,
		}, a.keys)
		if got := answer(); got != "AckPublishHealth" {
			t.Errorf("health is answered with %s", got)
		}
		if got := a.describe(arn); got["healthStatus"] != status {
			t.Errorf("the task is %v, its container %s", got["healthStatus"], status)
		}
	}
	var refused []string
	for _, r := range a.Requests() {
		if r.Operation == "ecs:StartTelemetrySession" && r.Error != "" {
			refused = append(refused, r.Error)
		}
	}
	if !slices.Equal(refused, []string{"InvalidSignatureException", "BadRequestException"}) {
		t.Errorf("refused frames: %v", refused)
	}
}

// What is written to a machine that has lost its power vanishes; its agent is not connected for all that.
func TestAnAgentThatIsGoneIsNotConnected(t *testing.T) {
	w := newWire(t, emulator.Options{PongWait: 20 * time.Millisecond, Heartbeat: 20 * time.Millisecond})
	arn, _, _ := w.enlist("")
	w.mustDial("ecs", "/acs"+query("clusterArn", "demo", "containerInstanceArn", arn)) // nobody reads from it
	w.openChannel(w.token())
	mute := w.mustDial("ssmmessages", "/v1/control-channel/"+w.node+"?role=subscribe&stream=input") // shows no token
	if _, _, err := mute.Read(t.Context()); err == nil {
		t.Error("a channel whose agent shows no token is open")
	}
	eventually(t, "both connections are given up", func() bool {
		i := w.Instances()[0]
		return !i.Connected && i.Runs && w.connection() == "notconnected"
	})
}

func TestWhatRunTaskRefuses(t *testing.T) {
	a := newAgent(t, emulator.Options{})
	a.define(map[string]any{"networkMode": "host"})
	a.AddCluster("empty")
	for family, container := range map[string]map[string]any{
		"agents": {"portMappings": []map[string]any{{"containerPort": 1, "hostPort": 51678}}},
		"large":  {"memory": 4000}, "fast": {"cpu": 4096},
	} {
		definition := map[string]any{"name": "x", "image": "x", "memory": 4}
		for name, value := range container {
			definition[name] = value
		}
		a.asOperator("RegisterTaskDefinition", map[string]any{"family": family, "containerDefinitions": []any{definition}})
	}
	for _, c := range []struct {
		name, operation string
		in              map[string]any
		code, text      string // text: also of failures, with code ""
	}{
		{"no cluster", "RunTask", map[string]any{"cluster": "none"}, "ClusterNotFoundException", ""},
		{"no definition", "RunTask", map[string]any{"taskDefinition": "none"}, "ClientException", "TaskDefinition not found"},
		{"no instance", "RunTask", map[string]any{"cluster": "empty"}, "InvalidParameterException", "No Container Instances"},
		{"another launch type", "RunTask", map[string]any{"launchType": "EC2"}, "InvalidParameterException", "No Container Instances"},
		{"too many", "RunTask", map[string]any{"count": 11}, "InvalidParameterException", "between 1 and 10"},
		{"a service's group", "RunTask", map[string]any{"group": "service:x"}, "InvalidParameterException", "namespace"},
		{"no such container", "RunTask", map[string]any{"overrides": map[string]any{
			"containerOverrides": []map[string]string{{"name": "none"}},
		}}, "InvalidParameterException", "none"},
		{"a port of the agents'", "RunTask", map[string]any{"taskDefinition": "agents"}, "", "RESOURCE:PORTS"},
		{"more memory than there is", "RunTask", map[string]any{"taskDefinition": "large"}, "", "RESOURCE:MEMORY"},
		{"more processors than there are", "RunTask", map[string]any{"taskDefinition": "fast"}, "", "RESOURCE:CPU"},
		{"a port of the host twice", "RunTask", map[string]any{"count": 2}, "", "RESOURCE:PORTS"},
		{"nowhere", "StartTask", map[string]any{"containerInstances": []string{}}, "InvalidParameterException", "between 1 and 10"},
		{"an unknown instance", "StartTask", map[string]any{"containerInstances": []string{"none"}}, "", "MISSING"},
		{"an instance without agent", "StartTask", map[string]any{"containerInstances": []string{"ghost"}}, "", "AGENT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := map[string]any{"cluster": "demo", "taskDefinition": "web", "launchType": "EXTERNAL"}
			for name, value := range c.in {
				in[name] = value
			}
			if c.operation == "StartTask" {
				delete(in, "launchType")
			}
			if fmt.Sprint(in["containerInstances"]) == "[ghost]" {
				ghost, _, _ := a.enlist("")
				in["containerInstances"] = []string{ghost}
			}
			_, out := a.call("ecs", ecsTarget+c.operation, in, operatorKeys)
			text := fmt.Sprint(out["message"], out["failures"])
			if code(out) != c.code || !strings.Contains(text, c.text) {
				t.Errorf("got %q %s", code(out), text)
			}
		})
	}
	out := a.asOperator("StartTask", map[string]any{
		"cluster": "demo", "taskDefinition": "web", "containerInstances": []string{a.AddInstance("demo")},
	})
	if !strings.Contains(fmt.Sprint(out["tasks"]), "lastStatus:PENDING") {
		t.Errorf("StartTask: %v", out)
	}
	for name, in := range map[string]map[string]any{
		"family": {"family": "a b"}, "containers": {"containerDefinitions": []any{}}, "network mode": {"networkMode": "awsvpc"},
		"memory": {"containerDefinitions": []map[string]string{{"name": "x", "image": "x"}}},
	} {
		definition := map[string]any{"family": "f", "containerDefinitions": []map[string]any{{"name": "x", "image": "x", "memory": 4}}}
		for k, v := range in {
			definition[k] = v
		}
		if _, out := a.call("ecs", ecsTarget+"RegisterTaskDefinition", definition, operatorKeys); code(out) != "ClientException" {
			t.Errorf("a definition with a wrong %s: %v", name, out)
		}
	}
}

// poll asks for the poll endpoint as if over another host name, and over TLS.
func (w *wire) poll(arn, host string, secured bool) string {
	w.t.Helper()
	r := w.request(ecsTarget+"DiscoverPollEndpoint", map[string]string{"cluster": "demo", "containerInstance": arn})
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = host
	w.sign(r, body, "ecs", w.keys)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if secured {
		r.TLS = &tls.ConnectionState{}
	}
	answer := httptest.NewRecorder()
	w.ServeHTTP(answer, r)
	var out struct{ Endpoint string }
	if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil {
		w.t.Fatalf("%s: %v", answer.Body, err)
	}
	return out.Endpoint
}
