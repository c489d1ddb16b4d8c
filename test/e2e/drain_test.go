package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// moved is what the tests look at in drain's and activate's documents.
type moved struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Result          struct {
		Status, Source string
		TasksLeft      int
	}
	Error *struct{ Code, Message, Evidence, Remedy string }
}

// says reports whether the document has a text somewhere that people would read.
func (d moved) says(text string) bool {
	all := d.Msg + "\n" + strings.Join(d.Warnings, "\n")
	if d.Error != nil {
		all += "\n" + d.Error.Remedy + "\n" + d.Error.Evidence
	}
	return strings.Contains(all, text)
}

func (s *site) drain(args ...string) lab.Cmd {
	return lab.Cmd{Args: append([]string{"anywhere", "drain", "-o", "json", "--endpoint-url", s.url}, args...)}
}

// moves reads a drain's document.
func (s *site) moves(res lab.Result) moved {
	s.t.Helper()
	var d moved
	if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil {
		s.t.Fatalf("stdout is not one JSON object: %v\n%v", err, res)
	}
	if err := contract.Check([]byte(res.Stdout)); err != nil {
		s.t.Error(err)
	}
	if d.RC != res.Exit || d.Failed != (d.Error != nil) || d.Failed && d.Error.Remedy == "" {
		s.t.Errorf("%v", res)
	}
	return d
}

func (s *site) statusOf(arn string) string {
	for _, i := range s.aws.Instances() {
		if i.ARN == arn {
			return i.Status
		}
	}
	return ""
}

// A real host is drained and taken back: with an operator's credentials, with none, without a network, killed and
// interrupted. Whatever becomes of the tasks in ECS, no container on the host is touched.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	if d := s.moves(h.Run(s.drain("--region", region))); d.RC != 12 || d.Error.Code != string(failure.NoInstance) {
		t.Errorf("before any registration: %+v", d)
	}
	arn := s.mustRegister(h, s.register(s.token(1))).Result.ContainerInstanceARN
	container := startTask(h)
	s.aws.AddInstance(cluster)
	s.aws.AddService(cluster, emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
	s.aws.AddTask(arn, emulator.Task{Service: "web"})
	job := s.aws.AddTask(arn, emulator.Task{Family: "job"})
	await(t, "the agent knows its tasks", func() bool {
		return strings.Contains(h.Run(asRoot).Stdout, `"tasks":{"running":2`)
	})

	// Without an operator, and without a network.
	before := h.Tree(treeOf...)
	nowhere := s.drain("--endpoint-url", "http://"+lab.Address+":1")
	if d := s.moves(h.Run(nowhere)); d.RC != 5 || d.Error.Code != string(failure.Network) {
		t.Errorf("without a network: %+v", d)
	}
	alone := s.moves(h.Run(s.drain("--drain-timeout", "6s")))
	if alone.RC != 12 || alone.Error.Code != string(failure.DrainTimeout) || alone.Result.Source != "agent" || alone.Result.TasksLeft != 1 ||
		s.statusOf(arn) != "ACTIVE" || !alone.says("the role of the managed node") {
		t.Fatalf("as the node: %+v", alone)
	}
	if diff := differences(before, h.Tree(treeOf...), ofOneHost); len(diff) > 0 {
		t.Errorf("a drain changed the host: %v", diff)
	}

	// With one: Ctrl-C in the middle of the wait, and killed five times; then the same command goes on.
	s.operator(h, "admin")
	counting := func(n int) *running {
		asked := s.asked("ecs:")
		r := s.begin(h, s.drain("--profile", "admin"))
		await(t, "it asks ECS", func() bool { return s.asked("ecs:") >= asked+n || r.over() })
		return r
	}
	r := counting(20)
	if s.statusOf(arn) != "DRAINING" {
		t.Errorf("while it waits the instance is %s", s.statusOf(arn))
	}
	r.signal(syscall.SIGINT)
	if d := s.moves(r.end()); d.RC != 130 || !strings.Contains(d.Error.Message, "is ACTIVE again") || !d.says("stop-task") || !d.says(job) ||
		s.statusOf(arn) != "ACTIVE" {
		t.Errorf("Ctrl-C: %+v", d)
	}
	for n := range 5 {
		counting(1 + 3*n).killed()
	}
	if s.statusOf(arn) != "DRAINING" {
		t.Errorf("killed while it waits, the instance is %s", s.statusOf(arn))
	}
	forced := s.moves(h.Run(s.drain("--profile", "admin", "--drain-timeout", "0s", "--on-timeout", "force", "--accept-risk", "running-tasks")))
	if forced.RC != 0 || !forced.Changed || forced.Result.TasksLeft != 0 || forced.Result.Source != "ecs" || forced.Result.Status != "DRAINING" {
		t.Errorf("by force: %+v", forced)
	}
	if again := s.moves(h.Run(s.drain("--profile", "admin"))); again.RC != 0 || again.Changed {
		t.Errorf("again: %+v", again)
	}

	// The agent is down: its state still says which instance the host is.
	h.MustShell("systemctl stop ecs.service")
	active := lab.Cmd{Args: []string{"anywhere", "activate", "-o", "json", "--endpoint-url", s.url, "--profile", "admin"}}
	if d := s.moves(h.Run(active)); d.RC != 0 || !d.Changed || s.statusOf(arn) != "ACTIVE" {
		t.Errorf("activate: %+v", d)
	}
	if d := s.moves(h.Run(active)); d.RC != 0 || d.Changed {
		t.Errorf("activate again: %+v", d)
	}
	if d := s.moves(h.Run(s.drain())); d.RC != 4 || d.Error.Code != string(failure.AccessDenied) || !d.says("--profile") || s.statusOf(arn) != "ACTIVE" {
		t.Errorf("as the node, without its agent: %+v", d)
	}
	if d := s.moves(h.Run(s.drain("--profile", "admin"))); d.RC != 0 || !d.says("connected") {
		t.Errorf("without its agent: %+v", d)
	}

	taskRuns(t, h, container)

	// Docker is dead, Systems Manager has forgotten the node, the node's credentials have expired, ECS has forgotten the instance.
	h.MustShell("docker kill ecs-web-1-web; systemctl stop docker.socket docker.service")
	s.aws.DeregisterNode(s.aws.Nodes()[0].ID)
	if d := s.moves(h.Run(active)); d.RC != 0 || !d.Changed || s.statusOf(arn) != "ACTIVE" {
		t.Errorf("activate without Docker and node: %+v", d)
	}
	must(t, s.aws.Fault(emulator.FaultCredentialsExpired))
	if d := s.moves(h.Run(s.drain())); d.RC != 4 || d.Error.Code != string(failure.CredentialsExpired) || s.statusOf(arn) != "ACTIVE" {
		t.Errorf("with expired credentials: %+v", d)
	}
	s.aws.ClearFault(emulator.FaultCredentialsExpired)
	s.aws.SetInstanceStatus(arn, "INACTIVE")
	for _, cmd := range []lab.Cmd{s.drain("--profile", "admin"), active} {
		if d := s.moves(h.Run(cmd)); d.RC != 12 || d.Error.Code != string(failure.InstanceInactive) || d.Changed {
			t.Errorf("gone in ECS: %+v", d)
		}
	}
}
