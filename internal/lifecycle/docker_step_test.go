package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

const bookworm = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian 12\"\n"

// bareMachine is a Debian without Docker whose apt can read https.
func bareMachine(t *testing.T) *machine {
	m := newMachine(t)
	m.write("/etc/os-release", bookworm)
	m.write(aptHTTPS, "")
	return m
}

// settledDocker is a registration on the machine that has settled where Docker comes from.
func settledDocker(t *testing.T, m *machine, req RegisterRequest) (*registration, error) {
	t.Helper()
	r := m.registration(req)
	release, err := host.ReadOSRelease(r.deps.Host.Files)
	if err != nil {
		t.Fatal(err)
	}
	r.row, _, _ = platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	r.pins = map[string]string{}
	return r, r.settleDocker(t.Context(), release)
}

func TestWhereDockerMayComeFrom(t *testing.T) {
	for _, test := range []struct {
		name     string
		req      RegisterRequest
		change   func(*machine)
		sources  string
		codename string
		from     string
		code     failure.Code
	}{
		{name: "both", sources: "docker distro", codename: "bookworm", from: "Docker's own repository, else Debian's package docker.io"},
		{name: "one", req: RegisterRequest{DockerSource: "distro"}, sources: "distro", codename: "bookworm", from: "Debian's package docker.io"},
		{name: "none", req: RegisterRequest{DockerSource: "none"}},
		{name: "it is there", change: func(m *machine) { m.write("/usr/bin/dockerd", "") }, sources: "docker distro", codename: "bookworm"},
		{name: "it is there, whatever is asked", req: RegisterRequest{DockerSource: "distro"},
			change:  func(m *machine) { stretch(m); m.write("/usr/bin/dockerd", "") },
			sources: "distro", codename: "stretch"},
		{name: "the system has none from there", req: RegisterRequest{DockerSource: "distro"}, change: stretch, code: failure.Usage},
		{name: "a release whose name stands in VERSION", change: stretch, sources: "docker", codename: "stretch", from: "Docker's own repository"},
		{name: "no name for the release", change: func(m *machine) {
			m.write("/etc/os-release", "ID=debian\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux\"\n")
		}, sources: "distro", from: "Debian's package docker.io"},
		{name: "a system made from Ubuntu", change: func(m *machine) {
			m.write("/etc/os-release", "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=21.3\nVERSION_CODENAME=virginia\nUBUNTU_CODENAME=jammy\n")
		}, sources: "docker distro", codename: "jammy", from: "Docker's own repository, else Ubuntu's package docker.io"},
		{name: "containerd is in use", change: func(m *machine) { m.install("containerd", "1.6.20") },
			sources: "distro", codename: "bookworm", from: "Debian's package docker.io"},
		{name: "containerd is in use, and Docker's own is asked for", req: RegisterRequest{DockerSource: "docker"},
			change:  func(m *machine) { m.install("containerd", "1.6.20") },
			sources: "docker", codename: "bookworm", from: "Docker's own repository"},
		{name: "an apt without https", change: func(m *machine) { m.remove(aptHTTPS) }, sources: "distro", codename: "bookworm",
			from: "Debian's package docker.io"},
		{name: "an apt without https, and a mirror that needs none", req: RegisterRequest{Artifacts: "http://mirror"},
			change: func(m *machine) { m.remove(aptHTTPS) }, sources: "docker distro", codename: "bookworm",
			from: "Docker's own repository, else Debian's package docker.io"},
		{name: "Amazon Linux has its own", change: release("ID=amzn\nVERSION_ID=\"2023\"\nNAME=\"Amazon Linux\"\n"),
			sources: "distro", codename: "2023/x86_64", from: "Amazon Linux's package docker"},
		{name: "a rebuild of RHEL", change: release("ID=rocky\nVERSION_ID=\"9.6\"\nNAME=\"Rocky Linux\"\nID_LIKE=\"rhel centos fedora\"\n"),
			sources: "docker", codename: "9/x86_64", from: "Docker's own repository"},
		{name: "a rebuild of RHEL, whose own package called docker is podman's", req: RegisterRequest{DockerSource: "distro"},
			change: release("ID=rocky\nVERSION_ID=\"9.6\"\nNAME=\"Rocky Linux\"\n"), code: failure.Usage},
		{name: "RHEL has none", change: release("ID=rhel\nVERSION_ID=\"9.4\"\nNAME=\"Red Hat Enterprise Linux\"\n"), codename: "9/x86_64"},
		{name: "Fedora has both", change: release("ID=fedora\nVERSION_ID=42\nNAME=\"Fedora Linux\"\n"),
			sources: "docker distro", codename: "42/x86_64", from: "Docker's own repository, else Fedora's package moby-engine"},
		{name: "SUSE", change: release("ID=sles\nVERSION_ID=\"15.6\"\nNAME=\"SLES\"\n"),
			sources: "distro", codename: "15/x86_64", from: "SUSE Linux Enterprise Server's package docker"},
	} {
		m := bareMachine(t)
		if test.change != nil {
			test.change(m)
		}
		r, err := settledDocker(t, m, test.req)
		if test.code != "" {
			if !failure.Is(err, test.code) {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if got := strings.Join(r.docker.sources, " "); err != nil || got != test.sources || r.docker.codename != test.codename || r.dockerFrom() != test.from {
			t.Errorf("%s: %q, %q, %q, %v", test.name, got, r.docker.codename, r.dockerFrom(), err)
		}
		if s := r.subject(); s.Docker != (test.from != "") || s.DockerFrom != test.from {
			t.Errorf("%s: the checks are told %v, %q", test.name, s.Docker, s.DockerFrom)
		}
	}
}

// release is a system that a host says it is.
func release(text string) func(*machine) {
	return func(m *machine) { m.write("/etc/os-release", text) }
}

func stretch(m *machine) {
	m.write("/etc/os-release", "ID=debian\nVERSION_ID=\"9\"\nVERSION=\"9 (Stretch)\"\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian 9\"\n")
}

func (m *machine) remove(path string) {
	m.t.Helper()
	if err := os.Remove(filepath.Join(m.root, path)); err != nil {
		m.t.Fatal(err)
	}
}

// mirror answers paths below its host with a text; others are not there, and without texts it cannot be reached.
type mirror map[string]string

func (m mirror) RoundTrip(r *http.Request) (*http.Response, error) {
	if m == nil {
		return nil, errors.New("connection reset")
	}
	text, found := m[r.URL.Path]
	status := http.StatusOK
	if !found {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader(text)), Header: http.Header{}, Request: r}, nil
}

// publicKey makes a key pair and returns the public half, armored.
func publicKey(t *testing.T) string {
	t.Helper()
	key, err := openpgp.NewEntity("Test", "", "test@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err = errors.Join(err, key.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

// from points the registration at a mirror, and trusts a key besides those that are pinned.
func (r *registration) from(t *testing.T, m mirror, key string) *registration {
	t.Helper()
	keys, err := artifact.Embedded()
	if err == nil && key != "" {
		err = keys.Add(strings.NewReader(key))
	}
	if err != nil {
		t.Fatal(err)
	}
	r.source = &artifact.Source{
		Base: "http://mirror", HTTP: &http.Client{Transport: m}, Keys: keys, Disk: r.deps.Host.Disk, Files: r.deps.Host.Files,
		CacheDir: PackageDir, Now: r.deps.Host.Now, Backoff: func(int) time.Duration { return 0 },
	}
	return r
}

func TestWhichSourceIsTaken(t *testing.T) {
	key := publicKey(t)
	const at = "/docker/linux/debian/"
	whole := mirror{at + "gpg": key, at + "dists/bookworm/InRelease": "Origin: Docker"}
	for _, test := range []struct {
		name   string
		source string
		mirror mirror
		key    string
		want   string
		code   failure.Code
		warned string
	}{
		{name: "Docker's", mirror: whole, key: key, want: "docker"},
		{name: "no such release there", mirror: mirror{at + "gpg": key}, key: key, want: "distro", warned: "has nothing for bookworm"},
		{name: "no such folder", mirror: mirror{}, key: key, want: "distro", warned: "Debian's package docker.io"},
		{name: "not to be reached", key: key, want: "distro", warned: "cannot be used"},
		{name: "not to be reached, and asked for", source: "docker", key: key, code: failure.ArtifactDownload},
		{name: "no such folder, and asked for", source: "docker", mirror: mirror{}, key: key, code: failure.ArtifactMissing},
		// Somebody who can put another key there is a reason to stop, not to look elsewhere.
		{name: "another key", mirror: whole, code: failure.ArtifactKey},
		{name: "the distribution's, asked for", source: "distro", mirror: whole, key: key, want: "distro"},
	} {
		r, err := settledDocker(t, bareMachine(t), RegisterRequest{DockerSource: test.source, Artifacts: "http://mirror"})
		if err != nil {
			t.Fatal(err)
		}
		err = r.from(t, test.mirror, test.key).resolveDocker(t.Context(), r.pins)
		if test.code != "" {
			if !failure.Is(err, test.code) || r.pins[pinDocker] != "" || failure.Of(err).Advice() == "" {
				t.Errorf("%s: %v, %q", test.name, err, r.pins[pinDocker])
			}
			continue
		}
		warned := strings.Join(r.warnings, "|")
		if err != nil || r.pins[pinDocker] != test.want || test.warned == "" != (warned == "") || !strings.Contains(warned, test.warned) {
			t.Errorf("%s: %q, %q, %v", test.name, r.pins[pinDocker], warned, err)
		}
	}

	// What an earlier run has settled on stands, and costs nothing.
	r, err := settledDocker(t, bareMachine(t), RegisterRequest{Artifacts: "http://mirror"})
	if err != nil {
		t.Fatal(err)
	}
	r.pins[pinDocker] = "distro"
	if err := r.from(t, nil, "").resolveDocker(t.Context(), r.pins); err != nil || r.pins[pinDocker] != "distro" || len(r.warnings) > 0 {
		t.Errorf("%q, %q, %v", r.pins[pinDocker], r.warnings, err)
	}
}

// A repository that the host lists already, in either form, is not listed under a second key: apt would read neither.
func TestWhatTheHostListsAlready(t *testing.T) {
	const url = "https://download.docker.com/linux/debian"
	for text, want := range map[string]bool{
		"deb [signed-by=/x] " + url + " bookworm stable\n":                true,
		"deb " + url + "/ bookworm stable\n":                              true,
		"# deb " + url + " bookworm stable\n":                             false,
		"deb " + url + "x bookworm stable\n":                              false,
		"Types: deb\nURIs: " + url + "\nSuites: bookworm\n":               true,
		"Types: deb\nURIs: https://deb.debian.org/debian\n":               false,
		"deb [arch=amd64] https://download.docker.com/linux/ubuntu jammy": false,
	} {
		for _, name := range []string{host.AptSources, host.AptSourceDir + "/docker.list", host.AptSourceDir + "/docker.sources"} {
			m := newMachine(t)
			m.write(name, text)
			if got, err := aptLists(m.host().Files, url); err != nil || got != want {
				t.Errorf("%s with %q: %v, %v", name, text, got, err)
			}
		}
		m := newMachine(t)
		m.write(host.AptSourceDir+"/docker.list.save", text)
		if got, err := aptLists(m.host().Files, url); err != nil || got {
			t.Errorf("a file that apt does not read: %v, %v", got, err)
		}
	}
}

// TestDockerRepositoryForRPM is read once without the host's keyring, and then as every front end understands it.
func TestDockerRepositoryForRPM(t *testing.T) {
	const url = "https://download.docker.com/linux/centos"
	once, lasting := ownRepository(url, "9/x86_64"), lastingRepository(url, "9/x86_64")
	for _, text := range []string{once, lasting} {
		if !strings.Contains(text, "\nbaseurl="+url+"/9/x86_64/stable\n") || strings.Contains(text, "$") {
			t.Errorf("%s", text)
		}
	}
	if !strings.Contains(lasting, "\ngpgcheck=1\n") || !strings.Contains(lasting, "\ngpgkey=file://"+dockerKeyRPM+"\n") || strings.Contains(once, "gpgkey") {
		t.Errorf("%s\n%s", once, lasting)
	}
	for text, want := range map[string]bool{
		lasting: true, strings.ReplaceAll(lasting, "enabled=1", "enabled=0"): false, "": false,
		"[docker-ce-stable]\nbaseurl=" + url + "/$releasever/$basearch/stable\n":                                         true,
		"[docker-ce-test]\nbaseurl = " + url + "/$releasever/$basearch/test\n":                                           false,
		"[x]\nbaseurl=" + url + "/9/x86_64/stable\nenabled = 0\n[y]\nbaseurl=" + url + "/9/x86_64/stable\nenabled = 1\n": true,
		"#baseurl=" + url + "/9/x86_64/stable\n":                                                                         false,
	} {
		m := newMachine(t)
		m.write(dockerRepo, text)
		if got, err := rpmLists(m.host().Files, url); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// repositories is a package manager that installs what is planned.
type repositories struct {
	m         *machine
	planned   []host.PlannedPackage
	broken    error // what installing ends with, half-way
	needed    bool
	installed []host.PackageSet
	purged    []string
}

func (p *repositories) Fetch(context.Context, host.PackageSet) ([]host.PlannedPackage, error) {
	return p.planned, nil
}

func (p *repositories) Planned(context.Context, host.PackageSet) (left []host.PlannedPackage, err error) {
	for _, one := range p.planned {
		if there := p.m.packages[one.Name]; !there.Installed || there.Version != one.Version {
			left = append(left, one)
		}
	}
	return left, nil
}

func (p *repositories) InstallSet(_ context.Context, set host.PackageSet) error {
	p.installed = append(p.installed, set)
	for i, one := range p.planned {
		if p.broken != nil && i > 0 {
			return p.broken
		}
		p.m.install(one.Name, one.Version)
	}
	p.m.write("/usr/bin/dockerd", "")
	p.m.write("/var/lib/docker/engine-id", "x")
	p.m.write("/etc/group", "root:x:0:\ndocker:x:999:\n")
	p.m.units["docker.service"] = host.Unit{Name: "docker.service", Loaded: true, Active: "inactive", Enabled: "disabled"}
	return nil
}

func (p *repositories) Purge(_ context.Context, set host.PackageSet, between func() error) error {
	if p.needed {
		return fmt.Errorf("cannot: %w", host.ErrNeeded)
	}
	p.purged = set.Names
	for _, name := range set.Names {
		delete(p.m.packages, name)
	}
	delete(p.m.units, "docker.service")
	return between()
}

// manager starts and stops the machine's units.
type manager struct {
	m   *machine
	did []string
}

func (a *manager) to(what, name string, change func(*host.Unit)) error {
	a.did = append(a.did, what+" "+name)
	if unit, known := a.m.units[name]; known {
		change(&unit)
		a.m.units[name] = unit
	}
	return nil
}

func (a *manager) Start(_ context.Context, name string) error {
	return a.to("start", name, func(u *host.Unit) { u.Active, u.Sub = "active", "running" })
}

func (a *manager) Stop(_ context.Context, name string) error {
	return a.to("stop", name, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
}

func (a *manager) Restart(ctx context.Context, name string) error { return a.Start(ctx, name) }

func (a *manager) Enable(_ context.Context, name string) error {
	return a.to("enable", name, func(u *host.Unit) { u.Enabled = "enabled" })
}

func (a *manager) Disable(_ context.Context, name string) error {
	return a.to("disable", name, func(u *host.Unit) { u.Enabled = "disabled" })
}

func (a *manager) Reload(context.Context) error { a.did = append(a.did, "reload"); return nil }

// groups is a runner that knows groupdel.
type groups struct {
	m   *machine
	ran []string
}

func (g *groups) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	g.ran = append(g.ran, cmd.Path+" "+strings.Join(cmd.Args, " "))
	g.m.write("/etc/group", "root:x:0:\n")
	return host.Result{}, nil
}

func (g *groups) Wait(context.Context, host.Child) error { return nil }

// changing is the machine's host with what changes it.
func (m *machine) changing(p *repositories) (host.Host, *manager, *groups) {
	h := m.host()
	units, runner := &manager{m: m}, &groups{m: m}
	h.Manager, h.Runner, h.Repositories = units, runner, p
	return h, units, runner
}

var planned = []host.PlannedPackage{
	{Name: "docker-ce", Version: "5:27"}, {Name: "iptables", Version: "1.8"}, {Name: "libc6", Before: "2.36-9", Version: "2.36-10"},
}

// What is claimed before anything is installed is what an undo goes by, and what a run that goes on keeps to.
func TestWhatIsClaimedBeforeDockerIsInstalled(t *testing.T) {
	key := publicKey(t)
	const at = "/docker/linux/debian/"
	m := bareMachine(t)
	m.write("/etc/docker/daemon.json", "{}\n")
	m.write("/etc/group", "root:x:0:\n")
	m.install("libc6", "2.36-9")
	p := &repositories{m: m, planned: planned, broken: errors.New("killed")}
	h, units, _ := m.changing(p)
	r, err := settledDocker(t, m, RegisterRequest{Artifacts: "http://mirror"})
	if err != nil {
		t.Fatal(err)
	}
	r.deps.Host = h
	r.engine = r.deps.engine()
	r.from(t, mirror{at + "gpg": key, at + "dists/bookworm/InRelease": ""}, key)
	if err := r.resolveDocker(t.Context(), r.pins); err != nil {
		t.Fatal(err)
	}
	if seen, err := r.observeDocker(t.Context(), h.Reader); err != nil || seen.State != engine.Pending ||
		seen.Detail != "install docker-ce, docker-ce-cli, containerd.io from Docker's own repository" {
		t.Errorf("%+v, %v", seen, err)
	}
	var first, again *OwnedDocker
	step := func(ctx context.Context, tx *engine.Tx) error {
		err := r.installDocker(ctx, tx)
		record, readErr := readRecord(tx.Reader())
		if readErr != nil || !strings.Contains(m.read(dockerList), "signed-by="+dockerKeyring+"] http://mirror/docker/linux/debian bookworm stable") {
			t.Errorf("%v; the list has %q", readErr, m.read(dockerList))
		}
		first = record.Docker
		p.broken = nil
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(errors.New("waiting for the daemon"))
		_ = r.installDocker(ctx, tx) // the records are there; only what is left is done
		if record, readErr = readRecord(tx.Reader()); readErr != nil {
			t.Error(readErr)
		}
		again = record.Docker
		return err
	}
	if err := m.within(t.Context(), r, step); err == nil || err.Error() != "killed" {
		t.Fatal(err)
	}
	want := OwnedDocker{
		Run: "run-1", Source: "docker", Packages: map[string]string{"docker-ce": "5:27", "iptables": "1.8"},
		Replaced: map[string]string{"libc6": "2.36-9"}, Files: []string{dockerKeyring, dockerList},
		Folders: []string{"/etc/containerd", "/etc/cni", "/opt/containerd", "/var/lib/docker", "/var/lib/containerd", "/run/docker.sock", "/run/docker.pid"},
		Group:   true,
	}
	if diff := cmp.Diff(&want, first); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the run that goes on claims something else (-want +got):\n%s", diff)
	}
	if len(p.installed) == 0 || p.installed[0].Source != "" || p.installed[0].Dir != AptDir {
		t.Errorf("installed is %+v: one repository under two keys", p.installed)
	}
	// Nothing of it is left: the undo went by what was claimed first.
	for _, path := range []string{dockerList, dockerKeyring, "/etc/apt/keyrings", recordPath} {
		if _, err := os.Stat(filepath.Join(m.root, path)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if !slices.Equal(p.purged, []string{"docker-ce", "iptables"}) || m.read("/etc/docker/daemon.json") != "{}\n" || m.read("/etc/group") != "root:x:0:\n" {
		t.Errorf("purged %q; units: %q; the group file has %q", p.purged, units.did, m.read("/etc/group"))
	}
}

func (m *machine) read(path string) string {
	text, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// An undo takes Docker away unless somebody uses it, and where nobody can tell it stays.
func TestDockerIsTakenBack(t *testing.T) {
	owned := OwnedDocker{
		Run: "run-1", Source: "docker", Packages: map[string]string{"docker-ce": "5:27", "iptables": "1.8"}, Replaced: map[string]string{"libc6": "2.36-9"},
		Folders: []string{"/var/lib/docker", "/etc/docker"}, Group: true,
	}
	const data = "/var/lib/docker/"
	for _, test := range []struct {
		name    string
		change  func(*machine, *repositories)
		kept    string // "" when it goes
		folders bool   // they stay
		group   bool   // it stays
	}{
		{name: "unused", change: func(*machine, *repositories) {}},
		{name: "a container", change: func(m *machine, _ *repositories) { m.write(data+"containers/0123456789abcdef/x", "") },
			kept: "Docker (docker-ce, iptables): it holds the container 0123456789ab"},
		{name: "many volumes", change: func(m *machine, _ *repositories) {
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				m.write(data+"volumes/"+name+"/_data", "")
			}
		}, kept: "it holds the volume a, the volume b, the volume c and 2 more"},
		{name: "nobody can tell", change: func(m *machine, _ *repositories) { m.write("/etc/docker/daemon.json", `{"data-root":"/srv"}`) },
			kept: "cannot tell whether it holds anything"},
		{name: "another package needs it", change: func(_ *machine, p *repositories) { p.needed = true }, kept: "another package depends on it"},
		{name: "a package could only go forward", change: func(m *machine, _ *repositories) { m.install("libc6", "2.36-10") },
			kept: "libc6 (version 2.36-10; it was 2.36-9 before)"},
		{name: "somebody is in the group", change: func(m *machine, _ *repositories) { m.write("/etc/group", "docker:x:999:anna\n") }, group: true},
		{name: "only half of it was unpacked", change: func(m *machine, _ *repositories) {
			delete(m.packages, "docker-ce")
			delete(m.units, "docker.service")
			m.packages["iptables"] = host.Package{Name: "iptables", Version: "1.8", Partial: true}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := bareMachine(t)
			m.install("docker-ce", "5:27")
			m.install("iptables", "1.8")
			m.install("libc6", "2.36-9")
			m.runs("docker.service", noon)
			m.write("/etc/docker/key.json", "{}")
			m.write(data+"nuke-graph-directory.sh", "")
			m.write(AptDir+"/archives/docker-ce.deb", "")
			m.write("/etc/group", "root:x:0:\ndocker:x:999:\n")
			p := &repositories{m: m}
			test.change(m, p)
			h, units, runner := m.changing(p)
			raw, err := json.Marshal(owned)
			if err != nil {
				t.Fatal(err)
			}
			kept, err := dockerInstalled().Undo(t.Context(), h, raw)
			if err != nil || test.kept == "" != (len(kept) == 0) || !strings.Contains(strings.Join(kept, "|"), test.kept) {
				t.Errorf("kept %q, %v", kept, err)
			}
			stays := test.kept != "" && !strings.HasPrefix(test.kept, "libc6")
			if gone := len(p.purged) == 2; gone == stays {
				t.Errorf("purged %q", p.purged)
			}
			if _, err := os.Stat(filepath.Join(m.root, data)); os.IsNotExist(err) == stays {
				t.Errorf("its data: %v", err)
			}
			if _, err := os.Stat(filepath.Join(m.root, AptDir)); os.IsNotExist(err) == stays {
				t.Errorf("what it was installed from: %v", err)
			}
			if unit := m.units["docker.service"]; stays && unit.Active != "active" {
				t.Errorf("it is kept and does not run: %+v, %q", unit, units.did)
			}
			if removed := slices.Contains(runner.ran, "/usr/sbin/groupdel docker"); removed == (stays || test.group) {
				t.Errorf("ran %q", runner.ran)
			}
		})
	}
	stays := dockerInstalled().Stays([]byte(`{"files":["/etc/a","/etc/b"]}`))
	if !slices.Equal(stays, []string{"/etc/a", "/etc/b"}) {
		t.Errorf("with it stay %q", stays)
	}
}

// What an earlier operation has recorded is nothing that this one may take back.
func TestTheDockerOfAnEarlierOperation(t *testing.T) {
	m := bareMachine(t)
	m.write("/usr/bin/dockerd", "")
	m.write(recordPath, `{"schema":1,"program":"1","packages":{},"files":[],"started":{},"docker":{"run":"run-0","source":"docker","packages":{"docker-ce":"1"}}}`)
	r, err := settledDocker(t, m, RegisterRequest{})
	if err != nil || r.docker.due {
		t.Fatalf("it is due: %v", err)
	}
	if owned, err := r.ownDocker(m.host().Reader); owned != nil || err != nil {
		t.Errorf("%+v, %v", owned, err)
	}
	if seen, err := r.observeDocker(t.Context(), m.host().Reader); err != nil || seen.State != engine.OK {
		t.Errorf("%+v, %v", seen, err)
	}
	r.resumed = &engine.Operation{RunID: "run-0"} // and what it has begun itself is
	seen, err := r.observeDocker(t.Context(), m.host().Reader)
	if err != nil || seen.State != engine.Pending || !strings.Contains(seen.Detail, "docker-ce is not installed") {
		t.Errorf("%+v, %v", seen, err)
	}
}
