package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// An uninterrupted host is what every interrupted one must become equal to.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	reference := s.host(lab.Host{})
	s.proceed(reference, s.register(s.token(1)))
	whole, lines := reference.Tree(treeOf...), closedJournal(reference)
	want := record(t, reference)
	reference.Kill()
	t.Logf("a registration has %d lines in its journal", len(lines))
	if len(lines) < 20 {
		t.Fatalf("so few lines: %v", lines)
	}
	equal := func(t *testing.T, h *lab.Machine) {
		t.Helper()
		if diff := differences(whole, h.Tree(treeOf...), ofOneHost); len(diff) > 0 {
			t.Errorf("it differs from a host that was not interrupted:\n%s", strings.Join(diff, "\n"))
		}
		if got := record(t, h); got != want {
			t.Errorf("its record is %s\nwithout interruption it is %s", got, want)
		}
	}

	// Each run is killed a few lines after it began, a line later each time, until one gets through: in sum every stretch
	// of the journal is met, and most by a run that was itself a continuation. Exactly at each line is the engine's own
	// test; here the kernel, dpkg and systemd are the real ones. There is one slot more than needed, so that one spent twice
	// shows as such: amazon-ssm-agent -register outlives a killed run, and the next one waits for it.
	t.Run("again and again", func(t *testing.T) {
		t.Parallel()
		s := s.in(t)
		h := s.host(lab.Host{})
		token := s.token(2)
		kills := 0
		for lines := 1; ; lines++ {
			r := s.begin(h, s.again(h, token))
			if !r.until(func(added []string) bool { return len(added) >= lines }) {
				if res := r.end(); res.Exit != 0 {
					t.Fatalf("after %d kills: %v", kills, res)
				}
				break
			}
			r.killed()
			kills++
		}
		t.Logf("got through after %d kills", kills)
		s.proceed(h, s.register(""))
		equal(t, h)
		if left := s.left(token); left != 1 {
			t.Errorf("%d slots are left of 2, and one host is registered", left)
		}
		s.mustKeepSecrets(h, token)
	})

	t.Run("where it matters", func(t *testing.T) {
		t.Parallel()
		s := s.in(t)
		h := s.host(lab.Host{})
		token := s.token(2)
		points := []func([]string) bool{
			line(`"kind":"package"`, "amazon-ssm-agent"),
			line(`"is":"child"`, `"pid":0`, "--install", "amazon-ssm-agent"),
			line(`"is":"child"`, `!"pid":0`, "--install", "amazon-ssm-agent"),
			line(`"kind":"package"`, "amazon-ecs-init"),
			line(`"is":"child"`, `!"pid":0`, "--install", "amazon-ecs-init"),
			line(`"kind":"ssm.registration"`),
			line(`"is":"child"`, `"pid":0`, "-register"),
			line(`"is":"child"`, `!"pid":0`, "-register"),
			line(`"is":"commit"`),
			line(`"kind":"file"`, "ecs.config"),
			line(`"kind":"reload"`),
			line(`"is":"begin"`, "ssm.start"),
			line(`"is":"step"`, "ssm.start"),
			line(`"is":"begin"`, "ecs.start"),
			line(`"is":"step"`, "ecs.start"),
		}
		kills := 0
		for i := range points {
			// What a killed run has still brought about, itself or by a child that outlived it, is not met again.
			later := func(added []string) bool {
				return slices.ContainsFunc(points[i:], func(so func([]string) bool) bool { return so(added) })
			}
			r := s.begin(h, s.again(h, token))
			if !r.until(later) {
				if res := r.end(); res.Exit != 0 {
					t.Fatalf("after %d kills: %v", kills, res)
				}
				break
			}
			r.killed()
			kills++
		}
		t.Logf("got through after %d kills", kills)
		if kills < 6 {
			t.Error("there should be more")
		}
		s.proceed(h, s.again(h, token))
		equal(t, h)
		if left := s.left(token); left != 1 {
			t.Errorf("%d slots are left of 2, and one host is registered", left)
		}
		s.mustKeepSecrets(h, token)
	})

	// Undone by another process, without network, AWS or the token.
	t.Run("and rolled back", func(t *testing.T) {
		t.Parallel()
		s := s.in(t)
		h := s.host(lab.Host{})
		token := s.token(1)
		before := stateOf(h)
		for _, at := range [][]string{
			{`"kind":"file"`, "amazon-ssm-agent.json"},
			{`"kind":"package"`, "amazon-ssm-agent"},
			{`"is":"child"`, `"pid":0`, "--install", "amazon-ssm-agent"},
			{`"is":"child"`, `!"pid":0`, "--install", "amazon-ssm-agent"},
			{`"is":"step"`, "ssm.package"},
			{`"is":"child"`, `!"pid":0`, "--install", "amazon-ecs-init"},
			{`"is":"begin"`, "ssm.identity"}, // the agent's unit is stopped next, and then it registers
		} {
			r := s.begin(h, s.register(token))
			if !r.until(line(at...)) {
				t.Fatalf("it ended before %v: %v", at, r.end())
			}
			r.killed()
			d := s.read(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json"}}))
			if d.Failed {
				t.Fatalf("rollback after %v: %+v %+v", at, d, d.Error)
			}
			s.mustBeAsBefore(h, before, fmt.Sprint("killed at ", at, " and rolled back,"))
		}
		if left := s.left(token); left != 1 {
			t.Errorf("%d slots are left of 1, and nothing was registered", left)
		}
		s.mustKeepSecrets(h, token)
		s.proceed(h, s.register(token))
		equal(t, h)
	})
}
