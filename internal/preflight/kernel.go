package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/docker"
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
	switch mode := s.Host.Kernel.Cgroup(); mode {
	case host.CgroupV2:
		return pass("v2 (needs ECS agent %s or newer)", agentForCgroup2)
	case host.CgroupV1, host.CgroupHybrid:
		return pass("%s", mode)
	}
	return fail("", "no control groups are mounted at /sys/fs/cgroup", "boot with systemd managing the control groups")
}

func cgroupMemory(_ context.Context, s Subject) Result {
	const off = "the memory controller is off: tasks with memory limits fail"
	const remedy = "add cgroup_enable=memory cgroup_memory=1 to the kernel's command line (Raspberry Pi: /boot/firmware/cmdline.txt) and reboot"
	if s.Host.Kernel.Cgroup() == host.CgroupV2 {
		text, err := s.Host.Files.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		if err != nil {
			return broken(err)
		}
		for _, name := range strings.Fields(string(text)) {
			if name == "memory" {
				return pass("on")
			}
		}
		return warn(off, remedy)
	}
	text, err := s.Host.Files.ReadFile("/proc/cgroups")
	if err != nil {
		return broken(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "memory" && f[3] == "1" {
			return pass("on")
		}
	}
	return warn(off, remedy)
}

func cgroupDriver(ctx context.Context, s Subject) Result {
	info, err := docker.Inspect(ctx, s.Host)
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
	if info.CgroupDriver != wanted {
		return warn(fmt.Sprintf("Docker uses %s and the ECS agent makes task groups for %s here: limits of tasks fail", info.CgroupDriver, wanted),
			fmt.Sprintf(`set "exec-opts": ["native.cgroupdriver=%s"] in /etc/docker/daemon.json and restart Docker`, wanted))
	}
	return pass("%s", info.CgroupDriver)
}

func selinuxMode(ctx context.Context, s Subject) Result {
	mode := s.Host.Kernel.SELinux()
	if mode != "enforcing" {
		return pass("%s", mode)
	}
	if info, err := docker.Inspect(ctx, s.Host); err == nil && info.SELinux {
		return fail("", "SELinux is enforcing and Docker labels containers: the ECS agent cannot reach Docker's socket",
			`set "selinux-enabled": false in /etc/docker/daemon.json and restart Docker`)
	}
	return warn("enforcing; AWS does not support external instances with SELinux", "")
}

func apparmor(_ context.Context, s Subject) Result {
	if !s.Host.Kernel.AppArmor() {
		return pass("off")
	}
	if s.Host.Kernel.Cgroup() == host.CgroupV2 {
		return pass("on (with control groups v2 it needs ECS agent %s or newer)", agentForAppArmor)
	}
	return pass("on")
}
