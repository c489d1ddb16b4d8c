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
	System   string          `json:"system"`
	ID       string          `json:"id"`       // of os-release
	Versions []string        `json:"versions"` // none: any
	Family   string          `json:"family"`
	Manager  string          `json:"manager"`
	AWS      string          `json:"aws"` // listed, was-listed or never
	Since    string          `json:"since"`
	Until    string          `json:"until"`
	Docker   []string        `json:"dockerSources"`
	Built    bool            `json:"built"` // anywhere can register it today
	Broken   bool            `json:"broken"`
	Notes    string          `json:"notes"`
	Source   string          `json:"source"`
	Tested   string          `json:"tested"` // ran: on booted hosts of this very system; simulated: on what stands in for it; never
	Trials   []platformTrial `json:"trials"` // where it was tested; none: by tables alone
}

// platformTrial is one place in which a system was tested.
type platformTrial struct {
	Arch    string   `json:"arch"`    // amd64 or arm64
	How     string   `json:"how"`     // ran or simulated
	Manager string   `json:"manager"` // what was real of the package manager
	Systemd string   `json:"systemd"` // its version; empty where there was none
	Cgroup  string   `json:"cgroup"`  // v1, v2 or both; empty where there was none
	What    string   `json:"what"`    // what was done there
	Tests   []string `json:"tests"`   // by which it is done again
	Date    string   `json:"date"`    // of the last run that somebody looked at
}

func newPlatforms(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "platforms [flags]",
		Short: "List operating systems, what AWS says of them and what works",
		Long: long(`
Prints the table of operating systems: whether anywhere can register them today, whether AWS lists them for ECS
Anywhere, how much of each was really tested, and what to know of it. A system that "ran" was tested on booted hosts of
its own; "simulated" is what stands in for it; "never" means that only tables were. Nothing was tested against AWS
itself. With -o json also the sources of these facts, and what was done where.`),
		Example: `  anywhere platforms
  anywhere platforms -o json`,
		Args: none,
		RunE: func(*cobra.Command, []string) error {
			result := platformsResult{Date: platform.Date}
			for _, r := range platform.Table() {
				how, trials := r.TestedAs()
				row := platformRow{
					r.System, r.ID, r.Versions, string(r.Family), r.Manager, string(r.AWS.State), r.AWS.Since, r.AWS.Until,
					r.Docker, r.Built, r.Broken, r.Notes, r.Source, string(how), nil,
				}
				for _, t := range trials {
					row.Trials = append(row.Trials, platformTrial{t.Arch, string(t.How), t.Manager, t.Systemd, t.Cgroup, t.What, t.Tests, t.Date})
				}
				result.Platforms = append(result.Platforms, row)
			}
			a.outcome.report.Result = result
			a.outcome.report.Message = fmt.Sprintf("%d operating systems, as of %s", len(result.Platforms), platform.Date)
			a.outcome.text = func(w io.Writer, s report.Style, _ lifecycle.Report, _ error) { writePlatforms(w, s, result) }
			return nil
		},
	}
}

func writePlatforms(w io.Writer, s report.Style, result platformsResult) {
	rows := [][]string{{"SYSTEM", "WORKS", "AWS", "TESTED", "NOTES"}}
	for _, p := range result.Platforms {
		works := "not yet"
		switch {
		case p.Broken:
			works = "no"
		case p.Built:
			works = "yes"
		}
		system := strings.TrimSpace(p.System + " " + strings.Join(p.Versions, ", "))
		rows = append(rows, []string{system, works, strings.ReplaceAll(p.AWS, "-", " "), p.Tested, p.Notes})
	}
	report.Table(w, s, rows)
}
