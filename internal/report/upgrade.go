package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// Upgrade writes what an upgrade has come to, or would.
func Upgrade(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.UpgradeResult) {
	if len(rep.Steps) > 0 && !rep.Changed {
		Plan(w, s, rep.Steps)
	}
	fmt.Fprintln(w, s.emphasis.Render(rep.Message))
	gap := ""
	if r.DisconnectedMs > 0 {
		gap = (time.Duration(r.DisconnectedMs) * time.Millisecond).Round(100 * time.Millisecond).String()
	}
	fields(w, s, [][2]string{
		{"ECS agent", versionsOf(r.ECSAgent)},
		{"SSM agent", versionsOf(r.SSMAgent)},
		{"container instance", r.ContainerInstanceARN},
		{"managed node", r.ManagedInstanceID},
		{"disconnected for", gap},
	})
	Owed(w, r.Owed)
}

// versionsOf is one agent's versions in a line; the running one only where it is another.
func versionsOf(a lifecycle.UpgradeAgent) string {
	parts := []string{a.Installed}
	if a.Before != "" {
		parts = append(parts, "before it "+a.Before)
	}
	if upstream, _, _ := strings.Cut(a.Installed, "-"); a.Running != "" && a.Running != upstream {
		parts = append(parts, a.Running+" runs")
	}
	switch {
	case a.Newest != "" && a.Channel != "":
		parts = append(parts, "the newest in its snap's channel "+a.Channel+" is "+a.Newest)
	case a.Newest != "":
		parts = append(parts, "the newest is "+a.Newest)
	}
	if a.Held {
		parts = append(parts, "held")
	}
	if a.KnownBad != "" {
		parts = append(parts, "known to be bad: "+a.KnownBad)
	}
	return strings.Join(parts, ", ")
}
