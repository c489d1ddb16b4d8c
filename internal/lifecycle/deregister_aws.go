package lifecycle

import (
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
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Steps of AWS's side.
const (
	stepDrain   = "ecs.drain"
	stepECSGone = "ecs.deregister"
	stepSSMGone = "ssm.deregister"
)

// away is AWS's side of a host that leaves.
type away struct {
	ecs       *control.Operator       // an operator, or the node itself; nil where ECS need not be asked
	ssm       *control.Operator       // an operator; nil where Systems Manager need not be asked
	instances []control.InstanceSight // that go, the host's own first; of the node itself only the ARN is known
	drain     *draining               // of the host's own instance; nil where there is nothing to drain
	node      bool                    // the managed node goes, and is still there
	facts     []string
}

// settleAWS finds out what ECS and Systems Manager have of this host, and refuses what must not be deregistered. What an
// earlier run of the operation has done needs nobody any more.
func (f *farewell) settleAWS(ctx context.Context) error {
	wantsECS := !f.done(stepECSGone) && (f.node != "" || f.instance != "" || len(f.others) > 0)
	wantsSSM := !f.done(stepSSMGone) && f.node != ""
	if !wantsECS && !wantsSSM {
		return nil
	}
	f.remote = &remote{deps: f.deps, region: f.region, account: f.account}
	operator, err := f.connect(ctx, f.remote.here)
	if err != nil {
		return err
	}
	if f.away.ssm = operator; operator == nil && wantsSSM && f.ssm {
		if f.verdict != ssmagent.Deregistered {
			return f.needsOperator()
		}
		f.gone[f.node] = true
		f.warnings = append(f.warnings, fmt.Sprintf("without an operator's credentials the SSM agent is taken at its word that Systems Manager does not know %s any more: %s", f.node, f.why))
	}
	if wantsECS {
		if err := f.settleECS(ctx, operator); err != nil {
			return err
		}
	}
	if wantsSSM && operator != nil {
		return f.settleSSM(ctx)
	}
	return nil
}

// doneBefore takes over what earlier runs of the operation have deregistered.
func (f *farewell) doneBefore() {
	for _, t := range f.before() {
		if t.Kind == thingInstance && f.done(stepECSGone) || t.Kind == thingNode && f.done(stepSSMGone) {
			f.gone[t.Name] = true
		}
	}
}

// before are the things that the unfinished operation set out to remove.
func (f *farewell) before() (all []thing) {
	if f.resumed == nil || json.Unmarshal([]byte(f.resumed.Pins[pinGoes]), &all) != nil {
		return nil
	}
	return all
}

// done reports whether an earlier run of the operation has brought a step about.
func (f *farewell) done(step string) bool {
	return f.resumed != nil && slices.Contains(f.resumed.Done, step)
}

// connect connects, and returns nil where there are no credentials at all.
func (f *farewell) connect(ctx context.Context, how func(context.Context) (*control.Operator, error)) (operator *control.Operator, err error) {
	err = within(ctx, lookTime, func(ctx context.Context) (err error) {
		operator, err = how(ctx)
		return err
	})
	if none(err) {
		return nil, nil
	}
	return operator, err
}

// needsOperator is the refusal of a host on which nobody may deregister the managed node.
func (f *farewell) needsOperator() error {
	return failure.New(failure.CredentialsInvalid, "to deregister the managed node %s takes an operator's credentials, and there are none here: "+
		"the node's own never count as such", f.node).
		WithEvidence("looked in the environment, the profile and single sign-on").
		WithRemedy("name a profile: anywhere deregister --profile NAME; or keep the node: --keep-ssm; " +
			"or clean only this host, and let somebody else make the calls: --local-only")
}

// settleECS finds the container instances that go: the host's own, and what earlier registrations of its node have left
// in the cluster. More than one that is connected means that a copy of this machine runs somewhere.
func (f *farewell) settleECS(ctx context.Context, operator *control.Operator) error {
	candidates := slices.Compact(append([]string{f.instance}, f.others...))
	candidates = slices.DeleteFunc(candidates, func(arn string) bool { return arn == "" })
	if operator == nil {
		if len(candidates) == 0 {
			f.warnings = append(f.warnings, "this host does not know its container instance, and without an operator's credentials ECS cannot be asked whether it has one")
			return nil
		}
		node, err := f.connect(ctx, f.remote.orNode)
		if err != nil || node == nil {
			return f.neither(err)
		}
		f.away.ecs = node
		for _, arn := range candidates { // its role may not look
			f.away.instances = append(f.away.instances, control.InstanceSight{ARN: arn, NodeID: f.node})
		}
		return f.tasksSeen(ctx)
	}
	f.away.ecs = operator
	all, err := f.instancesIn(ctx, operator, candidates)
	if failure.Is(err, failure.ClusterNotFound) {
		if f.req.Cluster != "" {
			return failure.New(failure.Usage, "--cluster: %s", failure.Of(err).Message)
		}
		f.warnings = append(f.warnings, failure.Of(err).Message+": so its container instance is gone too")
		err = nil
		for _, arn := range candidates {
			f.gone[arn] = true
		}
	}
	if err != nil {
		return err
	}
	return f.judgeInstances(ctx, all, candidates)
}

// neither is the failure of a host with no credentials that ECS takes.
func (f *farewell) neither(err error) error {
	if err == nil {
		err = failure.New(failure.CredentialsInvalid, "to deregister %s takes the credentials of an operator or of the node, and there are none here",
			first(f.instance, "the container instance"))
	}
	if silence(err) {
		return err
	}
	out := *failure.Of(err)
	out.Err = err
	out.Remedy = "name an operator's profile: anywhere deregister --profile NAME; or clean only this host: --local-only"
	return &out
}

// clusters are those in which the node may have container instances: its own, and the one that it was registered in.
func (f *farewell) clusters() (names []string) {
	if f.node != "" {
		names = append(names, f.cluster)
		if owned := f.record.Registration; owned != nil && owned.Cluster != "" && owned.Cluster != f.cluster {
			names = append(names, owned.Cluster)
		}
	}
	return names
}

// instancesIn are those of the candidates that ECS knows, and all others of the node.
func (f *farewell) instancesIn(ctx context.Context, operator *control.Operator, candidates []string) (all []control.InstanceSight, err error) {
	err = within(ctx, lookTime, func(ctx context.Context) error {
		for n, cluster := range f.clusters() {
			some, err := operator.SeeInstancesOf(ctx, cluster, f.node)
			if failure.Is(err, failure.ClusterNotFound) && n > 0 {
				continue
			}
			if err != nil {
				return err
			}
			all = append(all, some...)
		}
		for _, arn := range candidates {
			if slices.ContainsFunc(all, func(i control.InstanceSight) bool { return i.ARN == arn }) {
				continue
			}
			cluster := f.clusterOf(arn)
			i, found, err := operator.SeeInstance(ctx, cluster, arn)
			if failure.Is(err, failure.ClusterNotFound) && cluster != f.cluster {
				continue // of an earlier life of this host
			}
			if err != nil {
				return err
			}
			if found {
				all = append(all, i)
			}
		}
		return nil
	})
	return all, err
}

func (f *farewell) judgeInstances(ctx context.Context, all []control.InstanceSight, candidates []string) error {
	var connected []string
	for _, arn := range candidates {
		f.gone[arn] = true // unless it is among those that follow
	}
	for _, i := range all {
		if i.Status == control.Inactive {
			continue
		}
		if f.node != "" && i.NodeID != f.node {
			if i.ARN != f.instance {
				continue // what BoltDB freed names another life of the machine
			}
			return failure.New(failure.RegisteredElsewere, "ECS has this host's container instance as that of %s, and the host is %s", i.NodeID, f.node).
				WithEvidence("%s", i).WithRemedy("clean only this host: anywhere deregister --local-only")
		}
		delete(f.gone, i.ARN)
		if i.Connected {
			connected = append(connected, i.String())
		}
		f.away.instances = append(f.away.instances, i)
	}
	if len(connected) > 1 {
		return failure.New(failure.FingerprintChanged, "%d agents are connected to ECS as %s: a copy of this machine runs somewhere, and would go with it",
			len(connected), f.node).WithEvidence("%s", strings.Join(connected, "; ")).
			WithRemedy("find the copy and stop it; or clean only this host: anywhere deregister --local-only --remove-ssm")
	}
	slices.SortStableFunc(f.away.instances, func(a, b control.InstanceSight) int {
		return map[bool]int{true: -1}[a.ARN == f.instance] - map[bool]int{true: -1}[b.ARN == f.instance]
	})
	if f.instance == "" && len(f.away.instances) > 0 {
		f.instance = f.away.instances[0].ARN
	}
	return f.tasksSeen(ctx)
}

// tasksSeen looks at the tasks on the instances that go, and refuses to orphan them unless that was accepted. Those of the
// host's own instance are drained, unless that is not wanted; those of one whose agent is gone never leave.
func (f *farewell) tasksSeen(ctx context.Context) error {
	var running []string
	for n, i := range f.away.instances {
		if n == 0 && !f.req.NoDrain {
			left, err := f.settleDrain(ctx, i.ARN)
			if err != nil {
				return err
			}
			if f.req.Force {
				running = append(running, left...)
			}
			continue
		}
		tasks, err := f.tasksOn(ctx, i.ARN)
		if err != nil {
			return err
		}
		running = append(running, tasks...)
	}
	if len(running) == 0 {
		return nil
	}
	refused := failure.New(failure.TasksRunning, "ECS has %s on this host that the deregistration would orphan", count(len(running), "task")).
		WithEvidence("%s", strings.Join(running, "; "))
	switch {
	case f.req.Force && !f.accepts(riskTasks):
		return refused.WithRemedy("--force leaves them running with nobody to look after them, and needs --accept-risk %s", riskTasks)
	case !f.req.Force && f.req.NoDrain:
		return refused.WithRemedy("leave --no-drain out; or leave them running with nobody to look after them: --force --accept-risk %s", riskTasks)
	case !f.req.Force:
		return refused.WithRemedy("they are on an instance whose agent is gone, and never leave by themselves: --force --accept-risk %s", riskTasks)
	}
	f.warnings = append(f.warnings, fmt.Sprintf("%s may run on with nobody to look after them: %s", count(len(running), "task"), strings.Join(running, "; ")))
	return nil
}

// tasksOn are the tasks of an instance; who may not list them has the containers that run here instead.
func (f *farewell) tasksOn(ctx context.Context, instance string) (running []string, err error) {
	var tasks []control.TaskSight
	err = within(ctx, lookTime, func(ctx context.Context) (err error) {
		tasks, err = f.away.ecs.SeeTasks(ctx, f.clusterOf(instance), instance)
		return err
	})
	if failure.Is(err, failure.AccessDenied) && f.away.ecs.NodeID != "" {
		return f.runningHere(ctx), nil
	}
	for _, t := range tasks {
		running = append(running, fmt.Sprintf("%s (%s, %s)", t.ARN, t.Group, t.Last))
	}
	return running, err
}

// runningHere are the containers of tasks that run on this host.
func (f *farewell) runningHere(ctx context.Context) (running []string) {
	found, _ := f.containers(ctx)
	for _, c := range found {
		if c.Running() {
			running = append(running, leftover(c))
		}
	}
	return running
}

// settleDrain prepares the drain of the host's own instance. Where nobody can count the tasks, a host on which no
// container of one runs has none.
func (f *farewell) settleDrain(ctx context.Context, instance string) (left []string, err error) {
	g := &draining{
		deps: f.deps, remote: f.remote, cluster: f.clusterOf(instance), instance: instance, local: true,
		timeout: f.req.DrainTimeout, onTimeout: f.req.OnTimeout,
	}
	if f.req.Force && first(g.onTimeout, OnTimeoutAbort) == OnTimeoutAbort {
		g.onTimeout = OnTimeoutLeave // on the way out it need not be ACTIVE again
	}
	err = g.settle(ctx)
	if failure.Is(err, failure.AccessDenied) && g.asNode() && g.status == "" {
		if _, why := f.containers(ctx); why == "" && len(f.runningHere(ctx)) == 0 {
			f.warnings = append(f.warnings, "not drained, for nobody can count the tasks and no container of one runs here: "+failure.Of(err).Message)
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	f.away.drain = g
	for _, t := range g.left() {
		left = append(left, t.String())
	}
	return left, nil
}

// drainStep is the drain. With --force it is over when its time is, whatever is left.
func (f *farewell) drainStep() engine.Step {
	if f.away.drain == nil {
		return restStep(stepDrain, "Move the tasks away")
	}
	step := f.away.drain.step()
	step.ID = stepDrain
	if !f.req.Force {
		return step
	}
	observe, change, over := step.Observe, step.Change, false
	step.Observe = func(ctx context.Context, r host.Reader) (engine.Obs, error) {
		if over {
			return engine.Obs{State: engine.OK, Detail: leftInWords(f.away.drain.left()) + ", and go on unattended"}, nil
		}
		return observe(ctx, r)
	}
	step.Change = func(ctx context.Context, tx *engine.Tx) error {
		err := change(ctx, tx)
		if failure.Is(err, failure.DrainTimeout) && f.accepts(riskTasks) {
			over = true
			return nil
		}
		return err
	}
	return step
}

// clusterOf is the cluster of an instance: its ARN says it but for those that are older than 2018.
func (f *farewell) clusterOf(instance string) string {
	arn, err := ecsagent.ParseInstanceARN(instance)
	if err != nil {
		return f.cluster
	}
	return first(arn.Cluster, f.cluster)
}

// settleSSM looks at the managed node.
func (f *farewell) settleSSM(ctx context.Context) error {
	var node control.NodeSight
	there := false
	err := within(ctx, lookTime, func(ctx context.Context) (err error) {
		node, there, err = f.away.ssm.SeeNode(ctx, f.node)
		return err
	})
	switch {
	case failure.Is(err, failure.AccessDenied): // whether it may be deregistered is another right
		f.warnings = append(f.warnings, "whether Systems Manager knows "+f.node+" was not seen: "+failure.Of(err).Message)
		there = true
	case err != nil:
		return err
	case !there:
		f.gone[f.node] = true
	}
	proven := f.identity.InstanceID == f.node || f.identity.Hidden == f.node || f.resumed != nil
	if there && f.ssm && !proven && node.PingStatus == control.Online && !f.accepts(riskLive) {
		return failure.New(failure.LiveInstance, "this host has no identity any more, and Systems Manager hears from %s: another machine may be it by now", f.node).
			WithEvidence("Online since %s, IP address %s, name %q", stamp(node.LastPing), node.IP, node.Name).
			WithRemedy("find that machine; keep the node: --keep-ssm; or accept it: --accept-risk %s", riskLive)
	}
	f.away.node = there && f.ssm
	return nil
}

// awayGoes are the things on AWS's side that go.
func (f *farewell) awayGoes() (all []thing) {
	for _, i := range f.away.instances {
		all = append(all, thing{thingInstance, i.ARN})
	}
	if f.away.node {
		all = append(all, thing{thingNode, f.node})
	}
	return all
}

// rights settles that what follows is allowed, before the first of it is done.
func (f *farewell) rights(ctx context.Context) error {
	var ask []func(context.Context) error
	for _, i := range f.away.instances {
		cluster := f.clusterOf(i.ARN)
		ask = append(ask, func(ctx context.Context) error { return f.away.ecs.MayDeregisterInstance(ctx, cluster) })
	}
	if f.away.node {
		ask = append(ask, f.away.ssm.MayDeregisterNode)
	}
	for _, may := range ask {
		if err := within(ctx, lookTime, may); err != nil {
			return err
		}
	}
	return nil
}

// awaySteps are the steps on AWS's side.
func (f *farewell) awaySteps() []engine.Step {
	if f.req.LocalOnly {
		return nil
	}
	return []engine.Step{f.drainStep(), f.deregisterECS(), f.deregisterSSM()}
}

func (f *farewell) deregisterECS() engine.Step {
	var instances []string
	for _, i := range f.away.instances {
		instances = append(instances, i.ARN)
	}
	return f.goneStep(stepECSGone, "Deregister the container instance from ECS", thingInstance, instances, func(ctx context.Context, arn string) (bool, error) {
		return f.away.ecs.DeregisterInstance(ctx, f.clusterOf(arn), arn, f.req.Force)
	})
}

func (f *farewell) deregisterSSM() engine.Step {
	var nodes []string
	if f.away.node {
		nodes = append(nodes, f.node)
	}
	return f.goneStep(stepSSMGone, "Deregister the managed node from Systems Manager", thingNode, nodes, func(ctx context.Context, node string) (bool, error) {
		return f.away.ssm.DeregisterNode(ctx, node)
	})
}

const awayKind = "aws.deregistration"

// deregistration is what the journal has of a call that cannot be taken back.
type deregistration struct {
	What thing `json:"what"`
}

// deregistered is final as soon as AWS may have heard of it.
func deregistered() engine.Kind {
	return engine.Kind{
		Undo: func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil },
		Committed: func(_ context.Context, _ host.Reader, data []byte) (string, bool) {
			var d deregistration
			err := json.Unmarshal(data, &d)
			return "the deregistration of " + d.What.String(), err == nil
		},
		Refused: func(err error) bool {
			switch failure.Of(err).Code {
			case failure.AccessDenied, failure.CredentialsInvalid, failure.CredentialsExpired, failure.ClockSkew, failure.Throttled,
				failure.TasksRunning, failure.ClusterNotFound, failure.Usage:
				return true
			}
			return false
		},
	}
}

// goneStep deregisters things, each once.
func (f *farewell) goneStep(
	id, title, kind string, names []string, deregister func(context.Context, string) (was bool, err error),
) engine.Step {
	return engine.Step{
		ID: id, Title: title,
		Observe: func(context.Context, host.Reader) (engine.Obs, error) {
			var left []string
			for _, name := range names {
				if !f.gone[name] {
					left = append(left, name)
				}
			}
			if len(left) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "deregister " + strings.Join(left, ", ")}, nil
			}
			return engine.Obs{State: engine.OK, Detail: first(strings.Join(names, ", "), "none is there")}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			for _, name := range names {
				if f.gone[name] {
					continue
				}
				err := tx.Effect(ctx, awayKind, deregistration{thing{kind, name}}, func(ctx context.Context) error {
					was, err := deregister(ctx, name)
					if err == nil && !was {
						tx.Note("%s was gone already", name)
					}
					return err
				})
				if err != nil {
					return err
				}
				f.gone[name] = true
			}
			return nil
		},
	}
}

// owed are the calls that this run leaves to an operator.
func (f *farewell) owed() (calls []string) {
	if !f.req.LocalOnly || f.verdict == ssmagent.Clone {
		return nil
	}
	instances := []string{f.instance}
	if f.instance == "" {
		instances = f.others
	}
	for _, arn := range instances {
		if call := deregisterCall(arn); call != "" && !f.done(stepECSGone) {
			calls = append(calls, call)
		}
	}
	if f.node != "" && f.ssm && !f.done(stepSSMGone) {
		calls = append(calls, fmt.Sprintf("aws ssm deregister-managed-instance --region %s --instance-id %s", f.region, f.node))
	}
	return calls
}

// How long ECS and Systems Manager are given to forget a host. It takes them seconds (facts: aws B4).
const (
	forgetLimit    = 30 * time.Second
	farewellStep   = "verify.aws"
	farewellTitle  = "Ask ECS and Systems Manager whether the host is gone"
	farewellAgrees = "neither knows it any more"
)

// confirmGone proves that the host is gone: what it looks at on the host was observed by the steps; AWS is asked when the
// journal is closed, so that nothing which it says or does not say leaves anything half-way.
func (f *farewell) confirmGone(ctx context.Context, report *Report) error {
	result := report.Result.(DeregisterResult)
	if !f.req.RemoteOnly {
		result.Verified = VerifiedLocal
	}
	report.Result = result
	if f.req.LocalOnly || f.node == "" && f.instance == "" {
		return nil
	}
	began := f.deps.Host.Now()
	f.remote = first(f.remote, &remote{deps: f.deps, region: f.region, account: f.account}) // an earlier run may have done all
	operator, err := f.connect(ctx, f.remote.here)
	if err == nil && operator == nil {
		return nil // nobody is here who could look
	}
	if err == nil {
		f.deps.tell(engine.Event{Kind: engine.Noted, Step: farewellStep, Text: "asks ECS and Systems Manager"})
		err = awaitGone(ctx, func(ctx context.Context) ([]string, error) { return f.stillThere(ctx, operator) })
	}
	if failure.Is(err, failure.StillThere) {
		failure.Of(err).Remedy = f.lookAgain()
	}
	step := engine.StepReport{ID: farewellStep, Title: farewellTitle, Status: "unchanged", Detail: farewellAgrees, Duration: f.deps.Host.Now().Sub(began)}
	event := engine.Event{Step: step.ID, Title: step.Title, Text: step.Detail, Kind: engine.Unchanged, Took: step.Duration}
	switch why := failure.Of(err); {
	case err == nil:
		result.Verified = VerifiedAWS
		report.Result = result
		if report.Changed {
			step.Status, event.Kind = "done", engine.Finished
		}
	case !decided(err):
		step.Status, step.Detail, event.Text = "skipped", why.Message, why.Message
		report.Warnings = append(report.Warnings, "AWS could not be asked whether the host is gone: "+why.Message)
		err = nil
	default:
		step.Status, step.Detail, event.Kind, event.Text, event.Err = "failed", why.Message, engine.Failed, why.Message, err
	}
	report.Steps = append(report.Steps, step)
	f.deps.tell(event)
	return err
}

// lookAgain is the command that finishes what AWS was too slow for: the host does not know any more what it was.
func (f *farewell) lookAgain() string {
	what := first(f.node, f.instance)
	if f.node != "" && !f.ssm {
		what += " --keep-ssm"
	}
	return fmt.Sprintf("anywhere deregister --yes --region %s --instance %s looks again and does what is left; nothing is left to do on the host", f.region, what)
}

// awaitGone asks again until nothing is there any more.
func awaitGone(ctx context.Context, there func(context.Context) ([]string, error)) error {
	begun := time.Now()
	for pause := longestPause; ; pause = min(2*pause, 2*time.Second) {
		var left []string
		err := within(ctx, lookTime, func(ctx context.Context) (err error) {
			left, err = there(ctx)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case len(left) == 0:
			return nil
		case time.Since(begun) >= forgetLimit:
			return failure.New(failure.StillThere, "AWS took the deregistration, and after %s it still shows %s", forgetLimit, strings.Join(left, ", "))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// stillThere is what ECS and Systems Manager still have of this host.
func (f *farewell) stillThere(ctx context.Context, operator *control.Operator) (left []string, err error) {
	var instances []string
	for _, t := range f.goes() {
		if t.Kind == thingInstance {
			instances = append(instances, t.Name)
		}
	}
	all, err := f.instancesIn(ctx, operator, instances)
	if err != nil && !failure.Is(err, failure.ClusterNotFound) {
		return nil, err
	}
	for _, i := range all {
		if i.Status != control.Inactive {
			left = append(left, i.String())
		}
	}
	if f.node == "" || !f.ssm {
		return left, nil
	}
	_, there, err := operator.SeeNode(ctx, f.node)
	if err == nil && there {
		left = append(left, "managed node "+f.node)
	}
	return left, err
}
