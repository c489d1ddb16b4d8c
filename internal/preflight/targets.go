package preflight

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/anywhere-ecs/anywhere/internal/partition"
)

// target is one name, or address, that is tried.
type target struct {
	service  string
	scheme   string // https, or http for an endpoint of the agents' own
	host     string // concrete: ecs-a-1.eu-central-1.amazonaws.com, 10.77.0.1
	port     string
	open     string // what a firewall must let out: ecs-a-*.eu-central-1.amazonaws.com:443
	why      string
	who      string // goes there, by its own proxy
	required bool
}

func (t target) name() string { return net.JoinHostPort(t.host, t.port) }

// isName reports whether the host has to be looked up.
func (t target) isName() bool {
	_, err := netip.ParseAddr(t.host)
	return err != nil
}

// goers are who uses a service; the rest is this command's.
var goers = map[string]string{
	"ecs": ecs, "ecs-a": ecs, "ecs-t": ecs, "logs": daemon, "api.ecr": ecs, "dkr.ecr": daemon, "secretsmanager": ecs,
	"ssm": ssm, "ssmmessages": ssm, "ec2messages": ssm, "kms": ssm,
}

// targets are what an external instance of the subject's Region needs: AWS's names, or the agents' own endpoints in
// their place. Where these stand in for AWS altogether, as a test's do, nothing of AWS's but packages is looked at.
func targets(s Subject) []target {
	own := ownEndpoints(s.Endpoints)
	foreign := func(service string) bool { return own[service].host != "" && !partition.IsAWS(own[service].host) }
	standIn := foreign("ecs") && foreign("ssm")
	var all []target
	if s.Region != "" {
		for _, d := range s.destinations() {
			mine, has := own[d.Service]
			switch {
			case has:
				mine.why, mine.required = d.Why, d.Need == partition.Always
				all = append(all, mine)
				continue
			case d.Probe == "", standIn && d.Need != partition.Packages, d.Need == partition.Docker && !s.Docker,
				s.Artifacts != "" && (d.Bucket || d.Need == partition.Docker): // Docker's repository is below it, too
				continue
			case own["ecs"].host != "" && (d.Service == "ecs-a" || d.Service == "ecs-t"):
				continue // the endpoint says where its channels are
			}
			port := strconv.Itoa(d.Port)
			t := target{
				service: d.Service, scheme: "https", host: d.Probe, port: port, open: net.JoinHostPort(d.Host, port), why: d.Why,
				who: goers[d.Service], required: d.Need == partition.Always || d.Need == partition.Packages && !s.Cached,
			}
			if t.who == "" {
				t.who = self
			}
			all = append(all, t)
		}
	} else {
		for _, service := range []string{"ecs", "ssm", "ssmmessages", "ec2messages"} {
			if t, has := own[service]; has {
				t.why, t.required = "the agents' own endpoint", service != "ec2messages"
				all = append(all, t)
			}
		}
	}
	if t, ok := parseTarget("artifacts", s.Artifacts); ok {
		t.why, t.who, t.required = "the agents' packages (--artifacts)", self, !s.Cached
		all = append(all, t)
	}
	return distinct(all)
}

// ownEndpoints are the agents' own endpoints by service. A message gateway at the address of a plain-HTTP SSM endpoint
// is none: who gives one URL for all gets it without a choice, and the SSM agent, which speaks to the gateway by TLS only,
// works with ec2messages then (facts: ssm-agent section 10).
func ownEndpoints(e Endpoints) map[string]target {
	own := map[string]target{}
	for service, text := range map[string]string{
		"ecs": e.ECS, "ssm": e.SSM, "ssmmessages": e.SSMMessages, "ec2messages": e.EC2Messages,
	} {
		if t, ok := parseTarget(service, text); ok {
			t.who = goers[service]
			own[service] = t
		}
	}
	gateway, has := own["ssmmessages"]
	if plain := own["ssm"]; has && plain.scheme == "http" && plain.host == gateway.host {
		if u, err := url.Parse(e.SSMMessages); err == nil && u.Port() == plain.port {
			own["ssmmessages"] = plain
		}
	}
	return own
}

// parseTarget reads an endpoint; without a scheme it is https, as for both agents.
func parseTarget(service, text string) (target, bool) {
	u, err := url.Parse(text)
	if err == nil && u.Host == "" && text != "" && text[0] != '/' {
		u, err = url.Parse("https://" + text)
	}
	if err != nil || u.Hostname() == "" {
		return target{}, false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80"}[u.Scheme]
	}
	if port == "" {
		port = "443"
	}
	return target{service: service, scheme: u.Scheme, host: u.Hostname(), port: port,
		open: net.JoinHostPort(u.Hostname(), port)}, true
}

// distinct joins targets at one address: it is tried once, and required when one of them is.
func distinct(all []target) (out []target) {
	at := map[string]int{}
	for _, t := range all {
		key := t.scheme + " " + t.name()
		if i, seen := at[key]; seen {
			out[i].service += ", " + t.service
			out[i].why += "; " + t.why
			out[i].required = out[i].required || t.required
			continue
		}
		at[key] = len(out)
		out = append(out, t)
	}
	return out
}
