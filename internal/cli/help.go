package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is how wide the lists of flags in a help text may be.
const helpWidth = 110

// writeUsage writes how a command is used: below its description, and after a command line that names no command.
func writeUsage(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	fmt.Fprintln(w, "Usage:")
	if cmd.Runnable() {
		fmt.Fprintf(w, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND\n", cmd.CommandPath())
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", cmd.NameAndAliases())
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintln(w, "\nAvailable Commands:")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(w, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	writeFlags(w, "Flags", cmd.LocalFlags())
	writeFlags(w, "Global Flags", cmd.InheritedFlags())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nMore about a command: %s COMMAND --help\n", cmd.CommandPath())
	}
	return nil
}

// writeFlags writes a list of flags: each with what it takes, what it is for, its default and its variables.
func writeFlags(w io.Writer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	const column = 34 // of the texts; a flag that is longer has its text below it
	fmt.Fprintf(w, "\n%s:\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name, usage := spelled(f)
		if f.Shorthand == "" {
			name = "    " + name
		}
		if value := defaultOf(f); value != "" {
			usage += " (default " + value + ")"
		}
		if variables := variablesOf(f); len(variables) > 0 {
			usage += " (env " + strings.Join(variables, ", ") + ")"
		}
		lines := wrapped(usage, helpWidth-column)
		if len(name) > column-4 {
			fmt.Fprintf(w, "  %s\n", name)
			name = ""
		}
		for _, line := range lines {
			fmt.Fprintf(w, "  %-*s%s\n", column-2, name, line)
			name = ""
		}
	})
}

// spelled is a flag as it is typed, with what it takes, and its text.
func spelled(f *pflag.Flag) (name, usage string) {
	name = "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	takes, usage := pflag.UnquoteUsage(f)
	switch takes {
	case "string": // a name is better than a type: the flag's last word
		takes = strings.ToUpper(f.Name[strings.LastIndex(f.Name, "-")+1:])
	case "duration":
		takes = "DURATION"
	case "int":
		takes = "N"
	}
	return strings.TrimSpace(name + " " + takes), usage
}

// defaultOf is a flag's default, empty when that says nothing.
func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "false", "0":
		return ""
	}
	return f.DefValue
}

// variablesOf are the variables that stand for a flag, the strongest first: NAME, or NAME=VALUE where only that value
// counts.
func variablesOf(f *pflag.Flag) (names []string) {
	for _, declared := range f.Annotations[noteEnv] {
		name, _, _ := strings.Cut(declared, "=")
		names = append(names, strings.ReplaceAll(name, ":", "="))
	}
	return names
}

// wrapped breaks a text into lines of a width, between words.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
