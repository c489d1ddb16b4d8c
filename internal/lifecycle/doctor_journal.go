package lifecycle

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// JournalFailure is something that the journal is known to say when a host does not work: what Docker, systemd and the
// kernel say. What the agents say is in their own catalogues.
type JournalFailure struct {
	Units  []string // in whose journal it stands: unitDocker, unitAgents, unitKernel
	Texts  []string // a message that has all of them is this failure
	Code   failure.Code
	Cause  string
	Remedy string
	Over   []string // a later message of the same unit that has one of them shows that it is over
	// Warning: the host can be healthy with it.
	Warning bool
	Since   string // first version that says so; empty when it is not known
	Until   string // last one; empty when it still does
	Source  string
	Sample  string
}

// Whose journal.
const (
	unitDocker = "docker"
	unitAgents = "agents"
	unitKernel = "kernel"
)

var overDocker = []string{"API listen on", "Started Docker Application Container Engine"}

// journalFailures are known, the particular before the general.
var journalFailures = []JournalFailure{
	// Docker's daemon does not start.
	{Units: []string{unitDocker}, Texts: []string{"unable to configure the Docker daemon with file"}, Code: failure.DockerDown,
		Cause:  "Docker does not start: its configuration is no JSON, or has a setting that it does not know",
		Remedy: "dockerd --validate --config-file /etc/docker/daemon.json shows where; then systemctl start docker", Over: overDocker,
		Source: "https://github.com/moby/moby/issues/44905",
		Sample: "unable to configure the Docker daemon with file /etc/docker/daemon.json: invalid character '}' " +
			"looking for beginning of object key string"},
	{Units: []string{unitDocker}, Texts: []string{"failed to create NAT chain DOCKER", "not found"}, Code: failure.ToolMissing,
		Cause:  "Docker does not start: there is no iptables",
		Remedy: "install the package iptables; then systemctl start docker", Over: overDocker,
		Source: "https://github.com/dyrnq/install-docker/issues/10",
		Sample: "failed to start daemon: Error initializing network controller: failed to create NAT chain DOCKER: " +
			"Iptables not found"},
	{Units: []string{unitDocker}, Texts: []string{"failed to create NAT chain DOCKER"}, Code: failure.DockerDown,
		Cause: "Docker does not start: iptables does not work, most often because the kernel was upgraded and its " +
			"modules are gone until a reboot",
		Remedy: "iptables -t nat -L must work: reboot after a kernel's upgrade, or modprobe iptable_nat; then " +
			"systemctl start docker", Over: overDocker,
		Source: "https://github.com/docker/for-linux/issues/1105",
		Sample: "failed to start daemon: Error initializing network controller: error obtaining controller " +
			"instance: failed to create NAT chain DOCKER: iptables failed"},
	{Units: []string{unitDocker}, Texts: []string{"timeout waiting for containerd to start"}, Code: failure.DockerDown,
		Cause:  "Docker does not start: containerd does not come up in time",
		Remedy: "systemctl status containerd; journalctl -u containerd -n 50; then systemctl start docker", Over: overDocker,
		Source: "https://github.com/moby/moby/issues/43281",
		Sample: "failed to start containerd: timeout waiting for containerd to start"},
	{Units: []string{unitDocker}, Texts: []string{"ensure docker is not running or delete", "docker.pid"}, Code: failure.DockerDown,
		Cause:  "Docker does not start: it takes another process for an earlier daemon, by its pid file",
		Remedy: "if no dockerd runs (pgrep dockerd), remove /var/run/docker.pid; then systemctl start docker", Over: overDocker,
		Source: "https://github.com/moby/moby/issues/46988",
		Sample: "failed to start daemon, ensure docker is not running or delete /var/run/docker.pid: process with " +
			"PID 162 is still running"},
	{Units: []string{unitDocker}, Texts: []string{"Devices cgroup isn't mounted"}, Code: failure.CgroupUnusable,
		Cause:  "Docker does not start: the control groups are not mounted",
		Remedy: "anywhere preflight --only cgroup.version,cgroup.memory", Over: overDocker,
		Source: "https://github.com/docker/for-linux/issues/219",
		Sample: "Error starting daemon: Devices cgroup isn't mounted"},
	{Units: []string{unitDocker, unitAgents, unitKernel}, Texts: []string{"no space left on device"}, Code: failure.DiskFull,
		Cause: "a file system is full, or has no inodes left",
		Remedy: "df -h; df -i; docker system df shows what Docker keeps: docker image prune removes images that " +
			"nothing uses",
		Over: overDocker, Source: "https://github.com/moby/moby/issues/45760",
		Sample: "error creating overlay mount to /var/lib/docker/overlay2/ee44/merged: no space left on device"},
	{Units: []string{unitDocker}, Texts: []string{"CredentialsEndpointError"}, Code: failure.AgentConfig, Warning: true,
		Cause: "Docker asks its proxy for the task's credentials: 169.254.170.2 is missing in its NO_PROXY, so " +
			"awslogs gets none",
		Remedy: "add 169.254.170.2,169.254.169.254 to NO_PROXY in Docker's drop-in; anywhere preflight --only " +
			"network.proxy",
		Source: "https://github.com/awsdocs/amazon-ecs-developer-guide/issues/166",
		Sample: "Failed to create log stream: CredentialsEndpointError: failed to load credentials"},
	{Units: []string{unitDocker}, Texts: []string{"x509: "}, Code: failure.TLSUntrusted, Warning: true,
		Cause: "Docker does not trust a registry's certificate, as with a proxy that breaks TLS open: images " +
			"cannot be pulled",
		Remedy: "add the authority to the system's store and restart Docker when no task runs, or let the proxy " +
			"pass the registries through",
		Source: "https://docs.docker.com/engine/security/certificates/",
		Sample: `Attempting next endpoint for pull after error: Get "https://registry-1.docker.io/v2/": x509: certificate signed by unknown authority`},
	{Units: []string{unitDocker}, Texts: []string{"toomanyrequests"}, Code: failure.Throttled, Warning: true,
		Cause:  "Docker Hub refuses further pulls for some hours: its limit for this address is used up",
		Remedy: "log in to Docker Hub, or pull from a registry of your own (ECR)",
		Source: "https://docs.docker.com/docker-hub/usage/",
		Sample: "Not continuing with pull after error: toomanyrequests: You have reached your pull rate limit."},

	// systemd.
	{Units: []string{unitDocker}, Texts: []string{"Start request repeated too quickly"}, Code: failure.DockerDown,
		Cause:  "systemd has given up starting Docker: it died several times in a row",
		Remedy: "journalctl -u docker -n 50 says why; then systemctl reset-failed docker && systemctl start docker", Over: overDocker,
		Source: "https://github.com/moby/moby/issues/33931", Sample: "docker.service: Start request repeated too " +
			"quickly."},
	{Units: []string{unitAgents}, Texts: []string{"Start request repeated too quickly"}, Code: failure.ServiceFailed,
		Cause:  "systemd has given up starting an agent: it died several times in a row",
		Remedy: "journalctl -u ecs -u amazon-ssm-agent -n 50 says why; anywhere doctor --fix starts it again", Over: []string{"Started "},
		Source: "systemd.unit(5), StartLimitIntervalSec", Sample: "ecs.service: Start request repeated too quickly."},
	{Units: []string{unitAgents}, Texts: []string{"Failed at step EXEC"}, Code: failure.PackagesBroken,
		Cause:  "an agent's program is not there, or cannot be executed",
		Remedy: "reinstall its package: anywhere register again does", Over: []string{"Started "},
		Source: "systemd.exec(5), exit status 203", Sample: "ecs.service: Failed at step EXEC spawning " +
			"/usr/libexec/amazon-ecs-init: No such file or directory"},
	{Units: []string{unitDocker, unitAgents}, Texts: []string{"Failed with result 'oom-kill'"}, Code: failure.ServiceFailed,
		Cause:  "the kernel has killed the service because memory ran out",
		Remedy: "free -m; lower what tasks may use, or ECS_RESERVED_MEMORY keeps some for the system", Over: []string{"Started "},
		Source: "https://github.com/moby/moby/issues/40298", Sample: "docker.service: Failed with result 'oom-kill'."},
	{Units: []string{unitDocker, unitAgents}, Texts: []string{"is masked"}, Code: failure.ServiceFailed,
		Cause:  "somebody has masked the unit, so that nothing can start it",
		Remedy: "systemctl unmask it, if it is to run", Over: []string{"Started "},
		Source: "systemctl(1), mask", Sample: "Failed to start ecs.service: Unit ecs.service is masked."},

	// The kernel.
	{Units: []string{unitKernel}, Texts: []string{"Out of memory: Killed process"}, Code: failure.ServiceFailed, Warning: true,
		Cause:  "memory ran out, and the kernel has killed a process",
		Remedy: "give tasks hard limits of memory, and keep some for the system: ECS_RESERVED_MEMORY",
		Source: "https://github.com/docker/for-linux/issues/1001",
		Sample: "Out of memory: Killed process 16295 (python3) total-vm:11964kB, anon-rss:4304kB"},
	{Units: []string{unitKernel}, Texts: []string{"Remounting filesystem read-only"}, Code: failure.ReadOnly,
		Cause:  "the kernel found a file system damaged and made it read-only",
		Remedy: "see to the disk (dmesg, smartctl -a), check the file system (fsck) and reboot",
		Source: "https://github.com/coreos/bugs/issues/2586", Sample: "EXT4-fs (sda1): Remounting filesystem read-only"},
	{Units: []string{unitKernel}, Texts: []string{"I/O error, dev "}, Code: failure.ReadOnly, Warning: true,
		Cause:  "a disk does not read or write: it is about to fail, or was taken away",
		Remedy: "see to the disk: dmesg, smartctl -a",
		Source: "https://www.kernel.org/doc/html/latest/block/", Sample: "blk_update_request: I/O error, dev sda, " +
			"sector 6833004 op 0x1:(WRITE)"},
}

// journal is what the journal has.
type journal struct {
	seen   []journalSighting
	lines  int           // how many were read
	unseen *StatusUnseen // why it was not read
	text   map[string][]journalMessage
}

type journalSighting struct {
	row         int
	unit        string // as people name it: docker.service, kernel
	first, last time.Time
	count       int
	line        string
	over        bool
}

// journalBack is how far back the journal is read, and journalTime how long it may take.
const (
	journalBack  = 24 * time.Hour
	journalLines = 300
	journalTime  = 3 * time.Second
)

// readJournal reads what the journal has of Docker, the agents and the kernel. It is read by its own program, for its
// format is systemd's own.
func readJournal(caller context.Context, d Deps, ecsUnit string) journal {
	j := journal{text: map[string][]journalMessage{}}
	if d.Host.Runner == nil {
		j.unseen = &StatusUnseen{Part: "the journal", Why: "there is nothing to read it with on this host"}
		return j
	}
	ctx, cancel := context.WithTimeoutCause(caller, journalTime, errNoAnswer)
	defer cancel()
	sources := []struct {
		kind, name string
		args       []string
	}{
		{unitDocker, "docker.service", []string{"--unit=docker.service"}},
		{unitDocker, "containerd.service", []string{"--unit=containerd.service"}},
		{unitAgents, ecsUnit, []string{"--unit=" + ecsUnit}},
		{unitAgents, ssmagent.UnitOf(d.Host.Reader), []string{"--unit=" + ssmagent.UnitName, "--unit=" + ssmagent.SnapUnit}},
		{unitKernel, unitKernel, []string{"--dmesg"}},
	}
	type answer struct {
		messages []journalMessage
		err      error
	}
	answers := make([]answer, len(sources))
	var asking sync.WaitGroup
	for i, s := range sources {
		asking.Go(func() { answers[i].messages, answers[i].err = askJournal(ctx, d.Host, s.args) })
	}
	asking.Wait()
	for i, s := range sources {
		if err := answers[i].err; err != nil {
			if j.unseen == nil {
				j.unseen = &StatusUnseen{Part: "the journal", Why: why(err), NeedsRoot: denied(err)}
			}
			continue
		}
		j.lines += len(answers[i].messages)
		j.seen = append(j.seen, journalSightings(s.kind, s.name, answers[i].messages, d.Host.Now())...)
		j.text[s.name] = answers[i].messages
	}
	return j
}

// messages are those of a unit, a line each.
func (j journal) messages(unit string) string {
	var b strings.Builder
	for _, m := range j.text[unit] {
		b.WriteString(m.text + "\n")
	}
	return b.String()
}

type journalMessage struct {
	at   time.Time
	text string
}

// askJournal runs journalctl once.
func askJournal(ctx context.Context, h host.Host, which []string) ([]journalMessage, error) {
	args := append([]string{
		"--no-pager", "--output=json", "--lines=" + strconv.Itoa(journalLines),
		"--since=@" + strconv.FormatInt(h.Now().Add(-journalBack).Unix(), 10),
	}, which...)
	ask := func(args ...string) (host.Result, error) {
		return h.Runner.Run(ctx, host.Cmd{Path: journalctl(h.Files), Args: args, Disposable: true})
	}
	result, err := ask(append(args, "--output-fields=MESSAGE")...)
	if err == nil && result.ExitCode != 0 && strings.Contains(result.Output, "unrecognized option") { // before systemd 236
		result, err = ask(args...)
	}
	if err != nil {
		return nil, err
	}
	if hidden := strings.Contains(result.Output, "not seeing messages from other users and the system") ||
		strings.Contains(result.Output, "insufficient permissions"); hidden {
		return nil, failure.New(failure.NotRoot, "needs root")
	}
	if result.ExitCode != 0 {
		return nil, failure.New(failure.Internal, "journalctl ended with exit status %d: %s", result.ExitCode, lastLineOf(result.Output))
	}
	var messages []journalMessage
	for line := range strings.Lines(result.Output) {
		var entry struct {
			Time    string          `json:"__REALTIME_TIMESTAMP"`
			Message json.RawMessage `json:"MESSAGE"`
		}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue // "-- No entries --", or a line whose beginning was cut off
		}
		micros, err := strconv.ParseInt(entry.Time, 10, 64)
		if err != nil {
			continue
		}
		messages = append(messages, journalMessage{time.UnixMicro(micros).UTC(), messageText(entry.Message)})
	}
	return messages, nil
}

// journalctl is the program's path: PATH is not for a program that runs as root to believe.
func journalctl(files host.Files) string {
	for _, path := range []string{"/usr/bin/journalctl", "/bin/journalctl"} {
		if _, err := files.Stat(path); err == nil {
			return path
		}
	}
	return "/usr/bin/journalctl"
}

// messageText is a message, which is an array of bytes where it is no text.
func messageText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var numbers []int
	if json.Unmarshal(raw, &numbers) != nil {
		return ""
	}
	var b strings.Builder
	for _, n := range numbers {
		b.WriteByte(byte(n))
	}
	return strings.ToValidUTF8(b.String(), "")
}

func lastLineOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// recogniseJournal is the index of the first row that fits, or -1.
func recogniseJournal(kind, text string) int {
	return slices.IndexFunc(journalFailures, func(f JournalFailure) bool {
		return slices.Contains(f.Units, kind) &&
			!slices.ContainsFunc(f.Texts, func(want string) bool { return !strings.Contains(text, want) })
	})
}

func journalSightings(kind, unit string, messages []journalMessage, now time.Time) []journalSighting {
	seen := map[int]*journalSighting{}
	for _, m := range messages {
		for row, s := range seen {
			s.over = s.over || slices.ContainsFunc(journalFailures[row].Over, func(text string) bool { return strings.Contains(m.text, text) })
		}
		row := recogniseJournal(kind, m.text)
		if row < 0 {
			continue
		}
		s := seen[row]
		if s == nil || s.over {
			s = &journalSighting{row: row, unit: unit, first: m.at}
			seen[row] = s
		}
		s.count, s.last, s.line = s.count+1, m.at, shortLine(m.text)
	}
	var all []journalSighting
	for _, s := range seen {
		s.over = s.over || now.Sub(s.last) > journalBack
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b journalSighting) int { return a.row - b.row })
	return all
}

// shortLine is a line fit to be shown.
func shortLine(text string) string {
	const most = 400
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// fromJournal are the known failures in the journal.
func (x *examination) fromJournal() []DoctorFinding {
	var all []DoctorFinding
	for _, s := range x.journal.seen {
		row := journalFailures[s.row]
		f := x.fromLine(row.Code, row.Cause, row.Remedy, "", s.over, false,
			DoctorEvidence{"journal", s.unit, x.clean(s.line), stamp(s.first), stamp(s.last), s.count})
		if row.Warning && f.Kind == FindingCause {
			f.Kind = FindingWarning
		}
		all = append(all, f)
	}
	return newestHistory(all)
}
