package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

func newDeregister(a *app) *cobra.Command {
	req := &lifecycle.DeregisterRequest{DrainTimeout: lifecycle.DefaultDrain, OnTimeout: lifecycle.OnTimeouts[0]}
	cmd := &cobra.Command{
		Use:   "deregister [flags]",
		Short: "Take this host out of its cluster, and remove what anywhere put on it",
		Long: long(`
Drains the container instance, deregisters it from ECS, deregisters the managed node if anywhere has registered it,
stops the agents and keeps them from starting again, and removes from the host what anywhere has put there and what
would hinder a new registration. Then it waits until ECS and Systems Manager agree that the host is gone. Docker, task
containers that still run, and everything of somebody else's stay. docs/deregister.md has what goes, and what stays.

What it has done it remembers: interrupted at any point, the same command finishes it. What is gone already, on one side
or both, is no failure; on a host that is not registered it changes nothing. Its point of no return is the first
deregistration in AWS. Ctrl-C before it undoes what was done.

Systems Manager takes an operator's credentials (the environment, --profile, single sign-on). The half in ECS can do
with the node's own. Without an operator's: --keep-ssm, or --local-only, which needs no AWS at all and lists the calls
that are still to be made.

With --instance it gives up another machine, one that is gone, on AWS's side alone: from a workstation, without root.`),
		Example: `  sudo anywhere deregister --dry-run
  sudo anywhere deregister --yes --profile ops
  sudo anywhere deregister --yes --keep-ssm
  sudo anywhere deregister --yes --local-only --force --accept-risk running-tasks
  anywhere deregister --yes --instance mi-0123456789abcdef0 --cluster shop --profile ops`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDeregister(cmd, *req) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&req.KeepSSM, "keep-ssm", false, "keep the managed node, and the SSM agent as it is")
	f.BoolVar(&req.RemoveSSM, "remove-ssm", false, "deregister the managed node although anywhere has not registered it")
	f.BoolVar(&req.KeepPackages, "keep-packages", false, "keep the agents' packages, stopped and disabled")
	f.BoolVar(&req.Purge, "purge", false,
		"remove the agents' data, logs and configuration too, and anywhere's own (--accept-risk purge-data)")
	f.BoolVar(&req.LocalOnly, "local-only", false, "clean this host without AWS, and list the calls that are owed")
	f.BoolVar(&req.RemoteOnly, "remote-only", false, "do AWS's side only, and leave this host as it is")
	f.BoolVar(&req.NoDrain, "no-drain", false, "do not drain first")
	f.Var(durationValue{&req.DrainTimeout}, "drain-timeout", "how long to wait until no task is left")
	f.Var(choiceValue{&req.OnTimeout, lifecycle.OnTimeouts}, "on-timeout",
		"when tasks are left then: make the instance ACTIVE again and stop here, leave it DRAINING and stop here, or stop\n"+
			"the tasks (--accept-risk running-tasks)")
	f.BoolVar(&req.Force, "force", false, "deregister although tasks run; they go on unattended (--accept-risk running-tasks)")
	f.BoolVar(&req.StopTasks, "stop-tasks", false, "end and remove containers of tasks that are left; only those with ECS's own label")
	f.StringVar(&req.Instance, "instance", "", "`mi-…|ARN` of another machine, one that is gone")
	f.StringVar(&req.Cluster, "cluster", "", "with --instance: where to look, by name or ARN; else it must be this host's")
	f.BoolVarP(&req.DryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVar(&req.DetailedExitcode, "detailed-exitcode", false, "with --dry-run: exit 11 when something would be done")
	for _, name := range []string{
		"keep-ssm", "remove-ssm", "keep-packages", "purge", "local-only", "remote-only", "no-drain", "on-timeout", "force", "stop-tasks", "instance",
	} {
		notInConfig(f, name, "what is given up is said each time")
	}
	return cmd
}

func (a *app) runDeregister(cmd *cobra.Command, req lifecycle.DeregisterRequest) error {
	if req.DetailedExitcode && !req.DryRun {
		return usage(cmd, "--detailed-exitcode needs --dry-run")
	}
	for _, flag := range []string{"drain-timeout", "on-timeout"} {
		if req.NoDrain && a.origins[flag].kind == byFlag {
			return usage(cmd, "--no-drain and --%s exclude each other", flag)
		}
		if req.Instance != "" && a.origins[flag].kind == byFlag {
			return usage(cmd, "--instance and --%s exclude each other: a machine that is gone is not drained", flag)
		}
		if req.LocalOnly && a.origins[flag].kind == byFlag {
			return usage(cmd, "--local-only and --%s exclude each other: without AWS nothing is drained", flag)
		}
	}
	req.AcceptRisk, req.LockTimeout = a.global.acceptRisk, a.global.lockTimeout
	if a.origins["region"].kind == byFlag {
		req.Region = a.global.region
	}
	if err := req.Validate(); err != nil {
		return err
	}
	if !req.DryRun && !a.saidYes() {
		if !a.env.Streams.interactive() || a.global.output == outputJSON {
			return usage(cmd, "--yes is missing: without a terminal nobody can be asked, and this cannot be taken back "+
				"(neither ANYWHERE_YES nor the configuration file answers it)")
		}
		req.Confirm = a.confirmFarewell
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		if result, ok := rep.Result.(lifecycle.DeregisterResult); ok && err == nil && !a.global.quiet {
			report.Farewell(w, s, rep, result, req.DryRun)
		}
	}
	begin := "deregister: looking at this host"
	switch {
	case req.Instance != "":
		begin = "deregister: asking AWS for " + req.Instance
	case req.DryRun:
		begin += "; nothing will be changed"
	}
	return a.do(cmd, verb{
		begin: begin, mutating: true, dryRun: req.DryRun,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
			return lifecycle.Deregister(ctx, deps, req)
		},
	})
}

// saidYes reports whether --yes stands on the command line: what destroys is not answered by a variable or a file.
func (a *app) saidYes() bool { return a.global.yes && a.origins["yes"].kind == byFlag }

// confirmFarewell asks on the terminal for the cluster's name.
func (a *app) confirmFarewell(ctx context.Context, what lifecycle.Farewell) error {
	for _, fact := range what.Facts {
		a.say(fact)
	}
	if len(what.Goes) > 0 {
		a.say("This removes, for good:")
		for _, thing := range what.Goes {
			a.say("  " + thing)
		}
	}
	word, name := what.Cluster, "the cluster's name"
	if word == "" {
		word, name = "deregister", "the word deregister"
	}
	answer, err := a.ask(ctx, fmt.Sprintf("To go on, type %s (%s): ", name, word))
	if err != nil {
		return err
	}
	if answer != word {
		return failure.New(failure.Declined, "not confirmed: %q is not %q", answer, word)
	}
	return nil
}
