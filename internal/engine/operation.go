package engine

import (
	"context"
	"maps"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Operation is what the open journal says of an operation that is not finished.
type Operation struct {
	Verb, Key, RunID, Version string
	Pins                      map[string]string
	Started                   time.Time
	Committed                 bool // past the commit point: it only goes forward
	Undoing                   bool // its last run was taking it back
	Changes                   int  // recorded changes
	LastStep                  string
	Begun                     []string // ids of the steps that it has set about, ended or not
	Done                      []string // ids of the steps that it has brought about
	Path                      string   // of the journal
}

// Open is the unfinished operation, or nil when there is none. A journal that cannot be read is an error with the code
// failure.JournalUnreadable, never nil; one of a newer program has failure.NewerRecord.
func (e *Engine) Open() (*Operation, error) {
	j, err := e.load()
	if err != nil || j == nil || j.story.ended != "" {
		return nil, err
	}
	s := j.story
	op := &Operation{
		Verb: s.Verb, Key: s.Key, RunID: s.Run, Version: s.Program, Pins: maps.Clone(s.Pins), Started: s.Started,
		Committed: s.commit != "", Undoing: s.undoing, Changes: s.changes(), Path: e.journalPath(),
	}
	for _, step := range s.steps {
		op.Begun = append(op.Begun, step.id)
		if step.done && !s.undoing {
			op.Done = append(op.Done, step.id)
		}
	}
	if n := len(s.steps); n > 0 {
		op.LastStep = s.steps[n-1].id
	}
	return op, nil
}

// unfinished is the open operation that the plan goes on with, nil when there is none, and an error when the open one
// is another.
func (e *Engine) unfinished(plan Plan) (*journal, error) {
	j, err := e.load()
	if err != nil || j == nil || j.story.ended != "" || j.story.Verb == plan.Verb && j.story.Key == plan.Key {
		return j, err
	}
	s := j.story
	what := s.Verb
	if s.Verb == plan.Verb {
		what = "another " + s.Verb + ", with other arguments,"
	}
	refusal := failure.New(failure.Unfinished, "%s was begun at %s (run %s) and is not finished",
		what, s.Started.Format(time.RFC3339), s.Run).WithEvidence("%s", e.journalPath())
	if s.commit != "" {
		return nil, refusal.WithRemedy("finish it with the same anywhere %s command as then; "+
			"it is past its point of no return (%s), so anywhere rollback leaves it", s.Verb, s.commit)
	}
	return nil, refusal.WithRemedy("finish it with the same anywhere %s command as then, "+
		"or undo it: anywhere rollback", s.Verb)
}

// Rollback undoes the open operation from its journal alone. One past its commit point is left as it is and named in
// Outcome.Kept; the error then has the code failure.NothingToRollBack, as when there is no operation at all. What
// somebody else has changed since is kept, which is no error; where undoing itself failed, the error says so and
// Rollback can be called again.
func (e *Engine) Rollback(ctx context.Context) (Outcome, error) {
	j, err := e.load()
	if err != nil {
		return Outcome{}, err
	}
	if j != nil && j.story.ended != "" {
		if err := j.clear(); err != nil {
			return Outcome{}, failure.Wrap(writeCode(err), err, "cannot clear up after the last operation")
		}
		j = nil
	}
	if j == nil {
		return Outcome{}, failure.New(failure.NothingToRollBack, "there is no unfinished operation")
	}
	defer j.shut()
	tell := e.teller()
	out := Outcome{Resumed: true}
	u, err := j.undo(ctx, tell)
	if err == nil && j.story.commit != "" {
		out.Changed, out.Kept = true, j.story.left()
		out.Steps = j.story.reports(func(string) string { return isKept })
		s := j.story
		return out, failure.New(failure.NothingToRollBack, "%s is past its point of no return: %s", s.Verb, s.commit).
			WithRemedy("finish it with the same anywhere %s command as at %s", s.Verb, s.Started.Format(time.RFC3339))
	}
	out.settle(u, err, tell)
	out.Steps = j.story.reports(u.status)
	if err == nil && len(u.errs) > 0 {
		err = failure.Wrap(failure.Internal, u.errs[0], "cannot undo all of %s", j.story.Verb)
	}
	return out, err
}

// reports is the report of steps that are known from the journal only.
func (s *story) reports(status func(step string) string) []StepReport {
	var all []StepReport
	for _, step := range s.steps {
		if s.touched(step.id) {
			all = append(all, StepReport{ID: step.id, Title: step.title, Status: status(step.id)})
		}
	}
	return all
}

// Abandon moves the open journal aside without touching the host, and returns where it is now. It works for a journal
// that cannot be read too; the backups that belong to it stay.
func (e *Engine) Abandon() (path string, err error) {
	verb, run := "unreadable", e.RunID
	j, err := e.load()
	switch {
	case failure.Is(err, failure.JournalUnreadable), failure.Is(err, failure.NewerRecord):
	case err != nil:
		return "", err
	case j == nil:
		return "", failure.New(failure.NothingToRollBack, "there is no unfinished operation")
	default:
		verb, run = j.story.Verb, j.story.Run
		if j.story.ended == "" {
			if err := j.write(entry{Is: markEnd, How: endAbandoned}); err != nil {
				return "", err
			}
		}
		j.shut()
	}
	path, err = e.aside(verb, run)
	if err != nil {
		return "", failure.Wrap(writeCode(err), err, "cannot move the journal aside")
	}
	return path, nil
}
