package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

func newDrain(a *app) *cobra.Command {
	req := &lifecycle.DrainRequest{Timeout: lifecycle.DefaultDrain, OnTimeout: lifecycle.OnTimeouts[0]}
	cmd := &cobra.Command{
		Use:   "drain [flags]",
		Short: "Move the tasks of this host to others, and keep new ones away",
		Long: long(`
Makes this host's container instance DRAINING, so that ECS places nothing on it and moves the tasks of services to other
instances, and waits until no task is left. A task counts until it has stopped, also while it is stopping. What will not
leave is named before the wait begins: tasks of no service, which ECS leaves alone, and services that may neither stop a
task first nor start another one (minimumHealthyPercent, maximumPercent, host ports, no other instance).

When tasks are left at the end of --drain-timeout, --on-timeout says what happens: abort makes the instance ACTIVE
again, leave leaves it DRAINING, both with exit status 12; force stops the tasks that are left. After Ctrl-C, SIGTERM
and --timeout it is ACTIVE again with abort, else DRAINING; what was DRAINING before stays so. The message says which.
After a kill it stays DRAINING: the same command goes on, and "anywhere activate" takes it back. Nothing on the host is
changed, and no container is touched.

The operator's credentials (the environment, --profile, single sign-on) need ecs:UpdateContainerInstancesState,
ecs:DescribeContainerInstances, ecs:ListTasks, ecs:DescribeTasks and, to foresee what stays, ecs:DescribeServices,
ecs:ListContainerInstances and ecs:DescribeTaskDefinition; force needs ecs:StopTask. Without an operator's the host's
own role drains. That role cannot list tasks: the ECS agent on this host counts them then, and does not know which
belong to a service.`),
		Example: `  sudo anywhere drain
  sudo anywhere drain --drain-timeout 1h --on-timeout leave --profile ops
  sudo anywhere drain --on-timeout force --accept-risk running-tasks
  sudo anywhere drain --dry-run -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runDrain(cmd, *req, "drain", lifecycle.Drain)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(durationValue{&req.Timeout}, "drain-timeout", "how long to wait until no task is left; 0 does not wait")
	f.Var(choiceValue{&req.OnTimeout, lifecycle.OnTimeouts}, "on-timeout",
		"when tasks are left then: make the instance ACTIVE again, leave it DRAINING, or stop the tasks\n"+
			"(--accept-risk running-tasks)")
	notInConfig(f, "on-timeout", "what becomes of running tasks is said each time")
	drainDry(f, req)
	return cmd
}

func newActivate(a *app) *cobra.Command {
	req := &lifecycle.DrainRequest{}
	cmd := &cobra.Command{
		Use:   "activate [flags]",
		Short: "Make this host's container instance ACTIVE again, after a drain",
		Long: long(`
Makes this host's container instance ACTIVE, so that ECS places tasks on it again. One that is ACTIVE is left alone.

The operator's credentials need ecs:UpdateContainerInstancesState and ecs:DescribeContainerInstances. Without an
operator's the host's own role does it, which cannot see what the instance was before.`),
		Example: `  sudo anywhere activate
  sudo anywhere activate --profile ops -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runDrain(cmd, *req, "activate", lifecycle.Activate)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	drainDry(f, req)
	return cmd
}

func drainDry(f *pflag.FlagSet, req *lifecycle.DrainRequest) {
	f.BoolVarP(&req.DryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVar(&req.DetailedExitcode, "detailed-exitcode", false, "with --dry-run: exit 11 when something would be done")
}

func (a *app) runDrain(
	cmd *cobra.Command, req lifecycle.DrainRequest, name string,
	do func(context.Context, lifecycle.Deps, lifecycle.DrainRequest) (lifecycle.Report, error),
) error {
	if req.DetailedExitcode && !req.DryRun {
		return usage(cmd, "--detailed-exitcode needs --dry-run")
	}
	req.AcceptRisk, req.LockTimeout = a.global.acceptRisk, a.global.lockTimeout
	if err := req.Check(); err != nil { // before there is a log
		return err
	}
	if a.origins["region"].kind == byFlag {
		req.Region = a.global.region
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		if result, ok := rep.Result.(lifecycle.DrainResult); ok && err == nil && !a.global.quiet {
			report.Drain(w, s, rep, result, req.DryRun)
		}
	}
	parting := "The container instance may be DRAINING: run the same command again, or take it back with: anywhere activate"
	a.parting.Store(&parting)
	begin := name + ": looking at this host"
	if req.DryRun {
		begin += "; nothing will be changed"
	}
	return a.do(cmd, verb{
		begin: begin, mutating: true, dryRun: req.DryRun, tells: true,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) { return do(ctx, deps, req) },
	})
}
