package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// me is the owner of what the test itself makes.
var me = Owner{UID: os.Geteuid(), GID: os.Getegid()}

func newDir(t *testing.T) (*Dir, string) {
	t.Helper()
	root := t.TempDir()
	return NewDir(root), root
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// content is a file's content, or "(missing)".
func content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(missing)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return strings.Join(all, " ")
}

func check(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestWriteFileMakesFileAndParents(t *testing.T) {
	d, root := newDir(t)
	if err := d.WriteFile("/etc/ecs/ecs.config", strings.NewReader("A=1\n"), 0o640, me); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(root, "etc/ecs/ecs.config")
	check(t, "content", content(t, name), "A=1\n")
	check(t, "folder", names(t, filepath.Dir(name)), "ecs.config")
	for at, want := range map[string]fs.FileMode{name: 0o640, filepath.Join(root, "etc"): fs.ModeDir | 0o755} {
		if info, _ := os.Stat(at); info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", at, info.Mode(), want)
		}
	}
}

func TestWriteFileReplacesMode(t *testing.T) {
	d, root := newDir(t)
	name := filepath.Join(root, "x")
	put(t, name, "old and longer")
	if err := d.WriteFile("/x", strings.NewReader("new"), 0o600, me); err != nil {
		t.Fatal(err)
	}
	check(t, "content", content(t, name), "new")
	if info, _ := os.Stat(name); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestWriteFileFollowsLinks(t *testing.T) {
	for _, test := range []struct{ name, link, target string }{
		{"relative", "../data/config", "/data/config"},
		{"absolute stays in the root", "/data/config", "/data/config"},
		{"above the root stays in the root", "../../../../../data/config", "/data/config"},
	} {
		for _, existing := range []bool{true, false} {
			t.Run(test.name, func(t *testing.T) {
				d, root := newDir(t)
				link(t, test.link, filepath.Join(root, "etc/config"))
				if existing {
					put(t, filepath.Join(root, test.target), "old")
				}
				if err := d.WriteFile("/etc/config", strings.NewReader("new"), 0o644, me); err != nil {
					t.Fatal(err)
				}
				check(t, "target", content(t, filepath.Join(root, test.target)), "new")
				if to, _ := os.Readlink(filepath.Join(root, "etc/config")); to != test.link {
					t.Errorf("the link is now %q", to)
				}
				if data, err := d.ReadFile("/etc/config"); err != nil || string(data) != "new" {
					t.Errorf("read back %q, %v", data, err)
				}
			})
		}
	}
}

func TestWriteFileRefusesWhatIsNoFile(t *testing.T) {
	d, root := newDir(t)
	if err := os.Mkdir(filepath.Join(root, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := d.WriteFile("/folder", strings.NewReader("x"), 0o644, me)
	if err == nil || !strings.Contains(err.Error(), "a folder is in its place") {
		t.Errorf("got %v", err)
	}
	real := NewDir("/")
	link(t, "/dev/null", filepath.Join(root, "masked.service"))
	err = real.WriteFile(filepath.Join(root, "masked.service"), strings.NewReader("x"), 0o644, me)
	if err == nil || !strings.Contains(err.Error(), "a device is in its place") {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&fs.ModeDevice == 0 {
		t.Fatalf("/dev/null is gone: %v %v", info, err)
	}
}

func TestWriteFileIsWholeOrNotAtAll(t *testing.T) {
	d, root := newDir(t)
	name := filepath.Join(root, "x")
	put(t, name, "old")
	network := failure.New(failure.Network, "the line went dead")
	err := d.WriteFile("/x", iotest.ErrReader(network), 0o644, me)
	if !failure.Is(err, failure.Network) {
		t.Errorf("the data's own error is lost: %v", err)
	}
	check(t, "content", content(t, name), "old")
	check(t, "folder", names(t, root), "x")
}

func TestLeftoverOfAKilledRunIsSweptAway(t *testing.T) {
	d, root := newDir(t)
	for what, change := range map[string]func() error{
		"write":  func() error { return d.WriteFile("/x", strings.NewReader("new"), 0o644, me) },
		"link":   func() error { return d.Symlink("/y", "/x") },
		"remove": func() error { return d.Remove("/x") },
	} {
		os.Remove(filepath.Join(root, "x"))
		put(t, filepath.Join(root, ".x.anywhere-new"), "half")
		if err := change(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if all := names(t, root); strings.Contains(all, "anywhere-new") {
			t.Errorf("%s leaves %s", what, all)
		}
	}
}

func TestPassthroughIsOnlyRead(t *testing.T) {
	other := t.TempDir()
	put(t, filepath.Join(other, "real"), "real")
	root := t.TempDir()
	d := NewDir(root, other)
	if data, err := d.ReadFile(filepath.Join(other, "real")); err != nil || string(data) != "real" {
		t.Errorf("%q, %v", data, err)
	}
	check(t, "local", d.Local(other+"/x"), filepath.Join(other, "x"))
	check(t, "local of a longer name", d.Local(other+"x"), filepath.Join(root, other+"x"))
	link(t, filepath.Join(other, "real"), filepath.Join(root, "way"))
	for what, err := range map[string]error{
		"write":              d.WriteFile(other+"/real", strings.NewReader("x"), 0o644, me),
		"write through link": d.WriteFile("/way", strings.NewReader("x"), 0o644, me),
		"remove":             d.Remove(other + "/real"),
		"remove tree":        d.RemoveAll(other),
		"rename":             d.Rename(other+"/real", "/mine"),
		"make folder":        d.Mkdir(other+"/new", 0o755, me),
		"append":             func() error { _, err := d.Append(other + "/real"); return err }(),
	} {
		if !failure.Is(err, failure.ReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check(t, "content", content(t, filepath.Join(other, "real")), "real")
	check(t, "folder", names(t, other), "real")
}

func TestReadFileLimits(t *testing.T) {
	d, root := newDir(t)
	put(t, filepath.Join(root, "most"), "")
	for size, want := range map[int64]bool{maxFile: true, maxFile + 1: false} {
		if err := os.Truncate(filepath.Join(root, "most"), size); err != nil {
			t.Fatal(err)
		}
		if data, err := d.ReadFile("/most"); (err == nil) != want || want && int64(len(data)) != size {
			t.Errorf("%d bytes: read %d, %v", size, len(data), err)
		}
	}
	_, err := d.ReadFile("/no/such")
	var pathError *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &pathError) || strings.Contains(err.Error(), root) {
		t.Errorf("an error should name the host's path: %v", err)
	}
}

func TestLinkLoopIsAnError(t *testing.T) {
	d, root := newDir(t)
	link(t, "b", filepath.Join(root, "a"))
	link(t, "a", filepath.Join(root, "b"))
	if _, err := d.ReadFile("/a"); err == nil {
		t.Error("read a loop")
	}
	if err := d.WriteFile("/a", strings.NewReader("x"), 0o644, me); err == nil {
		t.Error("wrote to a loop")
	}
}

func TestRename(t *testing.T) {
	d, root := newDir(t)
	put(t, filepath.Join(root, "a/x"), "1")
	put(t, filepath.Join(root, "b"), "2")
	if err := d.Rename("/a/x", "/b"); err == nil {
		t.Error("replaced an existing file")
	}
	check(t, "target", content(t, filepath.Join(root, "b")), "2")
	if err := d.Rename("/a", "/c"); err != nil {
		t.Error(err)
	}
	check(t, "moved", content(t, filepath.Join(root, "c/x")), "1")
	check(t, "all", names(t, root), "b c")
}

func TestMkdirLeavesAnExistingFolder(t *testing.T) {
	d, root := newDir(t)
	if err := os.Mkdir(filepath.Join(root, "have"), 0o711); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/have", "/new/deep"} {
		if err := d.Mkdir(name, 0o700, me); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]fs.FileMode{"have": 0o711, "new": 0o755, "new/deep": 0o700} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	put(t, filepath.Join(root, "file"), "")
	if err := d.Mkdir("/file", 0o755, me); err == nil {
		t.Error("a file passed for a folder")
	}
}

func TestSymlinkReplacesOnlyALink(t *testing.T) {
	d, root := newDir(t)
	for _, target := range []string{"/one", "/two"} {
		if err := d.Symlink(target, "/way"); err != nil {
			t.Fatal(err)
		}
		if to, err := d.Readlink("/way"); err != nil || to != target {
			t.Errorf("%q, %v", to, err)
		}
	}
	put(t, filepath.Join(root, "file"), "mine")
	if err := d.Symlink("/one", "/file"); err == nil {
		t.Error("replaced a file")
	}
	check(t, "content", content(t, filepath.Join(root, "file")), "mine")
}

func TestAppend(t *testing.T) {
	d, root := newDir(t)
	for _, line := range []string{"1\n", "2\n"} {
		f, err := d.Append("/log/x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	check(t, "content", content(t, filepath.Join(root, "log/x")), "1\n2\n")
	if info, _ := os.Stat(filepath.Join(root, "log/x")); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestRemove(t *testing.T) {
	d, root := newDir(t)
	put(t, filepath.Join(root, "full/x"), "1")
	link(t, "full", filepath.Join(root, "way"))
	for _, name := range []string{"/missing", "/no/such/folder", "/way", "/full/x", "/full"} {
		if name == "/full/x" {
			if err := d.Remove("/full"); err == nil {
				t.Error("removed a folder that is not empty")
			}
			check(t, "file behind the link", content(t, filepath.Join(root, "full/x")), "1")
		}
		if err := d.Remove(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, "all", names(t, root), "")
}

func TestRemoveAllDoesNotFollowLinks(t *testing.T) {
	d, root := newDir(t)
	outside := t.TempDir()
	put(t, filepath.Join(outside, "x"), "dear")
	put(t, filepath.Join(root, "tree/sub/x"), "1")
	put(t, filepath.Join(root, "beside/x"), "2")
	link(t, outside, filepath.Join(root, "tree/out"))
	link(t, "../beside", filepath.Join(root, "tree/sub/in"))
	link(t, "tree", filepath.Join(root, "way"))
	for name, remove := range map[string]func(string) error{"ask": d.Removable, "remove": d.RemoveAll} {
		if err := remove("/way/sub"); !failure.Is(err, failure.UnsafePath) || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: a parent that is a link: %v", name, err)
		}
	}
	for _, name := range []string{"/way", "/tree", "/tree/sub/x", "/never"} {
		if err := d.Removable(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, "not yet", content(t, filepath.Join(root, "tree/sub/x")), "1")
	if err := d.RemoveAll("/way"); err != nil {
		t.Error(err)
	}
	check(t, "only the link is gone", content(t, filepath.Join(root, "tree/sub/x")), "1")
	for range 2 { // the second time it is missing
		if err := d.RemoveAll("/tree"); err != nil {
			t.Error(err)
		}
	}
	check(t, "outside", content(t, filepath.Join(outside, "x")), "dear")
	check(t, "beside", content(t, filepath.Join(root, "beside/x")), "2")
	check(t, "all", names(t, root), "beside")
}

func TestTheWholeMachineIsNotRemoved(t *testing.T) {
	d, root := newDir(t)
	put(t, filepath.Join(root, "x"), "1")
	for _, name := range []string{"/", "", ".", "/..", "/a/.."} {
		if d.RemoveAll(name) == nil || d.Remove(name) == nil {
			t.Errorf("%q was removed", name)
		}
	}
	check(t, "content", content(t, filepath.Join(root, "x")), "1")
}

func TestSpaceOfAPathThatIsNotYet(t *testing.T) {
	d, _ := newDir(t)
	here, err := d.Space("/")
	if err != nil || here == 0 {
		t.Fatalf("%d, %v", here, err)
	}
	if there, err := d.Space("/not/yet/there"); err != nil || there == 0 {
		t.Errorf("%d, %v", there, err)
	}
}

func TestFlush(t *testing.T) {
	d, _ := newDir(t)
	for _, path := range []string{"/", "/not/yet/there"} {
		if err := d.Flush(t.Context(), path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A folder comes into being with its mode, so a killed Mkdir leaves the folder's name free, and the next one sweeps up.
func TestMkdirAfterAKilledOne(t *testing.T) {
	root := t.TempDir()
	left := filepath.Join(root, "."+"made"+".anywhere-new")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := NewDir(root).Mkdir("/made", 0o755, Owner{UID: os.Getuid(), GID: os.Getgid()}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(root, "made")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the killed one's folder is still there: %v", err)
	}
}
