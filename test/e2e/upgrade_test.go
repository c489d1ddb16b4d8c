package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// Versions that an upgrade leads to, as simagent-next says them.
const (
	nextSSM = "3.3.5000.0"
	nextECS = "1.106.0-1"
)

// upgraded is what the tests look at in upgrade's document.
type upgraded struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Steps           []struct{ ID, Status, Detail string }
	Result          struct {
		ManagedInstanceID, ContainerInstanceARN string
		ECSAgent, SSMAgent                      struct {
			Installed, Running, Newest, Before, Action string
			Held, Due, FailedBefore                    bool
		}
		RunningTasks   int
		DisconnectedMs int64
		Failed         []struct{ Version, Logs string }
	}
	Error *struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// upgrade is "anywhere upgrade" with a short watch.
func (s *site) upgrade(more ...string) lab.Cmd {
	return lab.Cmd{Args: append([]string{"anywhere", "upgrade", "-o", "json", "--artifacts", s.url, "--keyring", keyring, "--watch-time", "2s"}, more...)}
}

func (s *site) upgraded(res lab.Result) upgraded {
	s.t.Helper()
	var d upgraded
	if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil {
		s.t.Fatalf("stdout is not one JSON object: %v\n%v", err, res)
	}
	if err := contract.Check([]byte(res.Stdout)); err != nil {
		s.t.Error(err)
	}
	if d.RC != res.Exit {
		s.t.Errorf("rc is %d and the exit status %d", d.RC, res.Exit)
	}
	return d
}

// publish adds versions to the site's buckets.
func (s *site) publish(ssm, ecs *packages.Options) {
	s.t.Helper()
	if ssm != nil {
		ssm.Program = lab.Shared("simagent-next")
		s.mirror.AddSSMAgent(*ssm)
	}
	if ecs != nil {
		ecs.Program = lab.Shared("simagent-next")
		s.mirror.AddECSInit(*ecs)
	}
}

// longTask runs a container that looks like a task's, of an image of its own, and returns its id and start.
func longTask(h *lab.Machine) string {
	h.MustShell(`cd / && sleep=$(command -v sleep) && tar c ${sleep#/} | docker import - task:1 >/dev/null && docker run -d --name ecs-web-1-web \
	--label com.amazonaws.ecs.task-arn=arn:aws:ecs:task/prod/1 -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro task:1 $sleep infinity`)
	return h.MustShell(taskState)
}

// agentImages are the ids of Docker's images but the task's, which must be one: no upgrade leaves another behind.
func agentImages(h *lab.Machine) string {
	return h.MustShell("docker images -aq --no-trunc --filter dangling=true; docker images -q --no-trunc amazon/amazon-ecs-agent")
}

// disarmed reports what is left of an upgrade's deadline.
func disarmed(t *testing.T, h *lab.Machine) {
	t.Helper()
	for _, name := range []string{"/var/lib/anywhere/deadline.json", "/var/lib/anywhere/bin", "/etc/systemd/system/anywhere-upgrade.timer",
		"/etc/systemd/system/anywhere-upgrade.service", "/etc/systemd/system/timers.target.wants/anywhere-upgrade.timer", "/usr/sbin/policy-rc.d", openJournal} {
		if h.Exists(name) {
			t.Errorf("%s is left", name)
		}
	}
	if u := h.Unit("anywhere-upgrade.timer"); u.Load != "not-found" {
		t.Errorf("the timer is %+v", u)
	}
}

// joined boots a host that is registered, with a task on it.
func (s *site) joined() (h *lab.Machine, first document, task string) {
	s.t.Helper()
	h = s.host(lab.Host{})
	for _, name := range []string{"/etc/simagent.json", "/etc/ecs/simagent.json"} { // the agents' own waiting is not what is tested
		h.WriteFile(name, []byte(`{"pace": 0.1}`), 0o644)
	}
	first = s.mustRegister(h, s.register(s.token(1)))
	return h, first, longTask(h)
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h, first, task := s.joined()
	same := func(t *testing.T, d upgraded) {
		t.Helper()
		if d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
			t.Errorf("it is another instance: %+v", d.Result)
		}
		taskRuns(t, h, task)
		disarmed(t, h)
		s.settledIn(h)
		s.comesTo(h, "healthy", "")
		if images := strings.Fields(agentImages(h)); len(images) != 1 {
			t.Errorf("images: %v", images)
		}
	}
	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})

	before := look(h)
	check := s.upgraded(h.Run(lab.Cmd{Args: []string{"runuser", "-u", "nobody", "--", "anywhere", "upgrade", "--check", "--detailed-exitcode",
		"-o", "json", "--artifacts", s.url}}))
	if check.RC != 11 || check.Result.ECSAgent.Newest != nextECS || !check.Result.SSMAgent.Due || check.Result.ECSAgent.Installed != ecsVersion {
		t.Errorf("--check as nobody: %+v %+v", check, check.Error)
	}
	before.same(t, look(h))

	d := s.upgraded(h.Run(s.upgrade("--only", "ecs")))
	if d.RC != 0 || !d.Changed || d.Result.ECSAgent.Installed != nextECS || d.Result.ECSAgent.Running != "1.106.0" || d.Result.SSMAgent.Action != "none" ||
		d.Result.DisconnectedMs <= 0 || d.Result.RunningTasks != 1 {
		t.Fatalf("only the ECS agent: %+v %+v", d, d.Error)
	}
	t.Logf("no agent was connected for %d ms", d.Result.DisconnectedMs)
	same(t, d)

	fetched := s.asked("s3:")
	if d = s.upgraded(h.Run(s.upgrade("--only", "ecs", "--ecs-agent-version", "1.106.0"))); d.RC != 0 || d.Changed || s.asked("s3:") != fetched {
		t.Errorf("again, by its version: %+v %+v; %d objects were asked for", d, d.Error, s.asked("s3:")-fetched)
	}
	d = s.upgraded(h.Run(s.upgrade()))
	if d.RC != 0 || !d.Changed || d.Result.SSMAgent.Installed != nextSSM+"-1" || d.Result.ECSAgent.Action != "none" {
		t.Errorf("the rest: %+v %+v", d, d.Error)
	}
	same(t, d)

	d = s.upgraded(h.Run(s.upgrade("--only", "ecs", "--ecs-agent-version", "1.105.1")))
	if d.RC != 12 || d.Error.Code != string(failure.DowngradeRefused) || d.Changed {
		t.Errorf("an older version: %+v %+v", d, d.Error)
	}
	back := s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "2s"}}))
	if back.RC != 0 || back.Result.SSMAgent.Installed != ssmVersion+"-1" || back.Result.ECSAgent.Installed != ecsVersion {
		t.Errorf("rollback: %+v %+v", back, back.Error)
	}
	same(t, back)
	if again := s.mustRegister(h, s.register("")); again.Changed {
		t.Errorf("a registration after it changes something: %+v", again)
	}

	// The time without an agent is that of a restart, and little more.
	restart := time.Duration(0)
	for range 3 {
		connected, begun := connections(h), time.Now()
		h.MustShell("systemctl restart ecs")
		await(t, "the agent is connected", func() bool { return connections(h) > connected })
		restart = max(restart, time.Since(begun))
	}
	d = s.upgraded(h.Run(s.upgrade("--only", "ecs")))
	gap := took(d.Result.DisconnectedMs)
	t.Logf("no agent was connected for %s; a restart alone takes %s", gap, restart)
	if limit := restart * 3 / 2; d.RC != 0 || gap > limit {
		t.Errorf("the limit is %s: %+v", limit, d.Error)
	}
}

// connections counts how often the ECS agent has connected, by its log.
func connections(h *lab.Machine) int {
	text, _ := h.ReadFile("/var/log/ecs/ecs-agent.log")
	return strings.Count(string(text), "Connected to ACS endpoint")
}

// Every kind of a bad upgrade ends with the old agents connected, and the task untouched.
func TestBadUpgrades(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h, first, task := s.joined()
	deb := func(name string) string {
		return filepath.Join(s.mirror.Dir, "amazon-ecs-agent-"+region, "amazon-ecs-init-"+name+".amd64.deb")
	}
	for i, c := range []struct {
		name      string
		ssm, ecs  *packages.Options
		spoil     func(t *testing.T, version string)
		flags     []string
		exit      int
		code      failure.Code
		says      string
		untouched bool
	}{
		{name: "crash-loops", ecs: &packages.Options{Fault: simagent.FaultCrash}, exit: 7, code: failure.AgentCrashLoop, says: "has died"},
		{name: "wrong version", ecs: &packages.Options{Fault: simagent.FaultVersion}, exit: 7, code: failure.NotVerified, says: "1.0.0"},
		{name: "breaks agent.db", ecs: &packages.Options{Fault: simagent.FaultForget}, exit: 7, code: failure.NotVerified, says: "another container instance"},
		{name: "never connects", ecs: &packages.Options{Fault: simagent.FaultDeaf}, flags: []string{"--wait-timeout", "8s"}, exit: 7,
			code: failure.ConnectTimeout, says: "this host itself reaches ECS"},
		{name: "postinst fails", ecs: &packages.Options{PostinstFails: true}, exit: 7, code: failure.PackageInstall, says: "amazon-ecs-init"},
		{name: "SSM agent's postinst fails", ssm: &packages.Options{PostinstFails: true}, exit: 7, code: failure.PackageInstall, says: "amazon-ssm-agent"},
		{name: "bad signature", ecs: &packages.Options{}, spoil: func(t *testing.T, version string) {
			other, err := packages.NewKey("Somebody", "somebody@example.com")
			must(t, err)
			must(t, other.Sign(deb(version), deb(version)+".asc", true))
			must(t, other.Sign(deb("latest"), deb("latest")+".asc", true))
		}, exit: 6, code: failure.ArtifactKey, untouched: true},
		{name: "missing", ecs: &packages.Options{}, spoil: func(t *testing.T, version string) {
			must(t, os.Remove(deb(version)))
		}, flags: []string{"--ecs-agent-version", "1.200.0"}, exit: 5, code: failure.ArtifactMissing, untouched: true},
		{name: "held", ecs: &packages.Options{}, spoil: func(*testing.T, string) { h.MustShell("apt-mark hold amazon-ecs-init") },
			exit: 3, code: failure.PackageHeld, says: "held", untouched: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t)
			version := "1.1" + string(rune('1'+i)) + "0.0-1"
			flags := []string{"--only", "ecs"}
			if c.ecs != nil {
				c.ecs.Version = version
			}
			if c.ssm != nil {
				c.ssm.Version, flags[1] = nextSSM, "ssm"
			}
			s.publish(c.ssm, c.ecs)
			if c.spoil != nil {
				c.spoil(t, version)
			}
			const facts = "dpkg-query -W amazon-ecs-init amazon-ssm-agent; grep -ao 'arn:[^\"]*' /var/lib/ecs/data/agent.db; cat /var/lib/anywhere/record.json"
			before := h.MustShell(facts)
			started := h.MustShell("docker inspect -f '{{.Id}}' ecs-agent")
			d := s.upgraded(h.Run(s.upgrade(append(flags, c.flags...)...)))
			if d.RC != c.exit || d.Error == nil || d.Error.Code != string(c.code) || !strings.Contains(d.Error.Message, c.says) || d.Changed ||
				d.Error.RolledBack != (c.exit == 7) {
				t.Fatalf("%+v %+v", d, d.Error)
			}
			if d.Error.Remedy == "" {
				t.Error("there is no remedy")
			}
			s.comesTo(h, "healthy", "")
			if now := h.MustShell(facts); now != before {
				t.Errorf("it was\n%s\nand is\n%s", before, now)
			}
			if same := h.MustShell("docker inspect -f '{{.Id}}' ecs-agent") == started; c.untouched && !same {
				t.Error("the agent was started anew, and nothing was wrong with it")
			}
			taskRuns(t, h, task)
			disarmed(t, h)
			s.settledIn(h)
			s.agree(first)
			if images := strings.Fields(agentImages(h)); len(images) != 1 {
				t.Errorf("images: %v", images)
			}
			h.MustShell("apt-mark unhold amazon-ecs-init")
			if c.exit != 7 {
				return
			}
			again := s.upgraded(h.Run(s.upgrade(flags...)))
			if again.RC != 0 || again.Changed || !slices.ContainsFunc(again.Warnings, func(w string) bool { return strings.Contains(w, "not tried again") }) {
				t.Errorf("the same again: %+v %+v", again, again.Error)
			}
		})
	}
}

// Whatever ends the run that upgrades, the host ends the upgrade by itself: with the new agents or with the old.
func TestUpgradeInterrupted(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h, first, task := s.joined()
	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	ended := func(t *testing.T) {
		t.Helper()
		await(t, "the host has ended the upgrade", func() bool { return !h.Exists(openJournal) && !h.Exists("/var/lib/anywhere/deadline.json") })
		disarmed(t, h)
		s.comesTo(h, "healthy", "")
		s.settledIn(h)
		s.agree(first)
		ssm, ecs := version(h, "amazon-ssm-agent"), version(h, "amazon-ecs-init")
		if old, new := ecs == ecsVersion && ssm == ssmVersion+"-1", ecs == nextECS && ssm == nextSSM+"-1"; !old && !new {
			t.Errorf("it ended with %s and %s", ssm, ecs)
		}
		t.Logf("it ended with %s and %s", ssm, ecs)
	}
	for i, at := range [][]string{
		{`"is":"done"`},
		{`"is":"child"`, `!"pid":0`, "--install", "amazon-ssm-agent"},
		{`"is":"child"`, `!"pid":0`, "--install", "amazon-ecs-init"},
		{`"is":"done"`, `"version":"1.106.0-1"`}, // the policy for the package's script is there
		{`"is":"step"`, "ecs.package"},
		{`"is":"commit"`},
	} {
		r := s.begin(h, s.upgrade())
		if !r.until(line(at...)) {
			t.Fatalf("it ended before %v: %v", at, r.end())
		}
		r.killed()
		if i > 0 { // once the timer itself, which takes its time
			h.MustShell("systemctl start anywhere-upgrade.service")
		}
		ended(t)
		taskRuns(t, h, task)
		if ecs := version(h, "amazon-ecs-init"); ecs == nextECS {
			if d := s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "1s"}})); d.RC != 0 {
				t.Fatalf("rollback: %+v %+v", d, d.Error)
			}
		}
	}

	// The power fails. A task's container is gone with it, as without an upgrade.
	for _, at := range [][]string{{`"is":"child"`, `!"pid":0`, "--install", "amazon-ecs-init"}, {`"is":"begin"`, "upgrade.watch"}} {
		r := s.begin(h, s.upgrade())
		if !r.until(line(at...)) {
			t.Fatalf("it ended before %v: %v", at, r.end())
		}
		h.Kill()
		r.end()
		h.Boot()
		ended(t)
		if ecs := version(h, "amazon-ecs-init"); ecs == nextECS {
			if d := s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "1s"}})); d.RC != 0 {
				t.Fatalf("rollback: %+v %+v", d, d.Error)
			}
		}
	}

	// It fails in a rollback, and in the deadline's own run.
	if d := s.upgraded(h.Run(s.upgrade())); d.RC != 0 {
		t.Fatalf("%+v %+v", d, d.Error)
	}
	r := s.begin(h, back)
	if !r.until(line(`"is":"child"`, `!"pid":0`, "--install", "amazon-ecs-init")) {
		t.Fatalf("the rollback ended: %v", r.end())
	}
	h.Kill()
	r.end()
	h.Boot()
	ended(t)
	if ecs := version(h, "amazon-ecs-init"); ecs == nextECS {
		s.goBack(h)
	}
	r = s.begin(h, s.upgrade("--watch-time", "5s"))
	if !r.until(line(`"is":"begin"`, "upgrade.watch")) {
		t.Fatalf("it ended: %v", r.end())
	}
	r.killed()
	h.MustShell("systemctl start --no-block anywhere-upgrade.service")
	await(t, "the deadline's run goes on with it", func() bool { return line(`"is":"resume"`)(journal(h)) })
	h.Kill()
	h.Boot()
	ended(t)
	if ecs := version(h, "amazon-ecs-init"); ecs == nextECS {
		s.goBack(h)
	}

	// The run is killed while it watches a bad version: the copy goes back all the same, and remembers.
	s.publish(nil, &packages.Options{Version: "1.120.0-1", Fault: simagent.FaultCrash})
	r = s.begin(h, s.upgrade("--only", "ecs", "--watch-time", "1m"))
	if !r.until(line(`"is":"begin"`, "upgrade.watch")) {
		t.Fatalf("it ended: %v", r.end())
	}
	r.killed()
	_ = h.Shell("systemctl start anywhere-upgrade.service") // which fails, as the upgrade does
	ended(t)
	if d := s.upgraded(h.Run(s.upgrade("--only", "ecs"))); d.RC != 0 || d.Changed || !d.Result.ECSAgent.FailedBefore {
		t.Errorf("it is not remembered: %+v %+v", d, d.Error)
	}
	s.publish(nil, &packages.Options{Version: "1.121.0-1"})

	// Ctrl-C in the watch takes it back.
	r = s.begin(h, s.upgrade("--only", "ecs", "--watch-time", "1m"))
	if !r.until(line(`"is":"begin"`, "upgrade.watch")) {
		t.Fatalf("it ended: %v", r.end())
	}
	r.signal(syscall.SIGINT)
	if d := s.upgraded(r.end()); d.RC != 130 || !d.Error.RolledBack || d.Changed {
		t.Errorf("after Ctrl-C: %+v %+v", d, d.Error)
	}
	ended(t)
}
