package cli_test

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// asked runs a command line of rehearse, up to where the story would begin.
func asked(args ...string) (req *cli.RehearseRequest, status int, said string) {
	var out, errs bytes.Buffer
	env := cli.Env{
		Now: time.Now, NewRunID: func() string { return "run-1" }, Streams: cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs},
		ReadFile: func(string) ([]byte, error) { return nil, os.ErrNotExist },
		Rehearse: func(_ context.Context, asked cli.RehearseRequest) (lifecycle.Report, error) {
			req = &asked
			return lifecycle.Report{}, nil
		},
	}
	status = cli.Main(context.Background(), env, args)
	return req, status, out.String() + errs.String()
}

// The line of a runbook is rehearsed as it stands: what is the real command's reaches it, what is rehearse's does not.
func TestRehearseTakesTheLineOfARunbook(t *testing.T) {
	for line, want := range map[string]struct {
		scenario, args, cluster, region, keep string
		faults                                []string
		json                                  bool
	}{
		"rehearse":      {scenario: "lifecycle"},
		"rehearse life": {scenario: "lifecycle"},
		"rehearse register --cluster shop --attribute rack=7 --ecs-config K=V --dry-run": {
			scenario: "register", args: "--cluster shop --attribute rack=7 --ecs-config K=V --dry-run", cluster: "shop",
		},
		"rehearse --cluster shop --dry-run register -o json": {scenario: "register", args: "--cluster shop --dry-run", cluster: "shop", json: true},
		"-o json rehearse --cluster=shop":                    {scenario: "lifecycle", args: "--cluster=shop", cluster: "shop", json: true},
		"rehearse register -nv --fault throttled,slow*2":     {scenario: "register", args: "-n -v", faults: []string{"throttled", "slow*2"}},
		"rehearse register -yo json":                         {scenario: "register", args: "-y", json: true},
		"rehearse drain --cluster shop --drain-timeout 1m":   {scenario: "drain", args: "--drain-timeout 1m", cluster: "shop"},
		"rehearse move --cluster b --region eu-north-1 --yes": {
			scenario: "move", args: "--cluster b --region eu-north-1 --yes", cluster: "b", region: "eu-north-1",
		},
		"rehearse deregister --force --accept-risk running-tasks --keep dir": {
			scenario: "deregister", args: "--force --accept-risk running-tasks", keep: "dir",
		},
		"rehearse upgrade --timeout 1m -- --only ecs --drain": {scenario: "upgrade", args: "--only ecs --drain"},
		"rehearse operator --profile ops --lock-timeout 3s":   {scenario: "operator", args: "--profile ops --lock-timeout 3s"},
		"rehearse register --token - --cluster shop":          {scenario: "register", args: "--token - --cluster shop", cluster: "shop"},
	} {
		req, status, said := asked(strings.Fields(line)...)
		if status != 0 || req == nil {
			t.Errorf("%s: exit status %d: %s", line, status, said)
			continue
		}
		if req.Scenario != want.scenario || strings.Join(req.Args, " ") != want.args || req.Cluster != want.cluster || req.Region != want.region ||
			req.Keep != want.keep || !slices.Equal(req.Faults, want.faults) || req.JSON != want.json {
			t.Errorf("%s: %+v", line, *req)
		}
		var words []string
		for _, g := range req.Given {
			words = append(words, g.Words...)
		}
		if strings.Join(words, " ") != want.args {
			t.Errorf("%s: taken apart it is %+v", line, req.Given)
		}
	}
}

// What is wrong with the line is said before anything is played, naming the flag and the command whose it is.
func TestRehearseRefusesAWrongLine(t *testing.T) {
	for line, want := range map[string]string{
		"rehearse register --clutser shop":              "unknown flag: --clutser (did you mean --cluster?)",
		"rehearse --clutser shop register -o json":      "--clutser",
		"rehearse register --nope":                      "anywhere register --help",
		"rehearse drain --attribute rack=7":             "unknown flag: --attribute",
		"rehearse deregister --dry-run --ecs-config":    "unknown flag: --ecs-config",
		"rehearse register --wait-timeout soon":         `--wait-timeout: "soon" is not valid`,
		"rehearse register -Z":                          "unknown flag: -Z",
		"rehearse register --cluster":                   "--cluster: the value is missing",
		"rehearse drain --cluster":                      "--cluster: the value is missing",
		"rehearse register upgrade":                     "expected one scenario, and got 2",
		"rehearse registr":                              "did you mean register?",
		"rehearse register -- word":                     "takes flags only",
		"rehearse register --region nowhere":            "nowhere",
		"rehearse register --keep=":                     "--keep: the value is empty",
		"rehearse register --accept-risk earthquake":    "earthquake",
		"rehearse upgrade --only docker -- --dry-run":   "docker",
		"rehearse register --dry-run=perhaps --fault x": "dry-run",
	} {
		req, status, said := asked(strings.Fields(line)...)
		if status != 2 || req != nil || !strings.Contains(said, want) {
			t.Errorf("%s: exit status %d, played %v: %s", line, status, req != nil, said)
		}
	}
}

// A value of one command is not taken for a word of another: flags of one name take a value in all commands or in none.
func TestFlagsOfScenariosAgree(t *testing.T) {
	takes := map[string]bool{}
	for _, s := range cli.Scenarios {
		verb, _, err := tree().Find([]string{s.Verb})
		if err != nil || verb.Name() != s.Verb {
			t.Fatalf("%s: there is no command %s", s.Name, s.Verb)
		}
		if found, known := cli.FindScenario(s.Name); !known || found != s {
			t.Errorf("%s is not found", s.Name)
		}
		for _, name := range cli.FlagNames(verb) {
			value := verb.Flags().Lookup(name).NoOptDefVal == ""
			if before, seen := takes[name]; seen && before != value {
				t.Errorf("--%s takes a value in one command and none in another", name)
			}
			takes[name] = value
		}
	}
	rehearse, _, err := tree().Find([]string{"rehearse"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range cli.FlagNames(rehearse) {
		if _, taken := takes[name]; taken && rehearse.InheritedFlags().Lookup(name) == nil {
			t.Errorf("--%s of rehearse hides a real command's flag", name)
		}
	}
}
