package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// token is a join token for the cluster shop; it expires at midnight.
func token() *control.Token {
	return &control.Token{
		Account: account, Region: region, Cluster: "shop", ActivationID: "01234567-89ab-cdef-0123-456789abcdef",
		Code: secret.NewText(strings.Repeat("x", 20)), Expires: noon.Add(12 * time.Hour),
	}
}

// boundState is the ECS agent's state as cluster shop has it; stateIn is that of another place.
var boundState = stateIn("shop", region, account)

func stateIn(cluster, region, account string) string {
	return fmt.Sprintf(`{"cluster-name":%q,"container-instance-arn":%q}`, cluster, instanceARN(account, region, cluster))
}

func tokenIn(region string) *control.Token {
	t := token()
	t.Region = region
	return t
}

// settled puts the registration's place through settlePlace as settle does.
func settled(m *machine, r *registration) error {
	identity, err := ssmagent.ReadIdentity(r.deps.Host.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	config, err := ecsagent.ReadConfig(r.deps.Host.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.settlePlace(m.t.Context(), identity, config)
}

func TestSettlePlace(t *testing.T) {
	const arn = "arn:aws:ecs:us-east-2:444455556666:cluster/web"
	pins := map[string]string{pinRegion: "eu-west-3", pinCluster: "pinned", pinAccount: "777788889999"}
	for _, test := range []struct {
		name    string
		req     RegisterRequest
		resumed map[string]string // pins of an unfinished registration
		node    bool              // the host is a managed node, in eu-central-1
		config  string            // of the ECS agent
		state   string            // of the ECS agent
		want    [3]string         // Region, account, cluster
		code    failure.Code
		says    string
		try     string // in the remedy
		json    string // JSONConfigPath
	}{
		{name: "flags", req: RegisterRequest{Region: "us-east-1", Cluster: "web"}, want: [3]string{"us-east-1", "", "web"}},
		{name: "the default cluster", req: RegisterRequest{Region: "us-east-1"}, want: [3]string{"us-east-1", "", "default"}},
		{name: "an ARN says all", req: RegisterRequest{Cluster: arn}, want: [3]string{"us-east-2", "444455556666", "web"}},
		{name: "an ARN and its Region", req: RegisterRequest{Cluster: arn, Region: "us-east-2"},
			want: [3]string{"us-east-2", "444455556666", "web"}},
		{name: "an ARN and another Region", req: RegisterRequest{Cluster: arn, Region: "us-east-1"},
			code: failure.Usage, says: "--region is us-east-1 and --cluster is in us-east-2"},
		{name: "an ARN of something else", req: RegisterRequest{Cluster: "arn:aws:ecs:us-east-2:444455556666:service/web/x"},
			code: failure.Usage, says: "not the ARN of an ECS cluster"},
		{name: "no ARN", req: RegisterRequest{Cluster: "arn:aws:ecs:us-east-2"}, code: failure.Usage, says: "not the ARN"},

		{name: "a token", req: RegisterRequest{Activation: token()}, want: [3]string{region, account, "shop"}},
		{name: "a token and flags that agree", req: RegisterRequest{Activation: token(), Region: region, Cluster: "shop"},
			want: [3]string{region, account, "shop"}},
		{name: "a token and an ARN that agree",
			req:  RegisterRequest{Activation: token(), Cluster: "arn:aws:ecs:eu-central-1:111122223333:cluster/shop"},
			want: [3]string{region, account, "shop"}},
		{name: "a token and another Region", req: RegisterRequest{Activation: token(), Region: "us-east-1"},
			code: failure.Usage, says: "the token's Region is eu-central-1"},
		{name: "a token and another cluster", req: RegisterRequest{Activation: token(), Cluster: "web"},
			code: failure.Usage, says: "the token's cluster is shop"},
		{name: "a token and another account",
			req:  RegisterRequest{Activation: token(), Cluster: "arn:aws:ecs:eu-central-1:444455556666:cluster/shop"},
			code: failure.Usage, says: "the token's account is 111122223333"},

		{name: "an unfinished registration", resumed: pins, config: "ECS_CLUSTER=old\nAWS_DEFAULT_REGION=us-east-1\n",
			want: [3]string{"eu-west-3", "777788889999", "pinned"}},
		{name: "flags over an unfinished registration", resumed: pins,
			req: RegisterRequest{Region: "us-east-1", Cluster: "web"}, want: [3]string{"us-east-1", "777788889999", "web"}},
		{name: "an unfinished registration in another Region than the node's", resumed: pins, node: true,
			code: failure.RegisteredElsewere, says: "in eu-central-1, not in eu-west-3"},
		{name: "a managed node", node: true, want: [3]string{region, "", "default"}},
		{name: "the ECS agent's configuration", config: "ECS_CLUSTER=" + arn + "\nAWS_DEFAULT_REGION=us-east-2\n",
			want: [3]string{"us-east-2", "", "web"}},
		{name: "a managed node over the configuration", node: true, config: "ECS_CLUSTER=web\nAWS_DEFAULT_REGION=us-east-2\n",
			want: [3]string{region, "", "web"}},
		{name: "nothing", code: failure.Usage, says: "--region is missing"},
		{name: "no Region's name", req: RegisterRequest{Region: "Frankfurt"}, code: failure.Usage, says: "Frankfurt"},

		{name: "a managed node of another Region", node: true, req: RegisterRequest{Region: "us-east-1"},
			code: failure.RegisteredElsewere, says: nodeID + " in eu-central-1, not in us-east-1", try: "to change the Region: anywhere deregister"},
		{name: "the same cluster", node: true, config: "ECS_CLUSTER=shop\n", state: boundState,
			req: RegisterRequest{Activation: token()}, want: [3]string{region, account, "shop"}},
		{name: "the same cluster, configured by its ARN", node: true, state: boundState,
			config: "ECS_CLUSTER=arn:aws:ecs:eu-central-1:111122223333:cluster/shop\n",
			req:    RegisterRequest{Activation: token()}, want: [3]string{region, account, "shop"}},
		{name: "another cluster", node: true, config: "ECS_CLUSTER=web\n", state: stateIn("web", region, account),
			req:  RegisterRequest{Activation: token()},
			code: failure.RegisteredElsewere, says: "belongs to cluster web, not to shop",
			try: "anywhere move --cluster shop; or, to stay where it is: anywhere register --cluster web"},
		{name: "another cluster and the right configuration", node: true, config: "ECS_CLUSTER=shop\n",
			state: stateIn("web", region, account), req: RegisterRequest{Activation: token()},
			code: failure.RegisteredElsewere, says: "belongs to cluster web, not to shop", try: "anywhere move --cluster shop"},
		{name: "the default cluster and no configuration", node: true, state: stateIn("default", region, account),
			req: RegisterRequest{Cluster: "shop"}, code: failure.RegisteredElsewere, says: "belongs to cluster default"},
		{name: "the right cluster and another configuration", node: true, config: "ECS_CLUSTER=tpyo\n", state: boundState,
			req: RegisterRequest{Activation: token()}, want: [3]string{region, account, "shop"}},
		{name: "a cluster from the JSON file", node: true, json: `{"Cluster":"shop"}`, state: boundState,
			want: [3]string{region, "", "shop"}},
		{name: "a state that names the cluster alone", node: true, config: "ECS_CLUSTER=web\n",
			state: `{"container-instance-arn":"arn:aws:ecs:x:container-instance/"}`, req: RegisterRequest{Activation: token()},
			code: failure.RegisteredElsewere, says: "belongs to cluster web, not to shop"},
		{name: "another account", node: true, state: stateIn("shop", region, "444455556666"),
			req:  RegisterRequest{Activation: token()},
			code: failure.RegisteredElsewere, says: "belongs to account 444455556666 in eu-central-1, not to 111122223333",
			try: "--accept-risk replace-identity"},
		{name: "another account, given up", node: true, state: stateIn("shop", region, "444455556666"),
			req:  RegisterRequest{Activation: token(), AcceptRisk: []string{"replace-identity"}},
			want: [3]string{region, account, "shop"}},
		{name: "another account, given up without anything new", node: true, state: stateIn("shop", region, "444455556666"),
			req:  RegisterRequest{Cluster: "arn:aws:ecs:eu-central-1:111122223333:cluster/shop", AcceptRisk: []string{"replace-identity"}},
			code: failure.RegisteredElsewere, says: "belongs to account 444455556666", try: "anywhere activation create"},
		{name: "given up before the run was killed", node: true, state: stateIn("shop", region, "444455556666"),
			resumed: map[string]string{pinStale: "yes"},
			req:     RegisterRequest{Cluster: "arn:aws:ecs:eu-central-1:111122223333:cluster/shop"}, want: [3]string{region, account, "shop"}},
		{name: "a managed node of another Region, given up", node: true,
			req: RegisterRequest{
				Activation: tokenIn("us-east-1"), AcceptRisk: []string{"replace-identity"},
			}, want: [3]string{"us-east-1", account, "shop"}},
		{name: "another cluster, in which it never was", node: true,
			config: "ECS_CLUSTER=tpyo\n", state: `{"agent-version":"1.105.1"}`,
			req: RegisterRequest{Activation: token()}, want: [3]string{region, account, "shop"}},
		{name: "another cluster in the configuration alone", config: "ECS_CLUSTER=web\n",
			req: RegisterRequest{Activation: token()}, want: [3]string{region, account, "shop"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			if test.node {
				m.registered()
			}
			if test.config != "" {
				m.write(ecsagent.ConfigPath, test.config)
			}
			if test.state != "" {
				m.write(ecsagent.StateDB, test.state)
			}
			if test.json != "" {
				m.write(ecsagent.JSONConfigPath, test.json)
			}
			r := m.registration(test.req)
			if test.resumed != nil {
				r.resumed = &engine.Operation{Verb: verbRegister, Pins: test.resumed}
			}
			err := settled(m, r)
			if test.code != "" {
				if !failure.Is(err, test.code) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v; want %s: %s", err, test.code, test.says)
				}
				if advice := failure.Of(err).Advice(); !strings.Contains(advice, test.try) {
					t.Errorf("the remedy %q lacks %q", advice, test.try)
				}
				return
			}
			if got := [3]string{r.region, r.account, r.cluster}; err != nil || got != test.want {
				t.Errorf("%v, %v; want %v", got, err, test.want)
			}
		})
	}
}

// The legacy state of old agents binds a host as well.
func TestLegacyStateBinds(t *testing.T) {
	m := newMachine(t)
	m.registered()
	m.write(ecsagent.ConfigPath, "ECS_CLUSTER=web\n")
	m.write(ecsagent.LegacyState, stateIn("web", region, account))
	if err := settled(m, m.registration(RegisterRequest{Activation: token()})); !failure.Is(err, failure.RegisteredElsewere) {
		t.Errorf("%v", err)
	}
}

func TestSettleVersions(t *testing.T) {
	for _, test := range []struct {
		name      string
		req       RegisterRequest
		node      bool
		installed [2]string // ECS, SSM
		code      failure.Code
		says      string
	}{
		{name: "none asked for", node: true, installed: [2]string{"1.50.0-1", "2.3.1.0-1"}},
		{name: "latest", node: true, installed: [2]string{"1.50.0-1", "2.3.1.0-1"},
			req: RegisterRequest{ECSAgentVersion: "latest", SSMAgentVersion: "latest"}},
		{name: "as installed", node: true, installed: [2]string{"1.105.1-1", "3.3.4108.0-1"},
			req: RegisterRequest{ECSAgentVersion: "1.105.1", SSMAgentVersion: "3.3.4108.0-1"}},
		{name: "another one before the registration", installed: [2]string{"1.104.0-1", "3.3.987.0-1"},
			req: RegisterRequest{ECSAgentVersion: "1.105.1", SSMAgentVersion: "3.3.4108.0"}},
		{name: "another ECS agent", node: true, installed: [2]string{"1.104.0-1", ""},
			req:  RegisterRequest{ECSAgentVersion: "1.105.1"},
			code: failure.VersionManaged, says: "amazon-ecs-init is 1.104.0-1"},
		{name: "another SSM agent", node: true, installed: [2]string{"", "3.3.987.0-1"},
			req:  RegisterRequest{SSMAgentVersion: "3.3.4108.0"},
			code: failure.VersionManaged, says: "amazon-ssm-agent is 3.3.987.0-1"},
		{name: "a prefix is not the version", node: true, installed: [2]string{"1.105.10-1", ""},
			req: RegisterRequest{ECSAgentVersion: "1.105.1"}, code: failure.VersionManaged},
		{name: "a bad ECS agent", req: RegisterRequest{ECSAgentVersion: "1.86.0"},
			code: failure.KnownBadVersion, says: "--ecs-agent-version 1.86.0"},
		{name: "an ECS agent below the floor", req: RegisterRequest{ECSAgentVersion: "1.99.0"},
			code: failure.KnownBadVersion, says: "EC2 role"},
		{name: "a bad SSM agent", req: RegisterRequest{SSMAgentVersion: "3.2.183.0"},
			code: failure.KnownBadVersion, says: "--ssm-agent-version"},
		{name: "an ECS agent below the floor that is there", node: true, installed: [2]string{"1.99.0-1", ""},
			req: RegisterRequest{ECSAgentVersion: "1.99.0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			if test.node {
				m.registered()
			}
			for i, name := range []string{ecsagent.Package, ssmagent.Package} {
				if test.installed[i] != "" {
					m.install(name, test.installed[i])
				}
			}
			r := m.registration(test.req)
			identity, err := ssmagent.ReadIdentity(r.deps.Host.Reader)
			if err != nil {
				t.Fatal(err)
			}
			err = r.settleVersions(identity)
			if (err == nil) != (test.code == "") {
				t.Fatalf("%v; want %q", err, test.code)
			}
			if err != nil && (!failure.Is(err, test.code) || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v; want %s: %s", err, test.code, test.says)
			}
		})
	}
}

func TestParseEndpoints(t *testing.T) {
	const own = "http://127.0.0.1:8080"
	type endpoints = preflight.Endpoints
	all := endpoints{ECS: "http://lab:80", SSM: "http://lab:80", SSMMessages: "https://lab:80", EC2Messages: "http://lab:80"}
	for _, test := range []struct {
		agent, own string
		want       endpoints
		says       string // of the refusal
	}{
		{"", "", endpoints{}, ""},
		{"http://lab:80", own, all, ""},
		{"https://lab", own, endpoints{ECS: "https://lab", SSM: "https://lab", SSMMessages: "https://lab", EC2Messages: "https://lab"}, ""},
		{"ecs=http://a:1,ssm=https://b", own, endpoints{ECS: "http://a:1", SSM: "https://b"}, ""},
		{"ssmmessages=https://c,ec2messages=http://d", own, endpoints{SSMMessages: "https://c", EC2Messages: "http://d"}, ""},
		{"", own, endpoints{}, "--agent-endpoint is not"},
		{"http://lab:80", "", endpoints{}, "--endpoint-url is not"},
		{"lab:80", own, endpoints{}, `"lab:80" is not an http or https URL`},
		{"ftp://lab", own, endpoints{}, "is not an http or https URL"},
		{"http://", own, endpoints{}, "is not an http or https URL"},
		{"ecs=", own, endpoints{}, "is not an http or https URL"},
		{"iam=http://a", own, endpoints{}, `"iam" is none of ecs`},
		{"ecs=http://a,,", own, endpoints{}, "is none of"},
		{"ecs=http://a,ecs=http://b", own, endpoints{}, "ecs is given twice"},
	} {
		got, err := parseEndpoints(test.agent, test.own)
		if test.says == "" {
			if err != nil || got != test.want {
				t.Errorf("%q: %+v, %v; want %+v", test.agent, got, err, test.want)
			}
			continue
		}
		if !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: %v; want %q", test.agent, err, test.says)
		}
	}
}

// The same command has the same key whether it brings an activation or not, and however long it waits; another outcome
// is another key.
func TestKey(t *testing.T) {
	m := newMachine(t)
	key := func(req RegisterRequest, resumed map[string]string) string {
		r := m.registration(req)
		if resumed != nil {
			r.resumed = &engine.Operation{Verb: verbRegister, Pins: resumed}
		}
		if err := settled(m, r); err != nil {
			t.Fatal(err)
		}
		return r.key()
	}
	first := key(RegisterRequest{Activation: token()}, nil)
	pins := map[string]string{pinRegion: region, pinCluster: "shop", pinAccount: account}
	other := token()
	other.ActivationID = "11111111-89ab-cdef-0123-456789abcdef"
	for name, same := range map[string]string{
		"without the token":          key(RegisterRequest{}, pins),
		"another token":              key(RegisterRequest{Activation: other}, pins),
		"spelled out":                key(RegisterRequest{Region: region, Cluster: "shop"}, pins),
		"by the ARN":                 key(RegisterRequest{Cluster: "arn:aws:ecs:eu-central-1:111122223333:cluster/shop"}, nil),
		"with more patience":         key(RegisterRequest{Activation: token(), WaitTimeout: time.Hour}, nil),
		"with a risk accepted":       key(RegisterRequest{Activation: token(), AcceptRisk: []string{"replace-identity"}}, nil),
		"with a check ignored":       key(RegisterRequest{Activation: token(), Ignore: []string{"apparmor"}}, nil),
		"from another mirror":        key(RegisterRequest{Activation: token(), Artifacts: "/srv/mirror"}, nil),
		"with another keyring":       key(RegisterRequest{Activation: token(), Keyring: "/srv/key"}, nil),
		"keeping the half-way state": key(RegisterRequest{Activation: token(), NoRollback: true}, nil),
	} {
		if same != first {
			t.Errorf("%s: another key", name)
		}
	}
	seen := map[string]string{first: "the first"}
	for name, req := range map[string]RegisterRequest{
		"another cluster":     {Region: region, Cluster: "web"},
		"another Region":      {Region: "us-east-1", Cluster: "shop"},
		"a version":           {Activation: token(), ECSAgentVersion: "1.105.1"},
		"a version of SSM":    {Activation: token(), SSMAgentVersion: "1.105.1"},
		"a tag":               {Activation: token(), Tags: []Pair{{"a", "b"}}},
		"an attribute":        {Activation: token(), Attributes: []Pair{{"a", "b"}}},
		"a setting":           {Activation: token(), Settings: []Pair{{"a", "b"}}},
		"without ECS Exec":    {Activation: token(), NoExec: true},
		"another profile":     {Activation: token(), SSMProfile: "ecs"},
		"with GPUs":           {Activation: token(), EnableGPU: true},
		"another endpoint":    {Activation: token(), AgentEndpoint: "http://lab"},
		"a tag, other value":  {Activation: token(), Tags: []Pair{{"a", "c"}}},
		"a tag, shifted form": {Activation: token(), Tags: []Pair{{"ab", ""}}},
	} {
		k := key(req, nil)
		if before, found := seen[k]; found {
			t.Errorf("%s has the key of %s", name, before)
		}
		seen[k] = name
	}
}
