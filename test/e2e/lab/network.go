package lab

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
)

// lastHost numbers the hosts of this run: their addresses and network names.
var lastHost atomic.Int32

// makeWorldNetwork turns the fresh network namespace of this process into the world. Packets that hosts send elsewhere
// come here, where there is no route either, and are answered "unreachable" at once.
func makeWorldNetwork() error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		// With an address of its own: else it takes the lowest of its cables', and each time that one comes or goes the
		// hosts talk for some seconds to an address that is nobody's.
		{"link", "add", "br0", "address", "02:00:0a:4d:00:01", "type", "bridge"},
		{"addr", "add", Address + "/16", "dev", "br0"},
		{"link", "set", "br0", "up"},
	} {
		if err := command("ip", args...); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

// hostAddress is in 10.77.1.0/24 and following; Address has the rest of 10.77.0.0/16 to itself.
func hostAddress(n int) string { return fmt.Sprintf("10.77.%d.%d", 1+n/250, 1+n%250) }

// plugIn gives host n a new network namespace with one cable to the world, and returns its path. Called again, it
// replaces what was there: after a power cut nothing of the old state is left, Docker's bridge and firewall included.
func plugIn(n int) (netns string, err error) {
	name, cable := "n"+strconv.Itoa(n), "v"+strconv.Itoa(n)
	netns = "/run/netns/" + name
	unplug(n)
	for _, args := range [][]string{
		{"netns", "add", name},
		{"link", "add", cable, "type", "veth", "peer", "name", "host0", "netns", name},
		{"link", "set", cable, "master", "br0", "up"},
		{"-n", name, "link", "set", "lo", "up"},
		{"-n", name, "addr", "add", hostAddress(n) + "/16", "dev", "host0"},
		{"-n", name, "link", "set", "host0", "up"},
		{"-n", name, "route", "add", "default", "via", Address},
	} {
		if err := command("ip", args...); err != nil {
			return "", err
		}
	}
	return netns, nil
}

// unplug removes the network of host n, if there is one. The cable goes first: the namespace itself lives on while a
// process is in it, and its name would be taken.
func unplug(n int) {
	_ = command("ip", "link", "del", "v"+strconv.Itoa(n))
	_ = command("ip", "netns", "del", "n"+strconv.Itoa(n))
}
