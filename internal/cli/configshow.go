package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// configResult is the "result" of config show's document.
type configResult struct {
	File   string        `json:"file"` // that was read; empty when there is none
	Values []configValue `json:"values"`
}

// configValue is one effective value and where it comes from.
type configValue struct {
	Command string `json:"command"` // empty for the flags of every command
	Name    string `json:"name"`
	Value   string `json:"value"`
	Origin  string `json:"origin"` // flag, environment, config or default
	Source  string `json:"source"` // the variable's name, or FILE:LINE
}

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the effective configuration",
		Long: long(`
Defaults can stand in a YAML file: ` + defaultConfig + `, or the one that --config names. At its top stand the
flags of every command, below a command's name those of that command:

  region: eu-central-1
  register:
    cluster: shop
    tag: [rack=7, site=berlin]

Unknown names are errors. Secrets, activations and risks are refused there.`),
		Example: "  anywhere config show",
		Args:    cobra.ArbitraryArgs, // bare names what it does not know
		RunE:    bare,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "show [flags]",
		Short: "Print each value and where it comes from",
		Long: long(`
Prints each effective value with its origin: a flag, an environment variable, a line of the configuration file, or the
default. Values of single commands are shown when they are not the default. All of it is checked on the way.`),
		Example: `  anywhere config show
  AWS_REGION=eu-central-1 anywhere config show --config site.yaml -o json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runConfigShow(cmd) },
	})
	return cmd
}

func (a *app) runConfigShow(cmd *cobra.Command) error {
	result := configResult{File: a.file.path, Values: valuesOf("", cmd.InheritedFlags(), a.origins, false)}
	for _, other := range everyCommand(cmd.Root()) {
		origins, err := a.settle(other)
		if err != nil {
			return err
		}
		result.Values = append(result.Values, valuesOf(sectionOf(other), other.LocalNonPersistentFlags(), origins, true)...)
	}
	a.outcome.report.Result = result
	a.outcome.report.Message = "no configuration file was read"
	if result.File != "" {
		a.outcome.report.Message = "the configuration file is " + result.File
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, _ error) {
		fmt.Fprintln(w, rep.Message)
		writeValues(w, result.Values)
	}
	return nil
}

// everyCommand is all runnable commands below root.
func everyCommand(root *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, cmd := range root.Commands() {
		all = append(all, cmd)
		all = append(all, everyCommand(cmd)...)
	}
	return all
}

func valuesOf(command string, flags *pflag.FlagSet, origins map[string]origin, notDefault bool) []configValue {
	var values []configValue
	flags.VisitAll(func(f *pflag.Flag) {
		o := origins[f.Name]
		if f.Name == "help" || notDefault && (o.kind == byDefault || o.kind == "") {
			return
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		if _, hidden := f.Annotations[noteSecret]; hidden {
			value = secret.Mask
		}
		values = append(values, configValue{command, f.Name, value, string(o.kind), o.at})
	})
	return values
}

func writeValues(w io.Writer, values []configValue) {
	var rows [][3]string
	width := [2]int{}
	for _, v := range values {
		name := strings.TrimSpace(v.Command + " " + v.Name)
		row := [3]string{name, v.Value, origin{originKind(v.Origin), v.Source}.String()}
		if row[1] == "" {
			row[1] = "-"
		}
		width[0], width[1] = max(width[0], len(row[0])), max(width[1], len(row[1]))
		rows = append(rows, row)
	}
	for _, row := range rows {
		fmt.Fprintf(w, "  %-*s  %-*s  %s\n", width[0], row[0], width[1], row[1], row[2])
	}
}
