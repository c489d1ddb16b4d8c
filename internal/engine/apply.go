package engine

import (
	"context"
	"maps"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// What has become of a step.
const (
	isDone      = "done"
	isUnchanged = "unchanged"
	isPlanned   = "planned"
	isSkipped   = "skipped"
	isFailed    = "failed"
	isUndone    = "undone"
	isKept      = "kept"
)

// Apply carries out the plan, or goes on with the open operation of the same verb and key. Another open operation is
// refused with failure.Unfinished. When ctx ends it stops at the next safe point and undoes or keeps as after a
// failure; the error is then context.Cause(ctx).
//
// A failure is undone, with what earlier runs of the operation did: Outcome.RolledBack, or Kept when somebody else had
// changed something meanwhile. Past the commit point, with Options.NoRollback, and where undoing itself failed, the
// journal stays open and Kept says what is done; the same plan applied again goes on from there.
func (e *Engine) Apply(ctx context.Context, plan Plan, opts Options) (Outcome, error) {
	if err := e.check(plan); err != nil {
		return Outcome{}, err
	}
	j, err := e.unfinished(plan)
	if err != nil {
		return Outcome{}, err
	}
	if j != nil && j.story.ended != "" { // only its clearing up was cut short
		if err := j.clear(); err != nil {
			return Outcome{}, failure.Wrap(writeCode(err), err, "cannot clear up after the last operation")
		}
		j = nil
	}
	r := &run{Engine: e, plan: plan, opts: opts, journal: j, tell: e.teller()}
	defer r.shut()
	r.out.Resumed = j != nil
	if j != nil && j.story.undoing {
		if err := r.finishUndo(ctx); err != nil {
			return r.out, err
		}
	}
	if r.resumed = r.journal != nil; r.resumed {
		plan.goOn(j)
		if err := j.awaitChildren(ctx, r.tell); err != nil {
			// This is no safe point: nothing can be undone under a child's hands.
			r.out.Changed, r.out.Kept = j.story.changes() > 0, j.story.left()
			return r.out, err
		}
	}
	if err := r.carryOut(ctx); err != nil {
		return r.settle(ctx, err)
	}
	return r.finish()
}

// finishUndo ends the undo in which an earlier run was interrupted, so that the plan begins anew on the host as it
// was. It cannot go forward from the middle: units that ran before are stopped there, and no step need know of them.
func (r *run) finishUndo(ctx context.Context) error {
	r.tell.event(Event{Kind: Noted, Text: "ends the undo in which an earlier run was interrupted"})
	u, err := r.journal.undo(ctx, r.tell)
	if err == nil && r.journal.story.commit != "" {
		return nil // and forward from here after all
	}
	r.plan.goOn(r.journal) // the same versions again
	r.out.settle(u, err, r.tell)
	if err == nil && len(u.errs) > 0 {
		err = failure.Wrap(failure.Internal, u.errs[0], "cannot undo what an earlier run has left").
			WithRemedy("mend what the message names, then anywhere rollback; " +
				"anywhere operation abandon leaves the host as it is")
	}
	if err != nil {
		return err
	}
	for _, kept := range r.out.Kept {
		r.tell.event(Event{Kind: Warned, Text: "kept, for it was changed since: " + kept})
	}
	r.out, r.journal = Outcome{Resumed: true}, nil
	return nil
}

// Observe looks at every step and changes nothing: the dry run. Pending and unknown steps are reported as planned.
// Where Apply would be refused because of an unfinished operation, Observe is too.
func (e *Engine) Observe(ctx context.Context, plan Plan) ([]StepReport, error) {
	if err := e.check(plan); err != nil {
		return nil, err
	}
	j, err := e.unfinished(plan)
	if err != nil {
		return nil, err
	}
	if j != nil && j.story.ended == "" {
		plan.goOn(j)
	}
	r := &run{Engine: e, plan: plan, tell: e.teller()}
	_, err = r.observe(ctx)
	return r.out.Steps, err
}

// check finds the mistakes of a plan's author.
func (e *Engine) check(plan Plan) error {
	if plan.Verb == "" || !isName(e.RunID) || plan.Pins == nil && plan.Resolve != nil {
		return failure.New(failure.Internal, "the plan %q has no verb, run id %q or pins", plan.Verb, e.RunID)
	}
	known := map[string]bool{"": true}
	for _, s := range plan.Steps {
		if known[s.ID] || s.Observe == nil || s.Change == nil {
			return failure.New(failure.Internal, "the plan %s has a step %q twice, or not whole", plan.Verb, s.ID)
		}
		known[s.ID] = true
	}
	if !known[plan.Gate] || !known[plan.Commit] {
		return failure.New(failure.Internal, "the plan %s has no step %q or %q", plan.Verb, plan.Gate, plan.Commit)
	}
	return nil
}

// goOn takes over the pins of the operation that the plan goes on with.
func (p Plan) goOn(j *journal) {
	if p.Pins != nil {
		maps.Copy(p.Pins, j.story.Pins)
	}
}

// run is one Apply.
type run struct {
	*Engine
	plan    Plan
	opts    Options
	tell    *teller
	journal *journal // nil until something is pending
	resumed bool
	states  []State // of the first observation
	changed bool    // a step was changed by this run
	out     Outcome
}

func (r *run) shut() {
	if r.journal != nil {
		r.journal.shut()
	}
}

// carryOut observes everything, and does what is pending.
func (r *run) carryOut(ctx context.Context) error {
	pending, err := r.observe(ctx)
	if err != nil || !pending {
		return err
	}
	if r.plan.Resolve != nil {
		if err := r.plan.Resolve(ctx, r.plan.Pins); err != nil {
			return cause(ctx, err)
		}
	}
	if r.resumed {
		err = r.journal.write(entry{Is: markResume, Run: r.RunID, Program: r.Version, Pins: r.plan.Pins})
	} else {
		r.journal, err = r.create(r.plan)
	}
	if err != nil {
		return err
	}
	f := startFetches(ctx, r.plan, r.states, r.tell)
	defer f.end()
	for i := range r.plan.Steps {
		if err := r.step(ctx, i, f); err != nil {
			return err
		}
	}
	return nil
}

// observe looks at every step and begins the report with what it saw.
func (r *run) observe(ctx context.Context) (pending bool, err error) {
	for _, s := range r.plan.Steps {
		obs, err := s.Observe(ctx, r.Host.Reader)
		if err != nil {
			r.out.Steps = append(r.out.Steps, StepReport{ID: s.ID, Title: s.Title})
			r.states = append(r.states, Unknown)
			return false, r.failed(len(r.out.Steps)-1, cause(ctx, err), 0)
		}
		kind, status := Unchanged, isUnchanged
		if obs.State != OK {
			kind, status, pending = Planned, isPlanned, true
		}
		r.states = append(r.states, obs.State)
		r.out.Steps = append(r.out.Steps, StepReport{ID: s.ID, Title: s.Title, Status: status, Detail: obs.Detail})
		r.tell.event(Event{Kind: kind, Step: s.ID, Title: s.Title, Text: obs.Detail})
	}
	return pending, nil
}

// step brings one step about. Steps that were OK at first are looked at again once anything was changed: a service that
// ran with the old configuration is pending by then.
func (r *run) step(ctx context.Context, i int, f *fetches) error {
	s := r.plan.Steps[i]
	if r.states[i] != OK {
		if k, err := f.ready(ctx, i); err != nil {
			return r.failed(k, err, 0)
		}
	} else if !r.changed {
		return r.passed(i)
	}
	obs, err := s.Observe(ctx, r.Host.Reader)
	if err != nil {
		return r.failed(i, cause(ctx, err), 0)
	}
	if obs.State == OK {
		if r.states[i] != OK {
			r.report(i, isUnchanged, obs.Detail, 0)
			r.tell.event(Event{Kind: Unchanged, Step: s.ID, Title: s.Title, Text: obs.Detail})
		}
		return r.passed(i)
	}
	if r.states[i] == OK {
		if k, err := f.ready(ctx, i); err != nil {
			return r.failed(k, err, 0)
		}
	}
	return r.change(ctx, i)
}

// change changes a step and looks whether that helped.
func (r *run) change(ctx context.Context, i int) error {
	s := r.plan.Steps[i]
	began := r.Host.Now()
	if err := r.journal.write(entry{Is: markBegin, Step: s.ID, Title: s.Title}); err != nil {
		return r.failed(i, err, 0)
	}
	r.tell.event(Event{Kind: Started, Step: s.ID, Title: s.Title})
	r.changed = true
	err := s.Change(ctx, &Tx{journal: r.journal, host: r.Host, tell: r.tell, step: s.ID})
	if err != nil {
		return r.failed(i, cause(ctx, err), r.Host.Now().Sub(began))
	}
	obs, err := s.Observe(context.WithoutCancel(ctx), r.Host.Reader) // an interruption does not unsay what was done
	if err == nil && obs.State != OK {
		err = failure.New(failure.NotVerified, "%s: it was changed, and it is not so: %s", s.Title, obs.Detail)
	}
	took := r.Host.Now().Sub(began)
	if err != nil {
		return r.failed(i, err, took)
	}
	if err := r.journal.write(entry{Is: markStep, Step: s.ID}); err != nil {
		return r.failed(i, err, took)
	}
	r.report(i, isDone, obs.Detail, took)
	r.tell.event(Event{Kind: Finished, Step: s.ID, Title: s.Title, Text: obs.Detail, Took: took})
	return r.passed(i)
}

// passed is called for each step that is OK. The commit step commits the operation only if the operation changed it:
// one that was so before is no reason to keep what can be undone.
func (r *run) passed(i int) error {
	s := r.plan.Steps[i]
	if s.ID != r.plan.Commit || r.journal.story.step(s.ID) == nil || r.journal.story.commit != "" {
		return nil
	}
	if !r.journal.committed(context.Background(), r.tell) {
		r.journal.commit(r.tell, s.Title)
	}
	return nil
}

func (r *run) report(i int, status, detail string, took time.Duration) {
	report := &r.out.Steps[i]
	report.Status, report.Duration = status, took
	if detail != "" {
		report.Detail = detail
	}
}

func (r *run) failed(i int, err error, took time.Duration) error {
	s := r.plan.Steps[i]
	r.report(i, isFailed, failure.Of(err).Message, took)
	r.tell.event(Event{Kind: Failed, Step: s.ID, Title: s.Title, Text: failure.Of(err).Message, Took: took, Err: err})
	return err
}

// finish closes the journal of an operation that did all it was to do.
func (r *run) finish() (Outcome, error) {
	if r.journal == nil {
		return r.out, nil
	}
	r.out.Changed = r.journal.story.changes() > 0
	how := endDone
	if !r.out.Changed {
		how = endNothing
	}
	if err := r.journal.end(how); err != nil {
		r.tell.warn("the operation is done, and its journal could not be closed; the next run does that", err)
	}
	return r.out, nil
}

// settle decides what becomes of a failed operation.
func (r *run) settle(ctx context.Context, cause error) (Outcome, error) {
	for i := range r.out.Steps {
		if r.out.Steps[i].Status == isPlanned {
			r.out.Steps[i].Status = isSkipped
		}
	}
	for _, s := range r.plan.Steps[len(r.out.Steps):] { // not even observed
		r.out.Steps = append(r.out.Steps, StepReport{ID: s.ID, Title: s.Title, Status: isSkipped})
	}
	ctx = context.WithoutCancel(ctx)
	switch {
	case r.journal == nil:
	case r.journal.committed(ctx, r.tell), r.opts.NoRollback && r.journal.story.changes() > 0:
		r.keep()
	case r.journal.story.changes() == 0:
		if err := r.journal.end(endNothing); err != nil {
			r.tell.warn("nothing was changed, and the journal could not be removed; the next run does that", err)
		}
	default:
		r.takeBack(ctx)
	}
	return r.out, cause
}

// keep leaves everything as it is, and the journal open.
func (r *run) keep() {
	r.out.Changed, r.out.Kept = true, r.journal.story.left()
	r.mark(func(string) string { return isKept })
	for _, step := range r.journal.story.steps {
		if step.done {
			r.tell.event(Event{Kind: Kept, Step: step.id, Title: step.title})
		}
	}
}

// takeBack undoes the operation.
func (r *run) takeBack(ctx context.Context) {
	u, err := r.journal.undo(ctx, r.tell)
	if err == nil && r.journal.story.commit != "" { // seen in the last moment
		r.keep()
		return
	}
	r.out.settle(u, err, r.tell)
	r.mark(u.status)
}

// mark gives the steps that the operation touched, in this run or before, their last status.
func (r *run) mark(status func(step string) string) {
	for i := range r.out.Steps {
		report := &r.out.Steps[i]
		if report.Status != isFailed && r.journal.story.step(report.ID) != nil {
			report.Status = status(report.ID)
		}
	}
}

// settle fills in how an undo ended, and closes its journal if there is nothing left to try.
func (out *Outcome) settle(u *undoing, err error, tell *teller) {
	out.Kept = append(out.Kept, u.kept...)
	for _, e := range u.errs {
		out.Kept = append(out.Kept, e.Error())
	}
	if err != nil {
		out.Kept = append(out.Kept, "the undo did not end: "+err.Error())
	}
	out.Changed = len(out.Kept) > 0
	out.RolledBack = !out.Changed
	if err != nil || len(u.errs) > 0 {
		return // the journal stays open: "anywhere rollback" tries again
	}
	how := endUndone
	if out.Changed {
		how = endKept
	}
	if err := u.journal.end(how); err != nil {
		tell.warn("the undo is done, and its journal could not be closed; the next run does that", err)
	}
}

// cause is what ended ctx, if it has ended: an error that follows from the interruption is not the story.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
