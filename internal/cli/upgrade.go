package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

type upgradeOptions struct {
	ecsAgentVersion, ssmAgentVersion string
	only, artifacts, keyring         string
	check, allowDowngrade, drain     bool
	drainTimeout                     time.Duration
	waitTimeout, watchTime           time.Duration
	dryRun, detailed                 bool
}

func newUpgrade(a *app) *cobra.Command {
	o := &upgradeOptions{waitTimeout: lifecycle.UpgradePatience, watchTime: lifecycle.UpgradeSteady, drainTimeout: lifecycle.DefaultDrain}
	cmd := &cobra.Command{
		Use:   "upgrade [flags]",
		Short: "Replace the agents' versions in place, or go back",
		Long: long(`
Replaces the ECS agent and the SSM agent of a registered host by other versions, in place: no task is touched, and the
managed node and the container instance stay the same. It downloads and verifies the new packages, and those that are
installed now; arms a deadline, so that the host ends the upgrade by itself whatever becomes of this command; installs,
starts and watches the new agents. They stay when they have connected and been well for a while. When they crash, say
that they are another version or another instance, lose a task, or do not connect although this host itself reaches ECS,
the old versions come back; the version that failed is not tried again unless it is named.

Without versions the newest are taken. --check says what there is and what would be done, most of it without root.
anywhere rollback goes back from an upgrade that is done.`),
		Example: `  anywhere upgrade --check
  sudo anywhere upgrade
  sudo anywhere upgrade --only ecs --ecs-agent-version 1.105.1
  sudo anywhere upgrade --dry-run --detailed-exitcode -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runUpgrade(cmd, o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.check, "check", false, "say what is installed, what runs and what is the newest, and change nothing")
	f.Var(choiceValue{&o.only, []string{lifecycle.OnlyECS, lifecycle.OnlySSM}}, "only", "upgrade this agent and leave the other one as it is")
	f.StringVar(&o.ecsAgentVersion, "ecs-agent-version", "", "like 1.105.1, or latest (default: the latest)")
	f.StringVar(&o.ssmAgentVersion, "ssm-agent-version", "", "like 3.3.1611.0, or latest (default: the latest)")
	f.BoolVar(&o.allowDowngrade, "allow-downgrade", false, "install a version that is named although it is older")
	f.StringVar(&o.artifacts, "artifacts", "", "`URL|DIR` with the agents' packages (default: AWS)")
	f.StringVar(&o.keyring, "keyring", "", "`FILE` with further OpenPGP public keys, after AWS has rotated one")
	f.BoolVar(&o.drain, "drain", false, "move the instance's tasks away first, and make it ACTIVE again at the end; needs an operator's credentials\n"+
		"or the node role's own right to drain")
	f.Var(durationValue{&o.drainTimeout}, "drain-timeout", "how long to wait for that, before all is as it was")
	f.Var(durationValue{&o.waitTimeout}, "wait-timeout", "how long to wait for a new agent to connect, before the old one comes back")
	f.Var(durationValue{&o.watchTime}, "watch-time", "how long the new agents must be connected and well, before the old ones are given up")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "with --check or --dry-run: exit 11 when something would be done")
	return cmd
}

func (a *app) runUpgrade(cmd *cobra.Command, o *upgradeOptions) error {
	if o.detailed && !o.dryRun && !o.check {
		return usage(cmd, "--detailed-exitcode needs --check or --dry-run")
	}
	if a.origins["drain-timeout"].kind == byFlag && !o.drain {
		return usage(cmd, "--drain-timeout needs --drain")
	}
	artifacts, err := a.location(o.artifacts)
	if err != nil {
		return err
	}
	keyring, err := absolute("keyring", o.keyring)
	if err != nil {
		return err
	}
	req := lifecycle.UpgradeRequest{
		ECSAgentVersion: o.ecsAgentVersion, SSMAgentVersion: o.ssmAgentVersion, Only: o.only, AllowDowngrade: o.allowDowngrade,
		Artifacts: artifacts, Keyring: keyring, Check: o.check, WaitTimeout: o.waitTimeout, WatchTime: o.watchTime, Drain: o.drain, DrainTimeout: o.drainTimeout, AcceptRisk: a.global.acceptRisk,
		DryRun: o.dryRun, DetailedExitcode: o.detailed, LockTimeout: a.global.lockTimeout,
	}
	if err := req.Validate(); err != nil {
		return err
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		if err != nil {
			failedChecks(cleaning{a.err, a.redactor}, a.style(a.env.Streams.ErrTTY), rep.Checks)
			return
		}
		if result, ok := rep.Result.(lifecycle.UpgradeResult); ok && !a.global.quiet {
			report.Upgrade(w, s, rep, result)
		}
	}
	if !o.dryRun && !o.check && o.only != lifecycle.OnlyECS {
		if left, err := a.leaveSession(cmd); left || err != nil {
			return err
		}
	}
	begin := "upgrade: looking at this host"
	if o.dryRun || o.check {
		begin += "; nothing will be changed"
	}
	return a.do(cmd, verb{
		begin: begin, mutating: !o.check, dryRun: o.dryRun || o.check,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
			return lifecycle.Upgrade(ctx, deps, req)
		},
	})
}

// newOperationTend is for the deadline of an upgrade, not for people.
func newOperationTend(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "tend [flags]",
		Hidden: true,
		Short:  "End an upgrade whose run has ended before it",
		Long: long(`
Is started by the timer anywhere-upgrade.timer, which an upgrade arms before it changes anything and removes at its end.
While a run is at work it does nothing. Else it watches the new agents and commits, or goes back to the old ones.`),
		Example: "  sudo anywhere operation tend",
		Args:    none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.outcome.text = a.message
			return a.do(cmd, verb{begin: "operation tend: looking for an upgrade to end", mutating: true, run: lifecycle.Tend})
		},
	}
}
