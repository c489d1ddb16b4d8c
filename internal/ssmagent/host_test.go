package ssmagent

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// The facts of the machine that tests register.
const (
	ourID     = "mi-0123456789abcdef0"
	otherID   = "mi-0fedcba9876543210"
	ourRegion = "eu-central-1"
	machineID = "6f1f0a4a0c5d4b0d9a3f6a2d0f4e8b11"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// machine is a folder that is the host's root, and a clock.
type machine struct {
	t    testing.TB
	dir  *host.Dir
	root string
}

func newMachine(t testing.TB) machine {
	root := t.TempDir()
	return machine{t, host.NewDir(root), root}
}

func (m machine) reader() host.Reader {
	return host.Reader{
		Files: m.dir, Packages: host.WithSnaps(host.NewDpkg(m.dir, m.dir, nil), m.dir), Now: func() time.Time { return now },
	}
}

func (m machine) write(path, content string) {
	m.t.Helper()
	m.writeMode(path, content, 0o600)
}

func (m machine) writeMode(path, content string, mode os.FileMode) {
	m.t.Helper()
	local := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(local, []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(local, mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) remove(path string) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, path)); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) json(path string, value any) {
	m.t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(path, string(text))
}

// privateKey is one that no machine ever used, in the agent's form.
var privateKey = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key))
})

// fields is a JSON object in the making.
type fields map[string]any

func keyFile(id, region, key string) fields {
	return fields{
		"instanceID": id, "region": region, "instanceType": "", "availabilityZone": "", "privateKey": key,
		"publicKey": "", "privateKeyType": "Rsa", "privateKeyCreatedDate": "2026-11-22 09:43:32.201254278 +0000 UTC",
	}
}

func fingerprintFile(machineID string, threshold int) fields {
	return fields{
		"fingerprint":  "5661d4d5-f8c3-47cb-9234-12001b839a40",
		"hardwareHash": fields{"machine-id": machineID + "\n", "hostname-info": "host"}, "similarityThreshold": threshold,
	}
}

func manifest() fields { return fields{keyEntry: KeyPath, fingerprintEntry: FingerprintPath} }

func runtimeFile(id string, retrieved, expires time.Time) fields {
	return fields{
		"SchemaVersion": "1.1", "InstanceId": id, "IdentityType": "OnPrem", "ShareFile": CredentialsPath, "ShareProfile": "",
		"CredentialsExpiresAt": expires, "CredentialsRetrievedAt": retrieved, "CredentialSource": "SSM",
	}
}

// registered makes the store of a host that has registered and not started its agent yet.
func (m machine) registered(id string) {
	m.t.Helper()
	m.json(ManifestPath, manifest())
	m.json(KeyPath, keyFile(id, ourRegion, privateKey()))
	m.json(FingerprintPath, fingerprintFile(machineID, 40))
	m.json(RegistrationPath, fields{"ManagedInstanceID": id, "Region": ourRegion})
}

// blanked is what a registration that fails at AWS leaves of registered.
func (m machine) blanked(id string) {
	m.t.Helper()
	m.registered(id)
	m.json(KeyPath, keyFile("", "", privateKey()))
}

// cleared is what "-register -clear" leaves of registered.
func (m machine) cleared(id string) {
	m.t.Helper()
	m.registered(id)
	m.json(KeyPath, fields{"instanceID": "", "region": "", "privateKey": ""})
	m.json(FingerprintPath, fields{"fingerprint": "", "hardwareHash": nil, "similarityThreshold": 0})
}

// running adds what the agent writes after it has got credentials.
func (m machine) running(id string, retrieved time.Time) {
	m.t.Helper()
	m.registered(id)
	m.json(RuntimePath, runtimeFile(id, retrieved, retrieved.Add(time.Hour)))
}

// asTheAgentWrites is a fresh credentials file.
const asTheAgentWrites = `[default]
aws_access_key_id     = ASIAIOSFODNN7EXAMPLE
aws_secret_access_key = not-a-real-secret-0123456789
aws_session_token     = not-a-real-token-0123456789

`

// describe is an identity as text, to compare two.
func describe(i Identity) string {
	text, err := json.Marshal(i)
	if err != nil {
		panic(err)
	}
	return string(text)
}
