package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const (
	dockerList    = "/etc/apt/sources.list.d/docker.list"
	dockerKeyring = "/etc/apt/keyrings/docker.asc"
	dockerWaits   = "/run/docker-ce.postinst" // there while the postinst of docker-ce with PostinstWaits waits
)

// bare boots a Debian 12 without Docker, with the product on it.
func (s *site) bare() *lab.Machine {
	s.t.Helper()
	h := lab.Start(s.t, lab.Host{})
	h.CopyIn("/usr/local/bin/anywhere", lab.Shared("anywhere"), 0o755)
	h.WriteFile(keyring, s.mirror.Keyring(), 0o644)
	return h
}

// version is the installed version of a package, or "".
func version(h *lab.Machine, name string) string {
	return h.MustShell("dpkg-query -W -f '${db:Status-Status} ${Version}' " + name + " 2>/dev/null | sed -n 's/^installed //p'")
}

// A host without Docker gets it from Docker's own repository, under the key that signs it and no other.
func TestDockerFromItsOwnRepository(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	s.mirror.AddDocker(lab.Debs(), s.mirror.DockerKey, packages.Options{})
	h := s.bare()
	before := look(h)

	d := s.read(h.Run(s.register(s.token(1), "--dry-run")))
	if len(d.Steps) == 0 || d.Steps[0].ID != "docker.package" || d.Steps[0].Status != "planned" ||
		!strings.Contains(d.Steps[0].Detail, "docker-ce, docker-ce-cli, containerd.io") {
		t.Errorf("the dry run does not say what it would install: %+v", d.Steps)
	}
	before.same(t, look(h))
	if n := s.asked("s3:"); n != 0 {
		t.Errorf("the dry run has downloaded %d objects", n)
	}

	d = s.mustRegister(h, s.register(s.token(1)))
	if d.Result.DockerVersion == "" || len(d.ownWarnings()) > 0 {
		t.Errorf("Docker is %q, with warnings %q", d.Result.DockerVersion, d.Warnings)
	}
	if got := version(h, "docker-ce"); got != packages.DockerVersion {
		t.Errorf("docker-ce is %q", got)
	}
	if u := h.Unit("docker.service"); u.Active != "active" || u.Enabled != "enabled" {
		t.Errorf("docker.service is %+v", u)
	}
	// The host goes on taking updates from there, and trusts that key for it alone.
	want := fmt.Sprintf("deb [arch=amd64 signed-by=%s] %s/docker/linux/debian bookworm stable", dockerKeyring, s.url)
	if got := h.MustShell("cat " + dockerList); got != want {
		t.Errorf("the list of sources has %q, want %q", got, want)
	}
	if got := h.MustShell("stat -c %a " + dockerList + " " + dockerKeyring); got != "644\n644" {
		t.Errorf("modes are %q", got)
	}
	if out := h.MustShell("apt-get update 2>&1 && apt-cache policy docker-ce"); strings.Contains(out, "W:") ||
		!strings.Contains(out, s.url+"/docker/linux/debian") || !strings.Contains(out, "Installed: "+packages.DockerVersion) {
		t.Errorf("apt is not happy with it: %s", out)
	}
	var r struct {
		Packages map[string]any
		Docker   struct {
			Source          string
			Packages        map[string]string
			Files           []string
			Replaced        map[string]string
			Folders, Unused []string
		}
	}
	text, err := h.ReadFile("/var/lib/anywhere/record.json")
	must(t, err)
	must(t, json.Unmarshal(text, &r))
	if r.Docker.Source != "docker" || r.Docker.Packages["docker-ce"] != packages.DockerVersion ||
		r.Docker.Packages["iptables"] == "" || len(r.Docker.Files) != 2 || len(r.Docker.Replaced) > 0 || r.Packages["docker-ce"] != nil {
		t.Errorf("the record says %s", text)
	}
	if h.Exists("/var/lib/anywhere/apt") {
		t.Error("what Docker was installed from is still there")
	}

	asked := s.asked("s3:")
	again := s.mustRegister(h, s.register(""))
	if again.Changed || s.asked("s3:") != asked {
		t.Errorf("again: changed is %v, and %d objects were downloaded", again.Changed, s.asked("s3:")-asked)
	}
}

// Whose key is not the pinned one is refused before anything is touched, also where another source would do.
func TestDockerUnderAnotherKey(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	other, err := packages.NewKey("Somebody", "else@example.com")
	must(t, err)
	s.mirror.AddDocker(lab.Debs(), other, packages.Options{})
	h := s.bare()
	before := look(h)
	for _, source := range []string{"auto", "docker"} {
		d := s.fails(t, h, s.register(s.token(1), "--docker-source", source), 6, failure.ArtifactKey, "which is not Docker's",
			"9DC858229FC7DD38854AE2D88D81803C0EBFCD88", "--keyring")
		if d.Changed || d.Error.RolledBack {
			t.Errorf("changed %v, rolled back %v", d.Changed, d.Error.RolledBack)
		}
		before.same(t, look(h))
	}
	// The key is right, and the list is signed by another: apt holds it to the key. No package is touched by then.
	s.mirror.AddDocker(lab.Debs(), s.mirror.DockerKey, packages.Options{})
	h.MustShell("rm -rf /var/lib/anywhere/packages")
	swapped := s.branch(t, s.mirror)
	resign(t, s.mirror, other)
	d := swapped.fails(t, h, swapped.register(swapped.token(1)), 6, failure.ArtifactKey, "apt-get", "NO_PUBKEY", "--keyring")
	if d.Changed {
		t.Error("it has changed something")
	}
	before.same(t, look(h))
}

// resign signs Docker's list anew with another key, and leaves the key file alone.
func resign(t *testing.T, m *packages.Mirror, key *packages.Key) {
	t.Helper()
	gpg, err := m.ReadDocker("gpg")
	must(t, err)
	m.AddDocker(lab.Debs(), key, packages.Options{})
	must(t, m.WriteDocker("gpg", gpg))
}

// Where Docker's repository cannot be had, the distribution's package does; none wants Docker to be there.
func TestDockerFromTheDistribution(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	bad := s.branch(t, newMirror(t, packages.Options{}, packages.Options{PostinstFails: true}))
	h := s.bare()
	h.WriteFile("/root/bad-keys.asc", bad.mirror.Keyring(), 0o644)
	before := look(h)
	s.fails(t, h, s.register(s.token(1), "--docker-source", "none"), 3, failure.DockerAbsent, "Docker is not installed", "",
		"--docker-source")
	before.same(t, look(h))
	s.fails(t, h, s.register(s.token(1), "--docker-source", "docker"), 5, failure.ArtifactMissing, "docker/linux/debian", "404",
		"--docker-source distro")
	before.same(t, look(h))

	// A failure that comes later takes Docker away again, with all it came with.
	d := bad.fails(t, h, bad.register(bad.token(1), "--keyring", "/root/bad-keys.asc"), 7, failure.PackageInstall,
		"post-installation script", "this package fails on purpose", "then run the command again")
	if !d.Error.RolledBack {
		t.Errorf("kept: %q", d.Error.Kept)
	}
	before.same(t, look(h))

	d = s.mustRegister(h, s.register(s.token(1)))
	if version(h, "docker.io") == "" || version(h, "docker-ce") != "" || h.Exists(dockerList) {
		t.Error("it is not the distribution's")
	}
	if own := d.ownWarnings(); len(own) != 1 || !strings.Contains(own[0], "Debian's package docker.io") {
		t.Errorf("the warnings do not say where Docker comes from: %q", d.Warnings)
	}
}

// Docker goes again with a registration that failed, but not what somebody has put into it.
func TestDockerIsTakenBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{PostinstFails: true, PostinstWaits: true})
	s.mirror.AddDocker(lab.Debs(), s.mirror.DockerKey, packages.Options{})
	h := s.bare()
	before := look(h)
	r := s.begin(h, s.register(s.token(1)))
	r.at(ecsWaits)
	stop := release(h, ecsWaits) // the undo finishes what dpkg was interrupted in, and so comes here once more
	d := s.read(r.end())
	stop()
	if d.RC != 7 || d.Error == nil || !d.Error.RolledBack {
		t.Errorf("it was not rolled back: %+v %+v", d, d.Error)
	}
	before.same(t, look(h))

	r = s.begin(h, s.register(s.token(1)))
	r.at(ecsWaits)
	h.MustShell("docker volume create precious")
	stop = release(h, ecsWaits)
	d = s.read(r.end())
	stop()
	if d.RC != 8 || d.Error == nil || d.Error.RolledBack || !strings.Contains(strings.Join(d.Error.Kept, "\n"), "volume precious") {
		t.Errorf("what is kept is not told: %+v %+v", d, d.Error)
	}
	if got := h.MustShell("docker volume ls -q"); got != "precious" {
		t.Errorf("the volumes are %q", got)
	}
	if !h.Exists(dockerList) || !h.Exists(dockerKeyring) || h.Exists("/etc/amazon") || h.Unit("docker.service").Active != "active" {
		t.Errorf("Docker is kept without its repository, or more than Docker is")
	}
}

// Killed while packages are being installed, by itself or with the whole machine, the same command goes on, and rollback
// undoes.
func TestKilledWhileDockerIsInstalled(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	s.mirror.AddDocker(lab.Debs(), s.mirror.DockerKey, packages.Options{PostinstWaits: true})
	unpacking := func(h *lab.Machine) func() bool {
		return func() bool { return h.Exists("/usr/sbin/dockerd") || h.Exists("/usr/sbin/dockerd.dpkg-new") }
	}
	for _, c := range []struct {
		name  string
		at    func(h *lab.Machine) func() bool
		power bool // cut, and not only anywhere killed
	}{
		{"killed in a postinst", func(h *lab.Machine) func() bool { return func() bool { return h.Exists(dockerWaits) } }, false},
		{"power cut in a postinst", func(h *lab.Machine) func() bool { return func() bool { return h.Exists(dockerWaits) } }, true},
		{"power cut while it is unpacked", unpacking, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			h := s.bare()
			before := look(h)
			token := s.token(1)
			interrupt := func() {
				t.Helper()
				r := s.begin(h, s.register(token))
				at := c.at(h)
				await(t, "it comes to it", func() bool { return at() || r.over() })
				if r.over() {
					t.Fatalf("it ended before: %v", r.res)
				}
				if c.power {
					h.Kill()
					r.end()
					h.Boot()
					return
				}
				_ = syscall.Kill(r.pid, syscall.SIGKILL)
				r.end()
			}
			stop := func() {}
			defer func() { stop() }()

			interrupt()
			stop = releaseDocker(h)
			d := s.read(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json"}}))
			if d.Failed {
				t.Fatalf("rollback: %+v %+v", d, d.Error)
			}
			stop()
			stop = func() {}
			before.same(t, look(h))

			interrupt()
			stop = releaseDocker(h)
			s.mustRegister(h, s.register(token))
			if got := version(h, "docker-ce"); got != packages.DockerVersion {
				t.Errorf("docker-ce is %q", got)
			}
			if got := h.MustShell("dpkg --audit"); got != "" {
				t.Errorf("dpkg is not well: %s", got)
			}
		})
	}
}

// ownWarnings are those that are not about the lab's hosts being containers.
func (d document) ownWarnings() []string {
	return slices.DeleteFunc(slices.Clone(d.Warnings), func(w string) bool {
		return strings.HasPrefix(w, "os.container: ") || strings.HasPrefix(w, "cgroup.memory: ")
	})
}

// releaseDocker lets the postinst of docker-ce go on, until the returned function is called.
func releaseDocker(h *lab.Machine) (stop func()) { return release(h, dockerWaits) }
