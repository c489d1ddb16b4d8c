package preflight

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// said is what one check says of a host: its status, a part of what was seen, a part of what to type.
type said struct {
	id             string
	status         Status
	detail, remedy string
}

// brokenUnits is a host on which no systemd answers.
func brokenUnits(m *machine) {
	m.systemd = failure.New(failure.NoSystemd, "systemd does not run").WithRemedy("boot with systemd")
}

func dockerIs(m *machine, version, newest, oldest string) {
	m.docker["/version"] = fmt.Sprintf(`{"Version":%q,"ApiVersion":%q,"MinAPIVersion":%q,"Components":[{"Name":"Engine"}]}`,
		version, newest, oldest)
}

// snapPackage is the SSM agent as Ubuntu's cloud images bring it.
func snapPackage(m *machine) {
	m.runs(ssmagent.SnapUnit)
	m.write("/snap/amazon-ssm-agent/11797/amazon-ssm-agent", "")
	m.write("/snap/amazon-ssm-agent/11797/meta/snap.yaml", "name: amazon-ssm-agent\nversion: 3.3.2299.0\n")
	m.link("/snap/amazon-ssm-agent/current", "11797")
}

// external is the configuration of an instance that works, in the given cluster.
func external(cluster string) string {
	return "ECS_CLUSTER=" + cluster + "\nAWS_DEFAULT_REGION=eu-central-1\nECS_EXTERNAL=true\nAWS_EC2_METADATA_DISABLED=true\n"
}

// instance makes the host one that AWS's script or anywhere has set up, and that works.
func instance(m *machine, cluster string) {
	m.managedNode(nodeID)
	m.install(ecsagent.Package, "1.105.1-1")
	m.runs(ecsagent.Unit)
	m.write(ecsagent.ConfigPath, external(cluster))
	m.write(ecsagent.StateDB, "bolt\x00"+instanceOf(cluster))
}

// oddHosts are machines that are not quite right, and all that is said of each: every check that is not named passes, or is
// skipped. Rows that say nothing are oddities that do no harm, with the reason.
var oddHosts = []struct {
	name    string
	subject Subject
	online  bool              // its network is looked at too
	env     map[string]string // of this process
	change  func(*machine)
	said    []said
}{
	// Hosts of which nothing is to be said.
	{name: "a new Debian 12 with Docker", change: func(*machine) {}},
	{name: "an instance that works", change: func(m *machine) { instance(m, "shop") }},
	{name: "no HOME, German, umask 077, /tmp noexec", // none of these reaches a child or a file: environments are allow-lists
		env: map[string]string{"HOME": "", "LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"},
		change: func(m *machine) { // with LANG=C.UTF-8, modes are given with each write, and nothing is run from /tmp
			m.write("/etc/default/locale", "LANG=de_DE.UTF-8\n")
			m.write("/etc/login.defs", "UMASK 077\n")
			m.write("/proc/mounts", "tmpfs /tmp tmpfs rw,nosuid,nodev,noexec 0 0\n")
		}},
	{name: "a shell full of credentials", // the agents never see it
		env: map[string]string{"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
			"AWS_PROFILE": "mine", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"},
		change: func(*machine) {}},
	{name: "settings in comments, and duplicate lines", // the last line wins in both parsers; odd variable names are read by nobody
		change: func(m *machine) {
			m.write(ecsagent.ConfigPath, "# ECS_CLUSTER=old\nECS_CLUSTER=web\n"+external("shop"))
		}},
	{name: "held, as it should be", // what is installed stays
		change: func(m *machine) {
			instance(m, "shop")
			m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Version: "1.105.1-1", Installed: true, Held: true}
		}},
	{name: "AppArmor on, and a new agent", change: apparmorOn}, // 1.80.0 and newer bring their own profile
	{name: "control groups v1 with cgroupfs", change: func(m *machine) {
		cgroup1(m)
		m.answers("/info", `"systemd"`, `"cgroupfs"`)
	}},
	{name: "a GPU that nobody asks for", change: nvidia},

	// Credentials.
	{name: "a person's default profile", change: func(m *machine) { m.write(ssmagent.CredentialsPath, longTermKey) },
		said: []said{{"credentials.chain", Fail, "long-term key ****MPLE; the SSM agent would overwrite it", "--ssm-profile ecs-anywhere"}}},
	{name: "a person's default profile, and one for the agents", subject: Subject{Profile: "ecs"},
		change: func(m *machine) { m.write(ssmagent.CredentialsPath, longTermKey) }},
	{name: "a person's default profile by single sign-on",
		change: func(m *machine) {
			m.write(ssmagent.CredentialsPath, "[default]\nsso_session = work\nsso_account_id = 111122223333\n")
		},
		said: []said{{"credentials.chain", Fail, "gets credentials by sso_session, sso_account_id", "--ssm-profile"}}},
	{name: "credentials that nobody can parse", change: func(m *machine) { m.write(ssmagent.CredentialsPath, "[default\n<<<<<<< HEAD\n") },
		said: []said{{"credentials.chain", Fail, "cannot be parsed; the SSM agent would replace all of it", "correct /root/.aws/credentials"}}},
	{name: "the node's keys are open to all", change: func(m *machine) {
		instance(m, "shop")
		m.mode(ssmagent.CredentialsPath, 0o644)
	}, said: []said{{"credentials.chain", Warn, "mode is 0644", "chmod 0600 /root/.aws/credentials"}}},
	{name: "keys in ecs.config",
		change: func(m *machine) {
			m.write(ecsagent.ConfigPath, external("shop")+"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=not-a-real-secret\n")
		},
		said: []said{{"credentials.chain", Fail, "AWS_ACCESS_KEY_ID in the ECS agent's configuration would win", "sed -i"}}},
	{name: "the SSM agent writes to another home", change: func(m *machine) {
		m.write("/etc/systemd/system/amazon-ssm-agent.service.d/override.conf", "[Service]\nEnvironment=\"HOME=/home/admin\"\n")
	}, said: []said{{"credentials.chain", Fail, "/home/admin/.aws/credentials, where the ECS agent does not look", "override.conf"}}},

	// The managed node.
	{name: "half registered: the code was refused", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ssmagent.KeyPath, fmt.Sprintf(`{"instanceID":"","region":"","privateKey":%q}`, privateKey()))
	}, said: []said{{"existing.ssm", Warn, "blanked, as a failed registration leaves it; the host was registered as " + nodeID,
		"anywhere register --token -"}}},
	{name: "a registration key without its side file", change: func(m *machine) {
		instance(m, "shop")
		m.remove(ssmagent.RegistrationPath)
	}, said: []said{{"existing.ssm", Warn, "registration is missing", "printf"}}},
	{name: "a side file without its registration key", change: func(m *machine) {
		m.write(ssmagent.RegistrationPath, `{"ManagedInstanceID":"`+nodeID+`","Region":"eu-central-1"}`)
	}, said: []said{{"existing.ssm", Warn, "RegistrationKey is missing; the host was registered as " + nodeID, "from a backup"}}},
	{name: "a vault that lost its manifest", change: func(m *machine) {
		m.managedNode(nodeID)
		m.write(ssmagent.ManifestPath, "{}")
	}, said: []said{{"existing.ssm", Warn, "the agent does not see it", "anywhere register"}}},
	{name: "three ids that disagree", change: func(m *machine) {
		instance(m, "shop")
		m.write(ssmagent.RegistrationPath, `{"ManagedInstanceID":"mi-11111111111111111","Region":"eu-central-1"}`)
		m.write(ssmagent.RuntimePath, `{"InstanceId":"mi-22222222222222222","IdentityType":"OnPrem","ShareFile":"/root/.aws/credentials"}`)
	}, said: []said{{"existing.ssm", Warn, "the running agent last worked as mi-22222222222222222", "systemctl restart amazon-ssm-agent.service"}}},
	{name: "Ubuntu's snap of the SSM agent", change: snapPackage,
		said: []said{{"existing.ssm", Pass, "the snap amazon-ssm-agent 3.3.2299.0 is installed, and is used", ""}}},
	{name: "Ubuntu's snap of the SSM agent, registered", change: func(m *machine) {
		instance(m, "shop")
		snapPackage(m)
		delete(m.packages, ssmagent.Package)
		m.units[ssmagent.UnitName] = host.Unit{Name: ssmagent.UnitName}
		m.units[ssmagent.SnapUnit] = host.Unit{Name: ssmagent.SnapUnit, Loaded: true, Active: "active", Sub: "running", Restarts: 7,
			ActiveSince: checkTime.Add(-time.Minute)}
	}, said: []said{{"existing.ssm", Warn, "7 restarts", "journalctl -u snap.amazon-ssm-agent.amazon-ssm-agent.service"}}},
	{name: "Ubuntu's snap of the SSM agent, disabled", change: func(m *machine) {
		snapPackage(m)
		m.remove("/snap/amazon-ssm-agent/current")
		m.units[ssmagent.SnapUnit] = host.Unit{Name: ssmagent.SnapUnit}
	}, said: []said{{"existing.ssm", Fail, "snap is disabled", "snap enable amazon-ssm-agent"}}},
	{name: "Ubuntu's snap of the SSM agent, without its files", change: func(m *machine) {
		snapPackage(m)
		m.remove("/snap/amazon-ssm-agent/11797")
	}, said: []said{{"existing.ssm", Fail, "snap is broken", "snap install --classic amazon-ssm-agent"}}},
	{name: "the SSM agent as deb and as snap", change: func(m *machine) {
		instance(m, "shop")
		m.install(ssmagent.Package, "3.3.4108.0-1")
		snapPackage(m)
	}, said: []said{{"existing.ssm", Fail, "there twice, as a snap and as the package", "snap remove amazon-ssm-agent"}}},
	{name: "an SSM configuration with a comma too many",
		change: func(m *machine) { m.write(ssmagent.ConfigPath, `{"Ssm":{"Endpoint":""},}`) },
		said:   []said{{"existing.ssm", Fail, "amazon-ssm-agent.json cannot be understood", "correct the file, or move it away"}}},

	// The ECS agent.
	{name: "the ECS agent's state is of another cluster", change: func(m *machine) {
		instance(m, "web")
		m.write(ecsagent.ConfigPath, external("shop"))
	}, said: []said{{"existing.ecs", Fail, "is of cluster web", "write ECS_CLUSTER=web in /etc/ecs/ecs.config"}}},
	{name: "ECS_EXTERNAL in quotes, on a host with state", change: func(m *machine) {
		instance(m, "shop")
		m.write(ecsagent.ConfigPath, strings.Replace(external("shop"), "=true", `="true"`, 1))
	}, said: []said{{"existing.ecs", Fail, "ECS_EXTERNAL in line 3 of /etc/ecs/ecs.config has a quoted value", "take the quotes away"}}},
	{name: "blanks round an equals sign", change: func(m *machine) { m.write(ecsagent.ConfigPath, "ECS_CLUSTER = shop\n") },
		said: []said{{"existing.ecs", Fail, "a blank in front of the equals sign", "write ECS_CLUSTER=VALUE"}}},
	{name: "an export that nobody understands", change: func(m *machine) { m.write(ecsagent.ConfigPath, "export ECS_LOGLEVEL=debug\n") },
		said: []said{{"existing.ecs", Warn, "has an export", "write ECS_LOGLEVEL=VALUE"}}},
	{name: "a file from Windows, with its byte order mark", change: func(m *machine) {
		m.write(ecsagent.ConfigPath, "\ufeff"+strings.ReplaceAll(external("shop"), "\n", "\r\n"))
	}, said: []said{{"existing.ecs", Fail, "byte order mark", "save the file as UTF-8"}}},
	{name: "a JSON configuration that is none", change: func(m *machine) { m.write(ecsagent.JSONConfigPath, `{"Cluster":"shop"`) },
		said: []said{{"existing.ecs", Fail, "/etc/ecs/ecs.config.json is not a JSON object", "move it away"}}},
	{name: "ECS Exec's files cut short", change: func(m *machine) {
		m.write(ecsagent.ExecBundle, "certificates")
		m.write(ecsagent.ExecDir+"/bin/3.3.4108.0/amazon-ssm-agent", "")
	}, said: []said{{"existing.ecs", Warn, "incomplete (3.3.4108.0)", "anywhere register completes them"}}},
	{name: "the ECS agent ended for good", change: func(m *machine) {
		instance(m, "shop")
		m.units[ecsagent.Unit] = host.Unit{Name: ecsagent.Unit, Loaded: true, Active: "failed", Result: "exit-code", ExitStatus: 5,
			ActiveSince: checkTime.Add(-time.Hour)}
	}, said: []said{{"existing.ecs", Warn, "ecs.service failed (exit-code, exit status 5)", "journalctl -u ecs.service"}}},
	{name: "an ECS agent of 2021", change: func(m *machine) {
		instance(m, "shop")
		m.install(ecsagent.Package, "1.60.1-1")
		apparmorOn(m)
	}, said: []said{
		{"cgroup.version", Warn, "ECS agent 1.60.1-1 does not know", "1.61.0 or newer"},
		{"apparmor", Warn, "tasks of ECS agent 1.60.1-1 fail", "1.80.0 or newer"},
		{"docker.version", Fail, "install ECS agent 1.81.0 or newer", "1.81.0 or newer"},
	}},
	{name: "Amazon Linux's package of the ECS agent", change: func(m *machine) { m.install(ecsagent.AmazonLinuxPackage, "1.105.1-1.amzn2023") },
		said: []said{{"existing.ecs", Fail, "cannot stand beside each other", "yum remove ecs-init"}}},

	// The package manager.
	{name: "dpkg was interrupted", change: func(m *machine) { m.manager.Interrupted = true },
		said: []said{{"packages.manager", Fail, "must be repaired first", "dpkg --configure -a"}}},
	{name: "unattended-upgrades hold the lock", change: func(m *machine) { m.manager.LockedBy = "pid 812 (unattended-upgr)" },
		said: []said{{"packages.manager", Fail, "locked by pid 812 (unattended-upgr)", "automatic updates"}}},
	{name: "somebody's apt holds the lock", change: func(m *machine) { m.manager.LockedBy = "pid 4711 (apt)" },
		said: []said{{"packages.manager", Fail, "locked by pid 4711 (apt)", "wait until it has finished"}}},
	{name: "held, and a newer one is asked for", subject: Subject{ECSAgent: "1.105.1"}, change: func(m *machine) {
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Version: "1.104.0-1", Installed: true, Held: true}
	}, said: []said{{"packages.manager", Warn, "held at 1.104.0-1", "apt-mark unhold amazon-ecs-init"}}},
	{name: "held, and not there", change: func(m *machine) {
		m.packages[ssmagent.Package] = host.Package{Name: ssmagent.Package, Held: true}
	}, said: []said{{"packages.manager", Fail, "amazon-ssm-agent is held and not installed", "apt-mark unhold amazon-ssm-agent"}}},
	{name: "dpkg's database cannot be read", change: func(m *machine) {
		m.broken = failure.Wrap(failure.PackagesBroken, errors.New("input/output error"), "cannot read dpkg's database")
	}, said: []said{ // who needs a package's version cannot go on either
		{"packages.manager", Fail, "cannot read dpkg's database", "dpkg --configure -a"},
		{"cgroup.version", Fail, "dpkg's database", ""}, {"docker.version", Fail, "dpkg's database", ""},
		{"credentials.chain", Fail, "dpkg's database", ""}, {"existing.ssm", Fail, "dpkg's database", ""},
		{"existing.ecs", Fail, "dpkg's database", ""},
	}},

	// Docker.
	{name: "no Docker", change: dockerGone, said: []said{{"docker.presence", Warn, "not installed", "anywhere register installs it"}}},
	{name: "Docker is down", change: dockerDown,
		said: []said{{"docker.daemon", Fail, "docker.service failed (exit-code)", "systemctl start docker"}}},
	{name: "podman-docker", change: func(m *machine) {
		dockerGone(m)
		m.write("/usr/share/doc/podman-docker/copyright", "")
	}, said: []said{{"docker.flavour", Fail, "podman stands in for Docker", "apt-get remove podman-docker"}}},
	{name: "podman-docker without documents", change: func(m *machine) {
		dockerGone(m)
		m.write("/usr/bin/docker", "#!/usr/bin/sh\nexec /usr/bin/podman \"$@\"\n")
	}, said: []said{{"docker.flavour", Fail, "podman stands in for Docker", "apt-get remove podman-docker"}}},
	{name: "Docker as a snap", change: func(m *machine) {
		dockerGone(m)
		m.write("/snap/bin/docker", "")
	}, said: []said{{"docker.flavour", Fail, "Docker is a snap", "snap remove docker"}}},
	{name: "Docker rootless, the system's switched off", change: func(m *machine) {
		m.docker = nil
		m.units["docker.service"] = host.Unit{Name: "docker.service", Loaded: true, Active: "inactive", Enabled: "disabled"}
		m.write("/run/user/1000/docker.sock", "")
	}, said: []said{{"docker.flavour", Fail, "Docker runs rootless", "systemctl enable --now docker"}}},
	{name: "Docker of 2015", change: func(m *machine) { dockerIs(m, "1.8.3", "1.20", "") },
		said: []said{{"docker.version", Fail, "Docker 1.8.3 speaks the API up to 1.20", "docs.docker.com"}}},
	{name: "a Docker that is too new", change: func(m *machine) { dockerIs(m, "31.0.0", "1.60", "1.48") },
		said: []said{{"docker.version", Fail, "Docker 31.0.0 no longer speaks an API older than 1.48", "docs.docker.com"}}},
	{name: "Docker 29, the newest that fits", change: func(m *machine) { dockerIs(m, "29.0.0", "1.52", "1.44") }},
	{name: "Docker 25 and an agent before it", change: func(m *machine) {
		dockerIs(m, "25.0.0", "1.44", "1.24")
		m.install(ecsagent.Package, "1.80.0-1")
		m.write(ecsagent.ConfigPath, "AWS_EC2_METADATA_DISABLED=true\n")
	}, said: []said{{"docker.version", Fail, "install ECS agent 1.81.0 or newer", "1.81.0 or newer"}}},
	{name: "the wrong cgroup driver", change: func(m *machine) { m.answers("/info", `"systemd"`, `"cgroupfs"`) },
		said: []said{{"cgroup.driver", Warn, "Docker uses cgroupfs", "native.cgroupdriver=systemd"}}},

	// The kernel and the machine.
	{name: "SELinux enforcing", change: enforcing,
		said: []said{{"selinux.mode", Warn, "AWS does not support external instances with SELinux", "setenforce 0"}}},
	{name: "SELinux enforcing, and Docker labels containers", change: func(m *machine) {
		enforcing(m)
		m.answers("/info", `"Driver"`, `"SecurityOptions":["name=selinux"],"Driver"`)
	}, said: []said{{"selinux.mode", Fail, "cannot reach Docker's socket", `"selinux-enabled": false`}}},
	{name: "no memory control group", change: func(m *machine) { m.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n") },
		said: []said{{"cgroup.memory", Warn, "the memory controller is off", "cgroup_enable=memory"}}},
	{name: "no control groups at all", change: func(m *machine) { m.remove("/sys") },
		said: []said{
			{"cgroup.version", Fail, "no control groups are mounted", "mount /sys/fs/cgroup"},
			{"cgroup.driver", Warn, "Docker uses systemd", "native.cgroupdriver=cgroupfs"},
		}},
	{name: "a reboot is pending", change: func(m *machine) {
		m.write("/run/reboot-required", "")
		m.write("/run/reboot-required.pkgs", "linux-image-6.1.0-31-amd64\n")
	}, said: []said{{"os.pending-reboot", Warn, "for linux-image-6.1.0-31-amd64", "systemctl reboot"}}},
	{name: "the running kernel was removed", change: modulesReplaced,
		said: []said{{"os.pending-reboot", Warn, "the modules of the running kernel 6.1.0-30-amd64 are gone", "systemctl reboot"}}},
	{name: "a tiny machine", change: func(m *machine) { m.memory(240, 180) },
		said: []said{{"memory", Warn, "240 MiB is less than the 256", "more memory"}}},
	{name: "all memory is reserved", change: func(m *machine) { m.write(ecsagent.ConfigPath, external("shop")+"ECS_RESERVED_MEMORY=8192\n") },
		said: []said{{"memory", Fail, "ECS_RESERVED_MEMORY=8192 (/etc/ecs/ecs.config) is more than the 4096 MiB", "smaller ECS_RESERVED_MEMORY"}}},
	{name: "GPUs without a driver", subject: Subject{GPU: true}, change: func(*machine) {},
		said: []said{{"gpu", Fail, "driver is not loaded", "apt-get install nvidia-driver"}}},
	{name: "GPUs without the container toolkit", change: func(m *machine) {
		nvidia(m)
		m.remove("/usr/bin/nvidia-container-runtime-hook")
		m.write(ecsagent.ConfigPath, external("shop")+"ECS_ENABLE_GPU_SUPPORT=true\n")
	}, said: []said{{"gpu", Fail, "Docker cannot give GPUs to containers", "nvidia-container-toolkit"}}},
	{name: "/var/lib is full", change: func(m *machine) { m.free[""] = 40 << 20 },
		said: []said{{"disk.space", Fail, "40 MiB are free", "free space there"}}},

	// The system.
	{name: "no machine-id", change: func(m *machine) { m.remove("/etc/machine-id") },
		said: []said{{"os.machine-id", Fail, "no /etc/machine-id", "systemd-machine-id-setup"}}},
	{name: "an image before its first boot", change: func(m *machine) { m.write("/etc/machine-id", "uninitialized\n") },
		said: []said{{"os.machine-id", Fail, "/etc/machine-id is empty", "systemd-machine-id-setup"}}},
	{name: "a container with its own systemd", change: func(m *machine) { m.write("/run/systemd/container", "lxc\n") },
		said: []said{{"os.container", Warn, "lxc container with its own systemd", ""}}},
	{name: "a container that holds one program", change: func(m *machine) {
		m.write("/.dockerenv", "")
		brokenUnits(m)
	}, said: []said{
		{"os.container", Fail, "docker container, not a host", "on the host itself"},
		{"os.systemd", Fail, "systemd does not run", "boot with systemd"},
	}},
	{name: "Windows' Subsystem for Linux", change: func(m *machine) {
		m.write("/proc/sys/kernel/osrelease", "5.15.167.4-microsoft-standard-WSL2\n")
		m.remove("/lib/modules") // Windows has them
	}, said: []said{{"os.container", Warn, "Windows' Subsystem for Linux, which Windows ends", "virtual machine"}}},
	{name: "Windows' Subsystem for Linux without systemd", change: func(m *machine) {
		m.write("/proc/sys/kernel/osrelease", "4.4.0-19041-Microsoft\n")
		m.remove("/lib/modules")
		brokenUnits(m)
	}, said: []said{
		{"os.container", Fail, "without systemd", "systemd=true in /etc/wsl.conf"},
		{"os.systemd", Fail, "systemd does not run", "boot with systemd"},
	}},
	{name: "a root that is read-only", change: func(m *machine) { m.readOnly = "/" },
		said: []said{{"disk.space", Fail, "read-only", "mount -o remount,rw /"}}},
	{name: "SELinux permissive", change: func(m *machine) { m.write("/sys/fs/selinux/enforce", "0") }},
	{name: "SELinux permissive, and Docker labels containers", change: func(m *machine) { // only told, never enforced
		m.write("/sys/fs/selinux/enforce", "0")
		m.answers("/info", `"Driver"`, `"SecurityOptions":["name=selinux"],"Driver"`)
	}},
	{name: "AppArmor, and an agent at the floor", change: func(m *machine) {
		m.install(ecsagent.Package, "1.105.1-1")
		m.write(ecsagent.ConfigPath, "AWS_EC2_METADATA_DISABLED=true\n")
		apparmorOn(m)
	}},
	{name: "32 bits", change: func(m *machine) { m.self.GOARCH = "386" }, said: []said{{"os.arch", Fail, "386 is not an architecture", "64-bit"}}},
	{name: "an unknown system", change: func(m *machine) { osReleaseOf(m, "plan9", "4", "Plan 9") },
		said: []said{{"os.release", Fail, "Plan 9 4 is not a system that anywhere knows", "anywhere platforms"}}},
	{name: "a system that is too old", change: func(m *machine) { osReleaseOf(m, "debian", "8", "Debian GNU/Linux") },
		said: []said{{"os.release", Fail, "older than any system", "anywhere platforms"}}},
	{name: "Debian testing", change: func(m *machine) { // no VERSION_ID
		m.write("/etc/os-release", "ID=debian\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux forky/sid\"\n")
	}, said: []said{{"os.release", Warn, "Debian GNU/Linux forky/sid is not on AWS's list", "anywhere platforms"}}},
	{name: "an EC2 instance", online: true, change: online(func(_ *machine, w *web) { w.hosts[metadataAddress] = w.plain(imds(2)) }),
		said: []said{{"metadata.endpoint", Warn, "EC2 instance i-0a1b2c3d4e5f60718", "AWS_EC2_METADATA_DISABLED"}}},
	{name: "a firewall that answers 404 in EC2's place", online: true, change: online(func(_ *machine, w *web) {
		w.hosts[metadataAddress] = w.plain(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNotFound) })
	}), said: []said{{"metadata.endpoint", Warn, "HTTP 404", "blackhole 169.254.169.254"}}},
	{name: "a copy of a registered machine, with a machine-id of its own", change: func(m *machine) { m.registered(otherMachine) },
		said: []said{{"existing.clone", Fail, "machine-id " + otherMachine, "anywhere register --token - --accept-risk replace-identity"}}},
	{name: "a user without root", change: user,
		said: []said{{"privileges", Warn, "what needs root is skipped", "sudo anywhere preflight"}}},
}

func TestHostsThatAreNotQuiteRight(t *testing.T) {
	if len(oddHosts) < 40 {
		t.Errorf("only %d hosts", len(oddHosts))
	}
	names := map[string]bool{}
	for _, h := range oddHosts {
		if names[h.name] {
			t.Errorf("%s stands twice", h.name)
		}
		names[h.name] = true
		t.Run(h.name, func(t *testing.T) {
			for name, value := range h.env {
				t.Setenv(name, value)
			}
			m := newMachine(t)
			h.change(m)
			want := map[string]said{}
			for _, s := range h.said {
				want[s.id] = s
			}
			s := h.subject
			s.Host, s.Offline = m.reader(), !h.online
			for _, r := range Run(t.Context(), All(), s, Options{}) {
				w, named := want[r.ID]
				delete(want, r.ID)
				switch {
				case !named && r.Status != Pass && r.Status != Skip:
					t.Errorf("%s complains too: %s (%s; %s)", r.ID, r.Status, r.Detail, r.Remedy)
				case named && (r.Status != w.status || !strings.Contains(r.Detail, w.detail) || !strings.Contains(r.Remedy, w.remedy)):
					t.Errorf("%s: %s (%s; %s)\nwant %+v", r.ID, r.Status, r.Detail, r.Remedy, w)
				case strings.Contains(r.Detail+r.Remedy+r.facts(), "not-a-real-secret"):
					t.Errorf("%s shows a secret", r.ID)
				}
			}
			for id := range want {
				t.Errorf("there is no check %s", id)
			}
		})
	}
}
