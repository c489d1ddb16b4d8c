package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// back is "anywhere rollback" with a short watch.
var back = lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "1s"}}

// goBack goes back from an upgrade.
func (s *site) goBack(h *lab.Machine) {
	s.t.Helper()
	if d := s.upgraded(h.Run(back)); d.RC != 0 {
		s.t.Fatalf("rollback: %+v %+v", d, d.Error)
	}
}

// endedAlone checks that the last operation was ended by the run that began it, not by another that went on with it.
func endedAlone(t *testing.T, h *lab.Machine) {
	t.Helper()
	if lines := closedJournal(h); line(`"is":"resume"`)(lines) || !line(`"is":"end"`)(lines) {
		t.Errorf("another run has ended it:\n%s", strings.Join(lines, ""))
	}
}

// What an operator's session and the network do to an upgrade.
func TestUpgradeInTrouble(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h, first, task := s.joined()
	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	well := func(t *testing.T) {
		t.Helper()
		taskRuns(t, h, task)
		disarmed(t, h)
		s.comesTo(h, "healthy", "")
		s.settledIn(h)
		s.agree(first)
	}
	closed := func() bool { return !h.Exists(openJournal) && !h.Exists("/var/lib/anywhere/deadline.json") }

	// The shell of a session of Systems Manager is a process of the SSM agent's service, which here is stopped with all that
	// belongs to it. That is the end of the session, and of the process that was typed, and not of the upgrade.
	t.Run("in a session of Systems Manager", func(t *testing.T) {
		s := s.in(t)
		h.WriteFile("/etc/systemd/system/amazon-ssm-agent.service.d/all.conf", []byte("[Service]\nKillMode=control-group\n"), 0o644)
		h.MustShell("systemctl daemon-reload; cp /bin/sh /usr/local/bin/ssm-session-worker")
		cmd := s.upgrade("--accept-risk", "lose-ssm-session")
		h.WriteFile("/root/session.sh", []byte(strings.Join(cmd.Args, " ")+"\necho $? >/root/session.rc\n"), 0o644)
		const session = `set -e
group=$(systemctl show -p ControlGroup --value amazon-ssm-agent)
setsid sh -c "echo \$\$ >/sys/fs/cgroup$group/cgroup.procs; exec ssm-session-worker /root/session.sh" \
	</dev/null >/root/session.out 2>/root/session.err &`
		h.Run(lab.Cmd{Args: []string{"/bin/sh", "-c", session}, Outlived: true})
		await(t, "the upgrade runs", func() bool { return h.Exists("/var/lib/anywhere/deadline.json") || h.Exists("/root/session.rc") })
		scopes := h.MustShell("systemctl list-units --plain --no-legend 'anywhere-upgrade-*.scope'")
		await(t, "the upgrade has ended", closed)
		var out []byte
		await(t, "it has told how", func() bool {
			out, _ = h.ReadFile("/root/session.out")
			return strings.HasSuffix(string(out), "}\n")
		})
		told, _ := h.ReadFile("/root/session.err")
		if !strings.Contains(scopes, "running") || h.Exists("/root/session.rc") || len(h.Pids("ssm-session-wor")) > 0 {
			t.Fatalf("the session did not end before the upgrade, in %q: %s\n%s", scopes, out, told)
		}
		d := s.upgraded(lab.Result{Stdout: string(out)})
		if d.RC != 0 || d.Result.SSMAgent.Installed != nextSSM+"-1" || d.Result.ECSAgent.Installed != nextECS {
			t.Errorf("%+v %+v", d, d.Error)
		}
		for _, text := range []string{"may end with the SSM agent", "anywhere status", "anywhere operation show", "tail -f /var/log/anywhere/anywhere.log"} {
			if !strings.Contains(string(told), text) {
				t.Errorf("it does not say %q:\n%s", text, told)
			}
		}
		endedAlone(t, h)
		h.MustShell("rm -r /etc/systemd/system/amazon-ssm-agent.service.d/all.conf /usr/local/bin/ssm-session-worker; systemctl daemon-reload")
		well(t)
		if left := h.MustShell("systemctl list-units --all --plain --no-legend 'anywhere-upgrade*'"); left != "" {
			t.Errorf("units are left: %s", left)
		}
		s.goBack(h)
	})

	// The line drops: the terminal is gone, and with it whoever reads.
	t.Run("in a terminal that goes", func(t *testing.T) {
		s := s.in(t)
		r := s.begin(h, lab.Cmd{Args: []string{"script", "-qec", strings.Join(s.upgrade("--only", "ecs").Args, " "), "/dev/null"}})
		if !r.until(line(`"is":"begin"`, "ecs.package")) {
			t.Fatalf("it ended: %v", r.end())
		}
		terminals := h.Pids("script")
		for _, pid := range terminals {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		r.end()
		await(t, "the upgrade has ended", closed)
		if ecs := version(h, "amazon-ecs-init"); ecs != nextECS || len(terminals) != 1 {
			t.Errorf("it ended with %s", ecs)
		}
		endedAlone(t, h)
		well(t)
		s.goBack(h)
	})

	// The firewall drops every packet for longer than --wait-timeout, and then AWS asks to slow down for as long. Neither is
	// the new agent's fault.
	t.Run("without a network", func(t *testing.T) {
		s := s.in(t)
		r := s.begin(h, s.upgrade("--only", "ecs", "--wait-timeout", "3s"))
		if !r.until(line(`"is":"begin"`, "ecs.start")) {
			t.Fatalf("it ended: %v", r.end())
		}
		h.MustShell("iptables -I OUTPUT -o host0 -j DROP")
		time.Sleep(7 * time.Second) // it is about this time
		must(t, s.aws.Fault(emulator.FaultThrottled))
		asked := s.asked("ecs:")
		h.MustShell("iptables -D OUTPUT -o host0 -j DROP")
		await(t, "AWS is asked", func() bool { return s.asked("ecs:") > asked || r.over() })
		time.Sleep(4 * time.Second) // and this
		if r.over() {
			t.Fatalf("it did not wait: %v", r.end())
		}
		s.aws.ClearFault(emulator.FaultThrottled)
		d := s.upgraded(r.end())
		if d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || d.Result.DisconnectedMs < 10_000 {
			t.Errorf("%+v %+v", d, d.Error)
		}
		well(t)
		s.goBack(h)
	})

	// Named over a hold, with the tasks moved away, and a volume plugin at work: what was held stays held, what ran runs.
	t.Run("held, drained, with a plugin", func(t *testing.T) {
		s := s.in(t)
		s.operator(h, "admin")
		arn := first.Result.ContainerInstanceARN
		s.aws.AddInstance(cluster)
		s.aws.AddService(cluster, emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
		s.aws.AddTask(arn, emulator.Task{Service: "web"})
		h.WriteFile("/etc/systemd/system/amazon-ecs-volume-plugin.service.d/runs.conf", []byte("[Service]\nExecStart=\nExecStart=/usr/bin/sleep infinity\n"), 0o644)
		h.MustShell("apt-mark hold amazon-ecs-init && systemctl daemon-reload && systemctl start amazon-ecs-volume-plugin.socket amazon-ecs-volume-plugin.service")
		const plugin = "systemctl is-active amazon-ecs-volume-plugin.socket amazon-ecs-volume-plugin.service; systemctl is-enabled amazon-ecs-volume-plugin.service"
		before := h.Shell(plugin).Stdout
		statuses := map[string]bool{}
		r := s.begin(h, s.upgrade("--only", "ecs", "--ecs-agent-version", nextECS, "--drain", "--profile", "admin", "--endpoint-url", s.url))
		for !r.over() {
			statuses[s.statusOf(arn)] = true
			time.Sleep(50 * time.Millisecond)
		}
		d := s.upgraded(r.end())
		if d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || !d.Result.ECSAgent.Held || !statuses["DRAINING"] || s.statusOf(arn) != "ACTIVE" {
			t.Errorf("%v, now %s: %+v %+v", statuses, s.statusOf(arn), d, d.Error)
		}
		if held := h.MustShell("apt-mark showhold"); held != "amazon-ecs-init" {
			t.Errorf("held is %q", held)
		}
		if after := h.Shell(plugin).Stdout; after != before || strings.Count(before, "active\n") != 2 {
			t.Errorf("the plugin was %q and is %q", before, after)
		}
		well(t)
		s.goBack(h)
		if held := h.MustShell("apt-mark showhold"); held != "amazon-ecs-init" {
			t.Errorf("after the way back held is %q", held)
		}
	})
}

// A host that AWS's script has set up is adopted first, by the shell lines that docs/upgrade.md has for Ansible: the first
// one is its check mode.
func TestUpgradeOfAHostOfAWSScript(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	s.play(h, scriptEndpoints, scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec, scriptECS, scriptConfig, scriptECSStart)
	await(t, "the ECS agent is registered", func() bool { return len(s.aws.Instances()) == 1 && s.aws.Instances()[0].Connected })
	arn := s.aws.Instances()[0].ARN
	task := startTask(h)
	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	step := func(d upgraded) (status, detail string) {
		for _, one := range d.Steps {
			if one.ID == "adopt" {
				return one.Status, one.Detail
			}
		}
		return "", ""
	}
	before := look(h)
	check := s.upgrade("--dry-run", "--detailed-exitcode")
	d := s.upgraded(h.Run(check))
	if status, detail := step(d); d.RC != 11 || d.Changed || status != "planned" || !strings.Contains(detail, arn) {
		t.Errorf("in check mode: %+v %+v", d, d.Error)
	}
	before.same(t, look(h))
	if h.Exists("/var/lib/anywhere/record.json") {
		t.Error("there is a record")
	}
	d = s.upgraded(h.Run(s.upgrade()))
	if status, _ := step(d); d.RC != 0 || !d.Changed || status != "done" || d.Result.ECSAgent.Installed != nextECS || d.Result.ContainerInstanceARN != arn {
		t.Fatalf("%+v %+v", d, d.Error)
	}
	if is := record(t, h); !strings.Contains(is, arn) || !strings.Contains(is, `"amazon-ecs-init": "`+ecsVersion+`"`) || strings.Contains(is, `"activationId"`) {
		t.Errorf("the record is %s", is)
	}
	if d = s.upgraded(h.Run(check)); d.RC != 0 || d.Changed {
		t.Errorf("in check mode, after it: %+v %+v", d, d.Error)
	}
	if d = s.upgraded(h.Run(s.upgrade())); d.RC != 0 || d.Changed {
		t.Errorf("and again: %+v %+v", d, d.Error)
	}
	s.goBack(h)
	if ecs := version(h, "amazon-ecs-init"); ecs != ecsVersion {
		t.Errorf("the way back led to %s", ecs)
	}
	taskRuns(t, h, task)
	disarmed(t, h)
	s.settledIn(h)
}
