package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
)

const (
	openJournal = "/var/lib/anywhere/journal/open.jsonl"
	runLog      = "/var/log/anywhere/anywhere.log"
	ssmWaits    = "/run/amazon-ssm-agent.postinst" // there while the postinst of a package with PostinstWaits waits
	ecsWaits    = "/run/amazon-ecs-init.postinst"
)

// treeOf are the folders in which a run may leave something.
var treeOf = []string{"/etc", "/usr", "/var/lib/anywhere", "/var/lib/ecs", "/var/lib/amazon", "/var/cache/ecs", "/root"}

// in is the site as a subtest sees it.
func (s *site) in(t *testing.T) *site {
	part := *s
	part.t = t
	return &part
}

// left is how many registrations an activation has left.
func (s *site) left(token string) int {
	s.t.Helper()
	parsed, err := control.ParseToken(token)
	if err != nil {
		s.t.Fatal(err)
	}
	n, ok := s.aws.ActivationsLeft(parsed.ActivationID)
	if !ok {
		s.t.Fatal("the activation is gone")
	}
	return n
}

// running is an anywhere at work on a host, with the lines that its journal had before it.
type running struct {
	t      testing.TB
	h      *lab.Machine
	p      *lab.Process
	pid    int
	before int
	ended  chan struct{}
	res    lab.Result
}

// begin starts a command as a shell would: what it starts outlives it.
func (s *site) begin(h *lab.Machine, cmd lab.Cmd) *running {
	s.t.Helper()
	others := h.Pids("anywhere")
	cmd.Outlived = true
	r := &running{t: s.t, h: h, before: len(journal(h)), ended: make(chan struct{})}
	r.p = h.Start(cmd)
	go func() {
		defer close(r.ended)
		r.res = r.p.Wait()
	}()
	await(s.t, "anywhere runs", func() bool {
		for _, pid := range h.Pids("anywhere") {
			if !slices.Contains(others, pid) {
				r.pid = pid
			}
		}
		return r.pid != 0 || r.over()
	})
	return r
}

func (r *running) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// end waits for the command.
func (r *running) end() lab.Result {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(3 * time.Minute):
		r.t.Fatalf("anywhere does not end; its journal:\n%s", strings.Join(journal(r.h), "\n"))
	}
	return r.res
}

// signal sends a signal to anywhere alone.
func (r *running) signal(sig syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(r.pid, sig); err != nil {
		r.t.Fatalf("send %v to anywhere: %v", sig, err)
	}
}

// until waits for a state of the lines that this run has added to the journal; false when the run ended before that.
func (r *running) until(so func(added []string) bool) bool {
	r.t.Helper()
	for limit := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Microsecond) {
		if lines := journal(r.h); len(lines) > r.before && so(lines[r.before:]) {
			return true
		}
		if r.over() {
			return false
		}
		if time.Now().After(limit) {
			r.t.Fatalf("the journal does not come to it:\n%s", strings.Join(journal(r.h), "\n"))
		}
	}
}

// killed kills the run at once with SIGKILL.
func (r *running) killed() {
	r.t.Helper()
	_ = syscall.Kill(r.pid, syscall.SIGKILL) // it may have ended just now
	if res := r.end(); res.Stdout != "" && res.Exit != 0 {
		r.t.Errorf("a killed run has told its end: %v", res)
	}
}

// journal is the whole lines of the open journal.
func journal(h *lab.Machine) []string {
	text, err := h.ReadFile(openJournal)
	if err != nil {
		return nil
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	return slices.Collect(strings.Lines(string(text)))
}

// line tells a line of the journal by what is in it, and with "!" in front what is not.
func line(parts ...string) func([]string) bool {
	return func(added []string) bool {
		return slices.ContainsFunc(added, func(l string) bool {
			for _, part := range parts {
				unwanted, not := strings.CutPrefix(part, "!")
				if strings.Contains(l, unwanted) == not {
					return false
				}
			}
			return true
		})
	}
}

// closedJournal is the lines of the last journal that was closed.
func closedJournal(h *lab.Machine) []string {
	names := h.Glob("/var/lib/anywhere/journal/2*.jsonl")
	if len(names) == 0 {
		return nil
	}
	text, _ := h.ReadFile(names[len(names)-1])
	return slices.Collect(strings.Lines(string(text)))
}

// again is the command that goes on: past the point of no return it needs no token.
func (s *site) again(h *lab.Machine, token string) lab.Cmd {
	if h.Exists("/var/lib/amazon/ssm/registration") {
		token = ""
	}
	return s.register(token)
}

// proceed ends what was interrupted, and checks that all is as it should be after a registration.
func (s *site) proceed(h *lab.Machine, cmd lab.Cmd) document {
	s.t.Helper()
	d := s.mustRegister(h, cmd)
	s.settledIn(h)
	return d
}

// settledIn checks what must be so whenever a registration has ended well.
func (s *site) settledIn(h *lab.Machine) {
	s.t.Helper()
	if h.Exists(openJournal) {
		s.t.Errorf("the journal is still open:\n%s", strings.Join(journal(h), ""))
	}
	if got := audit(h); got != "" {
		s.t.Errorf("the package manager is not well: %s", got)
	}
	for _, unit := range []string{"amazon-ssm-agent.service", ecsUnit(h)} {
		if u := h.Unit(unit); u.Active != "active" || u.Sub != "running" || u.Enabled != "enabled" {
			s.t.Errorf("%s is %+v", unit, u)
		}
	}
	if found := h.Glob("/var/lib/anywhere/backup/2*"); len(found) > 1 {
		s.t.Errorf("backups of a finished operation: %v", found)
	}
}

// ofOneHost is what must differ between two registered hosts: the identity, what the agents write for themselves, and
// what bears the run's name or time.
func ofOneHost(path string) bool {
	for _, prefix := range []string{
		"/etc/machine-id", "/etc/docker/key.json",
		"/var/lib/amazon/ssm/Vault", "/var/lib/amazon/ssm/registration", "/root/.aws/credentials", // key, id, session
		"/var/lib/amazon/ssm/runtimeconfig", // where they are
		"/var/lib/ecs/data/agent.db",        // the container instance
		"/var/lib/anywhere/journal/",        // named by time and run
		"/var/lib/anywhere/record.json",     // compared by itself: the ids in it differ
	} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// differences are the lines of a comparison that nothing explains.
func differences(before, after lab.Tree, explained func(path string) bool) []string {
	return slices.DeleteFunc(lab.Diff(before, after), func(l string) bool { return explained(strings.Fields(l)[1]) })
}

// record is the host's record without the ids.
func record(t *testing.T, h *lab.Machine) string {
	t.Helper()
	text, err := h.ReadFile("/var/lib/anywhere/record.json")
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	delete(r, "registration")
	started, _ := r["started"].(map[string]any) // digests, of the ids too
	for unit := range started {
		started[unit] = "digest"
	}
	files, _ := r["files"].([]any)
	slices.SortFunc(files, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	out, _ := json.MarshalIndent(r, "", "  ")
	return string(out)
}

// state is what an undone operation must leave as it was: files and units.
type state struct {
	tree     lab.Tree
	units    map[string]string
	packages string
}

func stateOf(h *lab.Machine) state {
	list := "dpkg-query -W"
	if byRPM(h) {
		list = "rpm -qa | sort"
	}
	return state{h.Tree(treeOf...), h.Units(), h.MustShell(list)}
}

// byRPM reports whether the host's packages are rpms.
func byRPM(h *lab.Machine) bool { return h.Exists("/usr/bin/rpm") }

// suseUnit is the ECS agent's service where ecs.service is not.
const suseUnit = "amazon-ecs.service"

// ecsUnit is the ECS agent's service on a host.
func ecsUnit(h *lab.Machine) string {
	if h.Exists("/usr/lib/systemd/system/" + suseUnit) {
		return suseUnit
	}
	return "ecs.service"
}

// audit is what the package manager finds amiss with what is installed; empty when all is well.
func audit(h *lab.Machine) string {
	if !byRPM(h) {
		return h.MustShell("dpkg --audit")
	}
	// What is a configuration file (c) may be changed, what is only claimed (g) may be missing, and ecs-init writes its state.
	return h.MustShell("for p in $(rpm -qa 'amazon-*'); do rpm -V --nodeps $p | grep -v -e ' [cg] /' -e /var/cache/ecs/state; done; " +
		"ls -d /var/lib/anywhere/rpm 2>/dev/null || :")
}

// notOurChange is what stays after an undone operation: caches and the journals are not changes.
func notOurChange(path string) bool {
	return path == "/var/lib/anywhere" || path == "/var/lib/anywhere/backup" ||
		strings.HasPrefix(path, "/var/lib/anywhere/journal") || strings.HasPrefix(path, "/var/lib/anywhere/packages")
}

// mustBeAsBefore checks that an operation was undone without a trace.
func (s *site) mustBeAsBefore(h *lab.Machine, before state, after string) {
	s.t.Helper()
	now := stateOf(h)
	if diff := differences(before.tree, now.tree, notOurChange); len(diff) > 0 {
		s.t.Errorf("%s the host is not as it was:\n%s", after, strings.Join(diff, "\n"))
	}
	for unit, was := range before.units {
		if now.units[unit] != was {
			s.t.Errorf("%s %s is %q and was %q", after, unit, now.units[unit], was)
		}
	}
	for unit, is := range now.units {
		if _, known := before.units[unit]; !known {
			s.t.Errorf("%s %s is %q and was not there", after, unit, is)
		}
	}
	if before.packages != now.packages {
		s.t.Errorf("%s the package manager lists\n%s\nand listed\n%s", after, now.packages, before.packages)
	}
	if got := audit(h); got != "" {
		s.t.Errorf("%s the package manager is not well: %s", after, got)
	}
	if h.Exists(openJournal) {
		s.t.Errorf("%s the journal is still open", after)
	}
}

// mustKeepSecrets looks for the token and the activation's code in every file of the host and in its logs. They are given
// on stdin, for systemd logs command lines.
func (s *site) mustKeepSecrets(h *lab.Machine, token string) {
	s.t.Helper()
	parsed, err := control.ParseToken(token)
	if err != nil {
		s.t.Fatal(err)
	}
	secrets := token + "\n" + parsed.Code.Reveal() + "\n"
	const look = `cat >/dev/shm/secrets
grep -rlsF -D skip -f /dev/shm/secrets /var /etc /root /run /tmp /usr/local
journalctl --no-pager -o verbose | grep -F -f /dev/shm/secrets
rm /dev/shm/secrets`
	if res := h.Run(lab.Cmd{Args: []string{"/bin/sh", "-c", look}, Stdin: secrets}); res.Stdout != "" || res.Exit != 0 {
		s.t.Errorf("the token or the activation's code is on the host: %v", res)
	}
}

// releaseAll lets every postinst that waits go on, until the returned function is called.
func releaseAll(h *lab.Machine) (stop func()) { return release(h, ssmWaits, ecsWaits) }

// release removes the marks of scripts that wait, until the returned function is called.
func release(h *lab.Machine, markers ...string) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
			for _, marker := range markers {
				_ = h.RemoveFile(marker)
			}
		}
	}()
	return func() { close(done); <-stopped }
}
