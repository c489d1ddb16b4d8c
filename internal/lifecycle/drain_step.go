package lifecycle

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// What becomes of a drain that is not over in time.
const (
	OnTimeoutAbort = "abort" // the instance is made ACTIVE again
	OnTimeoutLeave = "leave" // it stays DRAINING
	OnTimeoutForce = "force" // the tasks that are left are stopped
)

// OnTimeouts are all of them; the first is the default.
var OnTimeouts = []string{OnTimeoutAbort, OnTimeoutLeave, OnTimeoutForce}

// DefaultDrain is --drain-timeout's default.
const DefaultDrain = 15 * time.Minute

// Who counts the tasks.
const (
	countedByECS   = "ecs"
	countedByAgent = "agent"
)

// How a drain waits.
const (
	shortestCount = 200 * time.Millisecond // between two counts; AWS bears twenty such questions a second from an account
	longestCount  = 5 * time.Second
	settleTime    = 3 * lookTime     // for all that is asked before the first change
	drainOutage   = time.Minute      // how long AWS may be silent while tasks are waited for
	drainStop     = 5 * time.Minute  // for tasks that were told to stop: containers get their stopTimeout, 30 s where nothing is said
	drainUndo     = 15 * time.Second // for making the instance ACTIVE again when the run is over
)

// draining moves the tasks of one container instance away. Fill in the first fields, settle, then drain; or settle and put
// step into a plan.
type draining struct {
	deps      Deps
	remote    *remote // of the instance's Region and account
	cluster   string  // name
	instance  string  // ARN
	local     bool    // it is this host's: its agent counts the tasks where the caller may not list them
	timeout   time.Duration
	onTimeout string // "" is abort
	// onlyStatus leaves the tasks out of it: for who makes it ACTIVE.
	onlyStatus bool

	caller *control.Operator // who drains; after settle
	source string            // who counts
	before string            // the instance's status when this run found it; empty where the caller may not look
	status string            // and now, as far as this run knows
	gone   bool              // ECS has deregistered the instance, or knows none of this ARN
	mine   bool              // this run has made it DRAINING
	tasks  []DrainTask       // all that were seen, with what they were last
	waited time.Duration

	warnings []string
	outage   time.Duration // drainOutage, but for tests
	stopping time.Duration // drainStop, but for tests
}

// DrainTask is a task as a drain has seen it last.
type DrainTask struct {
	ARN            string `json:"arn"`            // the task's ARN
	Group          string `json:"group"`          // service:NAME or family:NAME; empty where only the ECS agent was asked
	TaskDefinition string `json:"taskDefinition"` // family:revision
	LastStatus     string `json:"lastStatus"`     // PENDING, RUNNING, DEACTIVATING, STOPPING, STOPPED
	DesiredStatus  string `json:"desiredStatus"`  // RUNNING or STOPPED
	StartedAt      string `json:"startedAt"`      // when it started; empty when it has not, or when only the ECS agent was asked
	Standalone     bool   `json:"standalone"`     // it belongs to no service; false where only the ECS agent was asked
	NeverMoves     string `json:"neverMoves"`     // why it does not leave by itself; empty when it can
}

func (t DrainTask) left() bool { return t.LastStatus != taskStopped }

// service is the name of the service that it belongs to.
func (t DrainTask) service() string {
	name, _ := strings.CutPrefix(t.Group, "service:")
	return name
}

const taskStopped = "STOPPED"

// String names a task in a sentence.
func (t DrainTask) String() string {
	id := t.ARN[strings.LastIndexByte(t.ARN, '/')+1:]
	return fmt.Sprintf("%s (%s, %s)", id, first(t.Group, t.TaskDefinition), t.LastStatus)
}

// settle finds out who drains, what there is to move and whether the caller may. It changes nothing. An instance that ECS
// does not have any more is no error: gone says so.
func (g *draining) settle(ctx context.Context) error {
	g.onTimeout = first(g.onTimeout, OnTimeoutAbort)
	g.outage, g.stopping = first(g.outage, drainOutage), first(g.stopping, drainStop)
	return within(ctx, settleTime, func(ctx context.Context) error {
		var err error
		if g.caller, err = g.remote.orNode(ctx); err != nil {
			return err
		}
		if err := g.see(ctx); err != nil || g.gone {
			return err
		}
		if err := g.rights(ctx); err != nil || g.onlyStatus {
			return err
		}
		if err := g.count(ctx); err != nil {
			return err
		}
		g.foresee(ctx)
		return nil
	})
}

// asNode reports whether the managed node itself drains.
func (g *draining) asNode() bool { return g.caller != nil && g.caller.NodeID != "" }

// see looks at the instance. Who may not look goes on without: a managed node may not.
func (g *draining) see(ctx context.Context) error {
	if g.asNode() {
		g.warnings = append(g.warnings, fmt.Sprintf("there are no operator's credentials here: the role of the managed node %s is used, "+
			"which may not look at container instances and tasks", g.caller.NodeID))
		return nil
	}
	seen, found, err := g.caller.SeeInstance(ctx, g.cluster, g.instance)
	switch {
	case failure.Is(err, failure.AccessDenied):
		g.warnings = append(g.warnings, "whether the container instance is ACTIVE or DRAINING is not known: "+failure.Of(err).Message)
		return nil
	case err != nil:
		return err
	case !found || seen.Status == control.Inactive:
		g.gone = true
		return nil
	case !seen.Connected:
		g.warnings = append(g.warnings, "ECS does not see the agent of this instance connected: its tasks cannot be told to stop until it is")
	}
	g.before, g.status = seen.Status, seen.Status
	return nil
}

// rights settles what the caller may do, before anything is changed.
func (g *draining) rights(ctx context.Context) error {
	var err error
	if g.status == control.Active || g.status == control.Draining {
		err = g.caller.MaySetInstanceStatus(ctx, g.cluster, g.instance, g.status)
	} else {
		err = g.caller.MayDrain(ctx, g.cluster)
	}
	if err == nil && g.onTimeout == OnTimeoutForce {
		err = g.caller.MayStopTask(ctx, g.cluster)
	}
	if !g.asNode() || !failure.Is(err, failure.AccessDenied) {
		return err
	}
	f := *failure.Of(err)
	f.Err = err
	f.Remedy = "name an operator's profile with --profile or AWS_PROFILE, for there are no operator's credentials here; or " + f.Advice()
	return &f
}

// count looks at the tasks that are left, and who can tell.
func (g *draining) count(ctx context.Context) error {
	if g.source != countedByAgent && !g.asNode() {
		all, err := g.caller.SeeTasks(ctx, g.cluster, g.instance)
		if err == nil {
			g.source = countedByECS
			g.saw(tasksOf(all))
			return nil
		}
		if !g.local || g.source != "" || !failure.Is(err, failure.AccessDenied) {
			return err
		}
		g.warnings = append(g.warnings, "the tasks are counted by the ECS agent on this host: "+failure.Of(err).Message)
	}
	if !g.local {
		return failure.New(failure.AccessDenied, "the tasks of %s can only be counted with an operator's credentials", g.instance).
			WithRemedy("name an operator's profile with --profile or AWS_PROFILE")
	}
	all, err := ecsagent.Tasks(ctx, g.deps.Host.Reader)
	if err != nil && g.source == countedByAgent {
		return failure.Wrap(failure.Network, err, "the ECS agent, which counts the tasks, does not answer")
	}
	if err != nil {
		return failure.New(failure.AccessDenied, "nobody can count the tasks: ECS does not tell this caller, and the ECS agent does not answer").
			WithEvidence("%s; %s", g.caller.ARN, failure.Of(err).Message).
			WithRemedy("name an operator's profile with --profile or AWS_PROFILE, or see to the agent: anywhere status")
	}
	g.source = countedByAgent
	var seen []DrainTask
	for _, t := range all {
		if !t.Stopped() {
			seen = append(seen, DrainTask{
				ARN: t.ARN, TaskDefinition: t.Family + ":" + t.Revision, LastStatus: t.KnownStatus, DesiredStatus: first(t.DesiredStatus, "RUNNING"),
			})
		}
	}
	g.saw(seen)
	return nil
}

func tasksOf(all []control.TaskSight) []DrainTask {
	tasks := make([]DrainTask, 0, len(all))
	for _, t := range all {
		tasks = append(tasks, DrainTask{
			ARN: t.ARN, Group: t.Group, TaskDefinition: t.Definition[strings.LastIndexByte(t.Definition, '/')+1:], LastStatus: t.Last,
			DesiredStatus: t.Desired, StartedAt: stamp(t.Started), Standalone: t.Service == "",
		})
	}
	return tasks
}

// saw brings what is left into tasks. Who is not among them any more has stopped.
func (g *draining) saw(left []DrainTask) {
	for i := range g.tasks {
		at := slices.IndexFunc(left, func(t DrainTask) bool { return t.ARN == g.tasks[i].ARN })
		if at < 0 {
			g.tasks[i].LastStatus, g.tasks[i].DesiredStatus = taskStopped, taskStopped
			continue
		}
		left[at].NeverMoves = g.tasks[i].NeverMoves
		g.tasks[i] = left[at]
		left = slices.Delete(left, at, at+1)
	}
	g.tasks = append(g.tasks, left...)
	slices.SortStableFunc(g.tasks, func(a, b DrainTask) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.ARN, b.ARN))
	})
}

// left are the tasks that have not stopped.
func (g *draining) left() (left []DrainTask) {
	for _, t := range g.tasks {
		if t.left() {
			left = append(left, t)
		}
	}
	return left
}

// drain makes the instance DRAINING and waits until no task is left on it, or acts as onTimeout says. say gets a line
// whenever the count changes. However it ends, the error says what the instance is then.
func (g *draining) drain(ctx context.Context, say func(format string, args ...any)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := g.begin(ctx); err != nil || g.gone {
		return err
	}
	begun := time.Now()
	err := g.wait(ctx, g.timeout, say)
	if failure.Is(err, failure.DrainTimeout) && g.onTimeout == OnTimeoutForce {
		if err = g.stop(ctx, say); err == nil {
			err = g.wait(ctx, g.stopping, say)
		}
	}
	g.waited = time.Since(begun)
	if err = g.confirm(ctx, err); err != nil {
		return g.leave(ctx, err)
	}
	return nil
}

// confirm looks at the instance once more when the wait is over: somebody else may have made it ACTIVE, or deregistered it,
// after which ECS does not answer for its tasks. err is how the wait ended.
func (g *draining) confirm(ctx context.Context, err error) error {
	odd := failure.Is(err, failure.Usage) || failure.Is(err, failure.Internal)
	if g.before == "" || err != nil && !odd { // who could not look then cannot look now
		return err
	}
	var seen control.InstanceSight
	var found bool
	failed := within(ctx, lookTime, func(ctx context.Context) (err error) {
		seen, found, err = g.caller.SeeInstance(ctx, g.cluster, g.instance)
		return err
	})
	switch {
	case failed != nil && err == nil:
		g.warnings = append(g.warnings, "whether the container instance is still DRAINING is not known: "+failure.Of(failed).Message)
	case failed != nil:
	case !found || seen.Status == control.Inactive:
		g.gone, g.status = true, control.Inactive
		return nil
	case seen.Status != control.Draining && err == nil:
		g.mine, g.status = false, seen.Status
		return failure.New(failure.NotVerified, "no task is left, and somebody has made the container instance %s meanwhile", seen.Status).
			WithEvidence("%s", g.instance)
	}
	return err
}

// begin makes the instance DRAINING. That one call is not interrupted: nobody would know whether it was heard.
func (g *draining) begin(ctx context.Context) error {
	if g.status == control.Draining {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := within(context.WithoutCancel(ctx), lookTime, func(ctx context.Context) error {
		return g.caller.SetInstanceStatus(ctx, g.cluster, g.instance, control.Draining)
	})
	switch {
	case err == nil:
		g.mine, g.status = true, control.Draining
	case failure.Is(err, failure.InstanceInactive):
		g.gone = true
		return nil
	case silence(err):
		f := *failure.Of(err)
		f.Err = err
		f.Message += "; whether the container instance is DRAINING now is not known"
		f.Remedy = "run the same command again, or make sure that it is not: anywhere activate"
		return &f
	}
	return err
}

// wait counts until no task is left.
func (g *draining) wait(ctx context.Context, limit time.Duration, say func(format string, args ...any)) error {
	begun, heard, told := time.Now(), time.Now(), -1
	for {
		err := within(ctx, lookTime, g.count)
		waited, left := time.Since(begun), g.left()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !silence(err):
			return err
		case err != nil && (time.Since(heard) >= g.outage || waited >= limit):
			return err
		case err != nil:
			say("%s; going on waiting", failure.Of(err).Message)
		case len(left) == 0:
			return nil
		default:
			heard = time.Now()
			if len(left) != told {
				told = len(left)
				say("%s", leftInWords(left))
			}
			if waited >= limit {
				return failure.New(failure.DrainTimeout, "%s after %s", leftInWords(left), limit).WithEvidence("%s", named(left))
			}
		}
		again := min(max(waited/8, shortestCount), longestCount)
		if err := sleep(ctx, min(again, max(limit-waited, shortestCount/4))); err != nil {
			return err
		}
	}
}

// stop tells every task that is left to stop.
func (g *draining) stop(ctx context.Context, say func(format string, args ...any)) error {
	left := g.left()
	say("stopping %s", count(len(left), "task"))
	for _, t := range left {
		err := within(ctx, lookTime, func(ctx context.Context) error {
			return g.caller.StopTask(ctx, g.cluster, t.ARN, "anywhere: drained by force, run "+g.deps.RunID)
		})
		if err != nil {
			return err
		}
		g.warnings = append(g.warnings, "stopped by force: "+t.String())
	}
	return nil
}

// leave ends a drain that has failed: the error says what the instance is now, and how to go on.
func (g *draining) leave(ctx context.Context, err error) error {
	f := *failure.Of(err)
	f.Err = err
	now := "stays DRAINING"
	switch {
	case g.status != control.Draining:
		now = "is " + g.status
	case g.onTimeout != OnTimeoutAbort:
	case !g.mine:
		now = "stays DRAINING, as it was before this run"
	default:
		now = "is ACTIVE again"
		if failed := g.takeBack(ctx); failed != nil {
			now = "stays DRAINING, for it could not be made ACTIVE again (" + failure.Of(failed).Message + ")"
		}
	}
	f.Message += "; the container instance " + now
	switch f.Code {
	case failure.DrainTimeout, failure.Interrupted, failure.Terminated, failure.Timeout:
		f.Remedy = g.advice()
	default:
		f.Remedy = strings.TrimSuffix(f.Advice(), ", then run the command again") + "; then " + g.advice()
	}
	return &f
}

// advice says how to go on.
func (g *draining) advice() string {
	var standalone []string
	for _, t := range g.left() {
		if t.Standalone {
			standalone = append(standalone, t.ARN)
		}
	}
	text := "run the same command again to go on, with a longer --drain-timeout if that helps"
	if g.status != control.Active {
		text += "; or take it back: anywhere activate"
	}
	if len(standalone) > 0 {
		text += fmt.Sprintf("; a task of no service has to be stopped: aws ecs stop-task --region %s --cluster %s --task %s",
			g.caller.Region, g.cluster, standalone[0])
	}
	return text
}

// takeBack makes the instance ACTIVE again, whatever has ended ctx.
func (g *draining) takeBack(ctx context.Context) error {
	err := within(context.WithoutCancel(ctx), drainUndo, func(ctx context.Context) error {
		return g.caller.SetInstanceStatus(ctx, g.cluster, g.instance, control.Active)
	})
	if err == nil {
		g.mine, g.status = false, control.Active
	}
	return err
}

// changed reports whether anything is other than settle found it.
func (g *draining) changed() bool {
	return g.mine || g.status != g.before || slices.ContainsFunc(g.tasks, func(t DrainTask) bool { return !t.left() })
}

func leftInWords(left []DrainTask) string {
	stopping := 0
	for _, t := range left {
		if t.DesiredStatus == taskStopped {
			stopping++
		}
	}
	text := count(len(left), "task") + " left"
	if len(left) == 1 {
		text = "1 task is left"
	}
	if stopping > 0 {
		text += fmt.Sprintf(" (%d stopping)", stopping)
	}
	return text
}

// named lists tasks, at most ten.
func named(tasks []DrainTask) string {
	const most = 10
	var names []string
	for i, t := range tasks {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(tasks)-most))
			break
		}
		name := t.String()
		if t.NeverMoves != "" {
			name += ": " + t.NeverMoves
		}
		names = append(names, name)
	}
	return strings.Join(names, "; ")
}

// drainKind is the effect of a drain inside a longer operation, and its step.
const drainKind, drainTitle = "drain", "Move the tasks away"

// telling makes the lines of a drain events of a step.
func (g *draining) telling(step, title string) func(format string, args ...any) {
	return func(format string, args ...any) {
		g.deps.tell(engine.Event{Kind: engine.Advanced, Step: step, Title: title, Text: fmt.Sprintf(format, args...)})
	}
}

// drained is what the journal has of it.
type drained struct {
	Region, Account, Cluster, Instance string
	Before                             string // its status; empty where it was not known
	Leave                              bool   // it is to stay DRAINING
}

// step is the drain as a step of a plan; the step's undo makes the instance ACTIVE again where the drain has made it
// DRAINING, unless it was to stay so.
func (g *draining) step() engine.Step {
	return engine.Step{
		ID: drainKind, Title: drainTitle,
		Observe: func(ctx context.Context, _ host.Reader) (engine.Obs, error) {
			switch left := len(g.left()); {
			case g.gone:
				return engine.Obs{State: engine.OK, Detail: "ECS does not have the container instance any more"}, nil
			case g.status == control.Draining && left == 0:
				return engine.Obs{State: engine.OK, Detail: "DRAINING, and no task is left"}, nil
			case left == 0:
				return engine.Obs{State: engine.Pending, Detail: "make it DRAINING; no task is on it"}, nil
			default:
				return engine.Obs{State: engine.Pending, Detail: "make it DRAINING and wait for " + count(left, "task")}, nil
			}
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			what := drained{g.caller.Region, g.caller.Account, g.cluster, g.instance, g.before, g.onTimeout == OnTimeoutLeave}
			return tx.Effect(ctx, drainKind, what, func(ctx context.Context) error { return g.drain(ctx, g.telling(drainKind, drainTitle)) })
		},
	}
}

// drains is how such an effect is taken back.
func (d Deps) drains() engine.Kind {
	return engine.Kind{
		Undo: func(ctx context.Context, _ host.Host, data []byte) ([]string, error) {
			var was drained
			if err := json.Unmarshal(data, &was); err != nil {
				return nil, err
			}
			if was.Leave || was.Before == control.Draining {
				return nil, nil
			}
			err := within(ctx, drainUndo, func(ctx context.Context) error {
				caller, err := (&remote{deps: d, region: was.Region, account: was.Account}).orNode(ctx)
				if err != nil {
					return err
				}
				return caller.SetInstanceStatus(ctx, was.Cluster, was.Instance, control.Active)
			})
			if err == nil || failure.Is(err, failure.InstanceInactive) {
				return nil, nil
			}
			return []string{fmt.Sprintf("container instance %s is DRAINING, and anywhere activate makes it ACTIVE (%s)",
				was.Instance, failure.Of(err).Message)}, nil
		},
		Refused: func(err error) bool {
			switch failure.Of(err).Code {
			case failure.AccessDenied, failure.CredentialsInvalid, failure.CredentialsExpired, failure.ClockSkew, failure.Usage:
				return true
			}
			return false
		},
	}
}
