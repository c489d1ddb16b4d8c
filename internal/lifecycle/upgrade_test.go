package lifecycle

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Which version each agent is to have, and what becomes of it.
func TestWhichVersion(t *testing.T) {
	const failed = "1.106.0-1"
	for _, test := range []struct {
		name      string
		installed string
		running   string
		held      bool
		partial   bool
		asked     string // "" takes the newest
		target    string // what the source made of it
		allow     bool
		check     bool
		back      bool // on the way back from an upgrade

		wants, action string
		code          failure.Code
		says          string // in the failure or a warning
	}{
		{name: "the newest is there", installed: "1.105.1-1", target: "1.105.1-1", wants: "1.105.1-1", action: actNone},
		{name: "and its agent too", installed: "1.105.1-1", running: "1.105.1", target: "1.105.1-1", wants: "1.105.1-1", action: actNone},
		{name: "the package was replaced by hand", installed: "1.105.1-1", running: "1.104.0", target: "1.105.1-1", wants: "1.105.1-1", action: actRestart},
		{name: "a newer one", installed: "1.104.0-1", target: "1.105.1-1", wants: "1.105.1-1", action: actReplace},
		{name: "a newer one, by name", installed: "1.104.0-1", asked: "1.105.1", target: "1.105.1-1", wants: "1.105.1-1", action: actReplace},
		{name: "1.99 is older than 1.100", installed: "1.100.0-1", target: "1.99.1-1", code: failure.KnownBadVersion, says: "EC2 role"},
		{name: "half installed", installed: "1.105.1-1", partial: true, target: "1.105.1-1", wants: "1.105.1-1", action: actReplace},
		{name: "the newest is older", installed: "1.107.0-1", target: "1.105.1-1", wants: "1.107.0-1", action: actNone, says: "the newest that can be had is 1.105.1-1"},
		{name: "an older one", installed: "1.105.1-1", asked: "1.104.0", target: "1.104.0-1", code: failure.DowngradeRefused, says: "older"},
		{name: "an older one, allowed", installed: "1.105.1-1", asked: "1.104.0", target: "1.104.0-1", allow: true, wants: "1.104.0-1", action: actReplace,
			says: "--drain moves them away first"},
		{name: "back to one that is not installed anew", installed: "1.105.1-1", asked: "1.99.1", target: "1.99.1-1", allow: true, back: true,
			wants: "1.99.1-1", action: actReplace, says: "EC2 role"},
		{name: "that keeps its state elsewhere", installed: "1.105.1-1", asked: "1.43.0", target: "1.43.0-1", allow: true,
			code: failure.DowngradeRefused, says: "do not read /var/lib/ecs/data/agent.db"},
		{name: "too old for external instances", installed: "1.105.1-1", asked: "1.51.0", target: "1.51.0-1", allow: true, code: failure.KnownBadVersion},
		{name: "known to be bad", installed: "1.104.0-1", asked: "1.85.0", target: "1.85.0-1", allow: true, code: failure.KnownBadVersion},
		{name: "the newest is known to be bad, with --check", installed: "1.84.0-1", check: true, target: "1.85.0-1", wants: "1.84.0-1", action: actNone,
			says: "known to be bad"},
		{name: "failed before", installed: "1.105.1-1", target: failed, wants: "1.105.1-1", action: actNone, says: "is not tried again"},
		{name: "failed before, and named", installed: "1.105.1-1", asked: "1.106.0", target: failed, wants: failed, action: actReplace},
		{name: "held", installed: "1.104.0-1", held: true, target: "1.105.1-1", code: failure.PackageHeld, says: "held at 1.104.0-1"},
		{name: "held, and named", installed: "1.104.0-1", held: true, asked: "1.105.1", target: "1.105.1-1", wants: "1.105.1-1", action: actReplace},
		{name: "held, with --check", installed: "1.104.0-1", held: true, check: true, target: "1.105.1-1", wants: "1.105.1-1", action: actNone, says: "is held"},
		{name: "held, and the newest", installed: "1.105.1-1", held: true, target: "1.105.1-1", wants: "1.105.1-1", action: actNone},
	} {
		t.Run(test.name, func(t *testing.T) {
			verb := verbUpgrade
			if test.back {
				verb = verbUpgradeBack
			}
			u := newUpgrade(Deps{Host: newMachine(t).host(), RunID: "run-1"},
				UpgradeRequest{ECSAgentVersion: test.asked, AllowDowngrade: test.allow, Check: test.check}, verb)
			u.pins = map[string]string{}
			u.failed = []FailedUpgrade{{Package: ecsagent.Package, Version: failed, At: "then", Reason: "it died"}}
			a := u.ecs()
			a.installed = host.Package{Name: a.name, Version: test.installed, Installed: !test.partial, Partial: test.partial, Held: test.held}
			a.running, a.target = test.running, test.target
			err := u.settleTarget(a)
			told := strings.Join(u.warnings, "; ")
			if err != nil {
				told = err.Error()
			}
			if !strings.Contains(told, test.says) {
				t.Errorf("it says %q", told)
			}
			if test.code != "" {
				if !failure.Is(err, test.code) || failure.Of(err).Advice() == "" {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || a.target != test.wants || a.action != test.action {
				t.Errorf("it is to have %s: %s, %v", a.target, a.action, err)
			}
		})
	}
}

func TestUpgradeInASession(t *testing.T) {
	inSession := func(m *machine) {
		m.write("/proc/self/stat", "9 (anywhere) S 7 9")
		m.write("/proc/7/stat", "7 (ssm-document-wo) S 6 7")
	}
	for _, test := range []struct {
		name   string
		action string
		risks  []string
		change func(*machine)
		code   failure.Code
	}{
		{"elsewhere", actReplace, nil, func(*machine) {}, ""},
		{"in one", actReplace, nil, inSession, failure.SSMSession},
		{"in one, that is accepted", actReplace, []string{riskSession}, inSession, ""},
		{"in one, and the SSM agent stays", actNone, nil, inSession, ""},
	} {
		m := newMachine(t)
		test.change(m)
		u := newUpgrade(Deps{Host: m.host(), RunID: "run-1"}, UpgradeRequest{AcceptRisk: test.risks}, verbUpgrade)
		u.ssm().action = test.action
		err := u.settleSession()
		if (err == nil) != (test.code == "") || err != nil && !failure.Is(err, test.code) {
			t.Errorf("%s: %v", test.name, err)
		}
		if accepted := len(test.risks) > 0; accepted != (len(u.warnings) > 0) {
			t.Errorf("%s: warnings %q", test.name, u.warnings)
		}
	}
}

// timers is a service manager that knows no unit but what it was told.
type timers struct {
	m    *machine
	told []string
}

func (s *timers) say(verb, name string) error { s.told = append(s.told, verb+" "+name); return nil }

func (s *timers) Start(_ context.Context, name string) error {
	s.m.units[name] = host.Unit{Name: name, Loaded: true, Active: "active", Sub: "waiting", Enabled: "enabled"}
	return s.say("start", name)
}
func (s *timers) Stop(_ context.Context, name string) error {
	delete(s.m.units, name)
	return s.say("stop", name)
}
func (s *timers) Restart(_ context.Context, name string) error { return s.say("restart", name) }
func (s *timers) Enable(_ context.Context, name string) error  { return s.say("enable", name) }
func (s *timers) Disable(_ context.Context, name string) error { return s.say("disable", name) }
func (s *timers) Reload(context.Context) error                 { return s.say("reload", "") }

func TestDeadline(t *testing.T) {
	m := newMachine(t)
	manager := &timers{m: m}
	h := m.host()
	h.Manager = manager
	d := Deps{Host: h, RunID: "run-1", Version: "1.2.3"}
	u := newUpgrade(d, UpgradeRequest{}, verbUpgrade)
	u.pins = map[string]string{}
	u.goal = goal()
	if stands, err := armed(t.Context(), h.Reader); stands || err != nil {
		t.Errorf("armed already: %v, %v", stands, err)
	}
	if err := u.arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stands, err := armed(t.Context(), h.Reader); !stands || err != nil {
		t.Errorf("not armed: %v, %v", stands, err)
	}
	if got, want := strings.Join(manager.told, ", "), "reload , enable anywhere-upgrade.timer, start anywhere-upgrade.timer, start anywhere-upgrade.service"; got != want {
		t.Errorf("systemd was told %q", got)
	}
	read, err := readDeadline(h.Reader)
	if err != nil || read.Goal.ARN != watchedARN || !read.Goal.Containers["c1"].Equal(goal().Containers["c1"]) || !read.DecideBy.After(read.Armed) {
		t.Errorf("%+v, %v", read, err)
	}
	service, err := h.Files.ReadFile(tenderService)
	if err != nil || !strings.Contains(string(service), "ExecStart=/var/lib/anywhere/bin/run-1/anywhere operation tend\n") {
		t.Errorf("%s, %v", service, err)
	}
	program, err := os.Stat(filepath.Join(m.root, "var/lib/anywhere/bin/run-1/anywhere"))
	if err != nil || program.Mode().Perm() != 0o700 || program.Size() == 0 {
		t.Errorf("the copy: %v, %v", program, err)
	}

	// While an upgrade is open it stays; with another operation, or none, it goes.
	const journal = `{"anywhereJournal":1,"verb":"VERB","key":"k","run":"run-0","program":"1.2.3","pins":{},"started":"2026-11-25T09:00:00Z"}` + "\n"
	m.write("/var/lib/anywhere/journal/open.jsonl", strings.Replace(journal, "VERB", verbUpgrade, 1))
	if err := disarm(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if stands, _ := armed(t.Context(), h.Reader); !stands {
		t.Error("it went while the upgrade is open")
	}
	m.write("/var/lib/anywhere/journal/open.jsonl", strings.Replace(journal, "VERB", verbRegister, 1))
	if err := disarm(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{deadlinePath, tenderDir, tenderService, tenderTimer} {
		if _, err := os.Lstat(filepath.Join(m.root, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	manager.told = nil
	if err := disarm(t.Context(), d); err != nil || len(manager.told) > 0 {
		t.Errorf("again: %v, %q", err, manager.told)
	}
	// A program that is gone is no deadline; one of a newer program is not understood.
	if err := u.arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(m.root, tenderDir)); err != nil {
		t.Fatal(err)
	}
	if stands, err := armed(t.Context(), h.Reader); stands || err != nil {
		t.Errorf("without its program: %v, %v", stands, err)
	}
	m.write(deadlinePath, `{"schema":9}`)
	if _, err := readDeadline(h.Reader); !failure.Is(err, failure.NewerRecord) {
		t.Errorf("%v", err)
	}
	m.write(deadlinePath, `{`)
	if _, err := readDeadline(h.Reader); !failure.Is(err, failure.JournalUnreadable) {
		t.Errorf("%v", err)
	}
}

// Where there is SELinux the copy is labelled as a program, or systemd might not start it.
func TestTheDeadlinesProgramIsLabelled(t *testing.T) {
	for mode, labelled := range map[string]bool{"": false, "0": true, "1": true} {
		m := newMachine(t)
		if mode != "" {
			m.write("/sys/fs/selinux/enforce", mode)
		}
		runner := &groups{m: m}
		h := m.host()
		h.Manager, h.Runner = &timers{m: m}, runner
		u := newUpgrade(Deps{Host: h, RunID: "run-1", Version: "1.2.3"}, UpgradeRequest{}, verbUpgrade)
		u.pins, u.goal = map[string]string{}, goal()
		if err := u.arm(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := "/usr/bin/chcon -t bin_t " + h.Disk.Local("/var/lib/anywhere/bin/run-1/anywhere")
		if got := slices.Equal(runner.ran, []string{want}); got != labelled || !labelled && len(runner.ran) > 0 {
			t.Errorf("enforce is %q: ran %q", mode, runner.ran)
		}
	}
}

// The state comes back only where the new agent has bound the host to something else, or spoilt it.
func TestTheStateComesBack(t *testing.T) {
	other := instanceARN(account, region, "web")
	for _, test := range []struct {
		name, now string
		back      bool
	}{
		{"as it was", "bolt " + watchedARN, false},
		{"with more tasks in it", "bolt " + watchedARN + " task/9", false},
		{"of another instance", "bolt " + other, true},
		{"of both", "bolt " + watchedARN + " " + other, true},
		{"empty", "", true},
		{"gone", "-", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			const saved = "/var/lib/anywhere/backup/run-1/1.0"
			m.write(saved, "bolt "+watchedARN)
			if test.now != "-" {
				m.write(ecsagent.StateDB, test.now)
			}
			data, err := json.Marshal(savedState{Instances: []string{watchedARN}, Files: []savedFile{{ecsagent.StateDB, saved}}})
			if err != nil {
				t.Fatal(err)
			}
			if kept, err := stateKept().Undo(t.Context(), m.host(), data); err != nil || len(kept) > 0 {
				t.Fatalf("%v, %v", kept, err)
			}
			text, err := os.ReadFile(filepath.Join(m.root, ecsagent.StateDB))
			if want := map[bool]string{true: "bolt " + watchedARN, false: test.now}[test.back]; err != nil || string(text) != want {
				t.Errorf("%q, %v; want %q", text, err, want)
			}
		})
	}
}

// The identity comes back only where the host is another node by then, or a broken one.
func TestTheIdentityComesBack(t *testing.T) {
	m := newMachine(t)
	m.registered()
	saved := savedIdentity{Node: nodeID}
	for i, file := range ssmagent.StoreFiles() {
		text, err := os.ReadFile(filepath.Join(m.root, file))
		if os.IsNotExist(err) {
			continue
		}
		kept := "/var/lib/anywhere/backup/run-1/" + string(rune('1'+i)) + ".0"
		m.write(kept, string(text))
		saved.Files = append(saved.Files, savedFile{file, kept})
	}
	data, err := json.Marshal(saved)
	if err != nil {
		t.Fatal(err)
	}
	undo := func() (node string) {
		t.Helper()
		if kept, err := identityKept().Undo(t.Context(), m.host(), data); err != nil || len(kept) > 0 {
			t.Fatalf("%v, %v", kept, err)
		}
		identity, err := ssmagent.ReadIdentity(m.host().Reader)
		if err != nil {
			t.Fatal(err)
		}
		return identity.InstanceID
	}
	m.write(saved.Files[0].Copy, "would break it") // it is not needed
	if undo() != nodeID {
		t.Error("an identity that is the same was touched")
	}
	text, err := os.ReadFile(filepath.Join(m.root, saved.Files[0].Path))
	if err != nil {
		t.Fatal(err)
	}
	m.write(saved.Files[0].Copy, string(text))
	m.write(ssmagent.KeyPath, `{"instanceID":"","region":""}`)
	if undo() != nodeID {
		t.Error("a blanked identity did not come back")
	}
}

// What was taken back is remembered once, with the agents' words, and the oldest are forgotten.
func TestRemember(t *testing.T) {
	m := newMachine(t)
	m.write(ecsagent.LogPath, "level=critical msg=boom\n")
	u := newUpgrade(Deps{Host: m.host(), RunID: "run-1"}, UpgradeRequest{}, verbUpgrade)
	u.pins = map[string]string{pinECS: "1.106.0-1", pinFromECS: "1.105.1-1"}
	for range keptFailed {
		u.failed = append(u.failed, FailedUpgrade{Package: ssmagent.Package, Version: "3.3.1.0"})
	}
	u.blame(u.ssm(), failure.New(failure.NotVerified, "nothing of it was replaced"))
	u.blame(u.ecs(), failure.New(failure.AgentCrashLoop, "it has died"))
	u.blame(u.ecs(), failure.New(failure.ConnectTimeout, "and did not connect"))
	u.keepWords(m.host().Reader)
	u.remember(&engine.Outcome{RolledBack: true})
	all, err := readFailed(m.host().Reader)
	if err != nil || len(all) != keptFailed || all[keptFailed-1].Code != failure.AgentCrashLoop || all[keptFailed-1].Version != "1.106.0-1" {
		t.Fatalf("%+v, %v", all, err)
	}
	text, err := os.ReadFile(filepath.Join(m.root, all[keptFailed-1].Logs))
	if err != nil || !strings.Contains(string(text), "boom") || !strings.Contains(string(text), "it has died") {
		t.Errorf("%s, %v", text, err)
	}
	u.guilty.Reason = "again"
	u.remember(&engine.Outcome{RolledBack: true})
	if all, _ = readFailed(m.host().Reader); len(all) != keptFailed || all[keptFailed-1].Reason != "again" || all[keptFailed-2].Package != ssmagent.Package {
		t.Errorf("%+v", all)
	}
	m.write(failedPath, "[")
	if all, err := readFailed(m.host().Reader); err != nil || len(all) > 0 {
		t.Errorf("unreadable: %v, %v", all, err)
	}
}

func TestTendLeavesARunAlone(t *testing.T) {
	m := newMachine(t)
	d := Deps{Host: m.host(), RunID: "run-2", Version: "1.2.3"}
	release, err := engine.Lock(t.Context(), d.Host, LockPath, "run-1", 0)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Tend(t.Context(), d)
	if err != nil || report.Changed || !strings.Contains(report.Message, "run-1") {
		t.Errorf("%+v, %v", report, err)
	}
	release()
	if report, err = Tend(t.Context(), d); err != nil || report.Message != "no upgrade is unfinished" {
		t.Errorf("%+v, %v", report, err)
	}
}
