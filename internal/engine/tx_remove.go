package engine

import (
	"context"
	"errors"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// RemovePackage removes a package; with purge its configuration files too, but for those that somebody changed. file is
// the package's own file, from which an undo installs it again: without one the package stays removed, and the undo says
// so. units are those that the package brings: they are to be at rest by then, and an undo brings them back. A package
// that is not there is left alone.
func (tx *Tx) RemovePackage(ctx context.Context, name string, purge bool, file string, units ...string) error {
	before, err := tx.host.Packages.Package(name)
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "cannot look at the package %s", name)
	}
	r := tx.removal(name)
	if !before.Installed && !before.Partial && !(purge && before.Residual) && (r == nil || r.done) {
		return nil
	}
	images, err := tx.unseen(ctx, units)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r == nil { // the first one counts: what a killed run has left of the package is nobody's former state
		r, err = tx.journal.record(tx.step, kindRemoval, removalChange{Name: name, Before: before, File: file, Units: images})
		if err != nil {
			return err
		}
	}
	if err := tx.host.Packager.Remove(tx.watched(ctx), name, purge); err != nil {
		if coded := (*failure.Error)(nil); errors.As(err, &coded) {
			return err
		}
		return failure.Wrap(failure.PackageInstall, err, "cannot remove %s", name)
	}
	now, err := tx.host.Packages.Package(name)
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "cannot look at the package %s", name)
	}
	if now.Installed || now.Partial {
		return failure.New(failure.PackageInstall, "the package manager says it is done, and %s is still there", name).
			WithEvidence("its database has version %q, installed %t, half-way %t", now.Version, now.Installed, now.Partial)
	}
	return tx.done(r)
}

func (tx *Tx) removal(name string) *record {
	for _, r := range tx.journal.story.records {
		if c, ok := r.change.(*removalChange); ok && c.Name == name {
			return r
		}
	}
	return nil
}

// removalChange is a package that was removed.
type removalChange struct {
	Name   string       `json:"name"`
	Before host.Package `json:"before"`
	File   string       `json:"file,omitempty"`
	Units  []unitImage  `json:"units,omitempty"`
}

func (c *removalChange) undo(ctx context.Context, u *undoing, r *record) ([]string, error) {
	now, err := u.host.Packages.Package(c.Name)
	switch {
	case err != nil:
		return nil, err
	case now.Installed && !now.Partial && now.Version == c.Before.Version:
		return nil, nil
	case !c.Before.Installed && !c.Before.Partial: // only its configuration files were there
		return nil, nil
	case now.Installed && !now.Partial:
		return left(c.Name, "version "+now.Version+" was installed by somebody else"), nil
	case c.Before.Partial:
		return left(c.Name, "it was half installed before"), nil
	case c.File == "":
		return left(c.Name, "it is removed; there is no file of "+c.Before.Version+" to install it from"), nil
	}
	ctx = u.watched(ctx, r.step)
	if state, err := u.host.Packages.State(); err == nil && state.Interrupted {
		if err := u.host.Packager.Repair(ctx); err != nil {
			u.tell.event(Event{Kind: Warned, Step: r.step, Text: "the package manager could not be repaired", Err: err})
		}
	}
	if err := u.host.Packager.Install(ctx, c.File); err != nil {
		return nil, err
	}
	_, _ = u.stopUnits(ctx) // its script has started them, and its files are not all back
	now, err = u.host.Packages.Package(c.Name)
	if err == nil && now.Version != c.Before.Version {
		return left(c.Name, "version "+now.Version+"; "+c.File+" is not "+c.Before.Version), nil
	}
	return nil, err
}

// RemoveTree removes a path with all that is below it, for good: no copy is made, so from here on the operation only goes
// forward. It is refused across a mount point and through a symbolic link (host.Disk.RemoveAll). A path that is not
// there is left alone.
func (tx *Tx) RemoveTree(ctx context.Context, path string) error {
	now, err := look(tx.host, path, false)
	if err != nil || now.Is == absent {
		return err
	}
	if err := tx.host.Disk.Removable(path); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := tx.journal.record(tx.step, kindTree, treeChange{path})
	if err != nil {
		return err
	}
	if err := tx.host.Disk.RemoveAll(path); err != nil {
		return unwritten(err, "cannot remove %s", path)
	}
	return tx.done(r)
}

// treeChange is a path that was removed for good.
type treeChange struct {
	Path string `json:"path"`
}

// undo is never asked while the removal stands in the journal, see committed.
func (c *treeChange) undo(context.Context, *undoing, *record) ([]string, error) {
	return left(c.Path, "is removed for good"), nil
}
