package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

const verbDeregister = "deregister"

// Risks that a deregistration can ask for.
const (
	riskTasks   = "running-tasks"
	riskSession = "lose-ssm-session"
	riskLive    = "live-instance"
	riskPurge   = "purge-data"
)

// DeregisterRequest is what "anywhere deregister" was asked for.
type DeregisterRequest struct {
	KeepSSM      bool // the managed node stays, and the host's half of it
	RemoveSSM    bool // the managed node goes although anywhere has not registered it
	KeepPackages bool
	Purge        bool // the agents' data, logs and configuration, and anywhere's own
	LocalOnly    bool // no AWS
	RemoteOnly   bool // AWS only

	NoDrain      bool
	DrainTimeout time.Duration // 0 is no wait at all
	OnTimeout    string        // abort (or empty), leave or force
	Force        bool          // tasks may run
	StopTasks    bool          // containers of tasks that are left are ended and removed

	Instance string // --instance mi-…|ARN: another machine than this one; then nothing here is looked at
	Cluster  string // a name or an ARN; with Instance where to look, else it must be this host's
	Region   string // must be the host's

	AcceptRisk       []string
	DryRun           bool
	DetailedExitcode bool
	LockTimeout      time.Duration
	// Confirm asks the operator, once it is known what would be done and before anything is. Nil is a yes.
	Confirm func(ctx context.Context, what Farewell) error
}

// Farewell is what an operator is asked about.
type Farewell struct {
	Cluster  string   // to be typed; empty when nothing says which
	Node     string   // mi-…
	Instance string   // ARN
	Goes     []string // what would be removed
	Facts    []string // what else is known: a machine's name, address and last ping
}

// DeregisterResult is the "result" of deregister's document.
type DeregisterResult struct {
	Cluster              string   `json:"cluster"`              // that the host belonged to
	Region               string   `json:"region"`               // AWS Region
	Account              string   `json:"account"`              // AWS account; empty when nothing says which
	ManagedInstanceID    string   `json:"managedInstanceId"`    // mi-…
	ContainerInstanceARN string   `json:"containerInstanceArn"` // the host's own instance; empty when it had none
	Removed              []string `json:"removed"`              // what is gone now, of all that the operation set out to remove
	Kept                 []string `json:"kept"`                 // what stays on purpose, and why
	Leftovers            []string `json:"leftovers"`            // containers of tasks that are still there
	Owed                 []string `json:"owed"`                 // AWS calls still to be made, as command lines of the aws tool
	Verified             Verified `json:"verified"`             // who vouches that it is gone: none, local or aws
}

// Deregister takes this host out of its cluster and of Systems Manager, and removes from it what anywhere has put there.
// With req.Instance it does so for another machine, on AWS's side alone.
func Deregister(ctx context.Context, d Deps, req DeregisterRequest) (Report, error) {
	if req.Instance != "" {
		report, err := Report{Result: emptyFarewell()}, req.Validate()
		if err == nil {
			report, err = deregisterAway(ctx, d, req)
		}
		return report, err
	}
	f := &farewell{deps: d, req: req, engine: d.engine(), gone: map[string]bool{}}
	if err := req.Validate(); err != nil {
		return f.report(ctx, engine.Outcome{}), err
	}
	if err := f.gates(ctx); err != nil {
		return f.report(ctx, engine.Outcome{}), err
	}
	if !req.DryRun {
		release, err := engine.Lock(ctx, d.Host, LockPath, d.RunID, req.LockTimeout)
		if err != nil {
			return f.report(ctx, engine.Outcome{}), err
		}
		defer release()
	}
	if err := f.settle(ctx); err != nil {
		return f.report(ctx, engine.Outcome{}), err
	}
	if req.DryRun {
		return f.dryRun(ctx)
	}
	if err := f.clearWay(); err != nil {
		return f.report(ctx, engine.Outcome{}), err
	}
	outcome, err := f.engine.Apply(ctx, f.plan(), engine.Options{})
	f.ended = err == nil
	report := f.report(ctx, outcome)
	if failure.Is(err, failure.DrainTimeout) { // the drain has said what the instance is now; nothing else was done
		report.Changed, report.RolledBack, report.Kept = f.away.drain.changed(), false, nil
		return report, err
	}
	if err != nil {
		return report, f.explain(err, outcome)
	}
	if err := f.confirmGone(ctx, &report); err != nil {
		return report, err
	}
	f.purgeOwn(&report)
	report.Message = f.success(report)
	return report, nil
}

// emptyFarewell is the result before anything is known.
func emptyFarewell() DeregisterResult {
	return DeregisterResult{Removed: []string{}, Kept: []string{}, Leftovers: []string{}, Owed: []string{}, Verified: VerifiedNone}
}

// Validate refuses what contradicts itself, before the host is looked at.
func (req DeregisterRequest) Validate() error {
	for _, pair := range []struct {
		a, b   bool
		an, bn string
	}{
		{req.KeepSSM, req.RemoveSSM, "--keep-ssm", "--remove-ssm"},
		{req.LocalOnly, req.RemoteOnly, "--local-only", "--remote-only"},
		{req.LocalOnly, req.NoDrain, "--local-only", "--no-drain"},
		{req.RemoteOnly, req.Purge, "--remote-only", "--purge"},
		{req.RemoteOnly, req.KeepPackages, "--remote-only", "--keep-packages"},
		{req.RemoteOnly, req.StopTasks, "--remote-only", "--stop-tasks"},
		{req.Purge, req.KeepPackages, "--purge", "--keep-packages"},
	} {
		if pair.a && pair.b {
			return failure.New(failure.Usage, "%s and %s exclude each other", pair.an, pair.bn)
		}
	}
	if err := (DrainRequest{OnTimeout: req.OnTimeout, AcceptRisk: req.AcceptRisk, DryRun: req.DryRun}).Check(); err != nil {
		return err
	}
	if req.Purge && !req.DryRun && !slices.Contains(req.AcceptRisk, riskPurge) {
		return failure.New(failure.Usage, "--purge removes the agents' data, logs and configuration for good, and needs --accept-risk %s", riskPurge).
			WithRemedy("add --accept-risk %s, or leave --purge out", riskPurge)
	}
	return nil
}

// gates are what must hold before the host is looked at. Nothing more: this is a command of the bad day.
func (f *farewell) gates(ctx context.Context) error {
	f.checks = preflight.Run(ctx, preflight.All(), preflight.Subject{Host: f.deps.Host.Reader, Mutating: true, Getenv: f.deps.Getenv},
		preflight.Options{Only: []string{"privileges"}, Timeout: checkTime})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return preflight.Verdict(f.checks, false)
}

// dryRun observes with the steps that would apply.
func (f *farewell) dryRun(ctx context.Context) (Report, error) {
	if f.blind { // it looks as if the journal were moved aside already
		f.engine.Dir += "/none"
	}
	steps, err := f.engine.Observe(ctx, f.plan())
	f.ended = err == nil
	report := f.report(ctx, engine.Outcome{Steps: steps})
	if err != nil {
		return report, err
	}
	pending := 0
	for _, s := range steps {
		if s.Status == "planned" {
			pending++
		}
	}
	if pending == 0 {
		report.Message = "nothing to do: " + f.success(report)
		return report, nil
	}
	if err := f.ready(ctx); err != nil {
		return report, err
	}
	report.Message = fmt.Sprintf("%d of %d steps would be done; nothing was changed", pending, len(steps))
	if f.req.DetailedExitcode {
		report.Exit = failure.ExitPending
	}
	return report, nil
}

// report tells what is so now.
func (f *farewell) report(ctx context.Context, o engine.Outcome) Report {
	result := emptyFarewell()
	result.Cluster, result.Region, result.Account = f.cluster, f.region, f.account
	result.ManagedInstanceID, result.ContainerInstanceARN = f.node, f.instance
	report := Report{
		Changed: o.Changed, Steps: o.Steps, Checks: f.checks, RolledBack: o.RolledBack, Kept: o.Kept,
		Warnings: slices.Clone(f.warnings),
	}
	if f.away.drain != nil {
		report.Warnings = append(report.Warnings, f.away.drain.warnings...)
	}
	if f.settled {
		ctx = context.WithoutCancel(ctx)
		reader := f.deps.Host.Reader
		for _, t := range f.goes() {
			if !f.req.DryRun && f.isGone(reader, t) {
				result.Removed = append(result.Removed, t.String())
			}
		}
		if f.ended {
			result.Kept, result.Owed = append(result.Kept, f.stays(reader)...), append(result.Owed, f.owed()...)
		}
		containers, why := f.containers(ctx)
		for _, c := range containers {
			result.Leftovers = append(result.Leftovers, leftover(c))
		}
		switch {
		case why != "":
			report.Warnings = append(report.Warnings, "containers of tasks cannot be listed: "+why)
		case len(containers) > 0 && !f.req.DryRun && !f.req.RemoteOnly:
			report.Warnings = append(report.Warnings, fmt.Sprintf("%d containers of tasks are still here, and no agent looks after them; "+
				"--stop-tasks removes them, or: docker rm -f $(docker ps -aq --filter label=%s)", len(containers), taskLabel))
		}
	}
	report.Result = result
	return report
}

// success is the sentence for a host that is as it was wanted.
func (f *farewell) success(report Report) string {
	result := report.Result.(DeregisterResult)
	what := first(f.node, "this host")
	switch {
	case !report.Changed && len(result.Removed) == 0 && f.req.RemoteOnly:
		return "not registered on AWS's side: nothing of " + what + " is left there"
	case !report.Changed && f.ssmStays():
		return "not registered with ECS: nothing to remove; managed node " + f.node + " stays"
	case !report.Changed:
		return "not registered: nothing of a registration is left on this host"
	case f.node == "" && f.instance == "":
		return "cleaned this host, which was not registered"
	case f.req.LocalOnly:
		return fmt.Sprintf("cleaned this host, which was %s; AWS was not told", what)
	case f.ssmStays():
		return fmt.Sprintf("deregistered from cluster %s, %s; managed node %s stays", first(f.cluster, "unknown"), f.region, f.node)
	}
	return fmt.Sprintf("deregistered %s from cluster %s and Systems Manager, %s", what, first(f.cluster, "unknown"), first(f.region, "no Region"))
}

// explain adds to a failure how to go on after what was kept.
func (f *farewell) explain(err error, o engine.Outcome) error {
	if len(o.Kept) == 0 {
		return err
	}
	out := *failure.Of(err)
	out.Err = err
	again := "run the same command again; it goes on where this one stopped"
	if !f.req.LocalOnly && !f.req.RemoteOnly && !decidedHere(out.Code) {
		again += "; or finish this host without AWS, with --local-only"
	}
	out.Remedy = advice(&out) + again
	return &out
}

// decidedHere reports whether a failure is the host's, and not AWS's or of the way there.
func decidedHere(code failure.Code) bool {
	exit := failure.Catalogue[code].Exit
	return exit != failure.ExitRefusedByAWS && exit != failure.ExitNetwork
}

// accepts reports whether the operator accepted a named risk.
func (f *farewell) accepts(risk string) bool { return slices.Contains(f.req.AcceptRisk, risk) }

// purgeOwn removes what anywhere keeps for itself, after everything else has gone well. Its log stays, and copies of what
// was somebody's.
func (f *farewell) purgeOwn(report *Report) {
	if !f.req.Purge {
		return
	}
	result := report.Result.(DeregisterResult)
	paths, copies := f.ownData()
	for _, path := range paths {
		if _, err := f.deps.Host.Files.Lstat(path); missing(err) {
			continue
		}
		if err := f.deps.Host.Disk.RemoveAll(path); err != nil {
			report.Warnings = append(report.Warnings, failure.Of(err).Message)
			continue
		}
		result.Removed, report.Changed = append(result.Removed, path), true
	}
	for _, path := range copies {
		result.Kept = append(result.Kept, path+" (a copy of somebody's credentials, which the SSM agent was about to write into)")
	}
	report.Result = result
}

// thing is one thing that a deregistration removes.
type thing struct {
	Kind string `json:"kind"` // instance, node, package, file, tree or containers
	Name string `json:"name"`
}

// Kinds of things.
const (
	thingInstance = "container instance"
	thingNode     = "managed node"
	thingPackage  = "package"
	thingPath     = "path"
)

func (t thing) String() string {
	if t.Kind == thingPath {
		return t.Name
	}
	return t.Kind + " " + t.Name
}

// isGone reports whether a thing that was to go is gone.
func (f *farewell) isGone(r host.Reader, t thing) bool {
	switch t.Kind {
	case thingInstance, thingNode:
		return f.gone[t.Name]
	case thingPackage:
		p, err := r.Packages.Package(t.Name)
		return err == nil && !p.Installed && !p.Partial && !p.Residual
	}
	_, err := r.Files.Lstat(t.Name)
	return missing(err)
}
