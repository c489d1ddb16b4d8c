package preflight

import (
	"io/fs"
	"syscall"
)

// device64 is the number of the file system that a file is on.
func device64(info fs.FileInfo) (uint64, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Dev, true
}
