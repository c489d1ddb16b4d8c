package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// snapDirs are where snapd mounts snaps: on most systems, and on those that keep to the file system's standard. Source:
// dirs/dirs.go of canonical/snapd 2.72, read 2026-11-25.
var snapDirs = []string{"/snap", "/var/lib/snapd/snap"}

// Snap is a snap as its files tell of it. Nobody needs to be root for that, and no process is started.
type Snap struct {
	Name     string
	Revision string // that is current; empty where none is, as snapd has disabled it or is just changing it
	Version  string // of that
	Dir      string // its files: /snap/NAME/current
	// Kept are the revisions that are at hand, as text, the current one too: any of them can be gone back to.
	Kept []SnapRevision
}

// SnapRevision is a snap's revision and its version.
type SnapRevision struct{ Revision, Version string }

// Whole reports whether the snap is there to be used.
func (s Snap) Whole() bool { return s.Revision != "" && s.Version != "" }

// Store reports whether the current revision came from the store, which signed it. A file that somebody has installed
// without its assertions has a revision like x1.
func (s Snap) Store() bool { return s.Revision != "" && !strings.HasPrefix(s.Revision, "x") }

// Keeps reports whether a revision is at hand.
func (s Snap) Keeps(revision string) bool {
	return slices.ContainsFunc(s.Kept, func(r SnapRevision) bool { return r.Revision == revision })
}

// ReadSnap looks for a snap. found is false when there is none of that name.
func ReadSnap(files Files, name string) (snap Snap, found bool, err error) {
	for _, root := range snapDirs {
		dir := path.Join(root, name)
		entries, err := files.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return snap, false, failure.Wrap(failure.PackagesBroken, err, "cannot look at the snap %s", name)
		}
		snap = Snap{Name: name, Dir: path.Join(dir, "current")}
		for _, e := range entries {
			if e.Name() == "current" || !e.IsDir() {
				continue
			}
			version, err := snapVersion(files, path.Join(dir, e.Name()))
			if err != nil {
				return snap, false, err
			}
			snap.Kept = append(snap.Kept, SnapRevision{e.Name(), version})
		}
		target, err := files.Readlink(snap.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			if len(snap.Kept) == 0 {
				continue // what is left of one that was removed
			}
			return snap, true, nil
		}
		if info, statErr := files.Lstat(snap.Dir); statErr == nil && info.IsDir() {
			target, err = snap.Dir, nil // no work of snapd's, and still the snap that is current
		}
		if err != nil {
			return snap, false, failure.Wrap(failure.PackagesBroken, err, "cannot look at the snap %s", name)
		}
		snap.Revision = path.Base(target)
		snap.Version, err = snapVersion(files, snap.Dir)
		return snap, true, err
	}
	return Snap{}, false, nil
}

// snapVersion reads it from what the snap itself brings; empty where that is not there, as its file system is not mounted.
func snapVersion(files Files, dir string) (string, error) {
	file := path.Join(dir, "meta/snap.yaml")
	text, err := files.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", failure.Wrap(failure.PackagesBroken, err, "cannot read a snap's version").WithEvidence("%s", file)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "version:"); ok {
			return strings.Trim(strings.TrimSpace(value), `'"`), nil
		}
	}
	return "", nil
}

// withSnaps is a package manager's database, and the snaps beside it.
type withSnaps struct {
	PackageReader
	files Files
}

// WithSnaps returns a reader for which a snap counts as the package of its name, where the package manager has none.
func WithSnaps(packages PackageReader, files Files) PackageReader { return withSnaps{packages, files} }

// Package implements PackageReader.
func (w withSnaps) Package(name string) (Package, error) {
	p, err := w.PackageReader.Package(name)
	if err != nil {
		return p, err
	}
	snap, found, err := ReadSnap(w.files, name)
	switch {
	case err != nil || !found:
		return p, err
	case p.Installed || p.Partial:
		p.Beside = true
		return p, nil
	}
	return Package{Name: name, Version: snap.Version, Installed: snap.Whole(), Partial: !snap.Whole(), Snap: true}, nil
}

// SnapRelease is what a channel has.
type SnapRelease struct{ Channel, Version, Revision string }

// SnapOffer is what snapd says of a snap that is installed, and of what the store has for it.
type SnapOffer struct {
	Follows  string // the channel that it is refreshed from
	Held     bool   // somebody has told snapd to leave it as it is
	Newest   bool   // snapd has nothing newer for it; then the channels may be unknown
	Channels []SnapRelease
}

// Followed is the newest release of the channel that the snap follows. A channel that ends in a system's name
// (latest/stable/ubuntu-22.04, which Ubuntu's images have) is not listed; while nothing of its own is in it, snapd takes the
// one that it is a branch of.
func (o SnapOffer) Followed() (SnapRelease, bool) {
	if o.Follows == "" && len(o.Channels) == 1 && o.Channels[0].Channel == "" {
		return o.Channels[0], true
	}
	for name := o.Follows; name != ""; {
		if at := slices.IndexFunc(o.Channels, func(r SnapRelease) bool { return sameChannel(r.Channel, name) }); at >= 0 {
			return o.Channels[at], true
		}
		cut := strings.LastIndexByte(name, '/')
		if strings.Count(name, "/") < 2 {
			break
		}
		name = name[:cut]
	}
	return SnapRelease{}, false
}

// sameChannel compares two names of channels: stable is short for latest/stable.
func sameChannel(a, b string) bool {
	full := func(name string) string {
		if !strings.Contains(name, "/") {
			return "latest/" + name
		}
		return name
	}
	return full(a) == full(b)
}

// parseSnapInfo reads what "snap info NAME" prints: a YAML document for people, whose channels are lines like
// "  latest/stable: 3.3.2299.0 2026-07-01 (11797) 27MB classic", or an arrow for what is the same as the line above, or a
// dash for a channel that is closed. Source: cmd/snap/cmd_info.go of canonical/snapd, read 2026-11-25.
func parseSnapInfo(text string) SnapOffer {
	var o SnapOffer
	section := ""
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if !strings.HasPrefix(key, " ") {
			switch section = key; key {
			case "tracking":
				o.Follows = value
			case "hold":
				o.Held = value != "" && value != "no" && value != "--"
			}
			continue
		}
		if section == "channels" {
			o.addChannel(strings.TrimSpace(key), strings.Fields(value))
		}
	}
	return o
}

// addRefresh takes in what "snap refresh --list" prints: a line for each snap for which there is something newer. Source:
// cmd/snap/cmd_snap_op.go of canonical/snapd, read 2026-11-25.
func (o *SnapOffer) addRefresh(text, name string) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 2 && words[0] == name {
			o.Channels = append(o.Channels, SnapRelease{o.Follows, words[1], words[2]})
			return
		}
	}
	o.Newest = true
}

func (o *SnapOffer) addChannel(name string, words []string) {
	if len(words) == 1 && (words[0] == "^" || words[0] == "↑") && len(o.Channels) > 0 {
		above := o.Channels[len(o.Channels)-1]
		o.Channels = append(o.Channels, SnapRelease{name, above.Version, above.Revision})
		return
	}
	if len(words) < 2 {
		return // closed
	}
	release := SnapRelease{Channel: name, Version: words[0]}
	for _, word := range words[1:] {
		if inner, ok := strings.CutPrefix(word, "("); ok {
			release.Revision = strings.TrimSuffix(inner, ")")
		}
	}
	o.Channels = append(o.Channels, release)
}

// String names the release for people.
func (r SnapRelease) String() string { return fmt.Sprintf("%s in %s", r.Version, r.Channel) }
