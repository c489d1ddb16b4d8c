package lifecycle

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// unitManager changes the patient's units, and remembers what it was told.
type unitManager struct {
	p     *patient
	calls []string
	fails string // the call that fails
}

func (m *unitManager) do(call, name string, change func(*host.Unit)) error {
	m.calls = append(m.calls, call+" "+name)
	if m.fails == call+" "+name {
		return failure.New(failure.ServiceFailed, "cannot %s %s", call, name)
	}
	m.p.unit(name, change)
	return nil
}

func (m *unitManager) Start(_ context.Context, name string) error {
	return m.do("start", name, func(u *host.Unit) { u.Active, u.Sub, u.ActiveSince = "active", "running", noon })
}

func (m *unitManager) Stop(_ context.Context, name string) error {
	return m.do("stop", name, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
}

func (m *unitManager) Restart(_ context.Context, name string) error {
	return m.do("restart", name, func(u *host.Unit) { u.Active, u.Sub, u.ActiveSince = "active", "running", noon })
}

func (m *unitManager) Enable(_ context.Context, name string) error {
	return m.do("enable", name, func(u *host.Unit) { u.Enabled = "enabled" })
}

func (m *unitManager) Disable(_ context.Context, name string) error {
	return m.do("disable", name, func(u *host.Unit) { u.Enabled = "disabled" })
}

// Reload reads the drop-ins that are there.
func (m *unitManager) Reload(context.Context) error {
	m.calls = append(m.calls, "reload")
	for name := range m.p.units {
		m.p.unit(name, func(u *host.Unit) {
			u.DropIns = nil
			entries, err := os.ReadDir(filepath.Join(m.p.root, "/etc/systemd/system", name+".d"))
			if err != nil {
				return
			}
			for _, e := range entries {
				u.DropIns = append(u.DropIns, "/etc/systemd/system/"+name+".d/"+e.Name())
			}
		})
	}
	return nil
}

// treat runs doctor --fix.
func (p *patient) treat(m *unitManager, req DoctorRequest) (Report, DoctorResult, error) {
	p.t.Helper()
	d := p.deps()
	d.Host.Manager, d.Host.Runner = m, &journalRunner{p: p}
	req.Fix, req.Offline = true, true
	if err := os.MkdirAll(filepath.Join(p.root, "/run/lock"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	report, err := Doctor(p.t.Context(), d, req)
	for _, call := range m.calls {
		if strings.Contains(call, "docker") {
			p.t.Errorf("it did %q", call)
		}
	}
	return report, report.Result.(DoctorResult), err
}

func (p *patient) read(path string) string {
	text, err := os.ReadFile(filepath.Join(p.root, path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(text)
}

// Each safe remedy is due where it should be, does what it says, and is not due any more. What is not safe is not due.
func TestEveryFix(t *testing.T) {
	const openConfig = "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION=" + region + "\nECS_EXTERNAL=true\n# a comment\nECS_ENGINE_AUTH_DATA={\"r\":{\"password\":\"hunter2\"}}\n"
	modeOf := func(p *patient, path string) fs.FileMode {
		info, err := os.Stat(filepath.Join(p.root, path))
		if err != nil {
			p.t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	for _, test := range []struct {
		name  string
		spoil func(p *patient)
		fix   string // empty: nothing is due
		after func(p *patient) bool
		calls string
	}{
		{name: "a healthy host", spoil: func(*patient) {}},
		{name: "an open secret", fix: "secrets.modes", spoil: func(p *patient) {
			p.write(ecsagent.ConfigPath, openConfig)
			if err := os.Chmod(filepath.Join(p.root, ecsagent.ConfigPath), 0o644); err != nil {
				p.t.Fatal(err)
			}
		}, after: func(p *patient) bool {
			return modeOf(p, ecsagent.ConfigPath) == 0o600 && p.read(ecsagent.ConfigPath) == openConfig
		}},
		{name: "an open file without secrets", spoil: func(p *patient) {
			if err := os.Chmod(filepath.Join(p.root, ecsagent.ConfigPath), 0o644); err != nil {
				p.t.Fatal(err)
			}
		}},
		{name: "ECS_EXTERNAL is quoted", fix: "ecs.external", calls: "restart " + ecsagent.Unit, spoil: func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\n# mine\nECS_EXTERNAL=\"true\"\nAWS_DEFAULT_REGION="+region+"\n")
		}, after: func(p *patient) bool {
			return p.read(ecsagent.ConfigPath) == "ECS_CLUSTER=shop\n# mine\nECS_EXTERNAL=true\nAWS_DEFAULT_REGION="+region+"\n"
		}},
		{name: "ECS_EXTERNAL says no", spoil: func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nECS_EXTERNAL=false\nAWS_DEFAULT_REGION="+region+"\n")
		}},
		{name: "ECS_EXTERNAL is quoted on a host that is no managed node", spoil: func(p *patient) {
			p.drop("/var/lib/amazon")
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nECS_EXTERNAL=\"true\"\nAWS_DEFAULT_REGION="+region+"\n")
		}},
		{name: "folders are missing", fix: "ecs.folders", spoil: func(p *patient) {
			p.write(ecsagent.InitBinary, "")
			p.write(ecsagent.ExecDir+"/bin/3.3.4108.0/amazon-ssm-agent", "")
			p.drop(ecsagent.DataDir)
		}, after: func(p *patient) bool {
			return modeOf(p, ecsagent.DataDir) == 0o755 && modeOf(p, ecsagent.ExecDir+"/config") == 0o755
		}},
		{name: "ecs-init's mark is spoilt", fix: "ecs.cache", spoil: func(p *patient) {
			p.write(ecsagent.CacheState, "seven\n")
			p.write(ecsagent.CachedImage, "an image")
		}, after: func(p *patient) bool { return p.read(ecsagent.CacheState) == "2\n" }},
		{name: "ecs-init's mark is spoilt, and there is no image", spoil: func(p *patient) { p.write(ecsagent.CacheState, "seven\n") }},
		{name: "no drop-in", fix: "ecs.dropin", calls: "reload", spoil: func(p *patient) {
			p.drop(ecsagent.DropInPath)
			p.unit(ecsagent.Unit, func(u *host.Unit) { u.DropIns = nil })
		}, after: func(p *patient) bool {
			return p.read(ecsagent.DropInPath) == string(ecsagent.DropIn()) && strings.Contains(p.read(recordPath), ecsagent.DropInPath)
		}},
		{name: "the rpm's unit", spoil: func(p *patient) {
			p.drop(ecsagent.DropInPath)
			p.write("/usr/lib/systemd/system/ecs.service", "[Service]\nRestartPreventExitStatus=5\n")
			p.unit(ecsagent.Unit, func(u *host.Unit) { u.DropIns, u.FragmentAt = nil, "/usr/lib/systemd/system/ecs.service" })
		}},
		{name: "a drop-in that was not read", fix: "units.reload", calls: "reload", spoil: func(p *patient) {
			p.write("/etc/systemd/system/docker.service.d/proxy.conf", "[Service]\n")
		}},
		{name: "a drop-in that hides another", spoil: func(p *patient) {
			p.write("/etc/systemd/system/docker.service.d/empty.conf", "")
			if err := os.Symlink("/dev/null", filepath.Join(p.root, "/etc/systemd/system/docker.service.d/masked.conf")); err != nil {
				p.t.Fatal(err)
			}
		}},
		{name: "an open secret in JSON", fix: "secrets.modes", spoil: func(p *patient) {
			p.write(ecsagent.JSONConfigPath, `{"EngineAuthData":{"r":"x"}}`)
			if err := os.Chmod(filepath.Join(p.root, ecsagent.JSONConfigPath), 0o604); err != nil {
				p.t.Fatal(err)
			}
		}, after: func(p *patient) bool { return modeOf(p, ecsagent.JSONConfigPath) == 0o600 }},
		{name: "the SSM agent is stopped", fix: "ssm.service", calls: "start " + ssmagent.UnitName, spoil: func(p *patient) {
			p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
		}},
		{name: "the SSM agent is disabled", fix: "ssm.service", calls: "enable " + ssmagent.UnitName, spoil: func(p *patient) {
			p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Enabled = "disabled" })
		}},
		{name: "the SSM agent is masked", spoil: func(p *patient) {
			p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub, u.Enabled = "inactive", "dead", "masked" })
		}},
		{name: "the SSM agent of no managed node", spoil: func(p *patient) {
			p.drop("/var/lib/amazon")
			p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
		}},
		{name: "the ECS agent has failed", fix: "ecs.service", calls: "start " + ecsagent.Unit, spoil: func(p *patient) {
			p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub, u.Result = "failed", "failed", "start-limit-hit" })
			p.log = append(p.log, told(noon, "Registered container instance with cluster!"), told(noon, "Connected to ACS endpoint")) // as it will say
		}},
		{name: "the ECS agent waits for its next start", spoil: func(p *patient) {
			p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub = "activating", "auto-restart" })
		}},
		{name: "the ECS agent is stopped, and so is Docker", spoil: func(p *patient) {
			p.docker = nil
			p.unit("docker.service", func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
			p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
		}},
		{name: "the state is stale and containers are left", spoil: func(p *patient) {
			p.write(ecsagent.StateDB, "state")
			p.log = append(p.log, logged(noon.Add(-5*time.Minute), "Container instance is deregistered"))
		}, after: func(p *patient) bool { return p.read(ecsagent.StateDB) == "state" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newHealthy(t)
			test.spoil(p)
			m := &unitManager{p: p}
			report, got, err := p.treat(m, DoctorRequest{DryRun: true})
			if err != nil || report.Changed || len(m.calls) > 0 || p.read(openJournal) != "" {
				t.Fatalf("dry run: %v, %+v, %v", err, report, m.calls)
			}
			if len(got.Fixes) > 1 || (len(got.Fixes) == 1) != (test.fix != "") || test.fix != "" && (got.Fixes[0].ID != test.fix || got.Fixes[0].Status != "planned") {
				t.Fatalf("due are %+v, want %q", got.Fixes, test.fix)
			}
			report, got, err = p.treat(m, DoctorRequest{})
			if err != nil || report.Changed != (test.fix != "") {
				t.Fatalf("%v, changed %v, %+v", err, report.Changed, report.Steps)
			}
			if test.fix != "" && (len(got.Fixes) != 1 || got.Fixes[0].Status != "done") {
				t.Errorf("%+v", got.Fixes)
			}
			if test.after != nil && !test.after(p) {
				t.Error("it is not as it should be")
			}
			if test.calls != "" && !slices.Contains(m.calls, test.calls) || test.calls == "" && len(m.calls) > 0 {
				t.Errorf("%v, want %q", m.calls, test.calls)
			}
			m.calls = nil
			if report, got, err := p.treat(m, DoctorRequest{}); err != nil || report.Changed || len(m.calls) > 0 || len(got.Fixes) > 0 {
				t.Errorf("the second time: %v, %+v, %v", err, got.Fixes, m.calls)
			}
		})
	}
}

// sick is a patient with something of every kind to be mended.
func sick(t *testing.T) *patient {
	p := newHealthy(t)
	p.drop(ecsagent.DropInPath)
	p.unit(ecsagent.Unit, func(u *host.Unit) { u.DropIns = nil })
	p.write(ecsagent.CacheState, "seven\n")
	p.write(ecsagent.CachedImage, "an image")
	p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\nECS_ENGINE_AUTH_DATA={\"r\":\"x\"}\n")
	if err := os.Chmod(filepath.Join(p.root, ecsagent.ConfigPath), 0o640); err != nil {
		t.Fatal(err)
	}
	p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub, u.Enabled = "failed", "failed", "disabled" })
	return p
}

// What fails is undone, with all that was done before it.
func TestFixIsUndoneWhenItFails(t *testing.T) {
	p := sick(t)
	m := &unitManager{p: p, fails: "start " + ssmagent.UnitName}
	report, got, err := p.treat(m, DoctorRequest{})
	if !failure.Is(err, failure.ServiceFailed) || report.Changed || !report.RolledBack {
		t.Fatalf("%v, %+v", err, report)
	}
	info, statErr := os.Stat(filepath.Join(p.root, ecsagent.ConfigPath))
	if statErr != nil || info.Mode().Perm() != 0o640 || p.read(ecsagent.CacheState) != "seven\n" || p.read(ecsagent.DropInPath) != "" || p.read(recordPath) != "" {
		t.Errorf("the host is not as it was: %v", info.Mode())
	}
	if u := p.units[ssmagent.UnitName]; u.IsEnabled() || u.Running() {
		t.Errorf("%+v", u)
	}
	status := map[string]string{}
	for _, f := range got.Fixes {
		status[f.ID] = f.Status
	}
	if status["ssm.service"] != "failed" || status["ecs.dropin"] != "undone" || status["secrets.modes"] != "undone" {
		t.Errorf("%v", status)
	}
	m.fails = ""
	if report, _, err := p.treat(m, DoctorRequest{}); err != nil || !report.Changed {
		t.Errorf("the second time: %v", err)
	}
}

// Nobody is asked where nothing is due; a no changes nothing; others than root may not.
func TestFixAsksFirst(t *testing.T) {
	asked := 0
	no := func(_ context.Context, steps []engine.StepReport) error {
		asked++
		if !slices.ContainsFunc(steps, func(s engine.StepReport) bool { return s.ID == "ecs.dropin" && s.Status == "planned" && s.Detail != "" }) {
			t.Errorf("the plan was not shown: %+v", steps)
		}
		return failure.New(failure.Declined, "no")
	}
	p := sick(t)
	m := &unitManager{p: p}
	if report, _, err := p.treat(m, DoctorRequest{Confirm: no}); !failure.Is(err, failure.Declined) || report.Changed || len(m.calls) > 0 || asked != 1 {
		t.Errorf("%v, %v, asked %d times", err, m.calls, asked)
	}
	if p.read(ecsagent.DropInPath) != "" || p.read(openJournal) != "" {
		t.Error("something was changed")
	}
	well := newHealthy(t)
	if _, _, err := well.treat(&unitManager{p: well}, DoctorRequest{Confirm: no}); err != nil || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	d := p.deps()
	d.Host.Self.EUID = 1000
	if _, err := Doctor(t.Context(), d, DoctorRequest{Offline: true, Fix: true}); !failure.Is(err, failure.NotRoot) {
		t.Errorf("without root: %v", err)
	}
}

// A run that was killed is gone on with by the same command, and another operation's journal is left alone.
func TestFixBesideJournals(t *testing.T) {
	p := sick(t)
	p.write(openJournal, `{"anywhereJournal":1,"verb":"doctor","key":"fix","run":"run-0","program":"1.2.3","pins":{},"started":"2026-11-22T11:00:00Z"}`+"\n"+
		`{"is":"begin","at":"2026-11-22T11:00:01Z","step":"ecs.dropin","title":"x"}`+"\n")
	m := &unitManager{p: p}
	if report, got, err := p.treat(m, DoctorRequest{}); err != nil || !report.Changed || got.State != Healthy || p.read(openJournal) != "" {
		t.Errorf("%v, %+v", err, got)
	}
	p = sick(t)
	p.write(openJournal, journalText())
	m = &unitManager{p: p}
	if report, got, err := p.treat(m, DoctorRequest{}); !failure.Is(err, failure.Unfinished) || report.Changed || got.State != HalfDone || len(m.calls) > 0 {
		t.Errorf("%v, %+v", err, got)
	}
}
