package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// halfway applies the steps, breaks, and leaves the machine so.
func halfway(t *testing.T, m *machine, steps ...Step) {
	t.Helper()
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(join(steps, []Step{broken})...), Options{NoRollback: true})
	if !failure.Is(err, failure.ServiceFailed) || out.Steps[len(out.Steps)-1].ID != "broken" {
		t.Fatalf("outcome %+v, error %v", out, err)
	}
}

// What somebody else changed between the operation and its undo is theirs.
func TestWhatSomebodyElseChangedIsKept(t *testing.T) {
	for _, test := range []struct {
		name   string
		steps  []Step
		meddle func(*machine)
		kept   string            // of each part of Outcome.Kept, in order
		files  map[string]string // how they are afterwards
	}{
		{"a new file", writing, func(m *machine) { m.put("/etc/new/folder/file", "mine") },
			"/etc/new/folder/file (was changed|/etc/new/folder (is not empty|/etc/new (is not empty",
			map[string]string{"/etc/new/folder/file": "mine", "/etc/conf/base.service": "port=1\n"}},
		{"a replaced file", writing, func(m *machine) { m.put("/etc/conf/base.service", "port=7\n") },
			"/etc/conf/base.service (was changed",
			map[string]string{"/etc/conf/base.service": "port=7\n", "/etc/new/folder/file": "no /etc/new/folder/file"}},
		{"a file become a folder", writing, func(m *machine) {
			m.drop("/etc/new/folder/file")
			m.put("/etc/new/folder/file/x", "mine")
		},
			"/etc/new/folder/file (was changed|/etc/new/folder (is not empty|/etc/new (is not empty",
			map[string]string{"/etc/new/folder/file/x": "mine"}},
		{"a folder with something in it", folders, func(m *machine) { m.put("/srv/a/x", "mine") },
			"/srv/a (is not empty",
			map[string]string{"/srv/a/x": "mine", "/srv/b": "no /srv/b"}},
		{"a removed file made anew", removing, func(m *machine) { m.put("/etc/obsolete", "mine") },
			"/etc/obsolete (was made anew",
			map[string]string{"/etc/obsolete": "mine", "/etc/alias": "mine"}},
		{"a renamed folder whose old name is taken", moved, func(m *machine) { m.put("/srv/old/x", "mine") },
			"/srv/moved/here (cannot go back|/srv/moved (is not empty",
			map[string]string{"/srv/old/x": "mine", "/srv/moved/here/data": "precious\n"}},
		{"a renamed folder that is gone", moved, func(m *machine) { m.drop("/srv/moved") },
			"/srv/moved/here (is gone",
			map[string]string{"/srv/moved": "no /srv/moved"}},
		{"a package that was upgraded", installing, func(m *machine) {
			m.put("/cache/demo-2", strings.Replace(m.get("/cache/demo-1"), `"Version":"1"`, `"Version":"2"`, 1))
			must(packages{m}.Install(context.Background(), "/cache/demo-2"))
		},
			"demo (version 2 was installed",
			map[string]string{"/usr/share/demo/doc": "read me"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := testMachine(t)
			halfway(t, m, test.steps...)
			test.meddle(m)
			out, err := newEngine(m, "two").Rollback(t.Context())
			if err != nil || out.RolledBack || !out.Changed {
				t.Errorf("outcome %+v, error %v", out, err)
			}
			want := strings.Split(test.kept, "|")
			if len(out.Kept) != len(want) {
				t.Fatalf("kept %q, want %q", out.Kept, want)
			}
			for i, kept := range out.Kept {
				if !strings.HasPrefix(kept, want[i]) {
					t.Errorf("kept %q, want %q", kept, want[i])
				}
			}
			for name, content := range test.files {
				if got := m.get(name); got != content {
					t.Errorf("%s has %q, want %q", name, got, content)
				}
			}
			if op, err := newEngine(m, "look").Open(); op != nil || err != nil {
				t.Errorf("still open: %+v, %v", op, err)
			}
		})
	}
}

// The backups of what was kept stay, for its owner may want the former content.
func TestTheBackupsOfWhatWasKeptStay(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, writing...)
	m.put("/etc/conf/base.service", "port=7\n")
	if _, err := newEngine(m, "two").Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := m.ReadDir(dataDir + "/backup/one")
	if err != nil || len(found) == 0 {
		t.Errorf("backups: %v, %v", found, err)
	}
}

func TestAMissingFileIsRestored(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	halfway(t, m, writing...)
	m.drop("/etc/conf/base.service")
	m.drop("/etc/new")
	out, err := newEngine(m, "two").Rollback(t.Context())
	if err != nil || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the machine", m.tree(), before)
}

// A claim takes everything below it along, but not a file that somebody else has made theirs.
func TestAClaimSparesWhatIsKept(t *testing.T) {
	claimed := step("claimed", func(r host.Reader) bool { return there(r, "/etc/mine/conf") }, func(ctx context.Context, tx *Tx) error {
		if err := tx.Claim(ctx, "/etc/mine"); err != nil {
			return err
		}
		return tx.WriteFile(ctx, "/etc/mine/conf", strings.NewReader("x"), 0o644)
	})
	for _, test := range []struct {
		name, conf, after string
		rolledBack        bool
	}{
		{"untouched", "x", "no /etc/mine/conf", true},
		{"changed", "theirs", "theirs", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := testMachine(t)
			halfway(t, m, claimed)
			m.put("/etc/mine/conf", test.conf)
			m.put("/etc/mine/cache/of-the-service", "y")
			out, err := newEngine(m, "two").Rollback(t.Context())
			if err != nil || out.RolledBack != test.rolledBack {
				t.Errorf("outcome %+v, error %v", out, err)
			}
			equal(t, "the file", m.get("/etc/mine/conf"), test.after)
		})
	}
}

// A snapshot is restored whoever wrote the file, but not over what a later write of the same operation was kept for.
func TestASnapshotDoesNotOverwriteWhatIsKept(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, step("both", func(r host.Reader) bool { return holds(r, "/etc/shared.conf", "ours") }, func(ctx context.Context, tx *Tx) error {
		return errors.Join(tx.Snapshot(ctx, "/etc/shared.conf"), tx.WriteFile(ctx, "/etc/shared.conf", strings.NewReader("ours"), 0o644))
	}))
	m.put("/etc/shared.conf", "theirs")
	out, err := newEngine(m, "two").Rollback(t.Context())
	if err != nil || len(out.Kept) != 1 {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the file", m.get("/etc/shared.conf"), "theirs")
}

func TestAPackageWithoutAWayBackIsKept(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, step("upgrade", func(r host.Reader) bool { p, _ := r.Packages.Package("base"); return p.Version == "2" },
		func(ctx context.Context, tx *Tx) error {
			return tx.Install(ctx, "base", "/cache/base-2", "", "base.service")
		}))
	out, err := newEngine(m, "two").Rollback(t.Context())
	if err != nil || out.RolledBack || len(out.Kept) != 1 || !strings.Contains(out.Kept[0], "no file of 1") {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the unit", m.exists("/run/units/base.service"), true)
}

// What cannot be undone now can be later: the journal stays open and says what is missing, and everything else is
// undone.
func TestAnUndoThatFailsCanBeTriedAgain(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	m.refuse["remove demo"] = errors.New("dpkg is locked")
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(join(writing, installing, []Step{broken})...), Options{})
	wantCode(t, err, failure.ServiceFailed)
	if out.RolledBack || len(out.Kept) != 1 || !strings.Contains(out.Kept[0], "dpkg is locked") {
		t.Errorf("outcome %+v", out)
	}
	equal(t, "steps", statuses(out.Steps), []string{"write.new undone", "write.old undone", "write.link undone", "install kept", "broken failed"})

	if out, err = newEngine(m, "two").Rollback(t.Context()); err == nil || !strings.Contains(err.Error(), "dpkg is locked") {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	// The same command first ends the undo, and does not begin anew while it cannot.
	if out, err = newEngine(m, "three").Apply(t.Context(), planOf(writing...), Options{}); err == nil || !strings.Contains(err.Error(), "dpkg is locked") {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	delete(m.refuse, "remove demo")
	if out, err = newEngine(m, "four").Rollback(t.Context()); err != nil || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the machine", m.tree(), before)
	settled(t, m)
}

// Files go back under a service at rest, which then starts with the old ones.
func TestAServiceIsBroughtBackWithItsOldFiles(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	halfway(t, m, join(serving, upgrading)...)
	equal(t, "what runs", m.get("/run/units/base.service"), "port=3\n")
	if out, err := newEngine(m, "two").Rollback(t.Context()); err != nil || !out.RolledBack {
		t.Fatalf("outcome %+v, error %v", out, err)
	}
	equal(t, "what runs", m.get("/run/units/base.service"), "port=1\n")
	equal(t, "the machine", m.tree(), before)
}

func TestAUnitThatCannotBeBroughtBackIsTold(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, serving...)
	m.refuse["base.service"] = errors.New("job failed")
	out, err := newEngine(m, "two").Rollback(t.Context())
	if err == nil || len(out.Kept) != 1 || !strings.Contains(out.Kept[0], "base.service could not be brought back") {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	delete(m.refuse, "base.service")
	if out, err = newEngine(m, "three").Rollback(t.Context()); err != nil || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
}

func TestAnInterruptedRollbackCanBeTakenUp(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	halfway(t, m, join(writing, serving)...)
	ctx, cancel := context.WithCancel(t.Context())
	e := newEngine(m, "two")
	undone := 0
	e.pulse = func(point string) {
		if point == "after undone" {
			if undone++; undone == 3 {
				cancel()
			}
		}
	}
	if out, err := e.Rollback(ctx); !errors.Is(err, context.Canceled) || out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	if out, err := newEngine(m, "three").Rollback(t.Context()); err != nil || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "the machine", m.tree(), before)
}

func TestThereIsNothingToRollBack(t *testing.T) {
	m := testMachine(t)
	_, err := newEngine(m, "one").Rollback(t.Context())
	wantCode(t, err, failure.NothingToRollBack)
	_, err = newEngine(m, "one").Abandon()
	wantCode(t, err, failure.NothingToRollBack)
}

// A journal of a program that knew more kinds of effect is not undone by half without a word.
func TestAnUnknownKindIsAnError(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, join(writing, identifying)...)
	e := newEngine(m, "two")
	delete(e.Kinds, "identity")
	out, err := e.Rollback(t.Context())
	if err == nil || out.RolledBack || !strings.Contains(err.Error(), "identity") {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	equal(t, "what could be undone", m.get("/etc/conf/base.service"), "port=1\n")
	if out, err := newEngine(m, "three").Rollback(t.Context()); err != nil || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
}
