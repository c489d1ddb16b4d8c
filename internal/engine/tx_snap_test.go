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

// point makes a revision of the snap box the current one, as somebody else would.
func (m *machine) point(revision string) {
	m.drop("/snap/box/current")
	m.put("/snap/box/"+revision+"/meta/snap.yaml", "version: "+revision+".0\n")
	must(os.Symlink(revision, m.Local("/snap/box/current")))
}

// What became of a snap since is not taken back.
func TestUndoOfASnap(t *testing.T) {
	for name, test := range map[string]struct {
		since    func(m *machine)
		kept     string // why; empty is undone
		revision string // in the end
	}{
		"nothing":                         {func(*machine) {}, "", "7"},
		"it went back by other hands":     {func(m *machine) { m.point("7") }, "", "7"},
		"snapd has refreshed it":          {func(m *machine) { m.point("9") }, "snap box (revision 9 came since, by snapd itself or by somebody)", "9"},
		"snapd does not keep what it was": {func(m *machine) { m.drop("/snap/box/7") }, "snap box (revision 8; snapd does not keep 7 any more)", "8"},
		"somebody has removed it":         {func(m *machine) { m.drop("/snap/box") }, "snap box (somebody has removed it)", ""},
		"snapd is at work on the next refresh": {func(m *machine) {
			m.put("/snap/box/9/meta/snap.yaml", "version: 9\n")
			m.put("/var/lib/snapd/change", "9 stable")
		}, "snap box (revision 9 came since, by snapd itself or by somebody)", "9"},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			since := step("since", func(host.Reader) bool { return false }, func(context.Context, *Tx) error {
				test.since(m)
				return failure.New(failure.ServiceFailed, "it broke")
			})
			out, err := newEngine(m, "run").Apply(t.Context(), planned("refresh", since), Options{})
			if !failure.Is(err, failure.ServiceFailed) || out.RolledBack != (test.kept == "") || strings.Join(out.Kept, "; ") != test.kept {
				t.Errorf("rolled back %t, kept %q, %v", out.RolledBack, out.Kept, err)
			}
			if now, _, err := host.ReadSnap(m.Dir, "box"); err != nil || now.Revision != test.revision {
				t.Errorf("%+v, %v", now, err)
			}
			if unit, _ := (units{m}).Unit(t.Context(), "snap.box.service"); test.revision != "" && unit.Active != "active" {
				t.Errorf("its service is %+v", unit)
			}
		})
	}
}

// A snap that snapd would not change, or that is none, is told, and everything is as before.
func TestASnapThatStays(t *testing.T) {
	m := testMachine(t)
	before := m.tree()
	m.refuse = map[string]error{"box": errors.New("snapd says no")}
	out, err := newEngine(m, "run-1").Apply(t.Context(), planned("refresh"), Options{})
	if f := failure.Of(err); f == nil || f.Code != failure.PackageInstall || !strings.Contains(err.Error(), "snapd says no") || len(out.Kept) > 0 {
		t.Errorf("%+v, %v", out, err)
	}
	for name, was := range before {
		if m.tree()[name] != was {
			t.Errorf("%s is not as it was", name)
		}
	}
	m.drop("/snap/box")
	if _, err = newEngine(m, "run-2").Apply(t.Context(), planned("refresh"), Options{}); err == nil || !strings.Contains(err.Error(), "is not installed") {
		t.Errorf("%v", err)
	}
	e := newEngine(m, "run-3")
	e.Host.Snaps = nil
	if _, err = e.Apply(t.Context(), planned("refresh"), Options{}); !failure.Is(err, failure.Internal) {
		t.Errorf("%v", err)
	}
}
