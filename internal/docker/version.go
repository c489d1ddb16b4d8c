package docker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	debversion "github.com/knqyf263/go-deb-version"
)

// Range of Docker's API versions, both ends included.
type Range struct {
	Min, Max string
	Source   string
}

// agentRanges are what ECS agents with their ecs-init speak, the newest first: any daemon whose own range meets it works.
var agentRanges = []struct {
	since string // the first agent's version; empty is all that came before
	Range
}{
	{"1.81.0", Range{Min: "1.21", Max: "1.44",
		Source: "aws/amazon-ecs-agent 1.105.1 of 2026-06-29: ecs-init/docker/dependencies.go, agent/dockerclient"}},
	// They know newer versions and do not start without an old one, which Docker 25 took away.
	{"", Range{Min: "1.21", Max: "1.23",
		Source: "aws/amazon-ecs-agent issue 4074; CHANGELOG.md, 1.81.0 of 2024-01-31"}},
}

// AgentRange is what an ECS agent of this version speaks; an empty version is the latest.
func AgentRange(agent string) Range {
	for _, row := range agentRanges {
		if agent == "" || row.since == "" || !older(agent, row.since) {
			return row.Range
		}
	}
	return Range{} // the last row takes all
}

// FirstAgentFor is the first ECS agent that speaks a version of the API at least this new; "" when there is none.
func FirstAgentFor(api string) string {
	wanted, ok := apiVersion(api)
	for _, row := range slices.Backward(agentRanges) {
		if high, _ := apiVersion(row.Max); ok && high >= wanted {
			return row.since
		}
	}
	return ""
}

// older compares versions of the ECS agent's package; one that cannot be read is not older.
func older(a, b string) bool {
	x, errX := debversion.NewVersion(a)
	y, errY := debversion.NewVersion(b)
	return errX == nil && errY == nil && x.LessThan(y)
}

// Fits reports whether the daemon and an ECS agent of this version have an API version in common, and if not which side
// to move. Versions that cannot be read are taken to fit: the agent itself will tell.
func Fits(info Info, agent string) (ok bool, move string) {
	speaks := AgentRange(agent)
	newest, okNewest := apiVersion(info.APIVersion)
	oldest, okOldest := apiVersion(info.MinAPIVersion)
	low, _ := apiVersion(speaks.Min)
	high, _ := apiVersion(speaks.Max)
	name := strings.TrimSpace("the ECS agent " + agent)
	switch {
	case okNewest && newest < low:
		return false, fmt.Sprintf("Docker %s speaks the API up to %s and %s needs %s or newer: upgrade Docker",
			info.Version, info.APIVersion, name, speaks.Min)
	case okOldest && oldest > high && FirstAgentFor(info.MinAPIVersion) != "":
		return false, fmt.Sprintf("Docker %s no longer speaks an API older than %s and %s cannot do with a newer one than %s: "+
			"install ECS agent %s or newer",
			info.Version, info.MinAPIVersion, name, speaks.Max, FirstAgentFor(info.MinAPIVersion))
	case okOldest && oldest > high:
		return false, fmt.Sprintf("Docker %s no longer speaks an API older than %s and %s knows none newer than %s: "+
			"install an older Docker, or an ECS agent that knows %s when there is one",
			info.Version, info.MinAPIVersion, name, speaks.Max, info.MinAPIVersion)
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
