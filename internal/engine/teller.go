package engine

import (
	"context"
	"sync"
	"time"
)

// teller sends events to the listener, one at a time.
type teller struct {
	mu     sync.Mutex
	listen func(Event)
	now    func() time.Time
}

func (e *Engine) teller() *teller { return &teller{listen: e.Listen, now: e.Host.Now} }

func (t *teller) event(e Event) {
	if t.listen == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.Time = t.now()
	t.listen(e)
}

// warn tells what the reader should know, and does not stop for.
func (t *teller) warn(text string, err error) { t.event(Event{Kind: Warned, Text: text, Err: err}) }

// progress is the context of a step's fetch.
func (t *teller) progress(ctx context.Context, s Step) context.Context {
	return context.WithValue(ctx, progressKey{}, func(done, total int64) {
		t.event(Event{Kind: Progressed, Step: s.ID, Title: s.Title, Done: done, Total: total})
	})
}
