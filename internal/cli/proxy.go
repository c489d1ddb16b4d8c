package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"

	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// registerProxy declares the flags of a proxy. Their variables keep a password off the command line, which every user of
// the host can read.
func registerProxy(f *pflag.FlagSet, http, https, none *string) {
	for _, flag := range []struct {
		name, variable, usage string
		to                    *string
	}{
		{"http-proxy", "ANYWHERE_HTTP_PROXY", "proxy for http:// addresses, a `URL`: for Docker, both agents and this command " +
			"(default: --https-proxy's)", http},
		{"https-proxy", "ANYWHERE_HTTPS_PROXY", "proxy for https:// addresses, a `URL`; a password is better given in the " +
			"variable\nANYWHERE_HTTPS_PROXY (default: --http-proxy's)", https},
		{"no-proxy", "ANYWHERE_NO_PROXY", "`LIST` of names, addresses and networks that are reached without the proxy; the\n" +
			"addresses on the host itself are added", none},
	} {
		f.StringVar(flag.to, flag.name, "", flag.usage)
		fromEnv(f, flag.name, flag.variable)
		annotate(f, flag.name, noteEmpty, "")
		if flag.name != "no-proxy" {
			annotate(f, flag.name, noteSecret, "") // the configuration file may have it: a proxy without a password is no secret
		}
	}
}

// givenProxy is the proxy that register was given. From here on this command goes through it too.
func (a *app) givenProxy(o *registerOptions) (preflight.Proxy, error) {
	p, err := preflight.NewProxy(o.httpProxy, o.httpsProxy, o.noProxy)
	if err != nil || !p.Set() {
		return p, err
	}
	for _, flag := range []string{"http-proxy", "https-proxy"} {
		if len(p.Secrets()) > 0 && a.origins[flag].kind == byFlag {
			a.redactor.Add(p.Secrets()...)
			a.warn("--%s has a password on the command line, where every user of this host can read it: the variable %s keeps it off",
				flag, map[string]string{"http-proxy": "ANYWHERE_HTTP_PROXY", "https-proxy": "ANYWHERE_HTTPS_PROXY"}[flag])
		}
	}
	return p, a.goThrough(p)
}

// proxyVariables are those that say that somebody has decided on a proxy for this process.
var proxyVariables = []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}

// knowProxies makes the redactor know the credentials of the proxies in the environment before anything is told of them.
func (a *app) knowProxies() {
	for _, name := range append([]string{"ANYWHERE_HTTPS_PROXY", "ANYWHERE_HTTP_PROXY"}, proxyVariables...) {
		a.redactor.Add(secret.InAddress(a.getenv(name))...)
	}
}

// wayOut is how this host reaches AWS, where nothing else is said: it lets a command that was started without a proxy in its environment, as by sudo, go through the proxy that
// this host's agents are told of, and on a host without IPv4 by names with IPv6. What cannot be read is told by the checks.
func (a *app) wayOut(ctx context.Context, r host.Reader) error {
	if a.env.Setenv == nil {
		return nil
	}
	if preflight.IPv6Only(r) {
		if err := a.byIPv6(); err != nil {
			return err
		}
	}
	known, err := preflight.ProxySecrets(ctx, r) // network.proxy tells of an error, here and below
	if err == nil {
		a.redactor.Add(known...)
	}
	for _, name := range proxyVariables {
		if a.getenv(name) != "" {
			return nil
		}
	}
	p, err := preflight.HostProxy(ctx, r)
	if err != nil || !p.Set() {
		return nil //nolint:nilerr // network.proxy tells of it
	}
	return a.goThrough(p)
}

// dualStackVariable is the SDK's own.
const dualStackVariable = "AWS_USE_DUALSTACK_ENDPOINT"

// byIPv6 makes this command's calls go by the names that have IPv6, unless somebody has decided otherwise.
func (a *app) byIPv6() error {
	if a.env.Setenv == nil || a.getenv(dualStackVariable) != "" {
		return nil
	}
	return a.env.Setenv(dualStackVariable, "true")
}

// goThrough makes this process's own calls, and its children's, go through a proxy.
func (a *app) goThrough(p preflight.Proxy) error {
	a.redactor.Add(p.Secrets()...)
	if a.env.Setenv == nil {
		return nil
	}
	names, values := p.Variables()
	for i, name := range names {
		if values[i] == "" {
			continue
		}
		if err := a.env.Setenv(name, values[i]); err != nil {
			return err
		}
	}
	return nil
}

// givenAuthorities are those of --ca-file. From here on this command trusts them too.
func (a *app) givenAuthorities(file string) (lifecycle.Authorities, error) {
	if file == "" {
		return nil, nil
	}
	text, err := a.env.ReadFile(file)
	if err != nil {
		return nil, failure.Wrap(failure.Usage, err, "--ca-file")
	}
	a.authorities, err = lifecycle.ParseAuthorities(text)
	return a.authorities, err
}

// roots are what this command trusts: known, or where that is nil the system's, and --ca-file's.
func (a *app) roots(known *x509.CertPool) *x509.CertPool {
	if len(a.authorities) == 0 {
		return known
	}
	pool := x509.NewCertPool()
	if known != nil {
		pool = known.Clone()
	} else if system, err := x509.SystemCertPool(); err == nil {
		pool = system
	}
	for _, c := range a.authorities {
		pool.AddCert(c)
	}
	return pool
}

// trusting makes a transport trust --ca-file's authorities.
func (a *app) trusting(t *http.Transport) {
	if len(a.authorities) == 0 {
		return
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.TLSClientConfig.RootCAs = a.roots(t.TLSClientConfig.RootCAs)
}
