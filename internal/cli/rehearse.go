package cli

import (
	"github.com/spf13/cobra"
)

func newRehearse(a *app) *cobra.Command {
	req := &RehearseRequest{}
	cmd := &cobra.Command{
		Use:   "rehearse [SCENARIO] [flags] [-- FLAGS OF THE REAL COMMAND]",
		Short: "Play the real commands against an embedded AWS, on a throw-away host",
		Long: long(`
Runs the real commands end to end against an embedded ECS, SSM and artifact service on loopback and a throw-away host
root: without an AWS account, without root, without a change to this machine.

The scenario life (the default) is a host's: a join token, checks, register, register again, status, upgrade,
move, deregister. register ends with the registered host; operator has an operator's credentials on it; drain moves its
tasks away and takes it back; upgrade replaces the agents by newer versions and goes back; move brings it to another
cluster; deregister gives it up. snap is the life of a host of Ubuntu's images, whose SSM agent is a snap.`),
		Example: `  anywhere rehearse
  anywhere rehearse operator
  anywhere rehearse register --fault activation-expired`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, req.Args = args[:dash], args[dash:]
			}
			if len(args) > 1 {
				return usage(cmd, "expected one scenario, and got %d", len(args))
			}
			if len(args) == 1 {
				req.Scenario = args[0]
			}
			a.outcome.text, req.JSON = a.message, a.global.output == outputJSON
			rep, err := a.env.Rehearse(cmd.Context(), *req)
			rep.Warnings = append(a.outcome.report.Warnings, rep.Warnings...)
			a.outcome.report = rep
			return err
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(wordsValue{to: &req.Faults}, "fault", "faults to bring in, by name")
	f.StringVar(&req.Keep, "keep", "", "folder in which the throw-away host stays")
	return cmd
}
