package engine

import (
	"context"
	"errors"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Install installs the package file, after finishing what the package manager was interrupted in. units are those
// that the package brings or whose state its scripts change: undo brings them back to what they were. Undo removes
// the package if it was absent, and reinstalls former when that is the file of the version that was there; else it is
// kept. A package that has another version by then than the one installed here is kept too.
func (tx *Tx) Install(ctx context.Context, name, file, former string, units ...string) error {
	before, err := tx.host.Packages.Package(name)
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "cannot look at the package %s", name)
	}
	images, err := tx.unseen(ctx, units)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := tx.firstRecord(kindPackage, &packageChange{Before: before, File: file, Former: former, Name: name, Units: images}, images,
		func(c change) bool { first, ok := c.(*packageChange); return ok && first.Name == name })
	if err != nil {
		return err
	}
	ctx = tx.watched(ctx)
	state, err := tx.host.Packages.State()
	if err == nil && state.Interrupted {
		tx.Note("finishes what the package manager was interrupted in")
		err = tx.host.Packager.Repair(ctx)
	}
	if err == nil {
		err = tx.host.Packager.Install(ctx, file)
	}
	if coded := (*failure.Error)(nil); errors.As(err, &coded) { // it names the package's file
		return err
	} else if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "cannot install %s", name)
	}
	now, err := tx.host.Packages.Package(name)
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "cannot look at the package %s", name)
	}
	if !now.Installed || now.Partial {
		return failure.New(failure.PackageInstall, "the package manager says it is done, and %s is not installed", name).
			WithEvidence("its database has version %q, installed %t, half-way %t", now.Version, now.Installed, now.Partial)
	}
	return tx.journal.write(entry{Is: markDone, Seq: r.seq, Version: now.Version})
}

// firstRecord finds the operation's first record of a thing, or writes one: what was there before that is what undo goes
// back to, and a run that was killed inside a package manager must not take its ruins for the before-image. Units that this
// call names and the first one did not get records of their own.
func (tx *Tx) firstRecord(kind string, c change, units []unitImage, same func(first change) bool) (*record, error) {
	for _, r := range tx.journal.story.records {
		if !same(r.change) {
			continue
		}
		for _, unit := range units {
			if _, err := tx.journal.record(tx.step, kindUnit, unitChange{unit}); err != nil {
				return nil, err
			}
		}
		return r, nil
	}
	return tx.journal.record(tx.step, kind, c)
}

// packageChange is a package that was installed.
type packageChange struct {
	Name   string       `json:"name"`
	Before host.Package `json:"before"`
	File   string       `json:"file"`
	Former string       `json:"former,omitempty"`
	Units  []unitImage  `json:"units,omitempty"`
}

func (c *packageChange) undo(ctx context.Context, u *undoing, r *record) ([]string, error) {
	now, err := u.host.Packages.Package(c.Name)
	if err != nil {
		return nil, err
	}
	wasThere := c.Before.Installed && !c.Before.Partial
	isThere := now.Installed && !now.Partial
	gone := !now.Installed && !now.Partial && (!now.Residual || c.Before.Residual || len(u.held) > 0)
	switch {
	case isThere && wasThere && now.Version == c.Before.Version:
		return nil, nil
	case gone && !c.Before.Installed && !c.Before.Partial:
		return nil, nil
	case isThere && r.version != "" && now.Version != r.version:
		return left(c.Name, "version "+now.Version+" was installed by somebody else"), nil
	case c.Before.Partial:
		return left(c.Name, "it was half installed before"), nil
	}
	ctx = u.watched(ctx, r.step)
	if state, err := u.host.Packages.State(); err == nil && state.Interrupted {
		if err := u.host.Packager.Repair(ctx); err != nil {
			u.tell.event(Event{Kind: Warned, Step: r.step, Text: "the package manager could not be repaired", Err: err})
		}
	}
	_, enabled := u.stopUnits(ctx) // finishing an installation starts its services
	if !wasThere {
		if enabled != nil {
			return nil, enabled
		}
		// Purging takes configuration files along, so not while one of them is somebody else's by now.
		return nil, u.host.Packager.Remove(ctx, c.Name, len(u.held) == 0)
	}
	if c.Former == "" {
		return left(c.Name, "version "+now.Version+"; there is no file of "+c.Before.Version+" to go back to"), nil
	}
	if err := u.host.Packager.Install(ctx, c.Former); err != nil {
		return nil, err
	}
	now, err = u.host.Packages.Package(c.Name)
	if err == nil && now.Version != c.Before.Version {
		return left(c.Name, "version "+now.Version+"; "+c.Former+" is not "+c.Before.Version), nil
	}
	return nil, err
}
