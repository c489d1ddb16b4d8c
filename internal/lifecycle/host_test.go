package lifecycle

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const (
	nodeID    = "mi-0123456789abcdef0"
	account   = "111122223333"
	region    = "eu-central-1"
	machineID = "6f1f0a4a0c5d4b0d9a3f6a2d0f4e8b11"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// machine is a host of files, with units, packages and an ECS agent that answers beside them.
type machine struct {
	t        testing.TB
	root     string
	now      func() time.Time
	units    map[string]host.Unit
	packages map[string]host.Package
	metadata string // what the ECS agent says of itself; empty is a closed port
}

func newMachine(t testing.TB) *machine {
	m := &machine{
		t: t, root: t.TempDir(), now: func() time.Time { return noon },
		units: map[string]host.Unit{}, packages: map[string]host.Package{},
	}
	m.write("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian 12\"\n")
	m.write("/etc/machine-id", machineID+"\n")
	return m
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	local := filepath.Join(m.root, path)
	err := errors.Join(os.MkdirAll(filepath.Dir(local), 0o755), os.WriteFile(local, []byte(content), 0o600))
	if err != nil {
		m.t.Fatal(err)
	}
}

// writeAt writes a file that was last changed then.
func (m *machine) writeAt(path, content string, then time.Time) {
	m.t.Helper()
	m.write(path, content)
	if err := os.Chtimes(filepath.Join(m.root, path), then, then); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) host() host.Host {
	dir := host.NewDir(m.root)
	return host.Host{
		Reader: host.Reader{
			Files: dir, Packages: host.WithSnaps(packages{m}, dir), Units: units{m}, Kernel: host.NewKernel(dir), Dial: m.dial,
			Now: func() time.Time { return m.now() }, Self: host.Self{GOOS: "linux", GOARCH: "amd64"},
			Network: host.Network{ // nobody is there
				Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
					return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
				},
				Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
				},
			},
		},
		Disk: dir,
	}
}

// dial leads to the ECS agent's introspection, at the other end of a pipe. There is no Docker.
func (m *machine) dial(_ context.Context, network, address string) (net.Conn, error) {
	if address != ecsagent.IntrospectionAddress || m.metadata == "" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		if _, err := http.ReadRequest(bufio.NewReader(far)); err != nil {
			return
		}
		answer := http.Response{
			StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(m.metadata)),
			Body: io.NopCloser(strings.NewReader(m.metadata)),
		}
		_ = answer.Write(far)
	}()
	return near, nil
}

type packages struct{ m *machine }

func (p packages) Package(name string) (host.Package, error) { return p.m.packages[name], nil }
func (p packages) State() (host.ManagerState, error)         { return host.ManagerState{Family: "deb"}, nil }

func (m *machine) install(name, version string) {
	m.packages[name] = host.Package{Name: name, Version: version, Installed: true}
}

type units struct{ m *machine }

func (u units) Unit(_ context.Context, name string) (host.Unit, error) { return u.m.units[name], nil }
func (u units) Available(context.Context) error                        { return nil }

// runs makes a unit that was started then and comes up at boot.
func (m *machine) runs(name string, since time.Time) {
	m.units[name] = host.Unit{
		Name: name, Loaded: true, Active: "active", Sub: "running", Enabled: "enabled", ActiveSince: since,
	}
}

// privateKey is one that no machine ever used, as the SSM agent stores it.
var privateKey = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key))
})

// registered makes the host a managed node.
func (m *machine) registered() {
	m.t.Helper()
	for path, value := range map[string]any{
		ssmagent.ManifestPath: map[string]string{
			"RegistrationKey": ssmagent.KeyPath, "InstanceFingerprint": ssmagent.FingerprintPath,
		},
		ssmagent.KeyPath: map[string]string{
			"instanceID": nodeID, "region": region, "privateKey": privateKey(), "privateKeyType": "Rsa",
		},
		ssmagent.FingerprintPath: map[string]any{
			"fingerprint": "5661d4d5-f8c3-47cb-9234-12001b839a40", "similarityThreshold": 40,
			"hardwareHash": map[string]string{"machine-id": machineID + "\n"},
		},
		ssmagent.RegistrationPath: map[string]string{"ManagedInstanceID": nodeID, "Region": region},
	} {
		text, err := json.Marshal(value)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write(path, string(text))
	}
}

// instance is what an ECS agent says of itself that is registered so.
func instance(configured, account, region, cluster string) string {
	return fmt.Sprintf(`{"Cluster":%q,"ContainerInstanceArn":%q,"Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`,
		configured, instanceARN(account, region, cluster))
}

func instanceARN(account, region, cluster string) string {
	return "arn:aws:ecs:" + region + ":" + account + ":container-instance/" + cluster + "/0123456789abcdef0123456789abcdef"
}

// logged is a line of the ECS agent's log.
func logged(at time.Time, message string) string {
	return fmt.Sprintf("level=error time=%s msg=%q\n", at.UTC().Format(time.RFC3339), message)
}

// registration is a run of register on the machine, as it is before it is settled.
func (m *machine) registration(req RegisterRequest) *registration {
	d := Deps{Host: m.host(), RunID: "run-1", Version: "1.2.3"}
	return &registration{deps: d, req: req, engine: d.engine()}
}

// with makes the registration's place definite.
func (r *registration) with(region, account, cluster string) *registration {
	r.region, r.account, r.cluster = region, account, cluster
	return r
}

// within calls do as the change of a step of the engine.
func (m *machine) within(ctx context.Context, r *registration, do func(context.Context, *engine.Tx) error) error {
	done := false
	_, err := r.engine.Apply(ctx, engine.Plan{Verb: "test", Key: "test", Steps: []engine.Step{{
		ID: "test", Title: "Test",
		Observe: func(context.Context, host.Reader) (engine.Obs, error) {
			if done {
				return engine.Obs{State: engine.OK}, nil
			}
			return engine.Obs{State: engine.Pending}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			done = true
			return do(ctx, tx)
		},
	}}}, engine.Options{})
	return err
}
