package lifecycle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// unfinished leaves an operation that wrote one file and was kept half-way.
func unfinished(t *testing.T, m *machine) Deps {
	t.Helper()
	r := m.registration(RegisterRequest{})
	broken := errors.New("broken")
	_, err := r.engine.Apply(t.Context(), engine.Plan{Verb: "register", Key: "k", Steps: []engine.Step{{
		ID: "one", Title: "One", Observe: func(context.Context, host.Reader) (engine.Obs, error) {
			return engine.Obs{State: engine.Pending}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			return errors.Join(tx.WriteFile(ctx, "/etc/made", strings.NewReader("x"), 0o644), broken)
		},
	}}}, engine.Options{NoRollback: true})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	return r.deps
}

func (m *machine) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(m.root, path))
	return err == nil
}

func TestOperationWithoutOne(t *testing.T) {
	d := newMachine(t).registration(RegisterRequest{}).deps
	show, err := ShowOperation(t.Context(), d)
	if err != nil || show.Result != (OperationResult{}) || show.Message != "no operation is unfinished" {
		t.Errorf("show: %+v, %v", show, err)
	}
	if _, err := Rollback(t.Context(), d, RollbackRequest{}); !failure.Is(err, failure.NothingToRollBack) {
		t.Errorf("rollback: %v", err)
	}
	abandon, err := AbandonOperation(t.Context(), d, 0)
	if err != nil || abandon.Changed || abandon.Message != "no operation is unfinished" {
		t.Errorf("abandon: %+v, %v", abandon, err)
	}
}

func TestShowAndRollback(t *testing.T) {
	m := newMachine(t)
	d := unfinished(t, m)
	show, err := ShowOperation(t.Context(), d)
	result, _ := show.Result.(OperationResult)
	if err != nil || !result.Unfinished || !result.Undoable || result.Verb != "register" || result.RunID != "run-1" ||
		result.LastStep != "one" || result.Changes == 0 || result.StartedAt != "2026-11-22T12:00:00Z" {
		t.Errorf("show: %+v, %v", show, err)
	}
	if !strings.Contains(show.Message, "anywhere rollback") {
		t.Errorf("show says %q, and not how to undo it", show.Message)
	}
	report, err := Rollback(t.Context(), d, RollbackRequest{})
	undone := report.Result.(RollbackResult)
	if err != nil || !report.Changed || report.RolledBack || len(report.Kept) > 0 || m.exists("/etc/made") {
		t.Errorf("rollback: %+v, %v", report, err)
	}
	if undone.Unfinished || undone.Undoable || undone.Owed == nil {
		t.Errorf("still unfinished: %+v", undone)
	}
	if _, err := Rollback(t.Context(), d, RollbackRequest{}); !failure.Is(err, failure.NothingToRollBack) {
		t.Errorf("rollback again: %v", err)
	}
}

// What was changed by somebody else since stays, and is told.
func TestRollbackKeepsWhatIsNotOurs(t *testing.T) {
	m := newMachine(t)
	d := unfinished(t, m)
	m.write("/etc/made", "by somebody else")
	report, err := Rollback(t.Context(), d, RollbackRequest{})
	if err != nil || !m.exists("/etc/made") || !strings.Contains(strings.Join(report.Warnings, "\n"), "/etc/made") {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestAbandon(t *testing.T) {
	for name, spoil := range map[string]func(m *machine, journal string){
		"as it is": func(*machine, string) {},
		"newer": func(m *machine, journal string) {
			m.write(journal, `{"anywhereJournal":99,"program":"99.0.0"}`+"\n")
		},
		"unreadable": func(m *machine, journal string) { m.write(journal, "\x00\x01garbage\nmore\n") },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			d := unfinished(t, m)
			show, err := ShowOperation(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			journal := show.Result.(OperationResult).Journal
			spoil(m, journal)
			report, err := AbandonOperation(t.Context(), d, 0)
			result, _ := report.Result.(OperationResult)
			if err != nil || result.Unfinished || !m.exists(result.Journal) || m.exists(journal) || !m.exists("/etc/made") {
				t.Errorf("%+v, %v", report, err)
			}
			if again, err := ShowOperation(t.Context(), d); err != nil || again.Result != (OperationResult{}) {
				t.Errorf("afterwards: %+v, %v", again, err)
			}
		})
	}
}
