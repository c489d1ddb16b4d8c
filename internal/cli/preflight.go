package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

func newPreflight(a *app) *cobra.Command {
	req := &lifecycle.PreflightRequest{}
	cmd := &cobra.Command{
		Use:     "preflight [flags]",
		Aliases: []string{"check"},
		Short:   "Check whether this host can become an external instance",
		Long: long(`
Runs all checks at once and changes nothing. With an operator's credentials AWS is asked too, for the cluster and the
activation. It works without root: what needs root is skipped, with the reason. Each
finding says what was seen and, if something is wrong, what to type. Exits 3 when a check failed; warnings do not fail,
except with --strict.

The checks of the network try the endpoints of a Region by a real TLS handshake, through a proxy if there is one, and
take five seconds at most. The Region is --region, else the host's own. --list-endpoints prints what a firewall has to
let out, and checks nothing.`),
		Example: `  sudo anywhere preflight --region eu-central-1
  anywhere preflight --list-endpoints --region eu-central-1 -o json
  anywhere preflight --only os.release,docker.version -o json
  anywhere preflight --ignore docker.daemon --strict`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req.Region = a.global.region
			if req.ActivationID != "" {
				if err := checkActivationID("--activation-id", req.ActivationID); err != nil {
					return err
				}
			}
			return a.runPreflight(cmd, *req)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(wordsValue{to: &req.Only}, "only", "ids of the checks to run (default: all)")
	f.Var(wordsValue{to: &req.Ignore}, "ignore", "ids of checks whose failure is only a warning")
	f.StringVar(&req.SSMProfile, "ssm-profile", "", ssmProfileUsage)
	f.BoolVar(&req.EnableGPU, "enable-gpu", false, "check what tasks with GPUs need, too")
	f.StringVar(&req.Cluster, "cluster", "",
		"ECS cluster to look for with an operator's credentials, by name or ARN (default: this host's)")
	f.StringVar(&req.ActivationID, "activation-id", "", "activation to look for with an operator's credentials")
	notInConfig(f, "activation-id", "an activation is good for one registration")
	f.StringVar(&req.Artifacts, "artifacts", "", "`URL|DIR` that the agents' packages will come from: AWS's buckets are not tried then")
	f.BoolVar(&req.Strict, "strict", false, "fail on warnings too")
	f.BoolVar(&req.Offline, "offline", false, "leave out the checks that use the network")
	f.BoolVar(&req.ListEndpoints, "list-endpoints", false,
		"print what a firewall has to let out: host, port, what for; needs no network")
	notInConfig(f, "list-endpoints", "it asks for another result than the checks'")
	return cmd
}

func (a *app) runPreflight(cmd *cobra.Command, req lifecycle.PreflightRequest) error {
	req.Region = a.global.region
	var err error
	if req.Artifacts, err = a.location(req.Artifacts); err != nil {
		return err
	}
	begin := "preflight: looking at this host"
	if req.ListEndpoints {
		begin = "preflight: listing endpoints"
		for _, flag := range []string{"only", "ignore", "strict"} {
			if a.origins[flag].kind == byFlag {
				return usage(cmd, "--list-endpoints and --%s exclude each other: a list checks nothing", flag)
			}
		}
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		if result, ok := rep.Result.(lifecycle.PreflightResult); ok && len(result.Endpoints) > 0 {
			writeEndpoints(w, s, result.Endpoints)
			return
		}
		if len(rep.Checks) > 0 && (!a.global.quiet || err != nil) {
			report.Checks(w, s, rep.Checks)
			fmt.Fprintf(w, "\n%s\n", rep.Message)
		}
	}
	return a.do(cmd, verb{
		begin: begin, tells: true,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
			return lifecycle.Preflight(ctx, deps, req)
		},
	})
}

func writeEndpoints(w io.Writer, s report.Style, endpoints []lifecycle.PreflightEndpoint) {
	rows := [][]string{{"HOST", "PORT", "NEEDED", "WHAT FOR"}}
	for _, e := range endpoints {
		needed := map[string]string{"always": "yes", "packages": "yes", "docker": "for Docker"}[e.Need]
		if needed == "" {
			needed = "by some"
		}
		rows = append(rows, []string{e.Host, fmt.Sprint(e.Port), needed, e.Why})
	}
	report.Table(w, s, rows)
}
