package rehearsal

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// health is what the tests look at in status's document.
type health struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Result          lifecycle.StatusResult
	Error           *struct{ Code, Message string }
}

// status runs "anywhere status". It bounds its look at each part; where a busy machine has cut one short it looks again.
func (s *stage) status(t *testing.T, flags ...string) health {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		h := s.look(t, flags...)
		if !slices.ContainsFunc(h.Result.Reasons, func(r lifecycle.StatusReason) bool { return strings.Contains(r.Message, "no answer within") }) {
			return h
		}
	}
	t.Fatalf("a part of the host never answered in time: %+v", s.look(t, flags...).Result.Reasons)
	return health{}
}

// look is one look at the host.
func (s *stage) look(t *testing.T, flags ...string) health {
	t.Helper()
	c, err := s.play(context.Background(), line{args: []string{"status"}, extra: true, operator: true}, cli.RehearseRequest{Args: flags})
	if err != nil && c.RC == 0 {
		t.Fatal(err)
	}
	var h health
	if err := json.Unmarshal(c.Document, &h); err != nil {
		t.Fatalf("%v: %s", err, c.Document)
	}
	if h.RC != c.RC || h.Failed != (h.Error != nil) || h.Failed && (c.RC == 0 || c.RC == 10) {
		t.Errorf("rc %d, failed %v, error %+v", c.RC, h.Failed, h.Error)
	}
	if changed := slices.DeleteFunc(c.Changed, agentsOwn); len(changed) > 0 {
		t.Errorf("status changed %v", changed)
	}
	return h
}

// agentsOwn is what the agents of the throw-away host write by themselves while a command looks at it.
func agentsOwn(name string) bool {
	return strings.HasPrefix(name[1:], "/var/lib/amazon/") || strings.HasPrefix(name[1:], "/root/.aws") || name[1:] == "/var/cache/ecs/state" ||
		strings.HasPrefix(name[1:], "/var/lib/ecs/data/")
}

// until asks for the status until it is so.
func (s *stage) until(t *testing.T, so func(health) bool, flags ...string) health {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		h := s.status(t, flags...)
		if so(h) {
			return h
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never came to it: %s\n%+v\n%+v", h.Msg, h.Result.Reasons, h.Result.Remote)
		}
	}
}

func is(state lifecycle.HealthState) func(health) bool {
	return func(h health) bool { return h.Result.State == state }
}

func (h health) reason(t *testing.T, rule string, code failure.Code) lifecycle.StatusReason {
	t.Helper()
	for _, r := range h.Result.Reasons {
		if r.Rule == rule && r.Code == code {
			return r
		}
	}
	t.Errorf("no reason %s of the rule %s in %+v", code, rule, h.Result.Reasons)
	return lifecycle.StatusReason{}
}

// operatorConfig is the operator's configuration, aimed at the emulator.
func (s *stage) operatorConfig(t *testing.T) aws.Config {
	t.Helper()
	cfg, err := s.env(line{args: []string{"status"}, operator: true}).AWS(t.Context(), control.Access{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.BaseEndpoint = aws.String(s.aws.URL())
	return cfg
}

func TestARegisteredHostIsHealthy(t *testing.T) {
	t.Parallel()
	s, d := registered(t)
	h := s.status(t)
	if h.RC != 0 || h.Result.State != lifecycle.Healthy || h.Result.Verified != lifecycle.VerifiedLocal || len(h.Warnings) > 0 {
		t.Fatalf("%+v", h)
	}
	r := h.Result
	if r.ManagedInstanceID != d.Result.ManagedInstanceID || r.ContainerInstanceARN != d.Result.ContainerInstanceARN || r.Cluster != cluster ||
		r.Account != account || r.Region != region || !r.Registration.Agree || !r.Registration.ByAnywhere || r.ECSAgent.RestartPending ||
		r.ECSAgent.StartedAt == "" || !r.Exec.Ready || !r.Connection.Connected || len(r.Unseen) > 0 ||
		r.Operation.Last == nil || r.Operation.Last.Verb != "register" || r.Operation.Last.How != "done" {
		t.Errorf("%+v", r)
	}
	remote := s.until(t, is(lifecycle.Healthy), "--remote").Result
	if remote.Verified != lifecycle.VerifiedAWS || remote.Remote == nil || len(remote.Remote.Drift) > 0 ||
		remote.Remote.ECS.Status != "ACTIVE" || !remote.Remote.ECS.AgentConnected || remote.Remote.SSM.PingStatus != "Online" ||
		remote.Remote.SSM.Role != "ecsAnywhereRole" {
		t.Errorf("%+v", remote.Remote)
	}
}

func TestStatusBeforeAnyRegistration(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, flags := range [][]string{nil, {"--remote"}} {
		h := s.status(t, flags...)
		if h.RC != 10 || h.Result.State != lifecycle.Unregistered {
			t.Errorf("%v: %+v", flags, h)
		}
		h.reason(t, "registration", failure.NotRegistered)
	}
}

// Each of these leaves the units active and, but for the first two, the port answering.
func TestStatusOfHostsThatFailBehindTheirUnits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault string
		code  failure.Code
	}{
		{"cluster missing", emulator.FaultClusterMissing, failure.ClusterNotFound},
		{"access denied", emulator.FaultRegisterAccessDenied, failure.AccessDenied},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, _, _ := world()
			s, err := newStage(t.TempDir(), env, true)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			s.anotherToken()
			if err := s.aws.Fault(test.fault); err != nil {
				t.Fatal(err)
			}
			if d := s.run(t, line{args: []string{"register", "--token", "-"}, token: true}, "--wait-timeout", "20s"); d.RC != 8 {
				t.Fatalf("%+v", d)
			}
			h := s.status(t)
			if h.RC != 10 || h.Result.State != lifecycle.HalfDone || h.Result.Operation.Unfinished == nil {
				t.Fatalf("%s: %+v", h.Result.State, h.Result)
			}
			if r := h.reason(t, "operation", failure.Unfinished); !strings.Contains(r.Remedy, "register") {
				t.Errorf("%+v", r)
			}
			if rest := h.Result.Reasons[1:]; len(rest) != 1 || rest[0].Code != test.code || rest[0].Evidence == "" {
				t.Errorf("the agent's own reason is not there, or not alone: %+v", rest)
			}
			if c := s.run(t, line{args: []string{"operation", "abandon"}}); c.RC != 0 {
				t.Fatalf("%+v", c)
			}
			if h := s.status(t); h.Result.State != lifecycle.Unhealthy || h.Result.Reasons[0].Code != test.code {
				t.Errorf("%s %+v", h.Result.State, h.Result.Reasons)
			}
		})
	}
	t.Run("instance inactive", func(t *testing.T) {
		t.Parallel()
		s, _ := registered(t)
		if err := s.aws.Fault(emulator.FaultInstanceInactive); err != nil {
			t.Fatal(err)
		}
		h := s.until(t, is(lifecycle.Unhealthy))
		for h.Result.Reasons[0].Code != failure.InstanceInactive { // the connection is lost a moment before its reason is known
			h = s.until(t, is(lifecycle.Unhealthy))
		}
		if !h.Result.ECSAgent.Unit.Loaded || h.Result.ECSAgent.Unit.Active != "active" || h.Result.ContainerInstanceARN == "" {
			t.Errorf("its unit and its port should be as ever: %+v", h.Result.ECSAgent)
		}
		drift := s.status(t, "--remote")
		drift.reason(t, "aws", failure.InstanceInactive)
		s.run(t, line{args: []string{"register"}})
		s.until(t, is(lifecycle.Healthy), "--remote")
	})
}

func TestDrift(t *testing.T) {
	t.Parallel()
	kinds := func(h health) (all []lifecycle.DriftKind) {
		for _, d := range h.Result.Remote.Drift {
			if d.Message == "" || d.Remedy == "" {
				t.Errorf("%+v", d)
			}
			all = append(all, d.Kind)
		}
		return all
	}
	for _, test := range []struct {
		name   string
		change func(t *testing.T, s *stage, d register)
		want   lifecycle.DriftKind
		breaks bool
	}{
		{"deregistered in Systems Manager", func(t *testing.T, s *stage, d register) {
			_, err := ssm.NewFromConfig(s.operatorConfig(t)).DeregisterManagedInstance(t.Context(),
				&ssm.DeregisterManagedInstanceInput{InstanceId: &d.Result.ManagedInstanceID})
			if err != nil {
				t.Fatal(err)
			}
		}, lifecycle.DriftSSMGone, true},
		{"another role", func(t *testing.T, s *stage, d register) {
			_, err := ssm.NewFromConfig(s.operatorConfig(t)).UpdateManagedInstanceRole(t.Context(),
				&ssm.UpdateManagedInstanceRoleInput{InstanceId: &d.Result.ManagedInstanceID, IamRole: aws.String("other")})
			if err != nil {
				t.Fatal(err)
			}
		}, lifecycle.DriftRole, false},
		{"draining", func(t *testing.T, s *stage, d register) {
			_, err := ecs.NewFromConfig(s.operatorConfig(t)).UpdateContainerInstancesState(t.Context(), &ecs.UpdateContainerInstancesStateInput{
				Cluster: aws.String(cluster), ContainerInstances: []string{d.Result.ContainerInstanceARN}, Status: ecstypes.ContainerInstanceStatusDraining})
			if err != nil {
				t.Fatal(err)
			}
		}, lifecycle.DriftDraining, false},
		{"a ghost", func(t *testing.T, s *stage, _ register) {
			if err := s.machine.units.Stop(t.Context(), ecsagent.Unit); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(s.machine.root, ecsagent.StateDB)); err != nil {
				t.Fatal(err)
			}
			if err := s.machine.units.Start(t.Context(), ecsagent.Unit); err != nil {
				t.Fatal(err)
			}
		}, lifecycle.DriftGhost, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, d := registered(t)
			test.change(t, s, d)
			h := s.until(t, func(h health) bool { return h.Result.Remote != nil && slices.Contains(kinds(h), test.want) }, "--remote")
			if want := map[bool]int{true: 10}[test.breaks]; !test.breaks {
				h = s.until(t, is(lifecycle.Healthy), "--remote")
				if !slices.Contains(kinds(h), test.want) || len(h.Warnings) == 0 {
					t.Errorf("%+v, warnings %q", h.Result.Remote.Drift, h.Warnings)
				}
			} else if h.RC != want {
				t.Errorf("exit status %d, want %d: %+v", h.RC, want, h.Result.Remote.Drift)
			}
		})
	}
}

func TestRemoteThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	local := func(h health) {
		t.Helper()
		if h.Result.State != lifecycle.Healthy || h.Result.ContainerInstanceARN == "" {
			t.Errorf("the host's own side is missing: %+v", h.Result)
		}
	}
	s.until(t, is(lifecycle.Healthy))
	own := s.operator
	deny := own
	deny.Deny = []string{"ecs:DescribeContainerInstances", "ssm:DescribeInstanceInformation"}
	s.aws.AddOperator(deny)
	h := s.status(t, "--remote")
	local(h)
	if h.RC != 0 || len(h.Result.Remote.Unseen) != 2 || len(h.Warnings) != 2 || h.Result.Verified != lifecycle.VerifiedLocal {
		t.Errorf("denied: %d, %+v, %q", h.RC, h.Result.Remote, h.Warnings)
	}
	s.aws.AddOperator(own)
	s.operator.ID = "AKIANOBODY0000000001"
	h = s.status(t, "--remote")
	local(h)
	if h.RC != 4 || h.Error == nil || h.Error.Code != string(failure.CredentialsInvalid) {
		t.Errorf("unknown keys: %d, %+v", h.RC, h.Error)
	}
	if h := s.status(t, "--remote", "--region", "us-east-1"); h.RC != 2 {
		t.Errorf("another Region: %d, %+v", h.RC, h.Error)
	}
}

func TestStatusOfServicesThatAreDown(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	if err := s.machine.units.Stop(t.Context(), ssmagent.UnitName); err != nil {
		t.Fatal(err)
	}
	h := s.status(t)
	if h.RC != 10 || h.Result.State != lifecycle.Unhealthy {
		t.Errorf("%+v", h)
	}
	h.reason(t, "ssm.service", failure.ServiceFailed)
	if err := s.machine.units.Stop(t.Context(), ecsagent.Unit); err != nil {
		t.Fatal(err)
	}
	s.status(t).reason(t, "ecs.service", failure.ServiceFailed)
}

func TestFactsOfARegisteredHost(t *testing.T) {
	t.Parallel()
	s, d := registered(t)
	s.until(t, is(lifecycle.Healthy))
	first := s.run(t, line{args: []string{"status"}}, "--facts")
	if first.RC != 0 || !first.Changed {
		t.Fatalf("%+v", first)
	}
	if text := s.read(t, lifecycle.FactsPath); !strings.Contains(text, d.Result.ContainerInstanceARN) {
		t.Error(text)
	}
	if again := s.run(t, line{args: []string{"status"}}, "--facts"); again.RC != 0 || again.Changed {
		t.Errorf("%+v", again)
	}
}
