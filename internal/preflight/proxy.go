package preflight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Who goes through a proxy of their own.
const (
	self    = "this command"
	daemon  = "Docker"
	ecs     = "the ECS agent"
	ssm     = "the SSM agent"
	ecsInit = "ecs-init"
)

const (
	dockerUnit   = "docker.service"
	daemonConfig = "/etc/docker/daemon.json"
)

// proxy is what one of them is told.
type proxy struct {
	who         string
	file        string   // where its first setting stands; "the environment"
	http, https string   // as they stand there: with credentials, if they have any
	none        string   // NO_PROXY
	add         string   // where and how to add a setting
	torn        []string // variables that say something else in capitals than in small letters
}

func (p proxy) set() bool { return p.http != "" || p.https != "" }

// whole is what requests to https names use. The ECS agent takes HTTP_PROXY alone for them too
// (ecs-agent/utils/httpproxy/proxy.go of 1.105.1).
func (p proxy) whole() string {
	if p.https == "" && p.who == ecs {
		return p.http
	}
	return p.https
}

// proxies are the settings of all, in the order of their names above.
type proxies [5]proxy

func (p proxies) any() bool { return slices.ContainsFunc(p[:], proxy.set) }

// readProxies reads what each is told: the environment of this process, Docker's daemon.json or unit, the ECS agent's
// configuration, the units of the SSM agent and of ecs-init. What needs root and cannot be read counts as not told.
func readProxies(ctx context.Context, s Subject) (proxies, error) {
	own := proxy{who: self, file: "the environment", add: "set it in the shell that runs this command (sudo drops it)"}
	own.take(func(name string) (variable, bool) {
		if s.Getenv == nil {
			return variable{}, false
		}
		value := s.Getenv(name)
		return variable{value, own.file}, value != ""
	})
	docker, err := unitProxy(ctx, s.Host, daemon, dockerUnit)
	if err != nil {
		return proxies{}, err
	}
	if err := docker.takeDaemon(s.Host.Files); err != nil {
		return proxies{}, err
	}
	config, err := ecsagent.ReadConfig(s.Host)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return proxies{}, err
	}
	if err != nil {
		config = ecsagent.Config{Instance: ecsagent.Parse(nil), User: ecsagent.Parse(nil)}
	}
	agent := proxy{who: ecs, add: "add it to " + ecsagent.ConfigPath + ", then systemctl restart ecs"}
	agent.take(func(name string) (variable, bool) {
		value := config.Agent(name)
		if _, mine := config.User.Get(name); mine {
			return variable{value, ecsagent.ConfigPath}, value != ""
		}
		return variable{value, ecsagent.InstanceConfigPath}, value != ""
	})
	node, err := unitProxy(ctx, s.Host, ssm, ssmagent.UnitOf(s.Host))
	if err != nil {
		return proxies{}, err
	}
	starter, err := unitProxy(ctx, s.Host, ecsInit, ecsUnit(s))
	if err != nil {
		return proxies{}, err
	}
	if !starter.set() { // its unit, which may not be there yet, reads the agent's configuration (EnvironmentFile=)
		starter.http, starter.https, starter.none, starter.file = agent.http, agent.https, agent.none, agent.file
	}
	return proxies{own, docker, agent, node, starter}.planned(s.Proxy), nil
}

// variable is a variable that a service gets, and the file that says so.
type variable struct{ value, file string }

func unitProxy(ctx context.Context, r host.Reader, who, unit string) (proxy, error) {
	environment := map[string]variable{}
	set, err := host.UnitEnvironment(ctx, r, unit)
	if errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	for _, v := range set {
		environment[v.Name] = variable{v.Value, v.At}
	}
	p := proxy{who: who, add: fmt.Sprintf(`systemctl edit %[1]s, add [Service] and Environment="NAME=VALUE", then `+
		`systemctl restart %[1]s`, unit)}
	p.take(func(name string) (variable, bool) { v, ok := environment[name]; return v, ok && v.value != "" })
	return p, err
}

// take reads the variables in both cases, the upper one first, as Go's own client does.
func (p *proxy) take(get func(string) (variable, bool)) {
	for _, one := range []struct {
		name string
		to   *string
	}{{"NO_PROXY", &p.none}, {"HTTP_PROXY", &p.http}, {"HTTPS_PROXY", &p.https}} {
		v, capitals := get(one.name)
		small, ok := get(strings.ToLower(one.name))
		if capitals && ok && small.value != v.value {
			p.torn = append(p.torn, one.name+" and "+strings.ToLower(one.name))
		}
		if !capitals {
			v = small
		}
		if capitals || ok {
			*one.to, p.file = v.value, v.file // that of HTTPS_PROXY counts most
		}
	}
}

// takeDaemon lets daemon.json overrule the unit, as Docker does since version 23.
func (p *proxy) takeDaemon(files host.Files) error {
	text, err := files.ReadFile(daemonConfig)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	var file struct {
		Proxies struct {
			HTTP  string `json:"http-proxy"`
			HTTPS string `json:"https-proxy"`
			None  string `json:"no-proxy"`
		} `json:"proxies"`
	}
	if json.Unmarshal(text, &file) != nil { // Docker itself complains of it, in docker.daemon
		return nil
	}
	for _, v := range []struct {
		value string
		to    *string
	}{{file.Proxies.HTTP, &p.http}, {file.Proxies.HTTPS, &p.https}, {file.Proxies.None, &p.none}} {
		if v.value != "" {
			*v.to, p.file = v.value, daemonConfig
			p.add = fmt.Sprintf("add it to %q in %s, then systemctl restart docker", "proxies", daemonConfig)
		}
	}
	return nil
}

// of is the proxy by which someone reaches a target; nil is none. Who has no setting of their own is taken to get that
// of this process's environment: register hands it on to what it runs.
func (p proxies) of(who, scheme, host, port string) (*url.URL, error) {
	at := slices.IndexFunc(p[:], func(one proxy) bool { return one.who == who && one.set() })
	chosen := p[max(at, 0)]
	text := chosen.http
	if scheme == "https" {
		text = chosen.whole()
	}
	if text == "" || bypassed(chosen.none, host, port) {
		return nil, nil
	}
	return parseProxy(text)
}

var errProxy = errors.New("is not the address of a proxy, like http://proxy.example.com:3128")

// parseProxy reads a proxy's address; one without a scheme is plain HTTP, as for Go's own client. Its error never holds
// the text, which may hold a password.
func parseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		u, err = url.Parse("http://" + text)
	}
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("%s %w", shownProxy(text), errProxy)
	}
	return u, nil
}

// shownProxy is a proxy's address as it may be shown: without what stands in front of the host.
func shownProxy(text string) string {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "", text
	}
	rest = strings.TrimRight(rest, "/")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = secret.Mask + rest[at:]
	}
	if found {
		return scheme + "://" + rest
	}
	return rest
}

// bypassed reports whether NO_PROXY lets a host be reached without the proxy, by the rules of Go's client, which the
// agents and Docker have: *, addresses and networks, names with all below them, names with a dot in front, ports.
// Loopback needs no entry.
func bypassed(list, host, port string) bool {
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	isAddr := err == nil
	if host == "localhost" || isAddr && addr.IsLoopback() {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if entry == "*" {
			return true
		}
		if network, err := netip.ParsePrefix(entry); err == nil && isAddr && network.Contains(addr.Unmap()) {
			return true
		}
		name, wanted, hasPort := strings.Cut(entry, ":")
		if _, err := netip.ParseAddr(entry); err == nil {
			name, hasPort = entry, false
		}
		if name == "" || hasPort && wanted != port {
			continue
		}
		name = strings.TrimPrefix(name, "*")
		same := !strings.HasPrefix(name, ".") && host == name
		if same || !isAddr && strings.HasSuffix(host, "."+strings.TrimPrefix(name, ".")) {
			return true
		}
	}
	return false
}

// Addresses on the host itself that no proxy can reach. Source: amazon-ecs-agent README (1.105.1) for the ECS agent;
// https://github.com/awsdocs/amazon-ecs-developer-guide/issues/166 for Docker, whose log driver asks 169.254.170.2; the
// SSM agent asks for instance metadata in the background (agent/startup/startup_unix.go, 2024-10).
const (
	instanceMetadata = "169.254.169.254"
	taskCredentials  = "169.254.170.2"
	dockerSocket     = "/var/run/docker.sock"
)

// onHost are further entries that mean this host itself.
var onHost = []string{"localhost", "127.0.0.1", "127.0.0.0/8", "::1", dockerSocket, "unix://" + dockerSocket, "169.254.0.0/16"}

var mustBypass = map[string][]string{
	ecs:    {instanceMetadata, taskCredentials, dockerSocket},
	daemon: {instanceMetadata, taskCredentials},
	ssm:    {instanceMetadata},
}

// missing are the entries that a proxy setting's NO_PROXY lacks.
func (p proxy) missing() (all []string) {
	if !p.set() {
		return nil
	}
	for _, entry := range mustBypass[p.who] {
		there := bypassed(p.none, entry, "80")
		if entry == dockerSocket {
			there = strings.Contains(p.none, "docker.sock") || slices.Contains(strings.Split(p.none, ","), "*")
		}
		if !there {
			all = append(all, entry)
		}
	}
	return all
}

// aroundOnly are the entries of NO_PROXY by which p goes around the proxy to where other goes through it. What is on the host itself is not among them:
// missing tells of that.
func (p proxy) aroundOnly(other proxy) (alone []string) {
	for entry := range strings.SplitSeq(p.none, ",") {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if entry == "" || slices.Contains(onHost, entry) || bypassed("169.254.0.0/16", entry, "80") || slices.Contains(alone, entry) {
			continue
		}
		theirs := strings.Split(strings.ToLower(strings.ReplaceAll(other.none, " ", "")), ",")
		if !slices.Contains(theirs, entry) && !bypassed(other.none, strings.TrimLeft(entry, "*."), "443") {
			alone = append(alone, entry)
		}
	}
	return alone
}

// networkProxy says whether all who go through a proxy are told the same, and told what not to bring there.
func networkProxy(ctx context.Context, s Subject) Result {
	all, err := readProxies(ctx, s)
	if err != nil {
		return broken(err)
	}
	if !all.any() {
		return pass("no proxy is set")
	}
	var troubles, remedies []string
	trouble := func(what, remedy string) { troubles, remedies = append(troubles, what), append(remedies, remedy) }
	var told, untold []proxy
	for _, p := range all {
		if !p.set() {
			if p.who != self || s.Mutating {
				untold = append(untold, p)
			}
			continue
		}
		if p.who != self || s.Mutating {
			told = append(told, p)
		}
		for _, text := range slices.Compact([]string{p.https, p.http}) {
			if text == "" {
				continue
			}
			u, err := parseProxy(text)
			switch {
			case err != nil:
				trouble(fmt.Sprintf("in %s, %s", p.file, err), "correct it in "+p.file)
			case u.Scheme == "https":
				trouble(fmt.Sprintf("%s, in %s, is an https:// address: a proxy that speaks plain HTTP, as nearly all do, cannot "+
					"be reached by it", shownProxy(text), p.file),
					fmt.Sprintf("write http://%s in %s, unless the proxy really takes TLS", u.Host, p.file))
			}
		}
		if len(p.torn) > 0 {
			trouble(fmt.Sprintf("%s is told two things in %s: %s differ, of which the agents and Docker take the first and curl the second",
				p.who, p.file, strings.Join(p.torn, "; ")), "make them the same in "+p.file)
		}
		if missing := p.missing(); len(missing) > 0 {
			trouble(
				fmt.Sprintf("%s, told of the proxy in %s, would go through it to %s", p.who, p.file, strings.Join(missing, ", ")),
				fmt.Sprintf("NO_PROXY=%s: %s", strings.Trim(p.none+","+strings.Join(missing, ","), ","), p.add))
		}
	}
	if len(told) > 0 {
		first := told[0]
		for _, p := range told[1:] {
			if p.whole() != first.whole() {
				trouble(fmt.Sprintf("%s goes through %s (%s) and %s through %s (%s)", first.who, shown(first.whole()), first.file,
					p.who, shown(p.whole()), p.file), "settle on one: "+p.add)
				continue
			}
			for _, pair := range [][2]proxy{{first, p}, {p, first}} {
				if alone := pair[0].aroundOnly(pair[1]); len(alone) > 0 {
					trouble(fmt.Sprintf("%s reaches %s without the proxy (%s), and %s does not (%s)",
						pair[0].who, strings.Join(alone, ", "), pair[0].file, pair[1].who, pair[1].file),
						fmt.Sprintf("NO_PROXY=%s: %s", strings.Trim(pair[1].none+","+strings.Join(alone, ","), ","), pair[1].add))
				}
			}
		}
	}
	for _, p := range untold {
		source := all[slices.IndexFunc(all[:], proxy.set)]
		trouble(fmt.Sprintf("%s is told of no proxy, and %s is (%s)", p.who, source.who, source.file),
			fmt.Sprintf("HTTPS_PROXY=%s for %s too: %s", shown(source.whole()), p.who, p.add))
	}
	if len(remedies) > 0 {
		remedies = append(remedies, "or all of it at once: anywhere register --https-proxy URL")
	}
	evidence := []map[string]any{}
	for _, p := range all {
		if p.set() {
			evidence = append(evidence, map[string]any{
				"who": p.who, "file": p.file, "http": shownProxy(p.http), "https": shownProxy(p.https), "no": p.none,
			})
		}
	}
	var r Result
	if len(troubles) > 0 {
		r = warn(strings.Join(troubles, "; "), strings.Join(remedies, "; "))
	} else {
		r = pass("%s, for all", shown(told[0].whole()))
	}
	return r.with("proxies", evidence)
}

func shown(text string) string {
	if text == "" {
		return "no proxy"
	}
	return shownProxy(text)
}
