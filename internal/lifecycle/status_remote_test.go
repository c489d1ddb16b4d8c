package lifecycle

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// withAWS lets the patient's operator ask an emulated AWS of an account, which knows nothing of the patient.
func withAWS(t *testing.T, d Deps, account string) Deps {
	t.Helper()
	e := emulator.New(emulator.Options{Account: account, Region: region})
	e.AddCluster("shop")
	e.AddOperator(emulator.Key{ID: "AKIAOPERATOR00000001", Secret: secret.NewText("the-operators-secret-key")})
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	d.HostOperator = func(ctx context.Context, asked, _ string) (*control.Operator, error) {
		return control.Connect(ctx, aws.Config{
			Region:      asked,
			Credentials: credentials.NewStaticCredentialsProvider("AKIAOPERATOR00000001", "the-operators-secret-key", ""),
		}, control.Connection{EndpointURL: server.URL})
	}
	return d
}

func TestRemoteContradicts(t *testing.T) {
	for name, test := range map[string]struct {
		account string
		kinds   []DriftKind
		codes   []failure.Code
	}{
		"another account":   {"444455556666", []DriftKind{DriftWrongAccount}, []failure.Code{failure.RegisteredElsewere}},
		"AWS knows nothing": {account, []DriftKind{DriftECSGone, DriftSSMGone}, []failure.Code{failure.InstanceInactive, failure.NodeUnknown}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			report, err := Status(t.Context(), withAWS(t, p.deps(), test.account), StatusRequest{Remote: true})
			got := report.Result.(StatusResult)
			if err != nil || got.State != Unhealthy || report.Exit != failure.ExitUnhealthy || len(got.Remote.Drift) != len(test.kinds) ||
				len(got.Reasons) != len(test.codes) || got.Verified != VerifiedNone {
				t.Fatalf("%v, %s\n%+v\n%+v", err, got.State, got.Remote, got.Reasons)
			}
			for i, kind := range test.kinds {
				if d, r := got.Remote.Drift[i], got.Reasons[i]; d.Kind != kind || !d.Breaks || r.Code != test.codes[i] || r.Rule != "aws" || r.Remedy == "" {
					t.Errorf("%+v\n%+v", d, r)
				}
			}
		})
	}
}

// What ECS says of instances, held against the host.
func TestCompareWithECS(t *testing.T) {
	own := control.InstanceSight{ARN: instanceARN(account, region, "shop"), NodeID: nodeID, Status: "ACTIVE", Connected: true}
	other := control.InstanceSight{ARN: own.ARN + "0", NodeID: nodeID, Status: "ACTIVE"}
	for name, test := range map[string]struct {
		note   func(s *sight)
		kind   DriftKind
		breaks bool
	}{
		"as it should be": {note: func(s *sight) { s.compare(own, nodeID) }},
		"inactive": {func(s *sight) {
			i := own
			i.Status, i.Connected = "INACTIVE", false
			s.compare(i, nodeID)
		}, DriftECSGone, true},
		"draining": {func(s *sight) {
			i := own
			i.Status = "DRAINING"
			s.compare(i, nodeID)
		}, DriftDraining, false},
		"not connected": {func(s *sight) {
			i := own
			i.Connected = false
			s.compare(i, nodeID)
		}, DriftECSLost, true},
		"of another node":        {func(s *sight) { s.compare(own, "mi-0fedcba9876543210") }, DriftECSNode, true},
		"a node that is unseen":  {note: func(s *sight) { s.compare(own, "") }},
		"another, left behind":   {func(s *sight) { s.ghost("shop", other) }, DriftGhost, false},
		"another, and connected": {func(s *sight) { i := other; i.Connected = true; s.ghost("shop", i) }, DriftTwice, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := lookAt(t.Context(), newPatient(t).deps())
			s.remote = &StatusRemote{}
			test.note(s)
			state, reasons := s.judge()
			switch {
			case test.kind == "":
				if len(s.remote.Drift) > 0 || state != Healthy {
					t.Errorf("%s, %+v", state, s.remote.Drift)
				}
			case len(s.remote.Drift) != 1 || s.remote.Drift[0].Kind != test.kind || s.remote.Drift[0].Breaks != test.breaks,
				(state == Unhealthy) != test.breaks, (len(reasons) > 0) != test.breaks, (len(s.warnings()) > 0) == test.breaks:
				t.Errorf("%s, %+v, warnings %q", state, s.remote.Drift, s.warnings())
			}
		})
	}
}

// A log that says nothing of the connection leaves the state unknown; ECS can bear witness.
func TestECSBearsWitness(t *testing.T) {
	p := newPatient(t)
	p.log = []string{told(started, "Starting")}
	s := lookAt(t.Context(), p.deps())
	if state, _ := s.judge(); state != StateUnknown {
		t.Errorf("without it: %s", state)
	}
	s.remote = &StatusRemote{ECS: &StatusRemoteECS{Status: "ACTIVE", AgentConnected: true}}
	if state, reasons := s.judge(); state != Healthy {
		t.Errorf("with it: %s, %+v", state, reasons)
	}
}
