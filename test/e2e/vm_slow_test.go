//go:build slow

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

func init() { slow = append(slow, lab.ProvisionVM) }

// says is what a check of preflight must say on a host.
type says struct{ id, status, detail, remedy string }

// told compares checks with what they must say.
func (c checks) told(t *testing.T, all ...says) {
	t.Helper()
	for _, want := range all {
		status, detail, remedy := c.find(t, want.id)
		t.Logf("%s: %s, %s (%s)", want.id, status, detail, remedy)
		if status != want.status || !strings.Contains(detail, want.detail) || !strings.Contains(remedy, want.remedy) {
			t.Errorf("%s is %s, %q, %q; want %+v", want.id, status, detail, remedy, want)
		}
	}
}

// warned reports whether one of the warnings is about something, such as a check, and has a text.
func warned(warnings []string, about, text string) bool {
	return slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, about+": ") && strings.Contains(w, text) })
}

// virtual boots a whole machine whose agents do not wait.
func (s *site) virtual(vm lab.VM) *lab.Machine {
	s.t.Helper()
	h := s.host(lab.Host{Name: "vm", VM: &vm})
	for _, name := range []string{"/etc/simagent.json", "/etc/ecs/simagent.json"} {
		h.WriteFile(name, []byte(`{"pace": 0.1}`), 0o644)
	}
	return h
}

// A whole machine with its own kernel: control groups v2 with all their controllers, and AppArmor. It lives its life there,
// restarts included; then its firmware says that it is Amazon's.
func TestVirtualMachine(t *testing.T) {
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.virtual(lab.VM{})
	t.Log(h.MustShell("uname -r; cat /sys/fs/cgroup/cgroup.controllers /sys/kernel/security/lsm; docker info -f '{{.ServerVersion}}, {{.CgroupDriver}}, v{{.CgroupVersion}}, {{.SecurityOptions}}'"))
	before := h.Tree(lived...)

	sound := []says{
		{"os.container", "pass", "", ""}, {"cgroup.version", "pass", "v2", ""}, {"cgroup.memory", "pass", "on", ""}, {"cgroup.driver", "pass", "systemd", ""},
		{"apparmor", "pass", "1.80.0", ""}, {"selinux.mode", "pass", "disabled", ""}, {"metadata.endpoint", "pass", "not an EC2 instance", ""},
	}
	preflight(t, h, nil, "--endpoint-url", s.url).told(t, sound...)

	s.mirror.AddECSInit(packages.Options{Version: "1.75.0-1", Program: lab.Shared("simagent")})
	old := s.read(h.Run(s.register(s.token(1), "--dry-run", "--ecs-agent-version", "1.75.0")))
	if old.RC != 12 || !warned(old.Warnings, "ECS agent 1.75.0", "under AppArmor with cgroup v2 its tasks fail") {
		t.Errorf("an agent that AppArmor stops: %+v %+v", old, old.Error)
	}
	s.mirror.AddECSInit(packages.Options{Version: ecsVersion, Program: lab.Shared("simagent")})

	first := s.mustRegister(h, s.register(s.token(1)))
	if own := first.ownWarnings(); len(own) > 0 {
		t.Errorf("on a host with nothing amiss it warns: %q", own)
	}
	if again := s.mustRegister(h, s.register("")); again.Changed || again.Result != first.Result {
		t.Errorf("again: %+v", again)
	}
	s.comesTo(h, "healthy", "")

	const limited = `docker run -d --name limited -m 64m -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro task:1 /usr/bin/sleep infinity && ` +
		`cat /sys/fs/cgroup/system.slice/docker-$(docker inspect -f '{{.Id}}' limited).scope/memory.max`
	task := longTask(h)
	if got := h.MustShell(limited); !strings.HasSuffix(got, "\n67108864") {
		t.Errorf("the limit of a container is %s", got)
	}
	if res := h.Shell("docker run --rm -m 16m -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro task:1 /usr/bin/tail /dev/zero"); res.Exit != 137 {
		t.Errorf("a container that wants more memory than it may have: %v", res)
	}
	if got := h.MustShell("docker run --rm --privileged -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro task:1 /usr/bin/echo ran"); got != "ran" {
		t.Errorf("a privileged container: %s", got)
	}

	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	up := s.upgraded(h.Run(s.upgrade()))
	if up.RC != 0 || up.Result.ECSAgent.Installed != nextECS || up.Result.SSMAgent.Installed != nextSSM+"-1" ||
		up.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Fatalf("upgrade: %+v %+v", up, up.Error)
	}
	back := s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "2s"}}))
	if back.RC != 0 || back.Result.ECSAgent.Installed != ecsVersion || back.Result.SSMAgent.Installed != ssmVersion+"-1" {
		t.Errorf("rollback: %+v %+v", back, back.Error)
	}
	taskRuns(t, h, task)
	disarmed(t, h)

	h.Reboot()
	if d := s.comesTo(h, "healthy", ""); d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("after a reboot: %+v", d.Result)
	}
	h.Kill() // and the power fails, with what was not synced lost
	h.Firmware("Amazon EC2", "t3.micro")
	h.Boot()
	if d := s.comesTo(h, "healthy", ""); d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN || len(s.aws.Instances()) != 1 {
		t.Errorf("after a power cut: %+v; ECS has %+v", d.Result, s.aws.Instances())
	}

	preflight(t, h, nil, "--only", "metadata.endpoint", "--endpoint-url", s.url).told(t,
		says{"metadata.endpoint", "warn", "Amazon EC2) whose metadata service does not answer", "without ECS Anywhere"})
	lab.ServeMetadata(t, imds())
	preflight(t, h, nil, "--only", "metadata.endpoint", "--endpoint-url", s.url).told(t,
		says{"metadata.endpoint", "warn", "this is EC2 instance i-0a1b2c3d4e5f60718 in " + region, "AWS_EC2_METADATA_DISABLED"})
	if d := s.mustRegister(h, s.register("")); d.Changed || d.Result != first.Result {
		t.Errorf("on what looks like an EC2 instance: %+v", d)
	}

	h.MustShell("docker rm -f limited " + strings.Fields(task)[0] + " && docker rmi task:1")
	s.leaves(h, before, s.deregister())
}

// imds answers as version 2 of EC2's metadata service does.
func imds() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a-token") })
	mux.HandleFunc("GET /latest/dynamic/instance-identity/document", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-aws-ec2-metadata-token") != "a-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"instanceId": "i-0a1b2c3d4e5f60718", "region": region})
	})
	return mux
}

// written are the folders in which anywhere, its packages and the agents write.
const written = "/etc /opt /root /usr/bin /usr/libexec /usr/local /lib/systemd /var/lib/anywhere /var/lib/ecs /var/lib/amazon " +
	"/var/cache/ecs /var/log/ecs /var/log/amazon /var/log/anywhere"

// agentsOwn are what Docker and the agents make themselves, at which the policy and what restorecon says are not one.
var agentsOwn = []string{"/etc/docker/key.json", "/root/.aws", "/var/log/ecs", "/var/log/amazon"}

// mislabelled are files that do not have the label that the system's policy has for them.
func mislabelled(h *lab.Machine) string {
	lines := strings.Split(h.MustShell("for d in "+written+`; do [ ! -e $d ] || restorecon -nvR $d; done 2>&1`), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return slices.ContainsFunc(agentsOwn, func(name string) bool {
			return strings.Contains(line, " "+name+" ") || strings.Contains(line, " "+name+"/")
		})
	}), "\n")
}

// denials are what the kernel refused, or would have, to anywhere and to what it started.
func denials(t *testing.T, h *lab.Machine) string {
	t.Helper()
	if got := h.MustShell("ausearch --input-logs -m SERVICE_START 2>&1 | grep -c amazon-ssm-agent || :"); strings.TrimSpace(got) == "0" {
		t.Errorf("the audit log does not even tell of the agents' start: %s", h.MustShell(
			"systemctl status auditd --no-pager 2>&1 | head -8; ls -la /var/log/audit; ausearch --input-logs -m SERVICE_START 2>&1 | tail -5"))
	}
	return h.MustShell("ausearch --input-logs -i -m AVC,USER_AVC,SELINUX_ERR 2>&1 | grep -E 'anywhere|simagent|amazon|ecs' || :")
}

// A whole machine whose SELinux enforces Debian's policy. Files get the labels that restorecon would give them, nothing
// that anywhere does is denied, and the check says what AWS says.
func TestSELinux(t *testing.T) {
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.virtual(lab.VM{SELinux: true})
	t.Log(h.MustShell("sestatus; id -Z; docker info -f '{{.ServerVersion}}, {{.CgroupDriver}}, v{{.CgroupVersion}}, {{.SecurityOptions}}'"))
	preflight(t, h, nil, "--endpoint-url", s.url).told(t,
		says{"selinux.mode", "warn", "enforcing; AWS does not support", "setenforce 0"}, says{"apparmor", "pass", "off", ""})
	first := s.mustRegister(h, s.register(s.token(1)))
	if !warned(first.Warnings, "selinux.mode", "enforcing") {
		t.Errorf("warnings: %q", first.Warnings)
	}
	s.comesTo(h, "healthy", "")
	if again := s.mustRegister(h, s.register("")); again.Changed || again.Result != first.Result {
		t.Errorf("again: %+v", again)
	}
	t.Log(h.MustShell("ps -eo label,comm | grep -E 'amazon|ecs|simagent|docker' || :; ls -Z /root/.aws /etc/ecs /var/lib/anywhere /etc/systemd/system"))
	if got := mislabelled(h); got != "" {
		t.Errorf("registered, and restorecon would change:\n%s", got)
	}

	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	// What would end an upgrade whose run has died is started by systemd once at the beginning. It looks at the label itself: what
	// the journal says of so short a run is often the label of systemd's own child.
	const label = "/run/tender.label"
	h.WriteFile("/run/systemd/system/anywhere-upgrade.service.d/label.conf",
		[]byte("[Service]\nExecStartPost=/bin/sh -c 'ls -Z /var/lib/anywhere/bin/*/anywhere >> "+label+"'\n"), 0o644)
	up := s.upgraded(h.Run(s.upgrade()))
	if up.RC != 0 || up.Result.ECSAgent.Installed != nextECS {
		t.Fatalf("upgrade: %+v %+v", up, up.Error)
	}
	h.MustShell("rm -r /run/systemd/system/anywhere-upgrade.service.d")
	back := s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "2s"}}))
	if back.RC != 0 || back.Result.ECSAgent.Installed != ecsVersion {
		t.Errorf("rollback: %+v %+v", back, back.Error)
	}
	if got := h.MustShell("cat " + label); !strings.Contains(got, ":bin_t:") {
		t.Errorf("the deadline's program is labelled %s", got)
	}
	if got := mislabelled(h); got != "" {
		t.Errorf("upgraded and back, and restorecon would change:\n%s", got)
	}

	h.WriteFile("/etc/docker/daemon.json", []byte(`{"selinux-enabled": true}`), 0o644)
	h.MustShell("systemctl restart docker.service")
	preflight(t, h, nil, "--only", "selinux.mode").told(t,
		says{"selinux.mode", "fail", "Docker labels containers", `"selinux-enabled": false`})
	if d := s.read(h.Run(s.register(""))); d.RC != 3 || d.Error == nil || !strings.Contains(d.Error.Message+d.Error.Evidence, "SELinux") || d.Error.Remedy == "" {
		t.Errorf("Docker labels containers, and register says %+v %+v", d, d.Error)
	}
	// Ignored, it goes on, and comes to what the check said: Docker does not start the agent, and that is told.
	if d := s.read(h.Run(s.register("", "--ignore", "selinux.mode", "--wait-timeout", "60s"))); d.RC == 0 || d.RC == 3 || d.Error == nil ||
		!warned(d.Warnings, "selinux.mode", "Docker labels containers") || d.Error.Code != string(failure.ServiceFailed) ||
		!strings.Contains(d.Error.Evidence, "could not start Agent") || !strings.Contains(d.Error.Remedy, `"selinux-enabled": false`) {
		t.Errorf("--ignore: %+v %+v", d, d.Error)
	}
	h.MustShell("rm /etc/docker/daemon.json && systemctl restart docker.service ecs.service && setenforce 0")
	preflight(t, h, nil, "--only", "selinux.mode").told(t, says{"selinux.mode", "pass", "permissive", ""})
	h.MustShell("setenforce 1")

	s.comesTo(h, "healthy", "")
	if gone := s.parting(h.Run(s.deregister())); gone.RC != 0 || !gone.Changed || len(s.inAWS()) > 0 {
		t.Errorf("deregister: %+v; AWS has %q", gone, s.inAWS())
	}
	if got := mislabelled(h); got != "" {
		t.Errorf("deregistered, and restorecon would change:\n%s", got)
	}
	if got := denials(t, h); got != "" {
		t.Errorf("denied:\n%s", got)
	}
}
