package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// An identity is given up only with the risk accepted and an activation at hand, and not when it is the new one already.
func TestReplaces(t *testing.T) {
	accepted := []string{"replace-identity"}
	made := func(id, activation string) string {
		text, _ := json.Marshal(Record{Schema: 1, Registration: &OwnedRegistration{ManagedInstanceID: id, ActivationID: activation}})
		return string(text)
	}
	for _, test := range []struct {
		name    string
		req     RegisterRequest
		record  string
		resumed time.Time // when the unfinished operation began
		created time.Time // of the key
		want    bool
	}{
		{name: "nothing accepted", req: RegisterRequest{Activation: token()}},
		{name: "no activation", req: RegisterRequest{AcceptRisk: accepted}},
		{name: "both", req: RegisterRequest{Activation: token(), AcceptRisk: accepted}, want: true},
		{name: "made with another activation", req: RegisterRequest{Activation: token(), AcceptRisk: accepted},
			record: made(nodeID, "another"), want: true},
		{name: "made with this activation", req: RegisterRequest{Activation: token(), AcceptRisk: accepted},
			record: made(nodeID, token().ActivationID)},
		{name: "another node was made with it", req: RegisterRequest{Activation: token(), AcceptRisk: accepted},
			record: made("mi-0fedcba9876543210", token().ActivationID), want: true},
		{name: "made by the run that was killed", req: RegisterRequest{Activation: token(), AcceptRisk: accepted},
			resumed: noon, created: noon.Add(time.Second)},
		{name: "made before the run that was killed", req: RegisterRequest{Activation: token(), AcceptRisk: accepted},
			resumed: noon, created: noon.Add(-time.Second), want: true},
	} {
		m := newMachine(t)
		m.registered()
		if test.record != "" {
			m.write(recordPath, test.record)
		}
		r := m.registration(test.req)
		if !test.resumed.IsZero() {
			r.resumed = &engine.Operation{Started: test.resumed}
		}
		identity, err := ssmagent.ReadIdentity(r.deps.Host.Reader)
		identity.KeyCreated = test.created
		if got := r.replaces(t.Context(), identity); err != nil || got != test.want {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}

// What a replaced identity leaves in the account is owed where nobody else can want it, is a warning where another machine
// may be it, and is nothing where another machine is.
func TestWhatAReplacedIdentityLeaves(t *testing.T) {
	const gone = "Container instance is deregistered"
	for _, test := range []struct {
		name    string
		verdict ssmagent.Verdict
		log     string
		owed    bool
		warns   []string
	}{
		{name: "sound", verdict: ssmagent.Sound, warns: []string{nodeID, "unless another machine is", "container-instance/shop/"}},
		{name: "unknown", verdict: ssmagent.Unknown, warns: []string{nodeID, "container-instance/shop/"}},
		{name: "broken", verdict: ssmagent.Broken, owed: true, warns: []string{nodeID}},
		{name: "deregistered", verdict: ssmagent.Deregistered, owed: true},
		{name: "deregistered on both sides", verdict: ssmagent.Deregistered, log: gone},
		{name: "cloned", verdict: ssmagent.Clone},
	} {
		m := newMachine(t)
		m.registered()
		m.runs(ecsagent.Unit, noon.Add(-time.Minute))
		m.write(ecsagent.StateDB, boundState)
		if test.log != "" {
			m.write(ecsagent.LogPath, logged(noon, test.log))
		}
		r := m.registration(RegisterRequest{}).with(region, account, "shop")
		identity, err := ssmagent.ReadIdentity(r.deps.Host.Reader)
		r.pins = map[string]string{}
		if err := errors.Join(err, r.warnOfLeftovers(t.Context(), identity, test.verdict, r.pins)); err != nil {
			t.Fatal(err)
		}
		want := []string{}
		if test.owed {
			want = append(want, "aws ecs deregister-container-instance --region eu-central-1 --cluster shop --container-instance "+
				instanceARN(account, region, "shop")+" --force")
		}
		if got := r.owedInstance(); !slices.Equal(got, want) {
			t.Errorf("%s: owed is %q, want %q", test.name, got, want)
		}
		warning := strings.Join(r.warnings, "\n")
		if (warning != "") != (len(test.warns) > 0) {
			t.Errorf("%s: warned of %q", test.name, warning)
		}
		for _, part := range test.warns {
			if !strings.Contains(warning, part) {
				t.Errorf("%s: %q lacks %q", test.name, warning, part)
			}
		}
	}
}

// The record is brought up to date where it is not true, and is not taken for more than anywhere has made.
func TestRecordStep(t *testing.T) {
	own := func(id, cluster, account string) *OwnedRegistration {
		return &OwnedRegistration{ManagedInstanceID: id, ActivationID: "a", Region: region, Account: account, Cluster: cluster}
	}
	for _, test := range []struct {
		name   string
		record *OwnedRegistration
		node   bool
		want   *OwnedRegistration
	}{
		{"nothing of ours", nil, true, nil},
		{"true", own(nodeID, "shop", account), true, own(nodeID, "shop", account)},
		{"another cluster", own(nodeID, "web", account), true, own(nodeID, "shop", account)},
		{"no account", own(nodeID, "shop", ""), true, own(nodeID, "shop", account)},
		{"somebody has registered it anew", own("mi-0fedcba9876543210", "shop", account), true, nil},
		{"no identity", own(nodeID, "web", account), false, own(nodeID, "web", account)},
	} {
		m := newMachine(t)
		if test.node {
			m.registered()
		}
		text, _ := json.Marshal(Record{Schema: 1, Registration: test.record})
		m.write(recordPath, string(text))
		r := m.registration(RegisterRequest{}).with(region, account, "shop")
		outcome, err := r.engine.Apply(t.Context(), engine.Plan{Verb: "test", Key: "test", Steps: []engine.Step{r.recordStep()}}, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		record, err := readRecord(r.deps.Host.Reader)
		same := func(a, b *OwnedRegistration) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
		if err != nil || !same(record.Registration, test.want) {
			t.Errorf("%s: %+v, %v; want %+v", test.name, record.Registration, err, test.want)
		}
		if outcome.Changed == same(test.record, test.want) {
			t.Errorf("%s: changed is %v", test.name, outcome.Changed)
		}
	}
}

// A registration whose run was killed before it was in the record is anywhere's all the same, so that it can be given up with
// the host; one that was there before the operation, or that it has not set about, is somebody else's.
func TestRegistrationThatNoRunHasRecorded(t *testing.T) {
	for _, test := range []struct {
		name  string
		since time.Duration // from the operation's begin to the key
		begun []string
		own   bool
	}{
		{"killed in the step", time.Minute, []string{"ssm.package", identityStepID}, true},
		{"killed before the step", time.Minute, []string{"ssm.package"}, false},
		{"an older one", -time.Minute, []string{"ssm.package", identityStepID}, false},
	} {
		m := newMachine(t)
		m.registered()
		identity, err := ssmagent.ReadIdentity(m.registration(RegisterRequest{}).deps.Host.Reader)
		if err != nil {
			t.Fatal(err)
		}
		r := m.registration(RegisterRequest{Activation: &control.Token{ActivationID: "a"}}).with(region, account, "shop")
		r.resumed = &engine.Operation{Started: identity.KeyCreated.Add(-test.since), Begun: test.begun}
		if _, err := r.engine.Apply(t.Context(), engine.Plan{Verb: "test", Key: "test", Steps: []engine.Step{r.recordStep()}}, engine.Options{}); err != nil {
			t.Fatal(err)
		}
		record, err := readRecord(r.deps.Host.Reader)
		want := OwnedRegistration{ManagedInstanceID: nodeID, ActivationID: "a", Region: region, Account: account, Cluster: "shop"}
		if err != nil || (record.Registration != nil) != test.own || test.own && *record.Registration != want {
			t.Errorf("%s: %+v, %v", test.name, record.Registration, err)
		}
	}
}

// The same cluster is written as the agent's state has it: it compares the raw strings.
func TestClusterAsTheStateHasIt(t *testing.T) {
	const arn = "arn:aws:ecs:eu-central-1:111122223333:cluster/shop"
	for _, test := range []struct{ name, saved, user, json, want string }{
		{"nowhere", "", "", "", "shop"},
		{"by name", "shop", "ECS_CLUSTER=shop\n", "", "shop"},
		{"by ARN", arn, "ECS_CLUSTER=" + arn + "\n", "", arn},
		{"by ARN in the state, lost in the configuration", arn, "", "", arn},
		{"by ARN in the state, by name in the configuration", arn, "ECS_CLUSTER=shop\n", "", arn},
		{"by ARN in the JSON file", "", "", `{"Cluster":"` + arn + `"}`, arn},
	} {
		m := newMachine(t)
		m.write(ecsagent.ConfigPath, test.user)
		m.write(ecsagent.JSONConfigPath, test.json)
		r := m.registration(RegisterRequest{}).with(region, account, "shop")
		r.binding.Cluster = test.saved
		config, err := ecsagent.ReadConfig(r.deps.Host.Reader)
		if got := r.settings(config)[0]; err != nil || got != (Pair{ecsagent.KeyCluster, test.want}) {
			t.Errorf("%s: %v, %v; want %s", test.name, got, err, test.want)
		}
	}
}

func TestAttributePairs(t *testing.T) {
	for _, test := range []struct {
		object string
		pairs  []Pair
		holds  bool
		with   string
	}{
		{"", nil, true, `{}`},
		{"", []Pair{{"rack", "7"}}, false, `{"rack":"7"}`},
		{`{"rack":"7"}`, []Pair{{"rack", "7"}}, true, `{"rack":"7"}`},
		{`{"zone":"b","rack":"7"}`, []Pair{{"rack", "8"}, {"a", "1"}}, false, `{"zone":"b","rack":"8","a":"1"}`},
		{`{"zone":"b","rack":"7"}`, []Pair{{"rack", "7"}}, true, `{"zone":"b","rack":"7"}`},
		{`{"rack":7}`, []Pair{{"rack", "7"}}, false, `{"rack":"7"}`},
		{`{"rack":`, []Pair{{"rack", "7"}}, false, `{"rack":"7"}`},
	} {
		if got := holds(test.object, test.pairs); got != test.holds {
			t.Errorf("%s holds %v: %v", test.object, test.pairs, got)
		}
		if got := withPairs(test.object, test.pairs); got != test.with {
			t.Errorf("%s with %v is %s, want %s", test.object, test.pairs, got, test.with)
		}
	}
}

// Attributes are the agent's to send before the first registration, and an operator's to change after it.
func TestSettleAttributes(t *testing.T) {
	denied := failure.New(failure.CredentialsInvalid, "no AWS credentials of an operator were found")
	down := failure.New(failure.Network, "no way to AWS")
	for _, test := range []struct {
		name     string
		config   string
		free     bool // not registered
		operator func() (*control.Operator, error)
		code     failure.Code
		try      string
		puts     bool
	}{
		{name: "not registered", free: true},
		{name: "sent at the first registration", config: `ECS_INSTANCE_ATTRIBUTES={"zone":"b","rack":"a 7"}` + "\n"},
		{name: "nobody to ask", code: failure.CredentialsInvalid, try: "aws ecs put-attributes --region eu-central-1 --cluster shop --attributes " +
			"'name=rack,value=a 7,targetType=container-instance,targetId=" + instanceARN(account, region, "shop") + "'"},
		{name: "no credentials", operator: func() (*control.Operator, error) { return nil, denied }, code: failure.CredentialsInvalid,
			try: "--profile; or leave --attribute out"},
		{name: "no network", operator: func() (*control.Operator, error) { return nil, down }, code: failure.Network, try: "check DNS"},
		{name: "another account", operator: func() (*control.Operator, error) { return &control.Operator{Account: "444455556666"}, nil },
			code: failure.CredentialsInvalid, try: "profile of account " + account},
		{name: "an operator", operator: func() (*control.Operator, error) { return &control.Operator{Account: account}, nil }, puts: true},
	} {
		m := newMachine(t)
		m.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\n"+test.config)
		if !test.free {
			m.registered()
			m.write(ecsagent.StateDB, boundState)
		}
		r := m.registration(RegisterRequest{Region: region, Cluster: "shop", Attributes: []Pair{{"rack", "a 7"}}})
		if test.operator != nil {
			r.deps.HostOperator = func(context.Context, string, string) (*control.Operator, error) { return test.operator() }
		}
		err := r.settle(t.Context())
		if (test.code != "") != (err != nil) || err != nil && !failure.Is(err, test.code) {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil && !strings.Contains(failure.Of(err).Advice(), test.try) {
			t.Errorf("%s: the remedy is %q", test.name, failure.Of(err).Advice())
		}
		if puts := r.attributes != nil; puts != test.puts || err == nil && len(r.ecsAttributes()) != map[bool]int{true: 1}[test.puts] {
			t.Errorf("%s: an operator is to put them: %v", test.name, puts)
		}
	}
}

// The vault does not say of which account a node is; the record of a registration that anywhere made does.
func TestNodeOfAnotherAccount(t *testing.T) {
	for _, test := range []struct {
		name, node, account string
		accept              []string
		refused             bool
	}{
		{name: "another", node: nodeID, account: "444455556666", refused: true},
		{name: "another, given up", node: nodeID, account: "444455556666", accept: []string{"replace-identity"}},
		{name: "the same", node: nodeID, account: account},
		{name: "not known", node: nodeID},
		{name: "of another node", node: "mi-0fedcba9876543210", account: "444455556666"},
	} {
		m := newMachine(t)
		m.registered()
		text, _ := json.Marshal(Record{Schema: 1, Registration: &OwnedRegistration{ManagedInstanceID: test.node, Account: test.account}})
		m.write(recordPath, string(text))
		err := settled(m, m.registration(RegisterRequest{Activation: token(), AcceptRisk: test.accept}))
		if test.refused != failure.Is(err, failure.RegisteredElsewere) || !test.refused && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil && !strings.Contains(failure.Of(err).Advice(), "--accept-risk replace-identity") {
			t.Errorf("%s: the remedy is %q", test.name, failure.Of(err).Advice())
		}
	}
}
