package cli

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// riskTasks is the risk that running tasks come to harm.
const riskTasks = "running-tasks"

type moveOptions struct {
	cluster          string
	noDrain, force   bool
	drainTimeout     time.Duration
	onTimeout        string
	waitTimeout      time.Duration
	dryRun, detailed bool
}

func newMove(a *app) *cobra.Command {
	o := &moveOptions{drainTimeout: lifecycle.DefaultDrain, onTimeout: lifecycle.OnTimeouts[0], waitTimeout: 5 * time.Minute}
	cmd := &cobra.Command{
		Use:   "move --cluster NEW [flags]",
		Short: "Move this host to another cluster of its account and Region",
		Long: long(`
Brings this host from the ECS cluster that it is in to another one. First it is proven that the other one is there
and ACTIVE. Then the container instance is drained, the ECS agent stopped and configured for the new cluster, the old
container instance deregistered, and the agent started: it registers as a new container instance, whose ARN is new.
The managed node of Systems Manager, mi-…, stays what it is. Custom attributes and tags go along; those that were put
on the instance with the API only with an operator's credentials.

A failure before the old container instance is deregistered is undone: the host is as it was. After it the host goes
back to its old cluster by itself, as a new container instance (exit status 7, and "returned" in the result). A run
that was killed is finished by the same command; "anywhere move --cluster OLD" goes back instead.

An operator's credentials are needed to prove the cluster (ecs:DescribeClusters), else --accept-risk unproven-target;
and to read and carry over what the API has put there (ecs:DescribeContainerInstances, ecs:PutAttributes,
ecs:TagResource). Draining and deregistering is done with the managed node's own role where there are none. Another
Region or account is no move: deregister the host and register it anew.`),
		Example: `  sudo anywhere move --cluster shop --profile ops --yes
  sudo anywhere move --cluster shop --yes --drain-timeout 30m -o json
  sudo anywhere move --cluster shop --yes --no-drain --force --accept-risk running-tasks,unproven-target
  sudo anywhere move --cluster shop --dry-run`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runMove(cmd, o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.cluster, "cluster", "", "the ECS cluster to go to, by name or ARN")
	notInConfig(f, "cluster", "where a host goes is said each time")
	f.Var(durationValue{&o.drainTimeout}, "drain-timeout", "how long tasks are given to leave")
	f.Var(choiceValue{&o.onTimeout, lifecycle.OnTimeouts}, "on-timeout",
		"when tasks are left then: abort and leave end the move, and abort makes the instance ACTIVE again; force stops them")
	notInConfig(f, "on-timeout", "what becomes of running tasks is said each time")
	f.BoolVar(&o.noDrain, "no-drain", false, "do not wait for tasks to leave")
	f.BoolVar(&o.force, "force", false, "move although tasks run here: their containers run on, and no agent looks after them")
	notInConfig(f, "no-drain", "what becomes of running tasks is said each time")
	notInConfig(f, "force", "what becomes of running tasks is said each time")
	f.Var(durationValue{&o.waitTimeout}, "wait-timeout", "how long to wait for the agent to connect")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "with --dry-run: exit 11 when something would be done")
	return cmd
}

func (a *app) runMove(cmd *cobra.Command, o *moveOptions) error {
	switch {
	case o.cluster == "":
		return usage(cmd, "--cluster is missing: the cluster to go to")
	case o.detailed && !o.dryRun:
		return usage(cmd, "--detailed-exitcode needs --dry-run")
	case o.force && !slices.Contains(a.global.acceptRisk, riskTasks):
		return usage(cmd, "--force leaves running tasks without an agent, and needs --accept-risk %s", riskTasks)
	case o.onTimeout == lifecycle.OnTimeoutForce && !slices.Contains(a.global.acceptRisk, riskTasks):
		return usage(cmd, "--on-timeout force stops tasks that run, and needs --accept-risk %s", riskTasks)
	case !o.dryRun && !a.global.yes && !a.env.Streams.interactive():
		return usage(cmd, "--yes is missing: without a terminal nobody can be asked whether the host is to move")
	}
	for _, flag := range []string{"drain-timeout", "on-timeout"} {
		if o.noDrain && a.origins[flag].kind == byFlag {
			return usage(cmd, "--no-drain and --%s exclude each other", flag)
		}
	}
	req := lifecycle.MoveRequest{
		Cluster: o.cluster, NoDrain: o.noDrain, DrainTimeout: o.drainTimeout, OnTimeout: o.onTimeout, Force: o.force,
		WaitTimeout: o.waitTimeout, AcceptRisk: a.global.acceptRisk,
		DryRun: o.dryRun, DetailedExitcode: o.detailed, LockTimeout: a.global.lockTimeout,
	}
	if a.origins["region"].kind == byFlag {
		req.Region = a.global.region
	}
	if !a.global.yes && !o.dryRun {
		req.Confirm = func(ctx context.Context, steps []engine.StepReport) error {
			return a.approve(ctx, steps, "Move this host to cluster "+o.cluster+"?")
		}
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		if err != nil {
			failedChecks(cleaning{a.err, a.redactor}, a.style(a.env.Streams.ErrTTY), rep.Checks)
			return
		}
		if result, ok := rep.Result.(lifecycle.MoveResult); ok && !a.global.quiet {
			report.Move(w, s, rep, result, o.dryRun)
		}
	}
	begin := "move: looking at this host"
	if o.dryRun {
		begin = "move: looking at this host; nothing will be changed"
	}
	return a.do(cmd, verb{
		begin: begin, mutating: true, dryRun: o.dryRun,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
			return lifecycle.Move(ctx, deps, req)
		},
	})
}
