package rehearsal

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// registered is a stage on which the main job was done.
func registered(t *testing.T) (*stage, register) {
	t.Helper()
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.anotherToken()
	d := s.run(t, line{args: []string{"register", "--token", "-"}, token: true})
	if d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	return s, d
}

// run runs one line, whatever its exit status.
func (s *stage) run(t *testing.T, l line, flags ...string) register {
	t.Helper()
	l.extra = true
	c, err := s.play(context.Background(), l, cli.RehearseRequest{Args: flags})
	if err != nil && c.RC == 0 {
		t.Fatal(err)
	}
	var d register
	if err := json.Unmarshal(c.Document, &d); err != nil {
		t.Fatalf("%v: %s", err, c.Document)
	}
	return d
}

func (s *stage) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.machine.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anotherToken replaces the stage's token by one of a new activation.
func (s *stage) anotherToken() control.Token {
	expires := time.Now().Add(time.Hour)
	id, code := s.aws.AddActivation(1, expires)
	token := control.Token{
		Account: account, Region: region, Cluster: cluster, ActivationID: id, Code: secret.NewText(code), Expires: expires,
	}
	s.token = token.Encode()
	return token
}

// backups are the names of the copies that stay for good.
func (s *stage) backups(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.machine.root, "var/lib/anywhere/backup"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAnInstanceThatWasDeregisteredBehindTheHostsBackRegistersAnew(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	if err := s.aws.Fault(emulator.FaultInstanceInactive); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(s.read(t, "var/log/ecs/ecs-agent.log"), "deregistered"); {
		if time.Now().After(deadline) {
			t.Fatal("the agent never noticed")
		}
		time.Sleep(20 * time.Millisecond)
	}
	after := s.run(t, line{args: []string{"register"}})
	if after.RC != 0 || !after.Changed || after.Result.Verified != "local" {
		t.Fatalf("%+v", after)
	}
	if after.Result.ManagedInstanceID != before.Result.ManagedInstanceID {
		t.Error("the managed node was replaced: nothing was wrong with it")
	}
	if after.Result.ContainerInstanceARN == before.Result.ContainerInstanceARN {
		t.Error("a deregistered container instance cannot come back")
	}
	if names := s.backups(t); len(names) != 1 || !strings.HasPrefix(names[0], "agent.db-") {
		t.Errorf("the old state's copy is missing: %v", names)
	}
	if again := s.run(t, line{args: []string{"register"}}); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
}

// A failed re-registration by hand blanks the identity and leaves the ECS agent's state of the node that is gone.
func TestANewManagedNodeDoesNotInheritTheOldOnesState(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	key := filepath.Join(s.machine.root, "var/lib/amazon/ssm/Vault/Store/RegistrationKey")
	var stored map[string]any
	if err := json.Unmarshal([]byte(s.read(t, "var/lib/amazon/ssm/Vault/Store/RegistrationKey")), &stored); err != nil {
		t.Fatal(err)
	}
	stored["instanceID"], stored["region"] = "", ""
	blanked, _ := json.Marshal(stored)
	if err := os.WriteFile(key, blanked, 0o600); err != nil {
		t.Fatal(err)
	}
	if refused := s.run(t, line{args: []string{"register"}}); refused.RC != 2 || refused.Changed {
		t.Errorf("without an activation: %+v", refused)
	}
	s.anotherToken()
	after := s.run(t, line{args: []string{"register", "--token", "-"}, token: true})
	if after.RC != 0 || after.Result.ManagedInstanceID == before.Result.ManagedInstanceID ||
		after.Result.ContainerInstanceARN == before.Result.ContainerInstanceARN {
		t.Fatalf("%+v\n%+v", before, after)
	}
	if again := s.run(t, line{args: []string{"register"}}); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
}

func TestAnIdentityThatDoesNotWorkIsReplacedOnlyWhenThatIsAccepted(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	if err := os.WriteFile(filepath.Join(s.machine.root, "etc/machine-id"), []byte(strings.Repeat("c", 32)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	token := s.anotherToken()
	refused := s.run(t, line{args: []string{"register", "--token", "-"}, token: true})
	if refused.RC != 12 || refused.Error.Code != "fingerprint_mismatch" || refused.Changed {
		t.Fatalf("a clone: %+v", refused)
	}
	if left, _ := s.aws.ActivationsLeft(token.ActivationID); left != 1 {
		t.Error("a refusal has spent the activation")
	}
	after := s.run(t, line{args: []string{"register", "--token", "-"}, token: true}, "--accept-risk", "replace-identity")
	if after.RC != 0 || after.Result.ManagedInstanceID == before.Result.ManagedInstanceID {
		t.Errorf("accepted: %+v", after)
	}
	if again := s.run(t, line{args: []string{"register"}}); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
}
