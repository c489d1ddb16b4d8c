package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const (
	dockerRepo   = "/etc/yum.repos.d/docker-ce.repo"
	dockerRPMKey = "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker-ce"
	distroKey    = "/etc/pki/rpm-gpg/RPM-GPG-KEY-distro"
)

// bareRPM boots a host of an rpm family without Docker, with the product on it and the distribution's own repository, whose
// key is in a file as it comes with the system and not yet in rpm's database.
func (s *site) bareRPM(system string) *lab.Machine {
	s.t.Helper()
	h := lab.Start(s.t, lab.Host{System: system})
	h.CopyIn("/usr/local/bin/anywhere", lab.Shared("anywhere"), 0o755)
	h.WriteFile(keyring, s.mirror.Keyring(), 0o644)
	for _, name := range []string{"/etc/simagent.json", "/etc/ecs/simagent.json"} { // the agents' own waiting is not what is tested
		h.WriteFile(name, []byte(`{"pace": 0.1}`), 0o644)
	}
	key, err := packages.Keyring(s.mirror.DistroKey)
	if err != nil {
		s.t.Fatal(err)
	}
	h.WriteFile(distroKey, key, 0o644)
	lists := "/etc/yum.repos.d/distro.repo"
	if lab.Systems[system].Manager == "zypper" {
		lists = "/etc/zypp/repos.d/distro.repo"
	}
	h.WriteFile(lists, fmt.Appendf(nil, "[distro]\nname=The distribution's own\nbaseurl=%s/%s\nenabled=1\ngpgcheck=1\n"+
		"gpgkey=file://%s\n", s.url, packages.DistroFolder, distroKey), 0o644)
	return h
}

// lookRPM is what must be as it was after a rollback or a refusal.
func lookRPM(h *lab.Machine) view {
	v := look(h)
	v.packages = h.MustShell("rpm -qa | sort")
	maps.DeleteFunc(v.tree, func(path, _ string) bool { return strings.HasPrefix(path, "/var/lib/rpm/") }) // a question makes files in it
	return v
}

// A host of an rpm family without Docker gets it from Docker's own repository, under the key that signs it and no other.
func TestDockerRPMFromItsOwnRepository(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true})
	s.mirror.AddDistroRPM(lab.Debs(), s.mirror.DistroKey, true, packages.Options{})
	s.mirror.AddDockerRPM(lab.Debs(), s.mirror.DockerKey, packages.Options{})
	h := s.bareRPM("rocky9")
	before := lookRPM(h)

	d := s.read(h.Run(s.register(s.token(1), "--dry-run")))
	if len(d.Steps) == 0 || d.Steps[0].ID != "docker.package" || d.Steps[0].Status != "planned" ||
		!strings.Contains(d.Steps[0].Detail, "docker-ce, docker-ce-cli, containerd.io") {
		t.Errorf("the dry run does not say what it would install: %+v", d)
	}
	before.same(t, lookRPM(h))

	d = s.mustRegister(h, s.register(s.token(1), "--docker-source", "docker"))
	if d.Result.DockerVersion == "" || len(d.ownWarnings()) > 1 || !strings.HasPrefix(d.ownWarnings()[0], "os.release: ") {
		t.Errorf("Docker is %q, with warnings %q", d.Result.DockerVersion, d.Warnings)
	}
	if got := rpmVersion(h, "docker-ce"); got != packages.DockerRPMVersion {
		t.Errorf("docker-ce is %q", got)
	}
	if u := h.Unit("docker.service"); u.Active != "active" || u.Enabled != "enabled" {
		t.Errorf("docker.service is %+v", u)
	}
	// The host goes on taking updates from there. Its own database has no key but those that it had.
	want := fmt.Sprintf("# Written by anywhere.\n[docker-ce-stable]\nname=Docker CE Stable\nbaseurl=%s/docker/linux/centos/9/x86_64/stable\n"+
		"enabled=1\ngpgcheck=1\ngpgkey=file://%s", s.url, dockerRPMKey)
	if got := h.MustShell("cat " + dockerRepo); got != want {
		t.Errorf("the list of sources has %q, want %q", got, want)
	}
	if got := h.MustShell("stat -c %a " + dockerRepo + " " + dockerRPMKey); got != "644\n644" {
		t.Errorf("modes are %q", got)
	}
	if keys := h.MustShell("rpm -qa 'gpg-pubkey*'"); keys != "" {
		t.Errorf("keys were imported: %s", keys)
	}
	if out := h.MustShell("dnf -q repoquery --disablerepo='*' --enablerepo=docker-ce-stable --qf '%{name}' 2>/dev/null"); out != "containerd.io\ndocker-ce\ndocker-ce-cli" {
		t.Errorf("dnf reads from it %q", out)
	}
	if out := h.MustShell("dnf -y reinstall docker-ce-cli 2>&1"); !strings.Contains(out, "Complete!") {
		t.Errorf("dnf is not happy with it: %s", out)
	}
	var r struct {
		Docker struct {
			Source   string
			Packages map[string]string
			Files    []string
			Replaced map[string]string
		}
	}
	text, err := h.ReadFile("/var/lib/anywhere/record.json")
	must(t, err)
	must(t, json.Unmarshal(text, &r))
	if r.Docker.Source != "docker" || r.Docker.Packages["docker-ce"] != packages.DockerRPMVersion ||
		r.Docker.Packages["iptables-nft"] == "" || len(r.Docker.Files) != 2 || len(r.Docker.Replaced) > 0 {
		t.Errorf("the record says %s", text)
	}
	if left := h.MustShell("ls -d /var/lib/anywhere/apt /var/lib/anywhere/rpm 2>/dev/null || :"); left != "" {
		t.Errorf("left: %s", left)
	}
	asked := s.asked("s3:")
	again := s.mustRegister(h, s.register(""))
	if again.Changed || s.asked("s3:") != asked {
		t.Errorf("again: changed is %v, and %d objects were downloaded", again.Changed, s.asked("s3:")-asked)
	}
}

// Whose key is not the pinned one is refused before anything is touched; so are packages that another key signs. RHEL, and
// what only calls itself docker, are told so.
func TestDockerRPMUnderAnotherKey(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true})
	s.mirror.AddDistroRPM(lab.Debs(), s.mirror.DistroKey, true, packages.Options{})
	other, err := packages.NewKey("Somebody", "else@example.com")
	must(t, err)
	s.mirror.AddDockerRPM(lab.Debs(), other, packages.Options{})
	h := s.bareRPM("rocky9")
	before := lookRPM(h)
	d := s.fails(t, h, s.register(s.token(1), "--docker-source", "docker"), 6, failure.ArtifactKey, "which is not Docker's",
		"060A61C51B558A7F742B77AAC52FEB6B621E9F35", "--keyring")
	if d.Changed || d.Error.RolledBack {
		t.Errorf("changed %v, rolled back %v", d.Changed, d.Error.RolledBack)
	}
	before.same(t, lookRPM(h))
	// The key file is the right one, and the packages are signed by another.
	ring, err := packages.Keyring(s.mirror.DockerKey)
	must(t, err)
	must(t, s.mirror.WriteDockerRPM("gpg", ring))
	d = s.fails(t, h, s.register(s.token(1)), 6, failure.ArtifactKey, "is not signed by the key that was to sign it", "NOT OK", "--keyring")
	if d.Changed {
		t.Error("it has changed something")
	}
	before.same(t, lookRPM(h))

	// What comes with it from the distribution is held to the distribution's key.
	h.WriteFile(distroKey, ring, 0o644)
	s.mirror.AddDockerRPM(lab.Debs(), s.mirror.DockerKey, packages.Options{})
	d = s.fails(t, h, s.register(s.token(1)), 6, failure.ArtifactKey, "is not signed by the key that was to sign it", "NOT OK", "rpm --import")
	if d.Changed {
		t.Error("it has changed something")
	}
	right, err := packages.Keyring(s.mirror.DistroKey)
	must(t, err)
	h.WriteFile(distroKey, right, 0o644)
	before.same(t, lookRPM(h))

	release := h.MustShell("cat /etc/os-release")
	h.WriteFile("/etc/os-release", []byte(lab.Systems["rhel9"].Release), 0o644)
	s.fails(t, h, s.register(s.token(1)), 3, failure.DockerAbsent, "Docker is not installed", "", "https://docs.docker.com/engine/install/")
	s.fails(t, h, s.register(s.token(1), "--docker-source", "docker"), 2, failure.Usage, "has no Docker from there", "", "--docker-source none")
	h.WriteFile("/etc/os-release", []byte(release+"\n"), 0o644)

	h.MustShell("dnf -y install docker >/dev/null 2>&1 && rpm -q podman-docker")
	trapped := h.Tree("/etc", "/usr/bin")
	d = s.read(h.Run(s.register(s.token(1))))
	if d.RC != 3 || d.Changed || !strings.Contains(d.Error.Message+d.Error.Evidence, "podman stands in for Docker") ||
		!strings.Contains(d.Error.Remedy, "dnf remove podman-docker && install Docker's own packages") {
		t.Errorf("the trap is not told: %+v %+v", d, d.Error)
	}
	if diff := lab.Diff(trapped, h.Tree("/etc", "/usr/bin")); len(diff) > 0 {
		t.Errorf("changed: %q", diff)
	}
}

// Amazon's own package; a failure that comes later takes it away again, with all it came with.
func TestDockerRPMFromTheDistribution(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true})
	s.mirror.AddDistroRPM(lab.Debs(), s.mirror.DistroKey, false, packages.Options{})
	bad := s.branch(t, newMirror(t, packages.Options{RPM: true}, packages.Options{RPM: true, PostinstFails: true}))
	h := s.bareRPM("amzn2023")
	h.WriteFile("/root/bad-keys.asc", bad.mirror.Keyring(), 0o644)
	before := lookRPM(h)
	s.fails(t, h, s.register(s.token(1), "--docker-source", "none"), 3, failure.DockerAbsent, "Docker is not installed", "", "--docker-source")
	s.fails(t, h, s.register(s.token(1), "--docker-source", "docker"), 2, failure.Usage, "has no Docker from there", "", "--docker-source")
	before.same(t, lookRPM(h))

	d := bad.fails(t, h, bad.register(bad.token(1), "--keyring", "/root/bad-keys.asc"), 7, failure.PackageInstall,
		"scriptlet failed", "this package fails on purpose", "then run the command again")
	if !d.Error.RolledBack {
		t.Errorf("kept: %q", d.Error.Kept)
	}
	before.same(t, lookRPM(h))

	// A lock without a version is a hold too.
	h.WriteFile("/etc/dnf/plugins/versionlock.list", []byte("amazon-ecs-init\n"), 0o644)
	s.fails(t, h, s.register(s.token(1)), 3, failure.PackageHeld, "amazon-ecs-init is held", "", "dnf versionlock delete amazon-ecs-init")
	h.MustShell("rm /etc/dnf/plugins/versionlock.list")
	before.same(t, lookRPM(h))

	d = s.mustRegister(h, s.register(s.token(1)))
	if rpmVersion(h, "docker") != packages.DockerRPMVersion || h.Exists(dockerRepo) || len(d.ownWarnings()) > 0 {
		t.Errorf("it is not the distribution's: %q", d.Warnings)
	}
	if u := h.Unit("docker.service"); u.Active != "active" || u.Enabled != "enabled" {
		t.Errorf("docker.service is %+v", u)
	}
	if keys := h.MustShell("rpm -qa 'gpg-pubkey*'"); keys != "" {
		t.Errorf("keys were imported: %s", keys)
	}
}

// Killed while rpm installs Docker, by itself or with the whole machine, the same command goes on, and rollback undoes.
func TestKilledWhileDockerRPMIsInstalled(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true})
	s.mirror.AddDistroRPM(lab.Debs(), s.mirror.DistroKey, true, packages.Options{})
	s.mirror.AddDockerRPM(lab.Debs(), s.mirror.DockerKey, packages.Options{PostinstWaits: true})
	h := s.bareRPM("rocky9")
	before := lookRPM(h)
	token := s.token(1)
	// interrupt begins a registration, and kills it at a moment of rpm's, or cuts the power.
	interrupt := func(power bool, at func() bool) {
		t.Helper()
		r := s.begin(h, s.register(token))
		await(t, "it comes to it", func() bool { return at() || r.over() })
		if r.over() {
			t.Fatalf("it ended before: %v", r.res)
		}
		if power {
			h.Kill()
			r.end()
			h.Boot()
			return
		}
		r.killed()
		h.MustShell("for p in $(pidof rpm); do kill -9 $p; done; rm -f " + dockerWaits)
	}
	unpacking := func() bool { // rpm gives a file its name when it is whole
		return h.MustShell("ls /usr/bin/containerd* /usr/bin/dockerd* /usr/sbin/dockerd* 2>/dev/null || :") != ""
	}
	script := func() bool { return h.Exists(dockerWaits) }
	for _, c := range []struct {
		name  string
		power bool
		at    func() bool
	}{{"killed while it unpacks", false, unpacking}, {"power cut in the script", true, script}} {
		interrupt(c.power, c.at)
		if notes := h.MustShell("ls /var/lib/anywhere/rpm"); !strings.Contains(notes, "docker-ce.json") {
			t.Errorf("%s: noted are %q", c.name, notes)
		}
		stop := releaseDocker(h)
		d := s.read(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json"}}))
		stop()
		if d.Failed {
			t.Fatalf("%s: rollback: %+v %+v", c.name, d, d.Error)
		}
		before.same(t, lookRPM(h))
		if left := h.MustShell("ls -d /var/lib/anywhere/rpm /var/lib/anywhere/apt 2>/dev/null; find /usr /etc -xdev -name '*;*'"); left != "" {
			t.Errorf("%s: left: %s", c.name, left)
		}
	}
	interrupt(true, unpacking)
	stop := releaseDocker(h)
	d := s.mustRegister(h, s.register(token))
	stop()
	if !d.Changed || rpmVersion(h, "docker-ce") != packages.DockerRPMVersion {
		t.Errorf("gone on: %+v", d)
	}
	if left := h.MustShell("ls -d /var/lib/anywhere/rpm /var/lib/anywhere/apt 2>/dev/null; find /usr /etc -xdev -name '*;*'; rpm -V docker-ce containerd.io"); left != "" {
		t.Errorf("left: %s", left)
	}
}
