package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

const other = target

// move is what the tests look at in move's document.
type move struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Steps           []struct{ ID, Status, Detail string }
	Result          lifecycle.MoveResult
	Error           struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// move runs "anywhere move", with an operator's credentials unless without says so.
func (s *stage) move(t *testing.T, to string, flags ...string) move {
	t.Helper()
	return s.moves(t, line{args: []string{"move", "--yes", "--cluster", to}, operator: true}, flags...)
}

func (s *stage) moves(t *testing.T, l line, flags ...string) move {
	t.Helper()
	l.extra = true
	c, err := s.play(context.Background(), l, cli.RehearseRequest{Args: flags})
	if err != nil && c.RC == 0 {
		t.Fatal(err)
	}
	var d move
	if err := json.Unmarshal(c.Document, &d); err != nil {
		t.Fatalf("%v: %s", err, c.Document)
	}
	return d
}

// movable is a registered host, and another cluster.
func movable(t *testing.T) (*stage, register) {
	t.Helper()
	return registered(t)
}

// alone holds the control plane to it that the host is one instance, ACTIVE, in a cluster, and has no ghost.
func (s *stage) alone(t *testing.T, cluster string) emulator.Instance {
	t.Helper()
	var live []emulator.Instance
	for _, i := range s.aws.Instances() {
		if i.Status != "INACTIVE" {
			live = append(live, i)
		}
	}
	if len(live) != 1 || live[0].Cluster != cluster || live[0].Status != "ACTIVE" {
		t.Fatalf("ECS has %+v; want one, ACTIVE, in %s", live, cluster)
	}
	if n := len(s.aws.Nodes()); n != 1 {
		t.Errorf("%d managed nodes", n)
	}
	return live[0]
}

func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	s.tag(t, before.Result.ContainerInstanceARN)
	arns := []string{before.Result.ContainerInstanceARN}
	places := []string{cluster, other}
	rounds := 20
	for round := range 2 * rounds {
		from, to := places[round%2], places[(round+1)%2]
		d := s.move(t, to)
		if d.RC != 0 || !d.Changed || d.Result.Verified != "aws" || d.Result.Cluster != to ||
			d.Result.From != (lifecycle.MoveOrigin{Cluster: from, ContainerInstanceARN: arns[len(arns)-1]}) || d.Result.Returned ||
			d.Result.ManagedInstanceID != before.Result.ManagedInstanceID || slices.Contains(arns, d.Result.ContainerInstanceARN) {
			t.Fatalf("round %d to %s: %+v", round, to, d)
		}
		arns = append(arns, d.Result.ContainerInstanceARN)
		if is := s.alone(t, to); is.ARN != d.Result.ContainerInstanceARN {
			t.Fatalf("ECS has %s, the host says %s", is.ARN, d.Result.ContainerInstanceARN)
		}
		s.tagged(t, d.Result.ContainerInstanceARN)
	}
	if again := s.move(t, cluster); again.RC != 0 || again.Changed || !strings.Contains(again.Msg, "already there") {
		t.Errorf("%+v", again)
	}
	if h := s.until(t, is(lifecycle.Healthy)); h.Result.Cluster != cluster {
		t.Errorf("%+v", h)
	}
	s.keeps(t, s.run(t, plain), line{args: []string{"register", "--cluster", cluster}}, false)
	s.refuses(t, line{args: []string{"register", "--cluster", other}}, 12, "registered_elsewhere", "belongs to cluster "+cluster,
		fmt.Sprintf("anywhere move --cluster %s", other))
}

// The story of a move, as anybody can play it.
func TestTheStoryOfAMove(t *testing.T) {
	t.Parallel()
	env, out, _ := world()
	if _, err := Run(t.Context(), env, cli.RehearseRequest{Scenario: "move"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"planned   Deregister the container instance from the old cluster", "moved from cluster rehearsal to " + target,
		"already there", "healthy",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

// What forbids a move is found out before anything is touched.
func TestMoveIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := movable(t)
	s.aws.AddCluster("asleep")
	s.aws.SetClusterStatus("asleep", "INACTIVE")
	to := func(cluster string, more ...string) line {
		return line{args: append([]string{"move", "--yes", "--cluster", cluster}, more...), operator: true}
	}
	as := func(deny ...string) {
		s.aws.AddOperator(emulator.Key{ID: s.operator.ID, Secret: s.operator.Secret, Deny: deny})
	}
	s.refuses(t, to("none"), 4, "cluster_not_found", "does not exist", "create-cluster")
	s.refuses(t, to("asleep"), 4, "cluster_not_found", "is INACTIVE", "")
	s.refuses(t, to("none", "--accept-risk", "unproven-target"), 4, "cluster_not_found", "does not exist", "create-cluster")
	s.refuses(t, to("arn:aws:ecs:us-east-1:123456789012:cluster/other"), 12, "registered_elsewhere", "Region us-east-1", "anywhere deregister")
	s.refuses(t, to("arn:aws:ecs:eu-west-1:999999999999:cluster/other"), 12, "registered_elsewhere", "account 999999999999", "anywhere deregister")
	s.refuses(t, to(other, "--region", "us-east-1"), 12, "registered_elsewhere", "Region us-east-1", "anywhere deregister")
	s.refuses(t, to("a b"), 2, "usage", "--cluster", "")
	s.refuses(t, to(other, "--force"), 2, "usage", "--force", "")
	s.refuses(t, to(other, "--on-timeout", "force"), 2, "usage", "--on-timeout force", "")
	s.refuses(t, to(other, "--no-drain", "--drain-timeout", "1m"), 2, "usage", "--drain-timeout", "")
	s.refuses(t, line{args: []string{"move", "--cluster", other}, operator: true}, 2, "usage", "--yes", "")
	s.refuses(t, line{args: []string{"move", "--yes", "--cluster", other}}, 12, "unproven_target", "operator", "--accept-risk unproven-target")
	as("ecs:DescribeClusters")
	s.refuses(t, to(other), 12, "unproven_target", "ecs:DescribeClusters", "--accept-risk unproven-target")
	as("ecs:DeregisterContainerInstance")
	s.refuses(t, to(other), 4, "access_denied", "ecs:DeregisterContainerInstance", "allow")
	as("ecs:UpdateContainerInstancesState")
	s.refuses(t, to(other), 4, "access_denied", "ecs:UpdateContainerInstancesState", "allow")
	as()
	if err := s.aws.FaultFor(emulator.FaultServerError, 100); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, to(other), 5, "aws_unavailable", "failure of its own", "")
	s.aws.ClearFault(emulator.FaultServerError)

	// Nothing of it stood in the way of the host's own work.
	s.until(t, is(lifecycle.Healthy))
	s.alone(t, cluster)
	if d := s.move(t, other, "--dry-run", "--detailed-exitcode"); d.RC != 11 || d.Changed || d.Result.From.Cluster != cluster {
		t.Errorf("%+v", d)
	}
	if d := s.move(t, cluster, "--dry-run", "--detailed-exitcode"); d.RC != 0 || d.Changed {
		t.Errorf("%+v", d)
	}
	if d := s.move(t, "arn:aws:ecs:eu-west-1:123456789012:cluster/"+cluster); d.RC != 0 || d.Changed {
		t.Errorf("%+v", d)
	}
}

func TestMoveOfAHostThatIsNone(t *testing.T) {
	t.Parallel()
	s := attended(t)
	s.refuses(t, line{args: []string{"move", "--yes", "--cluster", cluster}, operator: true}, 12, "no_instance", "not registered",
		"anywhere register --cluster "+cluster)
}

// The new cluster does not take the host: it is back in the old one, as a new instance, with all that it had.
func TestMoveGoesBack(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{emulator.FaultClusterMissing, emulator.FaultNoAttributeEcho} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s, before := movable(t)
			s.tag(t, before.Result.ContainerInstanceARN)
			config := s.read(t, "etc/ecs/ecs.config")
			if err := s.aws.FaultFor(fault, 1); err != nil {
				t.Fatal(err)
			}
			d := s.move(t, other)
			t.Logf("exit %d: %s\n  %s\n  %s\n  %+v", d.RC, d.Error.Message, d.Error.Evidence, d.Error.Remedy, d.Steps)
			if d.RC != 7 || !d.Result.Returned || !d.Error.RolledBack || d.Result.Cluster != cluster || d.Result.Verified != "local" ||
				d.Result.ContainerInstanceARN == before.Result.ContainerInstanceARN ||
				d.Result.ManagedInstanceID != before.Result.ManagedInstanceID || !strings.Contains(d.Error.Message, "is back in cluster "+cluster) {
				t.Fatalf("%+v", d)
			}
			if is := s.alone(t, cluster); is.ARN != d.Result.ContainerInstanceARN {
				t.Errorf("ECS has %+v", is)
			}
			s.tagged(t, d.Result.ContainerInstanceARN)
			if now := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(now, config) {
				t.Errorf("the configuration was\n%s\nand is\n%s", config, now)
			}
			s.until(t, is(lifecycle.Healthy))
			if d := s.move(t, other); d.RC != 0 {
				t.Fatalf("the next try: %+v", d)
			}
			s.alone(t, other)
		})
	}
}

// Neither cluster takes the host. What is done is kept, and both ways lead on.
func TestMoveThatIsStuck(t *testing.T) {
	t.Parallel()
	for _, to := range []string{other, cluster} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			s, before := movable(t)
			s.tag(t, before.Result.ContainerInstanceARN)
			if err := s.aws.Fault(emulator.FaultRegisterAccessDenied); err != nil {
				t.Fatal(err)
			}
			d := s.move(t, other)
			t.Logf("exit %d: %s\n  %s\n  %s", d.RC, d.Error.Message, d.Error.Evidence, d.Error.Remedy)
			if d.RC != 8 || d.Error.Code != "access_denied" || len(d.Error.Kept) == 0 || d.Result.Returned ||
				!strings.Contains(d.Error.Remedy, "anywhere move --cluster "+other) || !strings.Contains(d.Error.Remedy, "anywhere move --cluster "+cluster) {
				t.Fatalf("%+v", d)
			}
			s.refuses(t, line{args: []string{"rollback"}}, 12, "nothing_to_roll_back", "", "anywhere move --cluster "+cluster)
			s.refuses(t, line{args: []string{"register", "--cluster", cluster}}, 12, "operation_unfinished", "", "anywhere move")
			s.aws.ClearFault(emulator.FaultRegisterAccessDenied)
			done := s.move(t, to)
			if done.RC != 0 || done.Result.Cluster != to || done.Result.Returned != (to == cluster) ||
				done.Result.From.ContainerInstanceARN != before.Result.ContainerInstanceARN {
				t.Fatalf("%+v", done)
			}
			s.alone(t, to)
			s.tagged(t, done.Result.ContainerInstanceARN)
			if d := s.run(t, plain); d.RC != 0 || d.Changed {
				t.Errorf("and then: %+v", d)
			}
		})
	}
}

// AWS goes away in the middle, once the old instance is given up, and comes back later.
func TestMoveWhileAWSIsAway(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	s.tag(t, before.Result.ContainerInstanceARN)
	done := make(chan struct{})
	go func() {
		defer close(done)
		gone := func(i emulator.Instance) bool { return i.Status == "INACTIVE" }
		for !slices.ContainsFunc(s.aws.Instances(), gone) {
			time.Sleep(time.Millisecond)
		}
		_ = s.aws.Fault(emulator.FaultServerError)
	}()
	d := s.move(t, other, "--wait-timeout", "3s")
	<-done
	t.Logf("exit %d: %s\n  %s\n  %s", d.RC, d.Error.Message, d.Error.Evidence, d.Error.Remedy)
	if d.RC != 8 || len(d.Error.Kept) == 0 || !strings.Contains(d.Error.Remedy, "anywhere move --cluster "+other) {
		t.Fatalf("%+v", d)
	}
	if h := s.status(t); h.Result.State != lifecycle.HalfDone || !strings.Contains(h.reason(t, "operation", "operation_unfinished").Remedy, "anywhere move --cluster "+cluster) {
		t.Errorf("%+v", h.Result.Reasons)
	}
	s.aws.ClearFault(emulator.FaultServerError)
	if d := s.move(t, other); d.RC != 0 || d.Result.Cluster != other {
		t.Fatalf("%+v", d)
	}
	s.tagged(t, s.alone(t, other).ARN)
}

// tag puts attributes and tags on an instance with the API, as a person would.
func (s *stage) tag(t *testing.T, arn string) {
	t.Helper()
	client := ecs.NewFromConfig(s.operatorConfig(t))
	if _, err := client.PutAttributes(t.Context(), &ecs.PutAttributesInput{Cluster: aws.String(cluster), Attributes: []ecstypes.Attribute{
		{Name: aws.String("rack"), Value: aws.String("7"), TargetType: "container-instance", TargetId: &arn},
		{Name: aws.String("marked"), TargetType: "container-instance", TargetId: &arn},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.TagResource(t.Context(), &ecs.TagResourceInput{
		ResourceArn: &arn, Tags: []ecstypes.Tag{{Key: aws.String("team"), Value: aws.String("a b")}},
	}); err != nil {
		t.Fatal(err)
	}
}

// tagged holds an instance to what tag has put on its forerunner.
func (s *stage) tagged(t *testing.T, arn string) {
	t.Helper()
	has, tags := s.aws.Attributes(arn), s.aws.Tags(arn)
	if _, marked := has["marked"]; has["rack"] != "7" || !marked || tags["team"] != "a b" {
		t.Errorf("%s has attributes %v and tags %v", arn, has, tags)
	}
}

// A move that is killed, at any line of its journal and around any call to AWS, is finished by the same command.
func TestMoveKilledAndFinished(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	s.tag(t, before.Result.ContainerInstanceARN)
	from, to := other, cluster
	for point := 1; ; point += 3 { // the test below has the others as well, and each takes a second
		from, to = to, from
		if !s.kill(t, line{args: []string{"move", "--yes", "--cluster", to}, operator: true}, point) {
			if point < 60 {
				t.Fatalf("it had only %d points", point)
			}
			return
		}
		d := s.move(t, to)
		if d.RC != 0 || d.Result.Cluster != to || d.Result.ManagedInstanceID != before.Result.ManagedInstanceID || d.Result.Verified != "aws" {
			t.Fatalf("killed at %d, from %s to %s: %+v", point, from, to, d)
		}
		if is := s.alone(t, to); is.ARN != d.Result.ContainerInstanceARN {
			t.Fatalf("killed at %d: ECS has %s, the host says %s", point, is.ARN, d.Result.ContainerInstanceARN)
		}
		s.tagged(t, d.Result.ContainerInstanceARN)
	}
}

// Or it is taken back: by the journal while the old instance is there, as a new instance once it is not.
func TestMoveKilledAndTakenBack(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	s.tag(t, before.Result.ContainerInstanceARN)
	arn := before.Result.ContainerInstanceARN
	undone, returned := 0, 0
	for point := 1; s.kill(t, line{args: []string{"move", "--yes", "--cluster", other}, operator: true}, point); point++ {
		if returned > 0 { // each takes two seconds
			point += 2
		}
		config := s.read(t, "etc/ecs/ecs.config")
		d := s.moves(t, line{args: []string{"rollback"}, operator: true})
		switch {
		case d.RC == 0:
			undone++
			if d := s.run(t, plain); d.RC != 0 || d.Changed || d.Result.Verified != "local" {
				t.Fatalf("killed at %d and undone: %+v", point, d)
			}
			if is := s.alone(t, cluster); is.ARN != arn {
				t.Fatalf("killed at %d and undone, it is another one: %s, not %s", point, is.ARN, arn)
			}
		case strings.Contains(d.Error.Message, "there is no unfinished operation") && point < 10: // killed before there was one
			s.alone(t, cluster)
		case strings.Contains(d.Error.Message, "there is no unfinished operation"): // or after its end
			if d := s.move(t, cluster); d.RC != 0 {
				t.Fatalf("killed at %d, and back: %+v", point, d)
			}
			arn = s.alone(t, cluster).ARN
		default:
			returned++
			if d.RC != 12 || d.Error.Code != "nothing_to_roll_back" || !strings.Contains(d.Error.Remedy, "anywhere move --cluster "+cluster) {
				t.Fatalf("killed at %d: %+v", point, d)
			}
			if d := s.move(t, cluster); d.RC != 0 || !d.Result.Returned {
				t.Fatalf("killed at %d, and back: %+v", point, d)
			}
			arn = s.alone(t, cluster).ARN
			s.tagged(t, arn)
			if now := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(now, "ECS_CLUSTER="+cluster+"\n") {
				t.Fatalf("killed at %d: the configuration was\n%s\nand is\n%s", point, config, now)
			}
		}
	}
	if undone < 10 || returned < 8 {
		t.Errorf("undone %d times, returned %d times", undone, returned)
	}
}

// Killed just where it is not known whether ECS has given the instance up, and no network to ask: the host's side is undone,
// and what is not known is told.
func TestMoveTakenBackInTheDark(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	begun := func() bool {
		journal, err := os.ReadFile(filepath.Join(s.machine.root, openJournal))
		return err == nil && strings.Contains(string(journal), `"kind":"ecs.leave"`)
	}
	if !s.perish(t, line{args: []string{"move", "--yes", "--cluster", other}, operator: true}, &mortal{when: begun}) {
		t.Fatal("it never came so far")
	}
	d := s.moves(t, line{args: []string{"rollback"}, operator: true}, "--endpoint-url", "http://127.0.0.1:1")
	if said := strings.Join(d.Warnings, "\n"); d.RC != 0 || !d.Changed || !strings.Contains(said, "could not be found out") ||
		!strings.Contains(said, "anywhere activate") {
		t.Fatalf("%+v", d)
	}
	if d := s.run(t, plain); d.RC != 0 || d.Changed || d.Result.ContainerInstanceARN != before.Result.ContainerInstanceARN {
		t.Errorf("%+v", d)
	}
	if d := s.move(t, other); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	s.alone(t, other)
}

// Tasks are moved away first. What does not leave in time ends the move, or is stopped, as the operator says.
func TestMoveWithTasks(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	arn := before.Result.ContainerInstanceARN
	s.aws.AddTask(arn, emulator.Task{Group: "family:job"})
	d := s.move(t, other, "--drain-timeout", "1s")
	t.Logf("exit %d: %s\n  %s\n  %s\n  %v", d.RC, d.Error.Message, d.Error.Evidence, d.Error.Remedy, d.Warnings)
	if d.RC != 12 || d.Error.Code != "drain_timeout" || d.Changed || d.Error.RolledBack || !strings.Contains(d.Error.Message, "is ACTIVE again") {
		t.Fatalf("%+v", d)
	}
	if is := s.alone(t, cluster); is.ARN != arn {
		t.Errorf("%+v", is)
	}
	d = s.move(t, other, "--drain-timeout", "0s", "--on-timeout", "leave", "--timeout", "10s")
	if d.RC != 12 || d.Error.Code != "drain_timeout" || !d.Changed || !strings.Contains(d.Error.Message, "stays DRAINING") {
		t.Fatalf("%+v", d)
	}
	s.aws.SetInstanceStatus(arn, "ACTIVE")
	if d := s.move(t, other, "--no-drain"); d.RC == 0 || d.Changed {
		t.Errorf("a task would be orphaned: %+v", d)
	}
	s.alone(t, cluster)
	d = s.move(t, other, "--drain-timeout", "1s", "--on-timeout", "force", "--accept-risk", "running-tasks")
	if d.RC != 0 || d.Result.Cluster != other {
		t.Fatalf("%+v", d)
	}
	s.alone(t, other)
	s.aws.AddTask(d.Result.ContainerInstanceARN, emulator.Task{Group: "family:job"})
	if d := s.move(t, cluster, "--no-drain", "--force", "--accept-risk", "running-tasks"); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	s.alone(t, cluster)
}

// Without an operator the managed node's own role does what is to be done; what it may not see is accepted, and told.
func TestMoveWithoutAnOperator(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	s.tag(t, before.Result.ContainerInstanceARN)
	alone := func(to string) line {
		return line{args: []string{"move", "--yes", "--cluster", to, "--accept-risk", "unproven-target"}}
	}
	d := s.moves(t, alone(other))
	if d.RC != 0 || d.Result.Verified != "local" || d.Result.ManagedInstanceID != before.Result.ManagedInstanceID {
		t.Fatalf("%+v", d)
	}
	if said := strings.Join(d.Warnings, "\n"); !strings.Contains(said, "do not go along") || !strings.Contains(said, "was not proven") {
		t.Errorf("%q", d.Warnings)
	}
	s.alone(t, other)
	// A cluster that is not there: nobody could know, and the host comes back.
	d = s.moves(t, alone("none"))
	if d.RC != 7 || d.Error.Code != "cluster_not_found" || !d.Result.Returned || d.Result.Cluster != other {
		t.Fatalf("%+v", d)
	}
	s.alone(t, other)
	if d := s.moves(t, alone(cluster)); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	s.alone(t, cluster)
	places := []string{other, cluster}
	for point := 11; point < 80; point += 9 { // killed, and finished as the node as well
		to := places[point%2]
		s.kill(t, alone(to), point)
		if d := s.moves(t, alone(to)); d.RC != 0 || d.Result.Cluster != to {
			t.Fatalf("killed at %d: %+v", point, d)
		}
		s.alone(t, to)
	}
}

// On a terminal the operator is asked, and may say no.
func TestMoveAsks(t *testing.T) {
	t.Parallel()
	s, _ := movable(t)
	ask := func(answer string) (int, string) {
		env := s.env(line{args: []string{"move"}, operator: true})
		var out, errs bytes.Buffer
		env.Streams = cli.Streams{In: strings.NewReader(answer), InTTY: true, ErrTTY: true, Out: &out, Err: &errs, Width: 100}
		rc := cli.Main(t.Context(), env, []string{"move", "--cluster", other, "--endpoint-url", s.aws.URL(), "--color", "never"})
		return rc, out.String() + errs.String()
	}
	for _, answer := range []string{"n\n", "", "maybe\n"} {
		if rc, said := ask(answer); rc != 12 || !strings.Contains(said, "Move this host to cluster "+other+"? [y/N]") ||
			!strings.Contains(said, "Deregister the container instance from the old cluster") {
			t.Errorf("%q: exit %d: %s", answer, rc, said)
		}
		s.alone(t, cluster)
	}
	nobody, cancel := context.WithCancel(t.Context())
	silent, typing := io.Pipe()
	t.Cleanup(func() { _ = typing.Close() })
	env := s.env(line{args: []string{"move"}, operator: true})
	env.Streams = cli.Streams{
		In: silent, InTTY: true, ErrTTY: true, Out: io.Discard, Err: onceSaid{"[y/N]", cancel}, Width: 100,
	}
	if rc := cli.Main(nobody, env, []string{"move", "--cluster", other, "--endpoint-url", s.aws.URL()}); rc != 130 {
		t.Errorf("interrupted while nobody answers: exit %d", rc)
	}
	s.alone(t, cluster)
	rc, said := ask("y\n")
	if rc != 0 || !strings.Contains(said, "moved from cluster "+cluster+" to "+other) {
		t.Fatalf("exit %d: %s", rc, said)
	}
	s.alone(t, other)
	if rc, said := ask(""); rc != 0 || strings.Contains(said, "[y/N]") {
		t.Errorf("nothing is left to be asked: exit %d: %s", rc, said)
	}
}

// onceSaid does something when a text is written to it.
type onceSaid struct {
	text string
	do   func()
}

func (o onceSaid) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(o.text)) {
		o.do()
	}
	return len(p), nil
}

// What may not be put on the new instance is owed, and no reason to go back.
func TestMoveOwes(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	s.tag(t, before.Result.ContainerInstanceARN)
	s.aws.AddOperator(emulator.Key{ID: s.operator.ID, Secret: s.operator.Secret, Deny: []string{"ecs:PutAttributes", "ecs:TagResource"}})
	d := s.move(t, other)
	if d.RC != 0 || len(d.Result.Owed) != 2 || !strings.Contains(d.Result.Owed[0], "aws ecs put-attributes --region eu-west-1 --cluster "+other) ||
		!strings.Contains(d.Result.Owed[1], "'key=team,value=a b'") || !strings.Contains(d.Result.Owed[1], d.Result.ContainerInstanceARN) {
		t.Fatalf("%+v", d)
	}
	if has := s.aws.Attributes(s.alone(t, other).ARN); has["rack"] != "7" { // the agent brought it
		t.Errorf("%v", has)
	}
}

// The ECS side is gone already, behind the host's back: what is left of the move is done.
func TestMoveOfAnInstanceThatECSHasGivenUp(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	if err := s.aws.FaultFor(emulator.FaultInstanceInactive, 1); err != nil {
		t.Fatal(err)
	}
	d := s.move(t, other)
	if d.RC != 0 || d.Result.Cluster != other || d.Result.From.ContainerInstanceARN != before.Result.ContainerInstanceARN {
		t.Fatalf("%+v", d)
	}
	s.alone(t, other)
	// And the cluster with it.
	s.aws.RemoveCluster(other)
	if d := s.move(t, cluster); d.RC != 0 || d.Result.Cluster != cluster {
		t.Fatalf("%+v", d)
	}
	s.alone(t, cluster)
}

// What an abandoned move has left is cleared away by the next one, whichever way it goes.
func TestMoveAfterAnAbandonedOne(t *testing.T) {
	t.Parallel()
	for point := 8; point < 60; point += 9 {
		s, _ := movable(t)
		if !s.kill(t, line{args: []string{"move", "--yes", "--cluster", other}, operator: true}, point) {
			break
		}
		s.moves(t, line{args: []string{"operation", "abandon"}})
		d := s.move(t, cluster)
		if d.RC != 0 || d.Result.Cluster != cluster {
			t.Fatalf("abandoned at %d: %+v", point, d)
		}
		if strings.Contains(strings.Join(d.Warnings, "\n"), "DRAINING") { // told, and activate's to end
			s.aws.SetInstanceStatus(d.Result.ContainerInstanceARN, "ACTIVE")
		}
		s.alone(t, cluster)
	}
}

// The instance of an agent that cannot stay up is not given up: neither cluster would get it back.
func TestMoveOfAnAgentThatDies(t *testing.T) {
	t.Parallel()
	s, first := movable(t)
	found, err := filepath.Glob(filepath.Join(s.machine.root, ecsagent.ExecDir, "bin", "*", "ssm-session-worker"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	aside := filepath.Join(s.machine.root, "root/aside")
	if err := os.Rename(found[0], aside); err != nil {
		t.Fatal(err)
	}
	if err := s.machine.units.Restart(t.Context(), ecsagent.Unit); err != nil {
		t.Fatal(err)
	}
	until(t, "the agent has died often enough", func() bool {
		return strings.Count(s.read(t, "var/log/ecs/ecs-init.log"), "Agent exited with code 1") > 3
	})
	d := s.move(t, other)
	if d.RC != 12 || d.Changed || d.Error.Code != string(failure.AgentUnstable) || d.Error.Evidence == "" {
		t.Errorf("%+v", d)
	}
	if is := s.alone(t, cluster); is.ARN != first.Result.ContainerInstanceARN {
		t.Errorf("ECS has %+v", is)
	}
	if err := os.Rename(aside, found[0]); err != nil {
		t.Fatal(err)
	}
	until(t, "the agent is up again", func() bool { return s.own().Connected })
	if d := s.move(t, other); d.RC != 0 {
		t.Errorf("once it is well: %+v", d)
	}
}
