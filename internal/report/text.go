package report

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

// Failure is what people see of a failure.
type Failure struct {
	Err        *failure.Error
	RolledBack bool
	Now        string // what is so after it was rolled back; empty: the host is as it was
	Kept       []string
	LogFile    string
	RunID      string
}

// Write tells a failure: what, how it shows, what to do next, what is so now, where to read more.
func (f Failure) Write(w io.Writer, s Style) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "  %s %s\n", s.dim.Render(label+":"), indented(text))
		}
	}
	fmt.Fprintf(w, "%s %s\n", s.bad.Render("error:"), indented(f.Err.Message))
	line("evidence", f.Err.Evidence)
	line("try", f.Err.Advice())
	if f.RolledBack {
		if f.Now == "" {
			f.Now = "the host is as it was before this run"
		}
		line("undone", f.Now)
	}
	for _, kept := range f.Kept {
		line("kept", kept)
	}
	if f.LogFile != "" {
		line("log", f.LogFile+" (run "+f.RunID+")")
	}
}

// indented keeps the further lines of a text under its first one.
func indented(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

// Registration writes what a register has come to.
func Registration(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.RegisterResult, dryRun bool) {
	if dryRun {
		Plan(w, s, rep.Steps)
		fmt.Fprintln(w, s.emphasis.Render(rep.Message))
		return
	}
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	fields(w, s, [][2]string{
		{"cluster", r.Cluster},
		{"region", r.Region},
		{"account", r.Account},
		{"container instance", r.ContainerInstanceARN},
		{"managed node", r.ManagedInstanceID},
		{"ECS agent", r.ECSAgentVersion},
		{"SSM agent", r.SSMAgentVersion},
		{"Docker", r.DockerVersion},
		{"verified", proof[r.Verified]},
	})
	if r.RebootNeeded {
		fmt.Fprintln(w, s.warn.Render("a reboot is needed; then run the same command again"))
	}
	Owed(w, r.Owed)
	if r.ContainerInstanceARN == "" || r.RebootNeeded {
		return
	}
	fmt.Fprintln(w, "\nNext:")
	fmt.Fprintf(w, "  aws ecs run-task --launch-type EXTERNAL --region %s --cluster %s --task-definition NAME\n",
		r.Region, r.Cluster)
	fmt.Fprintf(w, "  aws ecs describe-container-instances --region %s --cluster %s --container-instances %s\n",
		r.Region, r.Cluster, r.ContainerInstanceARN)
	if page := partition.ConsoleInstance(r.Region, r.Cluster, path.Base(r.ContainerInstanceARN)); page != "" {
		fmt.Fprintf(w, "  %s\n", page)
	}
}

// Adoption writes what an adoption has come to.
func Adoption(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.AdoptResult, dryRun bool) {
	if dryRun {
		Plan(w, s, rep.Steps)
	}
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	if dryRun {
		return
	}
	fields(w, s, [][2]string{
		{"cluster", r.Cluster},
		{"region", r.Region},
		{"account", r.Account},
		{"container instance", r.ContainerInstanceARN},
		{"managed node", r.ManagedInstanceID},
		{"ECS agent", r.ECSAgentVersion},
		{"SSM agent", r.SSMAgentVersion},
		{"verified", proof[r.Verified]},
	})
	if len(r.Adopted) == 0 {
		return
	}
	fmt.Fprintln(w, "\nOn record as made by somebody else:")
	for _, item := range r.Adopted {
		fmt.Fprintln(w, "  "+item)
	}
}

// Move writes the result of a move.
func Move(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.MoveResult, dryRun bool) {
	if dryRun {
		Plan(w, s, rep.Steps)
		fmt.Fprintln(w, s.emphasis.Render(rep.Message))
		return
	}
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	was := ""
	if rep.Changed {
		was = r.From.ContainerInstanceARN
	}
	fields(w, s, [][2]string{
		{"cluster", r.Cluster},
		{"region", r.Region},
		{"account", r.Account},
		{"container instance", r.ContainerInstanceARN},
		{"before", was},
		{"managed node", r.ManagedInstanceID},
		{"verified", proof[r.Verified]},
	})
	Owed(w, r.Owed)
}

// Owed writes AWS calls that are still to be made.
func Owed(w io.Writer, calls []string) {
	if len(calls) == 0 {
		return
	}
	fmt.Fprintln(w, "\nAWS calls still to be made:")
	for _, call := range calls {
		fmt.Fprintln(w, "  "+call)
	}
}

// proof says who vouches for a registration, in words.
var proof = map[lifecycle.Verified]string{
	lifecycle.VerifiedNone:  "no: the agents were not started",
	lifecycle.VerifiedLocal: "by the ECS agent on this host (local)",
	lifecycle.VerifiedAWS:   "by the ECS agent on this host, by ECS and by Systems Manager (aws)",
}

// Plan writes steps as they stand: what a dry run would do.
func Plan(w io.Writer, s Style, steps []engine.StepReport) {
	width := 0
	for _, step := range steps {
		width = max(width, runewidth.StringWidth(step.Title))
	}
	for _, step := range steps {
		row := fmt.Sprintf("  %s %s  %s", s.word(step.Status, fmt.Sprintf("%-9s", step.Status)),
			runewidth.FillRight(step.Title, width), s.dim.Render(step.Detail))
		fmt.Fprintln(w, strings.TrimRight(row, " "))
	}
}

// fields writes names and values in two columns; empty values are left out.
func fields(w io.Writer, s Style, rows [][2]string) {
	width := 0
	for _, row := range rows {
		width = max(width, len(row[0]))
	}
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(w, "  %s  %s\n", s.dim.Render(fmt.Sprintf("%-*s", width, row[0])), row[1])
		}
	}
}

// Checks writes what a preflight found: a row a check, and below it what to do.
func Checks(w io.Writer, s Style, checks []preflight.Result) {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.ID))
	}
	for _, c := range checks {
		status := c.Status
		note := ""
		if c.Ignored { // a failure that counts as a warning
			status, note = preflight.Warn, " (ignored)"
		}
		fmt.Fprintf(w, "%s %s  %-*s  %s%s\n", s.mark(string(status)), s.word(string(status), fmt.Sprintf("%-4s", status)),
			width, c.ID, indented(c.Detail), note)
		if status == preflight.Pass || status == preflight.Skip {
			continue
		}
		if c.Remedy != "" {
			fmt.Fprintf(w, "    %s %s\n", s.dim.Render("try:"), indented(c.Remedy))
		}
		if c.Docs != "" {
			fmt.Fprintf(w, "    %s %s\n", s.dim.Render("see:"), c.Docs)
		}
	}
}

// Operation writes what is known of an operation; nothing when there is none.
func Operation(w io.Writer, s Style, o lifecycle.OperationResult) {
	if o.Verb == "" {
		return
	}
	undoable := "no: the same command only finishes it"
	switch {
	case !o.Unfinished:
		undoable = "" // it is over
	case o.Undoable:
		undoable = "yes: anywhere rollback"
	}
	fields(w, s, [][2]string{
		{"command", o.Verb},
		{"run", o.RunID},
		{"begun", o.StartedAt},
		{"changes", fmt.Sprint(o.Changes)},
		{"last step", o.LastStep},
		{"undoable", undoable},
		{"journal", o.Journal},
	})
}

// Table writes rows in columns; the first row is the heading.
func Table(w io.Writer, s Style, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(cell))
		}
	}
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i < len(row)-1 {
				cell = runewidth.FillRight(cell, widths[i]) + "  "
			}
			line.WriteString(cell)
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 {
			text = s.emphasis.Render(text)
		}
		fmt.Fprintln(w, text)
	}
}
