package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// rpmVersion is the installed version of a package, or "".
func rpmVersion(h *lab.Machine, name string) string {
	return h.MustShell("rpm -q --qf '%{VERSION}-%{RELEASE}\n' " + name + " 2>/dev/null | grep -v 'not installed' || :")
}

// rpmSystems are those that live here, and what their ECS agent's service is called. The slow tier has more of them: what
// differs is a package manager's, of which these have one each. A name can end with the release of Debian that it is made of.
var rpmSystems = map[string]string{"amzn2023": "ecs.service", "sles15": "amazon-ecs.service"}

// A life on hosts of the rpm families, with the real rpm: registered, again, upgraded, rolled back, deregistered.
func TestLifeOnRPM(t *testing.T) {
	for name, unit := range rpmSystems {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true, Unit: unit})
			system, suite, _ := strings.Cut(name, " on ")
			h := s.host(lab.Host{System: system, Suite: suite})
			for _, name := range []string{"/etc/simagent.json", "/etc/ecs/simagent.json"} { // the agents' own waiting is not what is tested
				h.WriteFile(name, []byte(`{"pace": 0.1}`), 0o644)
			}
			before := h.Tree(lived...)

			first := s.mustRegister(h, s.register(s.token(1)))
			if !first.Changed || rpmVersion(h, "amazon-ecs-init") != ecsVersion || rpmVersion(h, "amazon-ssm-agent") != ssmVersion+"-1" {
				t.Errorf("registered with %q and %q: %+v", rpmVersion(h, "amazon-ecs-init"), rpmVersion(h, "amazon-ssm-agent"), first)
			}
			for _, name := range []string{"amazon-ssm-agent.service", unit} {
				if u := h.Unit(name); u.Active != "active" || u.Enabled != "enabled" {
					t.Errorf("%s is %+v", name, u)
				}
			}
			if keys := h.MustShell("rpm -qa 'gpg-pubkey*'"); keys != "" {
				t.Errorf("keys were imported: %s", keys)
			}
			tree, fetched := h.Tree(treeOf...), s.asked("s3:")
			if again := s.mustRegister(h, s.register("")); again.Changed || again.Result != first.Result || s.asked("s3:") != fetched {
				t.Errorf("again: %+v", again)
			}
			if diff := lab.Diff(tree, h.Tree(treeOf...)); len(diff) > 0 {
				t.Errorf("the second run changed %v", diff)
			}
			s.comesTo(h, "healthy", "")

			if suite != "" || system == "amzn2023" || system == "sles15" { // one of each front end is enough for the longer part
				next := []*packages.Options{{Version: nextSSM, RPM: true}, {Version: nextECS, RPM: true, Unit: unit}}
				s.publish(next[0], next[1])
				d := s.upgraded(h.Run(s.upgrade()))
				if d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || d.Result.SSMAgent.Installed != nextSSM+"-1" ||
					d.Result.ECSAgent.Running != "1.106.0" || d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
					t.Fatalf("upgrade: %+v %+v", d, d.Error)
				}
				d = s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "2s"}}))
				if d.RC != 0 || d.Result.ECSAgent.Installed != ecsVersion || d.Result.SSMAgent.Installed != ssmVersion+"-1" {
					t.Errorf("rollback: %+v %+v", d, d.Error)
				}
				disarmed(t, h)
			}

			gone := s.parting(h.Run(s.deregister()))
			if gone.RC != 0 || !gone.Changed {
				t.Fatalf("deregister: %+v %+v", gone, gone.Error)
			}
			if diff := differences(before, h.Tree(lived...), ofTheLife); len(diff) > 0 {
				t.Errorf("it differs from a host that was never registered:\n%s", strings.Join(diff, "\n"))
			}
			if left := h.MustShell("rpm -qa 'amazon-*'; ls /var/lib/anywhere/rpm 2>/dev/null || :"); left != "" {
				t.Errorf("left: %s", left)
			}
			for _, name := range []string{"amazon-ssm-agent.service", unit} {
				if u := h.Unit(name); u.Active == "active" || u.Enabled == "enabled" {
					t.Errorf("%s is %+v", name, u)
				}
			}
		})
	}
}

// A run that is killed together with rpm, while a script of the package runs: its database calls the package installed, and
// the same command goes on all the same; or a rollback leaves nothing of it.
func TestKilledInRPM(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true, PostinstWaits: true, Unit: "ecs.service"})
	h := s.host(lab.Host{System: "rocky9"})
	before := h.Tree(lived...)
	for _, way := range []string{"undone", "gone on"} {
		token := s.token(1)
		r := s.begin(h, s.register(token))
		await(t, "rpm is in the script", func() bool { return h.Exists(ecsWaits) })
		r.killed()
		h.MustShell("for p in $(pidof rpm); do kill -9 $p; done; rm -f " + ecsWaits)
		if got := rpmVersion(h, "amazon-ecs-init"); got != ecsVersion {
			t.Errorf("%s: rpm's database has %q: it was not killed in the script", way, got)
		}
		if way == "undone" {
			res := h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json"}})
			if res.Exit != 0 {
				t.Fatalf("rollback: %v", res)
			}
			diff := differences(before, h.Tree(lived...), ofTheLife)
			if left := h.MustShell("rpm -qa 'amazon-*'"); left != "" || len(diff) > 0 {
				t.Errorf("undone, and there is %q and\n%s", left, strings.Join(diff, "\n"))
			}
			continue
		}
		release := make(chan struct{})
		go func() { // the script of the second installation waits too
			defer close(release)
			h.Shell(fmt.Sprintf("for i in $(seq 1200); do [ -e %[1]s ] && rm -f %[1]s && exit; sleep 0.05; done", ecsWaits))
		}()
		d := s.mustRegister(h, s.register(token))
		<-release
		if !d.Changed || h.MustShell("readlink /var/cache/ecs/ecs-agent.tar") != "ecs-agent-v1.105.1.tar" {
			t.Errorf("gone on: %+v", d)
		}
	}
}
