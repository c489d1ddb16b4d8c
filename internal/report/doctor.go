package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// Doctor writes what is wrong, the most probable cause first, what can be mended by itself, what was not seen, and what was
// found well.
func Doctor(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.DoctorResult, now time.Time) {
	mark := "fail"
	switch {
	case rep.Exit == 0:
		mark = "pass"
	case r.State == lifecycle.Unregistered || r.State == lifecycle.StateUnknown:
		mark = "warn"
	}
	fmt.Fprintf(w, "%s %s\n", s.mark(mark), s.emphasis.Render(rep.Message))
	if r.State != lifecycle.Healthy {
		fmt.Fprintf(w, "  %s %s\n", s.dim.Render("state:"), StateWords(r.State))
	}
	var past []lifecycle.DoctorFinding
	for _, f := range r.Findings {
		if f.Kind == lifecycle.FindingHistory {
			past = append(past, f)
			continue
		}
		doctorFinding(w, s, f, now)
	}
	for _, text := range rep.Warnings {
		fmt.Fprintf(w, "%s %s\n", s.mark("warn"), indented(text))
	}
	doctorLimits(w, s, r.Limits)
	if len(past) > 0 {
		fmt.Fprintln(w, s.emphasis.Render("Earlier, and over"))
		for _, f := range past {
			fmt.Fprintf(w, "  %s %s\n", s.dim.Render(first(newest(f), f.Since)), s.dim.Render(f.Title+" ("+string(f.Code)+")"))
		}
	}
	doctorFixes(w, s, r.Fixes)
	if hidden := needRoot(r.Unseen); len(hidden) > 0 {
		fmt.Fprintf(w, "%s %s\n", s.mark("skip"), s.dim.Render("not seen without root: "+strings.Join(hidden, ", ")))
	}
	for _, u := range r.Unseen {
		if !u.NeedsRoot {
			fmt.Fprintf(w, "%s %s\n", s.mark("skip"), s.dim.Render("not seen: "+u.Part+": "+u.Why))
		}
	}
	if len(r.RuledOut) > 0 {
		var ids []string
		for _, o := range r.RuledOut {
			ids = append(ids, o.ID)
		}
		fmt.Fprintf(w, "%s %s\n", s.mark("pass"), s.dim.Render("looked at and found well: "+strings.Join(ids, ", ")))
	}
	if b := r.Bundle; b != nil {
		fmt.Fprintf(w, "%s support bundle %s (%d files, %d KiB); look through it before you pass it on\n", s.mark("pass"), b.Path, b.Files, (b.Bytes+1023)/1024)
	}
}

func doctorFinding(w io.Writer, s Style, f lifecycle.DoctorFinding, now time.Time) {
	mark, code := "fail", s.dim.Render(" ("+string(f.Code)+")")
	if f.Kind == lifecycle.FindingWarning {
		mark, code = "warn", ""
	}
	fmt.Fprintf(w, "%s %s%s\n", s.mark(mark), indented(f.Title), code)
	if f.Cause != "" && f.Cause != f.Title && f.Kind != lifecycle.FindingWarning {
		fmt.Fprintf(w, "    %s %s\n", s.dim.Render("means:"), indented(f.Cause))
	}
	for _, e := range f.Evidence {
		if e.Line == "" {
			continue
		}
		words := e.File + ": " + e.Line
		if e.Count > 1 {
			words += fmt.Sprintf(" (%d times)", e.Count)
		}
		fmt.Fprintf(w, "    %s %s\n", s.dim.Render("evidence:"), strings.ReplaceAll(indented(words), "\n", "\n  "))
	}
	if f.Since != "" {
		fmt.Fprintf(w, "    %s %s%s\n", s.dim.Render("since:"), f.Since, prefix(", ", ago(f.Since, now)))
	}
	if f.Remedy != "" {
		fmt.Fprintf(w, "    %s %s\n", s.dim.Render("try:"), indented(f.Remedy))
	}
	if f.Fix != "" {
		fmt.Fprintf(w, "    %s anywhere doctor --fix does (%s)\n", s.dim.Render("or:"), f.Fix)
	}
}

func doctorLimits(w io.Writer, s Style, limits []lifecycle.DoctorLimit) {
	if len(limits) == 0 {
		return
	}
	fmt.Fprintln(w, s.emphasis.Render("Task definitions that cannot run on external instances, or not on this one"))
	for _, l := range limits {
		fmt.Fprintf(w, "%s %s%s: %s\n", s.mark("warn"), l.TaskDefinition, prefix(", used by ", strings.Join(l.UsedBy, ", ")), l.Why)
		fmt.Fprintf(w, "    %s %s\n", s.dim.Render("instead:"), indented(l.Instead))
	}
}

func doctorFixes(w io.Writer, s Style, fixes []lifecycle.DoctorFix) {
	if len(fixes) == 0 {
		return
	}
	fmt.Fprintln(w, s.emphasis.Render("Safe remedies"))
	for _, f := range fixes {
		fmt.Fprintf(w, "  %s %s  %s\n", s.word(f.Status, fmt.Sprintf("%-9s", f.Status)), f.Title, s.dim.Render(f.Detail))
	}
	for _, f := range fixes {
		if f.Status == "possible" {
			fmt.Fprintf(w, "    %s sudo anywhere doctor --fix\n", s.dim.Render("try:"))
			return
		}
	}
}

// newest is when a finding's evidence was last seen.
func newest(f lifecycle.DoctorFinding) (last string) {
	for _, e := range f.Evidence {
		last = max(last, e.Last)
	}
	return last
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
