//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// childArg as the first argument makes the test binary the process that is killed.
const childArg = "engine-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == childArg {
		child(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
		return
	}
	os.Exit(m.Run())
}

// child does one thing to the machine below root and, when killAt is not 0, ends itself at that point.
func child(root, plan, verb, killAt string) {
	at, err := strconv.Atoi(killAt)
	must(err)
	m := newMachine(root)
	points := 0
	m.pulse = func(point string) {
		if points++; points == at {
			fmt.Println(point)
			must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
			select {} // the signal is on its way
		}
	}
	e := newEngine(m, verb+"-"+killAt)
	e.pulse = m.pulse
	if err := do(e, plan, verb); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// do is what both the killed process and the one after it do.
func do(e *Engine, plan, verb string) error {
	ctx := context.Background()
	switch verb {
	case "apply":
		out, err := e.Apply(ctx, planned(plan), Options{})
		if err == nil && len(out.Kept) > 0 {
			err = fmt.Errorf("kept %q without an error", out.Kept)
		}
		return err
	case "fail":
		out, err := e.Apply(ctx, planned(plan, broken), Options{})
		if !failure.Is(err, failure.ServiceFailed) || !out.RolledBack {
			return fmt.Errorf("not rolled back: kept %q, error %w", out.Kept, err)
		}
		return nil
	case "break": // and leave it so
		if _, err := e.Apply(ctx, planned(plan, broken), Options{NoRollback: true}); !failure.Is(err, failure.ServiceFailed) {
			return fmt.Errorf("another error than was meant: %w", err)
		}
		return nil
	case "rollback":
		out, err := e.Rollback(ctx)
		if failure.Is(err, failure.NothingToRollBack) {
			return nil // it had just ended, or not yet begun; the tree tells which
		}
		if err == nil && !out.RolledBack {
			err = fmt.Errorf("not rolled back: kept %q", out.Kept)
		}
		return err
	}
	return errors.New("no such verb " + verb)
}

// killed runs the verb in a process of its own, which kills itself at the point. The point's name is empty when the
// process came to its end before.
func killed(t *testing.T, root, plan, verb string, at int) (point string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, childArg, root, plan, verb, strconv.Itoa(at))
	child.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // the race detector's runtime dawdles for a second else
	out, err := child.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &exit):
		if exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && len(exit.Stderr) == 0 {
			return strings.TrimSpace(string(out))
		}
		out = append(out, exit.Stderr...) // a data race, which the detector reports there
	}
	t.Fatalf("%s of %s, to be killed at point %d: %v\n%s", verb, plan, at, err, out)
	return ""
}

// crash is a verb that is killed at every point from the given one on, each time on a fresh machine, before another
// process does what comes next.
type crash struct {
	plan, verb, then string
	halfway          bool // the verb begins with a machine on which the plan broke and nothing was undone
	from             int
}

// leads checks that the machine is in one of the allowed states in the end.
func (c crash) leads(t *testing.T, allowed ...map[string]string) {
	t.Helper()
	for at := max(c.from, 1); ; at++ {
		m := testMachine(t)
		if c.halfway {
			must(do(newEngine(m, "first"), c.plan, "break"))
		}
		point := killed(t, m.root, c.plan, c.verb, at)
		if point == "" {
			if at < c.from+3 {
				t.Fatal("hardly anything was killed")
			}
			return
		}
		if err := do(newEngine(m, "second"), c.plan, c.then); err != nil {
			t.Fatalf("%s killed at point %d (%s), then %s: %v", c.verb, at, point, c.then, err)
		}
		settled(t, m)
		diff := ""
		for _, tree := range allowed {
			if diff = cmp.Diff(tree, m.tree()); diff == "" {
				break
			}
		}
		if diff != "" {
			t.Fatalf("%s killed at point %d (%s), then %s: the machine differs (-want +got)\n%s", c.verb, at, point, c.then, diff)
		}
		must(os.RemoveAll(m.root))
	}
}

func TestKilledAtEveryPoint(t *testing.T) {
	for plan := range plans {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			m := testMachine(t)
			before := m.tree()
			killed(t, m.root, plan, "apply", 0)
			settled(t, m)
			done := m.tree()
			if cmp.Equal(before, done) {
				t.Fatal("the plan does nothing")
			}

			halfway, points := testMachine(t), 0
			e := newEngine(halfway, "first")
			e.pulse = func(string) { points++ }
			halfway.pulse = e.pulse
			must(do(e, plan, "break"))

			t.Run("then again", func(t *testing.T) {
				t.Parallel()
				crash{plan: plan, verb: "apply", then: "apply"}.leads(t, done)
			})
			t.Run("then rollback", func(t *testing.T) {
				t.Parallel()
				// Where the operation had just ended, a rollback finds nothing to do.
				crash{plan: plan, verb: "apply", then: "rollback"}.leads(t, before, done)
			})
			t.Run("undoing, then rollback", func(t *testing.T) {
				t.Parallel()
				crash{plan: plan, verb: "fail", then: "rollback", from: points}.leads(t, before)
			})
			t.Run("undoing, then forward", func(t *testing.T) {
				t.Parallel()
				crash{plan: plan, verb: "fail", then: "apply", from: points}.leads(t, done)
			})
			t.Run("rollback, then rollback", func(t *testing.T) {
				t.Parallel()
				crash{plan: plan, verb: "rollback", then: "rollback", halfway: true}.leads(t, before)
			})
		})
	}
}

// Two crashes in a row, in both directions.
func TestKilledTwice(t *testing.T) {
	t.Parallel()
	m := testMachine(t)
	before := m.tree()
	killed(t, m.root, "everything", "apply", 0)
	done := m.tree()
	for first := 3; ; first += 7 {
		m := testMachine(t)
		if killed(t, m.root, "everything", "apply", first) == "" {
			return
		}
		killed(t, m.root, "everything", "apply", 5+first/2)
		killed(t, m.root, "everything", "rollback", 9)
		want, then := done, "apply"
		if first%2 == 0 {
			want, then = before, "rollback"
		}
		open, err := newEngine(m, "look").Open()
		if err != nil {
			t.Fatal(err)
		}
		if open == nil && then == "rollback" {
			continue
		}
		if point := killed(t, m.root, "everything", then, 0); point != "" {
			t.Fatalf("killed at %s", point)
		}
		settled(t, m)
		if diff := cmp.Diff(want, m.tree()); diff != "" {
			t.Fatalf("killed at %d and again, then %s (-want +got)\n%s", first, then, diff)
		}
	}
}

// The commit point holds through a crash too: killed between the effect and its mark, nothing is undone, and the same
// command goes on.
func TestKilledAroundTheCommitPoint(t *testing.T) {
	kept, undone := 0, 0
	for at := 1; ; at++ {
		m := testMachine(t)
		before := m.tree()
		point := killed(t, m.root, "commit", "apply", at)
		if point == "" {
			break
		}
		op, err := newEngine(m, "look").Open()
		if err != nil {
			t.Fatal(err)
		}
		if op == nil { // not yet begun, or over
			continue
		}
		spent := m.exists("/slot-spent")
		out, err := newEngine(m, "second").Rollback(t.Context())
		if !spent {
			undone++
			if err != nil || !out.RolledBack || !cmp.Equal(before, m.tree()) {
				t.Errorf("killed at %s: not undone although the slot is not spent: %+v, %v", point, out, err)
			}
			continue
		}
		kept++
		if !failure.Is(err, failure.NothingToRollBack) || len(out.Kept) == 0 || !m.exists("/etc/fresh") {
			t.Errorf("killed at %s: undone although the slot is spent: %+v, %v", point, out, err)
		}
		if err := do(newEngine(m, "third"), "commit", "apply"); err != nil || m.get("/etc/after") != "y" {
			t.Errorf("killed at %s: it did not go on: %v", point, err)
		}
		settled(t, m)
	}
	if kept < 8 || undone < 8 {
		t.Errorf("killed only %d times before the slot was spent, and %d times after", undone, kept)
	}
}

// Killed anywhere around a removal for good: before its line in the journal all is undone, from there on it only goes
// forward.
func TestKilledAroundARemovalForGood(t *testing.T) {
	kept, undone := 0, 0
	for at := 1; ; at++ {
		m := testMachine(t)
		before := m.tree()
		if killed(t, m.root, "clear", "apply", at) == "" {
			break
		}
		op, err := newEngine(m, "look").Open()
		if err != nil {
			t.Fatal(err)
		}
		if op == nil {
			continue
		}
		out, err := newEngine(m, "second").Rollback(t.Context())
		if err == nil {
			undone++
			if !out.RolledBack || !cmp.Equal(before, m.tree()) {
				t.Errorf("point %d: not undone: %+v", at, out)
			}
			continue
		}
		kept++
		if !failure.Is(err, failure.NothingToRollBack) || !m.exists("/etc/fresh") {
			t.Errorf("point %d: %+v, %v", at, out, err)
		}
		if err := do(newEngine(m, "third"), "clear", "apply"); err != nil || m.exists("/srv/old") || m.get("/etc/after") != "y" {
			t.Errorf("point %d: it did not go on: %v", at, err)
		}
		settled(t, m)
	}
	if kept < 6 || undone < 6 {
		t.Errorf("%d kept, %d undone", kept, undone)
	}
}
