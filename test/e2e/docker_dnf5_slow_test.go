//go:build slow

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// Docker from its own repository by way of the real dnf5, which looks at no signature when it only downloads: ours is the
// look. What it prints when it gives up is understood.
func TestDockerRPMByDnf5(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true})
	other, err := packages.NewKey("Somebody", "else@example.com")
	must(t, err)
	debs := t.TempDir() // sid's; what is not among them has nothing to be linked with
	for _, from := range []string{lab.DebsOf("sid"), lab.Debs()} {
		found, err := filepath.Glob(filepath.Join(from, "*.deb"))
		must(t, err)
		for _, file := range found {
			name, _, _ := strings.Cut(filepath.Base(file), "_")
			if there, err := filepath.Glob(filepath.Join(debs, name+"_*")); err != nil || len(there) == 0 {
				must(t, os.Symlink(file, filepath.Join(debs, filepath.Base(file))))
			}
		}
	}
	publish := func(distro, docker *packages.Key) { // Fedora's folder has what that of CentOS has
		s.mirror.AddDistroRPM(debs, distro, true, packages.Options{})
		s.mirror.AddDockerRPM(debs, docker, packages.Options{})
		folder := filepath.Join(s.mirror.Dir, "docker", "linux")
		must(t, os.RemoveAll(filepath.Join(folder, "fedora")))
		must(t, os.CopyFS(filepath.Join(folder, "fedora"), os.DirFS(filepath.Join(folder, "centos"))))
		must(t, os.Rename(filepath.Join(folder, "fedora", "9"), filepath.Join(folder, "fedora", "42")))
		ring, err := packages.Keyring(s.mirror.DockerKey)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(folder, "fedora", "gpg"), ring, 0o644))
	}
	publish(s.mirror.DistroKey, other)
	h := s.bareRPM("fedora42 on sid")
	before := lookRPM(h)
	register := func() lab.Cmd { return s.register(s.token(1), "--docker-source", "docker") }

	d := s.fails(t, h, register(), 6, failure.ArtifactKey, "is not signed by the key that was to sign it", "NOT OK", "--keyring")
	if d.Changed {
		t.Error("it has changed something")
	}
	before.same(t, lookRPM(h))
	publish(other, s.mirror.DockerKey)
	s.fails(t, h, register(), 6, failure.ArtifactKey, "is not signed by the key that was to sign it", "NOT OK", "rpm --import")
	before.same(t, lookRPM(h))
	list, err := h.ReadFile("/etc/yum.repos.d/distro.repo")
	must(t, err)
	h.WriteFile("/etc/yum.repos.d/distro.repo", []byte(strings.Replace(string(list), s.url, "http://"+lab.Address+":1", 1)), 0o644)
	s.fails(t, h, register(), 5, failure.Network, "dnf5: Curl error", "", "")
	h.WriteFile("/etc/yum.repos.d/distro.repo", list, 0o644)
	before.same(t, lookRPM(h))

	publish(s.mirror.DistroKey, s.mirror.DockerKey)
	s.mustRegister(h, register())
	if rpmVersion(h, "docker-ce") != packages.DockerRPMVersion {
		t.Errorf("docker-ce is %q", rpmVersion(h, "docker-ce"))
	}
	if keys := h.MustShell("rpm -qa 'gpg-pubkey*'"); keys != "" {
		t.Errorf("keys were imported: %s", keys)
	}
	if u := h.Unit("docker.service"); u.Active != "active" || u.Enabled != "enabled" {
		t.Errorf("docker.service is %+v", u)
	}

	// What dnf5 writes into its list is understood.
	h.MustShell("dnf5 -y versionlock add amazon-ecs-init")
	s.publish(nil, &packages.Options{Version: nextECS, RPM: true})
	up := s.upgraded(h.Run(s.upgrade()))
	if up.RC != 3 || up.Error == nil || up.Error.Code != string(failure.PackageHeld) || !strings.Contains(up.Error.Remedy, "dnf versionlock delete amazon-ecs-init") {
		t.Errorf("a lock holds nothing: %+v %+v", up, up.Error)
	}
	h.MustShell("dnf5 -y versionlock delete amazon-ecs-init")
	if up := s.upgraded(h.Run(s.upgrade())); up.RC != 0 || up.Result.ECSAgent.Installed != nextECS {
		t.Errorf("a list with nothing in it holds the package: %+v %+v", up, up.Error)
	}
}
