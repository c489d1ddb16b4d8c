package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// Status writes one screen: what is wrong and what to type first, then the host in rows.
func Status(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.StatusResult, now time.Time) {
	StatusReasons(w, s, rep, r)
	fields(w, s, statusRows(r, now))
	if r.Remote != nil {
		fmt.Fprintln(w, s.emphasis.Render("AWS says"))
		fields(w, s, remoteRows(*r.Remote, now))
	}
	for _, text := range rep.Warnings {
		fmt.Fprintf(w, "%s %s\n", s.mark("warn"), indented(text))
	}
	if hidden := needRoot(r.Unseen); len(hidden) > 0 {
		fmt.Fprintf(w, "%s %s\n", s.mark("skip"), s.dim.Render("not seen without root: "+strings.Join(hidden, ", ")))
	}
	for _, u := range r.Unseen {
		if !u.NeedsRoot {
			fmt.Fprintf(w, "%s %s\n", s.mark("skip"), s.dim.Render("not seen: "+u.Part+": "+u.Why))
		}
	}
}

// StatusReasons writes the state and why it is so.
func StatusReasons(w io.Writer, s Style, rep lifecycle.Report, r lifecycle.StatusResult) {
	if r.State == lifecycle.Healthy {
		fmt.Fprintf(w, "%s %s\n", s.mark("pass"), s.emphasis.Render(rep.Message))
		return
	}
	mark := "fail"
	if r.State == lifecycle.Unregistered || r.State == lifecycle.StateUnknown {
		mark = "warn"
	}
	fmt.Fprintf(w, "%s %s\n", s.mark(mark), s.emphasis.Render(StateWords(r.State)))
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "  %s\n", indented(reason.Message))
		if reason.Evidence != "" {
			fmt.Fprintf(w, "    %s %s\n", s.dim.Render("evidence:"), strings.ReplaceAll(indented(reason.Evidence), "\n", "\n  "))
		}
		if reason.Remedy != "" {
			fmt.Fprintf(w, "    %s %s\n", s.dim.Render("try:"), indented(reason.Remedy))
		}
	}
}

// StateWords is a state as people read it.
func StateWords(state lifecycle.HealthState) string {
	return strings.ReplaceAll(string(state), "_", " ")
}

// StatusLine is a status in one line, for a watch without a terminal.
func StatusLine(w io.Writer, rep lifecycle.Report, now time.Time) {
	fmt.Fprintf(w, "%s %s\n", Timestamp(now), strings.Join(strings.Fields(rep.Message), " "))
}

func needRoot(unseen []lifecycle.StatusUnseen) (parts []string) {
	for _, u := range unseen {
		if u.NeedsRoot {
			parts = append(parts, u.Part)
		}
	}
	return parts
}

func statusRows(r lifecycle.StatusResult, now time.Time) [][2]string {
	exec := "not ready: " + r.Exec.Why
	if r.Exec.Ready {
		exec = "ready, " + r.Exec.Version
	}
	if r.State == lifecycle.Unregistered {
		exec = ""
	}
	return [][2]string{
		{"cluster", joined(", ", r.Cluster, r.Region, prefix("account ", r.Account))},
		{"container instance", r.ContainerInstanceARN},
		{"managed node", joined(", ", r.ManagedInstanceID, r.Registration.Verdict)},
		{"ECS agent", joined("; ", versions(r.ECSAgent.Installed, r.ECSAgent.Running), serviceWords(r.ECSAgent.Unit, now), connectionWords(r, now))},
		{"SSM agent", joined("; ", versions(r.SSMAgent.Installed, r.SSMAgent.Running), serviceWords(r.SSMAgent.Unit, now))},
		{"Docker", dockerWords(r.Docker)},
		{"credentials", credentialWords(r.Credentials, now)},
		{"tasks", taskWords(r)},
		{"ECS Exec", exec},
		{"last operation", operationWords(r.Operation)},
		{"Ansible fact", r.FactsFile},
	}
}

func remoteRows(r lifecycle.StatusRemote, now time.Time) [][2]string {
	var rows [][2]string
	if e := r.ECS; e != nil {
		connected := "not connected"
		if e.AgentConnected {
			connected = "connected"
		}
		rows = append(rows, [2]string{"ECS", joined(", ", e.Status, connected, "agent "+e.AgentVersion,
			fmt.Sprintf("%d running, %d pending tasks", e.RunningTasks, e.PendingTasks), "registered "+e.RegisteredAt)})
	}
	if n := r.SSM; n != nil {
		rows = append(rows, [2]string{"Systems Manager", joined(", ", n.PingStatus, prefix("last ping ", ago(n.LastPing, now)),
			prefix("agent ", n.AgentVersion), prefix("role ", n.Role), n.Name, n.IP)})
	}
	for _, d := range r.Drift {
		if !d.Breaks { // the others stand above, as reasons
			rows = append(rows, [2]string{string(d.Kind), d.Message})
		}
	}
	return rows
}

func joined(separator string, parts ...string) string {
	var there []string
	for _, p := range parts {
		if p != "" {
			there = append(there, p)
		}
	}
	return strings.Join(there, separator)
}

func prefix(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// versions says one version where both are the same.
func versions(installed, running string) string {
	upstream, _, _ := strings.Cut(installed, "-")
	switch {
	case running == "":
		return prefix("installed ", installed)
	case installed == "" || upstream == running:
		return running + " running"
	}
	return running + " running, " + installed + " installed"
}

func serviceWords(u lifecycle.StatusUnit, now time.Time) string {
	switch {
	case u.Name == "":
		return ""
	case !u.Loaded:
		return "not installed"
	case u.CrashLoop:
		return fmt.Sprintf("%s is started again and again (%d restarts)", u.Name, u.Restarts)
	}
	words := u.Name + " " + joined(" ", u.Active, u.Sub)
	if u.Active == "active" {
		words = u.Name + prefix(" up ", since(u.Since, now))
	}
	if !u.Enabled {
		words += ", not at boot"
	}
	return words
}

func connectionWords(r lifecycle.StatusResult, now time.Time) string {
	switch c := r.Connection; {
	case c.Connected:
		return prefix("connected to ECS for ", since(c.Since, now))
	case c.Lost != "" && r.ECSAgent.Installed != "": // the log of one that is gone says nothing of now
		return prefix("without a connection to ECS for ", since(c.Lost, now))
	}
	return ""
}

func dockerWords(d lifecycle.StatusDocker) string {
	if d.Running {
		return joined(" ", d.Version, "running")
	}
	if !d.Present && d.Why == "" {
		return "not installed"
	}
	return joined(": ", "not running", d.Why)
}

func credentialWords(c lifecycle.StatusCredentials, now time.Time) string {
	words := ""
	switch at, err := time.Parse(time.RFC3339, c.Expires); {
	case err != nil && c.Expires == "":
	case err != nil:
		words = c.Expires
	case at.After(now):
		words = fmt.Sprintf("until %s (in %s), profile %s", c.Expires, rough(at.Sub(now)), c.Profile)
	default:
		words = fmt.Sprintf("expired at %s (%s ago)", c.Expires, rough(now.Sub(at)))
	}
	return joined("; ", words, prefix("the ECS agent's are from ", c.Provider))
}

func taskWords(r lifecycle.StatusResult) string {
	if r.ContainerInstanceARN == "" {
		return ""
	}
	words := fmt.Sprintf("%d running", r.Tasks.Running)
	if r.Tasks.Pending > 0 {
		words += fmt.Sprintf(", %d pending", r.Tasks.Pending)
	}
	const most = 8
	var names []string
	for i, t := range r.Tasks.List {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(r.Tasks.List)-most))
			break
		}
		names = append(names, t.Definition+prefix(" ", otherThan(t.Status, "RUNNING")))
	}
	return joined(": ", words, strings.Join(names, ", "))
}

func otherThan(text, usual string) string {
	if text == usual {
		return ""
	}
	return text
}

func operationWords(o lifecycle.StatusOperation) string {
	switch {
	case o.AtWork != "":
		return "at work: " + o.AtWork
	case o.Unfinished != nil:
		return fmt.Sprintf("%s, begun at %s, not finished", o.Unfinished.Verb, o.Unfinished.StartedAt)
	case o.Last != nil:
		return fmt.Sprintf("%s, %s at %s", o.Last.Verb, o.Last.How, o.Last.EndedAt)
	}
	return ""
}

// since is how long ago a time of a document is; empty when it is none.
func since(text string, now time.Time) string {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return ""
	}
	if d := now.Sub(at); d < time.Minute {
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	}
	return rough(now.Sub(at))
}

func ago(text string, now time.Time) string {
	if d := since(text, now); d != "" {
		return d + " ago"
	}
	return ""
}
