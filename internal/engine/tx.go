package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Tx is the only way by which a step changes anything. Each primitive writes its before-image to the journal, reaches
// the disk with it, acts, and marks it done. A primitive does not begin once its ctx has ended; it returns
// context.Cause then.
//
// Every primitive may be called again by a run that goes on after a crash. Undoing backwards then passes through every
// state that was recorded, so the one before the first record is where it ends.
type Tx struct {
	journal *journal
	host    host.Host
	tell    *teller
	step    string
}

// Reader is the machine to look at.
func (tx *Tx) Reader() host.Reader { return tx.host.Reader }

// Note tells the listener what the step is doing or waiting for.
func (tx *Tx) Note(format string, args ...any) {
	tx.tell.event(Event{Kind: Noted, Step: tx.step, Text: fmt.Sprintf(format, args...)})
}

// Flush brings what waits to be written on the file systems of these paths to the disk, as far as that is done within the
// time: what is soon to be as short as it can be then does not wait for it. It changes nothing.
func (tx *Tx) Flush(ctx context.Context, within time.Duration, paths ...string) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, path := range paths {
		_ = tx.host.Disk.Flush(ctx, path) // then it is written by whoever waits for his own file next
	}
}

// Backup copies a file, which may hold secrets, to the operation's backup folder with mode 0600 and returns the
// copy's path; "" for a file that does not exist. It gives the same answer for the rest of the operation, in a
// resumed run too: the copy is of the file as it was before the operation touched it.
func (tx *Tx) Backup(path string) (string, error) {
	for _, r := range tx.journal.story.records {
		if b, ok := r.change.(*backupChange); ok && b.Before.Path == path {
			return b.Before.Copy, nil
		}
	}
	before, err := tx.journal.keep(path, true, 0)
	if err != nil {
		return "", err
	}
	if before.Is != absent && before.Is != file {
		return "", failure.New(failure.Internal, "cannot back up %s: it is no file", path)
	}
	r, err := tx.journal.record(tx.step, kindBackup, backupChange{before})
	if err != nil {
		return "", err
	}
	return before.Copy, tx.done(r)
}

// backupChange is no change: undo leaves the copy to those who asked for it.
type backupChange struct {
	Before image `json:"before"`
}

func (*backupChange) undo(context.Context, *undoing, *record) ([]string, error) { return nil, nil }

// Effect does something of a kind that the engine does not know (see Kind). data, marshalled to JSON, is all that its
// Undo will get: no secrets.
func (tx *Tx) Effect(ctx context.Context, kind string, data any, do func(ctx context.Context) error) error {
	if _, known := tx.journal.Kinds[kind]; !known || undoTable[kind] != nil {
		return failure.New(failure.Internal, "no undo is known for a change of kind %q", kind)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "cannot record a change of kind %s", kind)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := tx.effect(kind, raw)
	if r == nil {
		if r, err = tx.journal.record(tx.step, kind, json.RawMessage(raw)); err != nil {
			return err
		}
	}
	if err := do(tx.watched(ctx)); err != nil {
		if refused := tx.journal.Kinds[kind].Refused; refused != nil && !r.done && refused(err) {
			if unwritten := tx.journal.write(entry{Is: markVoid, Seq: r.seq}); unwritten != nil {
				tx.tell.warn("the journal could not be written", unwritten)
			}
		}
		return err
	}
	return tx.done(r)
}

// effect finds the record of the same effect, begun by a run that did not end: it needs no second one.
func (tx *Tx) effect(kind string, data []byte) *record {
	for _, r := range tx.journal.story.records {
		if !r.void && r.kind == kind && r.step == tx.step && bytes.Equal(r.data, data) {
			return r
		}
	}
	return nil
}

// effectChange is a change of a kind that the engine does not know.
type effectChange struct {
	kind string
	data []byte
}

func (c *effectChange) undo(ctx context.Context, u *undoing, r *record) ([]string, error) {
	kind, known := u.journal.Kinds[c.kind]
	if !known || kind.Undo == nil {
		return nil, failure.New(failure.Internal, "this program does not know how to undo a change of kind %q", c.kind)
	}
	return kind.Undo(u.watched(ctx, r.step), u.host, c.data)
}

// Run runs a child inside an Effect's do. The child is journalled with pid and start time, so that a later run waits
// for it if it outlives this process.
func (tx *Tx) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if ctx.Err() != nil {
		return host.Result{}, context.Cause(ctx)
	}
	return tx.host.Runner.Run(tx.watched(ctx, cmd.Secret...), cmd)
}

// watched returns a context under which every child is told to the listener and written to the journal. A child that
// could not be written down runs on: it is there, and nobody may kill it.
func (tx *Tx) watched(ctx context.Context, secrets ...string) context.Context {
	outer := host.ChildHook(ctx)
	if known, ok := ctx.Value(watchedKey{}).(*watch); ok {
		outer = known.outer
	}
	hook := func(c host.Child) {
		c.Argv = masked(c.Argv, secrets)
		if err := tx.journal.write(entry{Is: markChild, Step: tx.step, Child: &c}); err != nil {
			tx.tell.event(Event{Kind: Warned, Step: tx.step, Text: "the journal could not be written: it lacks " + c.Argv[0], Err: err})
		}
		if c.PID == 0 {
			return // it is only about to start
		}
		tx.Note("runs %s (pid %d)", strings.Join(c.Argv, " "), c.PID)
		outer(c)
	}
	ctx = context.WithValue(ctx, watchedKey{}, &watch{outer})
	return host.WithChildHook(ctx, hook)
}

// watchedKey marks a context that a Tx already watches, so that a child which Run starts inside an Effect is written
// down once.
type watchedKey struct{}

// watch remembers the hook that was there before.
type watch struct{ outer func(host.Child) }

func masked(argv, secrets []string) []string {
	var known secret.Redactor
	known.Add(secrets...)
	out := make([]string, len(argv))
	for i, arg := range argv {
		out[i] = known.Clean(arg)
		for _, s := range secrets {
			if s != "" && arg == s { // a short one too, which the redactor takes for a word
				out[i] = secret.Mask
			}
		}
	}
	return out
}

func (tx *Tx) done(r *record) error {
	if r.done {
		return nil
	}
	return tx.journal.write(entry{Is: markDone, Seq: r.seq})
}
