package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// farewell is what the tests look at in deregister's document.
type farewell struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Result          struct {
		ManagedInstanceID, ContainerInstanceARN, Verified string
		Removed, Kept, Leftovers, Owed                    []string
	}
	Error struct {
		Code, Message, Evidence, Remedy string
		Kept                            []string
	}
}

// deregister is "anywhere deregister --yes" with an operator's credentials in its environment.
func (s *site) deregister(more ...string) lab.Cmd {
	const id = "AKIADEREGISTER000001"
	s.aws.AddOperator(emulator.Key{ID: id, Secret: secret.NewText(operatorSecret)})
	return lab.Cmd{
		Args: append([]string{"anywhere", "deregister", "--yes", "-o", "json", "--endpoint-url", s.url}, more...),
		Env:  []string{"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + operatorSecret},
	}
}

// parting reads deregister's document.
func (s *site) parting(res lab.Result) farewell {
	s.t.Helper()
	var d farewell
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

// leaves deregisters the host and checks that nothing is left: not in AWS, not on the host, not after a boot.
func (s *site) leaves(h *lab.Machine, before lab.Tree, cmd lab.Cmd) farewell {
	s.t.Helper()
	d := s.parting(h.Run(cmd))
	if d.RC != 0 || !d.Changed || d.Result.Verified == "none" {
		s.t.Fatalf("%+v", d)
	}
	s.isGone(h, before)
	return d
}

// isGone checks a host that was deregistered.
func (s *site) isGone(h *lab.Machine, before lab.Tree) {
	s.t.Helper()
	if diff := differences(before, h.Tree(lived...), ofTheLife); len(diff) > 0 {
		s.t.Errorf("it differs from a host that was never registered:\n%s", strings.Join(diff, "\n"))
	}
	for _, unit := range []string{"amazon-ssm-agent.service", "ecs.service", suseUnit} {
		if u := h.Unit(unit); u.Active == "active" || u.Active == "activating" || u.Enabled == "enabled" {
			s.t.Errorf("%s is %+v", unit, u)
		}
	}
	known := "dpkg --audit; dpkg-query -W -f '${Package} ${Status}\\n' 'amazon-*' 2>/dev/null || :"
	if byRPM(h) {
		known = "rpm -qa 'amazon-*'; ls -d /var/lib/anywhere/rpm 2>/dev/null; find /etc -name '*.rpmsave' -o -name '*.rpmnew' -o -name '*.rpmorig'"
	}
	if got := h.MustShell(known); byRPM(h) && got != "" || strings.Contains(got, "amazon") {
		s.t.Errorf("the package manager still knows, or has left, %s", got)
	}
	if h.Exists(openJournal) {
		s.t.Errorf("the journal is still open:\n%s", strings.Join(journal(h), ""))
	}
}

// lived are the folders in which a registration's life may leave something.
var lived = []string{"/etc", "/usr", "/lib", "/opt", "/srv", "/root", "/var/lib/ecs", "/var/lib/amazon", "/var/cache/ecs"}

// ofTheLife is what differs after a life for reasons of its own.
func ofTheLife(path string) bool {
	return strings.HasPrefix(path, "/etc/machine-id") || strings.HasPrefix(path, "/etc/docker/key.json")
}

// inAWS is what AWS still has of hosts.
func (s *site) inAWS() (all []string) {
	for _, i := range s.aws.Instances() {
		if i.Status != "INACTIVE" {
			all = append(all, i.ARN+" "+i.Status)
		}
	}
	for _, n := range s.aws.Nodes() {
		all = append(all, n.ID)
	}
	return all
}

// A registered host becomes again what it was, and stays so; killed in the middle, without a network, on its bad days.
func TestDeregister(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	before := h.Tree(lived...)

	// A task's container runs on: it was accepted, and it is listed.
	first := s.mustRegister(h, s.register(s.token(1)))
	task := startTask(h)
	d := s.parting(h.Run(s.deregister("--local-only")))
	if d.RC != 12 || d.Error.Code != "tasks_running" || d.Changed || !strings.Contains(d.Error.Evidence, "ecs-web-1-web") {
		t.Fatalf("%+v", d)
	}
	d = s.leaves(h, before, s.deregister())
	taskRuns(t, h, task)
	if len(d.Result.Leftovers) != 1 || !strings.Contains(d.Result.Leftovers[0], "ecs-web-1-web") || d.Result.Verified != "aws" || len(s.inAWS()) > 0 {
		t.Errorf("%+v\nAWS has %q", d, s.inAWS())
	}
	if again := s.parting(h.Run(s.deregister())); again.RC != 0 || again.Changed || !strings.HasPrefix(again.Msg, "not registered") {
		t.Errorf("and again: %+v", again)
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

	// Killed five times, at dpkg's and systemd's work too; and an agent that dies again and again meanwhile.
	second := s.mustRegister(h, s.register(s.token(1)))
	if second.Result.ManagedInstanceID == first.Result.ManagedInstanceID {
		t.Error("it is the same managed node as before")
	}
	h.MustShell("docker rm -f ecs-web-1-web; docker kill ecs-agent")
	kills := 0
	for _, at := range []func([]string) bool{
		line(`"kind":"aws.deregistration"`), line(`"kind":"unit"`), line(`"kind":"remove"`),
		line(`"is":"child"`, `!"pid":0`, "--remove", "amazon-ecs-init"), line(`"kind":"tree"`),
	} {
		r := s.begin(h, s.deregister())
		if r.until(at) {
			kills++
		}
		r.killed()
	}
	if kills < 4 {
		t.Errorf("killed only %d times", kills)
	}
	d = s.leaves(h, before, s.deregister())
	if len(s.inAWS()) > 0 || !slices.Contains(d.Result.Removed, "managed node "+second.Result.ManagedInstanceID) {
		t.Errorf("%+v\nAWS has %q", d, s.inAWS())
	}

	// Docker dead, and no network: nothing is touched, and then the host alone.
	s.mustRegister(h, s.register(s.token(1)))
	h.MustShell("systemctl stop docker.socket docker.service; ip link set host0 down")
	if d := s.parting(h.Run(s.deregister("--keep-ssm"))); d.RC != 5 || d.Changed {
		t.Errorf("%+v", d)
	}
	d = s.leaves(h, before, s.deregister("--local-only"))
	if len(d.Result.Owed) != 2 || d.Result.Verified != "local" {
		t.Errorf("%+v", d)
	}
	h.MustShell("systemctl start docker.service; docker rm -f ecs-agent; true")
	if found := h.Shell("grep -rlsF -D skip " + operatorSecret + " /var/lib/anywhere /var/log/anywhere /etc /root").Stdout; found != "" {
		t.Errorf("the operator's secret is in %s", found)
	}
}

// A host that AWS's script has set up has no record of ours. ECS's half goes; what is there stays, until that is asked for
// too: never through a link, never across a mount.
func TestDeregisterAHostOfAWSsScript(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	h.WriteFile("/root/.aws/credentials", []byte(otherProfiles), 0o644)
	h.WriteFile("/etc/ecs/theirs", []byte("mine"), 0o600)
	first := s.mustRegister(h, s.register(s.token(1)))
	h.MustShell("rm -r /var/lib/anywhere /etc/systemd/system/ecs.service.d; systemctl daemon-reload")

	d := s.parting(h.Run(s.deregister()))
	if d.RC != 0 || !d.Changed || len(s.aws.Nodes()) != 1 || s.aws.Instances()[0].Status != "INACTIVE" {
		t.Fatalf("%+v\nAWS has %q", d, s.inAWS())
	}
	for _, want := range []string{"managed node " + first.Result.ManagedInstanceID, "package amazon-ecs-init", "package amazon-ssm-agent"} {
		if !slices.ContainsFunc(d.Result.Kept, func(k string) bool { return strings.HasPrefix(k, want+" (") }) {
			t.Errorf("kept %q, and not %q", d.Result.Kept, want)
		}
	}
	if u := h.Unit("ecs.service"); u.Active == "active" || u.Enabled == "enabled" {
		t.Errorf("ecs.service is %+v", u)
	}
	if u := h.Unit("amazon-ssm-agent.service"); u.Active != "active" || u.Enabled != "enabled" {
		t.Errorf("amazon-ssm-agent.service is %+v", u)
	}

	startTask(h)
	h.MustShell("docker run -d --name bystander -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro --entrypoint /usr/bin/sleep amazon/amazon-ecs-agent:latest infinity")
	const bystander = "docker inspect -f '{{.State.StartedAt}} {{.State.Running}}' bystander"
	started := h.MustShell(bystander)
	if d := s.parting(h.Run(s.deregister("--stop-tasks"))); d.RC != 12 || d.Error.Code != "tasks_running" || d.Changed {
		t.Errorf("%+v", d)
	}
	all := s.deregister("--remove-ssm", "--purge", "--stop-tasks", "--accept-risk", "purge-data,running-tasks")
	for name, danger := range map[string]struct{ make, mend string }{
		"a mount below": {"mkdir -p /srv/precious /var/lib/ecs/volumes; echo dear >/srv/precious/x; mount --bind /srv/precious /var/lib/ecs/volumes",
			"umount /var/lib/ecs/volumes"},
		"a link above": {"mv /var/log/amazon /srv/logs; ln -s /srv/logs /var/log/amazon", "rm /var/log/amazon; mv /srv/logs /var/log/amazon"},
	} {
		h.MustShell(danger.make)
		if d := s.parting(h.Run(all)); d.RC != 12 || d.Error.Code != "unsafe_path" || d.Changed || len(s.aws.Nodes()) != 1 {
			t.Errorf("%s: %+v", name, d)
		}
		h.MustShell(danger.mend)
	}
	if text := h.MustShell("cat /srv/precious/x"); text != "dear" {
		t.Errorf("what was mounted has %q", text)
	}
	h.MustShell("mv /etc/ecs/theirs /srv/")
	d = s.parting(h.Run(all))
	if d.RC != 0 || len(s.inAWS()) > 0 || d.Result.Verified != "aws" {
		t.Fatalf("%+v\nAWS has %q", d, s.inAWS())
	}
	if now := h.MustShell(bystander); now != started || h.Shell(taskState).Exit == 0 || len(d.Result.Leftovers) > 0 {
		t.Errorf("somebody's container is %s, and was %s; leftovers %q", now, started, d.Result.Leftovers)
	}
	if left := h.Glob("/etc/ecs*"); len(left) > 0 || h.Exists("/var/lib/ecs") || h.Exists("/var/lib/amazon/ssm") || h.Exists("/var/lib/anywhere") {
		t.Errorf("left: %q, /var/lib/ecs %v, /var/lib/amazon/ssm %v, /var/lib/anywhere %v", left, h.Exists("/var/lib/ecs"), h.Exists("/var/lib/amazon/ssm"), h.Exists("/var/lib/anywhere"))
	}
	if text := h.MustShell("cat /root/.aws/credentials; stat -c %a /root/.aws/credentials"); !strings.Contains(text, "[backup]") ||
		strings.Contains(text, "ASIA") || strings.Contains(text, "[default]") || !strings.HasSuffix(text, "644") {
		t.Errorf("the credentials are %s", text)
	}
	s.mustRegister(h, s.register(s.token(1)))
}
