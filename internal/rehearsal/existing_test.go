package rehearsal

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const (
	vault    = "var/lib/amazon/ssm/Vault/"
	manifest = vault + "Manifest"
	keyFile  = vault + "Store/RegistrationKey"
	stateDB  = "var/lib/ecs/data/agent.db"
)

var (
	plain     = line{args: []string{"register"}}
	withToken = line{args: []string{"register", "--token", "-"}, token: true}
)

func (s *stage) write(t *testing.T, name, text string) {
	t.Helper()
	local := filepath.Join(s.machine.root, name)
	if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(local, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.machine.root, name)); err != nil {
		t.Fatal(err)
	}
}

// refuses runs a line that has to be refused without a change.
func (s *stage) refuses(t *testing.T, l line, rc int, code, message, remedy string, flags ...string) {
	t.Helper()
	before, err := s.tree()
	if err != nil {
		t.Fatal(err)
	}
	d := s.run(t, l, flags...)
	t.Logf("exit %d: %s\n  evidence: %s\n  try: %s", d.RC, d.Error.Message, d.Error.Evidence, d.Error.Remedy)
	if d.RC != rc || d.Error.Code != code || d.Changed || !strings.Contains(d.Error.Message, message) ||
		!strings.Contains(d.Error.Remedy, remedy) {
		t.Errorf("%+v; want %d, %s, %q, %q", d, rc, code, message, remedy)
	}
	after, err := s.tree()
	if err != nil {
		t.Fatal(err)
	}
	if changed := differences(before, after); len(changed) > 0 {
		t.Errorf("a refusal has changed %v", changed)
	}
}

// keeps runs a line that must end well with the same managed node and instance, and twice, the second time without a change.
func (s *stage) keeps(t *testing.T, before register, l line, changed bool, flags ...string) {
	t.Helper()
	for _, changed := range []bool{changed, false} {
		d := s.run(t, l, flags...)
		if d.RC != 0 || d.Changed != changed || d.Result.ManagedInstanceID != before.Result.ManagedInstanceID ||
			d.Result.ContainerInstanceARN != before.Result.ContainerInstanceARN {
			t.Fatalf("changed should be %v:\n%+v\nbefore:\n%+v", changed, d, before)
		}
	}
}

// An identity that the agent no longer sees, because the vault's manifest was lost or damaged (a known failure of agent
// 3.2.183.0), is made visible again: it is whole.
func TestAHiddenIdentityIsKept(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*testing.T, *stage){
		"manifest gone":  func(t *testing.T, s *stage) { s.remove(t, manifest) },
		"manifest cut":   func(t *testing.T, s *stage) { s.write(t, manifest, `{"RegistrationKey":"/var/lib`) },
		"manifest empty": func(t *testing.T, s *stage) { s.write(t, manifest, `{}`) },
		"manifest blank": func(t *testing.T, s *stage) { s.write(t, manifest, ``) },
		"one entry there": func(t *testing.T, s *stage) {
			s.write(t, manifest, `{"InstanceFingerprint":"/var/lib/amazon/ssm/Vault/Store/InstanceFingerprint"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, before := registered(t)
			damage(t, s)
			s.keeps(t, before, plain, true)
			if names := s.backups(t); !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "RegistrationKey-") }) {
				t.Errorf("no copy of the identity was kept: %v", names)
			}
		})
	}
}

// What else can be wrong with an identity store, and does not hinder: the vault is the truth.
func TestAnIdentityStoreThatIsNotWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage  func(*testing.T, *stage)
		changed bool
	}{
		"no side file": {func(t *testing.T, s *stage) { s.remove(t, "var/lib/amazon/ssm/registration") }, false},
		"another side file": {func(t *testing.T, s *stage) {
			s.write(t, "var/lib/amazon/ssm/registration", `{"ManagedInstanceID":"mi-0fedcba9876543210","Region":"us-east-1"}`)
		}, false},
		"credentials of another node": {func(t *testing.T, s *stage) {
			const runtime = "var/lib/amazon/ssm/runtimeconfig/identity_config.json"
			var config map[string]any
			if err := json.Unmarshal([]byte(s.read(t, runtime)), &config); err != nil {
				t.Fatal(err)
			}
			config["InstanceId"] = "mi-0fedcba9876543210"
			text, _ := json.Marshal(config)
			s.write(t, runtime, string(text))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, before := registered(t)
			c.damage(t, s)
			s.keeps(t, before, plain, c.changed)
		})
	}
}

// An identity without a key is no identity: nothing is made of what is left, and a copy of it stays.
func TestAnIdentityThatIsLost(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	s.remove(t, keyFile)
	s.refuses(t, plain, 2, "usage", "not registered", "--token -")
	s.anotherToken()
	d := s.run(t, withToken)
	if d.RC != 0 || d.Result.ManagedInstanceID == before.Result.ManagedInstanceID {
		t.Fatalf("%+v", d)
	}
	want := "aws ecs deregister-container-instance --region eu-west-1 --cluster rehearsal --container-instance " +
		before.Result.ContainerInstanceARN + " --force"
	if !slices.Equal(d.Result.Owed, []string{want}) {
		t.Errorf("owed is %q; want %q", d.Result.Owed, want)
	}
	if again := s.run(t, plain); again.Changed || len(again.Result.Owed) > 0 {
		t.Errorf("and again: %+v", again)
	}
}

// A node that has lost its fingerprint works until its agent starts anew: then the agent makes another one, which the
// service does not accept. The next command is named, and works.
func TestALostFingerprint(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	s.remove(t, vault+"Store/InstanceFingerprint")
	s.keeps(t, before, plain, false)
	const runtime = "var/lib/amazon/ssm/runtimeconfig/identity_config.json"
	old := strings.NewReplacer(`"CredentialsExpiresAt":"20`, `"CredentialsExpiresAt":"19`, `"CredentialsRetrievedAt":"20`, `"CredentialsRetrievedAt":"19`)
	s.write(t, runtime, old.Replace(s.read(t, runtime)))
	d := s.run(t, plain)
	if !d.Failed || d.Error.Code != "fingerprint_mismatch" || !strings.Contains(d.Error.Remedy, "--accept-risk replace-identity") {
		t.Fatalf("%+v", d)
	}
	s.anotherToken()
	d = s.run(t, withToken, "--accept-risk", "replace-identity")
	if d.RC != 0 || d.Result.ManagedInstanceID == before.Result.ManagedInstanceID {
		t.Fatalf("%+v", d)
	}
	s.keeps(t, d, plain, false)
}

// The state of the ECS agent decides where a host belongs.
func TestStateOfAnotherPlace(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	mine := s.read(t, stateDB)
	s.write(t, stateDB, strings.ReplaceAll(mine, cluster, "elsewhere"))
	s.refuses(t, plain, 12, "registered_elsewhere", "belongs to cluster elsewhere, not to "+cluster, "anywhere move --cluster "+cluster)
	s.write(t, stateDB, strings.ReplaceAll(mine, account, "444455556666"))
	s.anotherToken()
	s.refuses(t, withToken, 12, "registered_elsewhere", "belongs to account 444455556666", "--accept-risk replace-identity")
	s.write(t, stateDB, mine)

	// The same cluster, configured otherwise than the state has it.
	config := s.read(t, "etc/ecs/ecs.config")
	s.write(t, "etc/ecs/ecs.config", strings.Replace(config, "ECS_CLUSTER="+cluster, "ECS_CLUSTER=tpyo", 1))
	s.refuses(t, plain, 12, "registered_elsewhere", "belongs to cluster "+cluster, "anywhere register --cluster "+cluster)
	s.keeps(t, before, line{args: []string{"register", "--cluster", cluster}}, true)
	s.write(t, "etc/ecs/ecs.config", strings.Replace(config, "ECS_CLUSTER="+cluster+"\n", "", 1))
	s.write(t, "etc/ecs/ecs.config.json", `{"Cluster":"`+cluster+`"}`)
	s.keeps(t, before, plain, true)
}

// A sound identity is given up only for a new activation and when that is accepted; the same command again keeps the new one.
func TestASoundIdentityIsReplacedOnDemand(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	expired := s.anotherToken()
	s.keeps(t, before, withToken, false)
	accept := []string{"--accept-risk", "replace-identity"}
	s.keeps(t, before, plain, false, accept...)
	if left, _ := s.aws.ActivationsLeft(expired.ActivationID); left != 1 {
		t.Error("the activation was used for a host that is registered")
	}
	d := s.run(t, withToken, accept...)
	if d.RC != 0 || !d.Changed || d.Result.ManagedInstanceID == before.Result.ManagedInstanceID ||
		d.Result.ContainerInstanceARN == before.Result.ContainerInstanceARN {
		t.Fatalf("%+v", d)
	}
	if named := strings.Join(d.Warnings, "\n"); !strings.Contains(named, before.Result.ManagedInstanceID) ||
		!strings.Contains(named, before.Result.ContainerInstanceARN) {
		t.Errorf("what is left in the account is not named: %q", d.Warnings)
	}
	s.keeps(t, d, withToken, false, accept...)
}

// A token whose time is over does not matter to a host that needs none.
func TestAnExpiredTokenOnASoundHost(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	token := s.anotherToken()
	token.Expires = token.Expires.AddDate(0, 0, -1)
	s.token = token.Encode()
	s.keeps(t, before, withToken, false)
}

// Attributes of a registered instance are an operator's to change.
func TestAttributesOfARegisteredInstance(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	operator := s.operator
	attends := plain
	attends.operator = true
	as := func(deny ...string) {
		s.operator = operator
		s.aws.AddOperator(emulator.Key{ID: operator.ID, Secret: operator.Secret, Deny: deny})
	}
	rack := []string{"--attribute", "rack=7", "--attribute", "zone=a b"}

	s.operator = emulator.Key{ID: "AKIAUNKNOWN000000001", Secret: secret.NewText("unknown")}
	s.refuses(t, attends, 4, "credentials_invalid", "only be changed with an operator's credentials", "aws ecs put-attributes", rack...)
	as("ecs:DescribeContainerInstances")
	s.refuses(t, attends, 4, "access_denied", "ecs:DescribeContainerInstances", "allow", rack...)
	as("ecs:PutAttributes")
	if d := s.run(t, attends, rack...); d.Error.Code != "access_denied" || !d.Failed {
		t.Errorf("%+v", d)
	}
	as()
	started := s.started(t)
	s.keeps(t, before, attends, true, rack...)
	has := s.aws.Attributes(before.Result.ContainerInstanceARN)
	if has["rack"] != "7" || has["zone"] != "a b" {
		t.Errorf("ECS has %v", has)
	}
	s.keeps(t, before, attends, true, "--attribute", "rack=8")
	if text := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(text, `ECS_INSTANCE_ATTRIBUTES={"rack":"8","zone":"a b"}`) {
		t.Errorf("the configuration has not all of them: %s", text)
	}
	if now := s.started(t); !maps.Equal(now, started) {
		t.Errorf("the agents were started anew: %v, before %v", now, started)
	}
	// Nobody needs to be asked for what is so.
	s.keeps(t, before, plain, false, "--attribute", "rack=8")
}

// A package whose program somebody has removed is installed again, as doctor promises, and as the version that it was.
func TestAProgramThatIsGone(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	for name, pkg := range map[string]string{ecsagent.InitBinary: ecsagent.Package, ssmagent.Binary: ssmagent.Package} {
		was, err := s.machine.host().Packages.Package(pkg)
		if err != nil {
			t.Fatal(err)
		}
		s.remove(t, name)
		s.keeps(t, before, plain, true)
		if _, err := os.Lstat(filepath.Join(s.machine.root, name)); err != nil {
			t.Errorf("it is still gone: %v", err)
		}
		if now, err := s.machine.host().Packages.Package(pkg); err != nil || now.Version != was.Version {
			t.Errorf("the version is %s, %v, and was %s", now.Version, err, was.Version)
		}
		s.keeps(t, before, plain, false)
	}
}

// started is when the agents registered or asked for credentials last, by operation.
func (s *stage) started(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, r := range s.aws.Requests() {
		if r.Operation == "ecs:RegisterContainerInstance" {
			n[r.Operation]++
		}
	}
	return n
}

// A registration that was begun for a cluster that is not there, abandoned, and made in another: the record says which.
func TestTheRecordOfAnAbandonedRegistration(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	token := s.anotherToken()
	token.Cluster = "gone"
	s.token = token.Encode()
	if d := s.run(t, withToken); d.RC != 8 || d.Error.Code != "cluster_not_found" {
		t.Fatalf("%+v", d)
	}
	if d := s.run(t, line{args: []string{"operation", "abandon"}}); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	d := s.run(t, line{args: []string{"register", "--cluster", cluster}})
	if d.RC != 0 || d.Result.Cluster != cluster {
		t.Fatalf("%+v", d)
	}
	var record struct {
		Registration struct{ ManagedInstanceID, Cluster, Account, Region, ActivationID string }
	}
	if err := json.Unmarshal([]byte(s.read(t, "var/lib/anywhere/record.json")), &record); err != nil {
		t.Fatal(err)
	}
	is := record.Registration
	if is.Cluster != cluster || is.Account != account || is.Region != region || is.ManagedInstanceID != d.Result.ManagedInstanceID ||
		is.ActivationID != token.ActivationID {
		t.Errorf("the record says %+v", is)
	}
	if again := s.run(t, plain); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
}
