package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

// takesFile are the flags whose value is, or can be, a file or a folder. Every other flag with a value has words to
// complete, or nothing.
var takesFile = []string{
	"log-file", "config", "token", "activation-code-file", "output-file", "artifacts", "keyring", "keep", "ca-file", "dir",
	"buckets", "ready-file", "ca-file-out", "state", "seed",
}

// completeValues tells the shell what flags and commands take. Nothing is looked up outside the program.
func (a *app) completeValues(root *cobra.Command) {
	for _, cmd := range append(everyCommand(root), root) {
		if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { a.completeFlag(cmd, f) })
		cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { a.completeFlag(cmd, f) })
	}
}

func (a *app) completeFlag(cmd *cobra.Command, f *pflag.Flag) {
	var complete cobra.CompletionFunc
	switch value := f.Value.(type) {
	case choiceValue:
		complete = cobra.FixedCompletions(value.choices, cobra.ShellCompDirectiveNoFileComp)
	case wordsValue:
		complete = func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return further(a.words(f.Name, value), typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
	default:
		if f.NoOptDefVal != "" || slices.Contains(takesFile, f.Name) {
			return
		}
		complete = cobra.NoFileCompletions
	}
	if err := cmd.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
		panic(err) // twice the same flag: every test of the tree would fail here
	}
}

// words are what a flag takes, with what they mean where that is known.
func (a *app) words(flag string, value wordsValue) (words []cobra.Completion) {
	switch {
	case flag == "only", flag == "ignore":
		for _, check := range preflight.All() {
			words = append(words, cobra.CompletionWithDesc(check.ID, check.Title))
		}
	case flag == "platform":
		for _, system := range lifecycle.MirrorPlatforms() {
			words = append(words, system)
			for _, arch := range lifecycle.MirrorArchs() {
				words = append(words, system+"/"+arch)
			}
		}
	case flag == "ecs-agent-version", flag == "ssm-agent-version":
		words = []cobra.Completion{"latest"}
	case flag == "fault" && a.env.Faults != nil:
		for _, f := range a.env.Faults() {
			words = append(words, f.Name)
		}
	default:
		words = value.known
	}
	return words
}

// further are the words that may follow those typed already, which are separated by commas.
func further(words []cobra.Completion, typed string) (all []cobra.Completion) {
	before := typed[:strings.LastIndex(typed, ",")+1]
	given := strings.Split(before, ",")
	for _, word := range words {
		if name, _, _ := strings.Cut(word, "\t"); !slices.Contains(given, name) {
			all = append(all, before+word)
		}
	}
	return all
}
