package rehearsal

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// moved is what the tests look at in drain's and activate's documents.
type moved struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Steps           []struct{ ID, Status, Detail string }
	Result          lifecycle.DrainResult
	Error           struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// drains runs drain or activate and asserts that no file of the host changes.
func (s *stage) drains(t *testing.T, l line, flags ...string) moved {
	t.Helper()
	return s.drainsUntil(t.Context(), t, l, flags...)
}

func (s *stage) drainsUntil(ctx context.Context, t *testing.T, l line, flags ...string) moved {
	t.Helper()
	l.extra = true
	c, err := s.play(ctx, l, cli.RehearseRequest{Args: flags})
	if err != nil && c.RC == 0 {
		t.Fatal(err)
	}
	var d moved
	if err := json.Unmarshal(c.Document, &d); err != nil {
		t.Fatalf("%v: %s", err, c.Document)
	}
	if changed := slices.DeleteFunc(c.Changed, agentsOwn); len(changed) > 0 {
		t.Errorf("it changed the host: %v", changed)
	}
	if d.Failed && (d.Error.Remedy == "" || d.Error.RolledBack || len(d.Error.Kept) > 0) {
		t.Errorf("%+v", d.Error)
	}
	return d
}

var (
	drainsIt    = line{args: []string{"drain"}, operator: true}
	activatesIt = line{args: []string{"activate"}, operator: true}
)

func (s *stage) own() emulator.Instance {
	for _, i := range s.aws.Instances() {
		if i.AgentVersion != "" {
			return i
		}
	}
	return emulator.Instance{}
}

// on are the tasks of the host that have not stopped.
func (s *stage) on() (tasks []emulator.Task) {
	for _, t := range s.aws.Tasks() {
		if t.Instance == s.own().ARN && t.Last != "STOPPED" {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

func (d moved) says(t *testing.T, want string) {
	t.Helper()
	if text := strings.Join(append(slices.Clone(d.Warnings), d.Msg, d.Error.Evidence, d.Error.Remedy), "\n"); !strings.Contains(text, want) {
		t.Errorf("nothing says %q:\n%s", want, text)
	}
}

func TestTheDrainsStory(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	report, err := Run(t.Context(), env, cli.RehearseRequest{Scenario: "drain", JSON: true})
	if err != nil {
		t.Fatal(err)
	}
	commands := report.Result.(Result).Commands
	var dry, drained, activated moved
	for i, d := range []*moved{1: &dry, 2: &drained, 4: &activated} {
		if d == nil {
			continue
		}
		if err := json.Unmarshal(commands[i].Document, d); err != nil {
			t.Fatal(err)
		}
	}
	if dry.Changed || dry.Result.TasksLeft != 2 || dry.Result.Status != "ACTIVE" || dry.Steps[0].Status != "planned" {
		t.Errorf("dry run: %+v", dry)
	}
	dry.says(t, "1 task belongs to no service and leaves only by ending or being stopped")
	if !drained.Changed || drained.Result.TasksLeft != 0 || drained.Result.Status != "DRAINING" || drained.Result.Source != "ecs" ||
		len(drained.Result.Tasks) != 2 || drained.Result.WaitedMs < taskTime.Milliseconds() {
		t.Errorf("drain: %+v", drained)
	}
	if !activated.Changed || activated.Result.Status != "ACTIVE" {
		t.Errorf("activate: %+v", activated)
	}
}

// What drain and activate do with an operator's credentials, in one host's life.
func TestDrainWithAnOperator(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	arn := s.own().ARN
	s.aws.AddService(cluster, emulator.Service{Name: "fixed", Desired: 1, Minimum: 100, Maximum: 100})
	s.aws.AddTask(arn, emulator.Task{Service: "fixed"})
	job := s.aws.AddTask(arn, emulator.Task{Family: "job"})

	// Nothing leaves: ACTIVE again, and what stays is named before.
	d := s.drains(t, drainsIt, "--drain-timeout", "500ms")
	if d.RC != 12 || d.Error.Code != string(failure.DrainTimeout) || d.Changed || d.Result.Status != "ACTIVE" || d.Result.TasksLeft != 2 ||
		s.own().Status != "ACTIVE" || !strings.Contains(d.Error.Message, "2 tasks left after 500ms; the container instance is ACTIVE again") {
		t.Fatalf("abort: %+v", d)
	}
	d.says(t, "service fixed: of 1 wanted it keeps at least 1 and runs at most 1")
	d.says(t, "1 task belongs to no service and leaves only by ending or being stopped")
	d.says(t, "aws ecs stop-task --region eu-west-1 --cluster rehearsal --task "+job)
	for _, task := range d.Result.Tasks {
		if task.NeverMoves == "" || task.Standalone != (task.ARN == job) || task.StartedAt == "" || task.LastStatus != "RUNNING" {
			t.Errorf("%+v", task)
		}
	}

	// It stays DRAINING, and a second run, which found it so, leaves it so whatever it says.
	d = s.drains(t, drainsIt, "--drain-timeout", "0s", "--on-timeout", "leave")
	if d.RC != 12 || !d.Changed || d.Result.Status != "DRAINING" || s.own().Status != "DRAINING" {
		t.Fatalf("leave: %+v", d)
	}
	d.says(t, "anywhere activate")
	d = s.drains(t, drainsIt, "--drain-timeout", "0s")
	if d.RC != 12 || d.Changed || s.own().Status != "DRAINING" || !strings.Contains(d.Error.Message, "stays DRAINING, as it was before this run") ||
		d.Steps[0].Status != "unchanged" {
		t.Fatalf("abort of what was DRAINING: %+v", d)
	}

	// Force stops both, and waits until they have stopped.
	d = s.drains(t, drainsIt, "--drain-timeout", "0s", "--on-timeout", "force", "--accept-risk", "running-tasks")
	if d.RC != 0 || !d.Changed || d.Result.TasksLeft != 0 || len(s.on()) > 0 || d.Result.Tasks[0].LastStatus != "STOPPED" {
		t.Fatalf("force: %+v", d)
	}
	d.says(t, "stopped by force: ")
	d.says(t, "the risk running-tasks is accepted")
	if reason := s.aws.Tasks()[0].Reason; !strings.Contains(reason, "anywhere") {
		t.Errorf("the task says it was stopped for %q", reason)
	}

	// Empty and DRAINING: nothing to do, twice. And back.
	for range 2 {
		if d = s.drains(t, drainsIt); d.RC != 0 || d.Changed || d.Result.Status != "DRAINING" || !strings.HasPrefix(d.Msg, "nothing to do") {
			t.Errorf("again: %+v", d)
		}
	}
	if d = s.drains(t, activatesIt, "--dry-run", "--detailed-exitcode"); d.RC != 11 || d.Changed || s.own().Status != "DRAINING" {
		t.Errorf("dry run: %+v", d)
	}
	if d = s.drains(t, activatesIt); d.RC != 0 || !d.Changed || d.Result.Status != "ACTIVE" || s.own().Status != "ACTIVE" {
		t.Errorf("activate: %+v", d)
	}
	if d = s.drains(t, activatesIt); d.RC != 0 || d.Changed || !strings.HasPrefix(d.Msg, "nothing to do") || d.Steps[0].Status != "unchanged" {
		t.Errorf("activate again: %+v", d)
	}
	if d = s.drains(t, drainsIt, "--region", "eu-central-1"); d.RC != 2 || d.Error.Code != string(failure.Usage) || s.own().Status != "ACTIVE" {
		t.Errorf("another Region: %+v", d)
	}
}

// A task that is stopping counts, though ECS counts it neither as running nor as pending.
func TestStoppingTasksCount(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	s.fault(emulator.FaultTaskNeverStops)
	s.aws.AddInstance(cluster)
	s.aws.AddService(cluster, emulator.Service{Name: "web", Desired: 1, Minimum: 0, Maximum: 100})
	s.aws.AddTask(s.own().ARN, emulator.Task{Service: "web"})
	d := s.drains(t, drainsIt, "--drain-timeout", "600ms", "--on-timeout", "leave")
	if d.RC != 12 || d.Result.TasksLeft != 1 || d.Result.Tasks[0].LastStatus != "STOPPING" || s.own().Tasks != 0 || s.own().Pending != 0 {
		t.Fatalf("%+v", d)
	}
	if !strings.Contains(d.Error.Message, "1 task is left (1 stopping)") {
		t.Error(d.Error.Message)
	}
	s.aws.ClearFault(emulator.FaultTaskNeverStops)
	if d = s.drains(t, drainsIt); d.RC != 0 || d.Result.TasksLeft != 0 {
		t.Errorf("%+v", d)
	}
}

// Without an operator the host's own role drains, and its agent counts.
func TestDrainAsTheNode(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	alone, back := line{args: []string{"drain"}}, line{args: []string{"activate"}}
	s.aws.AddInstance(cluster)
	s.aws.AddService(cluster, emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
	s.aws.AddTask(s.own().ARN, emulator.Task{Service: "web"})
	job := s.aws.AddTask(s.own().ARN, emulator.Task{Family: "job"})
	s.awaitAgent(t, 2)

	d := s.drains(t, alone, "--drain-timeout", "0s", "--on-timeout", "force", "--accept-risk", "running-tasks")
	if d.RC != 4 || d.Error.Code != string(failure.AccessDenied) || d.Changed || s.own().Status != "ACTIVE" {
		t.Fatalf("the node may not stop tasks: %+v", d)
	}
	d.says(t, "ecs:StopTask")
	d.says(t, "name an operator's profile")
	d = s.drains(t, alone, "--drain-timeout", "3s")
	if d.RC != 12 || d.Result.Source != "agent" || d.Result.TasksLeft != 1 || s.own().Status != "ACTIVE" || d.Result.Status != "ACTIVE" {
		t.Fatalf("%+v", d)
	}
	d.says(t, "the role of the managed node mi-")
	d.says(t, "which tasks belong to a service is not known here")
	s.aws.FinishTask(job)
	d = s.drains(t, alone)
	if d.RC != 0 || d.Result.TasksLeft != 0 || s.own().Status != "DRAINING" || d.Result.Status != "DRAINING" {
		t.Errorf("%+v", d)
	}
	if d = s.drains(t, back); d.RC != 0 || s.own().Status != "ACTIVE" {
		t.Errorf("%+v", d)
	}
	for _, denied := range []string{"ecs:ListTasks", "ecs:DescribeTasks", "ecs:DescribeContainerInstances"} {
		if s.asked(denied) > 0 {
			t.Errorf("the node called %s, which its role may not", denied)
		}
	}
}

// awaitAgent waits until the agent knows that many tasks.
func (s *stage) awaitAgent(t *testing.T, n int) {
	t.Helper()
	s.until(t, func(h health) bool { return h.Result.Tasks.Running == n })
}

// What AWS refuses, and what nobody answers. Nothing is changed before all rights are settled.
func TestDrainAndWhatAWSAnswers(t *testing.T) {
	t.Parallel()
	s, d := registered(t)
	s.aws.AddTask(s.own().ARN, emulator.Task{Family: "job"})
	s.awaitAgent(t, 1)
	may := func(deny ...string) func() {
		return func() { s.operator.Deny = deny; s.aws.AddOperator(s.operator) }
	}
	for _, test := range []struct {
		name  string
		spoil func()
		flags []string
		rc    int
		code  failure.Code
		says  string
	}{
		{"no right to drain", may("ecs:UpdateContainerInstancesState"), nil, 4, failure.AccessDenied, "ecs:UpdateContainerInstancesState"},
		{"no right to stop", may("ecs:StopTask"), []string{"--on-timeout", "force", "--accept-risk", "running-tasks"}, 4, failure.AccessDenied, "ecs:StopTask"},
		{"no right at all", may("*"), nil, 4, failure.AccessDenied, "may not"},
		{"no right to list: the agent counts", may("ecs:ListTasks"), []string{"--drain-timeout", "0s"}, 12, failure.DrainTimeout, "counted by the ECS agent"},
		{"no right to look", may("ecs:DescribeContainerInstances"), []string{"--drain-timeout", "0s"}, 12, failure.DrainTimeout, "is not known"},
		{"no right to foresee", may("ecs:DescribeServices"), []string{"--drain-timeout", "0s"}, 12, failure.DrainTimeout, "1 task belongs to no service"},
		{"an unknown key", func() { may()(); s.operator.ID = "AKIAUNKNOWN000000001" }, nil, 4, failure.CredentialsInvalid, ""},
		{"silence", func() { may()(); s.fault(emulator.FaultServerError) }, nil, 5, failure.AWSUnavailable, ""},
	} {
		id := s.operator.ID
		test.spoil()
		got := s.drains(t, drainsIt, test.flags...)
		if got.RC != test.rc || got.Error.Code != string(test.code) || got.Changed && test.name != "no right to look" || s.own().Status != "ACTIVE" {
			t.Errorf("%s: %+v", test.name, got)
		}
		got.says(t, test.says)
		s.operator.ID = id
	}
	s.aws.ClearFault(emulator.FaultServerError)
	may()()

	// The instance is gone in ECS; its agent does not know yet.
	s.aws.SetInstanceStatus(d.Result.ContainerInstanceARN, "INACTIVE")
	for _, l := range []line{drainsIt, activatesIt, {args: []string{"drain"}}} {
		got := s.drains(t, l)
		if got.RC != 12 || got.Error.Code != string(failure.InstanceInactive) || got.Changed {
			t.Errorf("%v: %+v", l.args, got)
		}
	}
	s.aws.RemoveCluster(cluster)
	if got := s.drains(t, drainsIt); got.RC != 4 || got.Error.Code != string(failure.ClusterNotFound) {
		t.Errorf("%+v", got)
	}
}

// ECS goes silent in the middle of the wait: a short outage is waited out, a longer one ends the run and says what is.
func TestAnOutageWhileTasksMove(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	s.aws.AddTask(s.own().ARN, emulator.Task{Family: "job"})
	done := make(chan moved)
	go func() { done <- s.drains(t, drainsIt, "--drain-timeout", "30s") }()
	s.awaitStatus(t, "DRAINING")
	s.fault(emulator.FaultServerError)
	waited := s.asked("ecs:ListTasks")
	for deadline := time.Now().Add(20 * time.Second); s.asked("ecs:ListTasks") < waited+4 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	s.aws.ClearFault(emulator.FaultServerError)
	s.aws.FinishTask(s.on()[0].ARN)
	if d := <-done; d.RC != 0 || d.Result.TasksLeft != 0 || s.own().Status != "DRAINING" {
		t.Errorf("%+v", d)
	}

	s.aws.AddTask(s.own().ARN, emulator.Task{Family: "job"})
	s.aws.SetInstanceStatus(s.own().ARN, "ACTIVE")
	go func() { done <- s.drains(t, drainsIt, "--drain-timeout", "2s") }()
	s.awaitStatus(t, "DRAINING")
	s.fault(emulator.FaultServerError)
	d := <-done
	if d.RC != 5 || d.Error.Code != string(failure.AWSUnavailable) || s.own().Status != "DRAINING" ||
		!strings.Contains(d.Error.Message, "stays DRAINING, for it could not be made ACTIVE again") {
		t.Errorf("%+v", d)
	}
	d.says(t, "anywhere activate")
}

func (s *stage) awaitStatus(t *testing.T, status string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.own().Status != status; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never became %s", status)
		}
	}
}

// Whoever stops the run is told what the instance is now.
func TestDrainIsInterrupted(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	s.aws.AddTask(s.own().ARN, emulator.Task{Family: "job"})
	for _, test := range []struct {
		name   string
		cause  error
		flags  []string
		rc     int
		status string
		says   string
	}{
		{"Ctrl-C", failure.New(failure.Interrupted, "interrupted by Ctrl-C"), nil, 130, "ACTIVE", "is ACTIVE again"},
		{"SIGTERM, leave", failure.New(failure.Terminated, "terminated by SIGTERM"), []string{"--on-timeout", "leave"}, 143, "DRAINING", "stays DRAINING"},
		{"Ctrl-C of what was DRAINING", failure.New(failure.Interrupted, "interrupted by Ctrl-C"), nil, 130, "DRAINING", "as it was before this run"},
		{"--timeout", nil, []string{"--timeout", "1s", "--on-timeout", "leave"}, 130, "DRAINING", "stays DRAINING"},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan moved)
		asked := s.asked("ecs:ListTasks")
		go func() { done <- s.drainsUntil(ctx, t, drainsIt, test.flags...) }()
		for deadline := time.Now().Add(20 * time.Second); test.cause != nil && s.asked("ecs:ListTasks") < asked+6; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not count")
			}
		}
		if test.cause != nil {
			cancel(test.cause)
		}
		d := <-done
		cancel(nil)
		if d.RC != test.rc || s.own().Status != test.status || d.Result.Status != test.status || !strings.Contains(d.Error.Message, test.says) {
			t.Errorf("%s: %+v", test.name, d)
		}
		if len(s.on()) != 1 {
			t.Errorf("%s: the task was touched: %+v", test.name, s.on())
		}
	}
}

// What the host itself forbids: no registration, another operation, a copy of another machine, another run at work.
func TestDrainIsRefused(t *testing.T) {
	t.Parallel()
	s := attended(t)
	for _, l := range []line{drainsIt, activatesIt} {
		if d := s.drains(t, l); d.RC != 12 || d.Error.Code != string(failure.NoInstance) || len(s.aws.Requests()) > 0 {
			t.Errorf("%+v", d)
		}
	}
	if d := s.run(t, joins); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	journal := "var/lib/anywhere/journal/open.jsonl"
	s.write(t, journal, `{"anywhereJournal":1,"verb":"register","key":"k","run":"run-0","program":"1.2.3","pins":{},"started":"2026-11-22T09:00:00Z"}`+"\n")
	if d := s.drains(t, drainsIt); d.RC != 12 || d.Error.Code != string(failure.Unfinished) || s.own().Status != "ACTIVE" {
		t.Errorf("an unfinished operation: %+v", d)
	}
	s.write(t, journal, "broken")
	if d := s.drains(t, drainsIt); d.RC != 12 || d.Error.Code != string(failure.JournalUnreadable) {
		t.Errorf("an unreadable journal: %+v", d)
	}
	if err := os.Remove(filepath.Join(s.machine.root, journal)); err != nil {
		t.Fatal(err)
	}

	release, err := engine.Lock(t.Context(), s.machine.host(), lifecycle.LockPath, "another", 0)
	if err != nil {
		t.Fatal(err)
	}
	if d := s.drains(t, drainsIt); d.RC != 13 || d.Error.Code != string(failure.Locked) || s.own().Status != "ACTIVE" {
		t.Errorf("another run at work: %+v", d)
	}
	if d := s.drains(t, drainsIt, "--dry-run", "--detailed-exitcode"); d.RC != 11 { // it takes no lock
		t.Errorf("a dry run beside it: %+v", d)
	}
	release()
	asked := len(s.aws.Requests())
	s.write(t, "etc/machine-id", strings.Repeat("c", 32)+"\n")
	for _, l := range []line{drainsIt, activatesIt} {
		if d := s.drains(t, l); d.RC != 12 || d.Error.Code != string(failure.FingerprintChanged) || s.own().Status != "ACTIVE" {
			t.Errorf("a copy of another machine: %+v", d)
		}
	}
	for _, r := range s.aws.Requests()[asked:] {
		if r.KeyID == s.operator.ID {
			t.Errorf("AWS was asked about the other machine: %+v", r)
		}
	}
}
