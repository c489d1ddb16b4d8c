package engine

import (
	"context"
	"io"
	"io/fs"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Tx is the only way by which a step changes anything. Each primitive writes its before-image to the journal, reaches the
// disk with it, acts, and marks it done.
type Tx struct{}

// Reader is the machine to look at.
func (tx *Tx) Reader() host.Reader { panic("not yet") }

// Note tells the listener what the step is doing or waiting for.
func (tx *Tx) Note(format string, args ...any) { panic("not yet") }

// WriteFile makes or replaces the file at path. mode is for a new file; an existing one keeps its mode and owner. Writing
// what is already there does nothing. Undo restores the former content, or removes the file, where the file is still
// what was written or is missing; else it is kept.
func (tx *Tx) WriteFile(ctx context.Context, path string, data io.Reader, mode fs.FileMode) error {
	panic("not yet")
}

// Mkdir makes a folder. Undo removes it if it is empty.
func (tx *Tx) Mkdir(ctx context.Context, path string, mode fs.FileMode) error { panic("not yet") }

// Rename moves a file or folder within its file system; the target must not exist. Undo moves it back.
func (tx *Tx) Rename(ctx context.Context, from, to string) error { panic("not yet") }

// Remove removes one file. Undo puts it back unless something else is there by then.
func (tx *Tx) Remove(ctx context.Context, path string) error { panic("not yet") }

// Claim records which of these paths do not exist yet and will be made by what the step starts (a package, a service).
// Undo removes those with all that is below them; a path that existed is never touched.
func (tx *Tx) Claim(ctx context.Context, paths ...string) error { panic("not yet") }

// Snapshot records the content of files that a child or a service is about to change. Undo restores them, or removes
// those that did not exist.
func (tx *Tx) Snapshot(ctx context.Context, paths ...string) error { panic("not yet") }

// Install installs the package file. units are those that the package brings or whose state its scripts change: undo
// brings them back to what they were. Undo removes the package if it was absent, and reinstalls former when that is the
// file of the version that was there; else it is kept.
func (tx *Tx) Install(ctx context.Context, name, file, former string, units ...string) error {
	panic("not yet")
}

// UnitWant is the state a unit is to be in. The zero value of a field leaves that side alone.
type UnitWant struct {
	Enable  bool
	Disable bool
	Start   bool // start if it is not running
	Restart bool // restart or start
	Stop    bool
}

// Unit brings a unit to the wanted state. Undo stops units first, takes everything else back, reloads the manager, and
// then brings every unit to what it was before the operation touched it.
func (tx *Tx) Unit(ctx context.Context, name string, want UnitWant) error { panic("not yet") }

// ReloadUnits makes the service manager read its files again; an undo of the operation then does so too.
func (tx *Tx) ReloadUnits(ctx context.Context) error { panic("not yet") }

// Backup copies a file, which may hold secrets, to the operation's backup folder with mode 0600 and returns the copy's
// path; "" for a file that does not exist.
func (tx *Tx) Backup(path string) (string, error) { panic("not yet") }

// Effect does something of a kind that the engine does not know (see Kind). data, marshalled to JSON, is all that its
// Undo will get: no secrets.
func (tx *Tx) Effect(ctx context.Context, kind string, data any, do func(ctx context.Context) error) error {
	panic("not yet")
}

// Run runs a child inside an Effect's do. The child is journalled with pid and start time, so that a later run waits for
// it if it outlives this process.
func (tx *Tx) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) { panic("not yet") }
