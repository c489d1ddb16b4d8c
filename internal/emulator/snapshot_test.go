package emulator_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// populated is a world in which something of every kind has happened.
func populated(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, emulator.Options{Roles: true, Lag: time.Minute})
	if err := w.Seed([]byte(`
operators: [{accessKeyId: AKIASEEDED0000000001, secretAccessKey: seeded, deny: ["ecs:StopTask"]}]
roles: [service-role/edge]
clusters: [{name: shop}, {name: old, status: INACTIVE}]
activations:
- {id: 01234567-89ab-cdef-0123-456789abcdef, code: "a-code-of-twenty-two-c", role: service-role/edge, name: till, limit: 3,
   expires: 48h, tags: {floor: "1"}}
instances: [{cluster: shop, count: 2, attributes: {rack: a}, tags: {site: north}}]
taskDefinitions:
- {family: web, networkMode: host, containerDefinitions: [{name: web, image: "web:1", memory: 64}]}
services: [{cluster: shop, serviceName: web, taskDefinition: web, desiredCount: 2}]
tasks: [{cluster: shop, taskDefinition: "web:1", startedBy: nightly}]
`)); err != nil {
		t.Fatal(err)
	}
	w.AddOperator(emulator.Key{ID: operatorID, Secret: secret.NewText(operatorSecret)})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	status, _, out := w.call("AmazonSSM.RegisterManagedInstance", fmt.Sprintf(`{"ActivationId":"01234567-89ab-cdef-0123-456789abcdef",
		"ActivationCode":"a-code-of-twenty-two-c","Fingerprint":"print","PublicKey":%q,"PublicKeyType":"Rsa"}`,
		base64.StdEncoding.EncodeToString(der)), signing{id: "none"})
	if status != 200 {
		t.Fatalf("%d %v", status, out)
	}
	return w
}

func save(t *testing.T, e *emulator.Emulator) string {
	t.Helper()
	var text bytes.Buffer
	if err := e.Save(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestStateIsWhatItWas(t *testing.T) {
	w := populated(t)
	before := save(t, w.Emulator)
	again, err := emulator.Load(emulator.Options{Now: func() time.Time { return w.now }}, []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	if after := save(t, again); after != before {
		t.Errorf("the state has become another:\n%s\n%s", before, after)
	}
	if len(again.Nodes()) != 1 || len(again.Instances()) != 2 || len(again.Tasks()) < 3 || len(again.Activations()) != 1 ||
		again.Activations()[0].Used != 1 || len(again.Clusters()) != 3 {
		t.Errorf("nodes %v, instances %v, tasks %v, activations %v", again.Nodes(), again.Instances(), again.Tasks(), again.Activations())
	}
	for _, secret := range []string{"seeded", "a-code-of-twenty-two-c"} {
		if !strings.Contains(before, secret) {
			t.Errorf("the state has lost %s", secret)
		}
	}
}

func TestStatesThatAreRefused(t *testing.T) {
	good := save(t, populated(t).Emulator)
	for _, c := range []struct {
		name, state, says string
		opts              emulator.Options
	}{
		{"empty", "", "no state of an emulator", emulator.Options{}},
		{"cut off", good[:len(good)/2], "no state of an emulator", emulator.Options{}},
		{"something else", `{"clusters":[]}`, "it has no version", emulator.Options{}},
		{"newer", strings.Replace(good, `"version":1`, `"version":2`, 1), "has version 2, and this program reads version 1", emulator.Options{}},
		{"a word too many", strings.Replace(good, `"version":1`, `"version":1,"moons":4`, 1), "moons", emulator.Options{}},
		{"no key", strings.Replace(good, `"publicKey":"`, `"publicKey":"AAAA`, 1), "has no public key", emulator.Options{}},
		{"another account", good, "is of account 123456789012", emulator.Options{Account: "210987654321"}},
		{"another Region", good, "is of Region us-east-1", emulator.Options{Region: "eu-west-1"}},
	} {
		if _, err := emulator.Load(c.opts, []byte(c.state)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestKeeperWritesChanges(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	path := filepath.Join(t.TempDir(), "emulator.state")
	k, data, err := emulator.OpenKeeper(path)
	if err != nil || data != nil {
		t.Fatalf("%v, %q", err, data)
	}
	if _, _, err := emulator.OpenKeeper(path); !errors.Is(err, emulator.ErrStateInUse) {
		t.Errorf("a second emulator got the file: %v", err)
	}
	if err := k.Keep(w.Emulator, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if status, _, _ := w.call("AmazonSSM.CreateActivation", `{"IamRole":"edge"}`, signing{}); status != 200 {
		t.Fatal(status)
	}
	id := w.Activations()[0].ID
	for deadline := time.Now().Add(10 * time.Second); ; { // a moment later, without an end
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(id)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the change was not written")
		}
	}
	w.AddCluster("late") // told by no request: the end writes it
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k, data, err = emulator.OpenKeeper(path)
	if err != nil || !bytes.Contains(data, []byte(`"late"`)) || !json.Valid(data) {
		t.Errorf("%v: %s", err, data)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

func TestSeedsThatAreRefused(t *testing.T) {
	for _, c := range []struct{ seed, says string }{
		{"clusters: [{title: x}]", "line 1: field title is not known here"},
		{"moons: 4", "field moons is not known here"},
		{"clusters: [shop]", "line 1: `shop` is of another form than what belongs here"},
		{"clusters: {name: shop}", "line 1: is of another form than what belongs here"},
		{"clusters: [{name: a/b}]", "clusters[0]"},
		{"operators: [{accessKeyId: short, secretAccessKey: x}]", "operators[0]"},
		{"activations: [{id: x}]", "activations[0]: id"},
		{"activations: [{code: short}]", "activations[0]: code"},
		{"activations: [{limit: 1001}]", "activations[0]: limit"},
		{"activations: [{expires: soon}]", "activations[0]: expires"},
		{"activations: [{expires: 721h}]", "activations[0]: expires"},
		{"instances: [{count: 2}]", "instances[0]: cluster"},
		{"instances: [{cluster: a, count: 5001}]", "instances[0]: count"},
		{"taskDefinitions: [{family: x}]", "taskDefinitions[0]: "},
		{"services: [{serviceName: x}]", "services[0]: "},
		{"tasks: [{cluster: x}]", "tasks[0]: "},
		{"a: [", "line 1"},
	} {
		if err := emulator.New(emulator.Options{}).Seed([]byte(c.seed)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.seed, err)
		}
	}
	if err := emulator.New(emulator.Options{}).Seed(nil); err != nil {
		t.Errorf("an empty seed: %v", err)
	}
}

// The document's example is a good seed.
func TestTheDocumentedSeed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "emulator.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("docs/emulator.md has no example of a seed")
	}
	e := emulator.New(emulator.Options{})
	if err := e.Seed([]byte(example)); err != nil {
		t.Fatal(err)
	}
	if len(e.Tasks()) != 3 || len(e.Instances()) != 2 || len(e.Activations()) != 1 || len(e.Clusters()) != 2 {
		t.Errorf("tasks %v, instances %v, activations %v, clusters %v", e.Tasks(), e.Instances(), e.Activations(), e.Clusters())
	}
}

// A node that was deregistered is still shown for a while, and takes nothing any more.
func TestANodeThatIsGoneLingers(t *testing.T) {
	w := populated(t)
	id := w.Nodes()[0].ID
	shown := func() bool {
		_, _, out := w.call(ssmTargets+"DescribeInstanceInformation", "{}", signing{})
		return strings.Contains(fmt.Sprint(out["InstanceInformationList"]), id)
	}
	body := fmt.Sprintf(`{"InstanceId":%q}`, id)
	if status, _, out := w.call(ssmTargets+"DeregisterManagedInstance", body, signing{}); status != 200 {
		t.Fatal(out)
	}
	if !shown() {
		t.Error("it is gone at once")
	}
	if _, code, _ := w.call(ssmTargets+"DeregisterManagedInstance", body, signing{}); code != "InvalidInstanceId" {
		t.Errorf("a second deregistration: %q", code)
	}
	w.now = w.now.Add(time.Minute)
	if shown() {
		t.Error("it is still shown")
	}
}
