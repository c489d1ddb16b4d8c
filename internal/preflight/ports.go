package preflight

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// agentPorts are what the ECS agent listens on, in the host's own network. Sources: ecs-agent/introspection/server.go,
// ecs-agent/tmds/server.go and README (ECS_ENABLE_PROMETHEUS_METRICS) of 1.105.1.
var agentPorts = []struct {
	number   uint16
	loopback bool // on 127.0.0.1 alone; else on all addresses
	what     string
	setting  string // without which it is not opened
}{
	{number: 51678, what: "introspection"},
	{number: 51679, loopback: true, what: "metadata and credentials of tasks"},
	{number: 51680, what: "metrics", setting: "ECS_ENABLE_PROMETHEUS_METRICS"},
}

// agentProcess is the name of the ECS agent's process in its container (/agent).
const agentProcess = "agent"

// listener is a socket that takes connections.
type listener struct {
	at    netip.AddrPort
	inode string
}

// networkPorts looks for strangers on the ECS agent's ports: it could not open them, and ends.
func networkPorts(ctx context.Context, s Subject) Result {
	all, err := listeners(s.Host.Files)
	if err != nil {
		return broken(err)
	}
	config, err := ecsagent.ReadConfig(s.Host)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return broken(err)
	}
	var (
		taken            []map[string]any
		fails, warnings  []string
		remedy, agent    string
		answers, checked bool
	)
	for _, port := range agentPorts {
		i := slices.IndexFunc(all, func(l listener) bool {
			addr := l.at.Addr().Unmap()
			return l.at.Port() == port.number && (!port.loopback || addr.IsUnspecified() || addr.IsLoopback())
		})
		if i < 0 {
			continue
		}
		pid, name := owner(s.Host.Files, all[i].inode)
		if !checked {
			_, err := ecsagent.Introspect(ctx, s.Host)
			answers, checked = err == nil, true
		}
		if name == agentProcess || answers && (pid == 0 || port.number == 51678) {
			agent = "the ECS agent itself"
			continue
		}
		who := fmt.Sprintf("%s (pid %d)", name, pid)
		if pid == 0 {
			who = "a process that only root can name"
			if s.Host.Self.EUID == 0 {
				who = "a process of another namespace, or the kernel"
			}
		}
		says := fmt.Sprintf("port %d (%s) is taken by %s, on %s", port.number, port.what, who, all[i].at)
		taken = append(taken, map[string]any{
			"port": int(port.number), "address": all[i].at.String(), "pid": pid, "process": name,
		})
		if remedy == "" {
			remedy = portRemedy(port.number, pid, name)
		}
		if port.setting != "" && (err != nil || config.User == nil || config.Agent(port.setting) != "true") {
			warnings = append(warnings, says+"; the agent opens it only with "+port.setting+"=true")
			continue
		}
		fails = append(fails, says)
	}
	var r Result
	switch {
	case len(fails) > 0:
		r = fail(failure.PortTaken, strings.Join(append(fails, warnings...), "; "), remedy)
	case len(warnings) > 0:
		r = warn(strings.Join(warnings, "; "), remedy)
	case agent != "":
		r = pass("%s listens", agent)
	default:
		r = pass("51678, 51679 and 51680 are free")
	}
	return r.with("taken", append([]map[string]any{}, taken...))
}

func portRemedy(port uint16, pid int, name string) string {
	switch {
	case name == "docker-proxy":
		return fmt.Sprintf("docker ps --filter publish=%d names the container; publish it on another port", port)
	case pid != 0:
		return fmt.Sprintf("systemctl status %d names its service: stop it, or give it another port", pid)
	}
	return fmt.Sprintf("ss -ltnp 'sport = :%d', as root, names it: stop it, or give it another port", port)
}

// listeners reads /proc/net/tcp and tcp6 (proc(5)). A kernel without IPv6 has no tcp6.
func listeners(files host.Files) ([]listener, error) {
	var all []listener
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := files.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
			words := strings.Fields(line)
			if len(words) < 10 || words[3] != "0A" { // 0A is listening
				continue
			}
			if at, ok := hexAddress(words[1]); ok {
				all = append(all, listener{at, words[9]})
			}
		}
	}
	return all, nil
}

// hexAddress reads 0100007F:C9DE. The address is in the kernel's order of bytes, word by word: little-endian on every
// machine that ECS Anywhere runs on.
func hexAddress(text string) (netip.AddrPort, bool) {
	ip, port, found := strings.Cut(text, ":")
	raw, err := hex.DecodeString(ip)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || portErr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), ok
}

// owner finds the process that has a socket open, and its name; pid 0 is none that can be seen.
func owner(files host.Files, inode string) (pid int, name string) {
	processes, err := files.ReadDir("/proc")
	if err != nil {
		return 0, ""
	}
	for _, p := range processes {
		number, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := path.Join("/proc", p.Name())
		open, err := files.ReadDir(path.Join(dir, "fd"))
		if err != nil {
			continue // gone, or another user's
		}
		for _, fd := range open {
			if to, err := files.Readlink(path.Join(dir, "fd", fd.Name())); err == nil && to == "socket:["+inode+"]" {
				comm, _ := files.ReadFile(path.Join(dir, "comm")) // gone meanwhile: no name
				return number, strings.TrimSpace(string(comm))
			}
		}
	}
	return 0, ""
}
