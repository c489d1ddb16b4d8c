package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

const (
	dpkgDir    = "/var/lib/dpkg"
	dpkgStatus = dpkgDir + "/status"
	// dpkgUpdates holds what an interrupted dpkg did not merge into the status file yet: numbered files of the same form.
	dpkgUpdates = dpkgDir + "/updates"
	// aptLists are what apt knows of the packages that it could install; locked while it asks for news.
	aptLists = "/var/lib/apt/lists"
)

// record is one package in dpkg's status file. Format: deb-control(5), and for Status dpkg-query(1).
type record struct {
	Name, Version, Arch string
	Want, Error, State  string // the three words of Status: install ok installed
	Conffiles           []conffile
}

// conffile is a configuration file that dpkg knows of, with the MD5 sum of what the package brought.
type conffile struct {
	Path, Sum string
	Obsolete  bool
}

func (r record) installed() bool {
	return r.State == "installed" || r.State == "triggers-pending" || r.State == "triggers-awaited"
}

func (r record) partial() bool {
	return r.State == "unpacked" || r.State == "half-configured" || r.State == "half-installed"
}

// unfinished also counts what still waits for triggers, and what must be installed anew.
func (r record) unfinished() bool {
	return r.partial() || strings.HasPrefix(r.State, "triggers-") || r.Error == "reinstreq"
}

// Package implements PackageReader. Of a package in several architectures the installed one counts.
func (d *Dpkg) Package(name string) (Package, error) {
	found, err := d.record(name)
	if err != nil {
		return Package{}, err
	}
	p := Package{Name: name, Installed: found.installed(), Partial: found.partial(), Held: found.Want == "hold"}
	p.Residual = found.State == "config-files"
	if p.Installed || p.Partial {
		p.Version = found.Version
	}
	return p, nil
}

func (d *Dpkg) record(name string) (record, error) {
	byArch := map[string]record{}
	err := d.each(name, func(r record) { byArch[r.Arch] = r })
	if err != nil {
		return record{}, err
	}
	var best record
	for _, arch := range slices.Sorted(maps.Keys(byArch)) {
		if r := byArch[arch]; best.Name == "" || r.installed() && !best.installed() || r.partial() && !best.installed() {
			best = r
		}
	}
	return best, nil
}

// each calls visit with the records of one package, or of all when name is empty: those of the status file, then those
// of an interrupted run, which replace them. A machine without dpkg has none.
func (d *Dpkg) each(name string, visit func(record)) error {
	names, err := d.updates()
	if err != nil {
		return err
	}
	for _, file := range append([]string{dpkgStatus}, names...) {
		f, err := d.files.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = parseStatus(f, name, visit)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return failure.Wrap(failure.PackagesBroken, err, "cannot read dpkg's database").WithEvidence("%s", file)
		}
	}
	return nil
}

// updates are the files of an interrupted run, in their order. dpkg passes over names that are no numbers.
func (d *Dpkg) updates() ([]string, error) {
	entries, err := d.files.ReadDir(dpkgUpdates)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failure.Wrap(failure.PackagesBroken, err, "cannot read dpkg's database")
	}
	var names []string
	for _, entry := range entries {
		if strings.Trim(entry.Name(), "0123456789") == "" {
			names = append(names, path.Join(dpkgUpdates, entry.Name()))
		}
	}
	return names, nil
}

// parseStatus reads a status file as a stream. With a name, only that package's paragraphs are taken apart: the file
// has megabytes, mostly descriptions.
func parseStatus(from io.Reader, name string, visit func(record)) error {
	lines := bufio.NewReaderSize(from, 256<<10)
	var r record
	var field string
	flush := func() {
		if r.Name != "" && (name == "" || r.Name == name) {
			visit(r)
		}
		r, field = record{}, ""
	}
	for {
		raw, err := lines.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) { // a line of more than 256 KiB is none that is asked for
			_, err = lines.ReadSlice('\n')
			raw = nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		switch {
		case len(raw) == 0:
		case raw[0] == '\n' || raw[0] == '\r':
			flush()
		case raw[0] == ' ' || raw[0] == '\t':
			if field == "Conffiles" && (name == "" || r.Name == name) {
				r.addConffile(string(raw))
			}
		case interesting(raw):
			var value string
			field, value, _ = strings.Cut(string(raw), ":")
			r.set(field, strings.TrimSpace(value))
		default:
			field = ""
		}
		if err == io.EOF {
			flush()
			return nil
		}
	}
}

// interesting keeps most lines of the file from becoming strings.
func interesting(line []byte) bool {
	switch line[0] {
	case 'P', 'S', 'V', 'A', 'C':
		return true
	}
	return false
}

func (r *record) set(field, value string) {
	switch field {
	case "Package":
		r.Name = value
	case "Version":
		r.Version = value
	case "Architecture":
		r.Arch = value
	case "Status":
		if words := strings.Fields(value); len(words) == 3 {
			r.Want, r.Error, r.State = words[0], words[1], words[2]
		}
	}
}

// addConffile reads " /etc/x 0123…" with further words behind it: obsolete, remove-on-upgrade. A path may hold blanks.
func (r *record) addConffile(line string) {
	words := strings.Fields(line)
	last := len(words) - 1
	var c conffile
	for last > 0 && (words[last] == "obsolete" || words[last] == "remove-on-upgrade") {
		c.Obsolete = c.Obsolete || words[last] == "obsolete"
		last--
	}
	if last < 1 {
		return
	}
	c.Sum = words[last]
	text := strings.TrimPrefix(strings.TrimRight(line, "\r\n"), " ")
	c.Path = strings.TrimRight(text[:strings.LastIndex(text, c.Sum)], " ")
	r.Conffiles = append(r.Conffiles, c)
}

// State implements PackageReader. The locks can only be seen by root; without it LockedBy is empty.
func (d *Dpkg) State() (ManagerState, error) {
	if _, err := d.files.Stat(dpkgStatus); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ManagerState{}, nil
		}
		return ManagerState{}, failure.Wrap(failure.PackagesBroken, err, "cannot read dpkg's database")
	}
	state := ManagerState{Family: "deb", Manager: "apt"}
	names, err := d.updates()
	if err != nil {
		return state, err
	}
	unfinished, err := d.unfinished()
	if err != nil {
		return state, err
	}
	state.Unfinished = unfinished
	state.Interrupted = len(names) > 0 || len(unfinished) > 0
	// The front end's lock, which apt holds for its whole run, and the database's own.
	if state.LockedBy, err = d.lockedBy(dpkgDir+"/lock-frontend", dpkgDir+"/lock"); err != nil {
		return state, err
	}
	state.ListsBy, err = d.lockedBy(aptLists + "/lock")
	return state, err
}

// unfinished are the packages that an interrupted run left half-way, by name.
func (d *Dpkg) unfinished() ([]UnfinishedPackage, error) {
	latest := map[string]record{}
	if err := d.each("", func(r record) { latest[r.Name+":"+r.Arch] = r }); err != nil {
		return nil, err
	}
	var left []UnfinishedPackage
	for _, key := range slices.Sorted(maps.Keys(latest)) {
		if r := latest[key]; r.unfinished() {
			left = append(left, UnfinishedPackage{
				Name: r.Name, State: r.State, Reinstall: r.State == "half-installed" || r.Error == "reinstreq",
			})
		}
	}
	return left, nil
}

// lockedBy names the process that holds one of the locks.
func (d *Dpkg) lockedBy(locks ...string) (string, error) {
	for _, name := range locks {
		pid, locked, err := lockHolder(d.disk.Local(name))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			continue
		case err != nil:
			return "", failure.Wrap(failure.Internal, err, "cannot look at the lock %s", name)
		case locked && pid <= 0: // in another pid namespace
			return "another process", nil
		case locked:
			return processName(d.files, pid), nil
		}
	}
	return "", nil
}

// processName is a process for people.
func processName(files Files, pid int) string {
	comm, err := files.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("pid %d", pid)
	}
	return fmt.Sprintf("pid %d (%s)", pid, strings.TrimSpace(string(comm)))
}
