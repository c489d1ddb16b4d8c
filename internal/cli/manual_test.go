package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// TestGeneratedManual makes docs/man, a page for each command, or says that it is stale. Pages have no date and no
// version: they change when what they say changes.
func TestGeneratedManual(t *testing.T) {
	files := map[string][]byte{}
	everyCommand(tree(), func(cmd *cobra.Command) {
		if !cmd.Hidden {
			files[pageName(cmd)+".8"] = page(t, cmd)
		}
	})
	upToDate(t, filepath.Join("..", "..", "docs", "man"), files)
}

// TestGeneratedCompletions makes completions, a script for each shell, or says that it is stale.
func TestGeneratedCompletions(t *testing.T) {
	files := map[string][]byte{}
	for name, write := range map[string]func(*cobra.Command, io.Writer) error{
		"anywhere.bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"_anywhere":     func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"anywhere.fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
		"anywhere.ps1":  func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) },
	} {
		var script bytes.Buffer
		if err := write(tree(), &script); err != nil {
			t.Fatal(err)
		}
		files[name] = script.Bytes()
	}
	upToDate(t, filepath.Join("..", "..", "completions"), files)
}

// listed are the commands below one that people are told of.
func listed(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(sub *cobra.Command) bool { return sub.Hidden })
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page is the manual page of a command, in man's macros.
func page(t *testing.T, cmd *cobra.Command) []byte {
	t.Helper()
	w := &roff{t: t}
	w.macro(".TH %s 8 \"\" anywhere \"anywhere manual\"", strings.ToUpper(roffed(pageName(cmd))))
	w.macro(".SH NAME")
	w.line(pageName(cmd) + ` - ` + strings.ToLower(cmd.Short[:1]) + cmd.Short[1:])
	w.macro(".SH SYNOPSIS")
	_, arguments, _ := strings.Cut(cmd.UseLine(), cmd.CommandPath())
	w.macro(`\fB%s\fR %s`, roffed(cmd.CommandPath()), roffed(strings.TrimSpace(arguments)))
	for _, sub := range listed(cmd) {
		w.macro(".br")
		w.macro(`\fB%s\fR ...`, roffed(sub.CommandPath()))
	}
	text, _, _ := strings.Cut(cmd.Long, "\nExit status:")
	w.macro(".SH DESCRIPTION")
	w.text(text)
	if len(cmd.Aliases) > 0 {
		w.text("Also: anywhere " + strings.Join(cmd.Aliases, ", anywhere "))
	}
	if subs := listed(cmd); len(subs) > 0 {
		w.macro(".SH COMMANDS")
		for _, sub := range subs {
			w.macro(".TP\n\\fB%s\\fR(8)", roffed(pageName(sub)))
			w.line(sub.Short)
		}
	}
	flags := cmd.LocalFlags()
	if !cmd.HasParent() {
		flags = cmd.Flags()
	}
	w.macro(".SH OPTIONS")
	w.flags(flags)
	if cmd.HasParent() {
		w.text("The flags of every command, like --region, --output and --log-file, are in anywhere(8).")
	}
	w.variables(flags)
	w.macro(".SH EXIT STATUS")
	for _, row := range cli.ExitStatuses {
		w.macro(".TP 6\n%d", row.Status)
		w.line(row.Meaning)
	}
	w.macro(".SH FILES")
	for _, file := range [][2]string{
		{cli.DefaultConfig, "defaults; anywhere config show says what came from it"},
		{cli.DefaultLogFile, "what commands that change things did, one JSON object a line"},
		{lifecycle.DataDir, "what is anywhere's own: record, journal, packages, backups"},
	} {
		w.macro(".TP\n\\fI%s\\fR", roffed(file[0]))
		w.line(file[1])
	}
	w.macro(".SH EXAMPLES")
	w.block(strings.Split(cmd.Example, "\n"))
	w.macro(".SH SEE ALSO")
	w.seeAlso(cmd)
	return w.Bytes()
}

// roff writes a page.
type roff struct {
	t *testing.T
	bytes.Buffer
}

func (w *roff) macro(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// line writes one line of text. A line that begins like a macro is told apart.
func (w *roff) line(text string) {
	text = roffed(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	for _, r := range text {
		if r > '~' {
			w.t.Errorf("%q is not in every terminal's character set: %s", r, text)
		}
	}
	w.macro("%s", text)
}

// text writes paragraphs; indented ones as they are.
func (w *roff) text(text string) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		w.macro(".PP")
		if strings.HasPrefix(paragraph, "  ") {
			w.block(strings.Split(paragraph, "\n"))
			continue
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			w.line(line)
		}
	}
}

func (w *roff) block(lines []string) {
	w.macro(".nf\n.RS")
	for _, line := range lines {
		w.line(strings.TrimPrefix(line, "  "))
	}
	w.macro(".RE\n.fi")
}

func (w *roff) flags(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		name, usage := cli.Spelled(f)
		if value := cli.DefaultOf(f); value != "" {
			usage += " (default " + value + ")"
		}
		names, takes, _ := strings.Cut(name, "--"+f.Name)
		w.macro(".TP\n\\fB%s%s\\fR %s", roffed(names), roffed("--"+f.Name), `\fI`+roffed(strings.TrimSpace(takes))+`\fR`)
		w.line(usage)
	})
}

// variables writes which variables stand for which flag.
func (w *roff) variables(flags *pflag.FlagSet) {
	title := ".SH ENVIRONMENT\n"
	flags.VisitAll(func(f *pflag.Flag) {
		if names := cli.VariablesOf(f); len(names) > 0 {
			w.macro("%s.TP\n\\fB%s\\fR", title, roffed(strings.Join(names, ", ")))
			w.line("--" + f.Name)
			title = ""
		}
	})
}

func (w *roff) seeAlso(cmd *cobra.Command) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, pageName(cmd.Parent()))
		for _, sibling := range listed(cmd.Parent()) {
			if sibling != cmd {
				pages = append(pages, pageName(sibling))
			}
		}
	}
	for _, sub := range listed(cmd) {
		pages = append(pages, pageName(sub))
	}
	for i, name := range pages {
		comma := ","
		if i == len(pages)-1 {
			comma = ""
		}
		w.macro(`\fB%s\fR(8)%s`, roffed(name), comma)
	}
	w.text("Error codes, checks and JSON schemas: https://github.com/anywhere-ecs/anywhere/tree/main/docs")
}

// roffed escapes what roff would read as its own.
func roffed(text string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `…`, `...`).Replace(text)
}
