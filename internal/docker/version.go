package docker

import (
	"fmt"
	"strconv"
	"strings"
)

// Range of Docker's API versions, both ends included.
type Range struct {
	Min, Max string
	Source   string
}

// AgentRange is what the ECS agent and ecs-init speak: any daemon whose own range meets it works.
var AgentRange = Range{Min: "1.21", Max: "1.44",
	Source: "aws/amazon-ecs-agent 1.105.1 of 2026-06-29: ecs-init/docker/dependencies.go, agent/dockerclient"}

// Fits reports whether the daemon and the ECS agent have an API version in common, and if not which side to move. Versions
// that cannot be read are taken to fit: the agent itself will tell.
func Fits(info Info) (ok bool, move string) {
	newest, okNewest := apiVersion(info.APIVersion)
	oldest, okOldest := apiVersion(info.MinAPIVersion)
	low, _ := apiVersion(AgentRange.Min)
	high, _ := apiVersion(AgentRange.Max)
	switch {
	case okNewest && newest < low:
		return false, fmt.Sprintf("Docker %s speaks the API up to %s and the ECS agent needs %s or newer: upgrade Docker",
			info.Version, info.APIVersion, AgentRange.Min)
	case okOldest && oldest > high:
		return false, fmt.Sprintf("Docker %s no longer speaks an API older than %s and the ECS agent knows none newer than %s: "+
			"install an older Docker, or an ECS agent that knows %s when there is one",
			info.Version, info.MinAPIVersion, AgentRange.Max, info.MinAPIVersion)
	}
	return true, ""
}

// apiVersion orders versions like 1.44.
func apiVersion(s string) (order int, ok bool) {
	major, minor, found := strings.Cut(s, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if !found || errA != nil || errB != nil || a < 0 || b < 0 || b > 999 {
		return 0, false
	}
	return a*1000 + b, true
}
