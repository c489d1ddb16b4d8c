package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

func kernelChecks() []Check {
	return []Check{
		{ID: "cgroup.version", Title: "Control groups", Run: cgroupVersion},
		{ID: "cgroup.memory", Title: "Memory control group", Run: cgroupMemory},
		{ID: "cgroup.driver", Title: "Docker's cgroup driver", Root: true, Run: cgroupDriver},
		{ID: "selinux.mode", Title: "SELinux", Docs: ecsAnywhereDocs, Run: selinuxMode},
		{ID: "apparmor", Title: "AppArmor", Run: apparmor},
	}
}

// Versions of the ECS agent from which on it works with unified control groups, and with them under AppArmor. Source:
// aws/amazon-ecs-agent CHANGELOG.md (1.61.0 of 2022-04-05; 1.80.0 of 2024-01-09), read 2026-11-22.
const (
	agentForCgroup2  = "1.61.0"
	agentForAppArmor = "1.80.0"
)

func cgroupVersion(_ context.Context, s Subject) Result {
	agent, err := s.ecsAgent()
	if err != nil {
		return broken(err)
	}
	switch mode := s.Host.Kernel.Cgroup(); mode {
	case host.CgroupV2:
		r := pass("v2 (needs ECS agent %s or newer)", agentForCgroup2)
		if agent.before(agentForCgroup2) {
			r = warn(fmt.Sprintf("v2, which %s does not know: tasks do not start (it needs %s)", agent.name(), agentForCgroup2),
				newerAgent(agentForCgroup2))
		}
		return r.with("mode", mode).with("agentVersion", agent.Version).with("agentFloor", agentForCgroup2)
	case host.CgroupV1, host.CgroupHybrid:
		return pass("%s", mode).with("mode", mode)
	}
	return fail("", "no control groups are mounted at /sys/fs/cgroup",
		"mount /sys/fs/cgroup, as systemd does at boot, then run the command again")
}

// cgroupMemory looks where the kernel lists the controllers it has on: cgroups(7).
func cgroupMemory(_ context.Context, s Subject) Result {
	path, on := "/proc/cgroups", func(line string) bool { // name, hierarchy, number of groups, enabled
		f := strings.Fields(line)
		return len(f) == 4 && f[0] == "memory" && f[3] == "1"
	}
	switch s.Host.Kernel.Cgroup() {
	case host.CgroupUnknown:
		return skip("no control groups are mounted")
	case host.CgroupV2:
		path, on = "/sys/fs/cgroup/cgroup.controllers", func(line string) bool {
			return slices.Contains(strings.Fields(line), "memory")
		}
	case host.CgroupV1, host.CgroupHybrid:
	}
	text, err := s.Host.Files.ReadFile(path)
	if err != nil {
		return broken(err)
	}
	for line := range strings.Lines(string(text)) {
		if on(line) {
			return pass("on").with("file", path)
		}
	}
	return warn("the memory controller is off: tasks with memory limits fail",
		"add cgroup_enable=memory cgroup_memory=1 to the kernel's command line "+
			"(Raspberry Pi: /boot/firmware/cmdline.txt) and reboot").with("file", path)
}

func cgroupDriver(_ context.Context, s Subject) Result {
	info, err := s.docker()
	if err != nil {
		return broken(err)
	}
	if !info.Running {
		return skip("Docker does not run")
	}
	wanted := "cgroupfs"
	if s.Host.Kernel.Cgroup() == host.CgroupV2 {
		wanted = "systemd"
	}
	r := pass("%s", info.CgroupDriver)
	if info.CgroupDriver != wanted {
		r = warn(fmt.Sprintf("Docker uses %s and the ECS agent makes task groups for %s here: limits of tasks fail",
			info.CgroupDriver, wanted),
			fmt.Sprintf(`set "exec-opts": ["native.cgroupdriver=%s"] in /etc/docker/daemon.json, then systemctl restart docker`,
				wanted))
	}
	return r.with("driver", info.CgroupDriver).with("wanted", wanted)
}

func selinuxMode(_ context.Context, s Subject) Result {
	mode := s.Host.Kernel.SELinux()
	if mode != "enforcing" {
		return pass("%s", mode).with("mode", mode)
	}
	if info, err := s.docker(); err == nil && info.SELinux {
		return fail("", "SELinux is enforcing and Docker labels containers: the ECS agent cannot reach Docker's socket",
			`set "selinux-enabled": false in /etc/docker/daemon.json, then systemctl restart docker`).with("mode", mode)
	}
	return warn("enforcing; AWS does not support external instances with SELinux",
		"setenforce 0, and SELINUX=permissive in /etc/selinux/config to keep it so").with("mode", mode)
}

func apparmor(_ context.Context, s Subject) Result {
	if !s.Host.Kernel.AppArmor() {
		return pass("off")
	}
	if s.Host.Kernel.Cgroup() != host.CgroupV2 {
		return pass("on")
	}
	agent, err := s.ecsAgent()
	if err != nil {
		return broken(err)
	}
	r := pass("on (with control groups v2 it needs ECS agent %s or newer)", agentForAppArmor)
	if agent.before(agentForAppArmor) {
		r = warn(fmt.Sprintf("on, with control groups v2: tasks of %s fail "+
			"(cgroupv2 create: unable to create v2 manager; it needs %s)", agent.name(), agentForAppArmor), newerAgent(agentForAppArmor))
	}
	return r.with("agentVersion", agent.Version).with("agentFloor", agentForAppArmor)
}
