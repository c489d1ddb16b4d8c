package rehearsal

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// fail has a script of a package fail from now on; a status of 0 lets it work again.
func (r *rpms) fail(script string, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fails[script] = status
	if status == 0 {
		delete(r.fails, script)
	}
}

// A script that fails is a warning of rpm's, which counts the package as installed; to a registration, and to an upgrade, it
// is a failure, and all is taken back.
func TestScriptsOfAnRPMFail(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"%post(amazon-ecs-init)", "%posttrans(amazon-ssm-agent)", "%prein(amazon-ecs-init)", "%prein(amazon-ssm-agent)"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			s := onRPM(t, "rocky9")
			bare := s.everything(t)
			s.machine.rpms.fail(script, 7)
			s.anotherToken()
			which, _, _ := strings.Cut(script, "(")
			d := s.run(t, withToken)
			if d.RC != 7 || d.Error.Code != string(failure.PackageInstall) || !d.Error.RolledBack ||
				!strings.Contains(d.Error.Message, which) || !strings.Contains(d.Error.Message, "exit status 7") {
				t.Fatalf("%+v", d)
			}
			s.goneFrom(t, bare, ecsagent.Unit)
			s.machine.rpms.fail(script, 0)
			first := s.settled(t)

			s.publish(t, nextSSM, nextECS, "")
			s.machine.rpms.fail(script, 7)
			u := s.upgrade(t)
			s.machine.rpms.fail(script, 0)
			if which == "%prein" { // rpm has begun nothing
				if u.RC != 7 || !u.Error.RolledBack || u.Changed || !strings.Contains(u.Error.Message, script[:len(script)-1]) {
					t.Fatalf("%+v", u)
				}
			} else { // the old version's script fails just so, and the deadline goes on with it
				if u.RC != 8 || u.Error.RolledBack || len(u.Error.Kept) != 1 || !strings.Contains(u.Error.Kept[0], "exit status 7") {
					t.Fatalf("%+v", u)
				}
				if d := s.upgrades(t, tend); d.RC != 0 {
					t.Fatalf("the deadline: %+v", d)
				}
			}
			s.staysOld(t, first)

			if name := which + "(" + ecsagent.Package; script == name+")" { // only the new version's does
				s.machine.rpms.fail(name+"-"+nextECS+")", 7)
				if u := s.upgrade(t, "--ecs-agent-version", nextECS); u.RC != 7 || !u.Error.RolledBack || u.Changed || len(u.Error.Kept) > 0 {
					t.Fatalf("%+v", u)
				}
				s.staysOld(t, first)
			}
		})
	}
}

// staysOld checks that a host is whole and has the versions with which it was registered.
func (s *stage) staysOld(t *testing.T, first register) {
	t.Helper()
	s.disarmed(t)
	s.whole(t)
	if s.upgraded(t) {
		t.Error("it has the new versions")
	}
	s.until(t, is(lifecycle.Healthy))
	s.keeps(t, first, plain, false)
}

// Whoever works on the packages is waited for by the operator, who is told who that is; nothing is touched.
func TestRPMIsLocked(t *testing.T) {
	t.Parallel()
	t.Run("its own lock", func(t *testing.T) {
		t.Parallel()
		for _, system := range []string{"amzn2023", "sles15"} {
			s := onRPM(t, system)
			free, err := lockRPM(s.machine.disk.Local(s.machine.rpms.lock()))
			if err != nil {
				t.Fatal(err)
			}
			s.anotherToken()
			s.refuses(t, withToken, 3, string(failure.PackagesLocked), "locked by another process", "run the command again")
			free()
			s.settled(t)
		}
	})
	t.Run("the front end's", func(t *testing.T) {
		t.Parallel()
		for system, c := range map[string]struct{ program, pidFile string }{
			"rocky9": {"dnf", "/var/lib/dnf/rpmdb_lock.pid"}, "sles15": {"zypper", "/run/zypp.pid"},
		} {
			s := onRPM(t, system)
			pid, end := runs(t, c.program)
			s.write(t, c.pidFile, fmt.Sprint(pid))
			s.anotherToken()
			s.refuses(t, withToken, 3, string(failure.PackagesLocked), fmt.Sprintf("locked by pid %d (%s)", pid, c.program), "run the command again")
			end()
			first := s.settled(t) // the file of one that is dead is none's
			s.publish(t, nextSSM, "", "")
			pid, end = runs(t, c.program)
			s.write(t, c.pidFile, fmt.Sprint(pid))
			if d := s.upgrade(t); d.RC != 3 || d.Error.Code != string(failure.PackagesLocked) || d.Changed {
				t.Errorf("%s: upgrade: %+v", system, d)
			}
			if d := s.leave(t, true); d.RC != 3 || d.Error.Code != string(failure.PackagesLocked) || d.Changed {
				t.Errorf("%s: deregister: %+v", system, d)
			}
			end()
			s.keeps(t, first, plain, false)
		}
	})
	// It begins after the preflight, and goes on: what is done cannot be taken back until it ends.
	t.Run("meanwhile", func(t *testing.T) {
		t.Parallel()
		s := onRPM(t, "rocky9")
		bare := s.everything(t)
		var free func()
		s.around = func(h host.Host) host.Host {
			h.Packager = &busyPackager{Packager: h.Packager, before: ecsagent.Package, do: func() {
				var err error
				if free, err = lockRPM(s.machine.disk.Local(s.machine.rpms.lock())); err != nil {
					t.Error(err)
				}
			}}
			return h
		}
		s.anotherToken()
		d := s.run(t, withToken)
		s.around = nil
		if d.RC != 8 || d.Error.Code != string(failure.PackagesLocked) || d.Error.RolledBack || len(d.Error.Kept) != 1 ||
			!strings.Contains(d.Error.Kept[0], "cannot remove amazon-ssm-agent: rpm's lock is held by another process") {
			t.Errorf("%+v", d)
		}
		free()
		if d := s.run(t, line{args: []string{"rollback"}}); d.RC != 0 || len(d.Error.Kept) > 0 {
			t.Fatalf("rollback: %+v", d)
		}
		s.goneFrom(t, bare, ecsagent.Unit)
		s.settled(t)
	})
}

// busyPackager does something before a package is installed.
type busyPackager struct {
	host.Packager
	before string
	do     func()
}

func (p *busyPackager) Install(ctx context.Context, file string) error {
	if strings.Contains(file, p.before) && p.do != nil {
		p.do()
		p.do = nil
	}
	return p.Packager.Install(ctx, file)
}

// runs starts a process of that name.
func runs(t *testing.T, name string) (pid int, end func()) {
	t.Helper()
	at := filepath.Join(t.TempDir(), name)
	if err := os.Symlink("/bin/sh", at); err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	cmd := exec.Command(at, "-c", "read line")
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = out.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

// What an earlier program, or a run of which the journal is lost, has noted and not ended: it is told, and a registration
// installs the package anew, whatever rpm says of it.
func TestATransactionOfRPMThatWasInterrupted(t *testing.T) {
	t.Parallel()
	const note = "/var/lib/anywhere/rpm/" + ecsagent.Package + ".json"
	for _, text := range []string{
		`{"doing":"install","file":"/var/lib/anywhere/packages/gone.rpm"}`, `{"doing":"remove"}`,
	} {
		s := onRPM(t, "fedora42")
		bare := s.everything(t)
		s.write(t, note, text)
		first := s.settled(t)
		s.whole(t)
		s.write(t, note, text)
		if h := s.look(t); h.RC != 0 && h.RC != 10 {
			t.Errorf("status: %+v", h)
		}
		d := s.run(t, plain)
		if d.RC != 0 || d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
			t.Fatalf("%s: %+v", text, d)
		}
		s.whole(t)
		s.write(t, note, text)
		s.publish(t, "", nextECS, "")
		if d := s.upgrade(t); d.RC != 0 || d.Result.ECSAgent.Installed != nextECS {
			t.Fatalf("upgrade: %+v", d)
		}
		s.whole(t)
		s.write(t, note, text)
		s.finished(t, first, true, bare, s.leave(t, true))
		s.whole(t)
	}
}

// What somebody has changed of a package's files: programs come anew with the next version, a unit stays as it is.
func TestFilesOfAnRPMThatSomebodyChanged(t *testing.T) {
	t.Parallel()
	s := onRPM(t, "rocky9")
	bare := s.everything(t)
	first := s.settled(t)
	const unit, mine = adminDir + ssmagent.UnitName, ssmUnit + "# mine\n"
	s.write(t, unit, mine)
	s.write(t, ecsagent.InitBinary, "#!/bin/sh\n# mine\n")
	s.keeps(t, first, plain, false)
	s.publish(t, nextSSM, nextECS, "")
	for _, l := range []line{forward, back} {
		if d := s.upgrades(t, l); d.RC != 0 || !d.Changed {
			t.Fatalf("%v: %+v", l.args, d)
		}
		if got := s.read(t, unit); got != mine {
			t.Errorf("after %v the unit is %q", l.args, got)
		}
		if got := s.read(t, ecsagent.InitBinary); got != program {
			t.Errorf("after %v the program is %q", l.args, got)
		}
	}
	s.until(t, is(lifecycle.Healthy))
	d := s.leave(t, true)
	if d.RC != 0 || len(s.left()) > 0 {
		t.Fatalf("%+v", d)
	}
	diff := differs(bare, s.everything(t))
	if !slices.Equal(diff, []string{"+" + unit}) || s.read(t, unit) != mine {
		t.Errorf("left is %v", diff)
	}
	if u, err := s.machine.units.Unit(t.Context(), ssmagent.UnitName); err != nil || u.IsEnabled() || u.Active == "active" {
		t.Errorf("%+v, %v", u, err)
	}
	s.settled(t)
}

// A lock of the front end's holds a package: an upgrade is refused with what lets go of it, and one to a version by name
// leaves the lock where it is.
func TestVersionLocks(t *testing.T) {
	t.Parallel()
	for system, c := range map[string]struct{ file, text, remedy string }{
		"rocky9":   {"/etc/dnf/plugins/versionlock.list", "amazon-ecs-init-0:1.105.1-1.*\n", "dnf versionlock delete amazon-ecs-init"},
		"fedora42": {"/etc/dnf/versionlock.toml", "version = \"1.0\"\n\n[[packages]]\nname = \"amazon-ecs-init\"\n", "dnf versionlock delete amazon-ecs-init"},
		"sles15":   {"/etc/zypp/locks", "type: package\nmatch_type: glob\nsolvable_name: amazon-ecs-init\n", "zypper removelock amazon-ecs-init"},
	} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := onRPM(t, system)
			s.write(t, c.file, c.text)
			s.anotherToken()
			s.refuses(t, withToken, 3, string(failure.PackageHeld), "held", c.remedy)
			s.remove(t, c.file)
			first := s.settled(t)
			s.write(t, c.file, c.text)
			s.keeps(t, first, plain, false)
			s.publish(t, nextSSM, nextECS, "")
			if d := s.upgrade(t); d.RC == 0 || d.Error.Code != string(failure.PackageHeld) || d.Changed || !strings.Contains(d.Error.Remedy, c.remedy) {
				t.Errorf("%+v", d)
			}
			if d := s.upgrade(t, "--ecs-agent-version", nextECS); d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || !d.Result.ECSAgent.Held {
				t.Errorf("by name: %+v", d)
			}
			if d := s.upgrades(t, back); d.RC != 0 || d.Result.ECSAgent.Installed != ecsVersion {
				t.Errorf("and back: %+v", d)
			}
			if got := s.read(t, c.file); got != c.text {
				t.Errorf("the lock is %q", got)
			}
			s.whole(t)
			if d := s.leave(t, true); d.RC != 0 || len(s.left()) > 0 {
				t.Errorf("deregister: %+v", d)
			}
		})
	}
}

// The ways out of a registration, on a host of an rpm family.
func TestLeavingAnRPMHost(t *testing.T) {
	t.Parallel()
	t.Run("a registration that fails", func(t *testing.T) {
		t.Parallel()
		for _, system := range []string{"amzn2023", "sles15"} {
			s := onRPM(t, system)
			s.write(t, userConfig, "# mine\nECS_LOGLEVEL=debug\n")
			bare := s.everything(t)
			s.fault(emulator.FaultActivationExpired)
			s.anotherToken()
			if d := s.run(t, withToken); d.RC != 7 || !d.Error.RolledBack || len(d.Error.Kept) > 0 {
				t.Fatalf("%+v", d)
			}
			s.goneFrom(t, bare, s.machine.rpms.system.unit)
		}
	})
	t.Run("with the packages kept", func(t *testing.T) {
		t.Parallel()
		s := onRPM(t, "sles15")
		bare := s.everything(t)
		first := s.settled(t)
		d := s.leave(t, true, "--keep-packages")
		if d.RC != 0 || !slices.Contains(d.Result.Kept, "package amazon-ecs-init (--keep-packages)") || len(s.left()) > 0 {
			t.Fatalf("%+v", d)
		}
		for _, name := range []string{suseUnit, ssmagent.UnitName} {
			if u, err := s.machine.units.Unit(t.Context(), name); err != nil || !u.Loaded || u.Active == "active" || u.IsEnabled() {
				t.Errorf("%+v, %v", u, err)
			}
		}
		if again := s.leave(t, true, "--keep-packages"); again.RC != 0 || again.Changed {
			t.Errorf("and again: %+v", again)
		}
		anew := s.settled(t)
		if anew.Result.ManagedInstanceID == first.Result.ManagedInstanceID {
			t.Errorf("%+v", anew)
		}
		s.finished(t, anew, true, bare, s.leave(t, true))
		s.goneFrom(t, bare, suseUnit)
	})
	t.Run("with all data", func(t *testing.T) {
		t.Parallel()
		s := onRPM(t, "amzn2023")
		s.settled(t)
		d := s.leave(t, true, "--purge", "--accept-risk", "purge-data")
		if d.RC != 0 || len(d.Result.Kept) > 0 || len(s.left()) > 0 {
			t.Fatalf("%+v", d)
		}
		for _, gone := range []string{"var/lib/anywhere", "var/lib/ecs", "var/lib/amazon", "etc/ecs", "etc/amazon", "var/log/ecs", "var/log/amazon", "root/.aws"} {
			if _, err := os.Lstat(filepath.Join(s.machine.root, gone)); err == nil {
				t.Errorf("%s is still there", gone)
			}
		}
		if again := s.leave(t, true, "--purge", "--accept-risk", "purge-data"); again.RC != 0 || again.Changed {
			t.Errorf("and again: %+v", again)
		}
	})
	t.Run("with somebody's configuration", func(t *testing.T) { // rpm deletes what its package claims
		t.Parallel()
		s := onRPM(t, "rocky9")
		const settings = "# the platform team's\nECS_LOGLEVEL=debug\nECS_RESERVED_MEMORY=64\n"
		s.write(t, userConfig, settings)
		bare := s.everything(t)
		s.settled(t)
		if d := s.leave(t, true); d.RC != 0 || s.read(t, userConfig) != settings {
			t.Errorf("%+v\n%q", d, s.read(t, userConfig))
		}
		s.goneFrom(t, bare, ecsagent.Unit)
	})
}

// A host as AWS's script leaves it comes under anywhere: on SUSE too, with the unit that AWS's rpm for every system brings.
func TestAdoptAnRPMHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ system, unit string }{{"amzn2023", ecsagent.Unit}, {"sles15", suseUnit}, {"sles15", ecsagent.Unit}} {
		t.Run(c.system+", "+c.unit, func(t *testing.T) {
			t.Parallel()
			s := onRPM(t, c.system)
			if s.key.unit = c.unit; c.unit != s.machine.rpms.system.unit {
				s.publish(t, "", ecsVersion, "")
			}
			was := s.settled(t)
			for _, name := range []string{recordFile, "etc/systemd/system/" + c.unit + ".d/50-anywhere.conf", "etc/systemd/system/" + c.unit + ".d", userConfig} {
				s.remove(t, name)
			}
			if err := os.RemoveAll(filepath.Join(s.machine.root, "var/lib/anywhere")); err != nil {
				t.Fatal(err)
			}
			s.writeOld(t, userConfig, "ECS_CLUSTER="+cluster+"\n")
			s.writeOld(t, instanceConfig, "AWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\nECS_BACKEND_HOST="+s.aws.URL()+"\n")
			before, err := s.machine.units.Unit(t.Context(), c.unit)
			if err != nil || !before.Running() {
				t.Fatalf("%+v, %v", before, err)
			}
			d := s.run(t, adopt)
			if d.RC != 0 || !d.Changed || d.Result.ManagedInstanceID != was.Result.ManagedInstanceID || d.Result.ECSAgentVersion == "" {
				t.Fatalf("%+v", d)
			}
			if after, err := s.machine.units.Unit(t.Context(), c.unit); err != nil || !after.ActiveSince.Equal(before.ActiveSince) || len(after.DropIns) != 1 {
				t.Errorf("%+v, %v", after, err)
			}
			s.keeps(t, was, plain, false)
			s.publish(t, nextSSM, nextECS, "")
			if d := s.upgrade(t); d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || d.Result.ECSAgent.Running != "1.106.0" {
				t.Errorf("%+v", d)
			}
			s.whole(t)
			gone := s.leave(t, true, "--remove-ssm")
			if gone.RC != 0 || len(s.left()) > 0 {
				t.Errorf("%+v", gone)
			}
			// The packages are not anywhere's to remove.
			if u, err := s.machine.units.Unit(t.Context(), c.unit); err != nil || !u.Loaded || u.IsEnabled() || u.Active == "active" {
				t.Errorf("%+v, %v", u, err)
			}
			s.whole(t)
		})
	}
}

// Tasks move away before an rpm host gives them up, and come again.
func TestDrainAnRPMHost(t *testing.T) {
	t.Parallel()
	s := onRPM(t, "sles15")
	first := s.settled(t)
	s.aws.AddTask(first.Result.ContainerInstanceARN, emulator.Task{Service: "web"})
	s.until(t, func(h health) bool { return h.Result.Tasks.Running == 1 })
	s.aws.AddInstance(cluster)
	s.aws.AddService(cluster, emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
	if d := s.drains(t, line{args: []string{"drain"}, operator: true}); d.RC != 0 || !d.Changed {
		t.Fatalf("%+v", d)
	}
	if d := s.drains(t, line{args: []string{"activate"}, operator: true}); d.RC != 0 || !d.Changed {
		t.Errorf("%+v", d)
	}
	s.keeps(t, first, plain, false)
}
