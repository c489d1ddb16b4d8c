package report

import (
	"fmt"
	"io"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// gone says who vouches that a registration is gone, in words.
var gone = map[lifecycle.Verified]string{
	lifecycle.VerifiedNone:  "no",
	lifecycle.VerifiedLocal: "on this host (local)",
	lifecycle.VerifiedAWS:   "by ECS and by Systems Manager (aws)",
}

// Farewell writes what a deregister has come to.
func Farewell(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.DeregisterResult, dryRun bool) {
	if dryRun {
		Plan(w, s, rep.Steps)
		fmt.Fprintln(w, s.emphasis.Render(rep.Message))
		list(w, s, "would be kept", r.Kept)
		return
	}
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	fields(w, s, [][2]string{
		{"cluster", r.Cluster},
		{"region", r.Region},
		{"account", r.Account},
		{"container instance", r.ContainerInstanceARN},
		{"managed node", r.ManagedInstanceID},
		{"verified", gone[r.Verified]},
	})
	list(w, s, "removed", r.Removed)
	list(w, s, "kept", r.Kept)
	list(w, s, "containers of tasks that are still here", r.Leftovers)
	Owed(w, r.Owed)
}

// list writes things below a title, if there are any.
func list(w io.Writer, s Style, title string, things []string) {
	if len(things) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", s.dim.Render(title+":"))
	for _, thing := range things {
		fmt.Fprintln(w, "  "+thing)
	}
}
