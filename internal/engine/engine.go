package engine

import (
	"context"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Paths of the engine's own data below Engine.Dir.
const (
	journalDir = "journal" // open.jsonl, and the last ones under the name TIME-VERB-RUN.jsonl
	backupDir  = "backup"  // RUN/N: before-images, 0600
)

// Engine carries out plans on one host. One process at a time holds its lock (see Lock).
type Engine struct {
	Host  host.Host
	Dir   string // /var/lib/anywhere
	RunID string
	// Version of the program, journalled.
	Version string
	// Kinds adds to the undo table the kinds of change that rooms above the engine bring (Tx.Effect).
	Kinds map[string]Kind
	// Listen gets every event, in order, one at a time. It must not block.
	Listen func(Event)

	pulse func(point string) // called around each write of the journal; the kill tests end the process there
}

// Options of Apply.
type Options struct {
	NoRollback bool // keep the half-way state when a step fails
}

// Outcome is how an Apply or Rollback ended, whatever its error.
type Outcome struct {
	Steps      []StepReport
	Changed    bool     // the host or AWS is not as it was before the operation, of which a resumed run is a part
	Resumed    bool     // an unfinished operation was gone on with
	RolledBack bool     // a failure was undone, completely
	Kept       []string // what stays although the operation failed: after the commit point, or because it was changed since
}

// StepReport is a step's part in the report. Status is one of done, unchanged, planned, skipped, failed, undone, kept.
type StepReport struct {
	ID       string
	Title    string
	Status   string
	Detail   string
	Duration time.Duration
}

// Kind is how a kind of effect is taken back (Tx.Effect).
type Kind struct {
	// Undo takes back one effect, from what the journal has of it. It must be idempotent: a killed undo is begun anew.
	// kept names what it left alone because it is no longer what was written.
	Undo func(ctx context.Context, h host.Host, data []byte) (kept []string, err error)
	// Committed reports, by looking at the host, that the effect cannot be taken back any more, so that the whole
	// operation only goes forward; what names it ("managed node mi-…"). Optional. It closes the gap between an effect
	// and its mark in the journal.
	Committed func(ctx context.Context, r host.Reader, data []byte) (what string, yes bool)
	// Refused reports whether an effect that failed with err certainly did not happen, so that there is nothing of it to
	// take back. Optional: without it an effect counts as soon as it is begun.
	Refused func(err error) bool
	// Stays are the files that the operation wrote and that stay with the effect where Undo keeps something of it: what
	// is kept is of no use without them. Optional.
	Stays func(data []byte) (paths []string)
}

// Event is one line of the story: renderers and the log listen to it.
type Event struct {
	Time  time.Time
	Kind  EventKind
	Step  string // id; empty for the whole operation
	Title string
	Text  string        // detail, child's command line, note
	Took  time.Duration // of a step's end
	Done  int64         // bytes, with Progressed
	Total int64         // bytes; 0 is unknown
	Err   error
}

// EventKind tells events apart.
type EventKind string

// Kinds of events.
const (
	Planned    EventKind = "planned"    // a step is pending; sent for each before the first change
	Unchanged  EventKind = "unchanged"  // a step is already so
	Fetching   EventKind = "fetching"   // a fetch began
	Fetched    EventKind = "fetched"    // and ended
	Progressed EventKind = "progressed" // bytes of a fetch
	Started    EventKind = "started"    // a step's change began
	Noted      EventKind = "noted"      // a step says what it waits for, or a child was run
	Advanced   EventKind = "advanced"   // what a step waits for has come nearer
	Finished   EventKind = "finished"   // a step is done
	Failed     EventKind = "failed"     // a step failed
	Undoing    EventKind = "undoing"    // taking a step back
	Undone     EventKind = "undone"     // and done
	Kept       EventKind = "kept"       // left as it is although the operation failed
	Warned     EventKind = "warned"     // something the reader should know
)

type progressKey struct{}

// Progress reports a fetch's bytes. Outside a Fetch it does nothing.
func Progress(ctx context.Context, done, total int64) {
	if report, ok := ctx.Value(progressKey{}).(func(done, total int64)); ok {
		report(done, total)
	}
}
