package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Where an effect is kept, the files that it is of no use without stay with it, and nothing else does.
func TestWhatBelongsToAKeptEffectStays(t *testing.T) {
	for _, used := range []bool{true, false} {
		m := testMachine(t)
		before := m.tree()
		withService := func(run string) *Engine {
			e := newEngine(m, run)
			e.Kinds["service"] = Kind{
				Undo: func(ctx context.Context, h host.Host, _ []byte) ([]string, error) {
					if used {
						return []string{"the service (somebody uses it)"}, nil
					}
					_, err := h.Runner.Run(ctx, host.Cmd{Path: "write", Args: []string{"/undone", "yes"}})
					return nil, err
				},
				Stays: func(data []byte) []string { return []string{strings.Trim(string(data), `"`)} },
			}
			return e
		}
		const list, other = "/etc/sources/d/service.list", "/etc/other/file"
		serving := []Step{step("serve", func(r host.Reader) bool { return there(r, list) }, func(ctx context.Context, tx *Tx) error {
			for _, name := range []string{list, other} {
				if err := tx.WriteFile(ctx, name, strings.NewReader("x"), 0o644); err != nil {
					return err
				}
			}
			return tx.Effect(ctx, "service", list, func(context.Context) error { return nil })
		})}
		if _, err := withService("one").Apply(t.Context(), planOf(join(serving, []Step{broken})...), Options{NoRollback: true}); err == nil {
			t.Fatal("it did not break")
		}
		out, err := withService("two").Rollback(t.Context())
		if err != nil || out.RolledBack == used {
			t.Errorf("used %v: %+v, %v", used, out, err)
		}
		if used {
			equal(t, "kept", strings.Join(out.Kept, "|"), "the service (somebody uses it)")
			equal(t, "its file", m.get(list), "x")
			equal(t, "the other file", m.get("/etc/other"), "no /etc/other")
			continue
		}
		m.drop("/undone")
		equal(t, "the machine", m.tree(), before)
		if lines := m.get(closedJournal(m)); !strings.Contains(lines, `"pid":4712`) {
			t.Errorf("a child of the undo is not in the journal: %s", lines)
		}
	}
}

// closedJournal is the journal that was moved aside last.
func closedJournal(m *machine) string {
	names := journalNames(m)
	return dataDir + "/journal/" + names[len(names)-1]
}
