package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// TestMain holds every document that any test of this package makes a real command print to docs/schema.
func TestMain(m *testing.M) {
	var mu sync.Mutex
	var broken []error
	witness = func(document []byte) {
		if err := contract.Check(document); err != nil {
			mu.Lock()
			defer mu.Unlock()
			broken = append(broken, err)
		}
	}
	// The stories wait for agents most of the time: more of them than there are processors run side by side.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	status := m.Run()
	for _, err := range broken {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// rehearse is the document of "anywhere rehearse ARGS -o json".
func rehearse(t *testing.T, args ...string) (document []byte, status int) {
	t.Helper()
	env, out, _ := world()
	env.LookupEnv = func(string) (string, bool) { return "", false }
	env.ReadFile = func(string) ([]byte, error) { return nil, os.ErrNotExist }
	env.Rehearse = func(ctx context.Context, req cli.RehearseRequest) (r lifecycle.Report, err error) {
		return Run(ctx, env, req)
	}
	status = cli.Main(context.Background(), env, append([]string{"rehearse", "-o", "json"}, args...))
	return out.Bytes(), status
}

func TestRehearsalsKeepTheContract(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		rc   int
	}{
		"the main job":      {nil, 0},
		"a fault":           {[]string{"--fault", "artifact-corrupt"}, 0},
		"a dry run":         {[]string{"register", "--cluster", "shop", "--dry-run"}, 0},
		"changes pending":   {[]string{"register", "-n", "--detailed-exitcode"}, 0},
		"a wrong line":      {[]string{"register", "--detailed-exitcode"}, 2}, // without --dry-run
		"no such flag":      {[]string{"--", "--bogus"}, 2},
		"no such fault":     {[]string{"--fault", "locusts"}, 2},
		"no such scenario":  {[]string{"opera"}, 2},
		"too many of those": {[]string{"register", "register"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			document, rc := rehearse(t, test.args...)
			if rc != test.rc {
				t.Errorf("exit status %d, want %d: %s", rc, test.rc, document)
			}
			if err := contract.Check(document); err != nil {
				t.Error(err)
			}
		})
	}
}

// What needs root, or a host that something was begun on, prints its documents here.
func TestAnUnfinishedOperationKeepsTheContract(t *testing.T) {
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	begin := func() {
		s.anotherToken()
		d := s.run(t, line{args: []string{"register", "--token", "-"}, token: true}, "--no-rollback")
		if d.RC != 8 || d.Error.Code != "activation_expired" {
			t.Fatalf("%+v", d)
		}
	}
	expect := func(rc int, changed bool, args ...string) {
		t.Helper()
		if d := s.run(t, line{args: args}); d.RC != rc || d.Changed != changed {
			t.Errorf("%v: %+v", args, d)
		}
	}
	if err := s.aws.Fault(emulator.FaultActivationExpired); err != nil {
		t.Fatal(err)
	}
	expect(12, false, "rollback")
	expect(0, false, "operation", "abandon")
	begin()
	expect(0, false, "operation", "show")
	expect(0, true, "rollback")
	expect(0, false, "operation", "show")
	begin()
	expect(0, false, "operation", "abandon")
	expect(2, false, "register", "--token", "nowhere")
}

// What is not as the contract says is not taken: a validator that takes everything would pass every other test.
func TestTheContractRefuses(t *testing.T) {
	good, _ := rehearse(t, "--fault", "cluster-missing", "--", "--wait-timeout", "20s")
	var story struct{ Result Result }
	if err := json.Unmarshal(good, &story); err != nil {
		t.Fatal(err)
	}
	failed := story.Result.Commands[2].Document // register, after its point of no return
	if err := contract.Check(failed); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a field more":                {`"changed":`, `"extra":1,"changed":`},
		"a field less":                {`"msg":`, `"message":`},
		"a field more in the result":  {`"verified":`, `"proof":1,"verified":`},
		"no array":                    {`"warnings":[`, `"warnings":null,"w":[`},
		"null for no steps":           {`"owed":[]`, `"owed":null`},
		"failed and yet no error":     {`"error":{`, `"mistake":{`},
		"an exit status that is none": {`"rc":8`, `"rc":15`},
		"another code's exit status":  {`"rc":8`, `"rc":5`},
		"an answer's exit status":     {`"rc":8`, `"rc":0`},
		"an error without a failure":  {`"failed":true`, `"failed":false`},
		"an unknown code":             {`"cluster_not_found"`, `"cluster_lost"`},
		"an unknown status":           {`"status":"kept"`, `"status":"finished"`},
		"an unknown proof":            {`"verified":"none"`, `"verified":"maybe"`},
		"proof without an instance":   {`"verified":"none"`, `"verified":"local"`},
		"an id of another form":       {`"managedInstanceId":"mi-`, `"managedInstanceId":"i-`},
		"local time":                  {`Z","durationMs"`, `+02:00","durationMs"`},
		"another form":                {`"anywhere/v1"`, `"anywhere/v2"`},
		"kept, but nothing is named":  {`"kept":["`, `"kept":[],"was":["`},
		"another command's result":    {`"command":"register"`, `"command":"preflight"`},
		"an unknown command":          {`"command":"register"`, `"command":"enlist"`},
	} {
		bad := bytes.Replace(failed, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(bad, failed) {
			t.Errorf("%s: the document has no %s: %s", name, change[0], failed)
		}
		if contract.Check(bad) == nil {
			t.Errorf("%s was taken: %s", name, bad)
		}
	}
}
