package host

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Dir is the machine's files below a root folder: "/" for the real machine, a throw-away folder in a rehearsal or test.
// It implements [Files] and [Disk]. Symbolic links are followed as chroot would follow them, so that an absolute link
// in a rehearsal's root never leads out of it.
//
// Errors of reading are plain *fs.PathError values with the host's path. Errors of writing have a code:
// failure.DiskFull, failure.ReadOnly, or failure.Internal for what should not happen.
type Dir struct {
	root        string
	passthrough []string
	writing     sync.Map // host path -> *sync.Mutex: two writes of one file share the temporary file's name
}

// NewDir returns the files below root. passthrough are path prefixes that are read from the real machine whatever root
// is (a rehearsal looks at the real /proc); writing there is refused.
func NewDir(root string, passthrough ...string) *Dir {
	if whole, err := filepath.Abs(root); err == nil {
		root = whole
	}
	d := &Dir{root: root}
	for _, prefix := range passthrough {
		d.passthrough = append(d.passthrough, path.Clean(prefix))
	}
	return d
}

// Local is the path of the running system for a path of this host.
func (d *Dir) Local(name string) string {
	name = clean(name)
	if d.passedThrough(name) {
		return filepath.FromSlash(name)
	}
	return filepath.Join(d.root, filepath.FromSlash(name))
}

func clean(name string) string { return path.Clean("/" + filepath.ToSlash(name)) }

func (d *Dir) real() bool { return d.root == string(filepath.Separator) }

func (d *Dir) passedThrough(name string) bool {
	for _, prefix := range d.passthrough {
		if within(name, prefix) {
			return true
		}
	}
	return false
}

// within reports whether name is dir or lies below it. Both are clean.
func within(name, dir string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir+"/")
}

// maxLinks is the number of symbolic links that Linux follows in one path.
const maxLinks = 40

// resolve follows the symbolic links in the parents of name, and with final the one at name itself, inside the root.
// What does not exist is taken as it is written.
func (d *Dir) resolve(name string, final bool) (string, error) {
	at, rest := "/", elements(clean(name))
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0]) // ".." at the top stays at the top
		rest = rest[1:]
		if len(rest) == 0 && !final {
			return next, nil
		}
		target, err := os.Readlink(d.Local(next))
		if err != nil {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
		if target = filepath.ToSlash(target); path.IsAbs(target) {
			at = "/"
		}
		rest = append(elements(target), rest...)
	}
	return at, nil
}

func elements(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// look is the local path to read name at. The real machine's links are left to the kernel, which knows those of /proc
// that name no path.
func (d *Dir) look(name string, final bool) (string, error) {
	if d.real() || d.passedThrough(clean(name)) {
		return d.Local(name), nil
	}
	at, err := d.resolve(name, final)
	if err != nil {
		return "", err
	}
	return d.Local(at), nil
}

// touch is the host path to change for name; with final a symbolic link at name itself is followed.
func (d *Dir) touch(name string, final bool) (string, error) {
	at, err := d.resolve(name, final)
	if err != nil {
		return "", err
	}
	if at == "/" {
		return "", fmt.Errorf("%s is the whole machine", name)
	}
	if d.passedThrough(at) {
		return "", &os.PathError{Op: "change", Path: at, Err: syscall.EROFS}
	}
	return at, nil
}
