package rehearsal

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// joins is register on a host with an operator's credentials, and without a token.
var joins = line{args: []string{"register", "--region", region, "--cluster", cluster}, operator: true}

// attended is a stage with nothing on it yet, whose operator may not do what deny says.
func attended(t *testing.T, deny ...string) *stage {
	t.Helper()
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.operator.Deny = deny
	s.aws.AddOperator(s.operator)
	return s
}

// asked counts the calls of an operation.
func (s *stage) asked(operation string) (n int) {
	for _, r := range s.aws.Requests() {
		if r.Operation == operation {
			n++
		}
	}
	return n
}

// TestTheOperatorsStory: an activation is made and deleted, AWS agrees, and the second run changes nothing.
func TestTheOperatorsStory(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	report, err := Run(context.Background(), env, cli.RehearseRequest{Scenario: "operator", JSON: true})
	if err != nil {
		t.Fatal(err)
	}
	result := report.Result.(Result)
	var first, second register
	for i, d := range []*register{&first, &second} {
		if err := json.Unmarshal(result.Commands[1+i].Document, d); err != nil {
			t.Fatal(err)
		}
	}
	if !first.Changed || first.Result.Verified != "aws" || first.Result.Account != account || len(first.Result.Owed) > 0 {
		t.Errorf("first run: %+v", first)
	}
	if second.Changed || second.Result.Verified != "aws" {
		t.Errorf("second run: %+v", second)
	}
	if looked := string(result.Commands[0].Document); !strings.Contains(looked, "rehearsal is ACTIVE") {
		t.Errorf("preflight did not see the cluster: %s", looked)
	}
	for _, want := range []string{"ssm:CreateActivation", "ssm:DeleteActivation"} {
		if !slices.Contains(result.Calls, want) {
			t.Errorf("AWS was not asked for %s: %v", want, result.Calls)
		}
	}
}

func TestTheActivationThatRegisterMakes(t *testing.T) {
	t.Parallel()
	s := attended(t, "ssm:DeleteActivation") // so that it can be looked at
	d := s.run(t, joins, "--name", "web-1", "--iam-role", "/site/hosts")
	left := s.aws.Activations()
	if d.RC != 0 || d.Result.Verified != "aws" || len(left) != 1 {
		t.Fatalf("%+v\n%+v", d, left)
	}
	a := left[0]
	if !strings.HasPrefix(a.Description, "anywhere register: run ") || a.Name != "web-1" || a.Role != "hosts" || a.Limit != 1 || a.Used != 1 ||
		a.Expires.Sub(a.Created).Minutes() < 59 || a.Expires.Sub(a.Created).Minutes() > 61 {
		t.Errorf("it made %+v", a)
	}
	owed := "aws ssm delete-activation --region eu-west-1 --activation-id " + a.ID
	if !slices.Equal(d.Result.Owed, []string{owed}) {
		t.Errorf("owed is %q, not %q", d.Result.Owed, owed)
	}
}

// What AWS refuses is found out before anything is touched, and ends with AWS's own exit status.
func TestAWSRefusesTheOperator(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		deny  []string
		spoil func(s *stage)
		flags []string
		rc    int
		code  failure.Code
		says  string // in the evidence or message
	}{
		{name: "creating", deny: []string{"ssm:CreateActivation"}, rc: 4, code: failure.AccessDenied, says: "ssm:CreateActivation"},
		{name: "no cluster", flags: []string{"--cluster", "none"}, rc: 4, code: failure.ClusterNotFound, says: "cluster none"},
		{name: "cluster inactive", spoil: func(s *stage) { s.aws.SetClusterStatus(cluster, "INACTIVE") }, rc: 4,
			code: failure.ClusterNotFound, says: "is INACTIVE"},
		{name: "unknown key", spoil: func(s *stage) { s.operator.ID = "AKIAUNKNOWN000000001" }, rc: 4,
			code: failure.CredentialsInvalid, says: "security token"},
		{name: "another account", flags: []string{"--cluster", "arn:aws:ecs:eu-west-1:999999999999:cluster/rehearsal"}, rc: 2,
			code: failure.Usage, says: "999999999999"},
		{name: "role", flags: []string{"--iam-role", "a b"}, rc: 2, code: failure.Usage, says: "--iam-role"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := attended(t, test.deny...)
			if test.spoil != nil {
				test.spoil(s)
			}
			before, err := s.tree()
			if err != nil {
				t.Fatal(err)
			}
			d := s.run(t, joins, test.flags...)
			if d.RC != test.rc || d.Error.Code != string(test.code) || d.Changed || d.Error.Remedy == "" ||
				!strings.Contains(d.Error.Message+d.Error.Evidence, test.says) {
				t.Errorf("%+v", d)
			}
			after, err := s.tree()
			if err != nil {
				t.Fatal(err)
			}
			if changed := differences(before, after); len(changed) > 0 {
				t.Errorf("it touched %v", changed)
			}
			if left := s.aws.Activations(); len(left) > 0 || len(s.aws.Nodes()) > 0 {
				t.Errorf("left: %+v, %+v", left, s.aws.Nodes())
			}
		})
	}
}

// A failure before the slot is spent deletes the activation, whatever else it takes back.
func TestAFailureDeletesTheActivation(t *testing.T) {
	t.Parallel()
	s := attended(t)
	if err := s.aws.Fault(emulator.FaultActivationInvalid); err != nil {
		t.Fatal(err)
	}
	d := s.run(t, joins)
	if d.RC != 7 || d.Error.Code != string(failure.ActivationInvalid) || !d.Error.RolledBack || len(s.aws.Activations()) > 0 {
		t.Errorf("%+v\nleft: %+v", d, s.aws.Activations())
	}
	if s.asked("ssm:CreateActivation") != 1 || s.asked("ssm:DeleteActivation") != 1 {
		t.Errorf("created %d times, deleted %d times", s.asked("ssm:CreateActivation"), s.asked("ssm:DeleteActivation"))
	}
}

// A token is checked with an operator's credentials before it is tried.
func TestATokenThatAWSDoesNotLike(t *testing.T) {
	t.Parallel()
	s := attended(t)
	token := s.anotherToken()
	with := line{args: []string{"register", "--token", "-"}, token: true, operator: true}
	s.aws.AddOperator(s.operator)
	s.aws.SetUsed(token.ActivationID, 1)
	d := s.run(t, with)
	if d.RC != 4 || d.Error.Code != string(failure.ActivationUsedUp) || d.Changed || s.asked("ssm:RegisterManagedInstance") > 0 {
		t.Errorf("%+v", d)
	}
	s.aws.SetUsed(token.ActivationID, 0)
	if d := s.run(t, with); d.RC != 0 || d.Result.Verified != "aws" || s.asked("ssm:CreateActivation") > 0 {
		t.Errorf("a good one: %+v", d)
	}
}

// What AWS says of a registration that is proven on the host: who may not look stays with the local proof, a
// contradiction fails, silence fails with nothing undone.
func TestWhatAWSSaysOfARegistration(t *testing.T) {
	t.Parallel()
	arn := func(s *stage) string { return s.aws.Instances()[0].ARN }
	for _, test := range []struct {
		name     string
		spoil    func(s *stage)
		rc       int
		code     failure.Code
		verified string
		warning  string
	}{
		{name: "agrees", verified: "aws"},
		{name: "not to this operator", spoil: func(s *stage) { s.may("ecs:DescribeContainerInstances") }, verified: "local",
			warning: "ecs:DescribeContainerInstances"},
		{name: "not to this operator, of the node", spoil: func(s *stage) { s.may("ssm:DescribeInstanceInformation") },
			verified: "local", warning: "ssm:DescribeInstanceInformation"},
		{name: "not to this key", spoil: func(s *stage) { s.operator.ID = "AKIAUNKNOWN000000001" }, verified: "local",
			warning: "does not accept the credentials"},
		{name: "draining", spoil: func(s *stage) { s.aws.SetInstanceStatus(arn(s), "DRAINING") }, verified: "local",
			warning: "DRAINING"},
		{name: "inactive", spoil: func(s *stage) { s.aws.SetInstanceStatus(arn(s), "INACTIVE") }, verified: "local", rc: 12,
			code: failure.InstanceInactive},
		{name: "cluster gone", spoil: func(s *stage) { s.aws.RemoveCluster(cluster) }, verified: "local", rc: 4,
			code: failure.ClusterNotFound},
		{name: "node gone", spoil: func(s *stage) { s.aws.Deregister(s.aws.Nodes()[0].ID) }, verified: "local", rc: 12,
			code: failure.NodeUnknown},
		{name: "node offline", spoil: func(s *stage) { s.fault(emulator.FaultNodeOffline) }, verified: "local", rc: 5,
			code: failure.NotConfirmed},
		{name: "nothing", spoil: func(s *stage) { s.fault(emulator.FaultServerError) }, verified: "local", rc: 5,
			code: failure.AWSUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := attended(t)
			first := s.run(t, joins)
			if first.RC != 0 || first.Result.Verified != "aws" {
				t.Fatalf("%+v", first)
			}
			if test.spoil != nil {
				test.spoil(s)
			}
			d := s.run(t, line{args: []string{"register"}, operator: true}, "--wait-timeout", "1s")
			if d.RC != test.rc || d.Error.Code != string(test.code) || string(d.Result.Verified) != test.verified || d.Changed {
				t.Errorf("%+v", d)
			}
			if test.rc != 0 && (d.Error.Remedy == "" || d.Error.RolledBack || len(d.Error.Kept) > 0) {
				t.Errorf("%+v", d.Error)
			}
			if said := strings.Join(d.Warnings, "\n"); !strings.Contains(said, test.warning) {
				t.Errorf("warnings %q; want %q", said, test.warning)
			}
			if d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
				t.Errorf("it is %s and was %s", d.Result.ContainerInstanceARN, first.Result.ContainerInstanceARN)
			}
		})
	}
}

// may takes a right from the operator.
func (s *stage) may(not string) {
	s.operator.Deny = []string{not}
	s.aws.AddOperator(s.operator)
}

func (s *stage) fault(name string) {
	if err := s.aws.Fault(name); err != nil {
		panic(err)
	}
}

// Silence and contradiction after a registration that this very run has made.
func TestWhatAWSSaysOfANewRegistration(t *testing.T) {
	t.Parallel()
	t.Run("silence keeps all and owes nothing", func(t *testing.T) {
		t.Parallel()
		s := attended(t)
		s.fault(emulator.FaultNodeOffline)
		d := s.run(t, joins, "--wait-timeout", "5s")
		if d.RC != 5 || d.Error.Code != string(failure.NotConfirmed) || !d.Changed || len(d.Error.Kept) > 0 || d.Error.RolledBack ||
			d.Result.Verified != "local" {
			t.Fatalf("%+v", d)
		}
		s.aws.ClearFault(emulator.FaultNodeOffline)
		if again := s.run(t, joins); again.RC != 0 || again.Changed || again.Result.Verified != "aws" {
			t.Errorf("and again: %+v", again)
		}
	})
	t.Run("a contradiction keeps all and is named", func(t *testing.T) {
		t.Parallel()
		s := attended(t)
		if d := s.run(t, joins); d.RC != 0 {
			t.Fatalf("%+v", d)
		}
		node := s.aws.Nodes()[0].ID
		s.aws.Deregister(node) // its credentials live on, so that neither agent notices
		d := s.run(t, joins, "--ecs-config", "ECS_LOGLEVEL=debug", "--wait-timeout", "30s")
		if d.RC != 8 || d.Error.Code != string(failure.NodeUnknown) || !d.Changed || d.Result.Verified != "local" ||
			!slices.Contains(d.Error.Kept, "managed node "+node) || !strings.Contains(d.Error.Remedy, "replace-identity") {
			t.Errorf("%+v", d)
		}
	})
}

// leftBehind is a stage on which a run has ended half-way and its activation could not be deleted.
func leftBehind(t *testing.T) *stage {
	t.Helper()
	s := attended(t, "ssm:DeleteActivation")
	s.fault(emulator.FaultActivationInvalid)
	d := s.run(t, joins, "--no-rollback")
	if d.RC != 8 || len(s.aws.Activations()) != 1 || len(d.Result.Owed) != 1 {
		t.Fatalf("%+v\nleft: %+v", d, s.aws.Activations())
	}
	s.aws.ClearFault(emulator.FaultActivationInvalid)
	s.may("nothing:Else")
	return s
}

// The activation of a run that was killed is found by the run's id, and deleted by whoever goes on or undoes.
func TestWhatAKilledRunLeavesIsDeleted(t *testing.T) {
	t.Parallel()
	undo := line{args: []string{"rollback"}}
	t.Run("by the same command", func(t *testing.T) {
		t.Parallel()
		s := leftBehind(t)
		other, _ := s.aws.AddActivation(1, time.Now().Add(time.Hour)) // somebody else's
		d := s.run(t, joins)
		if left := s.aws.Activations(); d.RC != 0 || d.Result.Verified != "aws" || len(d.Result.Owed) > 0 || len(left) != 1 || left[0].ID != other {
			t.Errorf("%+v\nleft: %+v", d, left)
		}
	})
	t.Run("by rollback", func(t *testing.T) {
		t.Parallel()
		s := leftBehind(t)
		with := undo
		with.operator = true
		d := s.run(t, with, "--endpoint-url", s.aws.URL())
		if d.RC != 0 || len(d.Result.Owed) > 0 || len(s.aws.Activations()) > 0 {
			t.Errorf("%+v\nleft: %+v", d, s.aws.Activations())
		}
	})
	t.Run("it is owed where there are no credentials", func(t *testing.T) {
		t.Parallel()
		s := leftBehind(t)
		d := s.run(t, undo)
		if d.RC != 0 || len(d.Result.Owed) != 1 || !strings.HasPrefix(d.Result.Owed[0], "aws ssm delete-activation --region eu-west-1 ") ||
			!strings.Contains(d.Result.Owed[0], s.aws.Activations()[0].Description) || len(d.Warnings) != 1 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("what was deleted is not owed", func(t *testing.T) {
		t.Parallel()
		s := attended(t)
		s.fault(emulator.FaultClusterMissing) // past the registration
		if d := s.run(t, joins, "--wait-timeout", "20s"); d.RC != 8 || len(d.Result.Owed) > 0 || len(s.aws.Activations()) > 0 {
			t.Fatalf("%+v", d)
		}
		s.aws.ClearFault(emulator.FaultClusterMissing)
		alone := joins
		alone.operator = false
		if d := s.run(t, alone); d.RC != 0 || len(d.Result.Owed) > 0 || d.Result.Verified != "local" ||
			strings.Contains(strings.Join(d.Warnings, "\n"), "activation") {
			t.Errorf("%+v", d)
		}
	})
}

// The key that SSM Agent keeps on a host is no operator's: nothing is asked with it, and nothing is said of it.
func TestTheNodesOwnKeyIsNoOperators(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	var id, key, token string
	for row := range strings.Lines(s.read(t, "root/.aws/credentials")) {
		name, value, _ := strings.Cut(row, "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			id = strings.TrimSpace(value)
		case "aws_secret_access_key":
			key = strings.TrimSpace(value)
		case "aws_session_token":
			token = strings.TrimSpace(value)
		}
	}
	s.operator = emulator.Key{ID: id, Secret: secret.NewText(key), Token: secret.NewText(token)}
	asked := s.asked("sts:GetCallerIdentity")
	d := s.run(t, line{args: []string{"register"}, operator: true})
	if d.RC != 0 || d.Result.Verified != "local" || len(d.Warnings) > 0 || s.asked("sts:GetCallerIdentity") != asked {
		t.Errorf("%+v", d)
	}
}
