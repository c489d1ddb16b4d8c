package rehearsal

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// powerFails ends everything that runs on the host, and boots it: what is enabled is started.
func (s *stage) powerFails(t *testing.T) {
	t.Helper()
	s.machine.units.stopAll()
	for _, name := range []string{ssmagent.UnitName, ecsagent.Unit, "anywhere-upgrade.timer"} {
		unit, err := s.machine.units.Unit(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if !unit.IsEnabled() {
			continue
		}
		if err := s.machine.units.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	forward = line{args: []string{"upgrade", "--watch-time", "20ms"}}
	back    = line{args: []string{"rollback", "--watch-time", "20ms"}}
	tend    = line{args: []string{"operation", "tend"}} // what the deadline's timer starts
)

// The power fails at each line of an upgrade's journal, and at every third of a rollback's, which is the same plan; then
// the host boots, and its deadline is all that goes on. The host comes to the one pair of versions or the other, connected,
// as the same instance.
func TestPowerFailsInAnUpgrade(t *testing.T) {
	t.Parallel()
	const stages = 12 // each has its share of the points
	var all sync.WaitGroup
	defer all.Wait()
	for part := range stages {
		if part%sparsely != 0 {
			continue
		}
		all.Go(func() {
			powerCuts <- struct{}{}
			defer func() { <-powerCuts }()
			t.Run(fmt.Sprint(part), func(t *testing.T) { powerFailsInAnUpgrade(t, part, stages) })
		})
	}
}

// powerCuts bounds how many stages are cut off at once: most of their time is waiting.
var powerCuts = make(chan struct{}, cutAtOnce)

func powerFailsInAnUpgrade(t *testing.T, part, stages int) {
	s, first := joined(t)
	s.publish(t, nextSSM, nextECS, "")
	var tried, whole [2]int // of the upgrade, of the rollback
	ended := [2]map[bool]int{{}, {}}
	for whole[0] == 0 || whole[1] == 0 {
		way := 0
		if s.upgraded(t) {
			way = 1
		}
		l := []line{forward, back}[way]
		point := 1 + part + tried[way]*stages*(1+2*way)
		tried[way]++
		if !s.kill(t, l, point) {
			whole[way]++
			continue
		}
		s.powerFails(t)
		s.tended(t, first, fmt.Sprint(l.args, " killed at ", point))
		ended[way][s.upgraded(t)]++
	}
	t.Logf("upgrade: %d points, ended upgraded: %v; rollback: %d points, %v", tried[0], ended[0], tried[1], ended[1])
	for way, n := range tried {
		if n*stages*(1+2*way) < 100 || ended[way][true] == 0 || ended[way][false] == 0 {
			t.Errorf("only %d points, or never both ends: %v", n*stages, ended[way])
		}
	}
}

// The run of the deadline is killed in its turn, at lines of its own: on its way forward, and on its way back.
func TestPowerFailsInTheDeadlinesRun(t *testing.T) {
	t.Parallel()
	const stages = 4
	var all sync.WaitGroup
	defer all.Wait()
	for _, c := range []struct {
		name string
		at   []string // in the line of the journal at which the upgrade is killed
	}{
		{"forward", []string{`"is":"begin"`, `"ecs.start"`}},
		{"back", []string{`"is":"step"`, `"ssm.package"`}},
	} {
		for part := range stages {
			if part%sparsely != 0 {
				continue
			}
			all.Go(func() {
				powerCuts <- struct{}{}
				defer func() { <-powerCuts }()
				t.Run(fmt.Sprint(c.name, part), func(t *testing.T) { powerFailsInTheDeadlinesRun(t, part, stages, c.name == "forward", c.at) })
			})
		}
	}
}

func powerFailsInTheDeadlinesRun(t *testing.T, part, stages int, forwards bool, at []string) {
	s, first := joined(t)
	s.publish(t, nextSSM, nextECS, "")
	begun := func() bool { return s.journalHas(at...) }
	for point := 1 + part; ; point += 2*stages + 1 {
		if !s.perish(t, forward, &mortal{when: begun}) {
			t.Fatal("it never came so far")
		}
		s.powerFails(t)
		killed := s.kill(t, tend, point)
		s.powerFails(t)
		s.tended(t, first, fmt.Sprint("the deadline's run, killed at ", point))
		if s.upgraded(t) {
			if d := s.upgrades(t, back); d.RC != 0 {
				t.Fatalf("and back: %+v", d)
			}
		} else if forwards && !killed {
			t.Error("new agents that are well were taken back")
		}
		if !killed {
			if point < 20 {
				t.Errorf("it had only %d points", point)
			}
			return
		}
	}
}

// journalHas reports whether a line of the open journal has all these parts.
func (s *stage) journalHas(parts ...string) bool {
	for l := range strings.Lines(s.glance(openJournal)) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(l, part) }) {
			return true
		}
	}
	return false
}

// tended lets the deadline do its work, and checks that the host is whole.
func (s *stage) tended(t *testing.T, first register, what string) {
	t.Helper()
	if d := s.upgrades(t, tend); d.RC != 0 {
		t.Fatalf("%s: the deadline says %+v", what, d)
	}
	s.disarmed(t)
	h := s.until(t, func(h health) bool { return h.Result.State == lifecycle.Healthy })
	if h.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("it is another instance: %+v", h.Result)
	}
	if left := s.backups(t); len(left) > 0 {
		t.Errorf("copies are left: %v", left)
	}
	if t.Failed() {
		t.Fatal(what)
	}
}

// upgraded reports whether the host has the new versions; a mixture is a failure.
func (s *stage) upgraded(t *testing.T) bool {
	t.Helper()
	packages := s.machine.host().Packages
	ecs, err := packages.Package(ecsagent.Package)
	if err != nil {
		t.Fatal(err)
	}
	ssm, err := packages.Package(ssmagent.Package)
	if err != nil {
		t.Fatal(err)
	}
	isNew := ecs.Version == nextECS && ssm.Version == nextSSM+"-1"
	if old := ecs.Version == ecsVersion && ssm.Version == ssmVersion+"-1"; old == isNew {
		t.Fatalf("it has %s and %s", ecs.Version, ssm.Version)
	}
	return isNew
}
