package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// New returns the tree of commands.
func New(env Env) *cobra.Command { panic("not yet") }

// Main runs one command line (without the program's name) and returns its exit status. Whatever happens is told on the
// streams of env; with -o json that is one object on its Out.
func Main(ctx context.Context, env Env, args []string) int { panic("not yet") }
