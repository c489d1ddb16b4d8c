package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// image is what is at a path. The content of a file, which may be secret, is not in the journal but in a copy in the
// operation's backup folder.
type image struct {
	Path   string      `json:"path"`
	Is     shape       `json:"is"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	UID    int         `json:"uid,omitempty"`
	GID    int         `json:"gid,omitempty"`
	SHA256 string      `json:"sha256,omitempty"`
	Copy   string      `json:"copy,omitempty"`   // path of the copy
	Target string      `json:"target,omitempty"` // of a symbolic link
}

type shape string

const (
	absent shape = "absent"
	file   shape = "file"
	link   shape = "link"
	folder shape = "folder"
	other  shape = "other" // a device, a socket: nothing that we write or copy
)

func (i image) owner() host.Owner { return host.Owner{UID: i.UID, GID: i.GID} }

// same reports whether b has what a has; who owns it and who may read it is not compared.
func (i image) same(b image) bool {
	return i.Is == b.Is && i.SHA256 == b.SHA256 && i.Target == b.Target
}

// look tells what is at a path. follow looks at what a symbolic link leads to; one that leads nowhere is then absent.
func look(h host.Host, name string, follow bool) (image, error) {
	stat := h.Files.Lstat
	if follow {
		stat = h.Files.Stat
	}
	info, err := stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return image{Path: name, Is: absent}, nil
	}
	if err != nil {
		return image{}, failure.Wrap(failure.Internal, err, "cannot look at %s", name)
	}
	i := image{Path: name, Mode: info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)}
	at := name
	if follow {
		if at, err = leads(h, name); err != nil {
			return image{}, failure.Wrap(failure.Internal, err, "cannot look at %s", name)
		}
	}
	owner, err := h.Disk.Owner(at)
	if err != nil {
		return image{}, failure.Wrap(failure.Internal, err, "cannot tell who owns %s", name)
	}
	i.UID, i.GID = owner.UID, owner.GID
	switch {
	case info.Mode().IsRegular():
		i.Is = file
		i.SHA256, err = sum(h, name)
	case info.IsDir():
		i.Is = folder
	case info.Mode()&fs.ModeSymlink != 0:
		i.Is = link
		i.Target, err = h.Files.Readlink(name)
	default:
		i.Is = other
	}
	if err != nil {
		return image{}, failure.Wrap(failure.Internal, err, "cannot read %s", name)
	}
	return i, nil
}

// leads follows the symbolic link at name itself, for host.Disk.Owner does not.
func leads(h host.Host, name string) (string, error) {
	for range 40 { // as many as Linux follows
		info, err := h.Files.Lstat(name)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return name, err
		}
		target, err := h.Files.Readlink(name)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		name = target
	}
	return "", fmt.Errorf("too many symbolic links")
}

func sum(h host.Host, name string) (string, error) {
	f, err := h.Files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// keep looks at a path and copies a file's content to a new file of the backup folder. part tells the copies of one
// record apart.
func (j *journal) keep(name string, follow bool, part int) (image, error) {
	i, err := look(j.Host, name, follow)
	if err != nil || i.Is != file {
		return i, err
	}
	if err := j.folders(path.Dir(j.backups()), j.backups()); err != nil {
		return image{}, err
	}
	f, err := j.Host.Files.Open(name)
	if err != nil {
		return image{}, failure.Wrap(failure.Internal, err, "cannot back up %s", name)
	}
	defer f.Close()
	i.Copy = path.Join(j.backups(), fmt.Sprintf("%d.%d", j.nextSeq(), part))
	hash := sha256.New()
	if err := j.Host.Disk.WriteFile(i.Copy, io.TeeReader(f, hash), 0o600, host.Owner{}); err != nil {
		return image{}, failure.Wrap(writeCode(err), err, "cannot back up %s", name)
	}
	i.SHA256 = hex.EncodeToString(hash.Sum(nil)) // of what was copied, should it have changed since
	return i, nil
}

// restore brings a path to what the image has of it.
func restore(h host.Host, i image) error {
	switch i.Is {
	case absent:
		return h.Disk.Remove(i.Path)
	case link:
		return h.Disk.Symlink(i.Target, i.Path)
	case folder:
		return h.Disk.Mkdir(i.Path, i.Mode, i.owner())
	case file:
		if have, err := sum(h, i.Copy); err != nil || have != i.SHA256 {
			return failure.New(failure.Internal, "its copy %s is not whole", i.Copy)
		}
		f, err := h.Files.Open(i.Copy)
		if err != nil {
			return err
		}
		defer f.Close()
		return h.Disk.WriteFile(i.Path, f, i.Mode, i.owner())
	}
	return failure.New(failure.Internal, "no copy of it could be made")
}
