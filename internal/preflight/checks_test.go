package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

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

const longTermKey = "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = not-a-real-secret\n"

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
	{id: "os.release", name: "not built yet",
		change: func(m *machine) { osReleaseOf(m, "amzn", "2023", "Amazon Linux") },
		status: Fail, code: failure.NotBuilt, detail: "yet", remedy: "anywhere platforms"},
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

	{id: "cgroup.version", name: "v2", status: Pass, detail: "v2 (needs ECS agent 1.61.0"},
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
	{id: "apparmor", name: "on with cgroup v1",
		change: func(m *machine) { cgroup1(m); apparmorOn(m) }, status: Pass, detail: "on"},

	{id: "docker.presence", name: "there", status: Pass, detail: "docker"},
	{id: "docker.presence", name: "absent", change: dockerGone,
		status: Fail, code: failure.DockerAbsent, detail: "not installed", remedy: "apt-get install docker.io"},
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
	{id: "docker.daemon", name: "answers", status: Pass, detail: "27.3.1"},
	{id: "docker.daemon", name: "absent", change: dockerGone, status: Skip},
	{id: "docker.daemon", name: "failed", change: dockerDown,
		status: Fail, code: failure.DockerDown, detail: "docker.service failed (exit-code)",
		remedy: "systemctl start docker"},
	{id: "docker.version", name: "fits", status: Pass, detail: "1.24 to 1.47"},
	{id: "docker.version", name: "down", change: dockerDown, status: Skip},
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
	{id: "packages.manager", name: "interrupted by ourselves", subject: Subject{Resuming: true},
		change: interrupted, status: Pass},
	{id: "packages.manager", name: "held", change: func(m *machine) {
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Held: true}
	}, status: Fail, code: failure.PackageHeld, detail: ecsagent.Package, remedy: "apt-mark unhold amazon-ecs-init"},
	{id: "packages.manager", name: "held as it is", change: func(m *machine) {
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Held: true, Installed: true, Version: "1.105.1-1"}
	}, status: Pass},
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
	}, status: Warn, detail: "its mode is 0644", remedy: "chmod 0600 /root/.aws/credentials"},
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

	{id: "existing.ssm", name: "none", status: Pass, detail: "none"},
	{id: "existing.ssm", name: "snap", change: func(m *machine) {
		m.units[ssmagent.SnapUnit] = host.Unit{Name: ssmagent.SnapUnit, Loaded: true}
	}, status: Fail, code: failure.PreflightFailed, detail: "snap", remedy: "snap remove amazon-ssm-agent"},
	{id: "existing.ssm", name: "lost", change: func(m *machine) {
		m.write(ssmagent.RegistrationPath, `{"ManagedInstanceID":"`+nodeID+`","Region":"eu-central-1"}`)
	}, status: Warn, detail: nodeID, remedy: "anywhere register --token -"},

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
	{id: "existing.ecs", name: "ECS Exec cut short", change: func(m *machine) {
		m.write(ecsagent.ExecBundle, "certificates")
		m.write(ecsagent.ExecDir+"/bin/3.3.4108.0/amazon-ssm-agent", "")
	}, status: Warn, detail: "3.3.4108.0", remedy: "anywhere register"},
}

func user(m *machine)        { m.self.EUID = 1000 }
func interrupted(m *machine) { m.manager.Interrupted = true }
func enforcing(m *machine)   { m.write("/sys/fs/selinux/enforce", "1") }
func apparmorOn(m *machine)  { m.write("/sys/module/apparmor/parameters/enabled", "Y\n") }

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
		"existing.ecs": "problems",
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
