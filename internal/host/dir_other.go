//go:build !linux

package host

import (
	"context"
	"io/fs"
	"os"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Space is not built for this platform.
func (d *Dir) Space(name string) (uint64, error) {
	return 0, failure.New(failure.NotBuilt, "cannot tell the free space of %s on this platform", name)
}

// Flush does nothing here: what waits is written in the system's own time.
func (d *Dir) Flush(context.Context, string) error { return nil }

func ownerOf(fs.FileInfo) Owner { return Owner{} }

func deviceOf(fs.FileInfo) uint64 { return 0 }

func renameExclusive(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// syncFolder does nothing: folders cannot be opened for that here.
func syncFolder(string) error { return nil }
