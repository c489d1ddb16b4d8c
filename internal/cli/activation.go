package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

func newActivation(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "activation",
		Short: "Make, list and delete the activations by which hosts join",
		Long: long(`
An activation of Systems Manager lets a number of hosts join, until it expires. These commands call AWS with an
operator's credentials, from a workstation or a pipeline: the SDK's default chain, or --profile.`),
		Example: "  anywhere activation create --cluster shop --token | ssh host sudo anywhere register --token -",
		Args:    cobra.ArbitraryArgs, // bare names what it does not know
		RunE:    bare,
	}
	cmd.AddCommand(newActivationCreate(a), newActivationList(a), newActivationDelete(a))
	return cmd
}

func newActivationCreate(a *app) *cobra.Command {
	req := &lifecycle.CreateActivationRequest{Life: 24 * time.Hour, NewFile: a.env.NewFile}
	cmd := &cobra.Command{
		Use:   "create [flags]",
		Short: "Make an activation, or a join token, for hosts of a cluster",
		Long: long(`
Makes an activation of Systems Manager for hosts of a cluster. The cluster must be there and ACTIVE. AWS tells the
activation's code this once.

With --token the result is a join token instead: one line that has account, Region, cluster, activation and expiry in
it, and is all that "anywhere register --token -" needs. Without -o json nothing else is printed on stdout.
With --output-file the token, or else the code, goes into a new file that only its owner can read, and is not printed.

A role that was made a moment ago is waited for, up to two minutes. It must trust ssm.amazonaws.com. The operator needs
ecs:DescribeClusters, ssm:CreateActivation and iam:PassRole for that role; with --tag also ssm:AddTagsToResource. If the
code cannot be written to the file, the activation is deleted again (ssm:DeleteActivation).`),
		Example: `  anywhere activation create --cluster shop --token | ssh host sudo anywhere register --token -
  anywhere activation create --cluster shop --limit 20 --expires 7d --token --output-file token
  anywhere activation create --cluster shop --iam-role service-role/edge --tag site=berlin -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Cluster == "" {
				return usage(cmd, "--cluster is missing")
			}
			a.outcome.text = func(_ io.Writer, s report.Style, rep lifecycle.Report, err error) {
				if result, ok := rep.Result.(lifecycle.CreateActivationResult); ok && err == nil {
					report.NewActivation(a.out, s, rep, result) // past the redactor: the secret is what was asked for
				}
			}
			return a.do(cmd, verb{
				begin: "activation create: asking AWS for the cluster", mutating: true, check: req.Check,
				run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
					return lifecycle.CreateActivation(ctx, deps, *req)
				},
			})
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&req.Cluster, "cluster", "", "ECS cluster that the hosts shall join, by name or ARN")
	f.StringVar(&req.Role, "iam-role", lifecycle.DefaultRole, "the hosts' IAM role, by name, path and name, or ARN")
	f.IntVar(&req.Limit, "limit", 1, "how many hosts can join with it, 1 to 1000")
	f.Var(durationValue{&req.Life}, "expires", "how long it lasts, like 2h or 7d; at most 30d")
	f.StringVar(&req.Name, "name", "", "name of the managed nodes")
	f.Var(pairsValue{&req.Tags}, "tag", "tag of the managed nodes, not of the activation; may be repeated")
	f.BoolVar(&req.Token, "token", false, "give a join token instead of id and code")
	f.StringVar(&req.OutputFile, "output-file", "", "new `FILE` (0600) for the token or the code, in place of stdout")
	notInConfig(f, "output-file", "the file must be another one each time")
	return cmd
}

func newActivationList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [flags]",
		Short: "List activations with the hosts they have left and their expiry",
		Long: long(`
Lists the activations of the account in the Region, the oldest first: how many hosts can still join, and until when. The
operator needs ssm:DescribeActivations.`),
		Example: `  anywhere activation list
  anywhere activation list --region eu-central-1 -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
				if result, ok := rep.Result.(lifecycle.ListActivationsResult); ok && err == nil && !a.global.quiet {
					report.Activations(w, s, rep, result, a.env.Now())
				}
			}
			return a.do(cmd, verb{begin: "activation list: asking AWS", run: lifecycle.ListActivations})
		},
	}
}

func newActivationDelete(a *app) *cobra.Command {
	req := &lifecycle.DeleteActivationsRequest{}
	cmd := &cobra.Command{
		Use:   "delete {ID… | --expired} [flags]",
		Short: "Delete activations; hosts that joined with them stay",
		Long: long(`
Deletes activations by id, or all that have expired: nobody can join with them any more, and hosts that did stay. One
that is not there is passed over with a warning. The operator needs ssm:DeleteActivation, with --expired also
ssm:DescribeActivations.`),
		Example: `  anywhere activation delete 01234567-89ab-cdef-0123-456789abcdef
  anywhere activation delete --expired`,
		Args: cobra.ArbitraryArgs, // checked with --expired
		RunE: func(cmd *cobra.Command, ids []string) error {
			switch {
			case len(ids) == 0 && !req.Expired:
				return usage(cmd, "which ones? expected ids, or --expired")
			case len(ids) > 0 && req.Expired:
				return usage(cmd, "--expired and ids exclude each other")
			}
			for i, id := range ids {
				if err := checkActivationID(fmt.Sprintf("ID %d", i+1), id); err != nil {
					return err
				}
			}
			req.IDs = ids
			a.outcome.text = func(w io.Writer, _ report.Style, rep lifecycle.Report, err error) {
				if result, ok := rep.Result.(lifecycle.DeleteActivationsResult); ok && err == nil && !a.global.quiet {
					report.DeletedActivations(w, rep, result)
				}
			}
			return a.do(cmd, verb{
				begin: "activation delete: asking AWS", mutating: true,
				run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
					return lifecycle.DeleteActivations(ctx, deps, *req)
				},
			})
		},
	}
	cmd.Flags().BoolVar(&req.Expired, "expired", false, "delete all that have expired")
	notInConfig(cmd.Flags(), "expired", "what is deleted is said each time")
	return cmd
}
