//go:build root

package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// inNamespace is set in the copy of the test binary that may mount.
const inNamespace = "ANYWHERE_TEST_IN_NAMESPACE"

// isolated runs the rest of the test in a mount namespace of its own: in a copy of this binary. It reports
// false to the one that only starts the copy.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) == t.Name() {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	copied.Env = append(os.Environ(), inNamespace+"="+t.Name())
	copied.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	output, err := copied.CombinedOutput()
	if err != nil {
		t.Fatalf("in a namespace (it needs root): %v\n%s", err, output)
	}
	return false
}

func mountAt(t *testing.T, source, at, kind string, flags uintptr, data string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(source, at, kind, flags, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) })
}

func TestRemoveAllStopsAtMounts(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, test := range []struct {
		name, at, remove string
		mount            func(t *testing.T, root, at string)
	}{
		{"file system below", "tree/sub/mnt", "/tree", func(t *testing.T, _, at string) {
			mountAt(t, "none", at, "tmpfs", 0, "")
		}},
		{"file system at the path itself", "tree", "/tree", func(t *testing.T, _, at string) {
			mountAt(t, "none", at, "tmpfs", 0, "")
		}},
		{"bind mount of the same file system", "tree/sub/mnt", "/tree/sub", func(t *testing.T, root, at string) {
			mountAt(t, filepath.Join(root, "dear"), at, "", syscall.MS_BIND, "")
		}},
		{"bind mount on a file", "tree/file", "/tree/file", func(t *testing.T, root, at string) {
			put(t, at, "below")
			if err := syscall.Mount(filepath.Join(root, "dear/x"), at, "", syscall.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) })
		}},
		{"name with blanks", "tree/a b\tc\\d", "/tree", func(t *testing.T, root, at string) {
			mountAt(t, filepath.Join(root, "dear"), at, "", syscall.MS_BIND, "")
		}},
		{"root behind a link", "tree/mnt", "/tree", func(t *testing.T, root, at string) {
			mountAt(t, filepath.Join(root, "dear"), at, "", syscall.MS_BIND, "")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			put(t, filepath.Join(root, "dear/x"), "dear")
			put(t, filepath.Join(root, "tree/first"), "1")
			test.mount(t, root, filepath.Join(root, test.at))
			dear := filepath.Join(root, test.at)
			if info, err := os.Stat(dear); err == nil && info.IsDir() {
				dear = filepath.Join(dear, "mounted")
				put(t, dear, "dear")
			}
			at := root
			if test.name == "root behind a link" {
				at = filepath.Join(t.TempDir(), "root")
				link(t, root, at)
			}
			err := NewDir(at).RemoveAll(test.remove)
			if !failure.Is(err, failure.UnsafePath) || !strings.Contains(err.Error(), "mounted") {
				t.Errorf("got %v", err)
			}
			if asked := NewDir(at).Removable(test.remove); asked == nil || asked.Error() != err.Error() {
				t.Errorf("asked first: %v", asked)
			}
			if evidence := failure.Of(err).Evidence; !strings.Contains(evidence, filepath.Join(root, test.at)) {
				t.Errorf("the evidence does not name the mount: %q", evidence)
			}
			check(t, "content below the mount", content(t, dear), "dear")
			if test.at != "tree" {
				check(t, "nothing is removed before", content(t, filepath.Join(root, "tree/first")), "1")
			}
		})
	}
	t.Run("a mount beside is no obstacle", func(t *testing.T) {
		d, root := newDir(t)
		mountAt(t, "none", filepath.Join(root, "tree-2"), "tmpfs", 0, "")
		put(t, filepath.Join(root, "tree/x"), "1")
		if err := d.RemoveAll("/tree"); err != nil {
			t.Error(err)
		}
	})
}

func TestFullAndReadOnlyFileSystems(t *testing.T) {
	if !isolated(t) {
		return
	}
	d, root := newDir(t)
	mountAt(t, "none", filepath.Join(root, "small"), "tmpfs", 0, "size=64k")
	put(t, filepath.Join(root, "small/x"), "old")
	err := d.WriteFile("/small/x", strings.NewReader(strings.Repeat("x", 1<<20)), 0o644, me)
	if !failure.Is(err, failure.DiskFull) || !strings.Contains(err.Error(), "/small/x") {
		t.Errorf("full: %v", err)
	}
	if evidence := failure.Of(err).Evidence; !strings.Contains(evidence, filepath.Join(root, "small")+" (tmpfs") {
		t.Errorf("full: the evidence does not name the mount: %q", evidence)
	}
	check(t, "content", content(t, filepath.Join(root, "small/x")), "old")
	check(t, "folder", names(t, filepath.Join(root, "small")), "x")
	if free, err := d.Space("/small/not/yet"); err != nil || free == 0 || free > 64<<10 {
		t.Errorf("space %d, %v", free, err)
	}

	if err := syscall.Mount("none", filepath.Join(root, "small"), "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"write":  d.WriteFile("/small/x", strings.NewReader("y"), 0o644, me),
		"mkdir":  d.Mkdir("/small/new", 0o755, me),
		"link":   d.Symlink("/x", "/small/link"),
		"remove": d.Remove("/small/x"),
		"rename": d.Rename("/small/x", "/small/y"),
	} {
		if !failure.Is(err, failure.ReadOnly) || !strings.Contains(failure.Of(err).Evidence, "(tmpfs, ro)") {
			t.Errorf("read-only, %s: %v, evidence %q", what, err, failure.Of(err).Evidence)
		}
	}
}
