package rehearsal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// pace shortens the agents' own waiting: a rehearsal is watched.
const pace = 0.1

// machine is the throw-away host.
type machine struct {
	root    string
	sockets string // a short path: sockets have at most 108 bytes
	disk    *host.Dir
	units   *units
	network host.Network
	socket  string // Docker's
	stop    context.CancelFunc
	snapd   *snapd // nil where the SSM agent is no snap
	rpms    *rpms  // nil where packages are debs
	borrows string // the real system that its os-release is from; empty when it plays Debian 12

	mu            sync.Mutex
	introspection string // address, while the ECS agent listens
}

// realFacts are read from the machine that the rehearsal runs on.
var realFacts = []string{"/proc", "/sys"}

// newMachine makes a host below root, with the running machine's facts as far as the commands can use them.
func newMachine(root string) (*machine, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("making the throw-away host's folder: %w", err)
	}
	sockets, err := os.MkdirTemp("", "aw")
	if err != nil {
		return nil, fmt.Errorf("making a folder for sockets: %w", err)
	}
	m := &machine{root: root, sockets: sockets, disk: host.NewDir(root, realFacts...)}
	if err := m.furnish(); err != nil {
		return nil, err
	}
	if err := m.startDocker(); err != nil {
		return nil, err
	}
	m.units = newUnits(m)
	return m, nil
}

// startDocker opens a Docker that can run one thing: the ECS agent, in this process.
func (m *machine) startDocker() error {
	m.socket = filepath.Join(m.sockets, "docker.sock")
	l, err := net.Listen("unix", m.socket)
	if err != nil {
		return fmt.Errorf("opening Docker's socket: %w", err)
	}
	engine := &simagent.Dockerd{Root: m.root, Scratch: m.sockets, Run: func(ctx context.Context, c simagent.Container) int {
		agent := &simagent.ECSAgent{
			Place: m.place(c.Root, c.Env), Listen: m.openIntrospection,
			Version: c.Labels[simagent.VersionLabel], Fault: c.Labels[simagent.FaultLabel],
		}
		return agent.Main(ctx, nil)
	}}
	engine.Cgroup1 = host.NewKernel(m.disk).Cgroup() != host.CgroupV2
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	m.stop = func() { stop(); <-ended }
	go func() {
		defer close(ended)
		_ = engine.Serve(ctx, l) // it ends with stop
	}()
	return nil
}

// debian12 is what the throw-away host plays where the real system is not one with debs. One with rpms is played by a story.
const debian12 = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"

// ubuntu2404 is what it plays with Ubuntu's snap.
const ubuntu2404 = "PRETTY_NAME=\"Ubuntu 24.04.3 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n"

// trustsNobody is the bundle of certificate authorities.
const trustsNobody = "# the throw-away host trusts nobody: it speaks plain HTTP on loopback\n"

func (m *machine) furnish() error {
	release := debian12
	if found, err := host.ReadOSRelease(host.NewDir("/")); err == nil {
		if row, verdict, known := platform.Find(found.ID, found.VersionID, found.Name, found.IDLike); known && row.Built && row.Family == platform.Deb && verdict == platform.Known {
			if text, err := os.ReadFile("/etc/os-release"); err == nil {
				release, m.borrows = string(text), found.PrettyName
			}
		}
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	for path, text := range map[string]string{
		"/etc/os-release":                    release,
		"/etc/machine-id":                    hex.EncodeToString(id[:]) + "\n",
		"/etc/hostname":                      "rehearsal\n",
		"/etc/ssl/certs/ca-certificates.crt": trustsNobody,
		"/var/lib/dpkg/status":               "",
		"/var/log/dpkg.log":                  "",
		docker.Socket:                        "", // its place; the socket itself has a shorter name
		"/usr/bin/dockerd":                   "",
		"/root/.profile":                     "",
		"/run/lock/.keep":                    "",
		"/var/lib/docker/.keep":              "",
	} {
		if err := m.disk.WriteFile(path, strings.NewReader(text), 0o644, host.Owner{}); err != nil {
			return fmt.Errorf("furnishing the throw-away host: %w", err)
		}
	}
	for _, path := range []string{"/usr/sbin/sysctl", "/usr/sbin/iptables", updateCA} { // ecs-init looks for them
		if err := m.disk.WriteFile(path, strings.NewReader("#!/bin/sh\n"), 0o755, host.Owner{}); err != nil {
			return fmt.Errorf("furnishing the throw-away host: %w", err)
		}
	}
	return nil
}

// host is the machine as the commands get it.
func (m *machine) host() host.Host {
	h := host.Host{
		Reader: host.Reader{
			Files: files{m.disk}, Packages: m.packages(), Units: m.units, Kernel: kernel{host.NewKernel(m.disk)},
			Dial: m.dial, Network: m.network, Now: time.Now,
			Self: host.Self{EUID: 0, GOOS: "linux", GOARCH: goarch()},
		},
		Disk: m.disk, Packager: &packager{m}, Manager: m.units, Runner: &runner{m},
	}
	if m.snapd != nil {
		h.Snaps = host.NewSnapd(h.Files, h.Runner)
	}
	if m.rpms != nil {
		h.Packager = host.NewRpm(m.disk, h.Disk, h.Runner)
	}
	return h
}

// packages reads the package manager's database.
func (m *machine) packages() host.PackageReader {
	if m.rpms != nil {
		return host.WithSnaps(host.NewRpm(m.disk, m.disk, &runner{m}), m.disk)
	}
	return host.WithSnaps(host.NewDpkg(m.disk, m.disk, nil), m.disk) // its reader only: packages are changed by our own packager
}

// files tells the real disk's space: the packages of a rehearsal are small.
type files struct{ *host.Dir }

func (files) Space(string) (uint64, error) { return host.NewDir("/").Space("/") }

// kernel is the real one, but that the throw-away host is a host wherever the rehearsal runs.
type kernel struct{ host.Kernel }

func (kernel) Container() string { return "" }

// dial brings what the host has on its own addresses to where the rehearsal really listens.
func (m *machine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	switch {
	case network == "unix" && address == docker.Socket:
		return d.DialContext(ctx, "unix", m.socket)
	case strings.HasSuffix(address, ":51678"):
		m.mu.Lock()
		at := m.introspection
		m.mu.Unlock()
		if at == "" {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return d.DialContext(ctx, "tcp", at)
	}
	return d.DialContext(ctx, network, address)
}

// openIntrospection is the ECS agent's port, on any free one.
func (m *machine) openIntrospection() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.introspection = l.Addr().String()
	m.mu.Unlock()
	return l, nil
}

func (m *machine) place(root string, env map[string]string) simagent.Place {
	return simagent.Place{Root: root, Env: env, Docker: m.socket, Pace: pace}
}

// close stops everything that runs. The folder stays.
func (m *machine) close() {
	m.units.stopAll()
	m.stop()
	_ = os.RemoveAll(m.sockets) // ours, made by newMachine
}
