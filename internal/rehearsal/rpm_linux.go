package rehearsal

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockRPM takes rpm's lock, and returns what frees it. rpm's own is of the process, and all that happens on a throw-away host
// happens in one: so this one is of the open file, which looks the same from outside.
func lockRPM(local string) (free func(), err error) {
	f, err := os.OpenFile(local, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
