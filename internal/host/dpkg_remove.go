package host

import (
	"bytes"
	"context"
	"crypto/md5" // dpkg's own sums of configuration files; nothing is secured by it
	"encoding/hex"
	"errors"
	"io/fs"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Remove implements Packager. Purging deletes each configuration file that dpkg has on its list, also one that an
// administrator made or changed. So what differs from what the package brought is remembered, and put back if it went.
func (d *Dpkg) Remove(ctx context.Context, name string, purge bool) error {
	r, err := d.record(name)
	if err != nil {
		return err
	}
	if r.installed() || r.partial() {
		if err := d.must(ctx, "remove "+name, "--remove", name); err != nil {
			return err
		}
		if r, err = d.record(name); err != nil {
			return err
		}
	}
	if !purge || r.State != "config-files" {
		return nil
	}
	kept, err := d.changedConffiles(r)
	if err != nil {
		return err
	}
	purged := d.must(ctx, "purge "+name, "--purge", name)
	for _, file := range kept { // also when purging failed half-way
		if err := d.putBack(file); err != nil {
			purged = errors.Join(purged, err)
		}
	}
	return purged
}

func (d *Dpkg) must(ctx context.Context, doing string, args ...string) error {
	result, err := d.dpkg(ctx, args...)
	if err == nil && result.ExitCode != 0 {
		err = complaint(result, failure.PackageInstall, doing)
	}
	return err
}

// keptFile is a configuration file as it was.
type keptFile struct {
	path  string
	link  string // the target when path is a symbolic link
	gone  bool   // the link leads nowhere
	data  []byte
	mode  fs.FileMode
	owner Owner
}

// changedConffiles reads the package's configuration files that are not what it brought. A link is the administrator's
// doing whatever it leads to; dpkg purges both the link and its target.
func (d *Dpkg) changedConffiles(r record) ([]keptFile, error) {
	var kept []keptFile
	for _, c := range r.Conffiles {
		file, err := d.keep(c.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, failure.Wrap(failure.PackageInstall, err, "cannot keep %s over purging %s", c.Path, r.Name)
		}
		sum := md5.Sum(file.data)
		if file.link != "" || hex.EncodeToString(sum[:]) != c.Sum {
			kept = append(kept, file)
		}
	}
	return kept, nil
}

func (d *Dpkg) keep(name string) (keptFile, error) {
	file := keptFile{path: name}
	info, err := d.files.Lstat(name)
	if err != nil {
		return file, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if file.link, err = d.files.Readlink(name); err != nil {
			return file, err
		}
		if info, err = d.files.Stat(name); errors.Is(err, fs.ErrNotExist) {
			file.gone = true
			return file, nil
		} else if err != nil {
			return file, err
		}
	}
	file.mode, file.owner = info.Mode(), ownerOf(info)
	file.data, err = d.files.ReadFile(name)
	return file, err
}

func (d *Dpkg) putBack(file keptFile) error {
	if _, err := d.files.Lstat(file.path); errors.Is(err, fs.ErrNotExist) && file.link != "" {
		if err := d.disk.Symlink(file.link, file.path); err != nil {
			return err
		}
	}
	if file.gone {
		return nil
	}
	if _, err := d.files.Stat(file.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.disk.WriteFile(file.path, bytes.NewReader(file.data), file.mode.Perm(), file.owner)
}
