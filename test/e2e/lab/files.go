package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// view is the folder through which the test process sees the host's files: with all the host's mounts while it is up,
// the bare disk while it is down.
func (m *Machine) view() string {
	if m.leader != 0 {
		return "/proc/" + strconv.Itoa(m.leader) + "/root"
	}
	return m.disk()
}

// open opens a file of the host. Symbolic links lead to where they lead inside the host.
func (m *Machine) open(name string, flags uint64, mode fs.FileMode) (*os.File, error) {
	root, err := unix.Open(m.view(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: m.view(), Err: err}
	}
	defer unix.Close(root)
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: uint64(mode.Perm()), Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(root, strings.TrimPrefix(path.Clean("/"+name), "/"), &how)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ReadFile reads a file of the host.
func (m *Machine) ReadFile(name string) ([]byte, error) {
	if m.host.VM != nil {
		return m.readVM(name)
	}
	f, err := m.open(name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Exists tells whether a path exists in the host; a dangling symbolic link does not.
func (m *Machine) Exists(name string) bool {
	if m.host.VM != nil {
		return m.ssh(nil, `[ -e "$1" ]`, name).Run() == nil
	}
	f, err := m.open(name, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// WriteFile makes or replaces a file of the host, with this mode and owned by root. Missing folders are made.
func (m *Machine) WriteFile(name string, data []byte, mode fs.FileMode) {
	m.t.Helper()
	if err := m.write(name, strings.NewReader(string(data)), mode); err != nil {
		m.t.Fatalf("lab: write %s on %s: %v", name, m.host.Name, err)
	}
}

// RemoveFile removes a file of the host. Symbolic links on the way are not resolved inside the host: give the real path.
func (m *Machine) RemoveFile(name string) error {
	if m.host.VM != nil {
		return m.ssh(nil, `rm "$1"`, name).Run()
	}
	return os.Remove(m.view() + path.Clean("/"+name))
}

// CopyIn copies a file of the test's machine into the host.
func (m *Machine) CopyIn(name, from string, mode fs.FileMode) {
	m.t.Helper()
	f, err := os.Open(from)
	if err != nil {
		m.t.Fatalf("lab: %v", err)
	}
	defer f.Close()
	if err := m.write(name, f, mode); err != nil {
		m.t.Fatalf("lab: copy %s to %s on %s: %v", from, name, m.host.Name, err)
	}
}

func (m *Machine) write(name string, data io.Reader, mode fs.FileMode) error {
	if m.host.VM != nil {
		return m.writeVM(name, data, mode)
	}
	f, err := m.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := m.mkdirAll(path.Dir(name)); err != nil {
			return err
		}
		f, err = m.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, mode)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, data)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

// mkdirAll makes a folder and its parents, one at a time, each below an already opened parent.
func (m *Machine) mkdirAll(dir string) error {
	if m.Exists(dir) {
		return nil
	}
	if err := m.mkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	parent, err := m.open(path.Dir(dir), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Mkdirat(int(parent.Fd()), path.Base(dir), 0o755)
}

// Glob lists the paths of the host that match a pattern as path/filepath's. Symbolic links on the way are not resolved
// inside the host: give the real path.
func (m *Machine) Glob(pattern string) []string {
	m.t.Helper()
	if m.host.VM != nil {
		return m.globVM(pattern)
	}
	found, err := filepath.Glob(m.view() + pattern)
	if err != nil {
		m.t.Fatalf("lab: %v", err)
	}
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], m.view())
	}
	return found
}

// Tree is what lies below some paths: path to a line with type, mode, owner and content (a hash, or where a link leads).
// Times are left out.
type Tree map[string]string

// Tree reads what lies below the paths now. A path that does not exist adds nothing.
func (m *Machine) Tree(paths ...string) Tree {
	m.t.Helper()
	if m.host.VM != nil {
		return m.treeOfVM(paths)
	}
	tree := Tree{}
	for _, top := range paths {
		err := filepath.WalkDir(m.view()+top, func(name string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // never there, or gone meanwhile
			}
			if err != nil {
				return err
			}
			line, err := m.describe(name)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			tree[strings.TrimPrefix(name, m.view())] = line
			return err
		})
		if err != nil {
			m.t.Fatalf("lab: read the tree %s of %s: %v", top, m.host.Name, err)
		}
	}
	return tree
}

// hashed is the hash of a file's content, and the state of the file then.
type hashed struct {
	ino          uint64
	size         int64
	mtime, ctime syscall.Timespec
	sum          string
}

func (m *Machine) describe(name string) (string, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	stat := info.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("%v %d:%d", info.Mode(), stat.Uid, stat.Gid)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(name)
		return line + " -> " + target, err
	case info.Mode().IsRegular():
		// Most files never change, and hashing all of /usr again and again takes most of a test's time.
		was, is := m.hashes[name], hashed{ino: stat.Ino, size: stat.Size, mtime: stat.Mtim, ctime: stat.Ctim}
		if is.sum = was.sum; was.sum != "" && was == is {
			return line + " " + is.sum, nil
		}
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return "", err
		}
		is.sum = hex.EncodeToString(h.Sum(nil)[:8])
		m.hashes[name] = is
		return line + " " + is.sum, nil
	}
	return line, nil
}

// Diff tells what differs between two trees, one line a path: "+" is new, "-" is gone, "~" has changed.
func Diff(before, after Tree) []string {
	var lines []string
	for name, was := range before {
		switch is, ok := after[name]; {
		case !ok:
			lines = append(lines, "- "+name+" "+was)
		case is != was:
			lines = append(lines, "~ "+name+" "+was+" => "+is)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[name]; !ok {
			lines = append(lines, "+ "+name+" "+after[name])
		}
	}
	slices.Sort(lines)
	return lines
}
