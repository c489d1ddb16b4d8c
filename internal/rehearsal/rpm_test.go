package rehearsal

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// rpmSystems are os-releases: one of each front end, and both places of rpm's database.
var rpmSystems = map[string]string{
	"amzn2023": "NAME=\"Amazon Linux\"\nVERSION=\"2023\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\nPRETTY_NAME=\"Amazon Linux 2023\"\n",
	"rocky9": "NAME=\"Rocky Linux\"\nVERSION=\"9.6 (Blue Onyx)\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.6\"\n" +
		"PRETTY_NAME=\"Rocky Linux 9.6 (Blue Onyx)\"\n",
	"fedora42": "NAME=\"Fedora Linux\"\nVERSION=\"42 (Server Edition)\"\nID=fedora\nVERSION_ID=42\nPRETTY_NAME=\"Fedora Linux 42 (Server Edition)\"\n",
	"sles15":   "NAME=\"SLES\"\nVERSION=\"15-SP6\"\nVERSION_ID=\"15.6\"\nPRETTY_NAME=\"SUSE Linux Enterprise Server 15 SP6\"\nID=\"sles\"\nID_LIKE=\"suse\"\n",
}

// onRPM is a stage whose host is a bare one of an rpm family.
func onRPM(t *testing.T, name string) *stage {
	t.Helper()
	s := empty(t)
	s.write(t, "/etc/os-release", rpmSystems[name])
	system, _, known := rpmSystemOf(s.machine.disk)
	if !known {
		t.Fatal(name)
	}
	if err := s.playsRPM(system); err != nil {
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
	for system := range rpmSystems {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := onRPM(t, system)
			is := s.machine.rpms.system
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

// On a machine of an rpm family a story is played on a host of that system, to its end.
func TestTheStoryOfAnRPMHost(t *testing.T) {
	t.Parallel()
	s := onRPM(t, "sles15")
	system, name, _ := rpmSystemOf(s.machine.disk)
	env, _, _ := world()
	env.Streams.Out = io.Discard
	other, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.borrows(system, name); err != nil {
		t.Fatal(err)
	}
	result := Result{}
	said, err := other.story(t.Context(), scenarios["lifecycle"], cli.RehearseRequest{Scenario: "lifecycle", JSON: true}, &result)
	if err != nil || len(result.Commands) != len(scenarios["lifecycle"]) {
		t.Fatalf("%v: %+v", err, result)
	}
	if !strings.Contains(said, "playing this machine (SUSE Linux Enterprise Server 15 SP6)") {
		t.Error(said)
	}
	for _, c := range result.Commands {
		if c.RC != 0 {
			t.Errorf("%s: %s", c.Line, c.Document)
		}
	}
}
