package preflight

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const (
	nodeID = "mi-0123456789abcdef0"
	gib    = 1 << 30
)

// noon is the true time.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// machine is a host of files, with what does not live in files beside them. As newMachine makes it, every check passes.
type machine struct {
	t        testing.TB
	root     string
	self     host.Self
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
	m.write("/etc/machine-id", "6f1f0a4a0c5d4b0d9a3f6a2d0f4e8b11\n")
	m.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
	m.write("/usr/bin/dockerd", "")
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
		Files: dir, Packages: packages{m}, Units: units{m}, Kernel: host.NewKernel(dir), Dial: dial, Network: m.network,
		Now: func() time.Time { return noon.Add(m.ahead) }, Self: m.self,
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
	if free, found := f.m.free[path]; found {
		return free, nil
	}
	return f.m.free[""], nil
}

type packages struct{ m *machine }

func (p packages) Package(name string) (host.Package, error) { return p.m.packages[name], p.m.broken }
func (p packages) State() (host.ManagerState, error)         { return p.m.manager, p.m.broken }

type units struct{ m *machine }

func (u units) Unit(_ context.Context, name string) (host.Unit, error) { return u.m.units[name], nil }
func (u units) Available(context.Context) error                        { return u.m.systemd }

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
