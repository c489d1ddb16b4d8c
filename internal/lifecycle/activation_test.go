package lifecycle

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// operatorsWorld is an emulated AWS with the cluster prod, and what a verb needs to call it. deny are the actions that
// the operator lacks.
func operatorsWorld(t *testing.T, deny ...string) (*emulator.Emulator, Deps) {
	t.Helper()
	e := emulator.New(emulator.Options{Region: "eu-west-1"})
	e.AddCluster("prod")
	e.AddOperator(emulator.Key{ID: "AKIAOPERATOR00000001", Secret: secret.NewText("the-operators-secret-key"), Deny: deny})
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	cfg := aws.Config{
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIAOPERATOR00000001", "the-operators-secret-key", ""),
	}
	return e, Deps{
		Host: host.Host{Reader: host.Reader{Now: time.Now}}, Redactor: &secret.Redactor{}, RunID: "run-1",
		Operator: func(ctx context.Context, _ string) (*control.Operator, error) {
			return control.Connect(ctx, cfg, control.Connection{EndpointURL: server.URL})
		},
	}
}

func listed(t *testing.T, d Deps) []ActivationItem {
	t.Helper()
	report, err := ListActivations(context.Background(), d)
	if err != nil {
		t.Fatal(err)
	}
	return report.Result.(ListActivationsResult).Activations
}

// brokenFile makes a file that cannot be written.
func brokenFile(path string) (*os.File, error) {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return nil, err
	}
	return os.Open(path)
}

func activationOrder(t *testing.T) CreateActivationRequest {
	return CreateActivationRequest{
		Cluster: "prod", Role: "ecsAnywhereRole", Limit: 1, Life: time.Hour, Token: true,
		OutputFile: filepath.Join(t.TempDir(), "token"), NewFile: brokenFile,
	}
}

func TestACodeThatCannotBeWrittenIsTakenBack(t *testing.T) {
	_, d := operatorsWorld(t)
	req := activationOrder(t)
	report, err := CreateActivation(context.Background(), d, req)
	if !failure.Is(err, failure.ReadOnly) || report.Changed || len(report.Kept) > 0 {
		t.Errorf("%v, %+v", err, report)
	}
	if left := listed(t, d); len(left) > 0 {
		t.Errorf("an activation is left: %+v", left)
	}
	if _, err := os.Stat(req.OutputFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is left: %v", err)
	}
}

func TestWhatCannotBeTakenBackIsNamed(t *testing.T) {
	_, d := operatorsWorld(t, "ssm:DeleteActivation")
	report, err := CreateActivation(context.Background(), d, activationOrder(t))
	left := listed(t, d)
	if !failure.Is(err, failure.ReadOnly) || len(left) != 1 {
		t.Fatalf("%v, %+v", err, left)
	}
	remedy := "anywhere activation delete " + left[0].ActivationID
	if !report.Changed || len(report.Kept) != 1 || !strings.Contains(report.Kept[0], remedy) {
		t.Errorf("the one that is left is not named: %+v", report)
	}
}

func TestInterruptedWhileMakingAnActivation(t *testing.T) {
	_, d := operatorsWorld(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	d.Listen = func(e engine.Event) {
		if e.Kind == engine.Finished { // AWS has made it
			cancel(failure.New(failure.Interrupted, "interrupted by Ctrl-C"))
		}
	}
	req := activationOrder(t)
	req.OutputFile = ""
	report, err := CreateActivation(ctx, d, req)
	if !failure.Is(err, failure.Interrupted) || report.Changed {
		t.Errorf("%v, %+v", err, report)
	}
	if result := report.Result.(CreateActivationResult); result.Token.Reveal() != "" {
		t.Error("a token was given for what was deleted again")
	}
	if left := listed(t, d); len(left) > 0 {
		t.Errorf("an activation is left: %+v", left)
	}
}

func TestTheSecretIsKnownToTheRedactorBeforeAnybodyElse(t *testing.T) {
	_, d := operatorsWorld(t)
	req := activationOrder(t)
	req.OutputFile, req.Token = "", false
	report, err := CreateActivation(context.Background(), d, req)
	if err != nil {
		t.Fatal(err)
	}
	code := report.Result.(CreateActivationResult).ActivationCode.Reveal()
	if said := d.Redactor.Clean("the code is " + code); code == "" || strings.Contains(said, code) {
		t.Errorf("the redactor lets it pass: %s", said)
	}
}

func TestDeletingWhatHasExpired(t *testing.T) {
	e, d := operatorsWorld(t)
	old, _ := e.AddActivation(1, time.Now().Add(-time.Hour))
	good, _ := e.AddActivation(1, time.Now().Add(time.Hour))
	report, err := DeleteActivations(context.Background(), d, DeleteActivationsRequest{Expired: true})
	result := report.Result.(DeleteActivationsResult)
	if err != nil || !report.Changed || len(result.Deleted) != 1 || result.Deleted[0] != old {
		t.Errorf("%v, %+v", err, report)
	}
	if left := listed(t, d); len(left) != 1 || left[0].ActivationID != good {
		t.Errorf("left: %+v", left)
	}
	again, err := DeleteActivations(context.Background(), d, DeleteActivationsRequest{Expired: true})
	if err != nil || again.Changed {
		t.Errorf("the second time: %v, %+v", err, again)
	}
}

func TestDeletingEndsAtAFailureAndSaysWhatIsDone(t *testing.T) {
	e, d := operatorsWorld(t)
	a, _ := e.AddActivation(1, time.Now().Add(time.Hour))
	b, _ := e.AddActivation(1, time.Now().Add(time.Hour))
	ctx, cancel := context.WithCancelCause(context.Background())
	d.Listen = func(e engine.Event) {
		if e.Kind == engine.Finished {
			cancel(failure.New(failure.Interrupted, "interrupted by Ctrl-C"))
		}
	}
	report, err := DeleteActivations(ctx, d, DeleteActivationsRequest{IDs: []string{a, b}})
	if !errors.Is(err, context.Canceled) || !report.Changed ||
		!slices.Equal(report.Kept, []string{"activation " + a + " is deleted"}) {
		t.Errorf("%v, %+v", err, report)
	}
	if left := listed(t, d); len(left) != 1 || left[0].ActivationID != b {
		t.Errorf("left: %+v", left)
	}
}
