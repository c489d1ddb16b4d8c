package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"path"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// WriteFile makes or replaces the file at path. mode is for a new file; an existing one keeps its mode and owner.
// Missing parents are made with mode 0755. Writing what is already there does nothing. data is held in memory, for its
// hash is in the journal before the file changes; a reader of much should have a method Len. Undo restores the former
// content, or removes the file, where the file is still what was written or is missing; else it is kept.
func (tx *Tx) WriteFile(ctx context.Context, path string, data io.Reader, mode fs.FileMode) error {
	content, err := readAll(data)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "cannot read what is to be written to %s", path)
	}
	hash := sha256.Sum256(content)
	after := hex.EncodeToString(hash[:])
	now, err := look(tx.host, path, true)
	if err != nil {
		return err
	}
	switch now.Is {
	case file:
		if now.SHA256 == after {
			return nil
		}
	case absent:
		if l, err := look(tx.host, path, false); err != nil || l.Is != absent {
			return refused("write", path, "it is a symbolic link that leads nowhere", err)
		}
	default:
		return refused("write", path, "there is something that is no file", nil)
	}
	if err := tx.parents(ctx, path); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	before, err := tx.journal.keep(path, true, 0)
	if err != nil {
		return err
	}
	if before.Is == file {
		mode = before.Mode
	}
	r, err := tx.journal.record(tx.step, kindFile, fileChange{Before: before, After: after})
	if err != nil {
		return err
	}
	if err := tx.host.Disk.WriteFile(path, bytes.NewReader(content), mode, before.owner()); err != nil {
		return unwritten(err, "cannot write %s", path)
	}
	return tx.done(r)
}

// readAll is io.ReadAll, without growing step by step where the size is known: programs have tens of megabytes.
func readAll(data io.Reader) ([]byte, error) {
	sized, ok := data.(interface{ Len() int })
	if !ok {
		return io.ReadAll(data)
	}
	content := bytes.NewBuffer(make([]byte, 0, sized.Len()+bytes.MinRead)) // the last read, of nothing, needs room too
	_, err := content.ReadFrom(data)
	return content.Bytes(), err
}

// fileChange is a file that was written.
type fileChange struct {
	Before image  `json:"before"`
	After  string `json:"after"` // SHA-256 of what is written
}

func (c *fileChange) undo(_ context.Context, u *undoing, r *record) ([]string, error) {
	now, err := look(u.host, c.Before.Path, true)
	switch {
	case err != nil:
		return nil, err
	case now.same(c.Before) && r.done:
		return nil, nil
	case now.same(c.Before), now.Is == absent, now.Is == file && now.SHA256 == c.After:
		// A killed write may have left its temporary file beside it: writing or removing once more sweeps that away
		// too.
		return nil, restore(u.host, c.Before)
	}
	return left(c.Before.Path, "was changed by somebody else"), nil
}

// Mkdir makes a folder; missing parents are made with mode 0755. Undo removes it if it is empty.
func (tx *Tx) Mkdir(ctx context.Context, path string, mode fs.FileMode) error {
	now, err := look(tx.host, path, true)
	if err != nil {
		return err
	}
	switch now.Is {
	case folder:
		return nil
	case absent:
	default:
		return refused("make the folder", path, "there is something that is no folder", nil)
	}
	if err := tx.parents(ctx, path); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := tx.journal.record(tx.step, kindFolder, folderChange{path})
	if err != nil {
		return err
	}
	if err := tx.host.Disk.Mkdir(path, mode, host.Owner{}); err != nil {
		return unwritten(err, "cannot make the folder %s", path)
	}
	return tx.done(r)
}

// parents makes the folders above name that are missing, each with its own record.
func (tx *Tx) parents(ctx context.Context, name string) error {
	parent := path.Dir(name)
	if now, err := look(tx.host, parent, true); err != nil || now.Is != absent || parent == name {
		return err
	}
	return tx.Mkdir(ctx, parent, 0o755)
}

// folderChange is a folder that was made.
type folderChange struct {
	Path string `json:"path"`
}

func (c *folderChange) undo(_ context.Context, u *undoing, _ *record) ([]string, error) {
	now, err := look(u.host, c.Path, false)
	if err != nil {
		return nil, err
	}
	if now.Is == absent {
		return nil, u.host.Disk.Remove(c.Path) // sweeps away what a killed Mkdir may have left beside it
	}
	if now.Is != folder {
		return left(c.Path, "is no folder any more"), nil
	}
	inside, err := u.host.Files.ReadDir(c.Path)
	switch {
	case err != nil:
		return nil, err
	case len(inside) == 0:
		return nil, u.host.Disk.Remove(c.Path)
	case u.claimed(c.Path): // what is in it is the claim's to remove
		return nil, nil
	}
	return left(c.Path, "is not empty: it has "+inside[0].Name()), nil
}

// Rename moves a file or folder within its file system; the target must not exist. Missing parents of the target are
// made. Undo moves it back.
func (tx *Tx) Rename(ctx context.Context, from, to string) error {
	source, err := look(tx.host, from, false)
	if err != nil {
		return err
	}
	target, err := look(tx.host, to, false)
	if err != nil {
		return err
	}
	begun := tx.renamed(from, to)
	switch {
	case source.Is == absent && target.Is != absent && begun != nil: // by a run that was killed before it could say so
		return tx.done(begun)
	case source.Is == absent:
		return refused("rename", from, "it does not exist", nil)
	case target.Is != absent:
		return refused("rename "+from+" to", to, "it exists already", nil)
	}
	if err := tx.parents(ctx, to); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := tx.journal.record(tx.step, kindRename, renameChange{from, to})
	if err != nil {
		return err
	}
	if err := tx.host.Disk.Rename(from, to); err != nil {
		return unwritten(err, "cannot rename %s to %s", from, to)
	}
	return tx.done(r)
}

func (tx *Tx) renamed(from, to string) *record {
	for _, r := range tx.journal.story.records {
		if c, ok := r.change.(*renameChange); ok && c.From == from && c.To == to {
			return r
		}
	}
	return nil
}

// renameChange is a file or folder that was moved.
type renameChange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (c *renameChange) undo(_ context.Context, u *undoing, r *record) ([]string, error) {
	source, err := look(u.host, c.From, false)
	if err != nil {
		return nil, err
	}
	target, err := look(u.host, c.To, false)
	switch {
	case err != nil:
		return nil, err
	case source.Is == absent && target.Is != absent:
		return nil, u.host.Disk.Rename(c.To, c.From)
	case source.Is != absent && target.Is == absent, !r.done:
		return nil, nil // it is back, or never went
	case target.Is == absent:
		return left(c.To, "is gone; it was "+c.From), nil
	}
	return left(c.To, "cannot go back: something else is at "+c.From), nil
}

// Remove removes one file, symbolic link or empty folder. Undo puts it back unless something else is there by then.
func (tx *Tx) Remove(ctx context.Context, path string) error {
	now, err := look(tx.host, path, false)
	if err != nil || now.Is == absent {
		return err
	}
	if now.Is == other {
		return refused("remove", path, "it is no file", nil)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	before, err := tx.journal.keep(path, false, 0)
	if err != nil {
		return err
	}
	r, err := tx.journal.record(tx.step, kindRemove, removeChange{before})
	if err != nil {
		return err
	}
	if err := tx.host.Disk.Remove(path); err != nil {
		return unwritten(err, "cannot remove %s", path)
	}
	return tx.done(r)
}

// removeChange is a file that was removed.
type removeChange struct {
	Before image `json:"before"`
}

func (c *removeChange) undo(_ context.Context, u *undoing, _ *record) ([]string, error) {
	now, err := look(u.host, c.Before.Path, false)
	switch {
	case err != nil:
		return nil, err
	case now.same(c.Before):
		return nil, nil
	case now.Is == absent:
		return nil, restore(u.host, c.Before)
	}
	return left(c.Before.Path, "was made anew by somebody else"), nil
}

// Claim records which of these paths do not exist yet and will be made by what the step starts (a package, a service).
// Undo removes those with all that is below them; a path that existed is never touched.
func (tx *Tx) Claim(ctx context.Context, paths ...string) error {
	var c claimChange
	for _, p := range paths {
		now, err := look(tx.host, p, false)
		if err != nil {
			return err
		}
		if now.Is == absent && !tx.claimed(p) {
			c.Paths = append(c.Paths, p)
		}
	}
	if len(c.Paths) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := tx.journal.record(tx.step, kindClaim, c)
	if err != nil {
		return err
	}
	return tx.done(r)
}

func (tx *Tx) claimed(name string) bool {
	for _, r := range tx.journal.story.records {
		if c, ok := r.change.(*claimChange); ok && c.has(name) {
			return true
		}
	}
	return false
}

// claimChange is paths that did not exist.
type claimChange struct {
	Paths []string `json:"paths"`
}

func (c *claimChange) has(name string) bool {
	for _, p := range c.Paths {
		if p == name {
			return true
		}
	}
	return false
}

func (c *claimChange) undo(_ context.Context, u *undoing, _ *record) (kept []string, err error) {
	for i := len(c.Paths) - 1; i >= 0; i-- { // parents are named before what is in them
		if held := u.keptBelow(c.Paths[i]); held != "" {
			kept = append(kept, c.Paths[i]+" (has "+held+")")
			continue
		}
		if e := u.host.Disk.RemoveAll(c.Paths[i]); e != nil && err == nil {
			err = e
		}
	}
	return kept, err
}

// Snapshot records the content of files that a child or a service is about to change. Undo restores them, or removes
// those that did not exist, whoever has written them since: it is for files that nobody else writes.
func (tx *Tx) Snapshot(ctx context.Context, paths ...string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var c snapshotChange
	for part, p := range paths {
		if tx.snapped(p) {
			continue
		}
		before, err := tx.journal.keep(p, true, part)
		if err != nil {
			return err
		}
		if before.Is != absent && before.Is != file {
			return refused("record", p, "there is something that is no file", nil)
		}
		c.Before = append(c.Before, before)
	}
	if len(c.Before) == 0 {
		return nil
	}
	r, err := tx.journal.record(tx.step, kindSnapshot, c)
	if err != nil {
		return err
	}
	return tx.done(r)
}

func (tx *Tx) snapped(name string) bool {
	for _, r := range tx.journal.story.records {
		if c, ok := r.change.(*snapshotChange); ok {
			for _, before := range c.Before {
				if before.Path == name {
					return true
				}
			}
		}
	}
	return false
}

// snapshotChange is files as they were before others changed them.
type snapshotChange struct {
	Before []image `json:"before"`
}

func (c *snapshotChange) undo(_ context.Context, u *undoing, _ *record) ([]string, error) {
	for _, before := range c.Before {
		if u.keptBelow(before.Path) == before.Path {
			continue // somebody changed it after the operation had written it, and that is theirs
		}
		now, err := look(u.host, before.Path, true)
		if err != nil {
			return nil, err
		}
		if now.same(before) && now.Mode == before.Mode && now.owner() == before.owner() {
			continue
		}
		if err := restore(u.host, before); err != nil {
			return nil, unwritten(err, "cannot restore %s", before.Path)
		}
	}
	return nil, nil
}

func refused(doing, name, why string, err error) error {
	if err != nil {
		return err
	}
	return failure.New(failure.Internal, "cannot %s %s: %s", doing, name, why)
}
