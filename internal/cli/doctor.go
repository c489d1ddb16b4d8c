package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

type doctorOptions struct {
	remote, offline, fix, dryRun bool
	bundle                       string
}

func newDoctor(a *app) *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Find out why this host is not a healthy external instance, and what to do",
		Long: long(`
Looks at all there is: the status, the checks of preflight, the logs of both agents with what they were rolled over to,
and the journal of Docker, the agents and the kernel. What it recognises comes out ranked, the most probable cause
first, each with what shows it, since when, and what to type; then what was ruled out, and what could not be seen. Exits
0 when nothing wrong was found, 10 otherwise. It changes nothing, and works without root as far as that goes.

--fix applies those remedies that are safe, and no others: docs/doctor.md lists them. It never restarts Docker,
registers anew, deletes the agent's state or removes a container. What it would do is shown first and asked about;
without a terminal that needs --yes. What fails is undone.

--remote asks AWS too, with an operator's credentials: how the host differs from what ECS and Systems Manager have of
it, and which of the cluster's task definitions cannot run here, and why (docs/limits.md). The operator needs
ecs:DescribeContainerInstances, ecs:ListContainerInstances, ecs:ListServices, ecs:DescribeServices, ecs:ListTasks,
ecs:DescribeTasks, ecs:ListTaskDefinitions, ecs:DescribeTaskDefinition and ssm:DescribeInstanceInformation; what is
denied is only not seen.

--bundle writes an archive for whoever helps: what was found, configuration, logs, units, journal and facts, each cut to
a bound. Secrets, tokens, keys and account ids are taken out. Look through it before you pass it on.`),
		Example: `  sudo anywhere doctor
  sudo anywhere doctor --fix --dry-run
  sudo anywhere doctor --fix --yes -o json
  anywhere doctor --remote --profile ops
  sudo anywhere doctor --offline --bundle support.tar.gz`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDoctor(cmd, o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.remote, "remote", false, "ask AWS too, with an operator's credentials, and read the cluster's task "+
		"definitions")
	f.BoolVar(&o.offline, "offline", false, "leave out the checks that use the network")
	f.BoolVar(&o.fix, "fix", false, "apply the remedies that are safe")
	notInConfig(f, "fix", "what is changed is said each time")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "with --fix: show what would be done, and do nothing")
	f.StringVar(&o.bundle, "bundle", "", "new `FILE` (.tar.gz, 0600) for a support archive without secrets")
	notInConfig(f, "bundle", "the file must be another one each time")
	return cmd
}

func (a *app) runDoctor(cmd *cobra.Command, o *doctorOptions) error {
	switch {
	case o.remote && o.offline:
		return usage(cmd, "--remote and --offline exclude each other")
	case o.dryRun && !o.fix:
		return usage(cmd, "--dry-run needs --fix: without it nothing is changed anyway")
	case o.fix && !o.dryRun && !a.global.yes && !a.canAsk():
		return usage(cmd, "--fix asks before it changes anything, and there is no terminal to ask on: add --yes, or "+
			"--dry-run to see what it would do")
	}
	bundle, err := absolute("bundle", o.bundle)
	if err != nil {
		return err
	}
	req := lifecycle.DoctorRequest{
		Remote: o.remote, Offline: o.offline, Fix: o.fix, DryRun: o.dryRun, Bundle: bundle, NewFile: a.env.NewFile,
		LockTimeout: a.global.lockTimeout,
	}
	if a.origins["region"].kind == byFlag {
		req.Region = a.global.region
	}
	if o.fix && !a.global.yes {
		req.Confirm = func(ctx context.Context, steps []engine.StepReport) error {
			return a.approve(ctx, steps, "Apply?")
		}
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, _ error) {
		result, ok := rep.Result.(lifecycle.DoctorResult)
		if ok && (!a.global.quiet || rep.Exit != 0) && rep.Message != "" {
			report.Doctor(w, s, rep, result, a.env.Now())
		}
	}
	return a.do(cmd, verb{
		begin: "doctor: looking at this host", mutating: o.fix, dryRun: o.dryRun, tells: true,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
			return lifecycle.Doctor(ctx, deps, req)
		},
	})
}

// canAsk reports whether there is somebody who sees a question and can answer it.
func (a *app) canAsk() bool { return a.env.Streams.interactive() && a.env.Streams.In != nil }
