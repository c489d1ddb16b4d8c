//go:build slow

package e2e

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// Whose key is not the pinned one is refused before anything is touched; so are packages that another key signs. RHEL, and
// what only calls itself docker, are told so.
func TestDockerRPMUnderAnotherKey(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true})
	s.mirror.AddDistroRPM(lab.Debs(), s.mirror.DistroKey, true, packages.Options{})
	other, err := packages.NewKey("Somebody", "else@example.com")
	must(t, err)
	s.mirror.AddDockerRPM(lab.Debs(), other, packages.Options{})
	h := s.bareRPM("rocky9", s.mirror.Dir+":/srv/mirror")
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

	// From a folder it comes too; what the host has no way to afterwards does not stay in its list of sources.
	h.MustShell("dnf -y remove podman-docker >/dev/null 2>&1")
	s.mustRegister(h, s.register(s.token(1), "--artifacts", "/srv/mirror"))
	if rpmVersion(h, "docker-ce") != packages.DockerRPMVersion || h.Exists(dockerRepo) || h.Exists(dockerRPMKey) {
		t.Error("it is not installed from the folder, or the folder is in the host's list of sources")
	}
}

// own is a system whose own package Docker comes from.
type own struct{ unit, lists, locks, lock, unlock, look string }

var distroSystems = map[string]own{
	"amzn2023": {
		"ecs.service", "/etc/yum.repos.d/distro.repo", "/etc/dnf/plugins/versionlock.list", "amazon-ecs-init\n",
		"dnf versionlock delete", "dnf makecache",
	},
	"sles15": {
		"amazon-ecs.service", "/etc/zypp/repos.d/distro.repo", "/etc/zypp/locks",
		"type: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: amazon-ecs-init\n",
		"zypper removelock", "zypper refresh",
	},
}

// Amazon's own package, and SUSE's; a failure that comes later takes it away again, with all it came with.
func TestDockerRPMFromTheDistribution(t *testing.T) {
	for system, own := range distroSystems {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			dockerFromTheDistribution(t, system, own)
		})
	}
}

func dockerFromTheDistribution(t *testing.T, system string, own own) {
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true, Unit: own.unit})
	s.mirror.AddDistroRPM(lab.Debs(), s.mirror.DistroKey, false, packages.Options{})
	bad := s.branch(t, newMirror(t, packages.Options{RPM: true}, packages.Options{RPM: true, PostinstFails: true, Unit: own.unit}))
	h := s.bareRPM(system)
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

	// Where the distribution cannot be reached, it is said before anything is touched how Docker gets here all the same.
	list, err := h.ReadFile(own.lists)
	must(t, err)
	h.WriteFile(own.lists, []byte(strings.Replace(string(list), s.url, "http://"+lab.Address+":1", 1)), 0o644)
	d = s.fails(t, h, s.register(s.token(1)), 5, failure.Network, "cannot download docker, iptables: ", "", own.look)
	if d.Changed {
		t.Error("it has changed something")
	}
	h.WriteFile(own.lists, list, 0o644)
	before.same(t, lookRPM(h))

	// A lock without a version is a hold too.
	h.WriteFile(own.locks, []byte(own.lock), 0o644)
	s.fails(t, h, s.register(s.token(1)), 3, failure.PackageHeld, "amazon-ecs-init is held", "", own.unlock+" amazon-ecs-init")
	must(t, h.RemoveFile(own.locks))
	before.same(t, lookRPM(h))

	keys := h.MustShell("rpm -qa 'gpg-pubkey*'")
	d = s.mustRegister(h, s.register(s.token(1)))
	if now := h.MustShell("rpm -qa 'gpg-pubkey*'"); now != keys {
		t.Errorf("keys were imported: %s", now)
	}
	if rpmVersion(h, "docker") != packages.DockerRPMVersion || h.Exists(dockerRepo) || len(d.ownWarnings()) > 0 {
		t.Errorf("it is not the distribution's: %q", d.Warnings)
	}
	if u := h.Unit("docker.service"); u.Active != "active" || u.Enabled != "enabled" {
		t.Errorf("docker.service is %+v", u)
	}
}
