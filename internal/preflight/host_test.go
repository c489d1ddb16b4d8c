package preflight

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const (
	nodeID = "mi-0123456789abcdef0"
	gib    = 1 << 30

	kernelRelease = "6.1.0-30-amd64"
	thisMachineID = "6f1f0a4a0c5d4b0d9a3f6a2d0f4e8b11"
)

// checkTime is the true time, when the checks look.
var checkTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// machine is a host of files, with what does not live in files beside them. As newMachine makes it, every check passes.
type machine struct {
	t        testing.TB
	root     string
	self     host.Self
	readOnly string            // where a file system is mounted that cannot be written
	free     map[string]uint64 // bytes, by path; "" is all others
	units    map[string]host.Unit
	systemd  error
	packages map[string]host.Package
	manager  host.ManagerState
	broken   error             // of the package manager
	docker   map[string]string // its answers by path; nil is nobody there
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	network  host.Network      // as newMachine makes it, nobody is there
	env      map[string]string // of this process
	ahead    time.Duration     // the clock is
	bound    time.Duration     // on the network; zero is preflight's own
}

func newMachine(t testing.TB) *machine {
	m := &machine{
		t: t, root: t.TempDir(), self: host.Self{GOOS: "linux", GOARCH: "amd64"}, free: map[string]uint64{"": 100 * gib},
		units: map[string]host.Unit{
			"docker.service": {Name: "docker.service", Loaded: true, Active: "active", Sub: "running"},
		},
		packages: map[string]host.Package{}, manager: host.ManagerState{Family: "deb"},
		docker: map[string]string{
			"/version": `{"Version":"27.3.1","ApiVersion":"1.47","MinAPIVersion":"1.24","Components":[{"Name":"Engine"}]}`,
			"/info":    `{"CgroupDriver":"systemd","CgroupVersion":"2","Driver":"overlay2","DockerRootDir":"/var/lib/docker"}`,
		},
	}
	m.write("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian 12\"\n")
	m.write("/etc/machine-id", thisMachineID+"\n")
	m.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
	m.write("/usr/bin/dockerd", "")
	m.memory(4096, 3000)
	m.write("/proc/sys/kernel/osrelease", kernelRelease+"\n")
	m.write("/lib/modules/"+kernelRelease+"/modules.dep", "")
	for _, path := range []string{"/usr/sbin/iptables", "/usr/sbin/sysctl"} {
		m.write(path, "")
		m.mode(path, 0o755)
	}
	m.network = host.Network{
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		},
		Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		},
	}
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

// memory writes /proc/meminfo, in MiB.
func (m *machine) memory(total, available int) {
	m.write("/proc/meminfo", fmt.Sprintf("MemTotal:       %d kB\nMemFree:         1 kB\nMemAvailable:   %d kB\n", total<<10, available<<10))
}

// install has a package installed.
func (m *machine) install(name, version string) {
	m.packages[name] = host.Package{Name: name, Version: version, Installed: true}
}

func (m *machine) mode(path string, mode fs.FileMode) {
	m.t.Helper()
	if err := os.Chmod(filepath.Join(m.root, path), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) link(path, target string) {
	m.t.Helper()
	local := filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(local), 0o755), os.Symlink(target, local)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) remove(path string) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, path)); err != nil {
		m.t.Fatal(err)
	}
}

// answers replaces what Docker says at path.
func (m *machine) answers(path, old, with string) {
	m.t.Helper()
	if !strings.Contains(m.docker[path], old) {
		m.t.Fatalf("Docker's answer to %s has no %s", path, old)
	}
	m.docker[path] = strings.Replace(m.docker[path], old, with, 1)
}

func (m *machine) reader() host.Reader {
	dir := files{host.NewDir(m.root), m}
	dial := m.dial
	if dial == nil {
		dial = m.daemon
	}
	return host.Reader{
		Files: dir, Packages: host.WithSnaps(packages{m}, dir), Units: units{m}, Kernel: host.NewKernel(dir), Dial: dial, Network: m.network,
		Now: func() time.Time { return checkTime.Add(m.ahead) }, Self: m.self,
	}
}

func (m *machine) getenv(name string) string { return m.env[name] }

// daemon is Docker at the other end of a pipe: one answer a connection.
func (m *machine) daemon(_ context.Context, network, address string) (net.Conn, error) {
	if network != "unix" || address != docker.Socket || m.docker == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fs.ErrNotExist}
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		req, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		status, body := http.StatusOK, m.docker[req.URL.Path]
		if body == "" {
			status, body = http.StatusNotFound, `{"message":"no such thing"}`
		}
		answer := http.Response{
			StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
			Body: io.NopCloser(strings.NewReader(body)),
		}
		_ = answer.Write(far)
	}()
	return near, nil
}

// files have the room that the machine says.
type files struct {
	*host.Dir
	m *machine
}

func (f files) Space(path string) (uint64, error) {
	if at := f.m.readOnly; at != "" && strings.HasPrefix(path, at) {
		return 0, failure.New(failure.ReadOnly, "%s is mounted read-only", at).WithRemedy("mount -o remount,rw %s", at)
	}
	if free, found := f.m.free[path]; found {
		return free, nil
	}
	return f.m.free[""], nil
}

type packages struct{ m *machine }

func (p packages) Package(name string) (host.Package, error) { return p.m.packages[name], p.m.broken }
func (p packages) State() (host.ManagerState, error)         { return p.m.manager, p.m.broken }

type units struct{ m *machine }

func (u units) Unit(_ context.Context, name string) (host.Unit, error) {
	return u.m.units[name], u.m.systemd
}
func (u units) Available(context.Context) error { return u.m.systemd }

// privateKey is a managed node's, made once for all tests: it takes a while.
var privateKey = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key))
})

// managedNode makes the machine managed node id, in eu-central-1, whose agent has got credentials and runs.
func (m *machine) managedNode(id string) {
	m.t.Helper()
	m.write(ssmagent.ManifestPath, fmt.Sprintf(`{"RegistrationKey":%q,"InstanceFingerprint":%q}`, ssmagent.KeyPath, ssmagent.FingerprintPath))
	m.write(ssmagent.KeyPath, fmt.Sprintf(`{"instanceID":%q,"region":"eu-central-1","privateKey":%q,"privateKeyType":"Rsa"}`, id, privateKey()))
	m.write(ssmagent.FingerprintPath, fmt.Sprintf(
		`{"fingerprint":"5661d4d5-f8c3-47cb-9234-12001b839a40","similarityThreshold":40,"hardwareHash":{"machine-id":%q}}`, thisMachineID+"\n"))
	m.write(ssmagent.RegistrationPath, fmt.Sprintf(`{"ManagedInstanceID":%q,"Region":"eu-central-1"}`, id))
	sharing(m, "ASIAIOSFODNN7EXAMPLE")
	m.install(ssmagent.Package, "3.3.4108.0-1")
	m.runs(ssmagent.UnitName)
}

// runs has a unit up for an hour.
func (m *machine) runs(name string) {
	m.units[name] = host.Unit{
		Name: name, Loaded: true, Active: "active", Sub: "running", Enabled: "enabled", ActiveSince: checkTime.Add(-time.Hour),
	}
}

// check runs one check.
func (m *machine) check(id string, s Subject) Result {
	m.t.Helper()
	s.Host, s.Getenv = m.reader(), m.getenv
	results := Run(m.t.Context(), All(), s, Options{Only: []string{id}, Network: m.bound})
	if len(results) != 1 {
		m.t.Fatalf("there is no check %s", id)
	}
	return results[0]
}

// aws is what an operator sees; the zero value has no credentials of one.
type aws struct {
	err        error
	activation *control.Activation
	cluster    error
	instances  []control.Instance
	node       *control.Node
}

func (a aws) ProveCluster(context.Context, control.ClusterRef) error { return cmp.Or(a.err, a.cluster) }

func (a aws) Activation(context.Context, string) (control.Activation, bool, error) {
	if a.activation == nil {
		return control.Activation{}, false, a.err
	}
	return *a.activation, true, a.err
}

func (a aws) InstancesOf(context.Context, string, string) ([]control.Instance, error) {
	return a.instances, a.err
}

func (a aws) Node(context.Context, string) (control.Node, bool, error) {
	if a.node == nil {
		return control.Node{}, false, a.err
	}
	return *a.node, true, a.err
}

// registered makes the host the managed node nodeID, with the machine-id.
func (m *machine) registered(machineID string) {
	m.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		m.t.Fatal(err)
	}
	for path, value := range map[string]any{
		ssmagent.ManifestPath: map[string]string{
			"RegistrationKey": ssmagent.KeyPath, "InstanceFingerprint": ssmagent.FingerprintPath,
		},
		ssmagent.KeyPath: map[string]string{
			"instanceID": nodeID, "region": "eu-central-1", "privateKeyType": "Rsa",
			"privateKey": base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key)),
		},
		ssmagent.FingerprintPath: map[string]any{
			"fingerprint": "5661d4d5-f8c3-47cb-9234-12001b839a40", "similarityThreshold": 40,
			"hardwareHash": map[string]string{"machine-id": machineID + "\n"},
		},
		ssmagent.RegistrationPath: map[string]string{"ManagedInstanceID": nodeID, "Region": "eu-central-1"},
	} {
		text, err := json.Marshal(value)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write(path, string(text))
	}
}
