package lifecycle

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

func TestHostRegion(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*machine)
		want   string
	}{
		{"nothing", func(*machine) {}, ""},
		{"a managed node", func(m *machine) { m.registered() }, region},
		{"the ECS agent's", func(m *machine) { m.write(ecsagent.ConfigPath, "AWS_DEFAULT_REGION=us-west-2\n") }, "us-west-2"},
		{"both", func(m *machine) {
			m.registered()
			m.write(ecsagent.ConfigPath, "AWS_DEFAULT_REGION=us-west-2\n")
		}, region},
		{"none that is one", func(m *machine) { m.write(ecsagent.ConfigPath, "AWS_DEFAULT_REGION=“us-west-2”\n") }, ""},
	} {
		m := newMachine(t)
		test.change(m)
		if got := hostRegion(m.host().Reader); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestHostEndpoints(t *testing.T) {
	m := newMachine(t)
	if got := hostEndpoints(m.host().Reader); got != (preflight.Endpoints{}) {
		t.Errorf("a new host has %+v", got)
	}
	m.write(ecsagent.ConfigPath, "ECS_BACKEND_HOST=http://10.0.0.1:80\n")
	m.write(ssmagent.ConfigPath, `{"Ssm":{"Endpoint":"http://10.0.0.2"},"Mgs":{"Endpoint":"https://10.0.0.3"},"Mds":{"Endpoint":"d"}}`)
	want := preflight.Endpoints{ECS: "http://10.0.0.1:80", SSM: "http://10.0.0.2", SSMMessages: "https://10.0.0.3", EC2Messages: "d"}
	if got := hostEndpoints(m.host().Reader); got != want {
		t.Errorf("got %+v", got)
	}
}

// The packages' bucket is needed as long as something would come from there.
func TestWhatIsCached(t *testing.T) {
	const ecs, ssm = "1.105.1-1", "3.3.4108.0-1"
	both := func(m *machine) {
		m.install(ecsagent.Package, ecs)
		m.install(ssmagent.Package, ssm)
	}
	for _, test := range []struct {
		name   string
		req    RegisterRequest
		change func(*machine)
		pins   map[string]string
		want   bool
	}{
		{"a new host", RegisterRequest{NoExec: true}, func(*machine) {}, nil, false},
		{"both are installed", RegisterRequest{NoExec: true}, both, nil, true},
		{"one is", RegisterRequest{NoExec: true}, func(m *machine) { m.install(ssmagent.Package, ssm) }, nil, false},
		{"both are, and ECS Exec's files are not", RegisterRequest{}, both, nil, false},
		{"the latest is wanted", RegisterRequest{NoExec: true, ECSAgentVersion: artifact.Latest}, both, nil, false},
		{"the installed one is named", RegisterRequest{NoExec: true, ECSAgentVersion: "1.105.1"}, both, nil, true},
		{"another is", RegisterRequest{NoExec: true, ECSAgentVersion: "1.104.0"}, both, nil, false},
		{"the installed one is bad", RegisterRequest{NoExec: true}, func(m *machine) {
			both(m)
			m.install(ssmagent.Package, "3.2.183.0-1")
		}, nil, false},
		{"an unfinished run wanted another", RegisterRequest{NoExec: true}, both, map[string]string{pinECS: "1.104.0-1"}, false},
		{"an unfinished run wanted this one", RegisterRequest{NoExec: true}, both, map[string]string{pinECS: ecs}, true},
	} {
		m := newMachine(t)
		test.change(m)
		r := m.registration(test.req).with(region, "", "shop")
		if err := r.settleSource(); err != nil {
			t.Fatal(err)
		}
		if test.pins != nil {
			r.resumed = &engine.Operation{Pins: test.pins}
		}
		if got := r.cached(t.Context()); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// Where the buckets have no names with IPv6 it is said beforehand, unless the packages come from elsewhere.
func TestBucketsWithoutIPv6AreTold(t *testing.T) {
	for _, test := range []struct {
		region string
		req    RegisterRequest
		told   bool
	}{
		{"eusc-de-east-1", RegisterRequest{IPMode: "ipv6"}, true},
		{"us-iso-east-1", RegisterRequest{IPMode: "ipv6"}, true},
		{"us-iso-east-1", RegisterRequest{IPMode: "ipv6", Artifacts: "/srv/mirror"}, false},
		{"us-iso-east-1", RegisterRequest{IPMode: "ipv4"}, false},
		{"cn-north-1", RegisterRequest{IPMode: "ipv6"}, false},
		{"us-gov-west-1", RegisterRequest{IPMode: "ipv6"}, false},
	} {
		r := newMachine(t).registration(test.req).with(test.region, "", "shop")
		if err := r.settleSource(); err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(strings.Join(r.warnings, "\n"), "names with IPv6 for the buckets of "+test.region); told != test.told {
			t.Errorf("%s, %+v: %q", test.region, test.req, r.warnings)
		}
	}
}

func TestListEndpoints(t *testing.T) {
	m := newMachine(t)
	d := Deps{Host: m.host()}
	if _, err := Preflight(t.Context(), d, PreflightRequest{ListEndpoints: true}); !failure.Is(err, failure.Usage) ||
		!strings.Contains(err.Error(), "--region is missing") {
		t.Errorf("without a Region: %v", err)
	}
	m.registered()
	report, err := Preflight(t.Context(), d, PreflightRequest{ListEndpoints: true})
	list := report.Result.(PreflightResult).Endpoints
	if err != nil || len(list) == 0 || list[0].Host != "ecs."+region+".amazonaws.com" || !list[0].Required || len(report.Checks) > 0 {
		t.Errorf("of a registered host: %+v, %v", report, err)
	}
}
