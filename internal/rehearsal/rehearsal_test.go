package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// world is the environment that main would give, with buffers for streams.
func world() (env cli.Env, out, err *bytes.Buffer) {
	out, err = &bytes.Buffer{}, &bytes.Buffer{}
	return cli.Env{
		Now: time.Now, Ticker: func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} },
		Streams: cli.Streams{In: strings.NewReader(""), Out: out, Err: err}, NewRunID: func() string { return time.Now().Format("150405.000000000") },
		Exit: func(int) { panic("exit") }, Build: cli.Build{Version: "test"},
	}, out, err
}

// register is what the tests look at in register's document.
type register struct {
	Changed, Failed bool
	RC              int
	Warnings        []string
	Result          lifecycle.RegisterResult
	Error           struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

func play(t *testing.T, req cli.RehearseRequest) (lifecycle.Report, []register) {
	t.Helper()
	env, _, _ := world()
	req.Scenario, req.JSON = "register", true
	report, err := Run(context.Background(), env, req)
	if err != nil {
		t.Fatalf("%v\n%+v", err, report.Result)
	}
	var documents []register
	for _, c := range report.Result.(Result).Commands[2:] { // the first make a token and look at the host
		var d register
		if err := json.Unmarshal(c.Document, &d); err != nil {
			t.Fatalf("%s: %v", c.Line, err)
		}
		documents = append(documents, d)
	}
	return report, documents
}

func TestTheMainJob(t *testing.T) {
	t.Parallel()
	keep := t.TempDir()
	report, documents := play(t, cli.RehearseRequest{Keep: keep})
	first, second := documents[0], documents[1]
	if made := string(report.Result.(Result).Commands[0].Document); !strings.Contains(made, `"token":"anywhere1.[redacted]"`) {
		t.Errorf("the token is not masked, or not there: %s", made)
	}
	if !first.Changed || first.Result.Verified != "local" || first.Result.Cluster != cluster || first.Result.Account != account {
		t.Errorf("first run: %+v", first)
	}
	if second.Changed || second.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("second run: %+v", second)
	}
	result := report.Result.(Result)
	if changed := result.Commands[3].Changed; len(changed) != 0 {
		t.Errorf("the second run changed %v", changed)
	}
	for _, want := range []string{"ssm:RegisterManagedInstance", "ssm:RequestManagedInstanceRoleToken", "ecs:RegisterContainerInstance"} {
		if !slices.Contains(result.Calls, want) {
			t.Errorf("AWS was not asked for %s: %v", want, result.Calls)
		}
	}
	for path, want := range map[string]string{
		"/etc/ecs/ecs.config":                                               "ECS_CLUSTER=rehearsal\nAWS_DEFAULT_REGION=eu-west-1\nECS_EXTERNAL=true\nAWS_EC2_METADATA_DISABLED=true\n",
		"/etc/amazon/ssm/amazon-ssm-agent.json":                             `"OnPrem"`,
		"/etc/systemd/system/ecs.service.d/50-anywhere.conf":                "RestartPreventExitStatus=5",
		"/var/lib/anywhere/record.json":                                     first.Result.ManagedInstanceID,
		"/root/.aws/credentials":                                            "[default]",
		"/var/lib/amazon/ssm/registration":                                  first.Result.ManagedInstanceID,
		"/var/lib/ecs/deps/execute-command/bin/3.3.4108.0/amazon-ssm-agent": "#!/bin/sh",
	} {
		text, err := os.ReadFile(filepath.Join(keep, "host", path))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s has %q, %v; want %q in it", path, text, err, want)
		}
	}
}

// The story that is played when none is named is a host's whole life, and leaves nothing behind.
func TestTheWholeLife(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	keep := t.TempDir()
	report, err := Run(t.Context(), env, cli.RehearseRequest{JSON: true, Keep: keep})
	if err != nil {
		t.Fatalf("%v\n%+v", err, report.Result)
	}
	var lines []string
	for _, c := range report.Result.(Result).Commands {
		lines = append(lines, strings.Fields(c.Line)[1])
		if c.RC != 0 {
			t.Errorf("%s: %s", c.Line, c.Document)
		}
	}
	if want := []string{"activation", "preflight", "register", "register", "status", "upgrade", "move", "deregister"}; !slices.Equal(lines, want) {
		t.Errorf("the commands are %q", lines)
	}
	if !strings.Contains(report.Message, "nothing of it any more") {
		t.Error(report.Message)
	}
	for _, gone := range []string{"etc/ecs/ecs.config", "var/lib/amazon/ssm", "var/lib/ecs/data/agent.db", "root/.aws/credentials", "var/lib/anywhere/record.json"} {
		if _, err := os.Lstat(filepath.Join(keep, "host", gone)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", gone, err)
		}
	}
}

// withoutLogs leaves out what a rollback does not claim to take back.
func withoutLogs(changed []string) []string {
	return slices.DeleteFunc(slices.Clone(changed), func(name string) bool { return strings.HasPrefix(name[1:], "/var/log/") })
}

func TestAfterKeepingTheSameCommandGoesOnWithoutAToken(t *testing.T) {
	t.Parallel()
	env, _, errs := world()
	root := t.TempDir()
	s, err := newStage(root, env, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.anotherToken()
	play := func(l line) (Command, register) {
		c, err := s.play(context.Background(), l, cli.RehearseRequest{Faults: []string{"cluster-missing"}})
		if err != nil && c.RC == 0 {
			t.Fatal(err, errs)
		}
		var d register
		if err := json.Unmarshal(c.Document, &d); err != nil {
			t.Fatalf("%v: %s", err, c.Document)
		}
		return c, d
	}
	_, kept := play(line{args: []string{"register", "--token", "-"}, token: true, faults: true})
	if kept.RC != 8 || kept.Result.ManagedInstanceID == "" {
		t.Fatalf("first: %+v", kept)
	}
	s.aws.ClearFault("cluster-missing")
	_, done := play(line{args: []string{"register"}})
	if done.RC != 0 || done.Result.Verified != "local" || done.Result.ManagedInstanceID != kept.Result.ManagedInstanceID || done.Result.Cluster != cluster {
		t.Errorf("second: %+v", done)
	}
	if _, third := play(line{args: []string{"register"}}); third.RC != 0 || third.Changed {
		t.Errorf("third: %+v", third)
	}
	if n := len(s.aws.Nodes()); n != 1 {
		t.Errorf("%d managed nodes of one host", n)
	}
}

func TestNoSecretAnywhere(t *testing.T) {
	t.Parallel()
	env, out, errs := world()
	root := t.TempDir()
	s, err := newStage(root, env, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	_, code := s.aws.AddActivation(1, time.Now().Add(time.Hour)) // never used: shows that the search finds what is there
	if err := os.WriteFile(filepath.Join(root, "host", "planted"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, l := range slices.Concat(registering, scenarios["move"][1:], scenarios["deregister"][1:]) {
		if _, err := s.play(context.Background(), l, cli.RehearseRequest{Args: []string{"-v"}}); err != nil {
			t.Fatal(err, errs)
		}
	}
	if found := search(t, root, code); len(found) != 1 {
		t.Fatalf("the search does not search: %v", found)
	}
	token, err := control.ParseToken(s.token)
	if err != nil {
		t.Fatal(err)
	}
	canaries := map[string]string{
		"token": s.token, "activation code": token.Code.Reveal(), "operator's key": s.operator.Secret.Reveal(),
	}
	for what, canary := range canaries {
		if found := search(t, root, canary); len(found) > 0 {
			t.Errorf("the %s is in %v", what, found)
		}
		if strings.Contains(out.String()+errs.String(), canary) {
			t.Errorf("the %s was printed", what)
		}
	}
}

func search(t *testing.T, root, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]cli.RehearseRequest{
		"scenario": {Scenario: "opera"}, "fault": {Faults: []string{"locusts"}}, "keep": {Keep: full},
	} {
		env, _, _ := world()
		_, err := Run(context.Background(), env, req)
		if !failure.Is(err, failure.Usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(full, "mine")); string(text) != "precious" {
		t.Error("somebody's folder was touched")
	}
}
