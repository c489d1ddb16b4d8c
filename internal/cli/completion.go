package cli

import (
	"github.com/spf13/cobra"
)

// shells that completion scripts are made for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script of a shell",
		Long: long(`
Prints a script that completes commands and flags, for bash, zsh, fish or powershell. Nothing is looked up on the
network while completing.`),
		Example: `  anywhere completion bash | sudo tee /usr/share/bash-completion/completions/anywhere
  anywhere completion zsh > "${fpath[1]}/_anywhere"`,
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "expected one shell: bash, zsh, fish or powershell")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.out)
			}
			return usage(cmd, "there is no completion for %q; expected bash, zsh, fish or powershell", args[0])
		},
	}
}
