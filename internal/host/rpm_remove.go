package host

import (
	"bytes"
	"context"
	"crypto/md5" // rpm's own sums of old packages' files; nothing is secured by it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// rpmKept holds configuration files while their package is removed, so that a run that is killed then loses none.
const rpmKept = rpmWork + "/kept"

// Flags of a file in an rpm. Source: rpm 4.18, include/rpm/rpmfiles.h.
const (
	flagConfig = 1 << 0
	flagGhost  = 1 << 6
)

// Remove implements Packager. rpm deletes each file that a package claims, also one that it never brought: the ECS agent's
// claims /etc/ecs/ecs.config. So configuration that somebody made or changed is put aside, and put back when rpm is done.
// There is no difference between removing and purging: rpm keeps nothing of its own.
func (r *Rpm) Remove(ctx context.Context, name string, _ bool) error {
	begun, err := r.begun(name)
	if err != nil {
		return err
	}
	temporary, err := r.settle(ctx, name, begun, "")
	if err != nil {
		return err
	}
	there, err := r.versions(ctx, name)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		if err := r.begin(name, transaction{Doing: removing}); err != nil {
			return err
		}
		if err := r.keepConfig(ctx, name); err != nil {
			return err
		}
		result, err := r.rpm(ctx, "-e", "--allmatches", name)
		if err == nil && result.ExitCode != 0 {
			err = r.complaint(result, "remove "+name)
			if len(temporary) == 0 && begun == (transaction{}) && untouched.MatchString(result.Output) { // it has begun nothing
				err = errors.Join(err, r.putBackAll(), r.end(name))
			}
		}
		if err != nil {
			return err
		}
	}
	if err := r.putBackAll(); err != nil {
		return err
	}
	if err := r.clear(temporary); err != nil {
		return err
	}
	return r.end(name)
}

// keepConfig copies the package's configuration files that are not what it brought. Where rpm has laid the package's own
// beside one, that goes: rpm does not know of it, and would leave it.
func (r *Rpm) keepConfig(ctx context.Context, name string) error {
	lines, _, err := r.ask(ctx, "-q", "--nosignature", "--qf", "[@%{FILEFLAGS}\t%{FILEDIGESTS}\t%{FILENAMES}\n]", name)
	if err != nil {
		return err
	}
	for _, line := range lines {
		flags, err := strconv.Atoi(line[0])
		if err != nil || len(line) != 3 {
			continue
		}
		file := line[2]
		if flags&flagConfig == 0 && (flags&flagGhost == 0 || !strings.HasPrefix(file, "/etc/")) {
			continue
		}
		if err := r.removeFresh(file+".rpmnew", line[1]); err != nil {
			return err
		}
		info, err := r.files.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return failure.Wrap(failure.PackageInstall, err, "cannot keep %s over removing %s", file, name)
		}
		if !info.Mode().IsRegular() { // rpm removes a link, and not what it leads to
			continue
		}
		data, err := r.files.ReadFile(file)
		if err != nil {
			return failure.Wrap(failure.PackageInstall, err, "cannot keep %s over removing %s", file, name)
		}
		if flags&flagGhost == 0 && digestIs(data, line[1]) {
			continue
		}
		if err := r.disk.WriteFile(keptPath(file), bytes.NewReader(data), info.Mode().Perm(), ownerOf(info)); err != nil {
			return err
		}
	}
	return nil
}

// removeFresh removes a file if it is what the package has, by its sum.
func (r *Rpm) removeFresh(file, sum string) error {
	info, err := r.files.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // mostly there is none
	}
	data, err := r.files.ReadFile(file)
	if err != nil || !digestIs(data, sum) {
		return nil //nolint:nilerr // then it is not known to be rpm's
	}
	return r.disk.Remove(file)
}

// digestIs compares with a sum of rpm's, of the kind that its length tells.
func digestIs(data []byte, hexSum string) bool {
	if len(hexSum) == 2*md5.Size {
		sum := md5.Sum(data)
		return hex.EncodeToString(sum[:]) == hexSum
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) == hexSum
}

func keptPath(file string) string { return path.Join(rpmKept, url.PathEscape(file)) }

// putBackAll puts back what was put aside and is not there any more, and removes rpm's own copy of it.
func (r *Rpm) putBackAll() error {
	entries, err := r.files.ReadDir(rpmKept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "cannot look into %s", rpmKept)
	}
	for _, entry := range entries {
		kept := path.Join(rpmKept, entry.Name())
		file, err := url.PathUnescape(entry.Name())
		if err != nil || !path.IsAbs(file) {
			continue
		}
		info, err := r.files.Lstat(kept)
		if err != nil {
			return failure.Wrap(failure.PackageInstall, err, "cannot put %s back", file)
		}
		data, err := r.files.ReadFile(kept)
		if err != nil {
			return failure.Wrap(failure.PackageInstall, err, "cannot put %s back", file)
		}
		if _, err := r.files.Lstat(file); errors.Is(err, fs.ErrNotExist) {
			if err := r.disk.WriteFile(file, bytes.NewReader(data), info.Mode().Perm(), ownerOf(info)); err != nil {
				return err
			}
		}
		if saved, err := r.files.ReadFile(file + ".rpmsave"); err == nil && bytes.Equal(saved, data) {
			if err := r.disk.Remove(file + ".rpmsave"); err != nil {
				return err
			}
		}
		if err := r.disk.Remove(kept); err != nil {
			return err
		}
	}
	return r.disk.Remove(rpmKept)
}
