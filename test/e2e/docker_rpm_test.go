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
	if d.Result.DockerVersion == "" || len(d.ownWarnings()) > 0 {
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
	if out := h.MustShell("dnf -q repoquery --disablerepo='*' --enablerepo=docker-ce-stable --qf '%{name}' 2>&1"); out != "containerd.io\ndocker-ce\ndocker-ce-cli" {
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

// Whose key is not the pinned one is refused before anything is touched; so are packages that another key signs.
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
}
