package lifecycle

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

// dockerWith answers with these containers, at the other end of a pipe.
func dockerWith(containers string) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err != nil {
				return
			}
			answer := http.Response{
				StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(containers)),
				Body: io.NopCloser(strings.NewReader(containers)),
			}
			_ = answer.Write(far)
		}()
		return near, nil
	}
}

// Docker is restarted for a proxy only where that is due and ends nobody's containers, or the risk is accepted.
func TestWhenDockerIsRestarted(t *testing.T) {
	const (
		agent = `{"Id":"a","Names":["/ecs-agent"],"Image":"amazon/amazon-ecs-agent:latest","State":"running"}`
		ended = `{"Id":"b","Names":["/old"],"Image":"web:1","State":"exited"}`
		web   = `{"Id":"c","Names":["/web"],"Image":"web:1","State":"running"}`
	)
	proxy, err := preflight.NewProxy("", "http://p:3128", "")
	if err != nil {
		t.Fatal(err)
	}
	dropIn, _ := proxy.Units()
	own := preflight.ProxyDropIn(dockerUnit)
	for _, test := range []struct {
		name       string
		change     func(*machine)
		containers string
		risks      []string
		restart    bool
		warns      bool
		leaves     bool // Docker's drop-in is not ours to write
	}{
		{name: "no containers", containers: `[]`, restart: true},
		{name: "the agent's, and one that has ended", containers: `[` + agent + `,` + ended + `]`, restart: true},
		{name: "somebody's", containers: `[` + agent + `,` + web + `]`, warns: true},
		{name: "somebody's, and the risk", containers: `[` + web + `]`, risks: []string{riskDocker}, restart: true},
		{name: "Docker is down", containers: `[` + web + `]`, change: func(m *machine) { m.units[dockerUnit] = host.Unit{Loaded: true} }},
		{name: "it has read it", containers: `[` + web + `]`, change: func(m *machine) { m.writeAt(own, string(dropIn), noon.Add(-2*time.Hour)) }},
		{name: "it was written since", containers: `[` + web + `]`, warns: true,
			change: func(m *machine) { m.writeAt(own, string(dropIn), noon) }},
		{name: "somebody has told it the same", containers: `[` + web + `]`, leaves: true, change: func(m *machine) {
			m.writeAt("/etc/systemd/system/docker.service.d/http-proxy.conf", string(dropIn), noon.Add(-2*time.Hour))
		}},
		{name: "somebody has told it another", containers: `[` + web + `]`, warns: true, change: func(m *machine) {
			m.write("/etc/systemd/system/docker.service.d/http-proxy.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://old:1\n")
		}},
	} {
		m := newMachine(t)
		m.runs(dockerUnit, noon.Add(-time.Hour))
		if test.change != nil {
			test.change(m)
		}
		r := m.registration(RegisterRequest{Proxy: proxy, AcceptRisk: test.risks})
		r.deps.Host.Dial = dockerWith(test.containers)
		if err := r.settleProxy(t.Context()); err != nil {
			t.Fatal(err)
		}
		writes := slices.ContainsFunc(r.proxy.files, func(f proxyFile) bool { return f.path == own })
		if r.proxy.restart != test.restart || len(r.warnings) > 0 != test.warns || writes == test.leaves {
			t.Errorf("%s: restarts %v, writes %v, warns %q", test.name, r.proxy.restart, writes, r.warnings)
		}
	}
}

// The ECS agent's unit is told of the proxy before its package brings it, under whichever name that will be: the package
// starts it at once.
func TestProxyOfAUnitThatIsToCome(t *testing.T) {
	proxy, err := preflight.NewProxy("", "http://p:3128", "")
	if err != nil {
		t.Fatal(err)
	}
	for system, units := range map[string][]string{
		"opensuse-leap 15.6": {"amazon-ecs.service", "ecs.service"}, "debian 12": {"ecs.service"},
	} {
		m := newMachine(t)
		r := m.registration(RegisterRequest{Proxy: proxy})
		id, version, _ := strings.Cut(system, " ")
		found := false
		if r.row, _, found = platform.Find(id, version, "", nil); !found {
			t.Fatalf("%s is no system of the table", system)
		}
		for _, brought := range append([]string{""}, units...) {
			if brought != "" {
				m.write("/usr/lib/systemd/system/"+brought, "[Service]\n")
			}
			if err := r.settleProxy(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, unit := range units {
				if !slices.ContainsFunc(r.proxy.files, func(f proxyFile) bool { return f.path == preflight.ProxyDropIn(unit) }) {
					t.Errorf("%s, where %q is there: %s is not told", system, brought, unit)
				}
			}
		}
	}
}

// A secret is no part of what the record keeps of somebody's file, and is known again all the same.
func TestRemembered(t *testing.T) {
	for _, value := range []string{"http://u:s3cr3t@p:3128", "u:s3cr3t@p:3128", "https://u:s3cr3t%40@p", "{\"https://r\":{\"password\":\"s3cr3t\"}}"} {
		for _, key := range []string{"HTTPS_PROXY", "ECS_ENGINE_AUTH_DATA"} {
			got := remembered(key, value)
			if strings.Contains(got, "s3cr3t") || got != remembered(key, value) || got == remembered(key, value+"0") {
				t.Errorf("%s=%s is remembered as %s", key, value, got)
			}
		}
	}
	if got := remembered("ECS_BACKEND_HOST", "u:s3cr3t@host:1"); strings.Contains(got, "s3cr3t") {
		t.Errorf("remembered as %s", got)
	}
	for key, plain := range map[string]string{"NO_PROXY": "10.0.0.0/8,localhost", "ECS_CLUSTER": "shop", "ECS_INSTANCE_ATTRIBUTES": `{"a":"b@c"}`} {
		if got := remembered(key, plain); got != plain {
			t.Errorf("%s is remembered as %s", plain, got)
		}
	}
}

func TestParseAuthorities(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "no PEM": "hello", "a key": "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n",
		"broken": "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
	} {
		if all, err := ParseAuthorities([]byte(text)); err == nil || !strings.Contains(err.Error(), "--ca-file") {
			t.Errorf("%s: %v, %v", name, all, err)
		}
	}
}

// SUSE's program is started once more where the one that systemd starts by itself was in its way; another's failure is its own.
func TestAStoreThatIsBusyIsTriedAgain(t *testing.T) {
	t.Parallel()
	for i, want := range map[int]int{0: 1, 1: 2, 2: 1} {
		calls := 0
		err := caStores[i].update(t.Context(), func(_ context.Context, cmd host.Cmd) (host.Result, error) {
			if cmd.Path != caStores[i].Tool {
				t.Errorf("%s is started", cmd.Path)
			}
			calls++
			return host.Result{ExitCode: max(0, 2-calls)}, nil
		}, caStores[i].Arg)
		if calls != want || (err == nil) != (want == 2) {
			t.Errorf("%s: %d starts, %v", caStores[i].Tool, calls, err)
		}
	}
}
