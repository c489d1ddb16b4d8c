package engine

import (
	"context"
	"sync"
)

// fetches are the downloads of a run. All begin together; the first that fails ends the others.
type fetches struct {
	ctx  context.Context
	stop context.CancelFunc
	plan Plan
	gate int // index of the first step that waits for all of them
	tell *teller

	wg    sync.WaitGroup
	begun map[int]chan struct{} // closed at the fetch's end; only the goroutine of the steps uses the map

	mu     sync.Mutex
	failed int // index of the step whose fetch failed first
	err    error
}

// startFetches begins the fetches of all steps that are pending.
func startFetches(ctx context.Context, plan Plan, states []State, tell *teller) *fetches {
	f := &fetches{plan: plan, gate: len(plan.Steps), tell: tell, begun: map[int]chan struct{}{}}
	f.ctx, f.stop = context.WithCancel(ctx)
	for i, s := range plan.Steps {
		if s.ID == plan.Gate {
			f.gate = i
		}
		if states[i] != OK {
			f.start(i)
		}
	}
	return f
}

func (f *fetches) start(i int) {
	s := f.plan.Steps[i]
	if s.Fetch == nil || f.begun[i] != nil {
		return
	}
	done := make(chan struct{})
	f.begun[i] = done
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		defer close(done)
		began := f.tell.now()
		f.tell.event(Event{Kind: Fetching, Step: s.ID, Title: s.Title})
		if err := s.Fetch(f.tell.progress(f.ctx, s)); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.err == nil { // later ones were only stopped
				f.failed, f.err = i, err
				f.stop()
			}
			return
		}
		f.tell.event(Event{Kind: Fetched, Step: s.ID, Title: s.Title, Took: f.tell.now().Sub(began)})
	}()
}

// ready returns when step i may change: its own fetch has ended, and from the gate on every other too. A fetch that has
// failed by then is an error, whichever step's it is.
func (f *fetches) ready(ctx context.Context, i int) (failed int, err error) {
	f.start(i)
	for k, done := range f.begun {
		if k != i && i < f.gate {
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
			return i, context.Cause(ctx)
		}
	}
	if ctx.Err() != nil {
		return i, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed, f.err
}

// end stops what still runs and waits for it.
func (f *fetches) end() {
	f.stop()
	f.wg.Wait()
}
