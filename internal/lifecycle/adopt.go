package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const verbAdopt = "adopt"

// AdoptRequest is what "anywhere adopt" was asked for.
type AdoptRequest struct {
	DryRun           bool
	DetailedExitcode bool
	NoRollback       bool
	LockTimeout      time.Duration
}

// AdoptResult is the "result" of adopt's document.
type AdoptResult struct {
	Cluster              string   `json:"cluster"`
	Region               string   `json:"region"`
	Account              string   `json:"account"`
	ManagedInstanceID    string   `json:"managedInstanceId"`
	ContainerInstanceARN string   `json:"containerInstanceArn"`
	ECSAgentVersion      string   `json:"ecsAgentVersion"`
	SSMAgentVersion      string   `json:"ssmAgentVersion"`
	Adopted              []string `json:"adopted"` // what the record says was here, made by somebody else; empty while it says so of nothing
	Verified             Verified `json:"verified"`
}

// adoption is one run of adopt. Its registration is one that was observed, not one that is asked for: what adopt and
// register keep as it should be, they keep by the same steps.
type adoption struct {
	*registration
	req  AdoptRequest
	read []string // units whose programs have read what is on the disk now
}

// Adopt brings a host that AWS's script or somebody's hands have registered under anywhere: it records what is there, folds
// the configuration and keeps systemd from restarting an agent that was refused. It restarts nothing and asks nobody.
func Adopt(ctx context.Context, d Deps, req AdoptRequest) (Report, error) {
	a := &adoption{registration: &registration{deps: d, engine: d.engine()}, req: req}
	if err := a.gates(ctx); err != nil {
		return a.report(ctx, engine.Outcome{}), err
	}
	if !req.DryRun {
		release, err := engine.Lock(ctx, d.Host, LockPath, d.RunID, req.LockTimeout)
		if err != nil {
			return a.report(ctx, engine.Outcome{}), err
		}
		defer release()
	}
	if err := a.settle(ctx); err != nil {
		return a.report(ctx, engine.Outcome{}), err
	}
	if req.DryRun {
		return a.dryRun(ctx)
	}
	outcome, err := a.engine.Apply(ctx, a.plan(), engine.Options{NoRollback: req.NoRollback})
	if err != nil {
		return a.report(ctx, outcome), err
	}
	if err := a.beyond(ctx, a.registerSteps()); err != nil {
		return a.report(ctx, outcome), err
	}
	report := a.report(ctx, outcome)
	report.Message = a.success(report)
	return report, nil
}

// gates are what must hold before the host is looked at. The rest of register's checks is about a host to be made, and this
// one works.
func (a *adoption) gates(ctx context.Context) error {
	a.checks = preflight.Run(ctx, preflight.All(), a.subject(),
		preflight.Options{Only: []string{"privileges", "os.systemd"}, Timeout: checkTime})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return preflight.Verdict(a.checks, false)
}

// settle finds out what there is to adopt, and refuses what is not whole.
func (a *adoption) settle(ctx context.Context) error {
	reader := a.deps.Host.Reader
	var err error
	if a.resumed, err = resumable(ctx, a.engine, verbAdopt); err != nil {
		return err
	}
	if _, err := readRecord(reader); err != nil {
		return err
	}
	if release, err := host.ReadOSRelease(reader.Files); err == nil { // only the unit's name hangs on it
		a.row, _, _ = platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	}
	if err := a.refuseSnap(ctx); err != nil {
		return err
	}
	identity, verdict, why, err := assess(ctx, reader)
	switch {
	case err != nil:
		return err
	case identity.Hidden != "":
		return failure.New(failure.NotAdoptable, "the SSM agent no longer sees this host's registration, which is whole in its store").
			WithEvidence("%s does not lead to %s", ssmagent.ManifestPath, identity.Hidden).
			WithRemedy("anywhere register mends the store, without a token; then the host is as anywhere would have made it")
	case !identity.Registered():
		return a.nothing(why)
	case verdict != ssmagent.Sound && verdict != ssmagent.Unknown:
		return refuseIdentity(identity, verdict, why)
	case verdict == ssmagent.Unknown:
		a.warnings = append(a.warnings, "nothing here shows that Systems Manager still accepts "+identity.InstanceID+": "+why)
	}
	a.node, a.region = identity.InstanceID, identity.Region
	if err := a.settleInstance(ctx, identity); err != nil {
		return err
	}
	a.pins = map[string]string{pinRegion: a.region, pinCluster: a.cluster, pinAccount: a.account}
	if err := a.settleRead(ctx); err != nil {
		return err
	}
	a.settled = true
	return nil
}

// nothing is the refusal of a host that is no managed node.
func (a *adoption) nothing(why string) error {
	f := failure.New(failure.NotAdoptable, "there is no registration on this host that could be adopted: %s", why).
		WithEvidence("%s", ssmagent.KeyPath)
	if ecsagent.Bound(a.deps.Host.Reader) {
		f.Message = "only half of a registration is on this host: the ECS agent has a container instance, and " + why
	}
	return f.WithRemedy("register it: anywhere register --token -, with a token made by anywhere activation create")
}

// settleInstance takes the place from the ECS agent's own word, and holds it to its state, its log and the record.
func (a *adoption) settleInstance(ctx context.Context, identity ssmagent.Identity) error {
	reader := a.deps.Host.Reader
	unit, err := reader.Units.Unit(ctx, a.ecsUnit())
	if err != nil {
		return err
	}
	half := func(seen string) *failure.Error {
		return failure.New(failure.NotAdoptable,
			"this host is managed node %s, and its ECS agent proves no container instance: %s", identity.InstanceID, seen).
			WithEvidence("%s is %s; %s", a.ecsUnit(), first(unit.Active, "not there"), ecsagent.LogPath).
			WithRemedy("anywhere register finishes the registration, without a token; anywhere status says what is wrong")
	}
	if !unit.Loaded {
		return half(a.ecsUnit() + " is no service here, and anywhere looks after an agent that is one")
	}
	meta, err := ecsagent.Introspect(ctx, reader)
	switch {
	case errors.Is(err, ecsagent.ErrClosed):
		return half("it has not registered since it was started")
	case err != nil:
		return half("it does not answer: " + why(err))
	}
	arn, err := ecsagent.ParseInstanceARN(meta.ContainerInstanceARN)
	if err != nil {
		return half("it has none yet")
	}
	a.account, a.cluster = arn.Account, first(arn.Cluster, ecsagent.ClusterName(meta.Cluster))
	config, err := ecsagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	ssm, err := ssmagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	a.profile = preflight.AgentProfile("", ssm, config, true)
	if err := a.settleIdentity(ctx, identity); err != nil {
		return err
	}
	if err := a.settleBinding(ctx, identity, config); err != nil {
		return err
	}
	switch seen, err := a.verified(ctx, reader); {
	case err != nil:
		return err
	case seen.State != engine.OK:
		return half(seen.Detail)
	}
	return nil
}

func (a *adoption) dryRun(ctx context.Context) (Report, error) {
	steps, err := a.engine.Observe(ctx, a.plan())
	if err != nil {
		return a.report(ctx, engine.Outcome{Steps: steps}), err
	}
	pending := 0
	for _, s := range steps {
		if s.Status == "planned" {
			pending++
		}
	}
	look := a.registerSteps()
	if pending > 0 { // what the configuration will be is not there to be looked at
		look = without(without(without(look, "ecs.config"), "ssm.start"), "ecs.start")
	}
	if err := a.beyond(ctx, look); err != nil {
		return a.report(ctx, engine.Outcome{Steps: steps}), err
	}
	report := a.report(ctx, engine.Outcome{Steps: steps})
	if pending == 0 {
		report.Message = "nothing to do: " + a.success(report)
		return report, nil
	}
	report.Message = fmt.Sprintf("%d of %d steps would be done; nothing was changed", pending, len(steps))
	if a.req.DetailedExitcode {
		report.Exit = failure.ExitPending
	}
	return report, nil
}

// report tells what is so now.
func (a *adoption) report(ctx context.Context, o engine.Outcome) Report {
	r := a.registration.report(ctx, o)
	is := r.Result.(RegisterResult)
	result := AdoptResult{
		Cluster: is.Cluster, Region: is.Region, Account: is.Account,
		ManagedInstanceID: is.ManagedInstanceID, ContainerInstanceARN: is.ContainerInstanceARN,
		ECSAgentVersion: is.ECSAgentVersion, SSMAgentVersion: is.SSMAgentVersion, Adopted: []string{}, Verified: is.Verified,
	}
	if record, err := readRecord(a.deps.Host.Reader); err == nil && record.Adopted != nil {
		result.Adopted = record.Adopted.list()
	}
	r.Result = result
	return r
}

// success is the sentence for a host that is under anywhere.
func (a *adoption) success(report Report) string {
	what := "adopted, and restarted nothing"
	if !report.Changed {
		what = "under anywhere already"
	}
	return fmt.Sprintf("%s: managed node %s is container instance %s in cluster %s, %s", what, a.node, a.arn.ID, a.cluster, a.region)
}

// registerSteps are those of register's that look without the network and that adopt leaves to it.
func (a *adoption) registerSteps() []engine.Step {
	return []engine.Step{
		a.ssmPackage(), a.ecsPackage(), a.ecsExec(), a.ecsConfig(), a.ssmStart(), a.ecsStart(),
	}
}

// beyond warns of what register would do here and adopt does not: a later register is then no surprise.
func (a *adoption) beyond(ctx context.Context, steps []engine.Step) error {
	for _, s := range steps {
		seen, err := s.Observe(ctx, a.deps.Host.Reader)
		if err != nil {
			return err
		}
		if seen.State != engine.OK {
			a.warnings = append(a.warnings, "left as it is; anywhere register would see to it: "+seen.Detail)
		}
	}
	return nil
}

// list is the record of an adoption, an item a line.
func (r *AdoptedRegistration) list() []string {
	all := []string{
		fmt.Sprintf("managed node %s in %s", r.ManagedInstanceID, r.Region),
		fmt.Sprintf("container instance %s", r.ContainerInstanceARN),
	}
	for _, name := range []string{ssmagent.Package, ecsagent.Package} {
		if version := r.Packages[name]; version != "" {
			all = append(all, fmt.Sprintf("package %s %s", name, version))
		}
	}
	for _, file := range slices.Sorted(slices.Values(r.Files)) {
		all = append(all, "file "+file)
	}
	return all
}
