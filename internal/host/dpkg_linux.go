package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockHolder tells who holds the record lock on a whole file (fcntl(2)). A pid of 0 is a process that cannot be seen.
func lockHolder(local string) (pid int, locked bool, err error) {
	f, err := os.Open(local)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, false, err
	}
	return int(lock.Pid), lock.Type != unix.F_UNLCK, nil
}
