package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// typed is what a person gets who types a command line of rehearse.
func typed(t *testing.T, tty bool, args ...string) (said string, status int) {
	t.Helper()
	env, out, errs := world()
	env.Streams.OutTTY = tty
	env.LookupEnv = func(name string) (string, bool) { return map[string]string{"LANG": "C.UTF-8"}[name], name == "LANG" }
	env.ReadFile = func(string) ([]byte, error) { return nil, os.ErrNotExist }
	env.Rehearse = func(ctx context.Context, req cli.RehearseRequest) (lifecycle.Report, error) {
		return Run(ctx, env, req)
	}
	status = cli.Main(t.Context(), env, append([]string{"rehearse"}, args...))
	return out.String() + errs.String(), status
}

// played is the result of a command line of rehearse, whose document keeps the contract.
func played(t *testing.T, args ...string) (Result, string) {
	t.Helper()
	document, status := rehearse(t, args...)
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, document)
	}
	if err := contract.Check(document); err != nil {
		t.Error(err)
	}
	var d struct {
		Warnings []string
		Result   Result
	}
	if err := json.Unmarshal(document, &d); err != nil {
		t.Fatal(err)
	}
	return d.Result, strings.Join(d.Warnings, "\n")
}

func TestEveryScenarioHasAStory(t *testing.T) {
	t.Parallel()
	var names []string
	for _, s := range cli.Scenarios {
		names = append(names, s.Name)
		lines := scenarios[s.Name]
		if s.Name == cli.AllFaults {
			continue
		}
		if !slices.ContainsFunc(lines, func(l line) bool { return l.extra && l.faults && l.args[0] == s.Verb }) {
			t.Errorf("%s: nothing in it takes the flags of %s, or the faults", s.Name, s.Verb)
		}
		for _, l := range lines {
			if l.title == "" {
				t.Errorf("%s: %q has no title", s.Name, l.args)
			}
		}
	}
	for name := range scenarios {
		if !slices.Contains(names, name) {
			t.Errorf("nobody is told of the scenario %s", name)
		}
	}
}

// A dry run of the very line: it reaches the command whole, changes nothing, and the story ends with it.
func TestADryRunOfARunbooksLine(t *testing.T) {
	t.Parallel()
	const runbook = "--cluster shop --attribute rack=7 --ecs-config ECS_RESERVED_MEMORY=256 --dry-run"
	r, _ := played(t, append([]string{"register"}, strings.Fields(runbook)...)...)
	last := r.Commands[len(r.Commands)-1]
	if len(r.Commands) != 3 || last.Line != "anywhere register --token - "+runbook || !last.still() || !strings.Contains(string(last.Document), `"dryRun":true`) {
		t.Errorf("%+v", last)
	}
}

// The place and the versions of the line are those of the story, and what only AWS has is replaced.
func TestTheLinesPlaceAndVersions(t *testing.T) {
	t.Parallel()
	r, warned := played(t, "register", "--token", "/root/token", "--agent-endpoint", "https://vpce.example", "--region", "us-west-2",
		"--cluster", "arn:aws:ecs:us-west-2:210987654321:cluster/shop", "--ecs-agent-version", "1.104.0", "--ssm-agent-version", "3.3.4000.0")
	var d register
	if err := json.Unmarshal(r.Commands[2].Document, &d); err != nil {
		t.Fatal(err)
	}
	if is := d.Result; is.Cluster != "shop" || is.Region != "us-west-2" || is.Account != "210987654321" || is.ECSAgentVersion != "1.104.0-1" ||
		!strings.HasPrefix(is.SSMAgentVersion, "3.3.4000.0") {
		t.Errorf("%+v", d)
	}
	if !strings.Contains(warned, "--token, --agent-endpoint: replaced") || strings.Contains(r.Commands[2].Line, "vpce") {
		t.Errorf("%s\n%s", r.Commands[2].Line, warned)
	}
	if len(r.Commands) != 5 || !r.Commands[3].still() {
		t.Errorf("the second run is no story's: %+v", r.Commands[3])
	}
}

// Who names the node makes its activation too: there is no token then.
func TestTheLineOfAnOperator(t *testing.T) {
	t.Parallel()
	r, _ := played(t, "register", "--name", "web-1", "--cluster", "shop")
	if slices.ContainsFunc(r.Commands, func(c Command) bool { return strings.Contains(c.Line, "--token") }) {
		t.Errorf("%+v", r.Commands)
	}
	var d register
	if err := json.Unmarshal(r.Commands[1].Document, &d); err != nil || d.Result.Verified != lifecycle.VerifiedAWS || d.Result.Cluster != "shop" {
		t.Errorf("%v: %+v", err, d)
	}
}

func TestWhereabouts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		scenario, cluster, region string
		want                      site
	}{
		{"register", "", "", site{account, region, cluster, target}},
		{"register", "shop", "eu-north-1", site{account, "eu-north-1", "shop", target}},
		{"register", target, "", site{account, region, target, cluster}},
		{"move", "shop", "", site{account, region, cluster, "shop"}},
		{"move", cluster, "", site{account, region, target, cluster}},
		{"move", "arn:aws:ecs:us-east-1:210987654321:cluster/shop", "", site{"210987654321", "us-east-1", cluster, "shop"}},
	} {
		scenario, _ := cli.FindScenario(test.scenario)
		got, err := whereabouts(scenario, cli.RehearseRequest{Cluster: test.cluster, Region: test.region})
		if err != nil || got != test.want {
			t.Errorf("%s in %s: %+v, %v; want %+v", test.scenario, test.cluster, got, err, test.want)
		}
	}
	for _, wrong := range []string{"arn:aws:ecs", "arn:aws:ssm:us-east-1:210987654321:cluster/shop", "arn:aws:ecs:us-east-1:210987654321:service/shop"} {
		if _, err := whereabouts(cli.Scenarios[0], cli.RehearseRequest{Cluster: wrong}); err == nil {
			t.Errorf("%s was taken for a cluster", wrong)
		}
	}
}

// A story tells its steps, what each changed, and what AWS was asked for; on a terminal with lines between them.
func TestAStoryIsTold(t *testing.T) {
	t.Parallel()
	plain, status := typed(t, false, "move", "--cluster", "shop")
	for _, want := range []string{
		"3/5  To another cluster\n$ anywhere move --yes --cluster shop\n", "exit status 0 after",
		"~ /etc/ecs/ecs.config", "-ECS_CLUSTER=rehearsal", "+ECS_CLUSTER=shop", "+ amazon-ecs-init: ", "~ ecs.service: active, enabled, started anew\n",
		"ecs:DeregisterContainerInstance ", "nothing changed on the host", "exit  time", "ACTIVE and connected in cluster shop",
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("it does not tell %q", want)
		}
	}
	if status != 0 || strings.ContainsAny(plain, "\x1b─") {
		t.Errorf("exit status %d, not plain:\n%s", status, plain)
	}
	tty, status := typed(t, true, "register", "--dry-run")
	if status != 0 || !strings.Contains(tty, "───") || !strings.Contains(tty, "\x1b[1m$ anywhere register --token - --dry-run") {
		t.Errorf("exit status %d, not for a terminal:\n%s", status, tty)
	}
	if quiet, status := typed(t, false, "register", "-q"); status != 0 || quiet != "" {
		t.Errorf("exit status %d, not quiet: %s", status, quiet)
	}
}

// A line that cannot work ends the story with its own cause, as the command alone would.
func TestALineThatFails(t *testing.T) {
	t.Parallel()
	said, status := typed(t, false, "register", "--detailed-exitcode")
	if status != 2 || !strings.Contains(said, "anywhere register --token - --detailed-exitcode ended with exit status 2") {
		t.Errorf("exit status %d: %s", status, said)
	}
}

// The caller's configuration is the throw-away host's.
func TestTheCallersConfiguration(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	env.ReadFile = func(name string) ([]byte, error) {
		if name != "site.yaml" {
			return nil, os.ErrNotExist
		}
		return []byte("register:\n  attribute: [rack=7]\n"), nil
	}
	rep, err := Run(t.Context(), env, cli.RehearseRequest{Scenario: "register", Config: "site.yaml", JSON: true})
	if err != nil {
		t.Fatal(err)
	}
	diffs := rep.Result.(Result).Commands[2].Diffs
	if !slices.ContainsFunc(diffs, func(d Diff) bool { return strings.Contains(strings.Join(d.Lines, "\n"), `"rack":"7"`) }) {
		t.Errorf("%+v", diffs)
	}
}

// What is secret in a setting is neither in the line that is told nor in what it changed.
func TestAStoryKeepsSecretsOfSettings(t *testing.T) {
	t.Parallel()
	const hidden = "hunter2hunter2"
	args := []string{"register", "--ecs-config", "ECS_ENGINE_AUTH_TYPE=docker", "--ecs-config", `ECS_ENGINE_AUTH_DATA={"x":{"password":"` + hidden + `"}}`}
	said, status := typed(t, false, args...)
	if status != 0 || strings.Contains(said, hidden) || !strings.Contains(said, "+ECS_ENGINE_AUTH_DATA=[redacted]") {
		t.Errorf("exit status %d:\n%s", status, said)
	}
	document, _ := rehearse(t, args...)
	if bytes.Contains(document, []byte(hidden)) || !bytes.Contains(document, []byte("ECS_ENGINE_AUTH_DATA=[redacted]")) {
		t.Errorf("%s", document)
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	in := []string{"register", "--ecs-config=ECS_ENGINE_AUTH_DATA=x", "ECS_CLUSTER=shop", "--ecs-config", "HTTP_PROXY=http://u:p@h"}
	want := "register --ecs-config=ECS_ENGINE_AUTH_DATA=[redacted] ECS_CLUSTER=shop --ecs-config HTTP_PROXY=[redacted]"
	if got := strings.Join(shown(in), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := shellLine([]string{"a=1", "it's", "x y", ""}); got != `a=1 'it'\''s' 'x y' ''` {
		t.Error(got)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ before, after, want string }{
		{"", "", ""},
		{"a\n", "a\n", ""},
		{"", "a\nb\n", "+a +b"},
		{"a\nb\n", "", "-a -b"},
		{"a\nb\nc\n", "a\nx\nc\nd\n", "-b +x +d"},
		{"a\nb\n", "b\na\n", "-a +a"},
		{"", "ECS_ENGINE_AUTH_DATA=x\nexport HTTPS_PROXY=x\nEnvironment=\"HTTP_PROXY=x\"\n",
			"+ECS_ENGINE_AUTH_DATA=[redacted] +export HTTPS_PROXY=[redacted] +Environment=\"HTTP_PROXY=[redacted]"},
		{"", strings.Repeat("x\n", longest+1), ""},
	} {
		if got := strings.Join(diff(test.before, test.after), " "); got != test.want {
			t.Errorf("%q to %q: %s, want %s", test.before, test.after, got, test.want)
		}
	}
}

// Faults that are shown in another way than by a register are shown so, each on a host of its own that can be kept.
func TestFaultsSideBySide(t *testing.T) {
	t.Parallel()
	env, out, _ := world()
	chosen := slices.DeleteFunc(emulator.Faults(), func(f emulator.FaultInfo) bool {
		_, special := acts[f.Name]
		return !special && f.Name != emulator.FaultArtifactCorrupt && f.Name != emulator.FaultActivationExpired
	})
	if len(chosen) != len(acts)+2 {
		t.Errorf("an act is of no fault: %d of %d", len(chosen), len(acts)+2)
	}
	root := t.TempDir()
	rep, err := playFaults(t.Context(), env, cli.RehearseRequest{}, site{account, region, cluster, target}, root, Result{Scenario: cli.AllFaults}, chosen)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		verb, code, left string
		rc               int
	}{
		"activation-expired":                            {"register", "activation_expired", "as it was", 7},
		"artifact-corrupt":                              {"register", "artifact_corrupt", "as it was", 6},
		"access-denied=ecs:DeregisterContainerInstance": {"deregister", "access_denied", "as it was", 4},
		"agent-never-connects":                          {"register", "not_confirmed", "2 packages", 5},
		"instance-inactive":                             {"status", "", "as it was", 10},
		"node-deregistered":                             {"status", "", "as it was", 10},
		"node-offline":                                  {"status", "", "as it was", 10},
		"task-never-stops":                              {"drain", "drain_timeout", "as it was", 12},
		"slow*2":                                        {"register", "", "2 packages", 0},
	}
	commands := rep.Result.(Result).Commands
	for i, c := range commands {
		w, known := want[c.Fault]
		if !known || !strings.HasPrefix(c.Line, "anywhere "+w.verb) || c.RC != w.rc || c.Code != w.code || !strings.HasPrefix(c.left(), w.left) {
			t.Errorf("%s: %s: %d, %s, %s: %s", c.Fault, c.Line, c.RC, c.Code, c.left(), c.Cause)
		}
		if _, err := os.Stat(filepath.Join(root, chosen[i].Name, "host/etc/os-release")); err != nil {
			t.Error(err)
		}
		if !strings.Contains(out.String(), c.Fault+" ") {
			t.Errorf("the table lacks %s", c.Fault)
		}
	}
	if len(commands) != len(want) {
		t.Errorf("%d were played", len(commands))
	}
}

// A caller's own line is what the faults meet, also one without a token.
func TestAFaultMeetsTheCallersLine(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	req := cli.RehearseRequest{JSON: true, Given: []cli.GivenFlag{{Name: "name", Value: "web-1", Words: []string{"--name", "web-1"}}}}
	fault := slices.DeleteFunc(emulator.Faults(), func(f emulator.FaultInfo) bool { return f.Name != emulator.FaultClusterMissing })
	rep, err := playFaults(t.Context(), env, req, site{account, region, cluster, target}, t.TempDir(), Result{Scenario: cli.AllFaults, Calls: []string{}}, fault)
	if err != nil {
		t.Fatal(err)
	}
	c := rep.Result.(Result).Commands[0]
	if c.RC != 8 || c.Code != "cluster_not_found" || c.Line != "anywhere register --region eu-west-1 --cluster rehearsal --wait-timeout 10s --name web-1" {
		t.Errorf("%+v", c)
	}
	if left := c.left(); !strings.Contains(left, "2 packages, amazon-ssm-agent active, ecs failed, ") {
		t.Error(left)
	}
}

// An interrupted rehearsal ends, and says so.
func TestFaultsAreInterrupted(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, env, cli.RehearseRequest{Scenario: cli.AllFaults, JSON: true}); err == nil {
		t.Error("it went on")
	}
}

func TestAllFaultsTakesNoFault(t *testing.T) {
	t.Parallel()
	if said, status := typed(t, false, cli.AllFaults, "--fault", "slow"); status != 2 || !strings.Contains(said, "--fault") {
		t.Errorf("exit status %d: %s", status, said)
	}
}
