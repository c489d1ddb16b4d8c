package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Kinds of records that the engine itself knows.
const (
	kindFile     = "file"
	kindFolder   = "folder"
	kindRename   = "rename"
	kindRemove   = "remove"
	kindClaim    = "claim"
	kindSnapshot = "snapshot"
	kindBackup   = "backup"
	kindPackage  = "package"
	kindRemoval  = "removal"
	kindSnap     = "snap"
	kindTree     = "tree"
	kindUnit     = "unit"
	kindReload   = "reload"
)

// undoTable has for each kind what reads its data and takes it back. Engine.Kinds has the rest.
var undoTable = map[string]func() change{
	kindFile:     func() change { return new(fileChange) },
	kindFolder:   func() change { return new(folderChange) },
	kindRename:   func() change { return new(renameChange) },
	kindRemove:   func() change { return new(removeChange) },
	kindClaim:    func() change { return new(claimChange) },
	kindSnapshot: func() change { return new(snapshotChange) },
	kindBackup:   func() change { return new(backupChange) },
	kindPackage:  func() change { return new(packageChange) },
	kindRemoval:  func() change { return new(removalChange) },
	kindSnap:     func() change { return new(snapChange) },
	kindTree:     func() change { return new(treeChange) },
	kindUnit:     func() change { return new(unitChange) },
	kindReload:   func() change { return new(reloadChange) },
}

// change is the data of a record. undo looks at what is there now and takes the change back; it is idempotent, and it
// does nothing where the change never happened. kept says what it left alone because it is no longer what was
// written.
type change interface {
	undo(ctx context.Context, u *undoing, r *record) (kept []string, err error)
}

func decode(kind string, data json.RawMessage) (change, error) {
	if kind == "" || len(data) == 0 {
		return nil, fmt.Errorf("it has no kind or no data")
	}
	blank, known := undoTable[kind]
	if !known {
		return &effectChange{kind, data}, nil
	}
	c := blank()
	return c, strict(data, c)
}

// undoing takes an operation back from its journal. The order is the point of it: units first come to rest, then every
// record goes backwards, then the service manager reads its files again, and then the units become what they were.
type undoing struct {
	journal *journal
	host    host.Host
	tell    *teller

	held  []string        // paths that are kept
	stays []string        // files that stay with an effect that is kept
	kept  []string        // what was left alone, for people
	steps map[string]bool // steps of which something was kept or could not be undone
	stuck []*record       // what could not be undone, and what waits for that
	errs  []error
}

// undo takes the whole operation back, unless it cannot be taken back any more; then it says so in the journal, and
// the story's commit is set. When ctx ends it stops between two records and returns its cause: what is left is undone
// by the next.
func (j *journal) undo(ctx context.Context, tell *teller) (*undoing, error) {
	u := &undoing{journal: j, host: j.Host, tell: tell, steps: map[string]bool{}}
	if err := j.awaitChildren(ctx, tell); err != nil {
		return u, err
	}
	if j.committed(ctx, tell) {
		return u, nil
	}
	u.write(entry{Is: markUndo})
	_, _ = u.stopUnits(ctx) // what fails is tried again, and told then
	for i := len(j.story.records) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			return u, context.Cause(ctx)
		}
		u.back(ctx, j.story.records[i])
	}
	if ctx.Err() == nil {
		u.bringBackUnits(ctx)
	}
	if ctx.Err() != nil {
		return u, context.Cause(ctx)
	}
	for i := len(j.story.steps) - 1; i >= 0; i-- {
		step := j.story.steps[i]
		if !j.story.touched(step.id) {
			continue
		}
		kind := Undone
		if u.steps[step.id] {
			kind = Kept
		}
		tell.event(Event{Kind: kind, Step: step.id, Title: step.title})
	}
	return u, nil
}

// status is what has become of a step.
func (u *undoing) status(step string) string {
	if u.steps[step] {
		return isKept
	}
	return isUndone
}

// back takes one record back.
func (u *undoing) back(ctx context.Context, r *record) {
	if r.void {
		return
	}
	if !r.undone {
		if u.waits(r) {
			u.steps[r.step] = true
			u.stuck = append(u.stuck, r)
			return
		}
		if last := u.journal.story.lastOf(r.step); last == r {
			u.tell.event(Event{Kind: Undoing, Step: r.step, Title: u.journal.story.step(r.step).title})
		}
		kept, err := []string(nil), error(nil)
		if !u.staying(r.change) {
			kept, err = r.change.undo(ctx, u, r)
		}
		if err != nil {
			u.steps[r.step] = true
			u.stuck = append(u.stuck, r)
			u.failed(u.journal.story.step(r.step).title+": a "+r.kind+" could not be undone", err)
			return // without a mark: the next attempt tries again
		}
		u.write(entry{Is: markUndone, Seq: r.seq, Kept: kept})
		r.undone, r.kept = true, kept // also where the mark could not be written
	}
	if len(r.kept) > 0 {
		u.steps[r.step] = true
		u.kept = append(u.kept, r.kept...)
		u.held = append(u.held, pathsOf(r.change)...)
		if kind := u.journal.Kinds[r.kind]; kind.Stays != nil {
			u.stays = append(u.stays, kind.Stays(r.data)...)
		}
	}
}

// waits reports whether something after r, in its step or at its place, could not be undone. Then r is not tried: it would
// find there what the operation itself has left, and take it for somebody else's. The next attempt comes to it in its turn.
func (u *undoing) waits(r *record) bool {
	return slices.ContainsFunc(u.stuck, func(later *record) bool {
		return later.step == r.step || slices.ContainsFunc(places(later.change), func(a string) bool {
			return slices.ContainsFunc(places(r.change), func(b string) bool { return within(a, b) || within(b, a) })
		})
	})
}

// staying reports whether a change is part of an effect that is kept.
func (u *undoing) staying(c change) bool {
	switch c := c.(type) {
	case *fileChange:
		return slices.Contains(u.stays, c.Before.Path)
	case *folderChange:
		return slices.ContainsFunc(u.stays, func(file string) bool { return within(file, c.Path) })
	}
	return false
}

// write writes a mark of the undo. It only saves work: an undo without it is begun anew and ends the same, so a full
// disk does not keep anything from being taken back.
func (u *undoing) write(e entry) {
	if err := u.journal.write(e); err != nil {
		u.tell.warn("the journal could not be written", err)
	}
}

func (u *undoing) failed(what string, err error) {
	u.errs = append(u.errs, failure.Wrap(failure.Internal, err, "%s", what))
	u.tell.warn(what, err)
}

// watched is a context under which the children of an undo are journalled, for they outlive us like any other.
func (u *undoing) watched(ctx context.Context, step string) context.Context {
	tx := &Tx{journal: u.journal, host: u.host, tell: u.tell, step: step}
	return tx.watched(ctx)
}

// claimed reports whether a claim will remove the path with all that is in it.
func (u *undoing) claimed(name string) bool {
	for _, r := range u.journal.story.records {
		if c, ok := r.change.(*claimChange); ok {
			for _, p := range c.Paths {
				if within(name, p) {
					return true
				}
			}
		}
	}
	return false
}

// keptBelow is a kept path at or below name, or "".
func (u *undoing) keptBelow(name string) string {
	for _, p := range u.held {
		if within(p, name) {
			return p
		}
	}
	return ""
}

// within reports whether name is dir or lies below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// left says why something is kept.
func left(what, why string) []string { return []string{what + " (" + why + ")"} }

// pathsOf are the paths that stay when a change is kept.
func pathsOf(c change) []string {
	switch c := c.(type) {
	case *fileChange:
		return []string{c.Before.Path}
	case *removeChange:
		return []string{c.Before.Path}
	case *folderChange:
		return []string{c.Path}
	case *renameChange:
		return []string{c.To}
	}
	return nil
}

// places are what a change is about: its paths, or the name of a package.
func places(c change) []string {
	switch c := c.(type) {
	case *claimChange:
		return c.Paths
	case *snapshotChange:
		all := make([]string, len(c.Before))
		for i, before := range c.Before {
			all[i] = before.Path
		}
		return all
	case *renameChange:
		return []string{c.From, c.To}
	case *packageChange:
		return []string{"package " + c.Name}
	case *removalChange:
		return []string{"package " + c.Name}
	case *snapChange:
		return []string{"snap " + c.Name}
	}
	return pathsOf(c)
}

// lastOf is the last record of a step.
func (s *story) lastOf(step string) *record {
	for i := len(s.records) - 1; i >= 0; i-- {
		if s.records[i].step == step {
			return s.records[i]
		}
	}
	return nil
}

// committed reports whether the operation only goes forward: by the journal's mark, because something was removed for
// good, or because the kind of a recorded effect sees on the host that it cannot be taken back. Then the mark is written.
func (j *journal) committed(ctx context.Context, tell *teller) bool {
	if j.story.commit != "" {
		return true
	}
	for _, r := range j.story.records {
		if tree, ok := r.change.(*treeChange); ok {
			j.commit(tell, "the removal of "+tree.Path)
			return true
		}
		kind := j.Kinds[r.kind]
		if kind.Committed == nil || r.void {
			continue
		}
		if what, yes := kind.Committed(ctx, j.Host.Reader, r.data); yes {
			j.commit(tell, what)
			return true
		}
	}
	return false
}

// commit writes the commit mark. The operation is past its point of no return whether or not it can be written.
func (j *journal) commit(tell *teller, what string) {
	if err := j.write(entry{Is: markCommit, What: what}); err != nil {
		j.story.commit = what
		tell.warn("the journal could not be written", err)
	}
}

// waitUntold is for how long nothing is said of a wait.
const waitUntold = 300 * time.Millisecond

// awaitChildren waits for those that a killed run left behind: while one is at work, nothing may be looked at or
// touched. This run's own children need no waiting: host.Runner returns when they are gone.
func (j *journal) awaitChildren(ctx context.Context, tell *teller) error {
	for ; len(j.orphans) > 0; j.orphans = j.orphans[1:] {
		child := j.orphans[0]
		what := fmt.Sprintf("%s (pid %d)", strings.Join(child.Argv, " "), child.PID)
		if child.PID == 0 {
			what = fmt.Sprintf("%s (should it have started)", strings.Join(child.Argv, " "))
		}
		late := time.AfterFunc(waitUntold, func() { // the journal does not have their ends: most are long over
			tell.warn("waits until "+what+", begun by an interrupted run, is over", nil)
		})
		err := j.Host.Runner.Wait(ctx, child)
		late.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return failure.Wrap(failure.Internal, err, "cannot wait for %s", what)
		}
	}
	return j.awaitSnapd(ctx, tell)
}

// awaitSnapd waits until snapd has ended what an interrupted run asked it for: it is no child of that run, and outlives a
// power cut too.
func (j *journal) awaitSnapd(ctx context.Context, tell *teller) error {
	for _, r := range j.story.records {
		c, ok := r.change.(*snapChange)
		if !ok || r.undone || j.Host.Snaps == nil {
			continue
		}
		tx := &Tx{journal: j, host: j.Host, tell: tell, step: r.step}
		if err := j.Host.Snaps.Settle(tx.watched(ctx), c.Name); err != nil {
			return err
		}
	}
	return nil
}
