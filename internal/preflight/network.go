package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const troubleshootingDocs = "https://docs.aws.amazon.com/systems-manager/latest/userguide/" +
	"troubleshooting-managed-instances.html"

func networkChecks() []Check {
	return []Check{
		{ID: "clock.skew", Title: "Clock", Network: true, Run: clockSkew},
		{ID: "network.dns", Title: "Name resolution", Network: true, Run: networkDNS},
		{ID: "network.endpoints", Title: "AWS endpoints", Docs: troubleshootingDocs, Network: true, Run: networkEndpoints},
		{ID: "network.proxy", Title: "Proxy", Root: true, Run: networkProxy},
		{ID: "network.ports", Title: "The ECS agent's ports", Run: networkPorts},
		{ID: "network.iptables", Title: "Packet filter", Run: networkTables},
	}
}

// noTargets is the result of a check of endpoints when nothing says which.
func noTargets() Result {
	return skip("nothing says which Region's endpoints: --region REGION does")
}

// networkDNS says which names of the endpoints do not resolve. A proxy resolves what goes through it.
func networkDNS(_ context.Context, s Subject) Result {
	p := s.network()
	if p.err != nil {
		return broken(p.err)
	}
	if len(p.rows) == 0 {
		return noTargets()
	}
	names := []map[string]any{}
	var asked, lost []row
	for _, r := range p.rows {
		if !r.lookedUp() {
			continue
		}
		asked = append(asked, r)
		fact := map[string]any{"name": r.host, "ok": r.trouble != noName, "required": r.required, "addresses": addresses(r)}
		if r.unresolved() {
			lost, fact["ok"], fact["error"] = append(lost, r), false, r.err.Error()
		}
		names = append(names, fact)
	}
	servers := resolvers(s.Host.Files)
	var result Result
	switch required := needed(lost); {
	case len(asked) == 0 && slices.ContainsFunc(p.rows, func(r row) bool { return r.proxy != nil }):
		result = pass("the proxy resolves the names")
	case len(asked) == 0:
		result = pass("the endpoints are addresses")
	case len(lost) == 0:
		kinds := map[string]int{}
		for _, r := range asked {
			kinds[kindOf(r.addrs)]++
		}
		result = pass("%d names resolve%s", len(asked), tally(kinds))
	case len(required) == 0:
		result = warn(fmt.Sprintf("only some uses need them, and they do not resolve (%s): %s", cause(lost), purposes(lost)),
			dnsRemedy(lost[0].host))
	default:
		result = fail(failure.NameUnresolved, dnsDetail(required, len(lost) == len(asked), servers),
			dnsRemedy(required[0].host))
		result.gist = gist(required)
	}
	return result.with("names", names).with("resolvers", servers)
}

func addresses(r row) []string {
	all := []string{}
	for _, a := range r.addrs {
		all = append(all, a.Unmap().String())
	}
	return all
}

// unresolved reports whether the name is what keeps a row from being reached: also when time ended before it was known.
func (r row) unresolved() bool {
	return r.lookedUp() && (r.trouble == noName || r.trouble == silent && len(r.addrs) == 0)
}

func dnsDetail(lost []row, all bool, servers []string) string {
	what := "do not resolve: " + hosts(lost)
	if len(lost) == 1 {
		what = "the name " + lost[0].host + " does not resolve"
	}
	if all && len(lost) > 1 {
		what = "no name resolves, " + lost[0].host + " among them"
	}
	by := "/etc/resolv.conf names no server"
	if len(servers) > 0 {
		by = "/etc/resolv.conf names " + strings.Join(servers, ", ")
	}
	return fmt.Sprintf("%s (%s); %s", what, cause(lost), by)
}

// cause is what the resolver said of the first of them, without the name.
func cause(lost []row) string {
	var dns *net.DNSError
	switch err := lost[0].err; {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such name"
	case errors.As(err, &dns) && dns.IsTimeout, lost[0].trouble == silent:
		return "the name server does not answer"
	case errors.As(err, &dns) && errors.Is(err, syscall.ECONNREFUSED):
		return "no name server listens at " + dns.Server
	case errors.As(err, &dns):
		return dns.Err
	default:
		return err.Error()
	}
}

func dnsRemedy(name string) string {
	return fmt.Sprintf("getent ahosts %s asks as the agents do; correct the name servers (resolvectl status, or "+
		"/etc/resolv.conf), or let UDP and TCP 53 out to them; with a proxy, set https_proxy", name)
}

// resolvers are the name servers of /etc/resolv.conf.
func resolvers(files host.Files) []string {
	servers := []string{}
	text, err := files.ReadFile("/etc/resolv.conf")
	if err != nil {
		return servers
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			servers = append(servers, words[1])
		}
	}
	return servers
}

func tally(kinds map[string]int) string {
	var words []string
	for _, kind := range []string{"public", "private", "private and public"} {
		if kinds[kind] > 0 {
			words = append(words, fmt.Sprintf("%d to %s addresses", kinds[kind], kind))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return ", " + strings.Join(words, ", ")
}

func needed(rows []row) (required []row) {
	for _, r := range rows {
		if r.required {
			required = append(required, r)
		}
	}
	return required
}

func hosts(rows []row) string {
	var names []string
	for _, r := range rows {
		names = append(names, r.host)
	}
	return strings.Join(names, ", ")
}

// purposes are names with what they are for.
func purposes(rows []row) string {
	var names []string
	for _, r := range rows {
		names = append(names, fmt.Sprintf("%s (%s)", r.host, r.why))
	}
	return strings.Join(names, ", ")
}

// clockSkew compares this host's clock with the dates that the endpoints give.
func clockSkew(_ context.Context, s Subject) Result {
	p := s.network()
	if p.err != nil {
		return broken(p.err)
	}
	if len(p.rows) == 0 {
		return noTargets()
	}
	var dated []row
	for _, trusted := range []bool{true, false} { // a date over plain HTTP counts only where there is none over TLS
		for _, r := range p.rows {
			if r.dated && r.trusted == trusted {
				dated = append(dated, r)
			}
		}
		if len(dated) > 0 {
			break
		}
	}
	if len(dated) == 0 {
		return skip("no endpoint answered with a date: network.endpoints says why")
	}
	slices.SortFunc(dated, func(a, b row) int { return int(a.offset/time.Millisecond) - int(b.offset/time.Millisecond) })
	middle := dated[len(dated)/2]
	offset := middle.offset
	size := offset.Abs().Round(time.Second)
	way := "ahead of"
	if offset < 0 {
		way = "behind"
	}
	says := fmt.Sprintf("this host's clock is %s %s AWS's (the date of %s)", size, way, middle.host)
	if !middle.trusted {
		says = fmt.Sprintf("this host's clock is %s %s that of %s", size, way, middle.host)
	}
	right := s.Host.Now().Add(-offset).UTC().Format(time.DateTime)
	remedy := "timedatectl set-ntp true; where no time server can be reached: date -u -s '" + right + "'"
	var r Result
	switch {
	case offset.Abs() > maxSkew:
		r = fail(failure.ClockSkew, says+": AWS refuses signatures that are more than 5 minutes off", remedy)
	case offset.Abs() > oddSkew:
		r = warn(says+": at 5 minutes AWS refuses signatures", remedy)
	case offset.Abs() <= time.Second:
		r = pass("right to the second")
	default:
		r = pass("%s %s the endpoints'", size, way)
	}
	return r.with("offsetMs", offset.Milliseconds()).with("measuredAt", middle.host).with("authenticated", middle.trusted)
}

// maxSkew is what AWS allows a signature, as its own error text says ("… (… - 5 min.)").
const (
	maxSkew = 5 * time.Minute
	oddSkew = time.Minute
)
