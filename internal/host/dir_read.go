package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxFile is the size of the largest file that ReadFile takes: more than any configuration, log tail or state file of
// the agents has, and little enough to be held in memory.
const maxFile = 16 << 20

// ReadFile reads a whole file of at most 16 MiB. A pipe or socket is an error, for reading it could block for ever.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	info, err := d.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) != 0 {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a file but a " + kind(info.Mode()))}
	}
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1)) // not by size: files of /proc say 0
	switch {
	case err != nil:
		return nil, named(err, name)
	case len(data) > maxFile:
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d MiB", maxFile>>20)}
	}
	return data, nil
}

// Open opens a file for reading.
func (d *Dir) Open(name string) (fs.File, error) {
	local, err := d.look(name, true)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(local)
	if err != nil {
		return nil, named(err, name)
	}
	return f, nil
}

// Stat follows symbolic links.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	local, err := d.look(name, true)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(local)
	return info, named(err, name)
}

// Lstat does not follow a symbolic link at name itself.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) {
	local, err := d.look(name, false)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(local)
	return info, named(err, name)
}

// ReadDir lists a folder, sorted by name.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	local, err := d.look(name, true)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(local)
	return entries, named(err, name)
}

// Readlink returns a symbolic link's target as it is written.
func (d *Dir) Readlink(name string) (string, error) {
	local, err := d.look(name, false)
	if err != nil {
		return "", err
	}
	target, err := os.Readlink(local)
	return target, named(err, name)
}

// named gives an error of the os package the host's path in place of the local one.
func named(err error, name string) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return &fs.PathError{Op: pathError.Op, Path: name, Err: pathError.Err}
	}
	return err
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "folder"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	default:
		return "device"
	}
}
