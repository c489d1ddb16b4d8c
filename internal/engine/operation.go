package engine

import (
	"context"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Operation is what the open journal says of an operation that is not finished.
type Operation struct {
	Verb, Key, RunID, Version string
	Pins                      map[string]string
	Started                   time.Time
	Committed                 bool // past the commit point: it only goes forward
	Changes                   int  // recorded changes
	LastStep                  string
	Path                      string // of the journal
}

// Open is the unfinished operation, or nil when there is none. A journal that cannot be read is an error with the code
// failure.JournalUnreadable, never nil.
func (e *Engine) Open() (*Operation, error) { panic("not yet") }

// Observe looks at every step and changes nothing: the dry run. Pending and unknown steps are reported as planned.
func (e *Engine) Observe(ctx context.Context, plan Plan) ([]StepReport, error) { panic("not yet") }

// Apply carries out the plan, or goes on with the open operation of the same verb and key. Another open operation is
// refused with failure.Unfinished. When ctx ends it stops at the next safe point and undoes or keeps as after a failure;
// the error is then context.Cause(ctx).
func (e *Engine) Apply(ctx context.Context, plan Plan, opts Options) (Outcome, error) {
	panic("not yet")
}

// Rollback undoes the open operation from its journal alone. One past its commit point is left as it is and named in
// Outcome.Kept.
func (e *Engine) Rollback(ctx context.Context) (Outcome, error) { panic("not yet") }

// Abandon moves the open journal aside without touching the host, and returns where it is now.
func (e *Engine) Abandon() (path string, err error) { panic("not yet") }

// Lock takes the host's lock, waiting at most timeout. It fails with failure.Locked, naming pid and run of the holder.
func Lock(ctx context.Context, h host.Host, path, runID string, timeout time.Duration) (release func(), err error) {
	panic("not yet")
}
