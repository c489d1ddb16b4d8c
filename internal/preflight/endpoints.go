package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// networkEndpoints says which endpoints cannot be used, and what would have to be opened, trusted or set for that.
func networkEndpoints(_ context.Context, s Subject) Result {
	p := s.network()
	if p.err != nil {
		return broken(p.err)
	}
	if len(p.rows) == 0 {
		return noTargets()
	}
	rows := []map[string]any{}
	var bad []row
	for _, r := range p.rows {
		if r.unresolved() {
			r.trouble = noName
		}
		rows = append(rows, r.facts())
		if r.trouble != fine {
			bad = append(bad, r)
		}
	}
	lost := needed(bad)
	var result Result
	switch {
	case len(bad) == 0:
		result = pass("all %d answer%s", len(p.rows), throughWhat(p.rows))
	case len(lost) == 0:
		result = warn("only some uses need them: "+sentences(bad, len(p.rows), s), remedies(bad, s))
	default:
		told := lost
		if len(bad) == len(p.rows) && len(groups(bad)) == 1 { // one cause for all is said once
			told = bad
		}
		result = fail(failure.EndpointUnreachable, sentences(told, len(p.rows), s), remedies(lost, s))
		if others := len(bad) - len(told); others > 0 {
			result.Detail += fmt.Sprintf("; and %d that only some uses need", others)
		}
		result.follows, result.gist = followed(lost), gist(lost)
	}
	return result.with("endpoints", rows)
}

// gist is what the system itself said of the first rows.
func gist(rows []row) string {
	const most = 3
	var all []string
	for i, r := range rows {
		if i == most {
			all = append(all, fmt.Sprintf("and %d more", len(rows)-most))
			break
		}
		line := fmt.Sprintf("%s: %v", r.name(), r.err)
		if r.address.IsValid() {
			line = fmt.Sprintf("%s (%s): %v", r.name(), r.address, r.err)
		}
		all = append(all, line)
	}
	return strings.Join(all, "; ")
}

// followed is the check that tells the cause when all rows have one that is another check's.
func followed(rows []row) string {
	for kind, check := range map[trouble]string{noName: "network.dns", wrongClock: "clock.skew"} {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.trouble != kind }) {
			return check
		}
	}
	return ""
}

func throughWhat(rows []row) string {
	kinds := map[string]int{}
	proxied := map[string]bool{}
	for _, r := range rows {
		if r.proxy != nil {
			proxied[shownProxy(r.proxy.String())] = true
		} else if kind := kindOf(r.addrs); kind == "private" {
			kinds[kind]++
		}
	}
	text := ""
	if n := kinds["private"]; n > 0 {
		text += fmt.Sprintf(", %d at private addresses", n)
	}
	for proxy := range proxied {
		text += ", through " + proxy
	}
	return text
}

// group is rows with the same trouble: it is told once.
type group struct {
	trouble trouble
	cause   string // what tells apart two of the same trouble: an issuer, an error
	rows    []row
}

func groups(rows []row) (all []group) {
	for _, r := range rows {
		cause := ""
		switch r.trouble {
		case untrusted, wrongName:
			cause = r.issuer()
		case proxyFails:
			cause = r.err.Error()
			if r.proxy != nil {
				cause = shownProxy(r.proxy.String()) + ": " + cause
			}
		case silent, cut:
			if r.address.IsValid() { // connected, and then
				cause = "in TLS"
			}
		case otherwise:
			cause = r.err.Error()
		}
		i := slices.IndexFunc(all, func(g group) bool { return g.trouble == r.trouble && g.cause == cause })
		if i < 0 {
			i = len(all)
			all = append(all, group{trouble: r.trouble, cause: cause})
		}
		all[i].rows = append(all[i].rows, r)
	}
	return all
}

// what says what became of a group's endpoints, their names in front.
func (g group) what(s Subject) string {
	first := g.rows[0]
	switch g.trouble {
	case noName:
		return "not resolved (network.dns says why)"
	case silent:
		if g.cause != "" {
			return "connected, and no answer to TLS: a firewall or proxy holds it"
		}
		return fmt.Sprintf("no answer within %s: a firewall drops the packets, or there is no way out", s.networkTime)
	case refused:
		return "connection refused"
	case unreachable:
		return "no route there"
	case forbidden:
		return "this host's own packet filter forbids it"
	case cut:
		return "connected, and cut off: a firewall lets other names through"
	case untrusted:
		if ofAWS(g.cause) {
			return fmt.Sprintf("AWS's certificate (issued by %s) is not trusted here: this host's certificate authorities are "+
				"missing or old", g.cause)
		}
		return fmt.Sprintf("the certificate is issued by %s, which is not trusted here: a proxy or firewall opens the "+
			"connection", g.cause)
	case expired:
		return fmt.Sprintf("the certificate is valid from %s to %s only, and this host's clock is not what is wrong",
			first.cert.NotBefore.UTC().Format(time.DateOnly), first.cert.NotAfter.UTC().Format(time.DateOnly))
	case wrongClock:
		return "the certificate is not valid at this host's time: its clock is wrong (clock.skew)"
	case wrongName:
		return fmt.Sprintf("another server answers: its certificate, issued by %s, is for %s", g.cause, certNames(first))
	case notTLS:
		return "what answers does not speak TLS: a login page or proxy in AWS's place"
	case proxyFails:
		return "the proxy does not let it through: " + g.cause
	default:
		return g.cause
	}
}

func certNames(r row) string {
	if len(r.cert.DNSNames) == 0 {
		return r.cert.Subject.String()
	}
	return strings.Join(r.cert.DNSNames[:min(3, len(r.cert.DNSNames))], ", ")
}

// ofAWS reports whether an authority is one that AWS's endpoints have. Source:
// https://docs.aws.amazon.com/systems-manager/latest/userguide/troubleshooting-managed-instances.html, read 2026-11-22.
func ofAWS(issuer string) bool {
	return strings.Contains(issuer, "O=Amazon") || strings.Contains(issuer, "O=Starfield")
}

func sentences(bad []row, of int, s Subject) string {
	var all []string
	for _, g := range groups(bad) {
		who := names(g.rows)
		if len(g.rows) == of && of > 1 {
			who = fmt.Sprintf("none of the %d endpoints can be used, %s among them", of, g.rows[0].host)
		}
		all = append(all, who+": "+g.what(s))
	}
	return strings.Join(all, "; ")
}

// names are the endpoints, those that only some use with what for.
func names(rows []row) string {
	var all []string
	for _, r := range rows {
		name := r.host
		if r.port != "443" {
			name = r.name()
		}
		if !r.required {
			name += " (" + r.why + ")"
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

// remedies are what to do, one for each kind of trouble.
func remedies(bad []row, s Subject) string {
	var all []string
	for _, g := range groups(bad) {
		if remedy := g.remedy(s); !slices.Contains(all, remedy) {
			all = append(all, remedy)
		}
	}
	return strings.Join(all, "; ")
}

func (g group) remedy(s Subject) string {
	first := g.rows[0]
	switch g.trouble {
	case noName:
		return dnsRemedy(first.host)
	case untrusted:
		if ofAWS(g.cause) {
			return installAuthorities(s)
		}
		return fmt.Sprintf("let %s through unopened, or trust that authority: anywhere register --ca-file FILE tells "+
			"everybody on this host; by hand, %s", open(g.rows), trustAuthority(s))
	case expired:
		return fmt.Sprintf("renew the certificate of what answers at %s; a proxy that opens connections is the likeliest",
			first.host)
	case wrongClock:
		return "timedatectl set-ntp true"
	case wrongName, notTLS:
		return fmt.Sprintf("getent ahosts %s shows where the name leads: correct DNS or /etc/hosts, or see to the proxy "+
			"there", first.host)
	case proxyFails:
		if strings.Contains(g.cause, "407") {
			return "give the proxy's user and password in https_proxy: http://USER:PASSWORD@HOST:PORT"
		}
		if strings.Contains(g.cause, "https://") && first.proxy != nil {
			return fmt.Sprintf("write the proxy as http://%s, unless it really takes TLS", first.proxy.Host)
		}
		return fmt.Sprintf("let the proxy connect to %s, or correct its address (network.proxy says where it is set)",
			open(g.rows))
	case forbidden:
		return fmt.Sprintf("nft list ruleset (or iptables -S OUTPUT) shows the rule; let TCP out to %s", open(g.rows))
	}
	remedy := fmt.Sprintf("let TCP out to %s", open(g.rows))
	if s.Region != "" {
		remedy += fmt.Sprintf("; anywhere preflight --list-endpoints --region %s prints the whole list", s.Region)
	}
	return remedy
}

// open is what a firewall must let out.
func open(rows []row) string {
	var all []string
	for _, r := range rows {
		if r.open != "" && !slices.Contains(all, r.open) {
			all = append(all, r.open)
		}
	}
	return strings.Join(all, ", ")
}

func installAuthorities(s Subject) string {
	state, err := s.Host.Packages.State()
	if err != nil {
		return "install the package ca-certificates"
	}
	if state.Family == "rpm" {
		return state.InstallCommand("ca-certificates")
	}
	return state.ReinstallCommand("ca-certificates")
}

func trustAuthority(s Subject) string {
	if state, err := s.Host.Packages.State(); err == nil && state.Manager == "zypper" {
		return "put its certificate, as NAME.pem, into /etc/pki/trust/anchors, then update-ca-certificates"
	}
	if family(s) == "rpm" {
		return "put its certificate into /etc/pki/ca-trust/source/anchors, then update-ca-trust"
	}
	return "put its certificate, as NAME.crt, into /usr/local/share/ca-certificates, then update-ca-certificates"
}

// family is that of the package manager; empty where it cannot be told.
func family(s Subject) string {
	state, err := s.Host.Packages.State()
	if err != nil {
		return ""
	}
	return state.Family
}
