package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
)

// leftover is the name of the temporary file or link beside name. It is always the same, so that the next write or
// removal sweeps away what a killed run left; a random name would stay for ever.
func leftover(name string) string {
	return path.Join(path.Dir(name), "."+path.Base(name)+".anywhere-new")
}

// WriteFile makes or replaces the file that name finally names, whole or not at all; it is on the disk when WriteFile
// returns. Something there that is no file (a device, a folder) is refused: a masked unit is a link to /dev/null.
// Below a root that is not "/" a process that is not root leaves the owner alone.
func (d *Dir) WriteFile(name string, data io.Reader, mode fs.FileMode, owner Owner) error {
	at, err := d.touch(name, true)
	if err == nil {
		defer d.lock(at)()
		err = d.replace(at, data, mode, owner)
	}
	return d.failed(err, "write", name)
}

func (d *Dir) replace(at string, data io.Reader, mode fs.FileMode, owner Owner) error {
	if info, err := os.Lstat(d.Local(at)); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("a %s is in its place", kind(info.Mode()))
	}
	if err := d.parents(at); err != nil {
		return err
	}
	temp := d.Local(leftover(at))
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := d.fill(f, data, mode, owner); err != nil {
		return errors.Join(err, f.Close(), os.Remove(temp))
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, d.Local(at)); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncFolder(path.Dir(d.Local(at)))
}

func (d *Dir) fill(f *os.File, data io.Reader, mode fs.FileMode, owner Owner) error {
	from := &source{from: data}
	if _, err := io.Copy(f, from); err != nil {
		if from.err != nil {
			return sourceError{from.err}
		}
		return err
	}
	if err := d.give(f.Name(), owner); err != nil { // before Chmod: a change of owner clears the set-user-ID bit
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// Rename moves a file or folder within one file system. The target must not exist.
func (d *Dir) Rename(from, to string) error {
	err := d.rename(from, to)
	return d.failed(err, "rename "+from+" to", to)
}

func (d *Dir) rename(from, to string) error {
	source, err := d.touch(from, false)
	if err != nil {
		return err
	}
	target, err := d.touch(to, false)
	if err != nil {
		return err
	}
	if err := renameExclusive(d.Local(source), d.Local(target)); err != nil {
		return err
	}
	return errors.Join(syncFolder(path.Dir(d.Local(target))), syncFolder(path.Dir(d.Local(source))))
}

// Mkdir makes a folder, with this mode whatever the umask is, and its missing parents with mode 0755. An existing
// folder is left as it is.
func (d *Dir) Mkdir(name string, mode fs.FileMode, owner Owner) error {
	at, err := d.touch(name, true)
	if err == nil {
		err = d.mkdir(at, mode, owner)
	}
	return d.failed(err, "make the folder", name)
}

func (d *Dir) mkdir(at string, mode fs.FileMode, owner Owner) error {
	local := d.Local(at)
	if info, err := os.Lstat(local); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("a %s is in its place", kind(info.Mode()))
		}
		return nil
	}
	if err := d.parents(at); err != nil {
		return err
	}
	// It comes into being with its mode and owner: one that a killed run left without them would pass for somebody's.
	defer d.lock(at)()
	temp := d.Local(leftover(at))
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if err := errors.Join(d.give(temp, owner), os.Chmod(temp, mode)); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	err := renameExclusive(temp, local)
	if err != nil {
		err = errors.Join(err, os.Remove(temp))
	}
	if info, gone := os.Lstat(local); errors.Is(err, fs.ErrExist) && gone == nil && info.IsDir() {
		return nil // somebody else made it just now
	}
	if err != nil {
		return err
	}
	return syncFolder(path.Dir(local))
}

// parents makes the missing parents of at.
func (d *Dir) parents(at string) error {
	if parent := path.Dir(at); parent != "/" {
		return d.mkdir(parent, 0o755, Owner{})
	}
	return nil
}

// Symlink makes or atomically replaces the symbolic link at name. A file or folder in its place is an error.
func (d *Dir) Symlink(target, name string) error {
	at, err := d.touch(name, false)
	if err == nil {
		defer d.lock(at)()
		err = d.symlink(target, at)
	}
	return d.failed(err, "make the link", name)
}

func (d *Dir) symlink(target, at string) error {
	if info, err := os.Lstat(d.Local(at)); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("a %s is in its place", kind(info.Mode()))
	}
	if err := d.parents(at); err != nil {
		return err
	}
	temp := d.Local(leftover(at))
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, d.Local(at)); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncFolder(path.Dir(d.Local(at)))
}

// Append opens a file for appending; a missing one is made with mode 0600, its missing parents with 0755.
func (d *Dir) Append(name string) (AppendFile, error) {
	at, err := d.touch(name, true)
	if err == nil {
		err = d.parents(at)
	}
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(d.Local(at), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	}
	if err == nil {
		err = syncFolder(path.Dir(d.Local(at))) // a new journal's name must be as safe as its lines
	}
	if err != nil {
		return nil, d.failed(err, "append to", name)
	}
	return f, nil
}

// Owner tells who owns name, without following a symbolic link.
func (d *Dir) Owner(name string) (Owner, error) {
	info, err := d.Lstat(name)
	if err != nil {
		return Owner{}, err
	}
	return ownerOf(info), nil
}

// give sets the owner of a local path where it is another. Only root can give files away, so a rehearsal without root
// does not try.
func (d *Dir) give(local string, owner Owner) error {
	info, err := os.Lstat(local)
	if err != nil || ownerOf(info) == owner || !d.real() && os.Geteuid() != 0 {
		return err
	}
	return os.Lchown(local, owner.UID, owner.GID)
}

func (d *Dir) lock(at string) (unlock func()) {
	mutex, _ := d.writing.LoadOrStore(at, new(sync.Mutex))
	mutex.(*sync.Mutex).Lock()
	return mutex.(*sync.Mutex).Unlock
}

// source remembers that reading failed, for io.Copy does not tell it from writing.
type source struct {
	from io.Reader
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// sourceError is an error of the data, not of the disk.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }
