package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// attended gives a machine's verbs the operator of an emulated AWS, and counts how often he is connected.
func attended(t *testing.T, m *machine, deny ...string) (d Deps, connected *int) {
	t.Helper()
	_, world := operatorsWorld(t, deny...)
	d = world
	d.Host, connected = m.host(), new(int)
	d.HostOperator = func(ctx context.Context, region, _ string) (*control.Operator, error) {
		*connected++
		return world.Operator(ctx, region)
	}
	return d, connected
}

func TestAnOperatorIsConnectedOnce(t *testing.T) {
	d, connected := attended(t, newMachine(t))
	a := &remote{deps: d, region: "eu-west-1"}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.connect(ended); err == nil {
		t.Error("connected after the end")
	}
	for range 2 {
		if o, err := a.connect(t.Context()); err != nil || o.Account != "123456789012" {
			t.Fatalf("%v: what the end of a caller's context stopped is not remembered", err)
		}
	}
	if *connected != 2 { // the one that was stopped, and one for all
		t.Errorf("connected %d times", *connected)
	}
	a.account = "999999999999"
	if _, err := a.here(t.Context()); !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), "999999999999") {
		t.Errorf("of another account: %v", err)
	}
	if _, err := (&remote{}).connect(t.Context()); !none(err) {
		t.Errorf("without any: %v", err)
	}
}

// The end of a look's own time is AWS's silence; the end of the caller's is his.
func TestWithin(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	if err := within(t.Context(), time.Millisecond, hang); !failure.Is(err, failure.Network) || !silence(err) {
		t.Errorf("silence: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := within(ended, time.Minute, hang); !errors.Is(err, context.Canceled) || silence(err) {
		t.Errorf("interruption: %v", err)
	}
	denied := failure.New(failure.AccessDenied, "denied")
	if err := within(t.Context(), time.Minute, func(context.Context) error { return denied }); !errors.Is(err, denied) {
		t.Errorf("an answer: %v", err)
	}
}

// Of two answers the one that says most counts.
func TestView(t *testing.T) {
	denied, silent := failure.New(failure.AccessDenied, "denied"), failure.New(failure.Network, "nobody")
	gone := failure.New(failure.InstanceInactive, "gone")
	for name, test := range map[string]struct {
		v    view
		want error
	}{
		"all well":                           {view{}, nil},
		"denied":                             {view{errs: [2]error{nil, denied}}, denied},
		"silence before denied":              {view{errs: [2]error{denied, silent}}, silent},
		"a contradiction before silence":     {view{contradiction: gone, errs: [2]error{nil, silent}}, nil},
		"denied, while something is missing": {view{contradiction: gone, missing: true, errs: [2]error{denied, nil}}, denied},
	} {
		if got := test.v.err(); got != test.want { //nolint:errorlint // the very same
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}

func TestAnInstanceAsECSHasIt(t *testing.T) {
	for _, test := range []struct {
		name, waits, doubt string
		i                  control.Instance
		absent             bool
		code               failure.Code
	}{
		{name: "well", i: control.Instance{Status: "ACTIVE", Connected: true, Node: nodeID}},
		{name: "not connected", i: control.Instance{Status: "ACTIVE"}, waits: "not connected"},
		{name: "registering", i: control.Instance{Status: "REGISTERING"}, waits: "REGISTERING"},
		{name: "draining", i: control.Instance{Status: "DRAINING", Connected: true}, doubt: "DRAINING"},
		{name: "inactive", i: control.Instance{Status: "INACTIVE"}, code: failure.InstanceInactive},
		{name: "deregistering", i: control.Instance{Status: "DEREGISTERING"}, code: failure.InstanceInactive},
		{name: "failed", i: control.Instance{Status: "REGISTRATION_FAILED", Reason: "why"}, code: failure.RegistrationDenied},
		{name: "another node's", i: control.Instance{Status: "ACTIVE", Connected: true, Node: "mi-1"}, code: failure.InstanceInactive},
		{name: "not there", absent: true, waits: "does not show", code: failure.InstanceInactive},
	} {
		r := newMachine(t).registration(RegisterRequest{}).with(region, account, "shop")
		r.node = nodeID
		var v view
		r.judgeInstance(&v, test.i, !test.absent)
		said := test.code == "" && v.contradiction == nil || failure.Is(v.contradiction, test.code)
		if !said || !strings.Contains(v.waits, test.waits) || !strings.Contains(v.doubt, test.doubt) || v.missing != test.absent ||
			(test.waits == "") != (v.waits == "") || (test.doubt == "") != (v.doubt == "") {
			t.Errorf("%s: %+v", test.name, v)
		}
	}
}

// An operator of another account than the one that was meant cannot look; where no account was meant, his is.
func TestAnOperatorOfAnotherAccount(t *testing.T) {
	d, _ := attended(t, newMachine(t))
	operator, err := d.Operator(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for meant, want := range map[string]failure.Code{account: failure.Usage, "": failure.RegisteredElsewere} {
		r := newMachine(t).registration(RegisterRequest{}).with(region, meant, "shop")
		r.arn = ecsagent.InstanceARN{Account: account}
		if _, err := r.agree(t.Context(), operator, false); !failure.Is(err, want) || decided(err) != (meant == "") {
			t.Errorf("meant for account %q: %v", meant, err)
		}
	}
}

func TestStrayRuns(t *testing.T) {
	for _, test := range []struct{ pin, deleted, want string }{
		{"", "", ""}, {"run-1", "", "run-1"}, {"run-1,run-2", "", "run-1 run-2"}, {"run-1,run-2", "run-2", "run-1"},
		{"run-2", "run-2", ""},
	} {
		m := newMachine(t)
		r := m.registration(RegisterRequest{})
		err := m.within(t.Context(), r, func(ctx context.Context, tx *engine.Tx) error {
			return r.own(ctx, tx, func(record *Record) { record.Registration = &OwnedRegistration{Deleted: test.deleted} })
		})
		if err != nil {
			t.Fatal(err)
		}
		op := &engine.Operation{Pins: map[string]string{pinActivation: test.pin}}
		if got := strings.Join(strayRuns(op, m.host().Reader), " "); got != test.want {
			t.Errorf("%q without %q: %q, not %q", test.pin, test.deleted, got, test.want)
		}
	}
	if strayRuns(nil, host.Reader{}) != nil {
		t.Error("no operation has runs")
	}
}

// Without an activation, and without anybody who could make one, all ways to get on are named.
func TestNobodyWhoCouldMakeAnActivation(t *testing.T) {
	m := newMachine(t)
	r := m.registration(RegisterRequest{}).with(region, account, "shop")
	r.remote = &remote{deps: r.deps, region: region}
	pins := map[string]string{}
	f := failure.Of(r.needActivation(t.Context(), pins))
	if f == nil || f.Code != failure.Usage || pins[pinActivation] != "" {
		t.Fatalf("%+v, pins %v", f, pins)
	}
	for _, way := range []string{"--token -", "--activation-id ID with --activation-code-file", "--profile, AWS_PROFILE or AWS_ACCESS_KEY_ID"} {
		if !strings.Contains(f.Remedy, way) {
			t.Errorf("the remedy %q does not name %q", f.Remedy, way)
		}
	}
	m.registered()
	if err := r.needActivation(t.Context(), pins); err != nil {
		t.Errorf("a registered host needs none: %v", err)
	}
}
