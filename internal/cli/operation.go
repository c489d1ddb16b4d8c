package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

func newRollback(a *app) *cobra.Command {
	wait, watch := lifecycle.UpgradePatience, lifecycle.UpgradeSteady
	cmd := &cobra.Command{
		Use:   "rollback [flags]",
		Short: "Undo an unfinished operation, or go back from an upgrade",
		Long: long(`
Undoes an unfinished operation from its journal alone: without network, AWS or the token. An activation that register
made for itself is deleted where there are an operator's credentials; else the call is told that is owed. What is no
longer as the operation left it is kept and named. An operation past its point of no return (for register: the
registration with Systems Manager) cannot be undone; the same command finishes it.

Where no operation is unfinished, and the last upgrade's versions are installed, it goes back to those that were there
before, as an upgrade does: their packages are kept on the host, and the agents are watched.`),
		Example: `  sudo anywhere rollback
  sudo anywhere rollback --lock-timeout 5m -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.outcome.text = a.message
			return a.do(cmd, verb{
				begin: "rollback: reading the journal", mutating: true,
				run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
					return lifecycle.Rollback(ctx, deps, lifecycle.RollbackRequest{
						LockTimeout: a.global.lockTimeout, WaitTimeout: wait, WatchTime: watch,
					})
				},
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(durationValue{&wait}, "wait-timeout", "on the way back from an upgrade: how long to wait for the old agent to connect")
	f.Var(durationValue{&watch}, "watch-time", "on the way back from an upgrade: how long the old agents must be connected and well")
	return cmd
}

func newOperation(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operation",
		Short: "Show or abandon an unfinished operation",
		Long: long(`
An operation that was killed leaves a journal: run the same command again to finish it, or "anywhere rollback" to undo
it. These commands look at the journal, or move it aside.`),
		Example: "  sudo anywhere operation show",
		Args:    cobra.ArbitraryArgs, // bare names what it does not know
		RunE:    bare,
	}
	cmd.AddCommand(newOperationShow(a), newOperationAbandon(a), newOperationTend(a))
	return cmd
}

func newOperationShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show [flags]",
		Short: "Say what an unfinished operation has done",
		Long: long(`
Says which operation is unfinished, what it has done so far and whether it can be undone. Changes nothing.`),
		Example: "  sudo anywhere operation show -o json",
		Args:    none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.outcome.text = a.message
			return a.do(cmd, verb{begin: "operation show: reading the journal", run: lifecycle.ShowOperation})
		},
	}
}

func newOperationAbandon(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "abandon [flags]",
		Short: "Move the journal aside without touching the host",
		Long: long(`
Moves the journal of an unfinished operation aside and leaves the host as it is: nothing is finished, nothing undone.
It is the way out when the journal cannot be read. "anywhere operation show" first says what would be given up.`),
		Example: "  sudo anywhere operation abandon",
		Args:    none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.outcome.text = a.message
			return a.do(cmd, verb{
				begin: "operation abandon: reading the journal", mutating: true,
				run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
					return lifecycle.AbandonOperation(ctx, deps, a.global.lockTimeout)
				},
			})
		},
	}
}

// message is the text of a command whose result is one sentence, with the operation's facts below it.
func (a *app) message(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
	if err != nil || a.global.quiet {
		return
	}
	if _, upgraded := rep.Result.(lifecycle.UpgradeResult); !upgraded {
		fmt.Fprintln(w, rep.Message)
	}
	switch result := rep.Result.(type) {
	case lifecycle.OperationResult:
		report.Operation(w, s, result)
	case lifecycle.UpgradeResult:
		report.Upgrade(w, s, lifecycle.Report{Message: rep.Message, Changed: true}, result)
	case lifecycle.RollbackResult:
		report.Operation(w, s, result.OperationResult)
		report.Owed(w, result.Owed)
	}
}
