package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Space tells the bytes that root may still write on the file system that holds name, or its nearest existing parent:
// the blocks kept back for root count. One that is mounted read-only is an error, failure.ReadOnly.
func (d *Dir) Space(name string) (uint64, error) {
	local, err := d.look(name, true)
	if err != nil {
		return 0, err
	}
	for {
		var stat unix.Statfs_t
		err := unix.Statfs(local, &stat)
		if err == nil && stat.Flags&unix.ST_RDONLY != 0 {
			f := failure.New(failure.ReadOnly, "%s is on a file system that is mounted read-only", name)
			if m, ok := mountOf(local); ok {
				f = f.WithEvidence("%s", m).WithRemedy("mount -o remount,rw %s, then run the command again", m.Point)
			}
			return 0, f
		}
		if err == nil {
			return stat.Bfree * uint64(stat.Frsize), nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) || filepath.Dir(local) == local {
			return 0, &fs.PathError{Op: "statfs", Path: name, Err: err}
		}
		local = filepath.Dir(local)
	}
}

// Flush implements [Disk].
func (d *Dir) Flush(ctx context.Context, name string) error {
	local, err := d.look(name, true)
	if err != nil {
		return err
	}
	folder, err := os.Open(local)
	for ; errors.Is(err, fs.ErrNotExist) && filepath.Dir(local) != local; folder, err = os.Open(local) {
		local = filepath.Dir(local)
	}
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		defer folder.Close()
		written <- unix.Syncfs(int(folder.Fd()))
	}()
	select {
	case err := <-written:
		return os.NewSyscallError("syncfs", err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func ownerOf(info fs.FileInfo) Owner {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return Owner{UID: int(stat.Uid), GID: int(stat.Gid)}
	}
	return Owner{}
}

func deviceOf(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Dev
	}
	return 0
}

// renameExclusive renames without replacing. Where the file system cannot promise that (NFS, old overlayfs) it looks
// first.
func renameExclusive(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if _, err := os.Lstat(to); err == nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
		}
		return os.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncFolder brings a folder's names to the disk.
func syncFolder(local string) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some network file systems cannot
		return err
	}
	return nil
}
