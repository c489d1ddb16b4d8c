package engine

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// during runs change as the only step of a plan and leaves the machine so.
func during(t *testing.T, m *machine, change func(context.Context, *Tx) error) {
	t.Helper()
	ran := false
	halfway(t, m, step("during", func(host.Reader) bool { return ran }, func(ctx context.Context, tx *Tx) error {
		ran = true
		return change(ctx, tx)
	}))
}

func (m *machine) records() int {
	op, err := newEngine(m, "look").Open()
	must(err)
	return op.Changes
}

func TestWriteFileKeepsModeAndOwner(t *testing.T) {
	m := testMachine(t)
	during(t, m, func(ctx context.Context, tx *Tx) error {
		return errors.Join(
			tx.WriteFile(ctx, "/etc/conf/base.service", strings.NewReader("new"), 0o600), // had 0640
			tx.WriteFile(ctx, "/etc/fresh", strings.NewReader("new"), 0o604),
		)
	})
	for name, want := range map[string]os.FileMode{"/etc/conf/base.service": 0o640, "/etc/fresh": 0o604} {
		info, err := m.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestWhatIsSoAlreadyIsNotRecorded(t *testing.T) {
	m := testMachine(t)
	during(t, m, func(ctx context.Context, tx *Tx) error {
		return errors.Join(
			tx.WriteFile(ctx, "/etc/shared.conf", strings.NewReader("shared\n"), 0o600),
			tx.Mkdir(ctx, "/etc", 0o700),
			tx.Remove(ctx, "/etc/never"),
			tx.Claim(ctx, "/etc"),
			tx.Unit(ctx, "base.service", UnitWant{Enable: true, Start: true}),
			tx.Unit(ctx, "idle.service", UnitWant{Disable: true, Stop: true}),
			tx.WriteFile(ctx, "/etc/one", strings.NewReader("the only change"), 0o600),
		)
	})
	if n := m.records(); n != 1 {
		t.Errorf("%d changes are recorded, want 1", n)
	}
}

func TestAPrimitiveRefuses(t *testing.T) {
	for name, change := range map[string]func(context.Context, *Tx) error{
		"to write a folder": func(ctx context.Context, tx *Tx) error {
			return tx.WriteFile(ctx, "/etc", strings.NewReader("x"), 0o600)
		},
		"to write through a link to nowhere": func(ctx context.Context, tx *Tx) error {
			return tx.WriteFile(ctx, "/etc/dangling", strings.NewReader("x"), 0o600)
		},
		"a folder where a file is": func(ctx context.Context, tx *Tx) error { return tx.Mkdir(ctx, "/etc/shared.conf", 0o755) },
		"to rename over something": func(ctx context.Context, tx *Tx) error { return tx.Rename(ctx, "/srv/old", "/etc/shared.conf") },
		"to rename what is not there": func(ctx context.Context, tx *Tx) error {
			return tx.Rename(ctx, "/srv/none", "/srv/some")
		},
		"a snapshot of a folder":  func(ctx context.Context, tx *Tx) error { return tx.Snapshot(ctx, "/etc") },
		"a backup of a folder":    func(_ context.Context, tx *Tx) error { _, err := tx.Backup("/etc"); return err },
		"an effect without undo":  func(ctx context.Context, tx *Tx) error { return tx.Effect(ctx, "strange", nil, nil) },
		"an effect named like us": func(ctx context.Context, tx *Tx) error { return tx.Effect(ctx, "file", nil, nil) },
		"two states at once": func(ctx context.Context, tx *Tx) error {
			return tx.Unit(ctx, "base.service", UnitWant{Enable: true, Disable: true})
		},
		"work at rest of a unit that is only stopped": func(ctx context.Context, tx *Tx) error {
			return tx.Unit(ctx, "base.service", UnitWant{Stop: true, AtRest: func(context.Context) error { return nil }})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			must(os.Symlink("nowhere", m.Local("/etc/dangling")))
			before := m.tree()
			out, err := newEngine(m, "one").Apply(t.Context(), planOf(step("during", func(host.Reader) bool { return false }, change)), Options{})
			if err == nil || failure.Is(err, failure.NotVerified) || out.Changed {
				t.Errorf("outcome %+v, error %v", out, err)
			}
			equal(t, "the machine", m.tree(), before)
		})
	}
}

// What fails between a unit's stop and its start is told in its own words, and the undo starts the unit again.
func TestAFailureAtRestIsTheCallers(t *testing.T) {
	m := testMachine(t)
	before, broken := m.tree(), failure.New(failure.DiskFull, "no space")
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(step("during", func(host.Reader) bool { return false }, func(ctx context.Context, tx *Tx) error {
		err := tx.Unit(ctx, "base.service", UnitWant{Restart: true, AtRest: func(context.Context) error { return broken }})
		if m.exists("/run/units/base.service") {
			t.Error("it was started")
		}
		return err
	})), Options{})
	if !failure.Is(err, failure.DiskFull) || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the machine", m.tree(), before)
}

func TestAPackageManagerThatLiesIsFoundOut(t *testing.T) {
	m := testMachine(t)
	m.put("/cache/other", archive{Name: "other", Version: "1"}.text())
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(step("install", func(host.Reader) bool { return false },
		func(ctx context.Context, tx *Tx) error { return tx.Install(ctx, "demo", "/cache/other", "") })), Options{})
	wantCode(t, err, failure.PackageInstall)
	if failure.Of(err).Evidence == "" {
		t.Errorf("no evidence: %+v, %v", out, err)
	}
}

// The second run of an operation gets the copy that the first one made, not one of the ruins.
func TestBackupGivesTheFirstCopy(t *testing.T) {
	m := testMachine(t)
	var copies []string
	backup := func(ctx context.Context, tx *Tx) error {
		for _, name := range []string{"/var/lib/ident", "/var/lib/none"} {
			at, err := tx.Backup(name)
			if err != nil {
				return err
			}
			copies = append(copies, at)
			if err := tx.WriteFile(ctx, name, strings.NewReader("ruin"), 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	during(t, m, backup)
	during(t, m, backup)
	if len(copies) != 4 || copies[0] != copies[2] || copies[1] != "" || copies[3] != "" {
		t.Fatalf("copies %q", copies)
	}
	equal(t, "the copy", m.get(copies[0]), "identity 1\n")
}

func TestTheJournalHasNoSecrets(t *testing.T) {
	const code, short = "canary-activation-code-1234567890", "pin4"
	m := testMachine(t)
	var events strings.Builder
	e := newEngine(m, "one")
	e.Listen = func(ev Event) { events.WriteString(ev.Text + ev.Title) }
	_, err := e.Apply(t.Context(), planOf(step("secret", func(host.Reader) bool { return false }, func(ctx context.Context, tx *Tx) error {
		if err := tx.WriteFile(ctx, "/etc/token", strings.NewReader(code), 0o600); err != nil {
			return err
		}
		return tx.Effect(ctx, "children", nil, func(ctx context.Context) error {
			_, err := tx.Run(ctx, host.Cmd{Path: "agent", Args: []string{"-register", "-code", code, short}, Secret: []string{code, short}})
			return err
		})
	})), Options{NoRollback: true})
	if err == nil {
		t.Fatal("the step is never so, and did not fail")
	}
	journal := m.get(dataDir + "/journal/open.jsonl")
	for name, text := range map[string]string{"the journal": journal, "the events": events.String()} {
		if strings.Contains(text, code) || strings.Contains(text, short) {
			t.Errorf("%s has the secret: %s", name, text)
		}
		if !strings.Contains(text, "-register") {
			t.Errorf("%s does not have the child: %s", name, text)
		}
	}
	if n := strings.Count(journal, `"is":"child"`); n != 1 {
		t.Errorf("the child is journalled %d times", n)
	}
}

func TestChildrenAreToldToTheHookThatWasThere(t *testing.T) {
	m := testMachine(t)
	var pids []int
	ctx := host.WithChildHook(t.Context(), func(c host.Child) { pids = append(pids, c.PID) })
	if _, err := newEngine(m, "one").Apply(ctx, planOf(join(installing, claiming)...), Options{}); err != nil {
		t.Fatal(err)
	}
	equal(t, "pids", pids, []int{4711, 4712, 4712, 4712})
}

// A step may take its own effect back before it fails, so that not even --no-rollback leaves it standing.
func TestTakeBack(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	during(t, m, func(ctx context.Context, tx *Tx) error {
		if err := identifying[0].Change(ctx, tx); err != nil {
			return err
		}
		saved, err := tx.Backup("/var/lib/ident")
		if err != nil {
			return err
		}
		if _, err := tx.TakeBack(ctx, "identity", identity{"never recorded"}); err != nil {
			t.Error(err)
		}
		_, err = tx.TakeBack(ctx, "identity", identity{saved})
		return err
	})
	equal(t, "the machine", m.tree(), before)
	if out, err := newEngine(m, "two").Rollback(t.Context()); err != nil || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the machine", m.tree(), before)
}
