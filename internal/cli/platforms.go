package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// platformsResult is the "result" of platforms' document.
type platformsResult struct {
	Date      string        `json:"date"` // of the table
	Platforms []platformRow `json:"platforms"`
}

type platformRow struct {
	System   string   `json:"system"`
	ID       string   `json:"id"`       // of os-release
	Versions []string `json:"versions"` // none: any
	Family   string   `json:"family"`
	Manager  string   `json:"manager"`
	AWS      string   `json:"aws"` // listed, was-listed or never
	Since    string   `json:"since"`
	Until    string   `json:"until"`
	Docker   []string `json:"dockerSources"`
	Built    bool     `json:"built"` // anywhere can register it today
	Broken   bool     `json:"broken"`
	Tested   string   `json:"tested"` // what was really run in its tests; empty when nothing was
	Notes    string   `json:"notes"`
	Source   string   `json:"source"`
}

func newPlatforms(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "platforms [flags]",
		Short: "List operating systems, what AWS says of them and what works",
		Long: long(`
Prints the table of operating systems: whether anywhere can register them today, whether AWS lists them for ECS
Anywhere, and what to know of each. TESTED says what was really run in anywhere's own tests: a whole system, the package
manager of that family among another system's programs, or nothing. With -o json also the sources of these facts.`),
		Example: `  anywhere platforms
  anywhere platforms -o json`,
		Args: none,
		RunE: func(*cobra.Command, []string) error {
			result := platformsResult{Date: platform.Date}
			for _, r := range platform.Table() {
				result.Platforms = append(result.Platforms, platformRow{
					r.System, r.ID, r.Versions, string(r.Family), r.Manager, string(r.AWS.State), r.AWS.Since, r.AWS.Until,
					r.Docker, r.Built, r.Broken, r.Tested, r.Notes, r.Source,
				})
			}
			a.outcome.report.Result = result
			a.outcome.report.Message = fmt.Sprintf("%d operating systems, as of %s", len(result.Platforms), platform.Date)
			a.outcome.text = func(w io.Writer, s report.Style, _ lifecycle.Report, _ error) { writePlatforms(w, s, result) }
			return nil
		},
	}
}

func writePlatforms(w io.Writer, s report.Style, result platformsResult) {
	rows := [][]string{{"SYSTEM", "WORKS", "TESTED", "AWS", "NOTES"}}
	for _, p := range result.Platforms {
		works := "not yet"
		switch {
		case p.Broken:
			works = "no"
		case p.Built:
			works = "yes"
		}
		system := strings.TrimSpace(p.System + " " + strings.Join(p.Versions, ", "))
		rows = append(rows, []string{system, works, tested(p), strings.ReplaceAll(p.AWS, "-", " "), p.Notes})
	}
	report.Table(w, s, rows)
}

// tested is what was run of a system, in a word.
func tested(p platformRow) string {
	switch {
	case p.Tested == "":
		return "no"
	case strings.HasPrefix(p.Tested, "a whole system"):
		return "whole"
	}
	return p.Manager
}
