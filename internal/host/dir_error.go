package host

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// failed turns an error of a change into one that its reader can act on: what was tried, on which path, and for a full
// or read-only file system where it is mounted.
func (d *Dir) failed(err error, doing, name string) error {
	if err == nil {
		return nil
	}
	var coded *failure.Error
	var data sourceError
	if errors.As(err, &coded) || errors.As(err, &data) {
		return failure.Wrap(failure.Internal, err, "cannot %s %s", doing, name)
	}
	code := failure.Internal
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code = failure.DiskFull
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		code = failure.ReadOnly
	}
	out := failure.New(code, "cannot %s %s: %v", doing, name, bare(err))
	out.Err = err
	if code != failure.Internal {
		if m, ok := mountOf(d.Local(name)); ok {
			out.Evidence = m.String()
			if m.ReadOnly {
				out.Remedy = "mount -o remount,rw " + m.Point + ", then run the command again"
			}
		}
	}
	return out
}

// bare is the error without the operation and the local path that the os package puts in front.
func bare(err error) error {
	var pathError *fs.PathError
	var linkError *os.LinkError
	switch {
	case errors.As(err, &linkError):
		return linkError.Err
	case errors.As(err, &pathError):
		return pathError.Err
	}
	return err
}
