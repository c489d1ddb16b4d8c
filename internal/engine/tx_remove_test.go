package engine

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// clearing removes a tree for good.
var clearing = []Step{step("clear", func(r host.Reader) bool { return !there(r, "/srv/old") }, func(ctx context.Context, tx *Tx) error {
	return tx.RemoveTree(ctx, "/srv/old")
})}

// A package that cannot come back is named, whatever else is undone.
func TestARemovedPackageThatCannotComeBack(t *testing.T) {
	gone := func(r host.Reader) bool { p, _ := r.Packages.Package("base"); return !p.Installed }
	remove := func(file string) Step {
		return step("uninstall", gone, func(ctx context.Context, tx *Tx) error {
			return tx.RemovePackage(ctx, "base", true, file, "base.service")
		})
	}
	for _, test := range []struct {
		name, file, kept string
		meddle           func(*machine)
	}{
		{"no file", "", "base (it is removed; there is no file of 1", func(*machine) {}},
		{"another version's file", "/cache/base-2", "base (version 2; /cache/base-2 is not 1", func(*machine) {}},
		{"installed by somebody else", "/cache/base-1", "base (version 2 was installed by somebody else", func(m *machine) {
			must(packages{m}.Install(context.Background(), "/cache/base-2"))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := testMachine(t)
			halfway(t, m, write("conf", "/etc/fresh", "x"), remove(test.file))
			test.meddle(m)
			out, err := newEngine(m, "two").Rollback(t.Context())
			if err != nil || out.RolledBack || len(out.Kept) != 1 || !strings.HasPrefix(out.Kept[0], test.kept) || m.exists("/etc/fresh") {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}

func TestWhatIsNotThereIsNotRemoved(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(step("gone", func(r host.Reader) bool { return false },
		func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.RemovePackage(ctx, "never", true, ""), tx.RemoveTree(ctx, "/srv/never"), failure.New(failure.ServiceFailed, "it broke"))
		})), Options{})
	if !failure.Is(err, failure.ServiceFailed) || out.Changed || out.RolledBack || !cmp.Equal(before, m.tree()) {
		t.Errorf("%+v, %v", out, err)
	}
}

// A removal that the package manager refuses, and one that it only says it has done.
func TestAPackageThatStays(t *testing.T) {
	m := testMachine(t)
	m.refuse["remove base"] = errors.New("dependency problems")
	before := m.tree()
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(uninstalling...), Options{})
	if !failure.Is(err, failure.PackageInstall) || !strings.Contains(err.Error(), "dependency problems") || !out.RolledBack {
		t.Errorf("%+v, %v", out, err)
	}
	if diff := cmp.Diff(before, m.tree()); diff != "" {
		t.Error(diff)
	}
}

// A tree behind a link is not removed, and as nothing of it was, the rest is undone.
func TestATreeBehindALink(t *testing.T) {
	m := testMachine(t)
	m.put("/precious/old/data", "x")
	m.drop("/srv")
	must(os.Symlink("/precious", m.Local("/srv")))
	before := m.tree()
	out, err := newEngine(m, "one").Apply(t.Context(), planned("clear"), Options{})
	if !failure.Is(err, failure.UnsafePath) || !out.RolledBack {
		t.Errorf("%+v, %v", out, err)
	}
	if diff := cmp.Diff(before, m.tree()); diff != "" {
		t.Error(diff)
	}
}

// What was refused for certain was never done: the cause stands alone, and what came before is undone. What may have
// happened counts as done.
func TestAnEffectThatWasRefused(t *testing.T) {
	call := func(err error) Step {
		return step("call", func(host.Reader) bool { return false }, func(ctx context.Context, tx *Tx) error {
			return tx.Effect(ctx, "call", "what", func(context.Context) error { return err })
		})
	}
	denied, silent := failure.New(failure.AccessDenied, "no"), failure.New(failure.Network, "silence")

	m := testMachine(t)
	out, err := newEngine(m, "one").Apply(t.Context(), planOf(call(denied)), Options{})
	if !failure.Is(err, failure.AccessDenied) || out.Changed || out.RolledBack || len(out.Kept) > 0 {
		t.Errorf("%+v, %v", out, err)
	}
	settled(t, m)
	out, err = newEngine(m, "one").Apply(t.Context(), planOf(write("conf", "/etc/fresh", "x"), call(denied)), Options{})
	if !failure.Is(err, failure.AccessDenied) || !out.RolledBack || m.exists("/etc/fresh") {
		t.Errorf("%+v, %v", out, err)
	}
	settled(t, m)
	out, err = newEngine(m, "one").Apply(t.Context(), planOf(write("conf", "/etc/fresh", "x"), call(silent)), Options{})
	if !failure.Is(err, failure.Network) || out.RolledBack || !slices.Contains(out.Kept, "the call") || !m.exists("/etc/fresh") {
		t.Errorf("%+v, %v", out, err)
	}
	// The next run is refused for certain: the first one may have been heard all the same.
	out, err = newEngine(m, "two").Apply(t.Context(), planOf(write("conf", "/etc/fresh", "x"), call(denied)), Options{})
	if !failure.Is(err, failure.AccessDenied) || len(out.Kept) == 0 || !m.exists("/etc/fresh") {
		t.Errorf("%+v, %v", out, err)
	}
}
