package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// NewActivation writes an activation that was just made, with its secret. A token stands alone, so that it can be piped
// to the host that it is for.
func NewActivation(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.CreateActivationResult) {
	if token := r.Token.Reveal(); token != "" {
		fmt.Fprintln(w, token)
		return
	}
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	fields(w, s, [][2]string{
		{"activation id", r.ActivationID},
		{"activation code", r.ActivationCode.Reveal()},
		{"written to", r.OutputFile},
		{"region", r.Region},
		{"account", r.Account},
		{"cluster", r.Cluster},
		{"role", r.IAMRole},
		{"hosts", fmt.Sprint(r.Limit)},
		{"expires", r.Expires},
	})
	if r.OutputFile == "" {
		fmt.Fprintln(w, "\nThe code is not told again. On the host, as root, with the code on stdin:")
		fmt.Fprintf(w, "  anywhere register --region %s --cluster %s --activation-id %s --activation-code-file -\n",
			r.Region, r.Cluster, r.ActivationID)
	}
}

// Activations writes a table of activations.
func Activations(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.ListActivationsResult, now time.Time) {
	if len(r.Activations) > 0 {
		rows := [][]string{{"ACTIVATION", "LEFT", "EXPIRES", "ROLE", "NAME", "DESCRIPTION"}}
		for _, a := range r.Activations {
			rows = append(rows, []string{
				a.ActivationID, fmt.Sprintf("%d of %d", a.Left, a.Limit), expiry(a, now), a.IAMRole, a.Name, a.Description,
			})
		}
		Table(w, s, rows)
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, rep.Message)
}

// expiry is when an activation ends, and how long that is from now.
func expiry(a lifecycle.ActivationItem, now time.Time) string {
	at, err := time.Parse(time.RFC3339, a.Expires)
	switch {
	case a.Expired:
		return a.Expires + " (expired)"
	case err != nil:
		return a.Expires
	}
	return a.Expires + " (in " + rough(at.Sub(now)) + ")"
}

// rough is a duration in its largest unit, rounded down: 3d, 5h, 20m.
func rough(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dm", max(int(d.Minutes()), 0))
}

// DeletedActivations writes what was deleted.
func DeletedActivations(w io.Writer, rep lifecycle.Report, r lifecycle.DeleteActivationsResult) {
	fmt.Fprintln(w, rep.Message+strings.TrimRight(": "+strings.Join(r.Deleted, ", "), ": "))
}
