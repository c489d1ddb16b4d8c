package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
func (s *site) bareRPM(system string, binds ...string) *lab.Machine {
	s.t.Helper()
	system, suite, _ := strings.Cut(system, " on ")
	h := lab.Start(s.t, lab.Host{System: system, Suite: suite, Binds: binds})
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
	if lab.Systems[system].Manager == "zypper" { // SUSE's installer imports its key
		lists = "/etc/zypp/repos.d/distro.repo"
		h.MustShell("rpm --import " + distroKey)
		// Some package is on every host, and zypper relies on that.
		const one = packages.DistroFolder + "/Packages/container-selinux-" + packages.DockerRPMVersion + ".x86_64.rpm"
		h.CopyIn("/root/one.rpm", filepath.Join(s.mirror.Dir, one), 0o644)
		h.MustShell("rpm -i /root/one.rpm")
	}
	h.WriteFile(lists, fmt.Appendf(nil, "[distro]\nname=The distribution's own\nbaseurl=%s/%s\nenabled=1\ngpgcheck=1\n"+
		"repo_gpgcheck=0\npkg_gpgcheck=1\ngpgkey=file://%s\n", s.url, packages.DistroFolder, distroKey), 0o644)
	return h
}

// lookRPM is what must be as it was after a rollback or a refusal.
func lookRPM(h *lab.Machine) view {
	v := look(h)
	v.packages = h.MustShell("rpm -qa | sort")
	// A question makes files in rpm's database; the others are traces of a front end that has only downloaded.
	traces := []string{"/var/lib/rpm/", "/var/lib/dnf", "/var/log/dnf", "/var/log/hawkey.log", "/var/log/zypp", "/var/lib/zypp", "/var/cache/zypp",
		"/var/lib/YaST2"}
	maps.DeleteFunc(v.tree, func(path, _ string) bool {
		return slices.ContainsFunc(traces, func(trace string) bool { return strings.HasPrefix(path, trace) })
	})
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

// Killed while rpm unpacks Docker, a rollback leaves nothing of it; and when the power fails in a script of it, the same command
// goes on.
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
	interrupt(false, unpacking)
	if notes := h.MustShell("ls /var/lib/anywhere/rpm"); !strings.Contains(notes, "docker-ce.json") {
		t.Errorf("noted are %q", notes)
	}
	d := s.read(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json"}}))
	if d.Failed {
		t.Fatalf("rollback: %+v %+v", d, d.Error)
	}
	before.same(t, lookRPM(h))
	const rest = "ls -d /var/lib/anywhere/rpm /var/lib/anywhere/apt 2>/dev/null; find /usr /etc -xdev -name '*;*'"
	if left := h.MustShell(rest); left != "" {
		t.Errorf("undone, and there is %s", left)
	}

	interrupt(true, func() bool { return h.Exists(dockerWaits) })
	stop := releaseDocker(h)
	d = s.mustRegister(h, s.register(token))
	stop()
	if !d.Changed || rpmVersion(h, "docker-ce") != packages.DockerRPMVersion {
		t.Errorf("gone on: %+v", d)
	}
	if left := h.MustShell(rest + "; rpm -V docker-ce containerd.io"); left != "" {
		t.Errorf("gone on, and there is %s", left)
	}
}
