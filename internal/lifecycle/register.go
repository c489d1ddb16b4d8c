package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// RegisterRequest is what "anywhere register" was asked for. Empty fields mean "as it is, else the default".
type RegisterRequest struct {
	// Activation, with its account, Region and cluster when it came as a join token. Nil when none was given: then the
	// host's own registration must be sound.
	Activation *control.Token
	Name       string // --name of the managed node, and Role, when an activation is made; not with one that is given
	Role       string // --iam-role; "" is DefaultRole
	Region     string // --region; must agree with the token's
	Cluster    string // --cluster, a name or an ARN; must agree with the token's

	ECSAgentVersion string // like 1.105.1 or 1.105.1-1; "" keeps an installed version, else takes the latest
	SSMAgentVersion string
	DockerSource    string          // where a missing Docker comes from: auto (or empty), docker, distro or none
	Tags            []Pair          // ECS_CONTAINER_INSTANCE_TAGS
	Attributes      []Pair          // ECS_INSTANCE_ATTRIBUTES, of the first registration only
	Settings        []Pair          // --ecs-config KEY=VALUE
	SSMProfile      string          // the credentials profile that SSM Agent keeps; "" is the one that it is told to keep
	EnableGPU       bool            // tasks may use the host's GPUs
	Proxy           preflight.Proxy // that everybody is told of; the zero value leaves them as they are

	IPMode        string      // --ip-mode: auto (or empty), ipv4 or ipv6
	Authorities   Authorities // --ca-file: certificate authorities that everybody here is to trust
	Artifacts     string      // --artifacts: URL or absolute folder
	Keyring       string      // --keyring: file with further public keys
	AgentEndpoint string      // --agent-endpoint: where the agents find AWS; URL, or NAME=URL,… with names ecs, ssm, ssmmessages, ec2messages
	EndpointURL   string      // --endpoint-url or AWS_ENDPOINT_URL…: only to refuse one without the other

	NoExec      bool
	NoStart     bool
	Ignore      []string      // ids of checks whose failure is a warning
	WaitTimeout time.Duration // for the agents to connect
	AcceptRisk  []string

	DryRun           bool
	DetailedExitcode bool
	NoRollback       bool
	LockTimeout      time.Duration
}

// DefaultRole is the hosts' IAM role, as AWS's documentation names it.
const DefaultRole = "ecsAnywhereRole"

// Pair is one KEY=VALUE, in the order it was given.
type Pair struct{ Key, Value string }

// RegisterResult is the "result" of register's document.
type RegisterResult struct {
	Cluster              string   `json:"cluster"`
	Region               string   `json:"region"`
	Account              string   `json:"account"`
	ManagedInstanceID    string   `json:"managedInstanceId"`
	ContainerInstanceARN string   `json:"containerInstanceArn"`
	ECSAgentVersion      string   `json:"ecsAgentVersion"`
	SSMAgentVersion      string   `json:"ssmAgentVersion"`
	DockerVersion        string   `json:"dockerVersion"`
	Verified             Verified `json:"verified"`
	RebootNeeded         bool     `json:"rebootNeeded"`
	Owed                 []string `json:"owed"` // AWS calls still to be made, as command lines of the aws tool
}

// Verified says who vouches for a registration.
type Verified string

// Levels of proof.
const (
	VerifiedNone  Verified = "none"
	VerifiedLocal Verified = "local" // the ECS agent itself reports its instance in the wanted cluster, account and Region
	VerifiedAWS   Verified = "aws"   // and ECS and SSM agree
)

// Register makes this host a verified external instance, doing only what is missing.
func Register(ctx context.Context, d Deps, req RegisterRequest) (Report, error) {
	r := &registration{deps: d, req: req, engine: d.engine()}
	if err := req.Check(); err != nil {
		return r.report(ctx, engine.Outcome{}), err
	}
	if err := r.gates(ctx); err != nil {
		return r.report(ctx, engine.Outcome{}), err
	}
	if err := r.settleSource(); err != nil {
		return r.report(ctx, engine.Outcome{}), err
	}
	if !req.DryRun {
		release, err := engine.Lock(ctx, d.Host, LockPath, d.RunID, req.LockTimeout)
		if err != nil {
			return r.report(ctx, engine.Outcome{}), err
		}
		defer release()
	}
	if err := r.refuseSnap(ctx); err != nil {
		return r.report(ctx, engine.Outcome{}), err
	}
	if err := r.settle(ctx); err != nil {
		return r.report(ctx, engine.Outcome{}), err
	}
	if err := r.settleActivation(ctx); err != nil {
		return r.report(ctx, engine.Outcome{}), err
	}
	if err := r.settleImage(); err != nil {
		return r.report(ctx, engine.Outcome{}), err
	}
	if req.DryRun {
		return r.dryRun(ctx)
	}
	r.sweep(ctx)
	outcome, err := r.engine.Apply(ctx, r.plan(), engine.Options{NoRollback: req.NoRollback})
	r.dropActivation(ctx)
	report := r.report(ctx, outcome)
	if err != nil {
		return report, r.explain(err, outcome)
	}
	// What Docker was installed from is of no use any more. That it stays is no failure.
	_ = d.Host.Disk.RemoveAll(AptDir)
	if err := r.confirm(ctx, &report); err != nil {
		return report, err
	}
	report.Message = r.success(report)
	return report, nil
}

// dryRun observes with the same steps that would apply, and runs the checks that would stop it.
func (r *registration) dryRun(ctx context.Context) (Report, error) {
	steps, err := r.engine.Observe(ctx, r.plan())
	report := r.report(ctx, engine.Outcome{Steps: steps})
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
		if err := r.confirm(ctx, &report); err != nil {
			return report, err
		}
		report.Message = "nothing to do: " + r.success(report)
		return report, nil
	}
	err = r.check(ctx)
	report.Checks, report.Warnings = r.checks, append(slices.Clone(r.warnings), r.flaws()...)
	if err != nil {
		return report, err
	}
	if r.remote.connected() != nil && !r.req.NoStart {
		report.Steps = append(report.Steps, engine.StepReport{ID: confirmStep, Title: confirmTitle, Status: "planned"})
	}
	report.Message = fmt.Sprintf("%d of %d steps would be done; nothing was changed", pending, len(steps))
	if r.req.DetailedExitcode {
		report.Exit = failure.ExitPending
	}
	return report, nil
}

// report tells what is so now, from the host and not from what was meant to be.
func (r *registration) report(ctx context.Context, o engine.Outcome) Report {
	if ctx.Err() != nil { // the report of an interrupted run is told all the same
		ctx = context.WithoutCancel(ctx)
	}
	reader := r.deps.Host.Reader
	result := RegisterResult{Cluster: r.cluster, Region: r.region, Account: r.account, Verified: VerifiedNone}
	if identity, err := ssmagent.ReadIdentity(reader); err == nil && identity.Registered() {
		result.ManagedInstanceID, r.node = identity.InstanceID, identity.InstanceID
	}
	if p, err := reader.Packages.Package(ecsagent.Package); err == nil && p.Installed {
		result.ECSAgentVersion = p.Version
	}
	if p, err := reader.Packages.Package(ssmagent.Package); err == nil && p.Installed {
		result.SSMAgentVersion = p.Version
	}
	if info, err := docker.Inspect(ctx, reader); err == nil {
		result.DockerVersion = info.Version
	}
	if r.settled && result.ManagedInstanceID != "" { // without its managed node the instance lives as long as its credentials
		if seen, err := r.verified(ctx, reader); err == nil && (seen.State == engine.OK || r.held(o)) {
			result.Verified, result.ContainerInstanceARN, result.Account = VerifiedLocal, r.arnText, r.arn.Account
		}
	}
	result.Owed = append(r.owedInstance(), r.owed...)
	report := Report{
		Changed: o.Changed, Steps: o.Steps, Warnings: append(slices.Clone(r.warnings), r.flaws()...), Checks: r.checks, Result: result,
		RolledBack: o.RolledBack, Kept: o.Kept,
	}
	return report
}

// held reports whether the verification held in this run, a moment ago: an agent on a busy host that does not answer once more
// was started all the same.
func (r *registration) held(o engine.Outcome) bool {
	return r.arnText != "" && slices.ContainsFunc(o.Steps, func(s engine.StepReport) bool {
		return s.ID == verifyStepID && (s.Status == "done" || s.Status == "unchanged")
	})
}

// flaws warns of what is known of the ECS agent's version that is on the host, or will be.
func (r *registration) flaws() []string {
	version := first(r.pins[pinECS], explicit(r.req.ECSAgentVersion))
	if installed, err := r.deps.Host.Packages.Package(ecsagent.Package); version == "" && err == nil && installed.Installed {
		if _, bad := ecsagent.KnownBad(installed.Version); !bad { // one that is bad is replaced
			version = installed.Version
		}
	}
	var lines []string
	for _, f := range ecsagent.FlawsOf(version) {
		lines = append(lines, fmt.Sprintf("ECS agent %s: %s (%s)", version, f.Reason, f.Source))
	}
	return lines
}

// success is the sentence for a host that is as it was wanted.
func (r *registration) success(report Report) string {
	result := report.Result.(RegisterResult)
	switch {
	case result.Verified == VerifiedNone && result.ManagedInstanceID != "":
		return fmt.Sprintf("managed node %s is set up for cluster %s in %s; the agents were not started", result.ManagedInstanceID, result.Cluster, result.Region)
	case result.Verified == VerifiedNone:
		return fmt.Sprintf("this host is set up for cluster %s in %s; the agents were not started", result.Cluster, result.Region)
	}
	what := "registered"
	if !report.Changed {
		what = "already registered"
	}
	return fmt.Sprintf("%s: managed node %s is container instance %s in cluster %s, %s",
		what, result.ManagedInstanceID, r.arn.ID, result.Cluster, result.Region)
}

// explain adds to a failure what only the verb knows: how to go on after what was kept.
func (r *registration) explain(err error, o engine.Outcome) error {
	if len(o.Kept) == 0 {
		return err
	}
	f := failure.Of(err)
	again := "run the same command again; it goes on where this one stopped"
	identity, readErr := ssmagent.ReadIdentity(r.deps.Host.Reader)
	registered := readErr == nil && identity.Registered()
	if registered {
		again = "run the same command again, no token needed; it goes on where this one stopped"
	}
	out := *f
	out.Err = err
	advice := f.Advice()
	switch {
	case f.Code == failure.ClusterNotFound && registered:
		out.Remedy = "create the cluster, then " + again +
			"; or name another: anywhere operation abandon, then anywhere register --cluster NAME"
	case advice == "" || strings.Contains(advice, "same command again"):
		out.Remedy = again
	default:
		out.Remedy = strings.TrimSuffix(advice, ", then run the command again") + "; then " + again
	}
	return &out
}
