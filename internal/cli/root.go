package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRoot(a *app) *cobra.Command {
	showVersion := false
	root := &cobra.Command{
		Use:   "anywhere",
		Short: "Make this machine an Amazon ECS external instance, and look after it",
		Long: long(`
anywhere turns a server or virtual machine into a verified Amazon ECS Anywhere external instance. Every command looks
first, does only what is missing, and checks what came of it; run again, it goes on where it was stopped.

Results go to stdout, progress and messages to stderr. With -o json stdout has exactly one object, also on failure.
A flag beats its environment variable, that beats the configuration file, that beats the default; "anywhere config
show" prints where each value comes from.

Schemas of the objects, every error code and every check: https://github.com/anywhere-ecs/anywhere/tree/main/docs`),
		Example: `  anywhere preflight
  ssh host sudo anywhere register --token - < token
  anywhere register --dry-run -o json
  anywhere status`,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // noSuchCommand has its own
		RunE: func(cmd *cobra.Command, args []string) error {
			if showVersion {
				return a.runVersion()
			}
			return bare(cmd, args)
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.prepare(cmd)
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.Flags().BoolVar(&showVersion, "version", false, "print the version, as the command version does")
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(writeUsage)
	a.global.register(root.PersistentFlags())
	root.AddCommand(
		newPreflight(a), newRegister(a), newAdopt(a), newUpgrade(a), newStatus(a), newDoctor(a), newDrain(a), newActivate(a),
		newMove(a), newDeregister(a), newMirror(a), newActivation(a), newRollback(a), newOperation(a),
		newConfig(a), newPlatforms(a), newCompletion(a), newVersion(a),
	)
	if a.env.Rehearse != nil {
		root.AddCommand(newRehearse(a))
	}
	if a.env.Emulate != nil {
		root.AddCommand(newEmulator(a))
	}
	root.SetHelpCommand(newHelp())
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true
	}
	a.completeValues(root)
	return root
}

// bare is for a command that only holds others: it shows what there is, and fails, since nothing was done.
func bare(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return noSuchCommand(cmd, args[0])
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", cmd.UsageString())
	return usage(cmd, "no command was given")
}

// none refuses arguments that are not flags. They are not repeated: they may be a secret that lost its flag.
func none(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage(cmd, "%s takes flags only, and got %d other arguments (not shown)", cmd.CommandPath(), len(args))
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show the help of a command",
		Long:    long("Shows the help of a command, as its flag --help does."),
		Example: "  anywhere help register",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			within, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, sub := range within.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return noSuchCommand(cmd.Root(), args[0])
			case len(rest) > 0:
				return noSuchCommand(found, rest[0])
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}
