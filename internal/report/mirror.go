package report

import (
	"fmt"
	"io"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// Mirror writes what a mirror has come to.
func Mirror(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.MirrorResult) {
	rows := [][]string{{"PACKAGE", "VERSION", "FOR", "SIZE", "STATUS", ""}}
	for _, p := range r.Packages {
		size, latest := "", ""
		if p.Size > 0 {
			size = Bytes(p.Size)
		}
		if p.Latest {
			latest = "latest"
		}
		rows = append(rows, []string{p.Product, p.Version, p.Family + "/" + p.Arch, size, p.Status, latest})
	}
	Table(w, s, rows)
	fmt.Fprintln(w)
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	if r.Downloaded > 0 {
		fmt.Fprintf(w, "\nOn a host, or from a web server that has this folder:\n  anywhere register --artifacts %s …\n", r.Directory)
	}
}
