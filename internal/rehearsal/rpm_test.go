package rehearsal

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// onRPM is a stage whose host is a bare one of an rpm family.
func onRPM(t *testing.T, system string) *stage {
	t.Helper()
	s := empty(t)
	if err := s.playsRPM(rpmSystems[system]); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.machine.root, adminDir, "timers.target.wants"), 0o755); err != nil { // every system has it
		t.Fatal(err)
	}
	return s
}

// mortal sets who says when the power fails inside a transaction.
func (r *rpms) mortal(dies func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dies = dies
}

// whole holds rpm's books to it that nothing of a transaction is left open.
func (s *stage) whole(t *testing.T) {
	t.Helper()
	all, err := s.machine.rpms.all()
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range all {
		if i > 0 && all[i-1].Name == p.Name {
			t.Errorf("rpm has %s and %s", all[i-1], p)
		}
		for _, f := range p.Files {
			if _, err := s.machine.disk.Lstat(f.Path); err != nil && f.Flags&rpmGhost == 0 {
				t.Errorf("%s lacks a file: %v", p, err)
			}
		}
	}
	if entries, err := s.machine.disk.ReadDir("/var/lib/anywhere/rpm"); err == nil {
		t.Errorf("what was begun with rpm is not ended: %v", entries)
	}
	for name := range s.everything(t) {
		if strings.Contains(name, ";") || strings.HasSuffix(name, ".rpmsave") || strings.HasSuffix(name, ".rpmnew") {
			t.Errorf("%s is left", name)
		}
	}
}

// A host's whole life, on each system that differs.
func TestTheLifeOfAnRPMHost(t *testing.T) {
	t.Parallel()
	for system, is := range rpmSystems {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := onRPM(t, system)
			bare := s.everything(t)
			first := s.settled(t)
			if first.Result.ECSAgentVersion != ecsVersion || first.Result.SSMAgentVersion != ssmVersion+"-1" {
				t.Errorf("%+v", first.Result)
			}
			s.whole(t)
			for _, name := range []string{is.unit, ssmagent.UnitName} {
				if unit, err := s.machine.units.Unit(t.Context(), name); err != nil || !unit.Running() || !unit.IsEnabled() {
					t.Errorf("%+v, %v", unit, err)
				}
			}
			s.keeps(t, first, plain, false)
			s.until(t, func(h health) bool { return h.Result.State == lifecycle.Healthy })

			s.publish(t, nextSSM, nextECS, "")
			d := s.upgrade(t)
			if d.RC != 0 || !d.Changed || d.Result.ECSAgent.Installed != nextECS || d.Result.ECSAgent.Running != "1.106.0" ||
				d.Result.SSMAgent.Installed != nextSSM+"-1" || d.Result.SSMAgent.Running != nextSSM {
				t.Fatalf("upgrade: %+v", d)
			}
			s.whole(t)
			s.disarmed(t)
			if again := s.upgrade(t); again.RC != 0 || again.Changed {
				t.Errorf("and again: %+v", again)
			}
			s.keeps(t, first, plain, false)
			if d := s.upgrades(t, back); d.RC != 0 || !d.Changed || d.Result.ECSAgent.Installed != ecsVersion || d.Result.SSMAgent.Installed != ssmVersion+"-1" {
				t.Fatalf("rollback: %+v", d)
			}
			s.whole(t)
			s.disarmed(t)
			moved := s.move(t, target)
			if moved.RC != 0 || moved.Result.Cluster != target || moved.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
				t.Fatalf("move: %+v", moved)
			}
			gone := s.leave(t, true)
			if gone.RC != 0 || !gone.Changed || len(s.left()) > 0 {
				t.Fatalf("deregister: %+v", gone)
			}
			s.goneFrom(t, bare, is.unit)
			if again := s.leave(t, true); again.RC != 0 || again.Changed {
				t.Errorf("and again: %+v", again)
			}
		})
	}
}

// goneFrom compares a host with what it was before it was registered.
func (s *stage) goneFrom(t *testing.T, bare map[string]string, unit string) {
	t.Helper()
	s.whole(t)
	for _, name := range []string{unit, ssmagent.UnitName} {
		if u, err := s.machine.units.Unit(t.Context(), name); err != nil || u.Active == "active" || u.Active == "activating" || u.IsEnabled() {
			t.Errorf("%+v, %v", u, err)
		}
	}
	if diff := differs(bare, s.everything(t)); len(diff) > 0 {
		t.Errorf("the host is not as it was before it was registered:\n%s", strings.Join(diff, "\n"))
	}
}

var _ = slices.Contains[[]string]
var _ = failure.Usage
var _ = ecsagent.Unit
