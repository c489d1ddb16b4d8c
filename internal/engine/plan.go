package engine

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// State is what Observe found.
type State int

// States of a step.
const (
	OK      State = iota // nothing to do
	Pending              // Change is needed
	Unknown              // cannot be told before a step in front of it is done; counts as pending
)

// Obs is an observation: the state and, in a few words, what was seen or what is missing.
type Obs struct {
	State  State
	Detail string
}

// Step is one thing that must be so. It is described once; plan, dry run, apply and resume all come from it.
type Step struct {
	ID, Title string
	// Observe looks, and changes nothing. It is called to make the plan, again just before Change and once more after
	// it: a step that is not OK after its Change has failed.
	Observe func(ctx context.Context, r host.Reader) (Obs, error)
	// Fetch downloads into the cache what Change will need. Fetches of all pending steps run in parallel at the start;
	// progress may be reported with Progress(ctx, …). Optional.
	Fetch func(ctx context.Context) error
	// Change makes it so, through tx only. Steps change serially, in list order.
	Change func(ctx context.Context, tx *Tx) error
}

// Plan is what a verb wants, in order.
type Plan struct {
	Verb string
	Key  string            // digest of the request without its secrets: the same command again has the same key
	Pins map[string]string // resolved once, journalled, used again on resume
	// Resolve fills the pins that are missing. It is called once, only when a step is pending, before the first
	// Fetch: what it costs (the network, a check that only a change needs) a run without changes does not pay.
	// Optional.
	Resolve func(ctx context.Context, pins map[string]string) error
	Steps   []Step
	// Gate is the id of the first step that may not start before every Fetch is done.
	Gate string
	// Commit is the id of the step from which there is no way back: once its observation after Change is OK, a failure
	// keeps what is done. Empty means that everything can be undone.
	Commit string
}
