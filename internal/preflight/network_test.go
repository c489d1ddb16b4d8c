package preflight

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const (
	region = "eu-central-1"
	zone   = "." + region + ".amazonaws.com"
)

var here = Subject{Region: region}

// brief is a bound that a test waits out.
const brief = time.Second

// online is the good machine with a good network, changed.
func online(change func(*machine, *web)) func(*machine) {
	return func(m *machine) {
		w := connect(m)
		if change != nil {
			change(m, w)
		}
	}
}

func nxdomain(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// standIn is one server of plain HTTP in the place of all of AWS.
var standIn = Endpoints{
	ECS: "http://10.77.0.1:8080", SSM: "http://10.77.0.1:8080", SSMMessages: "https://10.77.0.1:8080",
	EC2Messages: "http://10.77.0.1:8080",
}

func standingIn(w *web) {
	w.hosts["10.77.0.1:8080"] = w.plain(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Date", checkTime.Format(http.TimeFormat))
		rw.WriteHeader(http.StatusNotFound)
	})
}

// imds answers as EC2 does; version 1 has no tokens.
func imds(version int) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		switch {
		case req.Method == http.MethodPut && version == 2 && req.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "":
			_, _ = io.WriteString(rw, "token")
		case req.Method == http.MethodGet && req.URL.Path == identityPath &&
			(version == 1 || req.Header.Get("X-Aws-Ec2-Metadata-Token") == "token"):
			_, _ = io.WriteString(rw, `{"accountId":"111122223333","instanceId":"i-0a1b2c3d4e5f60718","region":"eu-west-1"}`)
		default:
			rw.WriteHeader(http.StatusForbidden)
		}
	}
}

func proxyUnit(m *machine, unit, name, value string) {
	m.write("/etc/systemd/system/"+unit+".d/proxy.conf", fmt.Sprintf("[Service]\nEnvironment=\"%s=%s\"\n", name, value))
}

const (
	corporate = "http://proxy.example:3128"
	bypass    = "169.254.169.254,169.254.170.2,/var/run/docker.sock"
)

// proxied is a host on which all are told of the same proxy.
func proxied(m *machine) {
	for _, unit := range []string{"docker.service", "amazon-ssm-agent.service"} {
		m.write("/etc/systemd/system/"+unit+".d/proxy.conf",
			"[Service]\nEnvironment=HTTPS_PROXY="+corporate+" 'NO_PROXY="+bypass+"'\n")
	}
	m.write(ecsagent.ConfigPath, "HTTPS_PROXY="+corporate+"\nNO_PROXY="+bypass+"\n")
}

// socket is a listening one in /proc/net/tcp, of this process.
func socket(m *machine, file, address, inode, pid, comm string) {
	line := "   0: " + address + " 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 " + inode + " 1 0\n"
	m.write("/proc/net/"+file, "  sl  local_address rem_address   st\n"+line)
	if pid == "" {
		return
	}
	m.write("/proc/"+pid+"/comm", comm+"\n")
	m.link("/proc/"+pid+"/fd/7", "socket:["+inode+"]")
}

var networkCases = []checkCase{
	{id: "metadata.endpoint", name: "nothing", status: Pass, detail: "nothing answers"},
	{id: "metadata.endpoint", name: "offline", subject: Subject{Offline: true}, status: Skip, detail: "--offline"},
	{id: "metadata.endpoint", name: "packets dropped",
		change: online(func(_ *machine, w *web) { w.hosts["*"] = drops }),
		status: Pass, detail: "nothing answers"},
	{id: "metadata.endpoint", name: "EC2, with its metadata switched off",
		change: online(func(m *machine, _ *web) { m.write("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n") }),
		status: Warn, detail: "(/sys/class/dmi/id/sys_vendor: Amazon EC2) whose metadata service does not answer", remedy: "AWS_EC2_METADATA_DISABLED"},
	{id: "metadata.endpoint", name: "another maker's machine",
		change: online(func(m *machine, _ *web) { m.write("/sys/class/dmi/id/sys_vendor", "QEMU\n") }),
		status: Pass, detail: "not an EC2 instance"},
	{id: "metadata.endpoint", name: "EC2, version 2",
		change: online(func(_ *machine, w *web) { w.hosts[metadataAddress] = w.plain(imds(2)) }),
		status: Warn, detail: "EC2 instance i-0a1b2c3d4e5f60718 in eu-west-1", remedy: "AWS_EC2_METADATA_DISABLED"},
	{id: "metadata.endpoint", name: "EC2, version 1",
		change: online(func(_ *machine, w *web) { w.hosts[metadataAddress] = w.plain(imds(1)) }),
		status: Warn, detail: "EC2 instance i-0a1b2c3d4e5f60718"},
	{id: "metadata.endpoint", name: "EC2 and an old agent", change: online(func(m *machine, w *web) {
		w.hosts[metadataAddress] = w.plain(imds(2))
		m.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Version: "1.99.0-1", Installed: true}
	}), status: Warn, detail: "1.100.0 or later is needed", remedy: "--ecs-agent-version latest"},
	{id: "metadata.endpoint", name: "an appliance that answers 404", change: online(func(_ *machine, w *web) {
		w.hosts[metadataAddress] = w.plain(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Server", "WallOfFire/9")
			rw.WriteHeader(http.StatusNotFound)
		})
	}), status: Warn, detail: "HTTP 404, server WallOfFire/9", remedy: "blackhole 169.254.169.254"},
	{id: "metadata.endpoint", name: "another cloud", change: online(func(_ *machine, w *web) {
		w.hosts[metadataAddress] = w.plain(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Metadata-Flavor", "Google")
			rw.WriteHeader(http.StatusForbidden)
		})
	}), status: Warn, detail: "Google Cloud", remedy: "ConsumptionOrder"},
	{id: "metadata.endpoint", name: "something that is not HTTP", change: online(func(_ *machine, w *web) {
		w.hosts[metadataAddress] = w.raw(slams)
	}), status: Warn, detail: "does not answer as HTTP", remedy: "blackhole"},

	{id: "clock.skew", name: "no Region", change: online(nil), status: Skip, detail: "--region"},
	{id: "clock.skew", name: "right", subject: here, change: online(nil), status: Pass, detail: "right to the second"},
	{id: "clock.skew", name: "half a minute off", subject: here,
		change: online(func(m *machine, _ *web) { m.ahead = 30 * time.Second }), status: Pass, detail: "30s ahead of"},
	{id: "clock.skew", name: "two minutes ahead", subject: here,
		change: online(func(m *machine, _ *web) { m.ahead = 2 * time.Minute }),
		status: Warn, detail: "2m0s ahead of AWS's", remedy: "timedatectl set-ntp true"},
	{id: "clock.skew", name: "six minutes behind", subject: here,
		change: online(func(m *machine, _ *web) { m.ahead = -6 * time.Minute }),
		status: Fail, detail: "clock is 6m1s behind AWS's", remedy: "date -u -s '2026-11-22 12:00"},
	{id: "clock.skew", name: "years behind, so that no certificate is valid", subject: here,
		change: online(func(m *machine, _ *web) { m.ahead = -10 * 365 * 24 * time.Hour }),
		status: Fail, detail: "clock is 87600h0m1s behind AWS's", remedy: "date -u -s '2026-11-22 12:00"},
	{id: "clock.skew", name: "no dates", subject: here, change: online(func(_ *machine, w *web) {
		w.good = w.serve(server{undated: true})
	}), status: Skip, detail: "network.endpoints says why"},
	{id: "clock.skew", name: "against a stand-in",
		subject: Subject{Region: region, Endpoints: standIn, Cached: true, Artifacts: "/mirror"},
		change:  online(func(m *machine, w *web) { m.ahead = 2 * time.Minute; standingIn(w) }),
		status:  Warn, detail: "ahead of that of 10.77.0.1", remedy: "timedatectl"},

	{id: "network.dns", name: "no Region", change: online(nil), status: Skip, detail: "--region"},
	{id: "network.dns", name: "all resolve", subject: here, change: online(nil), status: Pass,
		detail: "13 names resolve, 13 to public"},
	{id: "network.dns", name: "a VPC endpoint", subject: here, change: online(func(_ *machine, w *web) {
		w.names["ecs"+zone] = []netip.Addr{netip.MustParseAddr("10.1.2.3")}
	}), status: Pass, detail: "12 to public addresses, 1 to private addresses"},
	{id: "network.dns", name: "one that is needed does not", subject: here, change: online(func(m *machine, w *web) {
		w.lost["ecs"+zone] = nxdomain("ecs" + zone)
		m.write("/etc/resolv.conf", "# by hand\nnameserver 10.0.0.2\nsearch example.com\nnameserver 10.0.0.3\n")
	}), status: Fail, code: failure.NameUnresolved,
		detail: "the name ecs.eu-central-1.amazonaws.com does not resolve (no such name); /etc/resolv.conf names 10.0.0.2, 10.0.0.3",
		remedy: "getent ahosts ecs.eu-central-1.amazonaws.com"},
	{id: "network.dns", name: "one that some need does not", subject: here, change: online(func(_ *machine, w *web) {
		w.lost["logs"+zone] = nxdomain("logs" + zone)
	}), status: Warn, detail: "logs.eu-central-1.amazonaws.com (tasks with the awslogs driver",
		remedy: "getent ahosts logs"},
	{id: "network.dns", name: "none does", subject: here, change: online(func(_ *machine, w *web) {
		w.lost["*"] = &net.DNSError{Err: "i/o timeout", IsTimeout: true}
	}), status: Fail, code: failure.NameUnresolved,
		detail: "no name resolves, ecs.eu-central-1.amazonaws.com among them (the name server does not answer)",
		remedy: "53"},
	{id: "network.dns", name: "a filter answers", subject: here, change: online(func(_ *machine, w *web) {
		w.names["ssm"+zone] = []netip.Addr{netip.IPv4Unspecified()}
	}), status: Fail, detail: "0.0.0.0", remedy: "ssm."},
	{id: "network.dns", name: "the proxy does it", subject: here, change: online(func(m *machine, w *web) {
		m.env = map[string]string{"https_proxy": corporate}
		w.lost["ecs"+zone] = nxdomain("ecs" + zone)
		w.hosts["proxy.example"] = w.relay("", "")
	}), status: Pass, detail: "the proxy resolves"},

	{id: "network.endpoints", name: "no Region", change: online(nil), status: Skip, detail: "--region"},
	{id: "network.endpoints", name: "all answer", subject: here, change: online(nil), status: Pass,
		detail: "all 13 answer"},
	{id: "network.endpoints", name: "Docker comes from its own repository",
		subject: Subject{Region: region, Docker: true},
		change:  online(nil), status: Pass, detail: "all 14 answer"},
	{id: "network.endpoints", name: "no names", subject: here, change: online(func(_ *machine, w *web) {
		w.lost["*"] = nxdomain("x")
	}), status: Fail, code: failure.EndpointUnreachable, detail: "network.dns says why", remedy: "getent ahosts"},
	{id: "network.endpoints", name: "all packets dropped", subject: here, change: online(func(m *machine, w *web) {
		w.hosts["*"], m.bound = drops, brief
	}), status: Fail, code: failure.EndpointUnreachable,
		detail: "none of the 13 endpoints can be used, ecs.eu-central-1.amazonaws.com among them: no answer within 1s",
		remedy: "let TCP out to ecs.eu-central-1.amazonaws.com:443, ecs-a-*.eu-central-1.amazonaws.com:443"},
	{id: "network.endpoints", name: "refused", subject: here, change: online(func(_ *machine, w *web) {
		w.hosts["ecs-t-1"+zone] = failing(syscall.ECONNREFUSED)
	}), status: Fail, detail: "ecs-t-1.eu-central-1.amazonaws.com: connection refused",
		remedy: "ecs-t-*.eu-central-1.amazonaws.com:443"},
	{id: "network.endpoints", name: "no route", subject: here, change: online(func(_ *machine, w *web) {
		w.hosts["ssm"+zone] = failing(syscall.ENETUNREACH)
	}), status: Fail, detail: "ssm.eu-central-1.amazonaws.com: no route there",
		remedy: "--list-endpoints --region eu-central-1"},
	{id: "network.endpoints", name: "the host's own filter", subject: here, change: online(func(_ *machine, w *web) {
		w.hosts["ssm"+zone] = failing(syscall.EPERM)
	}), status: Fail, detail: "own packet filter", remedy: "nft list ruleset"},
	{id: "network.endpoints", name: "cut off by name", subject: here, change: online(func(_ *machine, w *web) {
		w.hosts["ecs-a-1"+zone] = w.raw(slams)
	}), status: Fail, detail: "ecs-a-1.eu-central-1.amazonaws.com: connected, and cut off", remedy: "ecs-a-*"},
	{id: "network.endpoints", name: "held in TLS", subject: here, change: online(func(m *machine, w *web) {
		w.hosts["ecs-a-1"+zone], m.bound = w.raw(holds), brief
	}), status: Fail, detail: "no answer to TLS", remedy: "ecs-a-*"},
	{id: "network.endpoints", name: "opened by a proxy", subject: here, change: online(func(_ *machine, w *web) {
		w.good = w.serve(server{by: newAuthority(w.t, "Example Corp Inspection")})
	}), status: Fail, detail: "none of the 13 endpoints can be used, ecs.eu-central-1.amazonaws.com among them: " +
		"the certificate is issued by CN=Root,O=Example Corp Inspection, which is not trusted here",
		remedy: "update-ca-certificates"},
	{id: "network.endpoints", name: "no authorities", subject: here, change: online(func(_ *machine, w *web) {
		w.good = w.serve(server{by: newAuthority(w.t, "Amazon")})
	}), status: Fail, detail: "AWS's certificate (issued by CN=Root,O=Amazon) is not trusted here",
		remedy: "install --reinstall ca-certificates"},
	{id: "network.endpoints", name: "certificate of another", subject: here, change: online(func(_ *machine, w *web) {
		w.hosts["ecs"+zone] = w.serve(server{name: "router.local"})
	}), status: Fail, detail: "another server answers", remedy: "getent ahosts ecs.eu-central-1"},
	{id: "network.endpoints", name: "certificate that has expired", subject: here,
		change: online(func(_ *machine, w *web) {
			w.hosts["ecs"+zone] = w.serve(server{from: checkTime.AddDate(0, -2, 0), to: checkTime.AddDate(0, -1, 0)})
		}), status: Fail, detail: "valid from 2026-09-22 to 2026-10-22 only", remedy: "renew the certificate"},
	{id: "network.endpoints", name: "the clock is wrong", subject: here,
		change: online(func(m *machine, _ *web) { m.ahead = 5 * 365 * 24 * time.Hour }),
		status: Fail, detail: "its clock is wrong (clock.skew)", remedy: "timedatectl set-ntp true"},
	{id: "network.endpoints", name: "not TLS", subject: here, change: online(func(_ *machine, w *web) {
		w.hosts["ssm"+zone] = w.raw(func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1))
			_, _ = io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n")
			holds(conn)
		})
	}), status: Fail, detail: "does not speak TLS", remedy: "getent ahosts ssm"},
	{id: "network.endpoints", name: "only some need it", subject: here, change: online(func(_ *machine, w *web) {
		w.hosts["logs"+zone] = failing(syscall.ECONNREFUSED)
	}), status: Warn,
		detail: "only some uses need them: logs.eu-central-1.amazonaws.com (tasks with the awslogs driver, and logs of sessions)",
		remedy: "let TCP out to logs.eu-central-1.amazonaws.com:443"},
	{id: "network.endpoints", name: "packages that are not there", subject: here,
		change: online(func(_ *machine, w *web) {
			w.hosts["s3"+zone] = failing(syscall.ECONNREFUSED)
		}), status: Fail, detail: "s3.eu-central-1.amazonaws.com"},
	{id: "network.endpoints", name: "packages that are there", subject: Subject{Region: region, Cached: true},
		change: online(func(_ *machine, w *web) { w.hosts["s3"+zone] = failing(syscall.ECONNREFUSED) }),
		status: Warn, detail: "s3.eu-central-1.amazonaws.com", remedy: "s3."},
	{id: "network.endpoints", name: "a mirror that is gone",
		subject: Subject{Region: region, Artifacts: "https://mirror.example/aws"},
		change:  online(func(_ *machine, w *web) { w.hosts["mirror.example"] = failing(syscall.ECONNREFUSED) }),
		status:  Fail, detail: "mirror.example: connection refused", remedy: "mirror.example:443"},
	{id: "network.endpoints", name: "a folder", subject: Subject{Region: region, Artifacts: "/mirror"},
		change: online(func(_ *machine, w *web) { w.hosts["s3"+zone] = failing(syscall.ECONNREFUSED) }),
		status: Pass, detail: "all 11 answer"},
	{id: "network.endpoints", name: "a stand-in",
		subject: Subject{Region: region, Endpoints: standIn, Artifacts: "http://10.77.0.1:8080"},
		change:  online(func(_ *machine, w *web) { standingIn(w); w.lost["*"] = nxdomain("x") }), status: Pass,
		detail: "all 1 answer"},
	{id: "network.endpoints", name: "a stand-in that is gone",
		subject: Subject{Region: region, Endpoints: standIn, Cached: true, Artifacts: "/mirror"},
		change:  online(nil), status: Fail, detail: "10.77.0.1:8080: connection refused",
		remedy: "let TCP out to 10.77.0.1:8080"},
	{id: "network.endpoints", name: "a stand-in, without a Region", subject: Subject{Endpoints: standIn},
		change: online(func(_ *machine, w *web) { standingIn(w) }), status: Pass},
	{id: "network.endpoints", name: "through a proxy", subject: here, change: online(func(m *machine, w *web) {
		m.env = map[string]string{"https_proxy": corporate}
		w.hosts["proxy.example"] = w.relay("", "")
	}), status: Pass, detail: "all 13 answer, through http://proxy.example:3128"},
	{id: "network.endpoints", name: "through a proxy with a password", subject: here,
		change: online(func(m *machine, w *web) {
			m.env = map[string]string{"HTTPS_PROXY": "http://user:not-a-real-secret@proxy.example:3128"}
			w.hosts["proxy.example"] = w.relay("", "Basic dXNlcjpub3QtYS1yZWFsLXNlY3JldA==")
		}), status: Pass, detail: "through http://[redacted]@proxy.example:3128"},
	{id: "network.endpoints", name: "a proxy that wants a password", subject: here,
		change: online(func(m *machine, w *web) {
			m.env = map[string]string{"https_proxy": corporate}
			w.hosts["proxy.example"] = w.relay("", "Basic eDp5")
		}), status: Fail, detail: "http://proxy.example:3128: it answered \"HTTP/1.1 407",
		remedy: "http://USER:PASSWORD@HOST:PORT"},
	{id: "network.endpoints", name: "a proxy that refuses", subject: here, change: online(func(m *machine, w *web) {
		m.env = map[string]string{"https_proxy": "proxy.example:3128"}
		w.hosts["proxy.example"] = w.relay("HTTP/1.1 403 Forbidden\r\n\r\n", "")
	}), status: Fail, detail: "403 Forbidden", remedy: "let the proxy connect to ecs.eu-central-1.amazonaws.com:443"},
	{id: "network.endpoints", name: "a proxy that is gone", subject: here, change: online(func(m *machine, w *web) {
		m.env = map[string]string{"https_proxy": corporate}
		w.hosts["proxy.example"] = failing(syscall.ECONNREFUSED)
	}), status: Fail, detail: "connecting to it", remedy: "correct its address"},
	{id: "network.endpoints", name: "a proxy of plain HTTP, written as https", subject: here,
		change: online(func(m *machine, w *web) {
			m.env = map[string]string{"https_proxy": "https://proxy.example:3128"}
			w.hosts["proxy.example"] = w.plain(func(http.ResponseWriter, *http.Request) {})
		}), status: Fail, detail: "begins with https://", remedy: "write the proxy as http://proxy.example:3128"},
	{id: "network.endpoints", name: "a proxy that really takes TLS", subject: here,
		change: online(func(m *machine, w *web) {
			m.env = map[string]string{"https_proxy": "https://proxy.example:3129"}
			w.hosts["proxy.example"] = w.overTLS(w.relay("", ""))
		}), status: Pass, detail: "through https://proxy.example:3129"},
	{id: "network.endpoints", name: "the agents' own proxies", subject: here, change: online(func(m *machine, w *web) {
		proxied(m)
		w.hosts["proxy.example"] = w.relay("HTTP/1.1 403 Forbidden\r\n\r\n", "")
	}), status: Fail, detail: "ssmmessages.eu-central-1.amazonaws.com: the proxy does not let it through"},

	{id: "network.proxy", name: "none", status: Pass, detail: "no proxy"},
	{id: "network.proxy", name: "all agree", change: proxied, status: Pass, detail: corporate + ", for all"},
	{id: "network.proxy", name: "the environment alone",
		change: func(m *machine) { m.env = map[string]string{"https_proxy": corporate} },
		status: Warn, detail: "Docker is told of no proxy, and this command is (the environment)",
		remedy: "systemctl edit docker.service"},
	{id: "network.proxy", name: "sudo dropped it", subject: Subject{Mutating: true}, change: proxied,
		status: Warn, detail: "this command is told of no proxy", remedy: "sudo drops it"},
	{id: "network.proxy", name: "two proxies", change: func(m *machine) {
		proxied(m)
		proxyUnit(m, "docker.service", "HTTPS_PROXY", "http://other.example:8080")
	}, status: Warn,
		detail: "Docker goes through http://other.example:8080 (/etc/systemd/system/docker.service.d/proxy.conf) and " +
			"the ECS agent through http://proxy.example:3128 (/etc/ecs/ecs.config)", remedy: "settle on one"},
	{id: "network.proxy", name: "NO_PROXY lacks one", change: func(m *machine) {
		proxied(m)
		m.write(ecsagent.ConfigPath, "HTTPS_PROXY="+corporate+"\nNO_PROXY=169.254.0.0/16,example.com\n")
	}, status: Warn,
		detail: "the ECS agent, told of the proxy in /etc/ecs/ecs.config, would go through it to /var/run/docker.sock",
		remedy: "NO_PROXY=169.254.0.0/16,example.com,/var/run/docker.sock"},
	{id: "network.proxy", name: "ecs-init alone is told", change: func(m *machine) { proxyUnit(m, "ecs.service", "HTTPS_PROXY", corporate) },
		status: Warn, detail: "the ECS agent is told of no proxy, and ecs-init is (/etc/systemd/system/ecs.service.d/proxy.conf)",
		remedy: "HTTPS_PROXY=http://proxy.example:3128 for the ECS agent too: add it to /etc/ecs/ecs.config"},
	{id: "network.proxy", name: "ecs-init is told of another", change: func(m *machine) {
		proxied(m)
		proxyUnit(m, "ecs.service", "HTTPS_PROXY", "http://other.example:8080")
	}, status: Warn, detail: "and ecs-init through http://other.example:8080 (/etc/systemd/system/ecs.service.d/proxy.conf)", remedy: "systemctl edit ecs.service"},
	{id: "network.proxy", name: "small letters say something else", change: func(m *machine) {
		proxied(m)
		m.write("/etc/systemd/system/amazon-ssm-agent.service.d/q.conf", "[Service]\nEnvironment=https_proxy=http://other.example:8080\n")
	}, status: Warn, detail: "HTTPS_PROXY and https_proxy differ, of which the agents and Docker take the first", remedy: "make them the same in"},
	{id: "network.proxy", name: "small letters say the same", change: func(m *machine) {
		proxied(m)
		m.write("/etc/systemd/system/amazon-ssm-agent.service.d/q.conf", "[Service]\nEnvironment=https_proxy="+corporate+"\n")
	}, status: Pass, detail: corporate + ", for all"},
	{id: "network.proxy", name: "NO_PROXY differs", change: func(m *machine) {
		proxied(m)
		m.write(ecsagent.ConfigPath, "HTTPS_PROXY="+corporate+"\nNO_PROXY="+bypass+",registry.example, .Corp.example,10.0.0.0/8,127.0.0.1\n")
		m.write("/etc/systemd/system/docker.service.d/proxy.conf", "[Service]\nEnvironment=HTTPS_PROXY="+corporate+" 'NO_PROXY="+bypass+",example'\n")
	}, status: Warn, detail: "the ECS agent reaches 10.0.0.0/8 without the proxy (/etc/ecs/ecs.config), and Docker does not " +
		"(/etc/systemd/system/docker.service.d/proxy.conf)", remedy: bypass + ",example,10.0.0.0/8: systemctl edit docker.service"},
	{id: "network.proxy", name: "written as https", change: func(m *machine) {
		proxied(m)
		m.write("/etc/docker/daemon.json", `{"proxies":{"https-proxy":"https://user:not-a-real-secret@proxy.example:3128"}}`)
	}, status: Warn,
		detail: "https://[redacted]@proxy.example:3128, in /etc/docker/daemon.json, is an https:// address",
		remedy: "write http://proxy.example:3128"},
	{id: "network.proxy", name: "nonsense with a password", change: func(m *machine) {
		proxied(m)
		proxyUnit(m, "amazon-ssm-agent.service", "HTTPS_PROXY", "http://user:not-a-real-secret%%zz@:port")
	}, status: Warn, detail: "http://[redacted]@:port is not the address of a proxy", remedy: "correct it in"},

	{id: "network.ports", name: "free", status: Pass, detail: "free"},
	{id: "network.ports", name: "a stranger",
		change: func(m *machine) { socket(m, "tcp", "00000000:C9DE", "4711", "812", "consul") },
		status: Fail, code: failure.PortTaken,
		detail: "port 51678 (introspection) is taken by consul (pid 812), on 0.0.0.0:51678",
		remedy: "systemctl status 812"},
	{id: "network.ports", name: "a stranger, IPv6",
		change: func(m *machine) {
			socket(m, "tcp6", "00000000000000000000000000000000:C9DF", "4711", "812", "docker-proxy")
		},
		status: Fail, detail: "port 51679 (metadata and credentials of tasks) is taken by docker-proxy",
		remedy: "docker ps --filter publish=51679"},
	{id: "network.ports", name: "a stranger that cannot be seen",
		change: func(m *machine) { user(m); socket(m, "tcp", "0100007F:C9DF", "4711", "", "") },
		status: Fail, detail: "only root can name", remedy: "ss -ltnp"},
	{id: "network.ports", name: "another address",
		change: func(m *machine) { socket(m, "tcp", "0201A8C0:C9DF", "4711", "812", "consul") },
		status: Pass, detail: "free"},
	{id: "network.ports", name: "a port of the metrics that are off",
		change: func(m *machine) { socket(m, "tcp", "00000000:C9E0", "4711", "812", "consul") },
		status: Warn, detail: "port 51680", remedy: "systemctl status 812"},
	{id: "network.ports", name: "a port of the metrics that are on", change: func(m *machine) {
		socket(m, "tcp", "00000000:C9E0", "4711", "812", "consul")
		m.write(ecsagent.ConfigPath, "ECS_ENABLE_PROMETHEUS_METRICS=true\n")
	}, status: Fail, detail: "port 51680"},
	{id: "network.ports", name: "the agent",
		change: func(m *machine) { socket(m, "tcp6", "00000000000000000000000000000000:C9DE", "4711", "90", "agent") },
		status: Pass, detail: "the ECS agent itself listens"},

	{id: "network.iptables", name: "there", status: Pass, detail: "iptables and sysctl"},
	{id: "network.iptables", name: "a shell's PATH only", change: func(m *machine) {
		m.remove("/usr/sbin/sysctl")
		m.write("/opt/bin/sysctl", "")
		m.mode("/opt/bin/sysctl", 0o755)
	}, status: Fail, code: failure.ToolMissing, detail: "sysctl is not in the PATH of services",
		remedy: "apt-get install procps"},
	{id: "network.iptables", name: "both gone", change: func(m *machine) { m.remove("/usr/sbin") },
		status: Fail, detail: "iptables and sysctl are not", remedy: "apt-get install iptables procps"},
	{id: "network.iptables", name: "not a program", change: func(m *machine) { m.mode("/usr/sbin/iptables", 0o644) },
		status: Fail, detail: "iptables is not", remedy: "apt-get install iptables"},
	{id: "network.iptables", name: "Docker brings it", subject: Subject{Docker: true},
		change: func(m *machine) { m.remove("/usr/sbin/iptables") }, status: Pass, detail: "comes with Docker"},
	{id: "network.iptables", name: "a link", change: func(m *machine) {
		m.remove("/usr/sbin/iptables")
		m.write("/usr/sbin/iptables-nft", "")
		m.mode("/usr/sbin/iptables-nft", 0o755)
		m.link("/usr/sbin/iptables", "/etc/alternatives/iptables")
		m.link("/etc/alternatives/iptables", "/usr/sbin/iptables-nft")
	}, status: Pass},
	{id: "network.iptables", name: "firewalld", change: func(m *machine) { running(m, "firewalld.service") },
		status: Warn, detail: "firewalld is active", remedy: "systemctl restart ecs.service"},
	{id: "network.iptables", name: "ufw", change: func(m *machine) {
		running(m, "ufw.service")
		m.write("/etc/ufw/ufw.conf", "# on\nENABLED=yes\n")
	}, status: Warn, detail: "ufw is active", remedy: "restart"},
	{id: "network.iptables", name: "ufw that is off", change: func(m *machine) {
		running(m, "ufw.service")
		m.write("/etc/ufw/ufw.conf", "ENABLED=no\n")
	}, status: Pass},
	{id: "network.iptables", name: "nftables", change: func(m *machine) { running(m, "nftables.service") },
		status: Warn, detail: "nftables is active", remedy: "restart"},
}

func running(m *machine, unit string) {
	m.units[unit] = host.Unit{Name: unit, Loaded: true, Active: "active", Sub: "exited"}
}

// What never comes back, whether it honours its context or not, costs no more than the bound, and is told as what it is.
func TestNetworkThatHangs(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*machine, *web)
		dns    Status
	}{
		"packets dropped": {func(_ *machine, w *web) { w.hosts["*"] = drops }, Pass},
		"names dropped": {func(m *machine, _ *web) {
			m.network.Lookup = func(ctx context.Context, _ string) ([]netip.Addr, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, Fail},
		"a resolver that knows no end": {func(m *machine, _ *web) {
			m.network.Lookup = func(context.Context, string) ([]netip.Addr, error) { select {} }
		}, Fail},
		"a dialer that knows no end": {func(m *machine, _ *web) {
			m.network.Dial = func(context.Context, string, string) (net.Conn, error) { select {} }
		}, Fail}, // how far it came is not known
		"a server that holds": {func(_ *machine, w *web) { w.hosts["*"] = w.raw(holds) }, Pass},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			online(test.change)(m)
			s := here
			s.Host = m.reader()
			for _, r := range Run(t.Context(), All(), s, Options{Network: brief}) { // without a time-out: it must end by itself
				switch r.ID {
				case "network.endpoints":
					rows, _ := r.Evidence["endpoints"].([]map[string]any)
					if r.Status != Fail || r.Remedy == "" || len(rows) != 13 {
						t.Errorf("%s: %s, %q, %d rows", r.ID, r.Detail, r.Remedy, len(rows))
					}
				case "network.dns":
					if r.Status != test.dns {
						t.Errorf("%s: %s %s", r.ID, r.Status, r.Detail)
					}
				}
			}
		})
	}
}

// One cause is reported once, though two checks fail of it.
func TestNetworkCauses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*machine, *web)
		want   string
	}{
		{"names", func(_ *machine, w *web) { w.lost["*"] = nxdomain("x") }, "network.dns: "},
		{"clock", func(m *machine, _ *web) { m.ahead = -10 * 365 * 24 * time.Hour }, "clock.skew: "},
		{"names and more", func(_ *machine, w *web) {
			w.lost["ecs"+zone] = nxdomain("ecs" + zone)
			w.hosts["ssm"+zone] = failing(syscall.ECONNREFUSED)
		}, "2 checks failed"},
	} {
		m := newMachine(t)
		online(test.change)(m)
		s := here
		s.Host = m.reader()
		if err := Verdict(Run(t.Context(), All(), s, Options{}), false); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	m := newMachine(t)
	dockerGone(m)
	m.remove("/usr/sbin/iptables")
	if err := Verdict(Run(t.Context(), All(), Subject{Host: m.reader(), Mutating: true}, Options{Only: []string{"docker.presence", "network.iptables"}}), false); !failure.Is(err, failure.DockerAbsent) {
		t.Errorf("without Docker, and so without iptables: %v", err)
	}
}

// Names that go through a proxy are not looked up here, the metadata address never goes through one, and each endpoint is
// tried once for all checks.
func TestWhatIsAsked(t *testing.T) {
	m := newMachine(t)
	w := connect(m)
	m.env = map[string]string{"https_proxy": corporate, "http_proxy": corporate, "no_proxy": ".s3.us-east-1.amazonaws.com"}
	w.hosts["proxy.example"] = w.relay("", "")
	s := here
	s.Host, s.Getenv = m.reader(), m.getenv
	Run(t.Context(), All(), s, Options{})
	log := w.log()
	for line, times := range map[string]int{
		"proxy CONNECT ecs" + zone + ":443": 1, "proxy CONNECT ecs-a-1" + zone + ":443": 1,
		"\necs" + zone + "\n": 0, "amazon-ecs-agent.s3.us-east-1.amazonaws.com": 1, metadataAddress: 1,
	} {
		if n := strings.Count(log, line); n != times {
			t.Errorf("%q: %d times, want %d:\n%s", line, n, times, log)
		}
	}
	if strings.Contains(log, "proxy PUT") || strings.Contains(log, "CONNECT 169.254") {
		t.Errorf("the metadata address was asked for at the proxy:\n%s", log)
	}
}

// Offline means that nothing at all is asked.
func TestOffline(t *testing.T) {
	m := newMachine(t)
	w := connect(m)
	s := here
	s.Host, s.Offline = m.reader(), true
	for _, r := range Run(t.Context(), All(), s, Options{}) {
		if skipped := r.Status == Skip && strings.Contains(r.Detail, "--offline"); skipped != slices.Contains(
			[]string{"metadata.endpoint", "clock.skew", "network.dns", "network.endpoints", "activation", "cluster"}, r.ID) {
			t.Errorf("%s: %s, %s", r.ID, r.Status, r.Detail)
		}
	}
	if log := w.log(); log != "" {
		t.Errorf("offline, and asked:\n%s", log)
	}
}

// A row has what an operator hands on to whoever runs the firewall.
func TestEndpointEvidence(t *testing.T) {
	m := newMachine(t)
	w := connect(m)
	w.names["ecs"+zone] = []netip.Addr{netip.MustParseAddr("10.1.2.3")}
	w.hosts["10.1.2.3:443"] = w.good
	w.hosts["ssm"+zone] = w.serve(server{by: newAuthority(t, "Corp")})
	rows := m.check("network.endpoints", here).Evidence["endpoints"].([]map[string]any)
	find := func(name string) map[string]any {
		i := slices.IndexFunc(rows, func(r map[string]any) bool { return r["name"] == name })
		return rows[max(i, 0)]
	}
	for key, want := range map[string]any{
		"address": "10.1.2.3", "network": "private", "port": 443, "required": true, "ok": true, "failed": "", "tls": "TLS 1.3",
		"issuer": "CN=Root,O=Test", "httpStatus": 404, "service": "ecs",
	} {
		if got := find("ecs" + zone)[key]; got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for key, want := range map[string]any{"ok": false, "failed": "untrusted", "issuer": "CN=Root,O=Corp", "network": "public"} {
		if got := find("ssm" + zone)[key]; got != want {
			t.Errorf("ssm: %s is %v, want %v", key, got, want)
		}
	}
}

// Both families are tried at once: one that leads nowhere does not matter.
func TestOneFamilyIsEnough(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for name, dead := range map[string]string{"no IPv4": "192.0.2.1:443", "no IPv6": "[2001:db8::1]:443"} {
		m := newMachine(t)
		w := connect(m)
		w.names["ecs"+zone] = []netip.Addr{v6, v4}
		w.hosts["192.0.2.1:443"], w.hosts["[2001:db8::1]:443"] = w.good, w.good
		w.hosts[dead] = drops
		if r := m.check("network.endpoints", here); r.Status != Pass {
			t.Errorf("%s: %s", name, r.Detail)
		}
	}
}

func TestBypass(t *testing.T) {
	for _, test := range []struct {
		list, host, port string
		want             bool
	}{
		{"", "ecs.example.com", "443", false}, {"", "localhost", "80", true}, {"", "127.0.0.1", "80", true}, {"", "::1", "80", true},
		{"*", "ecs.example.com", "443", true}, {"example.com", "ecs.example.com", "443", true},
		{"example.com", "example.com", "443", true}, {".example.com", "example.com", "443", false},
		{".example.com", "ecs.example.com", "443", true}, {"*.example.com", "ecs.example.com", "443", true},
		{"example.com", "notexample.com", "443", false}, {"example.com:8443", "example.com", "443", false},
		{"example.com:443", "example.com", "443", true}, {"EXAMPLE.com", "ECS.example.COM.", "443", true},
		{"10.0.0.0/8", "10.1.2.3", "443", true}, {"10.0.0.0/8", "11.1.2.3", "443", false}, {"10.1.2.3", "10.1.2.3", "443", true},
		{"a, 169.254.169.254 ,b", "169.254.169.254", "80", true}, {"254", "169.254.169.254", "80", false},
		{"2001:db8::1", "2001:db8::1", "443", true}, {",,", "x", "443", false},
	} {
		if got := bypassed(test.list, test.host, test.port); got != test.want {
			t.Errorf("NO_PROXY=%s, %s:%s: %v", test.list, test.host, test.port, got)
		}
	}
}

// The agent answers on its port: whatever its process is called, it is no stranger.
func TestPortsOfAnAgentThatAnswers(t *testing.T) {
	m := newMachine(t)
	socket(m, "tcp6", "00000000000000000000000000000000:C9DE", "4711", "", "")
	m.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != ecsagent.IntrospectionAddress {
			return m.daemon(ctx, network, docker.Socket)
		}
		m.docker["/v1/metadata"] = `{"Cluster":"shop",` +
			`"ContainerInstanceArn":"arn:aws:ecs:eu-central-1:111122223333:container-instance/shop/0",` +
			`"Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`
		return m.daemon(ctx, "unix", docker.Socket)
	}
	if r := m.check("network.ports", Subject{}); r.Status != Pass || !strings.Contains(r.Detail, "agent itself") {
		t.Errorf("%s: %s", r.Status, r.Detail)
	}
}

// BenchmarkEndpointsDropped is what a firewall that drops every packet costs.
func BenchmarkEndpointsDropped(b *testing.B) {
	m := newMachine(b)
	online(func(_ *machine, w *web) { w.hosts["*"] = drops })(m)
	s := here
	s.Host = m.reader()
	for b.Loop() {
		err := Verdict(Run(context.Background(), All(), s, Options{Timeout: time.Minute}), false)
		if !failure.Is(err, failure.EndpointUnreachable) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/op")
}
