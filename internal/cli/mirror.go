package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

func newMirror(a *app) *cobra.Command {
	req := &lifecycle.MirrorRequest{}
	dir := ""
	cmd := &cobra.Command{
		Use:   "mirror {DIR | --dir DIR} [flags]",
		Short: "Download and verify the agents' packages for sites without a way to AWS's buckets",
		Long: long(`
Downloads the packages of the ECS agent and the SSM agent, with their signatures, verifies them by the keys that are
pinned in this program, and lays them out as AWS's buckets are. The folder is what --artifacts of register and upgrade
takes: as it is, copied to another machine, or behind any web server. The hosts verify the signatures once more.

Without --platform, --os-family and --arch it takes what every system and architecture needs that anywhere can register;
without versions the latest ones. The newest that the mirror has is what latest means on hosts that take from it. For an
upgrade with a way back the mirror needs the installed version too: --ecs-agent-version 1.104.0,latest.

What is there and verifies is not downloaded again, and what was cut off is gone on with. manifest.json and SHA256SUMS
list what is there. A mirror is for hosts of the Region that --region names; run again for another one. Neither root nor
AWS credentials are needed. Docker's packages are not taken: hosts that have none find them in a mirror of the
distribution, or in a copy of Docker's repository below docker/ in the same folder (docs/air-gapped.md).`),
		Example: `  anywhere mirror /srv/mirror --region eu-central-1
  anywhere mirror --dir /srv/mirror --region eu-central-1 --platform debian-12/amd64,ubuntu-24.04/arm64
  anywhere mirror /srv/mirror --region eu-central-1 --os-family deb --arch arm64 --ecs-agent-version 1.104.0,latest
  sudo anywhere register --artifacts /srv/mirror --token -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, "expected one folder, and got %d", len(args))
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if a.origins["dir"].kind == byFlag {
					return usage(cmd, "the folder is given twice: by --dir, and as %s", args[0])
				}
				dir = args[0]
			}
			if dir == "" {
				return usage(cmd, "which folder? expected DIR or --dir DIR")
			}
			return a.runMirror(cmd, *req, dir)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&dir, "dir", "", "`DIR` for the packages; made where there is none")
	f.Var(wordsValue{to: &req.Platforms}, "platform", "systems, with or without an architecture, like debian-12/amd64,ubuntu-24.04;\n"+
		"anywhere platforms lists them")
	f.Var(wordsValue{&req.Families, lifecycle.MirrorFamilies()}, "os-family", "families of packages (default: those of the systems that anywhere can register)")
	f.Var(wordsValue{&req.Archs, lifecycle.MirrorArchs()}, "arch", "architectures (default: amd64,arm64)")
	f.Var(wordsValue{to: &req.ECSAgent}, "ecs-agent-version", "like 1.105.1, or latest (default: the latest); may be several")
	f.Var(wordsValue{to: &req.SSMAgent}, "ssm-agent-version", "like 3.3.1611.0, or latest (default: the latest); may be several")
	f.StringVar(&req.Artifacts, "artifacts", "", "`URL|DIR` to take the packages from, like another mirror (default: AWS)")
	f.StringVar(&req.Keyring, "keyring", "", "`FILE` with further OpenPGP public keys, after AWS has rotated one")
	f.BoolVarP(&req.DryRun, "dry-run", "n", false, "show what would be downloaded, and write nothing")
	f.BoolVar(&req.DetailedExitcode, "detailed-exitcode", false, "with --dry-run: exit 11 when something would be downloaded")
	return cmd
}

func (a *app) runMirror(cmd *cobra.Command, req lifecycle.MirrorRequest, dir string) (err error) {
	if req.DetailedExitcode && !req.DryRun {
		return usage(cmd, "--detailed-exitcode needs --dry-run")
	}
	if req.Dir, err = absolute("dir", dir); err != nil {
		return err
	}
	if req.Artifacts, err = a.location(req.Artifacts); err != nil {
		return err
	}
	if req.Keyring, err = absolute("keyring", req.Keyring); err != nil {
		return err
	}
	req.Region, req.LockTimeout = a.global.region, a.global.lockTimeout
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		if result, ok := rep.Result.(lifecycle.MirrorResult); ok && err == nil && !a.global.quiet {
			report.Mirror(w, s, rep, result)
		}
	}
	begin := "mirror: looking at " + req.Dir
	if req.DryRun {
		begin += "; nothing will be written"
	}
	return a.do(cmd, verb{
		begin: begin, mutating: true, dryRun: req.DryRun, check: req.Check,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
			return lifecycle.Mirror(ctx, deps, req)
		},
	})
}
