package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// diagnosis is what the tests look at in doctor's document.
type diagnosis struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Steps           []struct{ ID, Status string }
	Result          lifecycle.DoctorResult
	Error           *struct{ Code, Message, Remedy string }
}

// doctor runs "anywhere doctor".
func (s *stage) doctor(t *testing.T, flags ...string) diagnosis {
	t.Helper()
	c, err := s.play(context.Background(), line{args: []string{"doctor"}, extra: true, operator: true}, cli.RehearseRequest{Args: flags})
	if err != nil && c.RC == 0 {
		t.Fatal(err)
	}
	var d diagnosis
	if err := json.Unmarshal(c.Document, &d); err != nil {
		t.Fatalf("%v: %s", err, c.Document)
	}
	if d.RC != c.RC || d.Failed != (d.Error != nil) || d.Failed && (c.RC == 0 || c.RC == 10) {
		t.Errorf("rc %d, failed %v, error %+v", c.RC, d.Failed, d.Error)
	}
	if changed := slices.DeleteFunc(c.Changed, agentsOwn); len(changed) > 0 && !slices.Contains(flags, "--fix") {
		t.Errorf("doctor changed %v", changed)
	}
	return d
}

// first is the most probable cause.
func (d diagnosis) first(t *testing.T) lifecycle.DoctorFinding {
	t.Helper()
	if len(d.Result.Findings) == 0 {
		t.Fatalf("nothing was found: %s", d.Msg)
	}
	return d.Result.Findings[0]
}

// fix is what has become of a remedy.
func (d diagnosis) fix(id string) string {
	for _, f := range d.Result.Fixes {
		if f.ID == id {
			return f.Status
		}
	}
	return ""
}

func TestDoctorOfARegisteredHost(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	d := s.doctor(t)
	if d.RC != 0 || d.Msg != "nothing wrong was found" || len(d.Result.Findings) > 0 || len(d.Result.Fixes) > 0 || len(d.Warnings) > 0 || d.Changed {
		t.Fatalf("%+v", d)
	}
	for _, id := range []string{"registration", "docker", "ecs.connection", "logs", "ecs.version"} {
		if !slices.ContainsFunc(d.Result.RuledOut, func(o lifecycle.DoctorRuledOut) bool { return o.ID == id }) {
			t.Errorf("%s is not ruled out: %+v", id, d.Result.RuledOut)
		}
	}
	if d := s.doctor(t, "--fix", "--yes"); d.RC != 0 || d.Changed || len(d.Result.Fixes) > 0 {
		t.Errorf("there was nothing to fix: %+v", d)
	}
}

func TestDoctorBeforeAnyRegistration(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, flags := range [][]string{{"--offline"}, {"--remote"}, {"--fix", "--yes"}} {
		if d := s.doctor(t, flags...); d.RC != 10 || d.first(t).Code != failure.NotRegistered || d.Changed {
			t.Errorf("%v: %+v", flags, d)
		}
	}
}

// What is stopped is started, and the second time nothing is changed. The registration and Docker stay as they are.
func TestDoctorFixesAHostWhoseAgentsAreAtRest(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	ctx := t.Context()
	for _, unit := range []string{ecsagent.Unit, ssmagent.UnitName} {
		if err := errors.Join(s.machine.units.Stop(ctx, unit), s.machine.units.Disable(ctx, unit)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(s.machine.root, ecsagent.DropInPath)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.machine.root, ecsagent.CacheState), []byte("seven\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sick := s.doctor(t)
	if sick.RC != 10 || sick.fix("ecs.service") != "possible" || sick.fix("ssm.service") != "possible" || sick.fix("ecs.dropin") != "possible" ||
		sick.fix("ecs.cache") != "possible" || sick.Changed {
		t.Fatalf("%+v", sick)
	}
	if f := sick.first(t); f.Fix == "" || f.Code != failure.ServiceFailed {
		t.Errorf("%+v", f)
	}
	plan := s.doctor(t, "--fix", "--dry-run")
	if plan.RC != 10 || plan.Changed || plan.fix("ecs.service") != "planned" || len(plan.Steps) != len(lifecycle.Fixes) {
		t.Errorf("%+v", plan)
	}
	if u, err := s.machine.units.Unit(ctx, ecsagent.Unit); err != nil || u.Running() {
		t.Fatalf("the dry run started it: %+v %v", u, err)
	}
	fixed := s.doctor(t, "--fix", "--yes")
	if fixed.RC != 0 || !fixed.Changed || fixed.Result.State != lifecycle.Healthy || fixed.fix("ecs.service") != "done" || fixed.fix("ssm.service") != "done" ||
		fixed.fix("ecs.dropin") != "done" || fixed.fix("ecs.cache") != "done" || len(fixed.Result.Findings) > 0 {
		t.Fatalf("%+v", fixed)
	}
	for _, unit := range []string{ecsagent.Unit, ssmagent.UnitName} {
		if u, err := s.machine.units.Unit(ctx, unit); err != nil || !u.Running() || !u.IsEnabled() {
			t.Errorf("%+v %v", u, err)
		}
	}
	if again := s.doctor(t, "--fix", "--yes"); again.RC != 0 || again.Changed || len(again.Result.Fixes) > 0 {
		t.Errorf("%+v", again)
	}
	after := s.run(t, line{args: []string{"register"}})
	if after.RC != 0 || after.Changed || after.Result.ManagedInstanceID != before.Result.ManagedInstanceID ||
		after.Result.ContainerInstanceARN != before.Result.ContainerInstanceARN {
		t.Errorf("the registration is another one: %+v", after)
	}
}

// Another operation that is unfinished keeps --fix from beginning, and nothing from being seen.
func TestDoctorBesideAnUnfinishedOperation(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.anotherToken()
	if err := s.aws.Fault(emulator.FaultClusterMissing); err != nil {
		t.Fatal(err)
	}
	if d := s.run(t, line{args: []string{"register", "--token", "-"}, token: true}, "--wait-timeout", "20s"); d.RC != 8 {
		t.Fatalf("%+v", d)
	}
	d := s.doctor(t)
	if d.RC != 10 || d.Result.State != lifecycle.HalfDone || d.first(t).Code != failure.ClusterNotFound {
		t.Errorf("%+v", d)
	}
	if !slices.ContainsFunc(d.Result.Findings, func(f lifecycle.DoctorFinding) bool { return f.Code == failure.Unfinished }) {
		t.Errorf("the unfinished operation is not told: %+v", d.Result.Findings)
	}
	for _, flags := range [][]string{{"--fix", "--yes"}, {"--fix", "--dry-run"}} {
		if d := s.doctor(t, flags...); d.RC != 12 || d.Error.Code != string(failure.Unfinished) || d.Changed || d.Result.State != lifecycle.HalfDone {
			t.Errorf("%v: %+v", flags, d)
		}
	}
}

// With AWS's refusals behind a running unit, the agents' own words come first.
func TestDoctorOfHostsThatFailBehindTheirUnits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault string // empty: the node is deregistered in Systems Manager
		unit  string // that is started anew; empty is none
		code  failure.Code
	}{
		{emulator.FaultInstanceInactive, "", failure.InstanceInactive},
		{emulator.FaultInstanceInactive, ecsagent.Unit, failure.InstanceInactive},
		{emulator.FaultRegisterAccessDenied, ecsagent.Unit, failure.AccessDenied},
		{emulator.FaultClusterMissing, ecsagent.Unit, failure.ClusterNotFound},
		{emulator.FaultNoAttributeEcho, ecsagent.Unit, failure.RegistrationDenied},
		{emulator.FaultCredentialsExpired, ecsagent.Unit, failure.CredentialsExpired},
		{emulator.FaultClockSkew, ecsagent.Unit, failure.ClockSkew},
		{"", ssmagent.UnitName, failure.NodeUnknown},
	} {
		t.Run(test.fault+" "+test.unit, func(t *testing.T) {
			t.Parallel()
			s, before := registered(t)
			if test.fault == "" {
				s.aws.DeregisterNode(before.Result.ManagedInstanceID)
			} else if err := s.aws.Fault(test.fault); err != nil {
				t.Fatal(err)
			}
			if test.unit != "" {
				if err := s.machine.units.Restart(t.Context(), test.unit); err != nil {
					t.Fatal(err)
				}
			}
			d := s.doctor(t, "--offline")
			told := func() bool { // by a log that was read at the same time, so it may be a moment behind
				return d.RC == 10 && d.first(t).Code == test.code && d.first(t).Since != ""
			}
			for deadline := time.Now().Add(40 * time.Second); !told(); d = s.doctor(t, "--offline") {
				if time.Now().After(deadline) {
					t.Fatalf("it never came to %s: %+v", test.code, d.Result.Findings)
				}
				time.Sleep(50 * time.Millisecond)
			}
			if f := d.first(t); len(f.Evidence) == 0 || f.Remedy == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// With an operator's credentials the cluster's task definitions are held to what external instances cannot do.
func TestDoctorRemoteNamesWhatCannotRunHere(t *testing.T) {
	t.Parallel()
	s, d := registered(t)
	external := []string{"EXTERNAL"}
	for family, more := range map[string]map[string]any{
		"fine":    {"requiresCompatibilities": external, "networkMode": "bridge"},
		"any":     {"networkMode": "host", "containerDefinitions": []any{map[string]any{"name": "a", "logConfiguration": map[string]any{"logDriver": "awsfirelens"}}}},
		"fargate": {"requiresCompatibilities": []string{"FARGATE"}, "networkMode": "awsvpc"},
		"unused":  {"requiresCompatibilities": []string{"EC2"}, "networkMode": "awsvpc"},
		"vpc":     {"requiresCompatibilities": external, "networkMode": "awsvpc"},
		"efs": {"volumes": []any{map[string]any{"name": "data", "efsVolumeConfiguration": map[string]any{"fileSystemId": "fs-1"}},
			map[string]any{"name": "tmp", "host": map[string]any{"sourcePath": "/srv"}}}},
		"ebs":     {"volumes": []any{map[string]any{"name": "data", "configuredAtLaunch": true}}},
		"mesh":    {"proxyConfiguration": map[string]any{"type": "APPMESH", "containerName": "envoy"}},
		"gpu":     {"containerDefinitions": []any{map[string]any{"name": "a", "resourceRequirements": []any{map[string]any{"type": "GPU", "value": "1"}}}}},
		"windows": {"runtimePlatform": map[string]any{"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}},
		"arch":    {"runtimePlatform": map[string]any{"cpuArchitecture": map[string]string{"amd64": "ARM64", "arm64": "X86_64"}[goarch()]}},
		"logs":    {"containerDefinitions": []any{map[string]any{"name": "a", "logConfiguration": map[string]any{"logDriver": "splunk"}}}},
		"task":    {"networkMode": "awsvpc"},
	} {
		s.aws.AddTaskDefinition(emulator.TaskDefinition{Family: family, More: more})
	}
	s.aws.AddService(cluster, emulator.Service{Name: "web", Desired: 1, TaskDefinition: "vpc:1", More: map[string]any{
		"loadBalancers": []any{map[string]any{"containerName": "a"}}, "serviceRegistries": []any{map[string]any{"registryArn": "arn:x"}},
	}})
	s.aws.AddService(cluster, emulator.Service{Name: "api", Desired: 1, TaskDefinition: "fargate:1", More: map[string]any{
		"launchType": "", "capacityProviderStrategy": []any{map[string]any{"capacityProvider": "FARGATE"}},
	}})
	s.aws.AddService(cluster, emulator.Service{Name: "gone", Desired: 1, TaskDefinition: "deleted"})
	s.aws.AddTask(d.Result.ContainerInstanceARN, emulator.Task{Family: "task"})

	got := s.doctor(t, "--remote")
	if got.RC != 0 || got.Result.Remote == nil || got.Result.Remote.ECS == nil {
		t.Fatalf("%+v", got)
	}
	var found []string
	for _, l := range got.Result.Limits {
		found = append(found, l.TaskDefinition+" "+l.Limit)
		if l.Why == "" || l.Instead == "" || l.UsedBy == nil {
			t.Errorf("%+v", l)
		}
		if by := l.UsedBy; l.TaskDefinition == "task:1" && !slices.Equal(by, []string{"1 running tasks"}) || l.TaskDefinition == "vpc:1" && !slices.Equal(by, []string{"service web"}) {
			t.Errorf("%+v", l)
		}
	}
	slices.Sort(found)
	want := []string{
		"arch:1 architecture", "ebs:1 ebs", "efs:1 efs", "fargate:1 capacity-provider", "fargate:1 launch-type", "fargate:1 network-mode", "gpu:1 gpu",
		"logs:1 log-driver", "mesh:1 app-mesh", "task:1 network-mode", "vpc:1 load-balancer", "vpc:1 network-mode", "vpc:1 service-discovery",
		"windows:1 operating-system",
	}
	if !slices.Equal(found, want) {
		t.Errorf("found %q\nwant  %q", found, want)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "deleted") {
		t.Errorf("%q", got.Warnings)
	}
}

// What the operator may not read is told as not seen, and is no failure.
func TestDoctorRemoteWithoutRights(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	s.aws.AddTaskDefinition(emulator.TaskDefinition{Family: "vpc", More: map[string]any{"networkMode": "awsvpc"}})
	for _, test := range []struct {
		deny   []string
		limits int
		unseen int
	}{
		{[]string{"ecs:ListServices", "ecs:ListTasks"}, 1, 2},
		{[]string{"ecs:DescribeTaskDefinition"}, 0, 1},
		{[]string{"ecs:*", "ssm:*"}, 0, 5},
	} {
		key := s.operator
		key.Deny = test.deny
		s.aws.AddOperator(key)
		d := s.doctor(t, "--remote")
		if d.RC != 0 || len(d.Result.Limits) != test.limits || len(d.Warnings) != test.unseen {
			t.Errorf("%v: rc %d, %+v, %q", test.deny, d.RC, d.Result.Limits, d.Warnings)
		}
	}
}

// On a terminal the plan is shown and asked about; only a yes is one.
func TestDoctorAsksOnATerminal(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	ctx := t.Context()
	if err := s.machine.units.Stop(ctx, ecsagent.Unit); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		answer string
		rc     int
		runs   bool
	}{{"\n", 12, false}, {"no\n", 12, false}, {"", 12, false}, {"Y\n", 0, true}} {
		env := s.env(line{args: []string{"doctor"}})
		var out, err bytes.Buffer
		env.Streams.In, env.Streams.InTTY, env.Streams.ErrTTY = strings.NewReader(test.answer), true, true
		env.Streams.Out, env.Streams.Err = &out, &err
		rc := cli.Main(ctx, env, []string{"doctor", "--fix", "--offline"})
		u, unitErr := s.machine.units.Unit(ctx, ecsagent.Unit)
		if rc != test.rc || unitErr != nil || u.Running() != test.runs {
			t.Errorf("%q: exit status %d, the agent is %s\n%s%s", test.answer, rc, u.Active, out.String(), err.String())
		}
		if text := err.String(); !strings.Contains(text, "Start the ECS agent, now and at boot") || !strings.Contains(text, "Apply? [y/N]") {
			t.Errorf("the plan was not shown: %s", text)
		}
		if test.rc != 0 && !strings.Contains(err.String(), "nothing was changed: the ") {
			t.Errorf("%s", err.String())
		}
	}
}
