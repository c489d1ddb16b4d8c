package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// DrainRequest is what "anywhere drain" and "anywhere activate" were asked for; activate has no use for the first three.
type DrainRequest struct {
	Timeout    time.Duration // how long tasks may take to leave; 0 is no wait at all
	OnTimeout  string        // abort, leave or force
	AcceptRisk []string

	Region           string // --region, when it was typed; must agree with the host's
	DryRun           bool
	DetailedExitcode bool
	LockTimeout      time.Duration
}

// DrainResult is the "result" of drain's and activate's documents.
type DrainResult struct {
	Cluster              string      `json:"cluster"`
	Region               string      `json:"region"`
	Account              string      `json:"account"`
	ManagedInstanceID    string      `json:"managedInstanceId"`
	ContainerInstanceARN string      `json:"containerInstanceArn"`
	Status               string      `json:"status"`    // of the container instance in ECS: ACTIVE, DRAINING, INACTIVE; empty where it is not known
	Tasks                []DrainTask `json:"tasks"`     // the tasks that were on it, with what they were last
	TasksLeft            int         `json:"tasksLeft"` // how many of them have not stopped
	WaitedMs             int64       `json:"waitedMs"`  // how long they were waited for
	Source               string      `json:"source"`    // who counted the tasks: ecs, or the agent on this host; empty when nobody did
}

// Check refuses what contradicts itself. It looks at nothing but the request.
func (req DrainRequest) Check() error {
	if req.OnTimeout == OnTimeoutForce && !req.DryRun && !slices.Contains(req.AcceptRisk, "running-tasks") {
		return failure.New(failure.Usage, "--on-timeout %s stops tasks that run, and needs --accept-risk running-tasks", OnTimeoutForce).
			WithRemedy("add --accept-risk running-tasks, or leave --on-timeout out")
	}
	return nil
}

// drainer is one run of drain or activate on this host. It changes AWS and nothing here, so there is no journal: what was
// done is seen by looking, and the same command goes on from there.
type drainer struct {
	deps   Deps
	req    DrainRequest
	core   draining
	result DrainResult
	report Report
	begun  time.Time // the last step
}

// Drain makes this host's container instance DRAINING and waits until its tasks are gone.
func Drain(ctx context.Context, d Deps, req DrainRequest) (Report, error) {
	return (&drainer{deps: d, req: req}).run(ctx, "drain", (*drainer).drain)
}

// Activate makes this host's container instance ACTIVE, so that ECS places tasks on it again.
func Activate(ctx context.Context, d Deps, req DrainRequest) (Report, error) {
	return (&drainer{deps: d, req: req}).run(ctx, "activate", (*drainer).activate)
}

// run does what both verbs have in common.
func (v *drainer) run(ctx context.Context, verb string, do func(*drainer, context.Context) error) (Report, error) {
	v.result.Tasks = []DrainTask{}
	err := v.req.Check()
	if err == nil {
		err = v.gates(ctx)
	}
	if err == nil && !v.req.DryRun {
		var release func()
		if release, err = engine.Lock(ctx, v.deps.Host, LockPath, v.deps.RunID, v.req.LockTimeout); err == nil {
			defer release()
		}
	}
	if err == nil {
		_, err = v.deps.engine().Observe(ctx, engine.Plan{Verb: verb}) // of no step: it refuses while an operation is unfinished
	}
	if err == nil {
		_, err = readRecord(v.deps.Host.Reader) // a newer program's host is not this one's to change
	}
	if err == nil {
		err = v.settlePlace(ctx)
	}
	if err == nil {
		err = do(v, ctx)
	}
	v.tell()
	return v.report, err
}

// gates are what must hold before the host is looked at: root, for the lock and for what only root may read.
func (v *drainer) gates(ctx context.Context) error {
	v.report.Checks = preflight.Run(ctx, preflight.All(),
		preflight.Subject{Host: v.deps.Host.Reader, Mutating: true, Getenv: v.deps.Getenv},
		preflight.Options{Only: []string{"privileges"}, Timeout: checkTime})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return preflight.Verdict(v.report.Checks, false)
}

// settlePlace finds out which container instance this host is: by its agent's own word, else by the agent's state.
func (v *drainer) settlePlace(ctx context.Context) error {
	identity, verdict, why, err := assess(ctx, v.deps.Host.Reader)
	if err != nil {
		return err
	}
	v.result.ManagedInstanceID, v.result.Region = identity.InstanceID, identity.Region
	if verdict == ssmagent.Clone {
		return failure.New(failure.FingerprintChanged,
			"this machine is a copy of another one, whose container instance this would be: %s", why).
			WithEvidence("%s and %s", ssmagent.FingerprintPath, ssmagent.MachineIDPath).
			WithRemedy("run it on the other machine; make this one an instance of its own: anywhere register --token - --accept-risk replace-identity")
	}
	arn, err := v.deps.instanceHere(ctx)
	if err != nil {
		return err
	}
	v.result.Region, v.result.Account, v.result.Cluster = arn.Region, arn.Account, arn.Cluster
	v.result.ContainerInstanceARN = arn.String()
	if v.req.Region != "" && v.req.Region != arn.Region {
		return failure.New(failure.Usage, "--region is %s and this host is registered in %s", v.req.Region, arn.Region).
			WithRemedy("leave --region out")
	}
	v.core = draining{
		deps: v.deps, remote: &remote{deps: v.deps, region: arn.Region, account: arn.Account}, cluster: arn.Cluster,
		instance: arn.String(), local: true, timeout: v.req.Timeout, onTimeout: v.req.OnTimeout,
	}
	return nil
}

// instanceHere is the container instance that this host is, with its cluster. BoltDB keeps what it freed, so that a state
// may name several; then only the agent can say which one it is.
func (d Deps) instanceHere(ctx context.Context) (ecsagent.InstanceARN, error) {
	reader := d.Host.Reader
	said, asked := ecsagent.Introspect(ctx, reader)
	if ctx.Err() != nil {
		return ecsagent.InstanceARN{}, context.Cause(ctx)
	}
	binding, err := ecsagent.ReadBinding(reader)
	if err != nil {
		return ecsagent.InstanceARN{}, err
	}
	arn, cluster := ecsagent.InstanceARN{}, binding.Cluster
	if asked == nil {
		cluster = said.Cluster
		if arn, err = ecsagent.ParseInstanceARN(said.ContainerInstanceARN); err != nil {
			return arn, err
		}
	} else if len(binding.Instances) == 1 {
		arn = binding.Instances[0]
	}
	switch {
	case arn.ID != "":
		arn.Cluster = first(arn.Cluster, ecsagent.ClusterName(cluster)) // ARNs were short once
		return arn, nil
	case len(binding.Instances) > 1:
		return arn, failure.New(failure.NoInstance, "which container instance this host is cannot be told: its ECS agent does not answer, "+
			"and its state names %d", len(binding.Instances)).
			WithEvidence("%s; %s", failure.Of(asked).Message, ecsagent.StateDB).
			WithRemedy("see to the agent, then run the command again: anywhere status")
	}
	return arn, failure.New(failure.NoInstance, "this host is no container instance: its ECS agent does not answer, and has no state").
		WithEvidence("%s; nothing in %s", failure.Of(asked).Message, ecsagent.StateDB)
}

// settle asks AWS what is there, and refuses an instance that ECS does not have any more.
func (v *drainer) settle(ctx context.Context) error {
	err := v.core.settle(ctx)
	for _, text := range v.core.warnings { // now, and not after the wait
		v.deps.warn(text)
	}
	if err == nil && v.core.gone {
		return inactive(v.core.instance, v.core.cluster)
	}
	return err
}

func inactive(instance, cluster string) error {
	return failure.New(failure.InstanceInactive, "ECS has deregistered this host's container instance, or has none of its ARN in cluster %s", cluster).
		WithEvidence("%s", instance).
		WithRemedy("register it anew: anywhere register; anywhere status --remote says what ECS has of this host")
}

// The steps, as they are told.
const (
	stepDraining = "ecs.draining"
	stepLeave    = "ecs.tasks"
	stepActive   = "ecs.active"

	titleDraining = "Make the container instance DRAINING"
	titleLeave    = "Move its tasks away"
	titleActive   = "Make the container instance ACTIVE"
)

func (v *drainer) drain(ctx context.Context) error {
	g := &v.core
	if err := v.settle(ctx); err != nil {
		return err
	}
	left := g.left()
	if v.req.DryRun {
		v.planned(stepDraining, titleDraining, g.status == control.Draining, first(g.status, "its status is not known"))
		v.planned(stepLeave, titleLeave, len(left) == 0, leftInWords(left))
		v.report.Message = fmt.Sprintf("would drain container instance %s, with %s; nothing was changed", v.id(), tasksHere(left))
		if g.status == control.Draining && len(left) == 0 {
			v.report.Message, v.report.Exit = "nothing to do: "+v.empty(), 0
		}
		return nil
	}
	v.step(stepDraining, titleDraining)
	err := g.begin(ctx)
	if g.gone {
		err = inactive(g.instance, g.cluster)
	}
	if err := v.ended(err, g.before != control.Draining, "it was DRAINING already"); err != nil {
		return err
	}
	v.step(stepLeave, titleLeave)
	told := len(g.warnings)
	err = g.drain(ctx, g.telling(stepLeave, titleLeave))
	if err == nil && g.gone {
		err = inactive(g.instance, g.cluster)
	}
	for _, text := range g.warnings[told:] {
		v.deps.warn(text)
	}
	if err := v.ended(err, len(left) > 0, "no task is left"); err != nil {
		return err
	}
	v.report.Message = "drained: " + v.empty()
	if !g.changed() {
		v.report.Message = "nothing to do: " + v.empty()
	}
	return nil
}

func (v *drainer) activate(ctx context.Context) error {
	g := &v.core
	g.onlyStatus = true
	if err := v.settle(ctx); err != nil {
		return err
	}
	already := g.status == control.Active
	what := fmt.Sprintf("container instance %s in cluster %s, %s", v.id(), v.result.Cluster, v.result.Region)
	if v.req.DryRun {
		v.planned(stepActive, titleActive, already, first(g.status, "its status is not known"))
		v.report.Message = "would make " + what + " ACTIVE; nothing was changed"
		if already {
			v.report.Message = "nothing to do: " + what + " is ACTIVE"
		}
		return nil
	}
	v.step(stepActive, titleActive)
	var err error
	if !already {
		err = within(ctx, lookTime, func(ctx context.Context) error {
			return g.caller.SetInstanceStatus(ctx, g.cluster, g.instance, control.Active)
		})
	}
	if failure.Is(err, failure.InstanceInactive) {
		err = inactive(g.instance, g.cluster)
	}
	if err := v.ended(err, !already, "it was ACTIVE already"); err != nil {
		return err
	}
	g.status = control.Active
	v.report.Message = what + " is ACTIVE"
	if already {
		v.report.Message = "nothing to do: " + v.report.Message
	}
	return nil
}

// id names the instance in a sentence.
func (v *drainer) id() string {
	return v.result.ContainerInstanceARN[strings.LastIndexByte(v.result.ContainerInstanceARN, '/')+1:]
}

// empty is the sentence for an instance that has nothing left.
func (v *drainer) empty() string {
	return fmt.Sprintf("container instance %s in cluster %s, %s, is DRAINING and no task is left on it; anywhere activate takes it back",
		v.id(), v.result.Cluster, v.result.Region)
}

// tasksHere says how many tasks there are, and how many of them do not leave by themselves.
func tasksHere(tasks []DrainTask) string {
	stay := 0
	for _, t := range tasks {
		if t.NeverMoves != "" {
			stay++
		}
	}
	if len(tasks) == 0 {
		return "no task on it"
	}
	return fmt.Sprintf("%s on it, of which %d would not leave by %s", count(len(tasks), "task"), stay, plural(stay, "itself", "themselves"))
}

// step begins a step, as the engine would tell it.
func (v *drainer) step(id, title string) {
	v.report.Steps = append(v.report.Steps, engine.StepReport{ID: id, Title: title})
	v.begun = v.deps.Host.Now()
	v.deps.tell(engine.Event{Kind: engine.Started, Step: id, Title: title})
}

// ended ends the step that was begun last. detail is said of one that had nothing to do.
func (v *drainer) ended(err error, did bool, detail string) error {
	s := &v.report.Steps[len(v.report.Steps)-1]
	s.Duration = v.deps.Host.Now().Sub(v.begun)
	event := engine.Event{Step: s.ID, Title: s.Title, Took: s.Duration, Err: err}
	switch {
	case err != nil:
		s.Status, s.Detail, event.Kind = "failed", failure.Of(err).Message, engine.Failed
	case did:
		s.Status, event.Kind = "done", engine.Finished
	default:
		s.Status, s.Detail, event.Kind = "unchanged", detail, engine.Unchanged
	}
	event.Text = s.Detail
	v.deps.tell(event)
	return err
}

// planned is a step of a dry run.
func (v *drainer) planned(id, title string, already bool, detail string) {
	s := engine.StepReport{ID: id, Title: title, Status: "planned", Detail: detail}
	if already {
		s.Status = "unchanged"
	} else if v.req.DetailedExitcode {
		v.report.Exit = failure.ExitPending
	}
	v.report.Steps = append(v.report.Steps, s)
}

// tell brings what is so now into the report.
func (v *drainer) tell() {
	g := &v.core
	v.result.Status, v.result.Source, v.result.WaitedMs = g.status, g.source, g.waited.Milliseconds()
	v.result.Tasks = append(v.result.Tasks, g.tasks...)
	v.result.TasksLeft = len(g.left())
	v.report.Changed = g.caller != nil && !v.req.DryRun && g.changed()
	v.report.Warnings = append(v.report.Warnings, g.warnings...)
	v.report.Result = v.result
}
