package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

const (
	packageFormat = "@%{NAME}\t%{VERSION}-%{RELEASE}\n"

	installing = "install"
	removing   = "remove"
)

// transaction is what was begun with a package and is not known to have ended.
type transaction struct {
	Doing string `json:"doing"`
	File  string `json:"file,omitempty"`
}

// RPMNote is the file that says that a transaction with a package was begun, and goes when it has ended.
func RPMNote(name string) string { return path.Join(rpmWork, name+".json") }

// begun is the transaction that a run was killed in; the zero one when there is none.
func (r *Rpm) begun(name string) (transaction, error) {
	var t transaction
	text, err := r.files.ReadFile(RPMNote(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // only root sees the folder
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if err != nil {
		return t, failure.Wrap(failure.PackagesBroken, err, "cannot read what was begun with %s", name).WithEvidence("%s", RPMNote(name))
	}
	return t, nil
}

func (r *Rpm) begin(name string, t transaction) error {
	text, err := json.Marshal(t)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "note what is begun with %s", name)
	}
	return r.disk.WriteFile(RPMNote(name), strings.NewReader(string(text)), 0o600, Owner{})
}

// notes are what is begun and not known to have ended, by package.
func (r *Rpm) notes() (map[string]transaction, error) {
	entries, err := r.files.ReadDir(rpmWork)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return nil, failure.Wrap(failure.PackagesBroken, err, "cannot look into %s", rpmWork)
	}
	notes := map[string]transaction{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok {
			continue
		}
		if notes[name], err = r.begun(name); err != nil {
			return nil, err
		}
	}
	return notes, nil
}

// end forgets a transaction, and the folder with the last one.
func (r *Rpm) end(name string) error {
	if err := r.disk.Remove(RPMNote(name)); err != nil {
		return err
	}
	entries, err := r.files.ReadDir(rpmWork)
	if err != nil || len(entries) > 0 {
		return nil //nolint:nilerr // it is not there
	}
	return r.disk.Remove(rpmWork)
}

// versions are those of a package in the database: more than one after an upgrade that was killed.
func (r *Rpm) versions(ctx context.Context, name string) ([]string, error) {
	lines, result, err := r.ask(ctx, "-q", "--nosignature", "--qf", packageFormat, name)
	if err != nil {
		return nil, err
	}
	var there []string
	for _, line := range lines {
		if len(line) == 2 && line[0] == name {
			there = append(there, line[1])
		}
	}
	if len(there) == 0 && !strings.Contains(result.Output, "is not installed") {
		return nil, failure.New(failure.PackagesBroken, "rpm cannot tell whether %s is installed", name).
			WithEvidence("%s", lastLines(result.Output))
	}
	return there, nil
}

// Package implements PackageReader. A package whose transaction was killed counts as half-way whatever the database says.
func (r *Rpm) Package(name string) (Package, error) {
	p := Package{Name: name}
	there, err := r.versions(context.Background(), name)
	if err != nil {
		return p, err
	}
	note, err := r.begun(name)
	if err != nil {
		return p, err
	}
	p.Partial = len(there) > 1 || note.Doing != ""
	p.Installed = len(there) == 1 && !p.Partial
	if len(there) > 0 {
		p.Version = there[len(there)-1]
	}
	p.Held, err = r.held(name)
	return p, err
}

// State implements PackageReader. The locks can only be seen by root; without it LockedBy is empty.
func (r *Rpm) State() (ManagerState, error) {
	if _, err := r.files.Stat(rpmProgram); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ManagerState{}, nil
		}
		return ManagerState{}, failure.Wrap(failure.PackagesBroken, err, "cannot look for rpm")
	}
	state := ManagerState{Family: "rpm", Manager: r.frontend().name, Databases: r.databases()}
	notes, err := r.notes()
	if err != nil {
		return state, err
	}
	for _, name := range slices.Sorted(maps.Keys(notes)) {
		state.Interrupted = true
		state.Unfinished = append(state.Unfinished,
			UnfinishedPackage{Name: name, State: "interrupted in " + notes[name].Doing, Reinstall: true})
	}
	state.LockedBy, err = r.lockedBy()
	return state, err
}

// lockedBy names the process that holds rpm's own lock or the front end's.
func (r *Rpm) lockedBy() (string, error) {
	for _, dir := range r.databases() {
		name := path.Join(dir, ".rpm.lock")
		pid, locked, err := lockHolder(r.disk.Local(name))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		case err != nil:
			return "", failure.Wrap(failure.Internal, err, "cannot look at the lock %s", name)
		case locked && pid <= 0: // in another pid namespace
			return "another process", nil
		case locked:
			return processName(r.files, pid), nil
		}
	}
	for _, name := range r.frontend().pidFiles {
		text, err := r.files.ReadFile(name)
		if err != nil { // none, or not for us to read
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid <= 0 {
			continue
		}
		comm, err := r.files.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil { // it is dead, and left its file
			continue
		}
		// A file from before a reboot may name somebody else's pid.
		for _, known := range []string{"dnf", "yum", "zypper", "zypp", "packagekit", "python", "platform-python", "YaST", "y2"} {
			if strings.HasPrefix(strings.ToLower(strings.TrimSpace(string(comm))), strings.ToLower(known)) {
				return processName(r.files, pid), nil
			}
		}
	}
	return "", nil
}
