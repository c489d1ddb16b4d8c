package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// statuses are a report's steps in short.
func statuses(steps []StepReport) (all []string) {
	for _, s := range steps {
		all = append(all, s.ID+" "+s.Status)
	}
	return all
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

func wantCode(t *testing.T, err error, code failure.Code) {
	t.Helper()
	if !failure.Is(err, code) {
		t.Errorf("error %v, want one with the code %s", err, code)
	}
}

var (
	first  = write("first", "/etc/first", "1")
	second = write("second", "/etc/second", "2")
	third  = write("third", "/etc/third", "3")
)

func TestApplyConverges(t *testing.T) {
	m := testMachine(t)
	plan := planOf(join(folders, installing, serving)...)
	out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
	if err != nil || !out.Changed || out.Resumed || out.RolledBack || len(out.Kept) > 0 {
		t.Fatalf("outcome %+v, error %v", out, err)
	}
	for _, s := range out.Steps {
		if s.Status != "done" || s.Duration <= 0 {
			t.Errorf("step %+v", s)
		}
	}
	settled(t, m)

	// The second time nothing is written, not even by the engine for itself.
	journals, tree := journalNames(m), m.tree()
	resolved := false
	plan.Resolve = func(context.Context, map[string]string) error { resolved = true; return nil }
	out, err = newEngine(m, "two").Apply(t.Context(), plan, Options{})
	if err != nil || out.Changed || resolved {
		t.Errorf("the second run: %+v, %v, resolved %t", out, err, resolved)
	}
	for _, s := range out.Steps {
		if s.Status != "unchanged" {
			t.Errorf("step %+v", s)
		}
	}
	equal(t, "the machine", m.tree(), tree)
	equal(t, "the journals", journalNames(m), journals)
}

func journalNames(m *machine) (names []string) {
	found, _ := m.ReadDir(dataDir + "/journal")
	for _, f := range found {
		names = append(names, f.Name())
	}
	return names
}

// settled checks that nothing is open, and that no backup is left where nothing was kept.
func settled(t *testing.T, m *machine) {
	t.Helper()
	op, err := newEngine(m, "look").Open()
	if op != nil || err != nil {
		t.Errorf("an operation is still open: %+v, %v", op, err)
	}
	if left, _ := m.ReadDir(dataDir + "/backup"); len(left) > 0 {
		t.Errorf("backups are left: %v", left)
	}
}

func TestObserveIsTheDryRun(t *testing.T) {
	m := testMachine(t)
	m.put("/etc/first", "1")
	before := m.tree()
	unknown := second
	unknown.Observe = func(context.Context, host.Reader) (Obs, error) { return Obs{State: Unknown, Detail: "behind"}, nil }
	steps, err := newEngine(m, "dry").Observe(t.Context(), planOf(first, unknown, third))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "steps", statuses(steps), []string{"first unchanged", "second planned", "third planned"})
	equal(t, "the machine", m.tree(), before)
	if m.exists(dataDir) {
		t.Error("the dry run made the engine's folder")
	}
}

func TestAFailureIsUndone(t *testing.T) {
	m := testMachine(t)
	m.put("/etc/first", "1")
	before := m.tree()
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(first, second, broken, third), Options{})
	wantCode(t, err, failure.ServiceFailed)
	if out.Changed || !out.RolledBack || len(out.Kept) > 0 {
		t.Errorf("outcome %+v", out)
	}
	equal(t, "steps", statuses(out.Steps), []string{"first unchanged", "second undone", "broken failed", "third skipped"})
	equal(t, "the machine", m.tree(), before)
	settled(t, m)
}

func TestAFailureBeforeAnyChangeLeavesNothing(t *testing.T) {
	offline := failure.New(failure.Network, "no route to host")
	for name, breakIt := range map[string]func(*Plan){
		"resolve": func(p *Plan) { p.Resolve = func(context.Context, map[string]string) error { return offline } },
		"observe": func(p *Plan) {
			p.Steps[1].Observe = func(context.Context, host.Reader) (Obs, error) { return Obs{}, offline }
		},
		"fetch": func(p *Plan) {
			p.Gate = "first"
			p.Steps[1].Fetch = func(context.Context) error { return offline }
		},
		"change": func(p *Plan) {
			p.Steps[0].Change = func(ctx context.Context, tx *Tx) error {
				return errors.Join(offline, tx.Claim(ctx, "/etc/never"), tx.Snapshot(ctx, "/etc/shared.conf"))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			before := m.tree()
			plan := planOf(first, second)
			breakIt(&plan)
			out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
			if !errors.Is(err, offline) || out.Changed || out.RolledBack || len(out.Kept) > 0 {
				t.Errorf("outcome %+v, error %v", out, err)
			}
			if len(out.Steps) != 2 {
				t.Errorf("the report has %d steps", len(out.Steps))
			}
			equal(t, "the machine", m.tree(), before)
			equal(t, "journals", journalNames(m), []string(nil))
			settled(t, m)
		})
	}
}

func TestAFetchThatFailsLateUndoesWhatWasDone(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	changed := make(chan struct{})
	early, late := first, second
	early.Change = func(ctx context.Context, tx *Tx) error { defer close(changed); return first.Change(ctx, tx) }
	late.Fetch = func(context.Context) error { <-changed; return failure.New(failure.ArtifactCorrupt, "a wrong sum") }
	plan := planOf(early, late)
	plan.Gate = "second"
	out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
	wantCode(t, err, failure.ArtifactCorrupt)
	equal(t, "steps", statuses(out.Steps), []string{"first undone", "second failed"})
	equal(t, "the machine", m.tree(), before)
}

func TestTheGateWaitsForEveryFetch(t *testing.T) {
	m := testMachine(t)
	firstChanged, fetched := make(chan struct{}), false
	a, b, c := first, second, third
	a.Change = func(ctx context.Context, tx *Tx) error { defer close(firstChanged); return first.Change(ctx, tx) }
	c.Fetch = func(context.Context) error { // ends only when the step in front of the gate has changed
		<-firstChanged
		fetched = true
		return nil
	}
	b.Change = func(ctx context.Context, tx *Tx) error {
		if !fetched {
			return errors.New("changed before everything was fetched")
		}
		return second.Change(ctx, tx)
	}
	plan := planOf(a, b, c)
	plan.Gate = "second"
	if out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{}); err != nil {
		t.Errorf("outcome %+v, error %v", out, err)
	}
}

func TestOneFailedFetchEndsTheOthers(t *testing.T) {
	m := testMachine(t)
	a, b := first, second
	a.Fetch = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	b.Fetch = func(context.Context) error { return failure.New(failure.ArtifactMissing, "404") }
	plan := planOf(a, b)
	plan.Gate = "first"
	_, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
	wantCode(t, err, failure.ArtifactMissing)
}

func TestAStepThatIsNotSoAfterItsChangeHasFailed(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	lazy := first
	lazy.Change = func(ctx context.Context, tx *Tx) error {
		return tx.WriteFile(ctx, "/etc/elsewhere", strings.NewReader("x"), 0o644)
	}
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(lazy), Options{})
	wantCode(t, err, failure.NotVerified)
	if !strings.Contains(err.Error(), "is not so") || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the machine", m.tree(), before)
}

// What was OK at first may have become pending through an earlier step's change.
func TestAnEarlierChangeMakesALaterStepPending(t *testing.T) {
	m := testMachine(t)
	plan := planOf(
		write("conf", "/etc/conf/base.service", "port=9\n"),
		step("restart", func(r host.Reader) bool {
			conf, _ := r.Files.ReadFile("/etc/conf/base.service")
			return holds(r, "/run/units/base.service", string(conf))
		}, func(ctx context.Context, tx *Tx) error { return tx.Unit(ctx, "base.service", UnitWant{Restart: true}) }),
	)
	out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "steps", statuses(out.Steps), []string{"conf done", "restart done"})
	equal(t, "what runs", m.get("/run/units/base.service"), "port=9\n")
}

func TestPastTheCommitPointEverythingIsKept(t *testing.T) {
	m := testMachine(t)
	plan := planOf(first, second, broken)
	plan.Commit = "second"
	out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
	wantCode(t, err, failure.ServiceFailed)
	if !out.Changed || out.RolledBack {
		t.Errorf("outcome %+v", out)
	}
	equal(t, "kept", out.Kept, []string{"Do second", "Do first"})
	equal(t, "steps", statuses(out.Steps), []string{"first kept", "second kept", "broken failed"})
	equal(t, "the file", m.get("/etc/first"), "1")

	op, err := newEngine(m, "look").Open()
	if err != nil || op == nil || !op.Committed || op.LastStep != "broken" || op.Changes != 2 {
		t.Errorf("the operation is %+v, %v", op, err)
	}
	out, err = newEngine(m, "two").Rollback(t.Context())
	wantCode(t, err, failure.NothingToRollBack)
	equal(t, "kept", out.Kept, []string{"Do second", "Do first"})
	equal(t, "the file", m.get("/etc/second"), "2")

	// The same command goes on, with whatever was missing now right.
	plan = planOf(first, second, write("broken", "/etc/broken", "mended"))
	plan.Commit = "second"
	out, err = newEngine(m, "three").Apply(t.Context(), plan, Options{})
	if err != nil || !out.Resumed || !out.Changed {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	settled(t, m)
}

// A commit step that was so before the operation commits nothing.
func TestWhatWasSoBeforeDoesNotCommit(t *testing.T) {
	m := testMachine(t)
	m.put("/etc/first", "1")
	before := m.tree()
	plan := planOf(first, second, broken)
	plan.Commit = "first"
	out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
	wantCode(t, err, failure.ServiceFailed)
	if !out.RolledBack {
		t.Errorf("outcome %+v", out)
	}
	equal(t, "the machine", m.tree(), before)
}

// The effect happened, its step failed all the same: the kind sees it, and nothing is undone.
func TestAKindSeesThatItsEffectCannotBeTakenBack(t *testing.T) {
	m := testMachine(t)
	halfway := slot
	halfway.Change = func(ctx context.Context, tx *Tx) error {
		return errors.Join(slot.Change(ctx, tx), failure.New(failure.Network, "the answer was lost"))
	}
	plan := planOf(first, halfway)
	plan.Commit = "slot"
	out, err := newEngine(m, "one").Apply(t.Context(), plan, Options{})
	wantCode(t, err, failure.Network)
	if out.RolledBack {
		t.Errorf("outcome %+v", out)
	}
	equal(t, "kept", out.Kept, []string{"the slot", "Do first", "Do slot (begun)"})
	equal(t, "the file", m.get("/etc/first"), "1")
}

func TestNoRollbackKeepsTheHalfWayState(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(first, second, broken), Options{NoRollback: true})
	wantCode(t, err, failure.ServiceFailed)
	if !out.Changed || out.RolledBack {
		t.Errorf("outcome %+v", out)
	}
	equal(t, "kept", out.Kept, []string{"Do first", "Do second"})
	equal(t, "the file", m.get("/etc/second"), "2")

	out, err = newEngine(m, "two").Rollback(t.Context())
	if err != nil || !out.RolledBack || out.Changed {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "steps", statuses(out.Steps), []string{"first undone", "second undone"})
	equal(t, "the machine", m.tree(), before)
	settled(t, m)
}

func TestTheSameCommandGoesOnWithTheSamePins(t *testing.T) {
	m := testMachine(t)
	plan := planOf(first, broken)
	plan.Resolve = func(_ context.Context, pins map[string]string) error { pins["agent"] = "1.0"; return nil }
	if _, err := newEngine(m, "one").Apply(t.Context(), plan, Options{NoRollback: true}); err == nil {
		t.Fatal("the broken step did not break")
	}

	again := planOf(first, second)
	again.Resolve = func(_ context.Context, pins map[string]string) error {
		if pins["agent"] != "1.0" {
			t.Errorf("resolved again: %v", pins)
		}
		pins["other"] = "2.0"
		return nil
	}
	out, err := newEngine(m, "two").Apply(t.Context(), again, Options{})
	if err != nil || !out.Resumed || !out.Changed {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "steps", statuses(out.Steps), []string{"first unchanged", "second done"})
	equal(t, "pins", again.Pins, map[string]string{"agent": "1.0", "other": "2.0"})
}

// What an earlier run did is a part of the operation: it is undone too when the later one fails.
func TestAFailureOnTheWayOnUndoesTheEarlierRunToo(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	halfway(t, m, first)
	out, err := newEngine(m, "two").Apply(t.Context(), planOf(first, second, broken), Options{})
	wantCode(t, err, failure.ServiceFailed)
	if !out.RolledBack || !out.Resumed {
		t.Errorf("outcome %+v", out)
	}
	equal(t, "steps", statuses(out.Steps), []string{"first undone", "second undone", "broken failed"})
	equal(t, "the machine", m.tree(), before)
}

func TestAnotherOperationIsRefused(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, first)
	for name, change := range map[string]func(*Plan){
		"verb": func(p *Plan) { p.Verb = "upgrade" },
		"key":  func(p *Plan) { p.Key = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			before := m.tree()
			plan := planOf(second)
			plan.Steps[0].Observe = func(context.Context, host.Reader) (Obs, error) {
				t.Error("it was even observed")
				return Obs{}, nil
			}
			change(&plan)
			_, err := newEngine(m, "two").Apply(t.Context(), plan, Options{})
			wantCode(t, err, failure.Unfinished)
			told := failure.Of(err).Message + failure.Of(err).Advice()
			for _, part := range []string{"register", "run one", "2026-11-22T10:", "anywhere rollback", "same anywhere register command"} {
				if !strings.Contains(told, part) {
					t.Errorf("%q does not say %q", told, part)
				}
			}
			_, err = newEngine(m, "two").Observe(t.Context(), plan)
			wantCode(t, err, failure.Unfinished)
			equal(t, "the machine", m.tree(), before)
		})
	}
}

// A child that outlived its run is waited for, and that is told where it takes its time: of those that are over nobody wants
// to read.
func TestAChildThatOutlivedItsRunIsWaitedFor(t *testing.T) {
	for linger, told := range map[time.Duration]int{0: 0, time.Minute: 3} {
		m := testMachine(t)
		halfway(t, m, claiming...)
		m.waited, m.linger = nil, linger
		synctest.Test(t, func(t *testing.T) {
			e, warnings := newEngine(m, "two"), 0
			e.Listen = func(e Event) {
				if strings.Contains(e.Text, "(pid 4712), begun by an interrupted run") {
					warnings++
				}
			}
			if out, err := e.Rollback(t.Context()); err != nil || !out.RolledBack {
				t.Fatalf("outcome %+v, error %v", out, err)
			}
			equal(t, "warnings", warnings, told)
		})
		if len(m.waited) != 3 || m.waited[0].PID != 4712 || m.waited[0].Started != 34 {
			t.Errorf("waited for %+v", m.waited)
		}
	}
}

// While a child is at work there is no safe point: an interrupted wait leaves all as it is.
func TestAnInterruptedWaitForAChildTouchesNothing(t *testing.T) {
	m := testMachine(t)
	plan := planOf(join(claiming, []Step{broken})...)
	halfway(t, m, claiming...)
	before := m.tree()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := failure.New(failure.Interrupted, "interrupted")
	cancel(stop)
	out, err := newEngine(m, "two").Apply(ctx, plan, Options{})
	if !errors.Is(err, stop) || len(out.Kept) == 0 || out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the machine", m.tree(), before)
}

func TestAnInterruptionIsUndone(t *testing.T) {
	stop := failure.New(failure.Terminated, "terminated")
	for name, interrupt := range map[string]func(cancel func(), p *Plan){
		"between two primitives": func(cancel func(), p *Plan) {
			p.Steps[1].Change = func(ctx context.Context, tx *Tx) error {
				cancel()
				return tx.WriteFile(ctx, "/etc/second", strings.NewReader("2"), 0o644)
			}
		},
		"in a change that gives up": func(cancel func(), p *Plan) {
			p.Steps[1].Change = func(ctx context.Context, tx *Tx) error {
				cancel()
				return fmt.Errorf("waiting: %w", ctx.Err())
			}
		},
		"in a change that ends": func(cancel func(), p *Plan) {
			p.Steps[1].Change = func(ctx context.Context, tx *Tx) error { defer cancel(); return second.Change(ctx, tx) }
		},
		"in a fetch": func(cancel func(), p *Plan) {
			p.Steps[1].Fetch = func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			before := m.tree()
			ctx, cancel := context.WithCancelCause(t.Context())
			plan := planOf(first, second, third)
			interrupt(func() { cancel(stop) }, &plan)
			out, err := newEngine(m, "one").Apply(ctx, plan, Options{})
			if !errors.Is(err, stop) {
				t.Errorf("error %v", err)
			}
			if out.Changed || name != "in a fetch" && !out.RolledBack {
				t.Errorf("outcome %+v", out)
			}
			equal(t, "the machine", m.tree(), before)
			settled(t, m)
		})
	}
}

func TestAnInterruptionAfterTheLastStepIsNone(t *testing.T) {
	m := testMachine(t)
	ctx, cancel := context.WithCancel(t.Context())
	last := first
	last.Change = func(ctx context.Context, tx *Tx) error { defer cancel(); return first.Change(ctx, tx) }
	if out, err := newEngine(m, "one").Apply(ctx, planOf(last), Options{}); err != nil || !out.Changed {
		t.Errorf("outcome %+v, error %v", out, err)
	}
}

func TestEventsComeInOrder(t *testing.T) {
	m := testMachine(t)
	m.put("/etc/first", "1")
	var events []string
	var last time.Time
	e := newEngine(m, "one")
	e.Listen = func(ev Event) {
		events = append(events, strings.TrimSpace(fmt.Sprintf("%s %s", ev.Kind, ev.Step)))
		if ev.Time.Before(last) {
			t.Errorf("%s is before the event in front of it", ev.Kind)
		}
		last = ev.Time
	}
	a := second
	a.Fetch = func(ctx context.Context) error { Progress(ctx, 5, 10); return nil }
	a.Change = func(ctx context.Context, tx *Tx) error { tx.Note("waits for %d", 1); return second.Change(ctx, tx) }
	if _, err := e.Apply(t.Context(), planOf(first, a, broken), Options{}); err == nil {
		t.Fatal("the broken step did not break")
	}
	equal(t, "events", events, []string{
		"unchanged first", "planned second", "planned broken",
		"fetching second", "progressed second", "fetched second",
		"started second", "noted second", "finished second",
		"started broken", "failed broken",
		"undoing second", "undone second",
	})
}

func TestTheLastTenJournalsAreKept(t *testing.T) {
	m := testMachine(t)
	for i := range 12 {
		plan := planOf(write("count", "/etc/count", fmt.Sprint(i)))
		if _, err := newEngine(m, fmt.Sprintf("run-%d", i)).Apply(t.Context(), plan, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	names := journalNames(m)
	if len(names) != 10 || !strings.HasSuffix(names[0], "-register-run-2.jsonl") || !strings.HasSuffix(names[9], "-register-run-11.jsonl") {
		t.Errorf("journals: %v", names)
	}
	text := m.get(path.Join(dataDir, "journal", names[9]))
	if s, _, err := parse([]byte(text)); err != nil || s.ended != endDone {
		t.Errorf("the last journal: %+v, %v", s, err)
	}
}

func TestOnlyRootReadsTheEnginesFiles(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, join(writing, identifying)...)
	files := 0
	must(fs.WalkDir(m.below(dataDir), ".", func(name string, entry fs.DirEntry, err error) error {
		must(err)
		info, err := entry.Info()
		must(err)
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
		return nil
	}))
	if files < 4 { // the journal and a backup of each file that was there
		t.Errorf("only %d files", files)
	}
}

func TestABadPlanIsRefused(t *testing.T) {
	for name, plan := range map[string]Plan{
		"twice":     planOf(first, first),
		"no commit": {Verb: "register", Commit: "nowhere"},
		"no gate":   {Verb: "register", Gate: "nowhere"},
		"no verb":   {},
	} {
		m := newMachine(t.TempDir())
		if _, err := newEngine(m, "one").Apply(t.Context(), plan, Options{}); !failure.Is(err, failure.Internal) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
