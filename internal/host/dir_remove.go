package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Remove removes one file, symbolic link or empty folder. A missing one is no error.
func (d *Dir) Remove(name string) error {
	at, err := d.touch(name, false)
	if err == nil {
		err = d.remove(at)
	}
	return d.failed(err, "remove", name)
}

func (d *Dir) remove(at string) error {
	parent, err := os.OpenRoot(d.Local(path.Dir(at)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	for _, name := range []string{path.Base(at), path.Base(leftover(at))} {
		if err := parent.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncFolder(d.Local(path.Dir(at)))
}

// RemoveAll removes a tree without following symbolic links. Before anything is removed it refuses, with
// failure.UnsafePath and the place in the evidence, when a parent of name is a symbolic link, or when another file system
// begins at or below name: a bind mount there would be emptied too.
func (d *Dir) RemoveAll(name string) error {
	local, there, err := d.removable(name)
	if err != nil || !there {
		return err
	}
	parent, err := os.OpenRoot(filepath.Dir(local))
	if err != nil {
		return d.failed(err, "remove", name)
	}
	defer parent.Close()
	if err := parent.RemoveAll(filepath.Base(local)); err != nil {
		return d.failed(err, "remove", name)
	}
	return d.failed(syncFolder(filepath.Dir(local)), "remove", name)
}

// Removable is the error with which RemoveAll would refuse name.
func (d *Dir) Removable(name string) error {
	_, _, err := d.removable(name)
	return err
}

func (d *Dir) removable(name string) (local string, there bool, err error) {
	at, err := d.touch(name, false)
	if err != nil {
		return "", false, d.failed(err, "remove", name)
	}
	if at != clean(name) {
		return "", false, refused(name, "a parent of it is a symbolic link").
			WithEvidence("it is %s in truth", at).
			WithRemedy("look at it, and remove %s by hand if it is to go", at)
	}
	local = d.Local(at)
	info, err := os.Lstat(local)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return local, false, nil
	case err != nil:
		return local, false, d.failed(err, "remove", name)
	case info.Mode()&fs.ModeSymlink == 0: // a file can be a mount point too
		if err := d.unmounted(name, local); err != nil {
			return local, false, err
		}
	}
	return local, true, nil
}

// unmounted returns an error when a mount point lies at or below local. The list of mounts names them all, bind mounts
// of the same file system too; the devices seen while walking are the second opinion, for a btrfs subvolume and for a
// list that hides something.
func (d *Dir) unmounted(name, local string) error {
	mounts, err := readMounts()
	if err != nil {
		return refused(name, "the list of mounts cannot be read: %v", err)
	}
	whole, err := filepath.EvalSymlinks(local)
	if err != nil {
		return d.failed(err, "remove", name)
	}
	for _, m := range mounts {
		if within(m.Point, whole) {
			return mounted(name, m.Point)
		}
	}
	above, err := os.Lstat(filepath.Dir(local))
	if err != nil {
		return d.failed(err, "remove", name)
	}
	device := deviceOf(above)
	err = filepath.WalkDir(local, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() { // a file's device means nothing on overlayfs
			return err
		}
		info, err := entry.Info()
		if err == nil && deviceOf(info) != device {
			err = mounted(name, at)
		}
		return err
	})
	if err != nil {
		return d.failed(err, "remove", name)
	}
	return nil
}

func mounted(name, point string) error {
	return refused(name, "something is mounted there").
		WithEvidence("mount point %s", point).
		WithRemedy("umount %s if its content is not to be touched, then run the command again", point)
}

func refused(name, why string, args ...any) *failure.Error {
	return failure.New(failure.UnsafePath, "will not remove %s: %s", name, fmt.Sprintf(why, args...))
}
