package lifecycle

import (
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// KnownFailure is a row of one of the catalogues of known failures, told alike.
type KnownFailure struct {
	Where         string // the log, or whose journal
	Pattern       string
	Code          failure.Code
	Cause, Remedy string
	Fix           string
	Since, Until  string
	Source        string
	Sample        string
}

// KnownFailures are all that doctor recognises in logs and in the journal, in the order in which they are tried.
func KnownFailures() []KnownFailure {
	var all []KnownFailure
	for _, f := range ecsagent.Failures {
		all = append(all, KnownFailure{f.Log(), strings.Join(f.Texts, " … "), f.Code, f.Cause,
			first(f.Remedy, failure.Catalogue[f.Code].Remedy), f.Fix, f.Since, f.Until, f.Source, f.Sample})
	}
	for _, f := range ssmagent.Failures {
		cause, remedy := f.Explained()
		all = append(all, KnownFailure{f.Log(), f.Pattern.String(), f.Code, cause, remedy, f.Fix, f.Since, f.Until, f.Source, f.Sample})
	}
	for _, f := range journalFailures {
		all = append(all, KnownFailure{"journal of " + strings.Join(f.Units, ", "), strings.Join(f.Texts, " … "), f.Code, f.Cause,
			first(f.Remedy, failure.Catalogue[f.Code].Remedy), "", f.Since, f.Until, f.Source, f.Sample})
	}
	return all
}

// KnownFailuresText is the table of known failures for the documentation.
func KnownFailuresText() string {
	var b strings.Builder
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
	for _, f := range KnownFailures() {
		versions := ""
		if f.Since != "" || f.Until != "" {
			versions = strings.TrimSpace(f.Since + " to " + f.Until)
		}
		fmt.Fprintf(&b, "| %s | `%s` | `%s` | %s | %s | %s | %s |\n",
			f.Where[strings.LastIndexByte(f.Where, '/')+1:], cell(f.Pattern), f.Code, cell(f.Cause), cell(f.Remedy), versions, cell(f.Source))
	}
	return b.String()
}

// FixesText is the list of safe remedies for the documentation.
func FixesText() string {
	var b strings.Builder
	for _, f := range Fixes {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.ID, f.Title, f.Words)
	}
	return b.String()
}
