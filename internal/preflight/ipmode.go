package preflight

import (
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/partition"
)

// IPv6Only reports whether a host's way to AWS is IPv6: its ECS agent is told so, or else, as the agent itself decides,
// there is a default route of IPv6 and none of IPv4. What cannot be read counts as IPv4, as for the agent (facts: ecs-agent
// section 6.6).
func IPv6Only(r host.Reader) bool {
	if config, err := ecsagent.ReadConfig(r); err == nil {
		switch config.Agent(ecsagent.KeyIPMode) {
		case "ipv6":
			return true
		case "ipv4":
			return false
		}
	}
	return !defaultRoute(r, "/proc/net/route", func(f []string) bool { return len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" }) &&
		defaultRoute(r, "/proc/net/ipv6_route", func(f []string) bool {
			// The kernel's own route of last resort, which refuses, is on lo.
			return len(f) > 9 && strings.Trim(f[0], "0") == "" && f[1] == "00" && f[9] != "lo"
		})
}

func defaultRoute(r host.Reader, file string, is func(fields []string) bool) bool {
	text, err := r.Files.ReadFile(file)
	if err != nil {
		return file == "/proc/net/route" // it cannot be told: IPv4, then
	}
	for line := range strings.Lines(string(text)) {
		if is(strings.Fields(line)) {
			return true
		}
	}
	return false
}

// destinations are those of the subject's Region, by the names that it can use.
func (s Subject) destinations() []partition.Destination {
	if s.IPv6 {
		return partition.DestinationsByIPv6(s.Region)
	}
	return partition.Destinations(s.Region)
}
