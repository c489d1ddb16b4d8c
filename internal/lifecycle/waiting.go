package lifecycle

import (
	"context"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// pause is how long to wait before an agent is asked again: an eighth of what it was waited for so far, so that no answer
// is noticed later than that, and never so short or long that it would be felt.
func pause(waited time.Duration) time.Duration {
	return min(max(waited/8, shortestPause), longestPause)
}

const (
	shortestPause = 25 * time.Millisecond
	longestPause  = 200 * time.Millisecond // a log's end is read each time
)

// sleep waits as long, or until ctx ends, and returns what ended it.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// defaultWait is --wait-timeout's default.
const defaultWait = 5 * time.Minute

// waiting is something that an agent does in its own time.
type waiting struct {
	code  failure.Code // of the time-out
	what  string       // "the SSM agent to …"
	since time.Time    // log lines before it are of another life
	ecs   bool         // the ECS agent's log counts too
	done  func(ctx context.Context) (done bool, seen string, err error)
}

// wait polls until w is done. It does not sit out a cause that waiting cannot mend: the agents' own logs name it, within
// seconds. All waits of a run share --wait-timeout.
func (r *registration) wait(ctx context.Context, tx *engine.Tx, w waiting) error {
	begun := time.Now()
	if r.deadline.IsZero() {
		limit := r.req.WaitTimeout
		if limit == 0 {
			limit = defaultWait
		}
		r.deadline = begun.Add(limit)
	}
	tx.Note("waiting for %s", w.what)
	for {
		done, seen, err := w.done(ctx)
		if done || err != nil {
			return err
		}
		if err := r.hopeless(ctx, tx.Reader(), w); err != nil {
			return err
		}
		if time.Now().After(r.deadline) {
			return r.timedOut(tx, w, seen, time.Since(begun))
		}
		if err := sleep(ctx, pause(time.Since(begun))); err != nil {
			return err
		}
	}
}

// hopeless is the failure that the agents' logs name as final. The first one is the cause; what follows is how the agent
// ended over it.
func (r *registration) hopeless(ctx context.Context, reader host.Reader, w waiting) error {
	unit := r.ssmUnit()
	if w.ecs {
		unit = r.ecsUnit()
	}
	// Before the logs: what has ended has said why.
	state, err := reader.Units.Unit(ctx, unit)
	if err != nil {
		return err
	}
	findings, err := r.findings(reader, w)
	if err != nil {
		return err
	}
	for _, f := range findings {
		if f.Terminal {
			return f.failure()
		}
	}
	if state.Active == "failed" {
		return failure.New(failure.ServiceFailed, "%s ended: %s, exit status %d", unit, state.Result, state.ExitStatus).
			WithRemedy("journalctl -u %s -n 50", unit)
	}
	return nil
}

// because is err with the agents' own words for it, where their logs have any: systemd only knows that a unit failed.
func (r *registration) because(tx *engine.Tx, w waiting, err error) error {
	findings, readErr := r.findings(tx.Reader(), w)
	if readErr != nil || len(findings) == 0 {
		return err
	}
	return telling(findings).failure()
}

// finding is what both agents' logs have in common.
type finding struct {
	Code                      failure.Code
	Line, File, Cause, Remedy string
	Terminal                  bool
	ecs                       bool // of the ECS agent's log
}

func (f finding) failure() error {
	return failure.New(f.Code, "%s", f.Cause).WithEvidence("%s: %s", f.File, f.Line).WithRemedy("%s", f.Remedy)
}

// findings reads the logs of the agent that is waited for; behind an ECS agent stands the SSM agent, and comes first.
// Those of the SSM agent are oldest first, those of the ECS agent the most telling first.
func (r *registration) findings(reader host.Reader, w waiting) ([]finding, error) {
	var all []finding
	fromSSM, err := ssmagent.ReadLog(reader, w.since)
	if err != nil {
		return nil, err
	}
	for _, f := range fromSSM {
		all = append(all, finding{f.Code, f.Line, f.File, f.Cause, ssmagent.Typed(r.ssmUnit(), f.Remedy), f.Terminal, false})
	}
	if !w.ecs {
		return all, nil
	}
	fromECS, err := ecsagent.ReadLog(reader, w.since)
	if err != nil {
		return nil, err
	}
	for _, f := range fromECS {
		remedy := ecsagent.Typed(r.ecsUnit(), ssmagent.Typed(r.ssmUnit(), f.Remedy))
		all = append(all, finding{f.Code, f.Line, f.File, f.Cause, remedy, f.Terminal, true})
	}
	return all, nil
}

// telling is the finding that explains best why an agent is not up: the ECS agent's first, else the SSM agent's last.
func telling(findings []finding) finding {
	for _, f := range findings {
		if f.ecs {
			return f
		}
	}
	return findings[len(findings)-1]
}

// timedOut names what the logs complain of, or what was last seen.
func (r *registration) timedOut(tx *engine.Tx, w waiting, seen string, after time.Duration) error {
	f := failure.New(w.code, "gave up waiting after %s for %s: %s", after.Round(time.Second), w.what, seen)
	findings, err := r.findings(tx.Reader(), w)
	if err == nil && len(findings) > 0 {
		why := telling(findings)
		f.Code = why.Code
		f.Message += "; " + why.Cause
		return f.WithEvidence("%s: %s", why.File, why.Line).WithRemedy("%s", why.Remedy)
	}
	return f.WithEvidence("nothing in %s, %s or %s explains it", ssmagent.LogPath, ecsagent.LogPath, ecsagent.InitLogPath)
}
