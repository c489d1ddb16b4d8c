package preflight

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// osReleaseOf writes an os-release of id, version and name.
func osReleaseOf(m *machine, id, version, name string) {
	m.write("/etc/os-release",
		fmt.Sprintf("ID=%s\nVERSION_ID=%q\nNAME=%q\nPRETTY_NAME=%q\n", id, version, name, name+" "+version))
}

// Machine ids: that of newMachine, and another.
const thisMachine, otherMachine = "6f1f0a4a0c5d4b0d9a3f6a2d0f4e8b11", "00000000000000000000000000000000"

const longTermKey = "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = not-a-real-secret\n"

// ownKey is what SSM Agent has written.
const ownKey = "[default]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = not-a-real-secret\n" +
	"aws_session_token = neither\n"

// cases are what each check must say of machines that differ in one thing from a good one.
var cases = slices.Concat(localCases, networkCases)

type checkCase struct {
	id, name string
	subject  Subject
	change   func(*machine) // nil: the good machine
	status   Status
	code     failure.Code // of a failure, as a verb reports it
	detail   string       // a part of it
	remedy   string       // a part of it
}

var localCases = []checkCase{
	{id: "privileges", name: "root", status: Pass},
	{id: "privileges", name: "user",
		change: user, status: Warn, detail: "user 1000", remedy: "sudo anywhere preflight"},
	{id: "privileges", name: "user who wants to change things", subject: Subject{Mutating: true}, change: user,
		status: Fail, code: failure.NotRoot, detail: "user 1000", remedy: "sudo"},

	{id: "os.release", name: "listed", status: Pass, detail: "Debian 12"},
	{id: "os.release", name: "never listed",
		change: func(m *machine) { osReleaseOf(m, "debian", "13", "Debian GNU/Linux") },
		status: Warn, detail: "not on AWS's list", remedy: "anywhere platforms"},
	{id: "os.release", name: "listed once",
		change: func(m *machine) { osReleaseOf(m, "debian", "9", "Debian GNU/Linux") },
		status: Warn, detail: "was on AWS's list until", remedy: "anywhere platforms"},
	{id: "os.release", name: "newer than the table",
		change: func(m *machine) { osReleaseOf(m, "debian", "99", "Debian GNU/Linux") },
		status: Warn, detail: "not on AWS's list"},
	{id: "os.release", name: "too old", change: func(m *machine) { osReleaseOf(m, "debian", "8", "Debian GNU/Linux") },
		status: Fail, code: failure.UnsupportedOS, detail: "older than any", remedy: "anywhere platforms"},
	{id: "os.release", name: "known broken",
		change: func(m *machine) { osReleaseOf(m, "bottlerocket", "1.20", "Bottlerocket") },
		status: Fail, code: failure.UnsupportedOS, detail: "stock image", remedy: "anywhere platforms"},
	{id: "os.release", name: "of the rpm family",
		change: func(m *machine) { osReleaseOf(m, "amzn", "2023", "Amazon Linux") }, status: Pass, detail: "Amazon Linux"},
	{id: "os.release", name: "unknown", change: func(m *machine) { osReleaseOf(m, "plan9", "4", "Plan 9") },
		status: Fail, code: failure.UnsupportedOS, detail: "Plan 9 4", remedy: "anywhere platforms"},
	{id: "os.release", name: "windows", change: func(m *machine) { m.self.GOOS = "windows" },
		status: Fail, code: failure.NotBuilt, detail: "windows"},
	{id: "os.release", name: "no file", change: func(m *machine) { m.remove("/etc/os-release") },
		status: Fail, detail: "os-release"},

	{id: "os.arch", name: "amd64", status: Pass, detail: "amd64"},
	{id: "os.arch", name: "arm64", change: func(m *machine) { m.self.GOARCH = "arm64" }, status: Pass, detail: "arm64"},
	{id: "os.arch", name: "32 bits", change: func(m *machine) { m.self.GOARCH = "arm" },
		status: Fail, code: failure.UnsupportedArch, detail: "arm is", remedy: "64-bit"},

	{id: "os.systemd", name: "answers", status: Pass},
	{id: "os.systemd", name: "another init", change: func(m *machine) {
		m.systemd = failure.New(failure.NoSystemd, "systemd does not run").WithRemedy("boot with systemd")
	}, status: Fail, code: failure.NoSystemd, detail: "systemd does not run", remedy: "boot with systemd"},

	{id: "os.machine-id", name: "set", status: Pass},
	{id: "os.machine-id", name: "missing", change: func(m *machine) { m.remove("/etc/machine-id") },
		status: Fail, code: failure.PreflightFailed, detail: "no /etc/machine-id", remedy: "systemd-machine-id-setup"},
	{id: "os.machine-id", name: "empty", change: func(m *machine) { m.write("/etc/machine-id", "\n") },
		status: Fail, detail: "empty", remedy: "systemd-machine-id-setup"},
	{id: "os.machine-id", name: "of an image before its first boot",
		change: func(m *machine) { m.write("/etc/machine-id", "uninitialized\n") },
		status: Fail, detail: "empty", remedy: "systemd-machine-id-setup"},

	{id: "os.pending-reboot", name: "none", status: Pass},
	{id: "os.pending-reboot", name: "of packages", change: func(m *machine) {
		m.write("/run/reboot-required", "*** System restart required ***\n")
		m.write("/run/reboot-required.pkgs", "linux-image-6.1.0-31-amd64\nlibc6\nlibc6\n")
	}, status: Warn, detail: "pending, for linux-image-6.1.0-31-amd64, libc6", remedy: "systemctl reboot"},
	{id: "os.pending-reboot", name: "of nobody", change: func(m *machine) { m.write("/run/reboot-required", "") },
		status: Warn, detail: "/run/reboot-required", remedy: "systemctl reboot"},
	{id: "os.pending-reboot", name: "of a list that waits alone",
		change: func(m *machine) { m.write("/run/reboot-required.pkgs", "libc6\n") }, status: Pass},
	{id: "os.pending-reboot", name: "the running kernel's modules are gone", change: modulesReplaced,
		status: Warn, detail: "the running kernel 6.1.0-30-amd64 are gone (/lib/modules has those of 6.1.0-31-amd64)",
		remedy: "systemctl reboot"},
	{id: "os.pending-reboot", name: "a container has its host's kernel", change: func(m *machine) {
		modulesReplaced(m)
		m.write("/run/systemd/container", "lxc\n")
	}, status: Pass},
	{id: "os.pending-reboot", name: "a kernel without modules", change: func(m *machine) { m.remove("/lib/modules") },
		status: Pass},

	{id: "os.container", name: "a host", status: Pass},
	{id: "os.container", name: "nspawn",
		change: func(m *machine) { m.write("/run/systemd/container", "systemd-nspawn\n") },
		status: Warn, detail: "systemd-nspawn"},
	{id: "os.container", name: "docker with systemd", change: func(m *machine) { m.write("/.dockerenv", "") },
		status: Warn, detail: "docker container with its own systemd"},
	{id: "os.container", name: "docker", change: func(m *machine) {
		m.write("/.dockerenv", "")
		m.systemd = failure.New(failure.NoSystemd, "systemd does not run")
	}, status: Fail, code: failure.NoSystemd, detail: "docker container", remedy: "on the host itself"},

	{id: "disk.space", name: "enough", status: Pass},
	{id: "disk.space", name: "enough for each folder, not for all that are on one file system",
		change: func(m *machine) { m.free[""] = 600 << 20 },
		status: Fail, code: failure.DiskFull, detail: "600 MiB are free and 1071 needed for /var/lib/anywhere, /usr,",
		remedy: "apt-get clean"},

	{id: "memory", name: "enough", status: Pass, detail: "4096 MiB, of which 3000 are available"},
	{id: "memory", name: "an old kernel", change: func(m *machine) { m.write("/proc/meminfo", "MemTotal: 2097152 kB\n") },
		status: Pass, detail: "2048 MiB"},
	{id: "memory", name: "tiny", change: func(m *machine) { m.memory(200, 150) },
		status: Warn, detail: "200 MiB is less than the 256", remedy: "more memory"},
	{id: "memory", name: "small", change: func(m *machine) { m.memory(480, 400) },
		status: Warn, detail: "leaves little to tasks", remedy: "more memory"},
	{id: "memory", name: "taken", change: func(m *machine) { m.memory(4096, 90) },
		status: Warn, detail: "90 of 4096 MiB are available", remedy: "systemd-cgtop"},
	{id: "memory", name: "more reserved than there is",
		change: func(m *machine) { m.write(ecsagent.InstanceConfigPath, "ECS_RESERVED_MEMORY=5000\n") },
		status: Fail, code: failure.AgentConfig, detail: "ECS_RESERVED_MEMORY=5000 (/var/lib/ecs/ecs.config) is more than the 4096",
		remedy: "smaller ECS_RESERVED_MEMORY"},
	{id: "memory", name: "more to be reserved than there is", subject: Subject{Settings: map[string]string{keyReservedMemory: "65535"}},
		change: func(m *machine) { m.write(ecsagent.ConfigPath, "ECS_RESERVED_MEMORY=64\n") },
		status: Fail, code: failure.AgentConfig, detail: "=65535 (--ecs-config)", remedy: "smaller"},
	{id: "memory", name: "nearly all reserved",
		change: func(m *machine) { m.write(ecsagent.ConfigPath, "ECS_RESERVED_MEMORY=4000\n") },
		status: Warn, detail: "leaves 96 of 4096 MiB", remedy: "/etc/ecs/ecs.config"},
	{id: "memory", name: "no number is another check's matter",
		change: func(m *machine) { m.write(ecsagent.ConfigPath, "ECS_RESERVED_MEMORY=all\n") }, status: Pass},
	{id: "memory", name: "unknown", change: func(m *machine) { m.remove("/proc/meminfo") }, status: Skip, detail: "meminfo"},
	{id: "memory", name: "unreadable", change: func(m *machine) { m.write("/proc/meminfo", "\n") }, status: Skip},

	{id: "cgroup.version", name: "v2", status: Pass, detail: "v2 (needs ECS agent 1.61.0"},
	{id: "cgroup.version", name: "v2 and an agent before it", change: func(m *machine) { m.install(ecsagent.Package, "1.60.1-1") },
		status: Warn, detail: "which ECS agent 1.60.1-1 does not know", remedy: "1.61.0 or newer"},
	{id: "cgroup.version", name: "v2 and an agent before it that is replaced", subject: Subject{ECSAgent: "1.105.1"},
		change: func(m *machine) { m.install(ecsagent.Package, "1.60.1-1") }, status: Pass},
	{id: "cgroup.version", name: "v1", change: cgroup1, status: Pass, detail: "v1"},
	{id: "cgroup.version", name: "hybrid", change: func(m *machine) {
		cgroup1(m)
		m.write("/sys/fs/cgroup/unified/cgroup.controllers", "")
	}, status: Pass, detail: "hybrid"},
	{id: "cgroup.version", name: "none", change: func(m *machine) { m.remove("/sys") },
		status: Fail, code: failure.PreflightFailed, detail: "/sys/fs/cgroup", remedy: "mount /sys/fs/cgroup"},

	{id: "cgroup.memory", name: "v2", status: Pass, detail: "on"},
	{id: "cgroup.memory", name: "v1", change: cgroup1, status: Pass, detail: "on"},
	{id: "cgroup.memory", name: "off in v2",
		change: func(m *machine) { m.write("/sys/fs/cgroup/cgroup.controllers", "cpu memory_recursive\n") },
		status: Warn, detail: "off", remedy: "cgroup_enable=memory"},
	{id: "cgroup.memory", name: "off in v1", change: func(m *machine) {
		cgroup1(m)
		m.write("/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t1\t1\nmemory\t0\t1\t0\n")
	}, status: Warn, detail: "off", remedy: "cgroup_enable=memory"},
	{id: "cgroup.memory", name: "no control groups", change: func(m *machine) { m.remove("/sys") },
		status: Skip, detail: "no control groups"},

	{id: "cgroup.driver", name: "systemd in v2", status: Pass, detail: "systemd"},
	{id: "cgroup.driver", name: "cgroupfs in v2",
		change: func(m *machine) { m.answers("/info", `"systemd"`, `"cgroupfs"`) },
		status: Warn, detail: "Docker uses cgroupfs", remedy: "native.cgroupdriver=systemd"},
	{id: "cgroup.driver", name: "cgroupfs in v1", change: func(m *machine) {
		cgroup1(m)
		m.answers("/info", `"systemd"`, `"cgroupfs"`)
	}, status: Pass, detail: "cgroupfs"},
	{id: "cgroup.driver", name: "systemd in v1", change: cgroup1,
		status: Warn, detail: "Docker uses systemd", remedy: "native.cgroupdriver=cgroupfs"},
	{id: "cgroup.driver", name: "no Docker", change: dockerGone, status: Skip},

	{id: "selinux.mode", name: "disabled", status: Pass, detail: "disabled"},
	{id: "selinux.mode", name: "permissive", change: func(m *machine) { m.write("/sys/fs/selinux/enforce", "0") },
		status: Pass, detail: "permissive"},
	{id: "selinux.mode", name: "enforcing",
		change: enforcing, status: Warn, detail: "AWS does not support", remedy: "setenforce 0"},
	{id: "selinux.mode", name: "enforcing and Docker labels", change: func(m *machine) {
		enforcing(m)
		m.answers("/info", `"Driver"`, `"SecurityOptions":["name=selinux"],"Driver"`)
	}, status: Fail, code: failure.PreflightFailed, detail: "labels containers", remedy: `"selinux-enabled": false`},

	{id: "apparmor", name: "off", status: Pass, detail: "off"},
	{id: "apparmor", name: "on with cgroup v2", change: apparmorOn, status: Pass, detail: "1.80.0 or newer"},
	{id: "apparmor", name: "on with cgroup v2 and an agent before its profile", change: func(m *machine) {
		apparmorOn(m)
		m.install(ecsagent.Package, "1.79.0-1")
	}, status: Warn, detail: "tasks of ECS agent 1.79.0-1 fail", remedy: "1.80.0 or newer"},
	{id: "apparmor", name: "on with cgroup v1",
		change: func(m *machine) { cgroup1(m); apparmorOn(m) }, status: Pass, detail: "on"},

	{id: "docker.presence", name: "there", status: Pass, detail: "docker"},
	{id: "docker.presence", name: "absent", change: dockerGone,
		status: Warn, detail: "not installed", remedy: "anywhere register installs it from Docker's own repository"},
	{id: "docker.presence", name: "absent, and to be there before", subject: Subject{Mutating: true}, change: dockerGone,
		status: Fail, code: failure.DockerAbsent, detail: "not installed", remedy: "leave --docker-source none out"},
	{id: "docker.presence", name: "absent, on a system without a source", change: func(m *machine) {
		dockerGone(m)
		osReleaseOf(m, "rhel", "9.4", "Red Hat Enterprise Linux")
	}, status: Fail, code: failure.DockerAbsent, detail: "not installed", remedy: "Docker's own packages"},
	{id: "docker.presence", name: "absent, and will be installed", subject: Subject{Docker: true, DockerFrom: "somewhere"}, change: dockerGone,
		status: Pass, detail: "will be installed from somewhere"},
	{id: "network.iptables", name: "absent with Docker", change: func(m *machine) { dockerGone(m); m.remove("/usr/sbin/iptables") },
		status: Warn, detail: "iptables is not installed", remedy: "it comes with Docker"},
	{id: "network.iptables", name: "absent, and comes with Docker", subject: Subject{Docker: true},
		change: func(m *machine) { dockerGone(m); m.remove("/usr/sbin/iptables") }, status: Pass},
	{id: "docker.flavour", name: "engine", status: Pass},
	{id: "docker.flavour", name: "absent", change: dockerGone, status: Skip},
	{id: "docker.flavour", name: "podman",
		change: func(m *machine) { m.answers("/version", `"Engine"`, `"Podman Engine"`) },
		status: Fail, code: failure.PreflightFailed, detail: "podman", remedy: "apt-get remove podman-docker"},
	{id: "docker.flavour", name: "snap",
		change: func(m *machine) { m.answers("/info", "/var/lib/docker", "/var/snap/docker/common/x") },
		status: Fail, detail: "snap", remedy: "snap remove docker"},
	{id: "docker.flavour", name: "rootless", change: func(m *machine) {
		m.answers("/info", `"Driver"`, `"SecurityOptions":["name=rootless"],"Driver"`)
	}, status: Fail, detail: "rootless", remedy: "systemctl enable --now docker"},
	{id: "docker.flavour", name: "desktop", change: func(m *machine) {
		m.answers("/info", `"Driver"`, `"OperatingSystem":"Docker Desktop","Driver"`)
	}, status: Fail, detail: "Desktop", remedy: "Docker Engine"},
	{id: "docker.flavour", name: "podman's script", change: func(m *machine) {
		dockerGone(m)
		m.write("/usr/bin/docker", "#!/bin/sh\nexec /usr/bin/podman \"$@\"\n")
	}, status: Fail, detail: "podman stands in", remedy: "apt-get remove podman-docker"},
	{id: "docker.daemon", name: "of another kind", change: func(m *machine) {
		dockerGone(m)
		m.write("/snap/bin/docker", "")
	}, status: Skip, detail: "docker.flavour"},
	{id: "docker.daemon", name: "answers", status: Pass, detail: "27.3.1"},
	{id: "docker.daemon", name: "absent", change: dockerGone, status: Skip},
	{id: "docker.daemon", name: "failed", change: dockerDown,
		status: Fail, code: failure.DockerDown, detail: "docker.service failed (exit-code)",
		remedy: "systemctl start docker"},
	{id: "docker.version", name: "fits", status: Pass, detail: "1.24 to 1.47"},
	{id: "docker.version", name: "down", change: dockerDown, status: Skip},
	{id: "docker.version", name: "an agent before Docker 25", change: func(m *machine) { m.install(ecsagent.Package, "1.80.0-1") },
		status: Fail, code: failure.DockerVersion, detail: "the ECS agent 1.80.0-1 cannot do with a newer one than 1.23: " +
			"install ECS agent 1.81.0 or newer", remedy: "1.81.0 or newer"},
	{id: "docker.version", name: "an agent before Docker 25 that is replaced", subject: Subject{ECSAgent: "1.105.1"},
		change: func(m *machine) { m.install(ecsagent.Package, "1.80.0-1") }, status: Pass, detail: "ECS agent 1.105.1 speaks 1.21"},
	{id: "docker.version", name: "too old", change: func(m *machine) { m.answers("/version", `"1.47"`, `"1.18"`) },
		status: Fail, code: failure.DockerVersion, detail: "upgrade Docker", remedy: "docs.docker.com"},
	{id: "docker.version", name: "too new", change: func(m *machine) { m.answers("/version", `"1.24"`, `"1.46"`) },
		status: Fail, code: failure.DockerVersion, detail: "install an older Docker", remedy: "docs.docker.com"},

	{id: "packages.manager", name: "free", status: Pass, detail: "deb"},
	{id: "packages.manager", name: "none", change: func(m *machine) { m.manager = host.ManagerState{} },
		status: Fail, code: failure.UnsupportedOS, remedy: "anywhere platforms"},
	{id: "packages.manager", name: "locked", change: func(m *machine) { m.manager.LockedBy = "pid 123 (apt-get)" },
		status: Fail, code: failure.PackagesLocked, detail: "pid 123 (apt-get)", remedy: "wait"},
	{id: "packages.manager", name: "interrupted", change: interrupted,
		status: Fail, code: failure.PackagesBroken, remedy: "dpkg --configure -a"},
	{id: "packages.manager", name: "interrupted between unpacking and configuring", change: unfinished(
		host.UnfinishedPackage{Name: "amazon-ssm-agent", State: "unpacked"}),
		status: Fail, code: failure.PackagesBroken, detail: "interrupted in amazon-ssm-agent (unpacked)",
		remedy: "dpkg --configure -a; then run the same command again"},
	{id: "packages.manager", name: "interrupted in unpacking somebody's package", change: unfinished(
		host.UnfinishedPackage{Name: "amazon-ssm-agent", State: "half-installed", Reinstall: true},
		host.UnfinishedPackage{Name: "jq", State: "half-installed", Reinstall: true}),
		status: Fail, code: failure.PackagesBroken, detail: "jq (half-installed)",
		remedy: "dpkg --configure -a; apt-get install --reinstall jq; then"},
	{id: "packages.manager", name: "interrupted in Docker, on an rpm host", change: func(m *machine) {
		m.manager = host.ManagerState{Family: "rpm", Manager: "dnf", Interrupted: true, Unfinished: []host.UnfinishedPackage{
			{Name: "docker-ce", State: "interrupted in install", Reinstall: true},
		}}
	}, status: Fail, code: failure.PackagesBroken, detail: "docker-ce (interrupted in install)",
		remedy: "dnf reinstall docker-ce; rm /var/lib/anywhere/rpm/docker-ce.json; then run"},
	{id: "packages.manager", name: "interrupted in unpacking what a registration installs", change: unfinished(
		host.UnfinishedPackage{Name: "amazon-ecs-init", State: "half-installed", Reinstall: true}),
		status: Pass, detail: "deb"},
	{id: "packages.manager", name: "interrupted by ourselves", subject: Subject{Resuming: true},
		change: interrupted, status: Pass},
	{id: "packages.manager", name: "held", change: func(m *machine) {
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Held: true}
	}, status: Fail, code: failure.PackageHeld, detail: ecsagent.Package, remedy: "apt-mark unhold amazon-ecs-init"},
	{id: "packages.manager", name: "held as it is", change: func(m *machine) {
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Held: true, Installed: true, Version: "1.105.1-1"}
	}, status: Pass},
	{id: "packages.manager", name: "held, and another version is asked for", subject: Subject{ECSAgent: "1.104.0"}, change: func(m *machine) {
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Held: true, Installed: true, Version: "1.105.1-1"}
	}, status: Warn, detail: "held at 1.105.1-1, and 1.104.0 is asked for", remedy: "apt-mark unhold amazon-ecs-init"},
	{id: "packages.manager", name: "held, and that very version is asked for", subject: Subject{ECSAgent: "1.105.1"}, change: func(m *machine) {
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Held: true, Installed: true, Version: "1.105.1-1"}
	}, status: Pass},
	{id: "packages.manager", name: "held, and known to be bad", change: func(m *machine) {
		m.packages[ssmagent.Package] = host.Package{Name: ssmagent.Package, Held: true, Installed: true, Version: "3.1.0.0-1"}
	}, status: Warn, detail: "held at 3.1.0.0-1, which is replaced", remedy: "apt-mark unhold amazon-ssm-agent"},
	{id: "packages.manager", name: "locked by automatic updates",
		change: func(m *machine) { m.manager.LockedBy = "pid 812 (unattended-upgr)" },
		status: Fail, code: failure.PackagesLocked, detail: "pid 812 (unattended-upgr)", remedy: "systemctl status unattended-upgrades"},
	{id: "packages.manager", name: "lists are brought up to date", change: updating, status: Pass, detail: "pid 812 (apt-get)"},
	{id: "packages.manager", name: "lists are brought up to date, and Docker must be installed", subject: Subject{Docker: true},
		change: updating, status: Warn, detail: "locked by pid 812 (apt-get)", remedy: "wait"},
	{id: "packages.manager", name: "unreadable",
		change: func(m *machine) { m.broken = errors.New("input/output error") },
		status: Fail, code: failure.PreflightFailed, detail: "input/output error"},

	{id: "credentials.chain", name: "none", status: Pass, detail: "SSM Agent will write"},
	{id: "credentials.chain", name: "other profiles", change: func(m *machine) {
		m.write(ssmagent.CredentialsPath, strings.Replace(longTermKey, "default", "backup", 1))
	}, status: Pass, detail: "backup"},
	{id: "credentials.chain", name: "open to others", change: func(m *machine) {
		m.write(ssmagent.CredentialsPath, strings.Replace(longTermKey, "default", "backup", 1))
		m.mode(ssmagent.CredentialsPath, 0o644)
	}, status: Warn, detail: "mode is 0644", remedy: "chmod 0600 /root/.aws/credentials"},
	{id: "credentials.chain", name: "the node's own", change: func(m *machine) { sharing(m, "ASIAIOSFODNN7EXAMPLE") },
		status: Pass, detail: "the managed node's own"},
	{id: "credentials.chain", name: "somebody's",
		change: func(m *machine) { m.write(ssmagent.CredentialsPath, longTermKey) },
		status: Fail, code: failure.ForeignProfile, detail: "long-term key ****MPLE", remedy: "mv /root/.aws/credentials"},
	{id: "credentials.chain", name: "somebody's, while SSM has another profile", subject: Subject{Profile: "ecs"},
		change: func(m *machine) { m.write(ssmagent.CredentialsPath, longTermKey) }, status: Pass, detail: "other profiles"},
	{id: "credentials.chain", name: "no INI file",
		change: func(m *machine) { m.write(ssmagent.CredentialsPath, "[default\nx\n") },
		status: Fail, code: failure.ForeignProfile, detail: "cannot be parsed", remedy: "mv /root/.aws/credentials"},
	{id: "credentials.chain", name: "a key over the node's in the agent's profile",
		change: func(m *machine) { sharing(m, "AKIAIOSFODNN7EXAMPLE") },
		status: Fail, code: failure.ForeignProfile, detail: "long-term key"},
	{id: "credentials.chain", name: "keys in ecs.config", change: func(m *machine) {
		m.write(ecsagent.ConfigPath, "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n")
	}, status: Fail, code: failure.ForeignProfile, detail: "would win over", remedy: "sed -i"},

	{id: "credentials.chain", name: "keys in ecs.config, the operator's file named", change: func(m *machine) {
		m.write(ecsagent.InstanceConfigPath, "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=not-a-real-secret\n")
	}, status: Fail, code: failure.ForeignProfile, detail: "would win over", remedy: ")=/d' /var/lib/ecs/ecs.config"},
	{id: "credentials.chain", name: "a person's profile where SSM Agent is to write", subject: Subject{Profile: "backup"},
		change: func(m *machine) {
			m.write(ssmagent.CredentialsPath, strings.Replace(longTermKey, "default", "backup", 1))
		},
		status: Fail, code: failure.ForeignProfile, detail: "profile [backup]", remedy: "--ssm-profile ecs-anywhere"},
	{id: "credentials.chain", name: "the profile that is offered is free", change: func(m *machine) {
		m.write(ssmagent.CredentialsPath, longTermKey+strings.Replace(longTermKey, "default", "ecs-anywhere", 1))
	}, status: Fail, code: failure.ForeignProfile, remedy: "--ssm-profile ecs-anywhere-2", detail: "[default]"},
	{id: "credentials.chain", name: "a profile for an agent that knows none", subject: Subject{Profile: "ecs"},
		change: func(m *machine) { m.install(ecsagent.Package, "1.62.2-1") },
		status: Fail, code: failure.PreflightFailed, detail: "ECS agent 1.62.2-1 knows no profile but [default]", remedy: "1.63.0 or newer"},
	{id: "credentials.chain", name: "the SSM agent's service has a HOME", change: func(m *machine) {
		m.write("/etc/systemd/system/amazon-ssm-agent.service.d/home.conf", "[Service]\nEnvironment=HOME=/var/empty\n")
	}, status: Fail, code: failure.AgentConfig, detail: "to /var/empty/.aws/credentials", remedy: "amazon-ssm-agent.service.d/home.conf"},
	{id: "credentials.chain", name: "the SSM agent's service has keys", change: func(m *machine) {
		m.write("/etc/default/ssm", "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n")
		m.write("/etc/systemd/system/amazon-ssm-agent.service.d/keys.conf", "[Service]\nEnvironmentFile=/etc/default/ssm\n")
	}, status: Warn, detail: "/etc/default/ssm gives the SSM agent's service AWS_ACCESS_KEY_ID", remedy: "out of /etc/default/ssm"},
	{id: "credentials.chain", name: "keys of ecs.service reach nobody", change: func(m *machine) {
		m.write("/etc/systemd/system/ecs.service.d/keys.conf", "[Service]\nEnvironment=AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n")
	}, status: Pass, detail: "none"},
	{id: "credentials.chain", name: "the ECS agent reads a person's profile", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ecsagent.ConfigPath, "ECS_ALTERNATE_CREDENTIAL_PROFILE=mine\n")
		m.write(ssmagent.CredentialsPath, ownKey+strings.Replace(longTermKey, "default", "mine", 1))
	}, status: Fail, code: failure.ForeignProfile, detail: "lets the ECS agent read profile [mine]", remedy: "anywhere register --ssm-profile"},
	{id: "credentials.chain", name: "the ECS agent reads another profile", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ecsagent.ConfigPath, "ECS_ALTERNATE_CREDENTIAL_PROFILE=other\n")
	}, status: Warn, detail: "reads profile [other], where SSM Agent writes nothing", remedy: "anywhere register --ssm-profile default"},
	{id: "credentials.chain", name: "both agents have one profile of their own", change: func(m *machine) {
		m.write(ssmagent.ConfigPath, `{"Profile":{"ShareProfile":"ecs"}}`)
		m.write(ecsagent.ConfigPath, "ECS_ALTERNATE_CREDENTIAL_PROFILE=ecs\n")
		m.write(ssmagent.CredentialsPath, longTermKey)
	}, status: Pass, detail: "leaves the other profiles (default) alone"},
	{id: "credentials.chain", name: "a profile inside the container", change: func(m *machine) {
		m.write(ecsagent.ConfigPath, "AWS_PROFILE=mine\n")
	}, status: Warn, detail: "AWS_PROFILE in the ECS agent's configuration names a file inside its container, asked after", remedy: "sed -i"},
	{id: "credentials.chain", name: "an agent that asks for a role first", change: func(m *machine) { m.install(ecsagent.Package, "1.99.0-1") },
		status: Warn, detail: "ECS agent 1.99.0-1 asks for an EC2 role before", remedy: "AWS_EC2_METADATA_DISABLED=true"},
	{id: "credentials.chain", name: "an agent that would ask for a role first, and may not", change: func(m *machine) {
		m.install(ecsagent.Package, "1.99.0-1")
		m.write(ecsagent.ConfigPath, "AWS_EC2_METADATA_DISABLED=true\n")
	}, status: Pass},

	{id: "existing.ssm", name: "none", status: Pass, detail: "none"},
	{id: "existing.ssm", name: "installed alone", change: func(m *machine) { m.install(ssmagent.Package, "3.3.4108.0-1") },
		status: Pass, detail: "none; amazon-ssm-agent 3.3.4108.0-1 is installed"},
	{id: "existing.ssm", name: "registered", change: func(m *machine) { m.managedNode(nodeID) },
		status: Pass, detail: nodeID + " in eu-central-1"},
	{id: "existing.ssm", name: "a snap's program beside the deb", change: func(m *machine) {
		m.managedNode(nodeID)
		m.install(ssmagent.Package, "3.3.4108.0-1")
		m.write("/snap/amazon-ssm-agent/current/amazon-ssm-agent", "")
	}, status: Fail, code: failure.PreflightFailed, detail: "twice", remedy: "snap remove amazon-ssm-agent"},
	{id: "existing.ssm", name: "its configuration cannot be read",
		change: func(m *machine) { m.write(ssmagent.ConfigPath, "{") },
		status: Fail, code: failure.AgentConfig, detail: ssmagent.ConfigPath, remedy: "correct the file"},
	{id: "existing.ssm", name: "no fingerprint", change: func(m *machine) {
		m.managedNode(nodeID)
		m.remove(ssmagent.FingerprintPath)
	}, status: Warn, detail: "has lost its fingerprint", remedy: "--accept-risk replace-identity"},
	{id: "existing.ssm", name: "no side file", change: func(m *machine) {
		m.managedNode(nodeID)
		m.remove(ssmagent.RegistrationPath)
	}, status: Warn, detail: "/var/lib/amazon/ssm/registration is missing",
		remedy: `'{"ManagedInstanceID":"` + nodeID + `","Region":"eu-central-1"}' >/var/lib/amazon/ssm/registration`},
	{id: "existing.ssm", name: "the side file of another node", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ssmagent.RegistrationPath, `{"ManagedInstanceID":"mi-fffffffffffffffff","Region":"eu-central-1"}`)
	}, status: Warn, detail: "registration says mi-fffffffffffffffff", remedy: nodeID},
	{id: "existing.ssm", name: "the running agent is another node", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ssmagent.RuntimePath, `{"InstanceId":"mi-fffffffffffffffff","IdentityType":"OnPrem"}`)
	}, status: Warn, detail: "last worked as mi-fffffffffffffffff", remedy: "systemctl restart amazon-ssm-agent.service"},
	{id: "existing.ssm", name: "no manifest", change: func(m *machine) {
		m.managedNode(nodeID)
		m.remove(ssmagent.ManifestPath)
	}, status: Warn, detail: "the agent does not see it", remedy: "anywhere register"},
	{id: "existing.ssm", name: "dying again and again", change: func(m *machine) {
		m.managedNode(nodeID)
		m.units[ssmagent.UnitName] = host.Unit{Name: ssmagent.UnitName, Loaded: true, Active: "active", Sub: "running", Restarts: 7,
			ActiveSince: checkTime.Add(-time.Minute)}
	}, status: Warn, detail: "7 restarts", remedy: "journalctl -u amazon-ssm-agent.service"},
	{id: "existing.ssm", name: "restarted long ago", change: func(m *machine) {
		m.managedNode(nodeID)
		m.units[ssmagent.UnitName] = host.Unit{Name: ssmagent.UnitName, Loaded: true, Active: "active", Sub: "running", Restarts: 7,
			ActiveSince: checkTime.Add(-time.Hour)}
	}, status: Pass},
	{id: "existing.ssm", name: "not registered, and so started every 90 seconds", change: func(m *machine) {
		m.units[ssmagent.UnitName] = host.Unit{Name: ssmagent.UnitName, Loaded: true, Active: "activating", Sub: "auto-restart", Restarts: 7}
	}, status: Pass},
	{id: "existing.ssm", name: "a snap's unit without its files", change: func(m *machine) {
		m.units[ssmagent.SnapUnit] = host.Unit{Name: ssmagent.SnapUnit, Loaded: true}
	}, status: Fail, code: failure.PreflightFailed, detail: "snap is broken", remedy: "snap remove amazon-ssm-agent"},
	{id: "existing.ssm", name: "lost", change: func(m *machine) {
		m.write(ssmagent.RegistrationPath, `{"ManagedInstanceID":"`+nodeID+`","Region":"eu-central-1"}`)
	}, status: Warn, detail: nodeID, remedy: "anywhere register --token -"},
	{id: "existing.ssm", name: "hidden", change: identityKey, status: Warn, detail: "the agent does not see it",
		remedy: "anywhere register makes the agent see it again"},
	{id: "existing.ssm", name: "without a fingerprint", change: func(m *machine) {
		identityKey(m)
		m.write(ssmagent.ManifestPath, `{"RegistrationKey":"`+ssmagent.KeyPath+`"}`)
	}, status: Warn, detail: nodeID + " has lost its fingerprint", remedy: "--accept-risk replace-identity"},

	{id: "existing.ecs", name: "none", status: Pass, detail: "none"},
	{id: "existing.ecs", name: "state", change: func(m *machine) {
		m.write(ecsagent.StateDB, "")
		m.write(ecsagent.ConfigPath, "ECS_CLUSTER=arn:aws:ecs:eu-central-1:111122223333:cluster/shop\n")
	}, status: Pass, detail: "state of cluster shop"},
	{id: "existing.ecs", name: "state of the default cluster",
		change: func(m *machine) { m.write(ecsagent.StateDB, "") },
		status: Pass, detail: "state of cluster default"},
	{id: "existing.ecs", name: "settings in comments", change: func(m *machine) {
		m.write(ecsagent.ConfigPath, "# ECS_CLUSTER=old\nECS_CLUSTER=shop\n")
	}, status: Pass, detail: "none"},
	{id: "existing.ecs", name: "a line that nobody reads",
		change: func(m *machine) { m.write(ecsagent.ConfigPath, "ECS_LOGLEVEL debug\n") },
		status: Warn, detail: "line 1 of /etc/ecs/ecs.config is no KEY=VALUE", remedy: "write KEY=VALUE"},
	{id: "existing.ecs", name: "a quoted cluster", change: func(m *machine) {
		m.write(ecsagent.ConfigPath, "ECS_LOGLEVEL debug\nECS_CLUSTER=\"shop\"\n")
	}, status: Fail, code: failure.PreflightFailed,
		detail: "ECS_CLUSTER in line 2 of /etc/ecs/ecs.config has a quoted value",
		remedy: "take the quotes away"},
	{id: "existing.ecs", name: "state of another cluster", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\n")
		m.write(ecsagent.StateDB, "bolt\x00"+instanceOf("web")+"\x00")
	}, status: Fail, code: failure.PreflightFailed, detail: "is of cluster web (" + instanceOf("web") + "), and ECS_CLUSTER is shop",
		remedy: "write ECS_CLUSTER=web"},
	{id: "existing.ecs", name: "state that was of another cluster before", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\n")
		m.write(ecsagent.StateDB, instanceOf("web")+"\x00"+instanceOf("shop"))
	}, status: Pass, detail: "state of cluster shop"},
	{id: "existing.ecs", name: "state of another cluster, which a registration sets aside", change: func(m *machine) {
		m.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\n")
		m.write(ecsagent.StateDB, instanceOf("web"))
	}, status: Pass},
	{id: "existing.ecs", name: "state of another cluster than the one that is wanted", subject: Subject{Cluster: "web"},
		change: func(m *machine) {
			m.managedNode(nodeID)
			m.write(ecsagent.StateDB, instanceOf("shop"))
		}, status: Fail, detail: "of cluster shop", remedy: "anywhere move --cluster web"},
	{id: "existing.ecs", name: "failed for good", change: func(m *machine) {
		m.units[ecsagent.Unit] = host.Unit{Name: ecsagent.Unit, Loaded: true, Active: "failed", Sub: "failed", Result: "exit-code", ExitStatus: 5}
	}, status: Warn, detail: "ecs.service failed (exit-code, exit status 5)", remedy: "journalctl -u ecs.service"},
	{id: "existing.ecs", name: "dying again and again, and saying why", change: func(m *machine) {
		m.units[ecsagent.Unit] = host.Unit{Name: ecsagent.Unit, Loaded: true, Active: "activating", Sub: "auto-restart", Restarts: 40,
			ActiveSince: checkTime.Add(-time.Minute)}
		m.write(ecsagent.LogPath, `level=critical time=2026-11-22T11:59:30Z msg="Data mismatch; saved cluster 'web' does not match `+
			`configured cluster 'shop'. Perhaps you want to delete the configured checkpoint file?"`+"\n")
	}, status: Warn, detail: "dies again and again (40 restarts): ", remedy: "anywhere"},
	{id: "existing.ecs", name: "Amazon Linux's package", change: func(m *machine) { m.install("ecs-init", "1.105.1-1.amzn2023") },
		status: Fail, code: failure.PreflightFailed, detail: "ecs-init 1.105.1-1.amzn2023", remedy: "yum remove ecs-init"},
	{id: "existing.ecs", name: "ECS Exec cut short", change: func(m *machine) {
		m.write(ecsagent.ExecBundle, "certificates")
		m.write(ecsagent.ExecDir+"/bin/3.3.4108.0/amazon-ssm-agent", "")
	}, status: Warn, detail: "3.3.4108.0", remedy: "anywhere register"},

	{id: "gpu", name: "not asked for", status: Skip, detail: "--enable-gpu"},
	{id: "gpu", name: "all there", subject: Subject{GPU: true}, change: nvidia, status: Pass},
	{id: "gpu", name: "all there, configured",
		change: func(m *machine) { nvidia(m); m.write(ecsagent.InstanceConfigPath, "ECS_ENABLE_GPU_SUPPORT=true\n") }, status: Pass},
	{id: "gpu", name: "nothing there", subject: Subject{GPU: true}, status: Fail, code: failure.GPUUnusable,
		detail: "driver is not loaded", remedy: "apt-get install nvidia-driver"},
	{id: "gpu", name: "no toolkit", subject: Subject{Settings: map[string]string{ecsagent.KeyGPU: "true"}},
		change: func(m *machine) { nvidia(m); m.remove("/usr/bin/nvidia-container-runtime-hook") },
		status: Fail, code: failure.GPUUnusable, detail: "there is no nvidia-container-toolkit", remedy: "then systemctl restart docker"},

	{id: "existing.clone", name: "no node", status: Pass, detail: "no managed node"},
	{id: "existing.clone", name: "this machine's", change: func(m *machine) { m.registered(thisMachine) },
		status: Pass, detail: "as far as can be seen here"},
	{id: "existing.clone", name: "another machine's", change: func(m *machine) { m.registered(otherMachine) },
		status: Fail, code: failure.PreflightFailed, detail: "machine-id " + otherMachine, remedy: "replace-identity"},
	{id: "existing.clone", name: "another machine's, which is given up", subject: Subject{Replacing: true},
		change: func(m *machine) { m.registered(otherMachine) }, status: Warn, detail: "given up", remedy: "replace-identity"},
	{id: "existing.clone", name: "seen once", change: func(m *machine) { m.registered(thisMachine) },
		subject: Subject{Remote: aws{instances: []control.Instance{{ARN: "a", Connected: true}, {ARN: "b"}},
			node: &control.Node{Computer: "web-1.example.org"}}}, status: Pass, detail: "connected 1 times"},
	{id: "existing.clone", name: "connected twice", change: func(m *machine) { m.registered(thisMachine) },
		subject: Subject{Remote: aws{instances: []control.Instance{{ARN: "a", Connected: true}, {ARN: "b", Connected: true}}}},
		status:  Fail, code: failure.PreflightFailed, detail: nodeID + " connected 2 times", remedy: "find the copy"},
	{id: "existing.clone", name: "seen under another name", change: func(m *machine) {
		m.registered(thisMachine)
		m.write("/etc/hostname", "web-1\n")
	}, subject: Subject{Remote: aws{node: &control.Node{Computer: "web-2.example.org", IP: "10.0.0.2"}}},
		status: Warn, detail: "as web-2.example.org (10.0.0.2), and this machine is web-1", remedy: "find the copy"},
	{id: "existing.clone", name: "seen under its own name", change: func(m *machine) {
		m.registered(thisMachine)
		m.write("/etc/hostname", "WEB-1\n")
	}, subject: Subject{Remote: aws{node: &control.Node{Computer: "web-1.example.org"}}}, status: Pass, detail: "connected 0 times"},
	{id: "existing.clone", name: "AWS cannot be asked", change: func(m *machine) { m.registered(thisMachine) },
		subject: Subject{Remote: aws{err: control.ErrNoOperator}}, status: Pass, detail: "ECS was not asked"},

	{id: "activation", name: "none", status: Skip, detail: "--activation-id"},
	{id: "activation", name: "no operator", subject: Subject{ActivationID: "x"}, status: Skip, detail: "AWS_PROFILE"},
	{id: "activation", name: "no credentials", subject: Subject{ActivationID: "x", Remote: aws{err: control.ErrNoOperator}},
		status: Skip, detail: "AWS_PROFILE"},
	{id: "activation", name: "offline", subject: Subject{ActivationID: "x", Remote: aws{}, Offline: true},
		status: Skip, detail: "--offline"},
	{id: "activation", name: "good", subject: Subject{ActivationID: "x", Remote: aws{activation: &control.Activation{Limit: 3, Used: 1, Role: "r"}}},
		status: Pass, detail: "2 of 3 registrations left"},
	{id: "activation", name: "not there", subject: Subject{ActivationID: "x", Region: "eu-west-1", Cluster: "shop", Remote: aws{}},
		status: Fail, code: failure.ActivationInvalid, detail: "no activation x in eu-west-1", remedy: "create --cluster shop"},
	{id: "activation", name: "expired", subject: Subject{ActivationID: "x", Remote: aws{activation: &control.Activation{Limit: 1, Expired: true}}},
		status: Fail, code: failure.ActivationExpired, detail: "expired at", remedy: "anywhere activation create"},
	{id: "activation", name: "used up", subject: Subject{ActivationID: "x", Remote: aws{activation: &control.Activation{Limit: 1, Used: 1}}},
		status: Fail, code: failure.ActivationUsedUp, detail: "all 1 registrations", remedy: "anywhere activation create"},
	{id: "activation", name: "denied", subject: Subject{ActivationID: "x",
		Remote: aws{err: failure.New(failure.AccessDenied, "denied").WithRemedy("allow it")}},
		status: Warn, detail: "could not be asked: denied", remedy: "allow it"},

	{id: "cluster", name: "none", status: Skip, detail: "--cluster"},
	{id: "cluster", name: "no operator", subject: Subject{Cluster: "shop"}, status: Skip, detail: "AWS_PROFILE"},
	{id: "cluster", name: "there", subject: Subject{Cluster: "shop", Remote: aws{}}, status: Pass, detail: "shop is ACTIVE"},
	{id: "cluster", name: "not there", subject: Subject{Cluster: "arn:aws:ecs:eu-west-1:111122223333:cluster/shop",
		Remote: aws{cluster: failure.New(failure.ClusterNotFound, "shop is INACTIVE").WithRemedy("make it")}},
		status: Fail, code: failure.ClusterNotFound, detail: "INACTIVE", remedy: "make it"},
	{id: "cluster", name: "no answer", subject: Subject{Cluster: "shop", Remote: aws{err: failure.New(failure.Network, "nobody")}},
		status: Warn, detail: "could not be asked: nobody", remedy: "check DNS"},
}

// identityKey is the vault's file of a managed node, alone.
func identityKey(m *machine) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(ssmagent.KeyPath, fmt.Sprintf(`{"instanceID":%q,"region":"eu-central-1","privateKey":%q}`, nodeID,
		base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key))))
}

func user(m *machine)        { m.self.EUID = 1000 }
func updating(m *machine)    { m.manager.ListsBy = "pid 812 (apt-get)" }
func interrupted(m *machine) { m.manager.Interrupted = true }
func unfinished(packages ...host.UnfinishedPackage) func(*machine) {
	return func(m *machine) { m.manager.Interrupted, m.manager.Unfinished = true, packages }
}

func enforcing(m *machine)  { m.write("/sys/fs/selinux/enforce", "1") }
func apparmorOn(m *machine) { m.write("/sys/module/apparmor/parameters/enabled", "Y\n") }

func modulesReplaced(m *machine) {
	m.remove("/lib/modules")
	m.write("/lib/modules/6.1.0-31-amd64/modules.dep", "")
}

func nvidia(m *machine) {
	for _, path := range []string{
		"/proc/driver/nvidia/version", "/dev/nvidia0", "/usr/bin/nvidia-smi", "/usr/bin/nvidia-container-runtime-hook",
	} {
		m.write(path, "")
	}
}

func instanceOf(cluster string) string {
	return "arn:aws:ecs:eu-central-1:111122223333:container-instance/" + cluster + "/0123456789abcdef0123456789abcdef"
}

func cgroup1(m *machine) {
	m.remove("/sys/fs/cgroup")
	m.write("/sys/fs/cgroup/memory/tasks", "")
	m.write("/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t8\t92\t1\n")
}

func dockerGone(m *machine) {
	m.docker = nil
	m.remove("/usr/bin/dockerd")
	delete(m.units, "docker.service")
}

func dockerDown(m *machine) {
	m.docker = nil
	m.units["docker.service"] = host.Unit{Name: "docker.service", Loaded: true, Active: "failed", Result: "exit-code"}
}

// sharing is an SSM agent that maintains the default profile, which now holds a key with this id.
func sharing(m *machine, key string) {
	m.write(ssmagent.RuntimePath,
		`{"InstanceId":"`+nodeID+`","IdentityType":"OnPrem","ShareFile":"/root/.aws/credentials"}`)
	m.write(ssmagent.CredentialsPath,
		"[default]\naws_access_key_id = "+key+"\naws_secret_access_key = not-a-real-secret\naws_session_token = neither\n")
}

func TestChecks(t *testing.T) {
	seen := map[string]map[Status]bool{}
	for _, test := range cases {
		t.Run(test.id+"/"+test.name, func(t *testing.T) {
			m := newMachine(t)
			if test.change != nil {
				test.change(m)
			}
			r := m.check(test.id, test.subject)
			if r.Status != test.status {
				t.Fatalf("%s: %s (%s); want %s", r.Status, r.Detail, r.Remedy, test.status)
			}
			if !strings.Contains(r.Detail, test.detail) || r.Detail == "" {
				t.Errorf("the detail is %q; want %q in it", r.Detail, test.detail)
			}
			if !strings.Contains(r.Remedy, test.remedy) {
				t.Errorf("the remedy is %q; want %q in it", r.Remedy, test.remedy)
			}
			if wanted := r.Status == Fail || r.Status == Warn && r.ID != "os.container"; wanted == (r.Remedy == "") {
				t.Errorf("%s, and the remedy is %q", r.Status, r.Remedy)
			}
			if strings.Contains(r.Detail+r.Remedy, "not-a-real-secret") {
				t.Error("a secret is shown")
			}
			if test.code != "" && r.failure().Code != test.code {
				t.Errorf("reported as %s; want %s", r.failure().Code, test.code)
			}
		})
		if seen[test.id] == nil {
			seen[test.id] = map[Status]bool{}
		}
		seen[test.id][test.status] = true
	}
	for _, c := range All() {
		if !seen[c.ID][Pass] || c.ID != "apparmor" && !seen[c.ID][Fail] && !seen[c.ID][Warn] {
			t.Errorf("%s is not tested both ways", c.ID)
		}
	}
}

// A good machine gives evidence, and so does one on which everything is wrong.
func TestEvidence(t *testing.T) {
	want := map[string]string{
		"os.release": "versionId", "os.arch": "arch", "disk.space": "/usr", "cgroup.version": "mode", "cgroup.memory": "file",
		"cgroup.driver": "driver", "selinux.mode": "mode", "docker.presence": "flavour", "docker.flavour": "flavour",
		"docker.daemon": "version", "docker.version": "api", "packages.manager": "family", "credentials.chain": "order",
		"existing.ecs": "problems", "os.pending-reboot": "packages", "memory": "totalMiB",
	}
	for _, r := range Run(t.Context(), All(), Subject{Host: newMachine(t).reader()}, Options{}) {
		if r.Evidence == nil {
			t.Errorf("%s has no object as evidence", r.ID)
		}
		if key := want[r.ID]; key != "" && r.Evidence[key] == nil {
			t.Errorf("%s: evidence %v has no %s", r.ID, r.Evidence, key)
		}
	}
}

// What needs root is skipped without it, with the reason; nothing fails for the lack of it.
func TestWithoutRoot(t *testing.T) {
	m := newMachine(t)
	user(m)
	for _, c := range All() {
		r := m.check(c.ID, Subject{})
		if c.Root != (r.Status == Skip && r.Detail == "needs root") || r.Status == Fail {
			t.Errorf("%s: %s, %s", c.ID, r.Status, r.Detail)
		}
	}
}

// The daemon is asked once, whichever checks want to know about it.
func TestDockerIsAskedOnce(t *testing.T) {
	m := newMachine(t)
	asked := 0 // one after the other: no lock is needed
	m.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		asked++
		return m.daemon(ctx, network, address)
	}
	Run(t.Context(), All(), Subject{Host: m.reader()}, Options{})
	if asked != 2 { // /version and /info
		t.Errorf("Docker was asked %d times", asked)
	}
}
