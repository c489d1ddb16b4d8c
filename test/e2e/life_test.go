package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// command is a verb with the site's endpoint and nobody's credentials.
func (s *site) command(args ...string) lab.Cmd {
	return anywhere(append(args, "--endpoint-url", s.url)...)
}

// by gives a command an operator's credentials in its environment.
func (s *site) by(cmd lab.Cmd) lab.Cmd {
	const id = "AKIALIFE000000000001"
	s.aws.AddOperator(emulator.Key{ID: id, Secret: secret.NewText(operatorSecret)})
	cmd.Env = append(slices.Clone(cmd.Env), "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+operatorSecret)
	return cmd
}

// answer is what every verb's document has in common, and what some say of a host's state.
type answer struct {
	Changed, Failed bool
	RC              int
	Msg             string
	DurationMs      int64
	Warnings        []string
	Result          struct {
		State, Verified                                  string
		ManagedInstanceID, ContainerInstanceARN, Cluster string
		Reasons                                          []struct{ Code, Remedy string }
		Findings                                         []struct{ Kind, Code, Remedy string }
		Remote                                           *struct{ Drift []struct{ Kind string } }
		Owed, Kept, Removed, Leftovers                   []string
	}
	Error *struct{ Code, Message, Evidence, Remedy string }
}

// names reports whether the answer's error, or one of the causes that it found, has a code and a remedy.
func (a answer) names(code failure.Code) bool {
	if a.Error != nil {
		return a.Error.Code == string(code) && a.Error.Remedy != ""
	}
	for _, r := range a.Result.Reasons {
		if r.Code == string(code) && r.Remedy != "" {
			return true
		}
	}
	for _, f := range a.Result.Findings {
		if f.Code == string(code) && f.Remedy != "" && f.Kind != "history" {
			return true
		}
	}
	return false
}

// says reports whether a text is in what people would read.
func (a answer) says(text string) bool {
	all := append([]string{a.Msg}, a.Warnings...)
	if a.Error != nil {
		all = append(all, a.Error.Message, a.Error.Evidence, a.Error.Remedy)
	}
	if a.Result.Remote != nil {
		for _, d := range a.Result.Remote.Drift {
			all = append(all, d.Kind)
		}
	}
	return strings.Contains(strings.Join(append(all, a.Result.Owed...), "\n"), text)
}

// question is a command on a sick host, and what it must answer.
type question struct {
	cmd     lab.Cmd
	rc      int
	code    failure.Code // of the error, of a reason or of a finding; empty where there must be no error
	changed bool
	says    string
}

func (s *site) ask(t *testing.T, h *lab.Machine, q question) answer {
	t.Helper()
	res := h.Run(q.cmd)
	var a answer
	if err := json.Unmarshal([]byte(res.Stdout), &a); err != nil {
		t.Fatalf("%v: stdout is not one JSON object: %v\n%v", q.cmd.Args, err, res)
	}
	if err := contract.Check([]byte(res.Stdout)); err != nil {
		t.Errorf("%v: %v", q.cmd.Args, err)
	}
	name := strings.Join(q.cmd.Args[1:], " ")
	t.Logf("%s: exit %d after %v: %s", name, a.RC, took(a.DurationMs).Round(10*time.Millisecond), a.Msg)
	if a.Error != nil {
		t.Logf("  %s, %s\n  try: %s", a.Error.Code, a.Error.Evidence, a.Error.Remedy)
	}
	if a.RC != res.Exit || a.Failed != (a.Error != nil) || a.RC != q.rc || a.Changed != q.changed || !a.says(q.says) ||
		q.code != "" && !a.names(q.code) || q.code == "" && a.Failed {
		t.Errorf("%s: exit %d, want %d; changed %v, want %v; want %q, and the words %q\n%v", name, a.RC, q.rc, a.Changed, q.changed, q.code, q.says, res)
	}
	return a
}

// A host lives twenty times: registered, moved, deregistered, among things that are somebody else's. Nothing of it is left
// in AWS or on the host, nothing comes back after a boot, and the next life begins at once.
func TestALifeOfTwentyRounds(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	s.aws.AddCluster(nextCluster)
	h := s.host(lab.Host{})
	h.WriteFile("/root/.aws/credentials", []byte("# of the backup team\n"+otherProfiles), 0o640)
	h.WriteFile("/etc/ecs/theirs.conf", []byte("mine=1\n"), 0o604)
	h.WriteFile("/etc/systemd/system/amazon-ssm-agent.service.d/theirs.conf", []byte("[Service]\nNice=1\n"), 0o644)
	h.WriteFile("/etc/systemd/system/ecs.service.d/10-theirs.conf", []byte("[Service]\nNice=1\n"), 0o644)
	h.WriteFile("/etc/simagent.json", []byte(quick), 0o644)
	h.MustShell("tar -c -T /dev/null | docker import - theirs && docker run -d --name theirs --label com.example.task-arn=arn:aws:ecs:task/prod/1 " +
		"-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro theirs /usr/bin/sleep infinity; systemctl daemon-reload")
	const theirs = "docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Running}}' theirs"
	const inDocker = "docker ps -aq --no-trunc; docker images -aq --no-trunc; docker volume ls -q; docker network ls -q"
	started, images := h.MustShell(theirs), h.MustShell(inDocker)
	before, units := h.Tree(lived...), h.Units()

	register := s.by(s.register("", "--region", region, "--cluster", cluster))
	move := s.by(s.command("move", "--yes", "--cluster", nextCluster))
	deregister := s.by(s.command("deregister", "--yes"))
	for n := range 20 {
		begun := time.Now()
		first := s.read(h.Run(register))
		registered := time.Now()
		moved := s.ask(t, h, question{cmd: move, changed: true})
		gone := time.Now()
		left := s.ask(t, h, question{cmd: deregister, changed: true})
		if first.RC != 0 || !first.Changed || first.Result.Verified != "aws" || moved.Result.Verified != "aws" || left.Result.Verified != "aws" ||
			moved.Result.ManagedInstanceID != first.Result.ManagedInstanceID || moved.Result.ContainerInstanceARN == first.Result.ContainerInstanceARN ||
			left.Result.ContainerInstanceARN != moved.Result.ContainerInstanceARN || len(s.inAWS()) > 0 || len(s.aws.Activations()) > 0 {
			t.Fatalf("round %d: registered %+v %+v, moved %+v, deregistered %+v; AWS has %q and the activations %+v", n+1, first.Result, first.Error,
				moved.Result, left.Result, s.inAWS(), s.aws.Activations())
		}
		t.Logf("round %d: register %v, move %v, deregister %v", n+1, registered.Sub(begun), gone.Sub(registered), time.Since(gone))
	}
	s.isGone(h, before)
	if now := h.MustShell(theirs); now != started {
		t.Errorf("somebody's container was touched: %s, before %s", now, started)
	}
	if copies, journals := h.Glob("/var/lib/anywhere/backup/root-aws-credentials-*"), h.Glob("/var/lib/anywhere/journal/*"); len(copies) != 1 || len(journals) > 10 {
		t.Errorf("what is kept grows with each life: %q, %q", copies, journals)
	}
	h.MustShell("docker rm ecs-agent && docker rmi amazon/amazon-ecs-agent") // the last of them stay, as docs/deregister.md says
	if now := h.MustShell(inDocker); now != images {
		t.Errorf("Docker has\n%s\nand had\n%s", now, images)
	}
	if now := h.Units(); !maps.Equal(now, units) {
		t.Errorf("the units are %v and were %v", now, units)
	}
	asked := s.asked("ecs:RegisterContainerInstance") + s.asked("ssm:RegisterManagedInstance")
	h.Reboot()
	s.isGone(h, before)
	if now := s.asked("ecs:RegisterContainerInstance") + s.asked("ssm:RegisterManagedInstance"); now != asked || len(s.inAWS()) > 0 {
		t.Errorf("after a boot it has come back: %q", s.inAWS())
	}
	if d := s.status(h, asRoot); d.Result.State != "unregistered" {
		t.Errorf("its status is %+v", d.Result)
	}
	s.mustRegister(h, s.register(s.token(1)))
}

// quick makes the agents' own waits short, as that of six seconds at the SSM agent's stop.
const quick = `{"pace": 0.1}`

// What makes a host sick, and what makes it well again.
const (
	execWorker = "/var/lib/ecs/deps/execute-command/bin/" + ssmVersion + "/ssm-session-worker" // without it the agent dies at each start
	killSSM    = "systemctl kill -s KILL amazon-ssm-agent.service; "                           // a crash: it is quicker than the agent's own stop
)

// sickness is what befalls a registered host, how every verb that no other test tries on it takes that, and how it ends.
type sickness struct {
	name       string
	spoil      func(s *site, h *lab.Machine, d document)
	state      string // that status comes to
	code       failure.Code
	asked      []question // they change nothing on the host
	ends       []question // the last one leaves nothing on it
	mend       func(s *site, h *lab.Machine)
	owed       int  // how much of it AWS still has at the end
	stopsTasks bool // the sickness itself does
	passes     bool // it is over before the end, and not after it
}

// Every verb on hosts that lack something: what it cannot do it refuses, with a code and a remedy and without a trace, and
// what it can it does. The container of a task that is there all the time is never touched. At the end of each sickness
// the host is deregistered as it is, and is as if it had never been registered.
func TestEveryCommandOnASickHost(t *testing.T) {
	t.Parallel()
	mirror := newMirror(t, packages.Options{}, packages.Options{})
	on := func(name string, choose func(s *site) []sickness) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := (*site)(nil).branch(t, mirror)
			s.aws.AddCluster(nextCluster)
			h := s.host(lab.Host{})
			h.WriteFile("/etc/simagent.json", []byte(quick), 0o644)
			before, task := h.Tree(lived...), ""
			for _, c := range choose(s) {
				t.Run(c.name, func(t *testing.T) { task = s.in(t).suffers(t, h, before, task, c) })
			}
		})
	}
	orphans := []string{"--force", "--accept-risk", "running-tasks"}
	on("a host that AWS is far from", func(s *site) []sickness {
		move := s.command("move", "--yes", "--cluster", nextCluster)
		leave := func(args ...string) lab.Cmd { return s.command(append([]string{"deregister", "--yes"}, args...)...) }
		local := leave(append([]string{"--local-only"}, orphans...)...)
		return []sickness{
			{
				name: "ECS side gone", state: "unhealthy", code: failure.InstanceInactive,
				spoil: func(s *site, h *lab.Machine, d document) {
					s.inject(emulator.FaultInstanceInactive)
					s.aws.ClearFault(emulator.FaultInstanceInactive)
				},
				asked: []question{
					{cmd: s.by(s.command("status", "--remote")), rc: 10, code: failure.InstanceInactive, says: "ecs_gone"},
					{cmd: s.command("doctor", "--offline"), rc: 10, code: failure.InstanceInactive},
					{cmd: s.command("activate"), rc: 12, code: failure.InstanceInactive},
					{cmd: s.by(leave("--remote-only", "--dry-run"))},
					{cmd: leave("--local-only"), rc: 12, code: failure.TasksRunning},
					{cmd: s.command("adopt", "--dry-run"), rc: 12, code: failure.NotAdoptable},
				},
				ends: []question{ // the host may go elsewhere without having been an instance
					{cmd: s.by(move), changed: true, says: "moved from cluster prod to next"},
					{cmd: s.by(leave()), changed: true},
				},
			},
			{
				name: "no AWS credentials", state: "healthy",
				asked: []question{
					{cmd: s.command("status", "--remote"), rc: 4, code: failure.CredentialsInvalid},
					{cmd: s.command("doctor", "--remote"), rc: 4, code: failure.CredentialsInvalid},
					{cmd: s.command("activate"), changed: true, says: "the role of the managed node"},
					{cmd: move, rc: 12, code: failure.UnprovenTarget, says: "--accept-risk unproven-target"},
					{cmd: leave(), rc: 4, code: failure.CredentialsInvalid, says: "--keep-ssm"},
					{cmd: leave("--remote-only"), rc: 4, code: failure.CredentialsInvalid, says: "--profile"},
					{cmd: leave("--local-only"), rc: 12, code: failure.TasksRunning},
				},
				ends: []question{{cmd: local, changed: true, says: "aws ssm deregister-managed-instance"}}, owed: 2,
			},
			{
				name: "no network, and then gone on both sides", state: "healthy", passes: true,
				spoil: func(_ *site, h *lab.Machine, _ document) { h.MustShell("ip link set host0 down") },
				asked: []question{
					{cmd: s.by(s.command("status", "--remote")), rc: 5, code: failure.Network},
					{cmd: s.by(s.command("activate")), rc: 5, code: failure.Network},
					{cmd: s.by(leave("--remote-only")), rc: 5, code: failure.Network},
					{cmd: s.command("adopt")},
				},
				mend: func(_ *site, h *lab.Machine) {
					h.MustShell("ip link set host0 up; ip route replace default via " + lab.Address)
				},
				ends: []question{
					{cmd: s.by(leave("--remote-only")), changed: true},
					{cmd: s.by(leave("--remote-only")), says: "not registered on AWS's side"},
					{cmd: s.by(leave()), changed: true},
				},
			},
		}
	})
	on("a host that is ill itself", func(s *site) []sickness {
		move := s.by(s.command("move", "--yes", "--cluster", nextCluster))
		leave := func(args ...string) lab.Cmd { return s.command(append([]string{"deregister", "--yes"}, args...)...) }
		local := leave(append([]string{"--local-only"}, orphans...)...)
		drain, activate := s.by(s.command("drain", "--drain-timeout", "0s")), s.by(s.command("activate"))
		return []sickness{
			{
				name: "agent crash-looping", state: "unhealthy", code: failure.AgentCrashLoop,
				spoil: func(_ *site, h *lab.Machine, _ document) {
					h.MustShell("mv " + execWorker + " /root/aside; docker kill ecs-agent")
				},
				asked: []question{
					{cmd: s.command("doctor", "--offline"), rc: 10, code: failure.AgentCrashLoop},
					{cmd: drain, changed: true},
					{cmd: s.command("drain"), rc: 4, code: failure.AccessDenied, says: "nobody can count the tasks"},
					{cmd: activate, changed: true},
					{cmd: move, rc: 12, code: failure.AgentUnstable, says: "anywhere doctor"},
					{cmd: s.command("adopt", "--dry-run"), rc: 12, code: failure.NotAdoptable},
					{cmd: leave("--local-only"), rc: 12, code: failure.TasksRunning},
				},
				ends: []question{{cmd: s.by(leave("--remote-only")), changed: true}, {cmd: local, changed: true}},
				mend: func(_ *site, h *lab.Machine) { h.MustShell("rm /root/aside") },
			},
			{
				name: "SSM side gone", state: "unhealthy", code: failure.NodeUnknown,
				spoil: func(s *site, h *lab.Machine, d document) {
					s.aws.DeregisterNode(d.Result.ManagedInstanceID)
					h.MustShell(killSSM + "systemctl restart amazon-ssm-agent.service")
				},
				asked: []question{
					{cmd: s.command("doctor", "--offline"), rc: 10, code: failure.NodeUnknown},
					{cmd: drain, changed: true},
					{cmd: activate, changed: true},
					{cmd: move, rc: 12, code: failure.NodeUnknown, says: "replace-identity"},
					{cmd: s.command("adopt", "--dry-run"), rc: 12, code: failure.NodeUnknown},
					{cmd: s.by(leave("--remote-only", "--dry-run"))},
					{cmd: leave("--local-only"), rc: 12, code: failure.TasksRunning},
				},
				ends: []question{{cmd: s.by(leave()), changed: true}},
			},
			{
				name: "expired node credentials", state: "unhealthy", code: failure.CredentialsExpired,
				spoil: func(s *site, h *lab.Machine, _ document) {
					h.MustShell(killSSM + "systemctl stop amazon-ssm-agent.service")
					expire(h)
					s.inject(emulator.FaultCredentialsExpired)
				},
				asked: []question{
					{cmd: s.command("activate"), rc: 4, code: failure.CredentialsExpired},
					{cmd: activate},
					{cmd: move, rc: 12, code: failure.IdentityUnknown, says: "systemctl restart amazon-ssm-agent"},
					{cmd: s.command("adopt", "--dry-run"), says: "nothing here shows that Systems Manager still accepts"},
					{cmd: leave("--keep-ssm"), rc: 4, code: failure.CredentialsExpired, says: "--local-only"},
					{cmd: s.by(leave("--remote-only", "--dry-run"))},
					{cmd: leave("--local-only"), rc: 12, code: failure.TasksRunning},
				},
				ends: []question{{cmd: s.by(leave()), changed: true}},
				mend: func(s *site, _ *lab.Machine) { s.aws.ClearFault(emulator.FaultCredentialsExpired) },
			},
			{
				name: "Docker dead", state: "unhealthy", code: failure.DockerDown, stopsTasks: true,
				spoil: func(_ *site, h *lab.Machine, _ document) { h.MustShell("systemctl stop docker.socket docker.service") },
				asked: []question{
					{cmd: drain, changed: true},
					{cmd: activate, changed: true},
					{cmd: move, rc: 3, code: failure.DockerDown, says: "systemctl start docker"},
					{cmd: s.command("adopt", "--dry-run"), rc: 12, code: failure.NotAdoptable},
					{cmd: s.by(leave("--stop-tasks")), rc: 3, code: failure.DockerDown, says: "--stop-tasks out"},
					{cmd: s.by(leave("--remote-only", "--dry-run"))},
				},
				ends: []question{{cmd: s.by(leave()), changed: true, says: "cannot be listed"}},
				mend: func(_ *site, h *lab.Machine) { h.MustShell("systemctl start docker.socket docker.service") },
			},
		}
	})
}

func (s *site) inject(fault string) {
	s.t.Helper()
	if err := s.aws.Fault(fault); err != nil {
		s.t.Fatal(err)
	}
}

// suffers registers the host, lets it fall ill, asks, ends it and looks whether anything is left. It returns the state of
// the task's container, which it starts where there is none.
func (s *site) suffers(t *testing.T, h *lab.Machine, before lab.Tree, task string, c sickness) string {
	had := len(s.inAWS())
	first := s.mustRegister(h, s.register(s.token(1)))
	if task == "" {
		task = startTask(h)
	}
	if c.spoil != nil {
		c.spoil(s, h, first)
	}
	s.comesTo(h, c.state, c.code)
	tree := h.Tree(treeOf...)
	for _, q := range c.asked {
		s.ask(t, h, q)
	}
	if diff := differences(tree, h.Tree(treeOf...), ofOneHost); len(diff) > 0 {
		t.Errorf("what was only asked, or refused, has changed the host:\n%s", strings.Join(diff, "\n"))
	}
	if !c.stopsTasks {
		taskRuns(t, h, task)
	}
	if c.passes {
		c.mend(s, h)
	}
	for _, q := range c.ends {
		s.ask(t, h, q)
	}
	if c.mend != nil && !c.passes {
		c.mend(s, h)
	}
	s.isGone(h, before)
	if left := s.inAWS(); len(left) != had+c.owed {
		t.Errorf("AWS has %q, want %d more than the %d of before", left, c.owed, had)
	}
	if now, running := h.MustShell(taskState), strings.TrimSuffix(task, "true"); !strings.HasPrefix(now, running) || !c.stopsTasks && now != task {
		t.Errorf("a task's container was touched: %s, before %s", now, task)
	}
	return task
}
