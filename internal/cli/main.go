package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// New returns the tree of commands: for help, documentation and completion. Main runs it.
func New(env Env) *cobra.Command { return newRoot(newApp(env)) }

// Main runs one command line (without the program's name) and returns its exit status. Whatever happens is told on the
// streams of env; with -o json that is one object on its Out.
func Main(ctx context.Context, env Env, args []string) int {
	return start(ctx, newApp(env), args, nil)
}

// start runs one command line on a. extend may add commands to the tree.
func start(ctx context.Context, a *app, args []string, extend func(*app, *cobra.Command)) int {
	a.args, a.started, a.runID = args, a.env.Now(), a.env.NewRunID()
	a.takeCode()
	a.knowProxies()
	ctx, stop := a.watch(ctx)
	defer stop()

	root := newRoot(a)
	if extend != nil {
		extend(a, root)
	}
	root.SetArgs(natural(root, args))
	root.SetIn(a.env.Streams.In)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	defer a.release()
	if err == nil && !a.settled { // help and completion: they have printed what they had to say
		return a.delivered(failure.ExitOK)
	}
	if err != nil && !a.settled && !isCoded(err) {
		err = unknownCommand(root, err)
	}
	return a.finish(cmd, args, advised(cmd, causeOf(cmd.Context(), err)))
}

// advised names the command in the remedy of an error whose room does not know which one it is.
func advised(cmd *cobra.Command, err error) error {
	failed := failure.Of(err)
	if failed == nil || failed.Remedy != "" {
		return err
	}
	out := *failed
	out.Err = err
	switch failed.Code {
	case failure.Usage:
		return out.WithRemedy("see %s --help", cmd.CommandPath())
	case failure.NotRoot:
		return out.WithRemedy("run it as root: sudo %s", cmd.CommandPath())
	}
	return err
}

// unknownCommand puts cobra's only error of its own into our words, with the command that was probably meant.
func unknownCommand(root *cobra.Command, err error) error {
	var name string
	if _, scan := fmt.Sscanf(err.Error(), "unknown command %q", &name); scan != nil {
		return failure.New(failure.Usage, "%s", err)
	}
	return noSuchCommand(root, name)
}

// noSuchCommand refuses name, which is no subcommand of cmd.
func noSuchCommand(cmd *cobra.Command, name string) error {
	failed := usage(cmd, "there is no command %q", cmd.CommandPath()+" "+name)
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
			names = append(names, sub.Aliases...)
		}
	}
	if near := nearest(name, names); near != "" {
		failed.Message += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return failed
}
