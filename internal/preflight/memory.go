package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func memoryChecks() []Check {
	return []Check{{ID: "memory", Title: "Memory", Run: memory}}
}

// Memory in MiB below which there is little sense in an external instance. AWS names no numbers. These are a judgement of
// 2026-11, not a measurement: four Go programs that stay (dockerd with containerd, the SSM agent with its worker, the ECS
// agent), and as much again for one task.
const (
	memoryForAgents = 256
	memoryForTasks  = 512
)

const keyReservedMemory = "ECS_RESERVED_MEMORY"

const memInfo = "/proc/meminfo"

// memory compares what the machine has with what the agents need and with what is kept from tasks. The ECS agent reports
// the total less ECS_RESERVED_MEMORY, and ends with "Unable to fetch host resources" when that is below zero
// (agent/ecs_client of aws/amazon-ecs-agent 1.105.1, seen on 2026-11-22).
func memory(_ context.Context, s Subject) Result {
	text, err := s.Host.Files.ReadFile(memInfo)
	if errors.Is(err, fs.ErrNotExist) {
		return skip("there is no " + memInfo)
	}
	if err != nil {
		return broken(err)
	}
	total, okTotal := memInfoMiB(string(text), "MemTotal")
	available, okAvailable := memInfoMiB(string(text), "MemAvailable") // Linux 3.14 and newer
	if !okTotal {
		return skip(memInfo + " does not say how much there is")
	}
	reserved, where, err := reservedMemory(s)
	if err != nil {
		return broken(err)
	}
	r := pass("%d MiB, of which %d are available", total, available)
	if !okAvailable {
		r = pass("%d MiB", total)
	}
	const less = "give the machine more memory, or take programs off it (systemd-cgtop -m shows them)"
	switch {
	case reserved > total:
		r = fail(failure.AgentConfig, fmt.Sprintf("%s=%d (%s) is more than the %d MiB that the machine has: "+
			"the ECS agent ends at every start", keyReservedMemory, reserved, where, total),
			fmt.Sprintf("write a smaller %s, like 64, in %s", keyReservedMemory, where))
	case total < memoryForAgents:
		r = warn(fmt.Sprintf("%d MiB is less than the %d that the agents and Docker need by themselves",
			total, memoryForAgents), less)
	case total-reserved < memoryForTasks-memoryForAgents:
		r = warn(fmt.Sprintf("%s=%d (%s) leaves %d of %d MiB to tasks",
			keyReservedMemory, reserved, where, total-reserved, total),
			fmt.Sprintf("write a smaller %s in %s", keyReservedMemory, where))
	case total < memoryForTasks:
		r = warn(fmt.Sprintf("%d MiB: the agents and Docker take some %d of them, which leaves little to tasks",
			total, memoryForAgents), less)
	case okAvailable && available < memoryForAgents:
		r = warn(fmt.Sprintf("%d of %d MiB are available, and the agents and Docker need some %d",
			available, total, memoryForAgents), less)
	}
	return r.with("totalMiB", total).with("availableMiB", available).with("reservedMiB", reserved)
}

// memInfoMiB reads a line like "MemTotal:  16384 kB".
func memInfoMiB(text, name string) (mib int, ok bool) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == name+":" {
			kib, err := strconv.Atoi(fields[1])
			return kib >> 10, err == nil
		}
	}
	return 0, false
}

// reservedMemory is what the ECS agent keeps from tasks, in MiB, and where that is said. A value that is no number is a
// matter of existing.ecs; files that only root can read do not count without root.
func reservedMemory(s Subject) (mib int, where string, err error) {
	value, where := s.Settings[keyReservedMemory], "--ecs-config"
	if value == "" {
		config, err := ecsagent.ReadConfig(s.Host)
		if errors.Is(err, fs.ErrPermission) {
			return 0, "", nil
		}
		if err != nil {
			return 0, "", err
		}
		value, where = config.Agent(keyReservedMemory), ecsagent.ConfigPath
		if _, ok := config.User.Get(keyReservedMemory); !ok {
			where = ecsagent.InstanceConfigPath
		}
	}
	mib, err = strconv.Atoi(strings.TrimSpace(value))
	if err != nil {
		return 0, where, nil //nolint:nilerr // see above
	}
	return mib, where, nil
}
