package preflight

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Proxy is the one setting of which everybody's on a host is made. The zero value is none.
type Proxy struct {
	HTTP, HTTPS string // addresses, with credentials if they have any
	None        string // NO_PROXY
}

// Set reports whether there is a proxy.
func (p Proxy) Set() bool { return p.HTTP != "" || p.HTTPS != "" }

// NewProxy checks what --http-proxy, --https-proxy and --no-proxy say together, and completes it: where one proxy is given
// it is for both kinds of addresses, and what is on the host itself is never asked for there.
func NewProxy(http, https, none string) (Proxy, error) {
	for _, given := range []struct{ flag, text string }{{"--http-proxy", http}, {"--https-proxy", https}} {
		if err := checkProxy(given.flag, given.text); err != nil {
			return Proxy{}, err
		}
	}
	if none != "" && http == "" && https == "" {
		return Proxy{}, failure.New(failure.Usage, "--no-proxy is given, and neither --http-proxy nor --https-proxy is").
			WithRemedy("add --https-proxy URL, or leave --no-proxy out")
	}
	if strings.ContainsFunc(none, unfit) {
		return Proxy{}, failure.New(failure.Usage, "--no-proxy must be names, addresses and networks with commas between them, "+
			"without blanks, quotes and backslashes")
	}
	if http == "" && https == "" {
		return Proxy{}, nil
	}
	p := Proxy{HTTP: http, HTTPS: https, None: none}
	if p.HTTP == "" {
		p.HTTP = https
	}
	if p.HTTPS == "" {
		p.HTTPS = http
	}
	entries := slices.DeleteFunc(strings.Split(none, ","), func(e string) bool { return e == "" })
	for _, entry := range []string{"localhost", "127.0.0.1", "::1", instanceMetadata, taskCredentials, dockerSocket} {
		if !slices.Contains(entries, entry) {
			entries = append(entries, entry)
		}
	}
	p.None = strings.Join(entries, ",")
	return p, nil
}

// unfit are the characters that systemd, ecs-init and a shell do not all read alike.
func unfit(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("\"'\\$`", c) }

func checkProxy(flag, text string) error {
	if text == "" {
		return nil
	}
	wrong := func(why string) error { // the text may hold a password
		return failure.New(failure.Usage, "%s: %s %s", flag, shownProxy(text), why).
			WithRemedy("write it like %s http://proxy.example.com:3128", flag)
	}
	if strings.ContainsFunc(text, unfit) {
		return wrong("has a blank, a quote, a backslash or another character that must be percent-encoded in a password")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return wrong("is not a URL with a host")
	case u.Scheme != "http" && u.Scheme != "https":
		return wrong("is neither http:// nor https://: the agents use no other kind of proxy")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return wrong("has more behind the host than a port")
	}
	return nil
}

// Secrets are the parts of the addresses that nobody may see, in the forms in which they travel.
func (p Proxy) Secrets() (all []string) {
	return append(secret.InAddress(p.HTTP), secret.InAddress(p.HTTPS)...)
}

// Shown is the address by which https names are reached, as it may be shown.
func (p Proxy) Shown() string { return shown(p.HTTPS) }

// Key tells one setting from another without a secret.
func (p Proxy) Key() string {
	if !p.Set() {
		return ""
	}
	return shownProxy(p.HTTP) + " " + shownProxy(p.HTTPS) + " " + p.None
}

// Variables are the setting as services have it, in both spellings: Go's programs take either, curl and other programs that
// a task of the SSM agent starts take the small ones only.
func (p Proxy) Variables() (names, values []string) {
	for _, v := range []struct{ name, value string }{{"HTTP_PROXY", p.HTTP}, {"HTTPS_PROXY", p.HTTPS}, {"NO_PROXY", p.None}} {
		names = append(names, v.name, strings.ToLower(v.name))
		values = append(values, v.value, v.value)
	}
	return names, values
}

// The folders' drop-ins carry this name: it sorts behind the names that people and Docker's own guide use, so that what
// register was told counts.
const (
	proxyDropIn = "zz-anywhere-proxy.conf"
	// ProxyEnv holds the variables where an address has credentials. systemd shows the lines of a unit to every user; of this
	// file it shows the name (systemd.exec(5), Environment=).
	ProxyEnv = "/etc/anywhere/proxy.env"
)

// ProxyDropIn is the path of anywhere's own drop-in for a unit.
func ProxyDropIn(unit string) string { return "/etc/systemd/system/" + unit + ".d/" + proxyDropIn }

// Units are the content of a drop-in, and that of ProxyEnv; the latter is empty where nothing is secret.
func (p Proxy) Units() (dropIn, env []byte) {
	head := "# Written by anywhere. Changes are overwritten; register --https-proxy URL changes it.\n[Service]\n"
	names, values := p.Variables()
	if len(p.Secrets()) > 0 {
		text := "# Written by anywhere, for Docker and the agents. Changes are overwritten.\n"
		for i, name := range names {
			text += name + "=" + values[i] + "\n"
		}
		// With a dash: Docker has to start at a boot between the removal of the one file and of the other.
		return []byte(head + "EnvironmentFile=-" + ProxyEnv + "\n"), []byte(text)
	}
	for i, name := range names {
		head += fmt.Sprintf("Environment=\"%s=%s\"\n", name, strings.ReplaceAll(values[i], "%", "%%"))
	}
	return []byte(head), nil
}

// UnitProxy is what a unit's files tell its processes.
func UnitProxy(ctx context.Context, r host.Reader, unit string) (Proxy, error) {
	p, err := unitProxy(ctx, r, unit, unit)
	return Proxy{p.http, p.https, p.none}, err
}

// DaemonProxy is what Docker is told: by its unit, and by daemon.json, which overrules that.
func DaemonProxy(ctx context.Context, r host.Reader) (Proxy, error) {
	p, err := unitProxy(ctx, r, daemon, dockerUnit)
	if err == nil {
		err = p.takeDaemon(r.Files)
	}
	return Proxy{p.http, p.https, p.none}, err
}

// HostProxy is what this host's agents are told, where they are told anything: the ECS agent's setting, else the SSM
// agent's, else Docker's. A command that is started without a proxy in its environment, as sudo starts it, goes by that.
func HostProxy(ctx context.Context, r host.Reader) (Proxy, error) {
	all, err := readProxies(ctx, Subject{Host: r})
	if err != nil {
		return Proxy{}, err
	}
	for _, who := range []string{ecs, ssm, daemon, ecsInit} {
		for _, p := range all {
			if p.who == who && p.set() {
				return Proxy{HTTP: p.http, HTTPS: p.whole(), None: p.none}, nil
			}
		}
	}
	return Proxy{}, nil
}

// ProxySecrets are the credentials in all that Docker and the agents are told.
func ProxySecrets(ctx context.Context, r host.Reader) (secrets []string, err error) {
	all, err := readProxies(ctx, Subject{Host: r})
	for _, p := range all {
		secrets = append(secrets, Proxy{HTTP: p.http, HTTPS: p.https}.Secrets()...)
	}
	return secrets, err
}

// ProxyFiles are the files in which Docker and the agents are told of a proxy.
func ProxyFiles(ctx context.Context, r host.Reader) (files []string, err error) {
	all, err := readProxies(ctx, Subject{Host: r})
	for _, p := range all {
		if p.who != self && p.set() && !slices.Contains(files, p.file) {
			files = append(files, p.file)
		}
	}
	return files, err
}

// planned puts the setting that a verb is about to make in the place of what everybody is told now.
func (p proxies) planned(wanted Proxy) proxies {
	if !wanted.Set() {
		return p
	}
	for i := range p {
		if p[i].who != daemon || p[i].file != daemonConfig { // that one stays, and overrules the unit
			p[i].torn = nil
			p[i].http, p[i].https, p[i].none, p[i].file = wanted.HTTP, wanted.HTTPS, wanted.None, "--https-proxy"
		}
	}
	return p
}
