package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

func newAdopt(a *app) *cobra.Command {
	req := &lifecycle.AdoptRequest{}
	cmd := &cobra.Command{
		Use:   "adopt [flags]",
		Short: "Take a host that AWS's script or somebody's hands have set up under anywhere",
		Long: long(`
Takes an external instance that AWS's script or somebody's hands have registered under anywhere, without any
interruption. Three things are written, and nothing else is: the ECS agent's settings for an external instance come to
stand in /etc/ecs/ecs.config, which wins with every package, with the values that they have; a drop-in keeps systemd
from starting an agent again that ECS has refused; and what is here is put on record. No agent is started anew, no task
is touched, and neither AWS nor any other network is asked.

The record says that somebody else made the registration and installed the packages. So deregister keeps the managed
node and the packages unless it is told otherwise. What else register would see to here, adopt names and leaves.

A host that is not registered, half registered, or whose registration does not work is refused (12), with the command
that makes it whole.`),
		Example: `  sudo anywhere adopt --dry-run
  sudo anywhere adopt
  sudo anywhere adopt -o json --lock-timeout 5m`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.DetailedExitcode && !req.DryRun {
				return usage(cmd, "--detailed-exitcode needs --dry-run")
			}
			req.LockTimeout = a.global.lockTimeout
			a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
				if err != nil {
					failedChecks(cleaning{a.err, a.redactor}, a.style(a.env.Streams.ErrTTY), rep.Checks)
					return
				}
				if result, ok := rep.Result.(lifecycle.AdoptResult); ok && !a.global.quiet {
					report.Adoption(w, s, rep, result, req.DryRun)
				}
			}
			begin := "adopt: looking at this host"
			if req.DryRun {
				begin = "adopt: looking at this host; nothing will be changed"
			}
			return a.do(cmd, verb{
				begin: begin, mutating: true, dryRun: req.DryRun,
				run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
					return lifecycle.Adopt(ctx, deps, *req)
				},
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&req.NoRollback, "no-rollback", false, "keep the half-way state when a step fails")
	f.BoolVarP(&req.DryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVar(&req.DetailedExitcode, "detailed-exitcode", false,
		"with --dry-run: exit 11 when something would be done")
	return cmd
}
