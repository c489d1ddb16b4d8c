package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// tree is all commands as main brings them together, help included.
func tree() *cobra.Command {
	root := cli.New(cli.Env{
		Rehearse: func(context.Context, cli.RehearseRequest) (lifecycle.Report, error) { return lifecycle.Report{}, nil },
		Emulate:  func(context.Context, cli.EmulatorRequest) (lifecycle.Report, error) { return lifecycle.Report{}, nil },
	})
	root.InitDefaultHelpCmd()
	return root
}

// section is a command's path without the program's name.
func section(cmd *cobra.Command) string {
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	return path
}

// everyCommand calls visit for each command of the tree.
func everyCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, visit)
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	root := tree()
	everyCommand(root, func(cmd *cobra.Command) {
		name := cmd.CommandPath()
		switch {
		case cmd.Short == "" || strings.HasSuffix(cmd.Short, "."):
			t.Errorf("%s: Short is %q; expected a few words without a full stop", name, cmd.Short)
		case !strings.Contains(cmd.Long, "Exit status:") || !strings.Contains(cmd.Long, "143"):
			t.Errorf("%s: the help has no table of exit statuses", name)
		case !strings.HasPrefix(cmd.Example, "  "):
			t.Errorf("%s: no example, or one that is not indented", name)
		case cmd.Args == nil && cmd.HasParent() && cmd.Name() != "help" && cmd.Name() != "rehearse":
			t.Errorf("%s: says nothing of its arguments, and so takes any", name)
		}
		for line := range strings.SplitSeq(cmd.Long+"\n"+cmd.Example, "\n") {
			if len(line) > 120 {
				t.Errorf("%s: a line of the help is wider than 120 columns: %s", name, line)
			}
		}
	})
}

func TestNoTwoCommandsSayTheSame(t *testing.T) {
	said := map[string]string{}
	everyCommand(tree(), func(cmd *cobra.Command) {
		if other := said[cmd.Short]; other != "" {
			t.Errorf("%s and %s have the same Short: %s", cmd.CommandPath(), other, cmd.Short)
		}
		said[cmd.Short] = cmd.CommandPath()
	})
}

// Help works for every command, whatever the host is like: nothing is read, nothing asked. It fits a terminal, and names
// every flag with the variables that stand for it.
func TestHelpOfEveryCommand(t *testing.T) {
	everyCommand(tree(), func(cmd *cobra.Command) {
		var out, said bytes.Buffer
		env := cli.Env{
			Now: time.Now, NewRunID: func() string { return "" }, Streams: cli.Streams{Out: &out, Err: &said},
			Rehearse: func(context.Context, cli.RehearseRequest) (lifecycle.Report, error) { return lifecycle.Report{}, nil },
			Emulate:  func(context.Context, cli.EmulatorRequest) (lifecycle.Report, error) { return lifecycle.Report{}, nil },
		}
		status := cli.Main(context.Background(), env, append(strings.Fields(section(cmd)), "--help"))
		if status != 0 || said.Len() > 0 {
			t.Errorf("%s --help: exit status %d: %s", cmd.CommandPath(), status, said.String())
		}
		for line := range strings.Lines(out.String()) {
			if width := len([]rune(strings.TrimRight(line, "\n"))); width > 120 {
				t.Errorf("%s --help: %d columns: %s", cmd.CommandPath(), width, line)
			}
		}
		help := strings.Join(strings.Fields(out.String()), " ")
		each := func(f *pflag.Flag) {
			if !strings.Contains(help, "--"+f.Name+" ") {
				t.Errorf("%s --help does not have --%s", cmd.CommandPath(), f.Name)
			}
			if names := cli.VariablesOf(f); len(names) > 0 && !strings.Contains(help, "(env "+strings.Join(names, ", ")+")") {
				t.Errorf("%s --help does not say that %v stand for --%s", cmd.CommandPath(), names, f.Name)
			}
		}
		cmd.LocalFlags().VisitAll(each)
		cmd.InheritedFlags().VisitAll(each)
	})
}

// Whoever presses the tab key gets words, files, or nothing, but not the names of files where a word belongs.
func TestEveryValueIsCompleted(t *testing.T) {
	everyCommand(tree(), func(cmd *cobra.Command) {
		if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
			t.Errorf("%s completes its arguments with files", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if complete, found := cmd.GetFlagCompletionFunc(f.Name); found {
				words, _ := complete(cmd, nil, "")
				if f.Value.Type() == "NAME[,NAME]" && len(words) == 0 && f.Name != "fault" {
					t.Errorf("%s --%s takes words and completes none", cmd.CommandPath(), f.Name)
				}
			}
		})
	})
}

func TestNoFlagTakesASecret(t *testing.T) {
	secretive := regexp.MustCompile(`(^|-)(code|secret|password|passphrase|key)$`)
	everyCommand(tree(), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if secretive.MatchString(f.Name) && f.Name != "activation-code" {
				t.Errorf("%s --%s: a secret in argv can be read by every user of the host", cmd.CommandPath(), f.Name)
			}
		})
	})
}

func TestShorthandsAreUnique(t *testing.T) {
	everyCommand(tree(), func(cmd *cobra.Command) {
		seen := map[string]string{}
		each := func(f *pflag.Flag) {
			if other := seen[f.Shorthand]; f.Shorthand != "" && other != "" && other != f.Name {
				t.Errorf("%s: -%s is --%s and --%s", cmd.CommandPath(), f.Shorthand, other, f.Name)
			}
			seen[f.Shorthand] = f.Name
		}
		cmd.LocalFlags().VisitAll(each)
		cmd.InheritedFlags().VisitAll(each)
	})
}

func TestFlagsAreWordsWithUsage(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	everyCommand(tree(), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !form.MatchString(f.Name) || f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: usage %q", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
	})
}

// The global flags are a contract: name and variables of each.
func TestGlobalFlags(t *testing.T) {
	want := map[string]string{
		"region":       "ANYWHERE_REGION AWS_REGION AWS_DEFAULT_REGION",
		"profile":      "AWS_PROFILE",
		"endpoint-url": "AWS_ENDPOINT_URL AWS_ENDPOINT_URL_ECS AWS_ENDPOINT_URL_SSM",
		"output":       "ANYWHERE_OUTPUT",
		"quiet":        "", "verbose": "",
		"color":        "NO_COLOR=never TERM:dumb=never CLICOLOR_FORCE=always",
		"log-file":     "ANYWHERE_LOG_FILE",
		"timeout":      "ANYWHERE_TIMEOUT",
		"lock-timeout": "ANYWHERE_LOCK_TIMEOUT",
		"config":       "ANYWHERE_CONFIG",
		"yes":          "ANYWHERE_YES",
		"accept-risk":  "ANYWHERE_ACCEPT_RISK",
	}
	got := map[string]string{}
	tree().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		got[f.Name] = strings.Join(f.Annotations["env"], " ")
	})
	for name, variables := range want {
		if have, found := got[name]; !found || have != variables {
			t.Errorf("--%s: variables %q, expected %q", name, have, variables)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("unexpected global flags: %s", fmt.Sprint(got))
	}
}
