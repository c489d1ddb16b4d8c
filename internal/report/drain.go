package report

import (
	"fmt"
	"io"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// counter says who counted tasks, in words.
var counter = map[string]string{"ecs": "ECS", "agent": "the ECS agent on this host"}

// Drain writes what a drain or an activation has come to.
func Drain(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.DrainResult, dryRun bool) {
	if dryRun {
		Plan(w, s, rep.Steps)
	}
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	fields(w, s, [][2]string{
		{"cluster", r.Cluster},
		{"region", r.Region},
		{"container instance", r.ContainerInstanceARN},
		{"managed node", r.ManagedInstanceID},
		{"status", r.Status},
		{"tasks counted by", counter[r.Source]},
	})
	for _, t := range r.Tasks {
		line := "  " + t.String()
		if t.NeverMoves != "" && dryRun {
			line += ": " + t.NeverMoves
		}
		fmt.Fprintln(w, line)
	}
}
