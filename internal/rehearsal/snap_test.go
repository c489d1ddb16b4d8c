package rehearsal

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// ubuntu is a stage whose host has the SSM agent as a snap, and nothing else.
func ubuntu(t *testing.T) *stage {
	t.Helper()
	s := empty(t)
	if err := s.machine.ubuntu(); err != nil {
		t.Fatal(err)
	}
	return s
}

// onSnap is one that is registered.
func onSnap(t *testing.T) (*stage, register) {
	t.Helper()
	s := ubuntu(t)
	return s, s.settled(t)
}

// snap is the snap as it is now.
func (s *stage) snap(t *testing.T) host.Snap {
	t.Helper()
	snap, found, err := host.ReadSnap(s.machine.disk, ssmagent.Package)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	return snap
}

// pure holds the host to it that the package of the SSM agent was never mixed in.
func (s *stage) pure(t *testing.T) {
	t.Helper()
	p, err := host.NewDpkg(s.machine.disk, s.machine.disk, nil).Package(ssmagent.Package)
	if err != nil || p.Installed || p.Partial {
		t.Errorf("the package stands beside the snap: %+v, %v", p, err)
	}
	for _, name := range []string{ssmagent.Binary, unitDir + ssmagent.UnitName} {
		if _, err := os.Lstat(filepath.Join(s.machine.root, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	entries, err := s.machine.disk.ReadDir(lifecycle.PackageDir)
	for _, e := range entries {
		if err == nil && strings.HasPrefix(e.Name(), ssmagent.Package) {
			t.Errorf("%s was downloaded, and nothing of it is needed", e.Name())
		}
	}
}

// The whole life of a host whose SSM agent is Ubuntu's snap: it is used, it is upgraded, goes back and forward again, moves,
// and stays when the registration goes.
func TestTheLifeOfASnap(t *testing.T) {
	t.Parallel()
	s := ubuntu(t)
	bare := s.everything(t)
	before := s.snap(t)
	first := s.settled(t)
	if first.Result.SSMAgentVersion != ssmVersion || s.snap(t).Revision != before.Revision {
		t.Errorf("%+v", first.Result)
	}
	s.pure(t)
	programs, err := ecsagent.ReadExec(s.machine.host().Reader)
	if err != nil || !programs.Has(ssmVersion) {
		t.Errorf("ECS Exec's files: %+v, %v", programs, err)
	}
	for _, name := range ecsagent.ExecBinaries {
		if got := s.read(t, filepath.Join(ecsagent.ExecFolder(ssmVersion), name)); got != s.read(t, snapBase+"current/"+name) {
			t.Errorf("%s is not the snap's: %q", name, got)
		}
	}
	s.keeps(t, first, plain, false)
	seen := s.until(t, is(lifecycle.Healthy))
	if !seen.Result.SSMAgent.Snap || seen.Result.SSMAgent.Installed != ssmVersion || seen.Result.SSMAgent.Unit.Name != ssmagent.SnapUnit ||
		seen.Result.SSMAgent.Running != ssmVersion {
		t.Errorf("%+v", seen.Result.SSMAgent)
	}
	if d := s.upgrade(t); d.RC != 0 || d.Changed {
		t.Fatalf("nothing is newer: %+v", d)
	}

	next := s.machine.snapd.publish("latest/stable", nextSSM)
	s.publish(t, "", nextECS, "")
	check := s.upgrades(t, line{args: []string{"upgrade", "--check", "--detailed-exitcode"}, unchanged: true})
	if check.RC != 11 || !check.Result.SSMAgent.Due || check.Result.SSMAgent.Newest != nextSSM || check.Result.SSMAgent.Installed != ssmVersion ||
		check.Result.SSMAgent.Channel != "latest/stable/ubuntu-24.04" || !strings.Contains(check.Msg, "snap") {
		t.Errorf("--check: %+v", check)
	}
	d := s.upgrade(t)
	if d.RC != 0 || !d.Changed || d.Result.SSMAgent.Installed != nextSSM || d.Result.SSMAgent.Before != ssmVersion || d.Result.SSMAgent.Running != nextSSM ||
		d.Result.ECSAgent.Installed != nextECS || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID || s.snap(t).Revision != next.Revision {
		t.Fatalf("upgrade: %+v", d)
	}
	if len(d.Warnings) > 0 {
		t.Errorf("the channel is the same, and there is nothing to warn of: %q", d.Warnings)
	}
	s.pure(t)
	s.disarmed(t)
	if exec, err := ecsagent.ReadExec(s.machine.host().Reader); err != nil || !exec.Has(nextSSM) {
		t.Errorf("ECS Exec's files: %+v, %v", exec, err)
	}
	if again := s.upgrade(t); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
	s.keeps(t, first, plain, false)

	rollback := line{args: []string{"rollback", "--watch-time", "200ms"}}
	back := s.upgrades(t, rollback)
	if back.RC != 0 || !back.Changed || back.Result.SSMAgent.Installed != ssmVersion || back.Result.ECSAgent.Installed != ecsVersion ||
		s.snap(t).Revision != before.Revision || s.machine.snapd.offer().Follows != "latest/stable/ubuntu-24.04" {
		t.Fatalf("rollback: %+v", back)
	}
	s.disarmed(t)
	if again := s.upgrades(t, rollback); again.RC != 12 || again.Error.Code != string(failure.NothingToRollBack) {
		t.Errorf("a second rollback: %+v", again)
	}
	if d := s.upgrade(t, "--only", "ssm"); d.RC != 0 || !d.Changed || d.Result.SSMAgent.Installed != nextSSM || s.snap(t).Revision != next.Revision {
		t.Errorf("and forward again: %+v", d)
	}

	moved := s.move(t, target)
	if moved.RC != 0 || moved.Result.Cluster != target || moved.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Fatalf("move: %+v", moved)
	}
	gone := s.leave(t, true)
	if gone.RC != 0 || !slices.ContainsFunc(gone.Result.Kept, func(k string) bool { return strings.Contains(k, "snap remove amazon-ssm-agent") }) ||
		slices.Contains(gone.Result.Removed, "package amazon-ssm-agent") {
		t.Fatalf("deregister: %+v", gone)
	}
	if left := s.left(); len(left) > 0 {
		t.Errorf("AWS still has %q", left)
	}
	s.atRest(t)
	s.asBefore(t, bare)
	if again := s.leave(t, true); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
	if anew := s.settled(t); anew.Result.ManagedInstanceID == first.Result.ManagedInstanceID || anew.Result.SSMAgentVersion != nextSSM {
		t.Errorf("registered anew: %+v", anew)
	}
	s.pure(t)
}

// asBefore compares the host with what it was before it was registered, but for the snap, which is at rest and may be newer,
// and the folders that its agent makes.
func (s *stage) asBefore(t *testing.T, bare map[string]string) {
	t.Helper()
	diff := slices.DeleteFunc(differs(bare, s.everything(t)), func(line string) bool {
		for _, own := range []string{"/snap", "/var/lib/amazon", "/etc/amazon", wantedDir + ssmagent.SnapUnit, "timers.target.wants"} {
			if strings.Contains(line, own) {
				return true
			}
		}
		return false
	})
	if len(diff) > 0 {
		t.Errorf("the host is not as it was:\n%s", strings.Join(diff, "\n"))
	}
}

// A version that is named comes from whichever channel has it, and the snap follows that one then: it is told, and taken back
// with the rest.
func TestASnapsChannels(t *testing.T) {
	t.Parallel()
	s, _ := onSnap(t)
	s.machine.snapd.publish("latest/candidate", nextSSM)
	if d := s.upgrade(t); d.RC != 0 || d.Changed {
		t.Fatalf("its own channel has nothing newer: %+v", d)
	}
	d := s.upgrade(t, "--only", "ssm", "--ssm-agent-version", "3.3.9999.0")
	if d.RC != 5 || d.Error.Code != string(failure.ArtifactMissing) || !strings.Contains(d.Error.Evidence, nextSSM+" in latest/candidate") || d.Changed {
		t.Errorf("a version that no channel has: %+v", d)
	}
	d = s.upgrade(t, "--only", "ssm", "--ssm-agent-version", nextSSM)
	if d.RC != 0 || d.Result.SSMAgent.Installed != nextSSM || s.machine.snapd.offer().Follows != "latest/candidate" ||
		!slices.ContainsFunc(d.Warnings, func(w string) bool {
			return strings.Contains(w, "follows latest/candidate from now on") &&
				strings.Contains(w, "snap switch --channel=latest/stable/ubuntu-24.04 amazon-ssm-agent")
		}) {
		t.Fatalf("%+v, follows %s", d, s.machine.snapd.offer().Follows)
	}
	back := s.upgrades(t, line{args: []string{"rollback", "--watch-time", "200ms"}})
	if back.RC != 0 || back.Result.SSMAgent.Installed != ssmVersion || s.machine.snapd.offer().Follows != "latest/stable/ubuntu-24.04" {
		t.Errorf("%+v, follows %s", back, s.machine.snapd.offer().Follows)
	}
	// The one that is kept is older, and nearer than any channel.
	if d := s.upgrade(t, "--only", "ssm", "--ssm-agent-version", nextSSM); d.RC != 0 || d.Result.SSMAgent.Installed != nextSSM {
		t.Errorf("%+v", d)
	}
	if d := s.upgrade(t, "--only", "ssm", "--ssm-agent-version", ssmVersion); d.RC != 12 || d.Error.Code != string(failure.DowngradeRefused) {
		t.Errorf("%+v", d)
	}
	if d := s.upgrade(t, "--only", "ssm"); d.RC != 0 || d.Changed {
		t.Errorf("its channel has no newer one: %+v", d)
	}
	if d := s.upgrade(t, "--only", "ssm", "--ssm-agent-version", ssmVersion, "--allow-downgrade"); d.RC != 0 || d.Result.SSMAgent.Installed != ssmVersion {
		t.Errorf("%+v", d)
	}
	if d := s.upgrade(t, "--only", "ssm", "--ssm-agent-version", nextSSM); d.RC != 0 || d.Result.SSMAgent.Installed != nextSSM {
		t.Errorf("%+v", d)
	}
	// Snapd refreshes snaps by itself: that is nothing that rollback could go back from.
	s.machine.snapd.publish("latest/candidate", "3.3.5001.0")
	if result := s.machine.snapd.run([]string{"refresh", ssmagent.Package}); result.ExitCode != 0 {
		t.Fatal(result)
	}
	s.until(t, is(lifecycle.Healthy))
	if d := s.run(t, plain); d.RC != 0 || d.Changed || d.Result.SSMAgentVersion != "3.3.5001.0" {
		t.Errorf("what snapd has refreshed and started is no reason to start it again: %+v", d)
	}
	if back := s.upgrades(t, line{args: []string{"rollback"}}); back.RC != 12 || back.Error.Code != string(failure.NothingToRollBack) {
		t.Errorf("%+v", back)
	}
}

func TestSnapsThatAreRefusedOrStay(t *testing.T) {
	t.Parallel()
	s, first := onSnap(t)
	s.machine.snapd.publish("latest/stable", nextSSM)
	s.machine.snapd.held = true
	before := s.everything(t)
	refused := func(what, code string, rc int, says string, flags ...string) {
		t.Helper()
		d := s.upgrade(t, flags...)
		if d.RC != rc || d.Error.Code != code || d.Changed || !strings.Contains(d.Error.Message+d.Error.Remedy, says) {
			t.Errorf("%s: %+v", what, d)
		}
		if diff := differs(before, s.everything(t)); len(diff) > 0 {
			t.Errorf("%s: it touched %v", what, diff)
		}
	}
	refused("held", string(failure.PackageHeld), 3, "snap refresh --unhold amazon-ssm-agent")
	s.machine.snapd.held = false
	s.machine.snapd.silent = true
	refused("the store is silent", string(failure.Network), 5, "or leave the SSM agent out: --only ecs")
	if d := s.upgrade(t, "--only", "ecs"); d.RC != 0 || d.Changed {
		t.Errorf("without the SSM agent: %+v", d)
	}
	s.keeps(t, first, plain, false) // nobody asks the store then
	s.machine.snapd.silent = false
	s.machine.snapd.refuses = "cannot refresh \"amazon-ssm-agent\": cannot query the store for updates: dial tcp: lookup api.snapcraft.io: no such host"
	if d := s.upgrade(t, "--only", "ssm"); d.RC != 7 || d.Error.Code != string(failure.Network) || !d.Error.RolledBack || len(d.Result.Failed) > 0 {
		t.Errorf("the store cannot be reached: %+v", d)
	}
	if diff := differs(before, s.everything(t)); len(diff) > 1 || len(diff) == 1 && !strings.Contains(diff[0], "timers.target.wants") {
		t.Errorf("it touched %v", diff)
	}
	s.machine.snapd.refuses = "snap \"amazon-ssm-agent\" has running apps (ssm-cli), pids: 4711"
	if d := s.upgrade(t, "--only", "ssm"); d.RC != 7 || d.Error.Code != string(failure.PackageInstall) || !strings.Contains(d.Error.Message, "has running apps (ssm-cli)") {
		t.Errorf("snapd refuses: %+v", d)
	}
	s.until(t, is(lifecycle.Healthy))

	// Both at once: nobody mixes them, whatever is ignored.
	s.machine.snapd.refuses = ""
	status := "Package: amazon-ssm-agent\nStatus: install ok installed\nArchitecture: " + goarch() + "\nVersion: 3.3.4108.0-1\n\n"
	s.write(t, "/var/lib/dpkg/status", status+s.read(t, "/var/lib/dpkg/status"))
	for _, l := range []line{
		{args: []string{"register", "--ignore", "existing.ssm"}}, {args: []string{"upgrade"}}, {args: []string{"upgrade", "--check"}},
		{args: []string{"adopt"}}, {args: []string{"move", "--yes", "--cluster", target}, operator: true},
	} {
		s.refuses(t, l, 12, string(failure.SnapAgent), "twice, as a snap and as the package amazon-ssm-agent 3.3.4108.0-1", "apt-get remove amazon-ssm-agent")
	}
}

// A snap that is too old to register with is refreshed by the registration.
func TestAnOldSnapIsRefreshed(t *testing.T) {
	t.Parallel()
	s := ubuntu(t)
	old := s.machine.snapd.publish("latest/stable", "3.1.282.0")
	if err := s.machine.snapd.bring(old); err != nil {
		t.Fatal(err)
	}
	s.machine.snapd.publish("latest/stable", ssmVersion)
	d := s.settled(t)
	if d.Result.SSMAgentVersion != ssmVersion {
		t.Errorf("%+v", d.Result)
	}
	s.pure(t)
	s.keeps(t, d, plain, false)
}

// A host whose agents somebody else has registered, with Ubuntu's snap, is adopted as it is.
func TestASnapIsAdopted(t *testing.T) {
	t.Parallel()
	s, first := onSnap(t)
	if err := os.RemoveAll(filepath.Join(s.machine.root, "var/lib/anywhere")); err != nil {
		t.Fatal(err)
	}
	lives := func() (since [2]time.Time) {
		for i, name := range []string{ssmagent.SnapUnit, ecsagent.Unit} {
			unit, err := s.machine.units.Unit(t.Context(), name)
			if err != nil || !unit.Running() {
				t.Fatalf("%+v, %v", unit, err)
			}
			since[i] = unit.ActiveSince
		}
		return since
	}
	began := lives()
	d := s.run(t, adopt)
	if d.RC != 0 || !d.Changed || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID || d.Result.SSMAgentVersion != ssmVersion {
		t.Fatalf("%+v", d)
	}
	if record := s.record(t); record.Adopted == nil || record.Adopted.Packages[ssmagent.Package] != ssmVersion || record.Started[ssmagent.SnapUnit] == "" {
		t.Errorf("%+v", record)
	}
	if lives() != began {
		t.Error("an agent was restarted")
	}
	s.keeps(t, first, plain, false)
	gone := s.leave(t, true, "--remove-ssm", "--purge", "--accept-risk", "purge-data")
	if gone.RC != 0 {
		t.Fatalf("%+v", gone)
	}
	if s.snap(t).Revision == "" {
		t.Error("the snap is gone, and nobody has installed it but Ubuntu")
	}
	if _, err := os.Lstat(filepath.Join(s.machine.root, ssmagent.DataDir)); err == nil {
		t.Error("the agent's data is there")
	}
}

// doctor reads what the snap's agent says, by the unit that it has.
func TestDoctorOnASnap(t *testing.T) {
	t.Parallel()
	s, _ := onSnap(t)
	if err := s.machine.units.Stop(t.Context(), ssmagent.SnapUnit); err != nil {
		t.Fatal(err)
	}
	c, err := s.play(t.Context(), line{args: []string{"doctor", "--fix", "--yes", "--offline"}}, cli.RehearseRequest{})
	var d struct {
		RC     int
		Result struct{ Fixes []struct{ ID, Status string } }
	}
	if broken := json.Unmarshal(c.Document, &d); broken != nil {
		t.Fatalf("%v, %v: %s", err, broken, c.Document)
	}
	if unit, err := s.machine.units.Unit(t.Context(), ssmagent.SnapUnit); err != nil || !unit.Running() {
		t.Errorf("%+v, %v: %s", unit, err, c.Document)
	}
}

// Killed at every line of the journal, an upgrade of a snap is ended by the same command, or taken back: what snapd had begun
// it has ended meanwhile.
func TestASnapsUpgradeKilled(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"upgrade", "rollback"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s, first := onSnap(t)
			task := s.aws.AddTask(first.Result.ContainerInstanceARN, emulator.Task{Service: "web"})
			s.until(t, func(h health) bool { return h.Result.Tasks.Running == 1 })
			versions := []string{ssmVersion}
			for point := 1 + len(way)%2; ; point += 2 { // each has the other's points
				version := fmt.Sprintf("3.3.%d.0", 5000+point)
				s.machine.snapd.publish("latest/candidate", version)
				l := line{args: []string{"upgrade", "--only", "ssm", "--watch-time", "50ms", "--ssm-agent-version", version}}
				if !s.kill(t, l, point) {
					if point < 20 {
						t.Fatalf("it had only %d points", point)
					}
					return
				}
				old := versions[len(versions)-1]
				if way == "upgrade" {
					d := s.upgrades(t, l)
					if d.RC != 0 || d.Result.SSMAgent.Installed != version || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
						t.Fatalf("killed at %d: %+v", point, d)
					}
					versions = append(versions, version)
				} else {
					d := s.upgrades(t, line{args: []string{"rollback", "--watch-time", "50ms"}})
					if d.RC == 12 && strings.Contains(d.Error.Message, "past its point of no return") {
						d = s.upgrades(t, l)
						old = version
					}
					_, err := os.Lstat(filepath.Join(s.machine.root, "/var/lib/anywhere/journal/open.jsonl"))
					if now := s.snap(t); d.RC != 0 && d.RC != 12 || now.Version != old && d.RC == 0 || err == nil {
						t.Fatalf("killed at %d: %+v, %+v", point, d, now)
					}
					versions = append(versions, s.snap(t).Version)
				}
				s.disarmed(t)
				s.pure(t)
				s.until(t, func(h health) bool {
					return h.Result.State == lifecycle.Healthy && h.Result.Tasks.Running == 1 && h.Result.Tasks.List[0].ARN == task
				})
				if t.Failed() {
					t.Fatalf("killed at %d", point)
				}
			}
		})
	}
}

// A registration that is killed goes on, and never with the package.
func TestASnapsRegistrationKilled(t *testing.T) {
	t.Parallel()
	for point := 1; ; point += 9 {
		s := ubuntu(t)
		s.anotherToken()
		killed := s.kill(t, withToken, point)
		if !killed {
			if point < 30 {
				t.Fatalf("it had only %d points", point)
			}
			return
		}
		if d := s.run(t, withToken); d.RC != 0 || d.Result.SSMAgentVersion != ssmVersion {
			t.Fatalf("killed at %d: %+v", point, d)
		}
		s.pure(t)
		s.until(t, is(lifecycle.Healthy))
		s.close()
	}
}

// The story is played to its end.
func TestTheStoryOfASnap(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	report, err := Run(t.Context(), env, cli.RehearseRequest{Scenario: "snap", JSON: true})
	if err != nil {
		t.Fatalf("%v\n%+v", err, report.Result)
	}
	if commands := report.Result.(Result).Commands; len(commands) != len(scenarios["snap"]) {
		t.Errorf("%d commands were run", len(commands))
	}
}

// A bad ECS agent beside a new snap takes the snap back too, and has it follow what it followed.
func TestASnapIsTakenBackWithTheRest(t *testing.T) {
	t.Parallel()
	s, first := onSnap(t)
	before := s.snap(t)
	s.machine.snapd.publish("latest/candidate", nextSSM)
	s.publish(t, "", nextECS, simagent.FaultCrash)
	d := s.upgrade(t, "--wait-timeout", "3s", "--ssm-agent-version", nextSSM)
	if d.RC != 7 || !d.Error.RolledBack || d.Changed || d.Error.Code != string(failure.AgentCrashLoop) || d.Result.SSMAgent.Installed != ssmVersion ||
		d.Result.ECSAgent.Installed != ecsVersion {
		t.Fatalf("%+v", d)
	}
	if now := s.snap(t); now.Revision != before.Revision || s.machine.snapd.offer().Follows != "latest/stable/ubuntu-24.04" {
		t.Errorf("the snap is %+v and follows %s", now, s.machine.snapd.offer().Follows)
	}
	s.disarmed(t)
	s.until(t, is(lifecycle.Healthy))
	s.keeps(t, first, plain, false)
	if len(d.Result.Failed) != 1 || d.Result.Failed[0].Package != ecsagent.Package {
		t.Errorf("remembered is %+v", d.Result.Failed)
	}
}

// A registration that fails leaves the snap, and its service, as they were.
func TestASnapsRegistrationThatFails(t *testing.T) {
	t.Parallel()
	s := ubuntu(t)
	before := s.everything(t)
	if err := s.aws.Fault("activation-expired"); err != nil {
		t.Fatal(err)
	}
	s.anotherToken()
	if d := s.run(t, withToken); d.RC != 7 || d.Error.Code != string(failure.ActivationExpired) {
		t.Fatalf("%+v", d)
	}
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("the host is not as it was:\n%s", strings.Join(diff, "\n"))
	}
	if unit, err := s.machine.units.Unit(t.Context(), ssmagent.SnapUnit); err != nil || !unit.IsEnabled() || unit.Active != "active" && unit.Active != "activating" {
		t.Errorf("%+v, %v", unit, err)
	}
	s.pure(t)
}
