package e2e

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// otherVerbs are the hosts on which they are tried, with the ECS agent's unit. The slow tier has one more of each front end.
var otherVerbs = map[string]string{"rocky9": "ecs.service"}

// thorough is for the slow tier: more ways to cut a removal off, and a host of AWS's script.
var thorough bool

const theirECSConfig = "# of the platform team\nECS_LOGLEVEL=debug\n"

const ssmRemoved, ecsRemoved = "/run/amazon-ssm-agent.postrm", "/run/amazon-ecs-init.postrm" // see packages.Options.RemovalWaits

// What besides register and upgrade is done on a host with the real rpm: a registration that fails is rolled back, a sick
// host is examined and mended, it is drained and moved, given up with and without its packages, killed and cut off while
// rpm removes, and adopted from AWS's script.
func TestTheOtherVerbsOnRPM(t *testing.T) {
	for system, unit := range otherVerbs {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, packages.Options{RPM: true, RemovalWaits: true}, packages.Options{RPM: true, RemovalWaits: true, Unit: unit})
			s.aws.AddCluster(nextCluster)
			h := s.host(lab.Host{System: system})
			h.WriteFile("/etc/simagent.json", []byte(quick), 0o644)
			h.WriteFile("/etc/ecs/simagent.json", []byte(quick), 0o644)
			h.WriteFile("/etc/ecs/ecs.config", []byte(theirECSConfig), 0o640)
			before := h.Tree(lived...)

			for _, part := range []struct {
				name string
				slow bool
				do   func()
			}{
				{"a failed register", false, func() {
					defer release(h, ssmRemoved, ecsRemoved)()
					s.rolledBackOnRPM(t, h)
				}},
				{"doctor", false, func() { s.doctorOnRPM(t, h, unit) }},
				{"drain and move", false, func() { s.movesOnRPM(t, h) }},
				{"--keep-packages", false, func() { s.keepsPackagesOnRPM(t, h, before) }},
				{"cut off", false, func() { s.cutOffInRemoval(t, h, before) }},
				{"changed configuration", true, func() { s.conffilesOnRPM(t, h, before) }},
				{"adopt", true, func() { s.adoptsOnRPM(t, h, before) }},
			} {
				if part.slow && !thorough {
					continue
				}
				begun := time.Now()
				part.do()
				t.Logf("%s: %v", part.name, time.Since(begun).Round(100*time.Millisecond))
			}
		})
	}
}

// rolledBackOnRPM lets a registration fail before its point of no return.
func (s *site) rolledBackOnRPM(t *testing.T, h *lab.Machine) {
	was := look(h)
	ecs := s.mirror.Dir + "/amazon-ecs-agent-" + region + "/amazon-ecs-init-" + ecsVersion + ".x86_64.rpm"
	must(t, s.mirror.ECSKey.Sign(filepath.Join(s.mirror.Dir, "amazon-ssm-"+region, "latest", "VERSION"), ecs+".asc", true)) // of something else
	s.fails(t, h, s.register(s.token(1)), 6, failure.ArtifactCorrupt, "amazon-ecs-init", "signature", "")
	must(t, s.mirror.ECSKey.Sign(ecs, ecs+".asc", true))
	s.inject(emulator.FaultActivationExpired) // Systems Manager refuses when both packages are there
	d := s.fails(t, h, s.register(s.token(1)), 7, failure.ActivationExpired, "expired", "ActivationExpired", "activation create")
	if s.aws.ClearFault(emulator.FaultActivationExpired); !d.Error.RolledBack || len(d.Error.Kept) > 0 {
		t.Errorf("not rolled back: %+v", d.Error)
	}
	was.same(t, look(h))
}

// doctorOnRPM makes a registered host sick, and well again.
func (s *site) doctorOnRPM(t *testing.T, h *lab.Machine, unit string) {
	s.mustRegister(h, s.register(s.token(1)))
	s.settledIn(h)
	s.comesTo(h, "healthy", "")
	s.finds(h, "nothing", func(d diagnosis) bool { return d.RC == 0 })
	h.MustShell("systemctl disable --now " + unit + `; sed -i 's/^ECS_EXTERNAL=.*/ECS_EXTERNAL="true"/' /etc/ecs/ecs.config; chmod 755 /etc/ecs`)
	s.finds(h, "a stopped agent and a spoilt configuration", func(d diagnosis) bool {
		return d.RC == 10 && d.names(failure.ServiceFailed) && d.fix("ecs.service") == "possible" && d.fix("ecs.external") == "possible"
	})
	for _, f := range s.doctor(h, "--offline").Result.Findings {
		if unit == suseUnit && regexp.MustCompile(`(systemctl [a-z -]+|-u) ecs\b`).MatchString(f.Remedy) {
			t.Errorf("there is no ecs.service here, and it says %q", f.Remedy)
		}
	}
	fixed := s.doctor(h, "--offline", "--fix", "--yes")
	if fixed.RC != 0 || fixed.fix("ecs.service") != "done" || fixed.fix("ecs.external") != "done" || fixed.Result.State != "healthy" {
		t.Errorf("mended: %+v", fixed)
	}
	s.settledIn(h)

	// What the package brought is gone, and comes again as doctor says that it would.
	h.MustShell("rm /usr/libexec/amazon-ecs-init; systemctl restart " + unit + " || :")
	reinstalls := func(d diagnosis) bool {
		return d.first() == string(failure.PackagesBroken) && strings.Contains(d.Result.Findings[0].Remedy, "anywhere register")
	}
	s.finds(h, "a program that is gone", func(d diagnosis) bool { return d.RC == 10 && reinstalls(d) })
	s.mustRegister(h, s.register(""))
	s.settledIn(h)
	s.comesTo(h, "healthy", "")

	// An upgrade by dnf or zypper that was killed: rpm's database has two versions.
	if !thorough {
		return
	}
	former := filepath.Join(t.TempDir(), "former.rpm")
	must(t, packages.ECSInit(former, packages.Options{Version: "1.104.0-1", RPM: true, Unit: unit, Program: lab.Shared("simagent")}))
	h.CopyIn("/root/former.rpm", former, 0o644)
	h.MustShell("rpm -i --justdb --force --nodeps --noscripts --nosignature /root/former.rpm; rm /root/former.rpm")
	s.finds(h, "two versions", reinstalls)
	if d := s.mustRegister(h, s.register("")); rpmVersion(h, "amazon-ecs-init") != ecsVersion {
		t.Errorf("two versions, and registered again: %s; %+v", rpmVersion(h, "amazon-ecs-init"), d)
	}
	s.settledIn(h)
	s.comesTo(h, "healthy", "")
}

// finds asks doctor until it says so: on a busy machine a look may come too late for its answer.
func (s *site) finds(h *lab.Machine, what string, so func(diagnosis) bool) {
	s.t.Helper()
	var last diagnosis
	defer func() {
		if s.t.Failed() {
			s.t.Logf("doctor's last word: %+v", last)
		}
	}()
	await(s.t, "doctor finds "+what, func() bool { last = s.doctor(h, "--offline"); return so(last) })
}

// movesOnRPM drains the host, takes it back, moves it away and back.
func (s *site) movesOnRPM(t *testing.T, h *lab.Machine) {
	first := s.status(h, asRoot).Result
	s.aws.Mark(first.ContainerInstanceARN, map[string]string{"rack": "7"}, map[string]string{"team": "a b"})
	s.ask(t, h, question{cmd: s.by(s.command("drain")), changed: true})
	if got := s.statusOf(first.ContainerInstanceARN); got != "DRAINING" {
		t.Errorf("drained, it is %s", got)
	}
	s.ask(t, h, question{cmd: s.by(s.command("activate")), changed: true})
	for _, to := range []string{nextCluster, cluster} {
		move := s.by(s.command("move", "--yes", "--cluster", to))
		s.ask(t, h, question{cmd: move, changed: true})
		s.livesIn(to, first.ManagedInstanceID)
		s.settledIn(h)
		s.ask(t, h, question{cmd: move})
	}
}

// keepsPackagesOnRPM gives the host up without its packages, and takes it again with what is there.
func (s *site) keepsPackagesOnRPM(t *testing.T, h *lab.Machine, before lab.Tree) {
	there := h.MustShell("rpm -qa 'amazon-*' | sort")
	if d := s.parting(h.Run(s.deregister("--keep-packages"))); d.RC != 0 || !d.Changed || len(s.inAWS()) > 0 {
		t.Fatalf("%+v; AWS has %q", d, s.inAWS())
	}
	if now := h.MustShell("rpm -qa 'amazon-*' | sort"); now != there || audit(h) != "" {
		t.Errorf("the packages are %q and were %q; %s", now, there, audit(h))
	}
	for _, unit := range []string{"amazon-ssm-agent.service", ecsUnit(h)} {
		if u := h.Unit(unit); u.Active == "active" || u.Enabled == "enabled" {
			t.Errorf("%s is %+v", unit, u)
		}
	}
	s.mustRegister(h, s.register(s.token(1)))
	s.settledIn(h)
}

// cutOffInRemoval ends deregister in the middle of rpm's removal: the program alone, with rpm, and by a power cut. The
// same command goes on each time.
func (s *site) cutOffInRemoval(t *testing.T, h *lab.Machine, before lab.Tree) {
	cuts := []struct {
		name, at string
		how      func(r *running)
	}{
		{"rpm killed too", ecsRemoved, func(r *running) {
			r.killed()
			h.MustShell("for p in $(pidof rpm); do kill -9 $p; done; rm -f " + ecsRemoved)
		}},
		{"the program killed", ecsRemoved, func(r *running) { r.killed() }},
		{"a power cut", ssmRemoved, func(r *running) {
			h.Kill()
			r.end()
			h.Boot()
		}},
	}
	if !thorough {
		cuts = cuts[:1]
	}
	for n, cut := range cuts {
		if n > 0 {
			s.mustRegister(h, s.register(s.token(1)))
		}
		r := s.begin(h, s.deregister())
		stop := func() {}
		if cut.at == ssmRemoved {
			stop = release(h, ecsRemoved)
		}
		r.at(cut.at)
		stop()
		cut.how(r)
		if len(journal(h)) == 0 {
			t.Errorf("%s: no journal is open", cut.name)
		}
		stop = release(h, ssmRemoved, ecsRemoved)
		d := s.parting(h.Run(s.deregister()))
		stop()
		if d.RC != 0 || !d.Changed || len(s.inAWS()) > 0 {
			t.Fatalf("%s, and again: %+v; AWS has %q", cut.name, d, s.inAWS())
		}
		s.isGone(h, before)
		if text := h.MustShell("cat /etc/ecs/ecs.config; stat -c %a /etc/ecs/ecs.config"); text != theirECSConfig+"640" {
			t.Errorf("%s: the configuration that was there before is %q", cut.name, text)
		}
	}
}

// conffilesOnRPM registers and gives up over a unit that is configuration to rpm, and that somebody has changed.
func (s *site) conffilesOnRPM(t *testing.T, h *lab.Machine, before lab.Tree) {
	const unit = "/etc/systemd/system/amazon-ssm-agent.service"
	for n := range 2 { // the second time rpm finds it there, and lays its own beside it
		s.mustRegister(h, s.register(s.token(1)))
		if there := h.Exists(unit + ".rpmnew"); there != (n > 0) {
			t.Errorf("registration %d: rpm's own is beside the changed unit: %t", n+1, there)
		}
		if n == 0 {
			h.MustShell("echo '# ours' >>" + unit + "; systemctl daemon-reload")
		}
		stop := release(h, ssmRemoved, ecsRemoved)
		d := s.parting(h.Run(s.deregister()))
		stop()
		if d.RC != 0 || len(s.inAWS()) > 0 {
			t.Fatalf("%+v", d)
		}
		if last := h.MustShell("tail -n 1 " + unit); last != "# ours" {
			t.Errorf("what somebody has written is gone: %q", last)
		}
	}
	h.MustShell("rm " + unit + "; systemctl daemon-reload")
	s.isGone(h, before)
}

// adoptsOnRPM takes a host over that AWS's script has made, upgrades it and gives it up with all that it has.
func (s *site) adoptsOnRPM(t *testing.T, h *lab.Machine, before lab.Tree) {
	h.MustShell("rm -r /etc/ecs")
	s.play(h, scriptEndpoints, scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec, scriptECS, scriptConfig, scriptECSStart)
	h.MustShell("rm /root/ssm.rpm /root/ecs.rpm")
	await(t, "the ECS agent is registered", func() bool {
		return slices.ContainsFunc(s.aws.Instances(), func(i emulator.Instance) bool { return i.Status == "ACTIVE" && i.Connected })
	})
	task, lives := longTask(h), livesOf(h)
	s.ask(t, h, question{cmd: s.command("adopt"), changed: true})
	s.ask(t, h, question{cmd: s.command("adopt")})
	if now := livesOf(h); now != lives {
		t.Errorf("something was started anew:\n%s\nbefore:\n%s", now, lives)
	}
	s.settledIn(h)
	s.comesTo(h, "healthy", "")
	s.publish(&packages.Options{Version: nextSSM, RPM: true, RemovalWaits: true},
		&packages.Options{Version: nextECS, RPM: true, RemovalWaits: true, Unit: ecsUnit(h)})
	d := s.upgraded(h.Run(s.upgrade()))
	if d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || d.Result.SSMAgent.Installed != nextSSM+"-1" {
		t.Fatalf("upgrade: %+v %+v", d, d.Error)
	}
	disarmed(t, h)
	s.settledIn(h)
	taskRuns(t, h, task)
	h.MustShell("docker rm -f ecs-web-1-web; docker rmi task:1")

	kept := s.parting(h.Run(s.deregister()))
	if kept.RC != 0 || rpmVersion(h, "amazon-ssm-agent") == "" || h.Unit("amazon-ssm-agent.service").Active != "active" {
		t.Errorf("without flags its node stays: %+v", kept)
	}
	stop := release(h, ssmRemoved, ecsRemoved)
	gone := s.parting(h.Run(s.deregister("--remove-ssm", "--purge", "--accept-risk", "purge-data")))
	stop()
	if gone.RC != 0 || !gone.Changed || len(s.inAWS()) > 0 {
		t.Fatalf("%+v; AWS has %q", gone, s.inAWS())
	}
	// --purge takes /etc/ecs, whoever made it; root's own folder for AWS's programs stays, also when it is empty.
	maps.DeleteFunc(before, func(path, _ string) bool { return path == "/etc/ecs" || strings.HasPrefix(path, "/etc/ecs/") })
	h.MustShell("rmdir /root/.aws")
	s.isGone(h, before)
}
