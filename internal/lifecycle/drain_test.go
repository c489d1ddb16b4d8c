package lifecycle

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// pond is an emulated AWS with an instance that is to be drained and one beside it.
type pond struct {
	*emulator.Emulator
	deps        Deps
	own, beside string
}

func newPond(t *testing.T) *pond {
	t.Helper()
	p := &pond{Emulator: emulator.New(emulator.Options{Account: account, Region: region, TaskTime: 100 * time.Millisecond})}
	p.own, p.beside = p.AddInstance("shop"), p.AddInstance("shop")
	p.AddOperator(emulator.Key{ID: "AKIAOPERATOR00000001", Secret: secret.NewText("the-operators-secret-key")})
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.deps = Deps{Host: newMachine(t).host(), RunID: "run-1"}
	p.deps.HostOperator = func(ctx context.Context, asked, _ string) (*control.Operator, error) {
		return control.Connect(ctx, aws.Config{
			Region:      asked,
			Credentials: credentials.NewStaticCredentialsProvider("AKIAOPERATOR00000001", "the-operators-secret-key", ""),
		}, control.Connection{EndpointURL: server.URL})
	}
	return p
}

func (p *pond) draining(onTimeout string, timeout time.Duration) *draining {
	return &draining{
		deps: p.deps, remote: &remote{deps: p.deps, region: region, account: account}, cluster: "shop", instance: p.own,
		onTimeout: onTimeout, timeout: timeout, stopping: 300 * time.Millisecond,
	}
}

func (p *pond) status() string {
	for _, i := range p.Instances() {
		if i.ARN == p.own {
			return i.Status
		}
	}
	return ""
}

// What will become of a service's tasks is known before they are waited for, and is what then becomes of them.
func TestWhatIsForeseenComesTrue(t *testing.T) {
	for name, test := range map[string]struct {
		service emulator.Service
		alone   bool // there is no other instance
		taken   bool // and the other one has a task of it too
		never   string
		warning string
		stays   bool
	}{
		"moves":                      {service: emulator.Service{Desired: 1, Minimum: 100, Maximum: 200}},
		"may stop first":             {service: emulator.Service{Desired: 1, Minimum: 0, Maximum: 100}},
		"neither stop nor start":     {service: emulator.Service{Desired: 1, Minimum: 100, Maximum: 100}, never: "can neither stop", stays: true},
		"the minimum is rounded up":  {service: emulator.Service{Desired: 1, Minimum: 50, Maximum: 100}, never: "can neither stop", stays: true},
		"the maximum is cut":         {service: emulator.Service{Desired: 1, Minimum: 100, Maximum: 150}, never: "can neither stop", stays: true},
		"on the only host":           {service: emulator.Service{Desired: 1, Minimum: 100, Maximum: 200}, alone: true, never: "no other container instance", stays: true},
		"stops on the only host":     {service: emulator.Service{Desired: 1, Minimum: 0, Maximum: 100}, alone: true, warning: "is stopped here, and no other"},
		"its ports are free there":   {service: emulator.Service{Desired: 1, Minimum: 100, Maximum: 200, FixedPorts: true}},
		"its ports are taken there":  {service: emulator.Service{Desired: 2, Minimum: 100, Maximum: 200, FixedPorts: true}, taken: true, never: "host ports already (8080)", stays: true},
		"ports, and may stop first":  {service: emulator.Service{Desired: 2, Minimum: 50, Maximum: 200, FixedPorts: true}, taken: true},
		"a daemon":                   {service: emulator.Service{Desired: 2, Minimum: 0, Maximum: 100, Daemon: true}, taken: true, warning: "DAEMON"},
		"more run than are wanted":   {service: emulator.Service{Desired: 1, Minimum: 100, Maximum: 100}, taken: true},
		"none are wanted any longer": {service: emulator.Service{Desired: 0, Minimum: 100, Maximum: 200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPond(t)
			test.service.Name = "web"
			p.AddService("shop", test.service)
			p.AddTask(p.own, emulator.Task{Service: "web"})
			if test.taken {
				p.AddTask(p.beside, emulator.Task{Service: "web"})
			}
			if test.alone {
				p.SetInstanceStatus(p.beside, "INACTIVE")
			}
			g := p.draining(OnTimeoutLeave, time.Second)
			if err := g.settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			said := strings.Join(g.warnings, "\n")
			if never := g.tasks[0].NeverMoves; (never != "") != (test.never != "") || !strings.Contains(never, test.never) ||
				!strings.Contains(said, test.never) || !strings.Contains(said, test.warning) || test.never+test.warning == "" && said != "" {
				t.Errorf("it never moves because %q; warned %q", never, said)
			}
			if err := g.drain(t.Context(), t.Logf); failure.Is(err, failure.DrainTimeout) != test.stays || err != nil && !test.stays {
				t.Errorf("drained: %v", err)
			}
		})
	}
}

// A forced drain that cannot end its tasks says so, and leaves the instance DRAINING.
func TestForceThatDoesNotHelp(t *testing.T) {
	p := newPond(t)
	p.AddTask(p.own, emulator.Task{})
	if err := p.Fault(emulator.FaultTaskNeverStops); err != nil {
		t.Fatal(err)
	}
	g := p.draining(OnTimeoutForce, 0)
	if err := g.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	var told []string
	err := g.drain(t.Context(), func(format string, args ...any) { told = append(told, format) })
	if !failure.Is(err, failure.DrainTimeout) || !strings.Contains(err.Error(), "1 task is left (1 stopping)") ||
		!strings.Contains(err.Error(), "stays DRAINING") || p.status() != "DRAINING" || len(told) < 2 {
		t.Errorf("%v; told %q", err, told)
	}
}

// The step of a longer operation: its undo makes the instance ACTIVE again, but not one that was DRAINING, and not one
// that was to stay so. What cannot be undone is named.
func TestTheDrainIsTakenBack(t *testing.T) {
	for name, test := range map[string]struct {
		was  drained
		deny bool
		gone bool
		want string
		kept bool
	}{
		"made so":                {was: drained{Before: "ACTIVE"}, want: "ACTIVE"},
		"not known what it was":  {want: "ACTIVE"},
		"was so":                 {was: drained{Before: "DRAINING"}, want: "DRAINING"},
		"is to stay so":          {was: drained{Before: "ACTIVE", Leave: true}, want: "DRAINING"},
		"deregistered meanwhile": {was: drained{Before: "ACTIVE"}, gone: true, want: "INACTIVE"},
		"may not":                {was: drained{Before: "ACTIVE"}, deny: true, want: "DRAINING", kept: true},
	} {
		p := newPond(t)
		p.SetInstanceStatus(p.own, "DRAINING")
		if test.gone {
			p.SetInstanceStatus(p.own, "INACTIVE")
		}
		if test.deny {
			p.AddOperator(emulator.Key{
				ID: "AKIAOPERATOR00000001", Secret: secret.NewText("the-operators-secret-key"), Deny: []string{"ecs:UpdateContainerInstancesState"},
			})
		}
		test.was.Region, test.was.Account, test.was.Cluster, test.was.Instance = region, account, "shop", p.own
		data, err := json.Marshal(test.was)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := p.deps.drains().Undo(t.Context(), p.deps.Host, data)
		if err != nil || (len(kept) > 0) != test.kept || p.status() != test.want {
			t.Errorf("%s: kept %q, %v; it is %s", name, kept, err, p.status())
		}
	}
}

func TestTheDrainAsAStep(t *testing.T) {
	p := newPond(t)
	p.AddService("shop", emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
	p.AddTask(p.own, emulator.Task{Service: "web"})
	g := p.draining("", 5*time.Second)
	if err := g.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	look := func() string {
		seen, err := g.step().Observe(t.Context(), p.deps.Host.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return seen.Detail
	}
	if seen := look(); seen != "make it DRAINING and wait for 1 task" {
		t.Error(seen)
	}
	if err := g.drain(t.Context(), t.Logf); err != nil {
		t.Fatal(err)
	}
	if seen := look(); seen != "DRAINING, and no task is left" {
		t.Error(seen)
	}
	p.SetInstanceStatus(p.own, "INACTIVE")
	g = p.draining("", 5*time.Second)
	if err := g.settle(t.Context()); err != nil || !g.gone || look() != "ECS does not have the container instance any more" {
		t.Errorf("%v, %s", err, look())
	}
	if err := g.drain(t.Context(), t.Logf); err != nil { // somebody took it away between the two
		t.Error(err)
	}
}

// Tasks come and go while they are counted; all that were seen are told in the end.
func TestTheTasksThatWereSeen(t *testing.T) {
	task := func(id, status string) DrainTask {
		return DrainTask{ARN: id, Group: "service:web", LastStatus: status, DesiredStatus: "RUNNING"}
	}
	g := &draining{}
	g.saw([]DrainTask{task("b", "RUNNING"), task("a", "PENDING")})
	g.tasks[0].NeverMoves = "fixed"
	g.saw([]DrainTask{task("a", "RUNNING"), task("c", "PENDING")})
	var told []string
	for _, t := range g.tasks {
		told = append(told, t.ARN+" "+t.LastStatus+" "+t.DesiredStatus+" "+t.NeverMoves)
	}
	if got := strings.Join(told, ", "); got != "a RUNNING RUNNING fixed, b STOPPED STOPPED , c PENDING RUNNING " || len(g.left()) != 2 || !g.changed() {
		t.Error(got)
	}
}

func TestNamed(t *testing.T) {
	var many []DrainTask
	for range 12 {
		many = append(many, DrainTask{ARN: "arn:x/t", TaskDefinition: "job:1", LastStatus: "RUNNING"})
	}
	if text := named(many); !strings.HasSuffix(text, "; t (job:1, RUNNING); and 2 more") || strings.Count(text, "job:1") != 10 {
		t.Error(text)
	}
}

// Somebody else is at work on the same instance while its tasks are waited for.
func TestSomebodyElseChangesTheInstance(t *testing.T) {
	for status, code := range map[string]failure.Code{"ACTIVE": failure.NotVerified, "INACTIVE": ""} {
		p := newPond(t)
		task := p.AddTask(p.own, emulator.Task{})
		g := p.draining("", 20*time.Second)
		if err := g.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := g.drain(t.Context(), func(string, ...any) { // at the first count
			p.SetInstanceStatus(p.own, status)
			p.FinishTask(task)
		})
		if code == "" && (err != nil || !g.gone) || code != "" && (!failure.Is(err, code) || !strings.Contains(err.Error(), "is ACTIVE")) {
			t.Errorf("%s: %v, %+v", status, err, g)
		}
		if p.status() != status {
			t.Errorf("it is %s, and was made %s", p.status(), status)
		}
	}
}
