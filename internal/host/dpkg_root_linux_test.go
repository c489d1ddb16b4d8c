//go:build root

package host

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// rooted runs the real dpkg on a throw-away root. It needs dpkg and dpkg-deb, and root: hence the build tag.
type rooted struct {
	Runner
	root string
}

func (r rooted) Run(ctx context.Context, cmd Cmd) (Result, error) {
	cmd.Args = append([]string{"--root=" + r.root, "--force-script-chrootless"}, cmd.Args...)
	return r.Runner.Run(ctx, cmd)
}

func newRealDpkg(t *testing.T) (*Dpkg, string) {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, dpkgStatus), "")
	put(t, filepath.Join(root, dpkgDir, "available"), "")
	for _, dir := range []string{"info", "updates", "triggers", "parts", "alternatives"} {
		if err := os.MkdirAll(filepath.Join(root, dpkgDir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d := NewDir(root, "/proc")
	return NewDpkg(d, d, rooted{NewRunner(), root}), root
}

// deb builds a package and returns its path on the host. files are by path; those below /etc are configuration files.
func deb(t *testing.T, root, name, version, more string, files map[string]string, scripts map[string]string) string {
	t.Helper()
	tree := t.TempDir()
	conffiles := ""
	for at, text := range files {
		put(t, filepath.Join(tree, at), text)
		if strings.HasPrefix(at, "/etc/") {
			conffiles += at + "\n"
		}
	}
	put(t, filepath.Join(tree, "DEBIAN/control"), fmt.Sprintf(
		"Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: test <test@example.com>\nDescription: x\n%s", name, version, more))
	if conffiles != "" {
		put(t, filepath.Join(tree, "DEBIAN/conffiles"), conffiles)
	}
	for script, text := range scripts {
		put(t, filepath.Join(tree, "DEBIAN", script), "#!/bin/sh\n"+text+"\n")
		if err := os.Chmod(filepath.Join(tree, "DEBIAN", script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := "/cache/" + name + "_" + version + ".deb"
	if err := os.MkdirAll(filepath.Join(root, "cache"), 0o755); err != nil {
		t.Fatal(err)
	}
	built := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, filepath.Join(root, file))
	if output, err := built.CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, output)
	}
	return file
}

func mustPackage(t *testing.T, d *Dpkg, want Package) {
	t.Helper()
	if got, err := d.Package(want.Name); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestInstallNewerAndOlderKeepsChangedConfiguration(t *testing.T) {
	d, root := newRealDpkg(t)
	config := filepath.Join(root, "etc/tool.conf")
	install := func(version string) {
		file := deb(t, root, "tool", version, "", map[string]string{"/etc/tool.conf": "of " + version, "/usr/bin/tool": version}, nil)
		if err := d.Install(t.Context(), file); err != nil {
			t.Fatalf("%s: %v\n%s", version, err, failure.Of(err).Evidence)
		}
		mustPackage(t, d, Package{Name: "tool", Version: version, Installed: true})
		check(t, "program", content(t, filepath.Join(root, "usr/bin/tool")), version)
	}
	install("1.10-1")
	install("1.11-1")
	check(t, "unchanged configuration", content(t, config), "of 1.11-1")
	put(t, config, "mine")
	install("1.9-1")
	check(t, "changed configuration", content(t, config), "mine")
}

func TestInstallNamesUnmetDependencies(t *testing.T) {
	d, root := newRealDpkg(t)
	file := deb(t, root, "agent", "1", "Depends: docker-ce (>= 17.12.0) | docker.io, iptables\n", map[string]string{"/usr/bin/agent": ""}, nil)
	err := d.Install(t.Context(), file)
	if !failure.Is(err, failure.PackageInstall) ||
		!strings.Contains(err.Error(), "docker-ce (>= 17.12.0) | docker.io; iptables") {
		t.Errorf("got %v\n%s", err, failure.Of(err).Evidence)
	}
	mustPackage(t, d, Package{Name: "agent", Version: "1", Partial: true})
	if err := d.Remove(t.Context(), "agent", true); err != nil {
		t.Errorf("what is left half-way can be removed: %v", err)
	}
	mustPackage(t, d, Package{Name: "agent"})
	check(t, "program", content(t, filepath.Join(root, "usr/bin/agent")), "(missing)")
}

func TestInstallShowsWhatAScriptSaid(t *testing.T) {
	d, root := newRealDpkg(t)
	file := deb(t, root, "agent", "1", "", nil, map[string]string{"postinst": "echo the disk is on fire >&2; exit 7"})
	err := d.Install(t.Context(), file)
	if !failure.Is(err, failure.PackageInstall) || !strings.Contains(failure.Of(err).Evidence, "the disk is on fire") {
		t.Errorf("got %v, evidence %q", err, failure.Of(err).Evidence)
	}
	if state, err := d.State(); err != nil || !state.Interrupted {
		t.Errorf("%+v, %v", state, err)
	}
	if err := d.Repair(t.Context()); !failure.Is(err, failure.PackagesBroken) || !strings.Contains(failure.Of(err).Evidence, "on fire") {
		t.Errorf("repairing runs the same script: %v", err)
	}
	postinst := filepath.Join(root, dpkgDir, "info/agent.postinst")
	if err := os.WriteFile(postinst, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Repair(t.Context()); err != nil {
		t.Error(err)
	}
	mustPackage(t, d, Package{Name: "agent", Version: "1", Installed: true})
}

// A package that was half unpacked is configured by nobody: its file repairs it, and repairing says no more than that.
func TestRepairLeavesWhatOnlyItsFileRepairs(t *testing.T) {
	d, root := newRealDpkg(t)
	for range 2 {
		file := deb(t, root, "agent", "1", "", map[string]string{"/usr/bin/agent": "x"}, nil)
		if err := d.Install(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		mustPackage(t, d, Package{Name: "agent", Version: "1", Installed: true})
		status := filepath.Join(root, dpkgStatus)
		broken := strings.Replace(content(t, status), "install ok installed", "install reinstreq half-installed", 1)
		put(t, status, broken) // as dpkg 1.21 leaves it when it is killed in the middle
		want := ManagerState{
			Family: "deb", Manager: "apt", Interrupted: true, Unfinished: []UnfinishedPackage{{"agent", "half-installed", true}},
		}
		if state, err := d.State(); err != nil || !cmp.Equal(state, want) {
			t.Errorf("%+v, %v", state, err)
		}
		if err := d.Repair(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if state, err := d.State(); err != nil || !state.Interrupted {
		t.Errorf("repairing has installed it anew: %+v, %v", state, err)
	}
}

func TestPurgeKeepsWhatIsNotThePackages(t *testing.T) {
	d, root := newRealDpkg(t)
	file := deb(t, root, "tool", "1", "", map[string]string{
		"/etc/tool/own.conf": "shipped", "/etc/tool/changed.conf": "shipped", "/etc/tool/linked.conf": "shipped",
		"/etc/tool/deleted.conf": "shipped", "/usr/bin/tool": "x",
	}, map[string]string{"postrm": `[ "$1" != purge ] || touch "$DPKG_ROOT/purged"`})
	if err := d.Install(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	etc := filepath.Join(root, "etc/tool")
	put(t, filepath.Join(etc, "changed.conf"), "mine")
	if err := os.Chmod(filepath.Join(etc, "changed.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(etc, "changed.conf"), 12, 34); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(etc, "deleted.conf"))
	os.Remove(filepath.Join(etc, "linked.conf"))
	put(t, filepath.Join(root, "srv/tool.conf"), "mine too")
	link(t, "/srv/tool.conf", filepath.Join(etc, "linked.conf"))
	put(t, filepath.Join(etc, "other.conf"), "not on the list")

	if err := d.Remove(t.Context(), "tool", false); err != nil {
		t.Fatal(err)
	}
	mustPackage(t, d, Package{Name: "tool", Residual: true})
	check(t, "removing leaves configuration", content(t, filepath.Join(etc, "own.conf")), "shipped")
	check(t, "program", content(t, filepath.Join(root, "usr/bin/tool")), "(missing)")

	for range 2 { // the second time there is nothing to do
		if err := d.Remove(t.Context(), "tool", true); err != nil {
			t.Fatal(err)
		}
	}
	mustPackage(t, d, Package{Name: "tool"})
	check(t, "folder", names(t, etc), "changed.conf linked.conf other.conf")
	check(t, "changed file", content(t, filepath.Join(etc, "changed.conf")), "mine")
	info, err := os.Stat(filepath.Join(etc, "changed.conf"))
	if err != nil || info.Mode() != 0o600 || ownerOf(info) != (Owner{12, 34}) {
		t.Errorf("%v, %v", info, err)
	}
	check(t, "target of the link", content(t, filepath.Join(root, "srv/tool.conf")), "mine too")
	if info, err := os.Lstat(filepath.Join(etc, "linked.conf")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link: %v, %v", info, err)
	}
	check(t, "postrm ran", content(t, filepath.Join(root, "purged")), "")
}

func TestRemoveTakesNothingElse(t *testing.T) {
	d, root := newRealDpkg(t)
	for _, file := range []string{
		deb(t, root, "docker.io", "1", "", nil, nil), deb(t, root, "agent", "1", "Depends: docker.io\n", nil, nil),
	} {
		if err := d.Install(t.Context(), file); err != nil {
			t.Fatal(err)
		}
	}
	err := d.Remove(t.Context(), "docker.io", true)
	if !failure.Is(err, failure.PackageInstall) || !strings.Contains(failure.Of(err).Evidence, "agent depends on docker.io") {
		t.Errorf("got %v", err)
	}
	mustPackage(t, d, Package{Name: "docker.io", Version: "1", Installed: true})
	mustPackage(t, d, Package{Name: "agent", Version: "1", Installed: true})
}

func TestInstallMeetsALock(t *testing.T) {
	for _, name := range []string{"lock-frontend", "lock"} {
		t.Run(name, func(t *testing.T) {
			d, root := newRealDpkg(t)
			lock := filepath.Join(root, dpkgDir, name)
			put(t, lock, "")
			lockedByCopy(t, lock)
			err := d.Install(t.Context(), deb(t, root, "tool", "1", "", nil, nil))
			if !failure.Is(err, failure.PackagesLocked) || !strings.Contains(failure.Of(err).Evidence, "lock") {
				t.Errorf("the real dpkg says of it: %v, evidence %q", err, failure.Of(err).Evidence)
			}
		})
	}
}
