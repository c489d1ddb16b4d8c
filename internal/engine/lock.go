package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// lockPoll is how often a lock that somebody else holds is tried again.
const lockPoll = 100 * time.Millisecond

// Lock takes the host's lock, waiting at most timeout. It fails with failure.Locked, naming pid and run of the
// holder. The kernel frees the lock of a process that dies. The file stays: removing it would let two processes hold
// two locks of the same name.
func Lock(ctx context.Context, h host.Host, name, runID string, timeout time.Duration) (release func(), err error) {
	if err := h.Disk.Mkdir(path.Dir(name), 0o755, host.Owner{}); err != nil {
		return nil, failure.Wrap(writeCode(err), err, "cannot make the folder of the lock %s", name)
	}
	// The folder is open to all: a link there is somebody's attempt to have us write elsewhere.
	if info, err := h.Files.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, failure.New(failure.ReadOnly, "cannot take the lock %s: it is no file", name).
			WithRemedy("look who made it, and remove it")
	}
	lock := flock.New(h.Disk.Local(name), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	taken, err := lock.TryLock()
	if err == nil && !taken && timeout > 0 {
		waiting, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		taken, err = lock.TryLockContext(waiting, lockPoll)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	switch {
	case err != nil:
		return nil, failure.Wrap(writeCode(err), err, "cannot take the lock %s", name)
	case !taken && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !taken:
		return nil, failure.New(failure.Locked, "another anywhere is at work: %s", holder(h, name)).
			WithEvidence("%s", name)
	}
	if err := sign(lock, fmt.Sprintf("pid %d, run %s\n", os.Getpid(), runID)); err != nil {
		_ = lock.Unlock()
		return nil, failure.Wrap(writeCode(err), err, "cannot write the lock %s", name)
	}
	return func() {
		_ = sign(lock, "") // nobody's from now on
		_ = lock.Unlock()
	}, nil
}

// sign writes into the lock's file who holds it, through a second handle, for flock keeps its own; the two must be of
// the same file.
func sign(lock *flock.Flock, text string) error {
	f, err := os.OpenFile(lock.Path(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	locked, err := lock.Stat()
	if err != nil {
		return err
	}
	if named, err := f.Stat(); err != nil || !os.SameFile(locked, named) {
		return errors.Join(err, errors.New("somebody else has put another file in its place"))
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return err
}

// holder is what the lock's file says. It may be empty for the moment between taking and signing.
func holder(h host.Host, name string) string {
	text, err := h.Files.ReadFile(name)
	if line := strings.TrimSpace(string(text)); err == nil && line != "" {
		return line
	}
	if errors.Is(err, fs.ErrPermission) {
		return "a process of another user"
	}
	return "a process that has not said yet which"
}
