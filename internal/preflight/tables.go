package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// unitsPath is the PATH that systemd gives services: systemd.exec(5). A shell's may have more.
var unitsPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// withoutDocker softens what is said of a missing iptables where register will install Docker, which depends on it.
func withoutDocker(s Subject, r Result) Result {
	info, err := s.docker()
	if err != nil || info.Present || s.Mutating || installable(s) == "" {
		return r
	}
	return warn("iptables is not installed", "nothing: it comes with Docker, which anywhere register installs")
}

// tools are what ecs-init looks for at every command and fails without; the deb depends on neither. Source:
// amazon-ecs-agent ecs-init/exec/iptables, ecs-init/exec/sysctl and packaging/generic-deb-integrated/debian/control of
// 1.105.1.
var tools = []struct{ name, deb, rpm string }{
	{"iptables", "iptables", "iptables-nft"},
	{"sysctl", "procps", "procps-ng"},
}

// networkTables looks for the programs by which ecs-init sets the rules for the credentials of tasks, and for services
// that drop such rules.
func networkTables(ctx context.Context, s Subject) Result {
	found, missing := map[string]string{}, []string{}
	var packages []string
	for _, tool := range tools {
		at, err := findTool(s.Host.Files, tool.name)
		if err != nil {
			return broken(err)
		}
		if found[tool.name] = at; at != "" {
			continue
		}
		if tool.name == "iptables" && s.Docker { // Docker's own packages bring it
			continue
		}
		missing = append(missing, tool.name)
		if family(s) == "rpm" {
			packages = append(packages, tool.rpm)
		} else {
			packages = append(packages, tool.deb)
		}
	}
	managers, err := ruleManagers(ctx, s)
	if err != nil {
		return broken(err)
	}
	var r Result
	switch {
	case len(missing) > 0:
		state, _ := s.Host.Packages.State() // without it, the words are apt's
		detail := fmt.Sprintf("%s %s not in the PATH of services (%s), and the ECS agent's service does not start without",
			strings.Join(missing, " and "), isOrAre(missing), strings.Join(unitsPath, ":"))
		r = fail(failure.ToolMissing, detail, state.InstallCommand(packages...))
		if len(missing) == 1 && missing[0] == "iptables" {
			r.follows = "docker.presence" // what Docker's packages bring too
			r = withoutDocker(s, r)
		}
	case len(managers) > 0:
		detail := fmt.Sprintf("%s is active: each time it loads its rules it drops those of the ECS agent, and tasks get no "+
			"credentials until the agent is restarted", strings.Join(managers, " and "))
		r = warn(detail, "after each reload of the firewall: systemctl restart "+ecsUnit(s))
	default:
		r = pass("iptables and sysctl are there")
		if found["iptables"] == "" {
			r = pass("sysctl is there; iptables comes with Docker")
		}
	}
	return r.with("found", found).with("firewalls", append([]string{}, managers...))
}

func isOrAre(words []string) string {
	if len(words) == 1 {
		return "is"
	}
	return "are"
}

// findTool is the first program of that name in the PATH of services; "" when there is none.
func findTool(files host.Files, name string) (string, error) {
	for _, dir := range unitsPath {
		at := path.Join(dir, name)
		info, err := files.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			continue
		case err != nil:
			return "", err
		case info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0:
			return at, nil
		}
	}
	return "", nil
}

// ruleManagers are active services that replace all rules of the packet filter when they are reloaded. ufw's service is
// "active" also while ufw is off.
func ruleManagers(ctx context.Context, s Subject) (active []string, err error) {
	for _, unit := range []string{"firewalld.service", "ufw.service", "nftables.service"} {
		u, err := s.Host.Units.Unit(ctx, unit)
		if failure.Is(err, failure.NoSystemd) {
			return nil, nil // os.systemd tells of that
		}
		if err != nil {
			return nil, err
		}
		if u.Active != "active" {
			continue
		}
		if unit == "ufw.service" {
			text, err := s.Host.Files.ReadFile("/etc/ufw/ufw.conf")
			if err == nil && !slices.ContainsFunc(host.ParseEnvironmentFile(string(text)), func(a host.Assignment) bool {
				return a.Key == "ENABLED" && strings.EqualFold(a.Value, "yes")
			}) {
				continue
			}
		}
		active = append(active, strings.TrimSuffix(unit, ".service"))
	}
	return active, nil
}
