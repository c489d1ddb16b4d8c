package lifecycle

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// obituary is one run of "deregister --instance": a machine that is gone is taken out of ECS and Systems Manager, from
// anywhere. No host is looked at, and nothing has to be remembered: AWS itself says what is left to do.
type obituary struct {
	deps     Deps
	req      DeregisterRequest
	operator *control.Operator

	node      string
	arn       ecsagent.InstanceARN // that was asked for; zero when it was a node
	cluster   string
	instances []control.InstanceSight // that go
	beside    []string                // clusters in which the node has further instances
	sight     control.NodeSight
	there     bool // Systems Manager knows the node
	tasks     []string
	facts     []string
	warnings  []string
	steps     []engine.StepReport
	done      []string
}

// deregisterAway gives another machine up.
func deregisterAway(ctx context.Context, d Deps, req DeregisterRequest) (Report, error) {
	o := &obituary{deps: d, req: req}
	err := o.checkFlags()
	for _, step := range []func(context.Context) error{o.connect, o.findInstances, o.findNode, o.judge} {
		if err == nil {
			err = step(ctx)
		}
	}
	if err != nil || o.nothing() {
		return o.report(VerifiedNone, err), err
	}
	o.look()
	if err := o.rights(ctx); err != nil {
		return o.report(VerifiedNone, err), err
	}
	if req.DryRun {
		return o.dryRun()
	}
	if req.Confirm != nil {
		if err := req.Confirm(ctx, Farewell{Cluster: o.cluster, Node: o.node, Goes: o.goes(), Facts: o.facts}); err != nil {
			return o.report(VerifiedNone, err), err
		}
	}
	if err := o.carryOut(ctx); err != nil {
		report := o.report(VerifiedNone, err)
		if len(o.done) > 0 {
			f := *failure.Of(err)
			f.Err, f.Remedy = err, advice(&f)+"run the same command again; it does what is left"
			err = &f
		}
		return report, err
	}
	verified, err := VerifiedAWS, awaitGone(ctx, o.stillThere)
	if err != nil && !decided(err) {
		o.warnings = append(o.warnings, "AWS could not be asked whether it is gone: "+failure.Of(err).Message)
		verified, err = VerifiedNone, nil
	}
	if err != nil {
		verified = VerifiedNone
	}
	report := o.report(verified, nil)
	return report, err
}

// instanceForm is a container instance's ARN, long or short. Source: ECS API reference, ContainerInstance, read 2026-11-25.
var instanceForm = regexp.MustCompile(`^arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:container-instance/([A-Za-z0-9_-]+/)?[0-9a-f-]{32,36}$`)

// checkFlags refuses what is about a host that is at hand.
func (o *obituary) checkFlags() error {
	for _, flag := range []struct {
		given bool
		name  string
	}{
		{o.req.LocalOnly, "--local-only"}, {o.req.Purge, "--purge"}, {o.req.KeepPackages, "--keep-packages"}, {o.req.StopTasks, "--stop-tasks"},
	} {
		if flag.given {
			return failure.New(failure.Usage, "--instance and %s exclude each other: the machine is not at hand", flag.name)
		}
	}
	if ssmagent.IsNode(o.req.Instance) {
		o.node = o.req.Instance
		return nil
	}
	arn, err := ecsagent.ParseInstanceARN(o.req.Instance)
	if err != nil || !instanceForm.MatchString(o.req.Instance) {
		return failure.New(failure.Usage, "--instance: %q is neither a managed node (mi- and 17 hexadecimal digits) nor the ARN of a container instance", o.req.Instance)
	}
	if o.req.Region != "" && o.req.Region != arn.Region {
		return failure.New(failure.Usage, "--region is %s and --instance is in %s", o.req.Region, arn.Region).WithRemedy("leave --region out")
	}
	o.arn = arn
	return nil
}

// connect connects, and holds account and Region of what was asked for to the caller's.
func (o *obituary) connect(ctx context.Context) error {
	region := o.arn.Region
	ref := control.ClusterRef{}
	if o.req.Cluster != "" {
		var err error
		if ref, err = control.ParseCluster(o.req.Cluster); err != nil {
			return err
		}
		if region != "" && ref.Region != "" && ref.Region != region {
			return failure.New(failure.Usage, "--cluster is in %s and --instance is in %s", ref.Region, region)
		}
		if o.arn.Cluster != "" && o.arn.Cluster != ref.Name {
			return failure.New(failure.Usage, "--cluster is %s and --instance is in cluster %s", ref.Name, o.arn.Cluster).WithRemedy("leave --cluster out")
		}
		region = first(region, ref.Region)
	}
	err := within(ctx, lookTime, func(ctx context.Context) (err error) {
		o.operator, err = o.deps.Operator(ctx, region)
		return err
	})
	if err != nil {
		return err
	}
	if account := first(o.arn.Account, ref.Account); account != "" && account != o.operator.Account {
		return failure.New(failure.Usage, "--instance and --cluster are of account %s, and the operator's credentials are of account %s",
			account, o.operator.Account).WithEvidence("%s", o.operator.ARN).WithRemedy("use a --profile of account %s", account)
	}
	o.cluster = first(o.arn.Cluster, ref.Name)
	return nil
}

// findInstances finds the container instances of the machine: the one that was asked for, or the node's in the named
// cluster, or in the only cluster that has one.
func (o *obituary) findInstances(ctx context.Context) error {
	if o.arn.ID != "" {
		o.cluster = first(o.cluster, "default")
		i, found, err := o.operator.SeeInstance(ctx, o.cluster, o.arn.String())
		if err != nil {
			return o.unknownCluster(err)
		}
		if found {
			o.node = i.NodeID
		}
		if found && i.Status != control.Inactive {
			o.instances = append(o.instances, i)
		}
		return nil
	}
	clusters := []string{o.cluster}
	if o.cluster == "" {
		var err error
		if clusters, err = o.operator.SeeClusters(ctx); err != nil {
			return err
		}
	}
	where := map[string][]control.InstanceSight{}
	for _, cluster := range clusters {
		all, err := o.operator.SeeInstancesOf(ctx, cluster, o.node)
		if failure.Is(err, failure.ClusterNotFound) && o.cluster == "" {
			continue // deleted meanwhile
		}
		if err != nil {
			return o.unknownCluster(err)
		}
		if len(all) > 0 {
			where[cluster] = all
			o.beside = append(o.beside, cluster)
		}
	}
	if len(where) > 1 {
		slices.Sort(o.beside)
		return failure.New(failure.Usage, "%s has container instances in %d clusters: %s", o.node, len(where), strings.Join(o.beside, ", ")).
			WithRemedy("say which with --cluster, one after the other")
	}
	for cluster, all := range where {
		o.cluster, o.instances, o.beside = cluster, all, nil
	}
	return nil
}

// unknownCluster tells a cluster that was named and is not there from what AWS refused.
func (o *obituary) unknownCluster(err error) error {
	if failure.Is(err, failure.ClusterNotFound) {
		return failure.New(failure.Usage, "--cluster: cluster %s does not exist in account %s, %s", o.cluster, o.operator.Account, o.operator.Region).
			WithRemedy("aws ecs list-clusters --region %s", o.operator.Region)
	}
	return err
}

// findNode looks at the managed node. One that has instances in other clusters than the one that was named stays: theirs
// would be orphaned.
func (o *obituary) findNode(ctx context.Context) (err error) {
	if o.node == "" {
		return nil
	}
	if o.sight, o.there, err = o.operator.SeeNode(ctx, o.node); err != nil || !o.there {
		return err
	}
	if o.req.Cluster == "" && o.arn.ID == "" || o.req.KeepSSM {
		return nil
	}
	clusters, err := o.operator.SeeClusters(ctx)
	if err != nil {
		return err
	}
	for _, cluster := range clusters {
		all, err := o.operator.SeeInstancesOf(ctx, cluster, o.node)
		if err != nil && !failure.Is(err, failure.ClusterNotFound) {
			return err
		}
		for _, i := range all {
			if !slices.ContainsFunc(o.instances, func(own control.InstanceSight) bool { return own.ARN == i.ARN }) {
				o.beside = append(o.beside, i.ARN)
			}
		}
	}
	return nil
}

// judge refuses a machine that is alive, and one on which tasks run.
func (o *obituary) judge(ctx context.Context) error {
	var alive []string
	for _, i := range o.instances {
		if i.Connected {
			alive = append(alive, i.String())
		}
		tasks, err := o.operator.SeeTasks(ctx, o.cluster, i.ARN)
		if err != nil {
			return err
		}
		for _, t := range tasks {
			o.tasks = append(o.tasks, fmt.Sprintf("%s (%s, %s)", t.ARN, t.Group, t.Last))
		}
		o.facts = append(o.facts, "container instance "+i.String())
	}
	if o.there {
		about := fmt.Sprintf("managed node %s: name %s, IP address %s, %s, last ping %s", o.node,
			first(o.sight.Name, "unknown"), first(o.sight.IP, "unknown"), o.sight.PingStatus, first(stamp(o.sight.LastPing), "never"))
		o.facts = append(o.facts, about)
		if o.sight.PingStatus == control.Online {
			alive = append(alive, about)
		}
	}
	accepts := func(risk string) bool { return slices.Contains(o.req.AcceptRisk, risk) }
	switch {
	case len(alive) > 0 && !accepts(riskLive):
		return failure.New(failure.LiveInstance, "%s is not gone: its agents are connected", first(o.node, o.req.Instance)).
			WithEvidence("%s", strings.Join(alive, "; ")).
			WithRemedy("run anywhere deregister on that machine; or, if it cannot be reached: --accept-risk %s", riskLive)
	case len(o.tasks) > 0 && !o.req.Force:
		return failure.New(failure.TasksRunning, "ECS still has %s on it", count(len(o.tasks), "task")).WithEvidence("%s", strings.Join(o.tasks, "; ")).
			WithRemedy("--force --accept-risk %s gives them up; their services start others elsewhere", riskTasks)
	case len(o.tasks) > 0 && !accepts(riskTasks):
		return failure.New(failure.TasksRunning, "ECS still has %s on it", count(len(o.tasks), "task")).WithEvidence("%s", strings.Join(o.tasks, "; ")).
			WithRemedy("--force gives them up, and needs --accept-risk %s", riskTasks)
	}
	return nil
}

// look tells which machine it is, before anything is done to it.
func (o *obituary) look() {
	step := engine.StepReport{ID: "look", Title: "Look at the machine", Status: "unchanged", Detail: strings.Join(o.facts, "; ")}
	o.steps = append(o.steps, step)
	o.deps.tell(engine.Event{Kind: engine.Unchanged, Step: step.ID, Title: step.Title, Text: step.Detail})
}

// nodeGoes reports whether the managed node goes.
func (o *obituary) nodeGoes() bool { return o.there && !o.req.KeepSSM && len(o.beside) == 0 }

func (o *obituary) nothing() bool { return len(o.instances) == 0 && !o.nodeGoes() }

// goes are the things that go.
func (o *obituary) goes() (all []string) {
	for _, i := range o.instances {
		all = append(all, thing{thingInstance, i.ARN}.String())
	}
	if o.nodeGoes() {
		all = append(all, thing{thingNode, o.node}.String())
	}
	return all
}

func (o *obituary) rights(ctx context.Context) error {
	if len(o.instances) > 0 {
		if err := o.operator.MayDeregisterInstance(ctx, o.cluster); err != nil {
			return err
		}
	}
	if o.nodeGoes() {
		return o.operator.MayDeregisterNode(ctx)
	}
	return nil
}

// carryOut makes the calls.
func (o *obituary) carryOut(ctx context.Context) error {
	for _, i := range o.instances {
		err := o.step(stepECSGone, "Deregister the container instance from ECS", i.ARN, func() error {
			_, err := o.operator.DeregisterInstance(ctx, o.cluster, i.ARN, o.req.Force)
			return err
		})
		if err != nil {
			return err
		}
		o.done = append(o.done, thing{thingInstance, i.ARN}.String())
	}
	if !o.nodeGoes() {
		return nil
	}
	err := o.step(stepSSMGone, "Deregister the managed node from Systems Manager", o.node, func() error {
		_, err := o.operator.DeregisterNode(ctx, o.node)
		return err
	})
	if err == nil {
		o.done = append(o.done, thing{thingNode, o.node}.String())
	}
	return err
}

// step makes one call, and tells of it.
func (o *obituary) step(id, title, what string, call func() error) error {
	begun := o.deps.Host.Now()
	o.deps.tell(engine.Event{Kind: engine.Started, Step: id, Title: title})
	err := call()
	took := o.deps.Host.Now().Sub(begun)
	step := engine.StepReport{ID: id, Title: title, Status: "done", Detail: what, Duration: took}
	event := engine.Event{Kind: engine.Finished, Step: id, Title: title, Text: what, Took: took, Err: err}
	if err != nil {
		step.Status, step.Detail = "failed", failure.Of(err).Message
		event.Kind, event.Text = engine.Failed, step.Detail
	}
	o.steps = append(o.steps, step)
	o.deps.tell(event)
	return err
}

// stillThere is what AWS still has of the machine.
func (o *obituary) stillThere(ctx context.Context) (left []string, err error) {
	for _, i := range o.instances {
		now, found, err := o.operator.SeeInstance(ctx, o.cluster, i.ARN)
		if err != nil && !failure.Is(err, failure.ClusterNotFound) {
			return nil, err
		}
		if found && now.Status != control.Inactive {
			left = append(left, now.String())
		}
	}
	if o.nodeGoes() {
		_, there, err := o.operator.SeeNode(ctx, o.node)
		if err != nil {
			return nil, err
		}
		if there {
			left = append(left, "managed node "+o.node)
		}
	}
	return left, nil
}

func (o *obituary) dryRun() (Report, error) {
	for _, what := range o.goes() {
		id := stepECSGone
		if strings.HasPrefix(what, thingNode) {
			id = stepSSMGone
		}
		o.steps = append(o.steps, engine.StepReport{ID: id, Title: "Deregister the " + what, Status: "planned", Detail: what})
	}
	report := o.report(VerifiedNone, nil)
	report.Message = fmt.Sprintf("%s would be made; nothing was changed", count(len(o.goes()), "call"))
	if o.req.DetailedExitcode {
		report.Exit = failure.ExitPending
	}
	return report, nil
}

func (o *obituary) report(verified Verified, err error) Report {
	result := emptyFarewell()
	result.Cluster, result.ManagedInstanceID, result.Verified = o.cluster, o.node, verified
	result.Removed = append(result.Removed, o.done...)
	if o.operator != nil {
		result.Account, result.Region = o.operator.Account, o.operator.Region
	}
	if o.arn.ID != "" {
		result.ContainerInstanceARN = o.arn.String()
	} else if len(o.instances) > 0 {
		result.ContainerInstanceARN = o.instances[0].ARN
	}
	if o.there && !o.nodeGoes() {
		why := "--keep-ssm"
		if !o.req.KeepSSM {
			why = "it has further container instances: " + strings.Join(o.beside, ", ")
		}
		result.Kept = append(result.Kept, fmt.Sprintf("managed node %s (%s)", o.node, why))
	}
	report := Report{Changed: len(o.done) > 0, Steps: o.steps, Warnings: o.warnings, Result: result}
	what := first(o.node, o.req.Instance)
	switch {
	case err != nil && len(o.done) > 0:
		report.Kept = slices.Clone(o.done)
		for i, done := range report.Kept {
			report.Kept[i] = "the deregistration of " + done
		}
	case len(o.done) == 0:
		report.Message = fmt.Sprintf("not registered: neither ECS nor Systems Manager has anything of %s to remove in account %s, %s", what, result.Account, result.Region)
	default:
		report.Message = fmt.Sprintf("deregistered %s in account %s, %s", what, result.Account, result.Region)
	}
	return report
}
