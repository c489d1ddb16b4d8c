package rehearsal

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

var whole = flag.Bool("whole", false, "kill commands on hosts of an rpm family at every point, not at a share of them")

// cutsOnRPM plays a story on stages of its own, each with its share of the points at which a command is killed: around every
// line of the journal, every call to AWS that changes something, and at each moment of rpm's transactions. From one try to
// the next turn changes, by which the story has it go on in another way.
func cutsOnRPM(t *testing.T, play func(t *testing.T, s *stage, next func() (point, turn int))) {
	t.Helper()
	t.Parallel()
	stages, thin := 61, 21*min(sparsely, 2)
	if *whole {
		stages, thin = 12, 1
	}
	var all sync.WaitGroup
	defer all.Wait()
	for part := 0; part < stages; part += thin {
		all.Go(func() {
			powerCuts <- struct{}{}
			defer func() { <-powerCuts }()
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				at, turn := 1+part-stages, part/thin
				play(t, onRPM(t, "rocky9"), func() (int, int) {
					at += stages
					turn++
					return at, turn
				})
			})
		})
	}
}

// A registration that is killed at any point is ended by the same command, or taken back to the bare host.
func TestPowerFailsInARegistrationOnRPM(t *testing.T) {
	cutsOnRPM(t, func(t *testing.T, s *stage, next func() (point, turn int)) {
		bare := s.everything(t)
		for killed := true; killed; {
			point, turn := next()
			what := fmt.Sprint("killed at ", point)
			s.anotherToken()
			killed = s.kill(t, withToken, point)
			if turn%4 > 1 {
				s.powerFails(t)
			}
			if killed && turn%2 == 1 && s.takenBack(t, what) {
				s.goneFrom(t, bare, ecsagent.Unit)
			} else {
				d := s.run(t, withToken)
				if d.RC != 0 || d.Result.ECSAgentVersion != ecsVersion || d.Result.SSMAgentVersion != ssmVersion+"-1" {
					t.Fatalf("%s: %+v", what, d)
				}
				s.whole(t)
				s.until(t, is(lifecycle.Healthy))
				s.finished(t, d, true, bare, s.leave(t, true))
				s.whole(t)
			}
			if t.Failed() {
				t.Fatal(what)
			}
			if !killed && point < 150 {
				t.Errorf("it had only %d points", point)
			}
		}
	})
}

// takenBack undoes an operation that was killed. It is false where there is none to undo: before it has begun, once it has
// ended, or past its point of no return.
func (s *stage) takenBack(t *testing.T, what string) bool {
	t.Helper()
	d := s.run(t, line{args: []string{"rollback"}})
	if d.RC != 0 && (d.RC != 12 || !strings.Contains(d.Error.Message, "there is no unfinished operation") &&
		!strings.Contains(d.Error.Message, "past its point of no return")) {
		t.Fatalf("%s, and taken back: %+v", what, d)
	}
	return d.RC == 0
}

// A deregistration that is killed at any point is ended by the same command; one that is taken back leaves the host registered.
func TestPowerFailsInADeregistrationOnRPM(t *testing.T) {
	cutsOnRPM(t, func(t *testing.T, s *stage, next func() (point, turn int)) {
		bare := s.everything(t)
		for killed := true; killed; {
			point, turn := next()
			what := fmt.Sprint("killed at ", point)
			first := s.settled(t)
			if first.Result.ContainerInstanceARN == "" {
				t.Fatalf("before it is %s: %+v", what, first)
			}
			killed = s.kill(t, line{args: []string{"deregister", "--yes"}, operator: true}, point)
			if turn%4 > 1 {
				s.powerFails(t)
			}
			if killed && turn%2 == 1 && s.takenBack(t, what) {
				s.whole(t)
				s.until(t, is(lifecycle.Healthy))
				s.keeps(t, first, plain, false)
			}
			s.finished(t, first, true, bare, s.leave(t, true))
			s.whole(t)
			if t.Failed() {
				t.Fatal(what)
			}
			if !killed && point < 60 {
				t.Errorf("it had only %d points", point)
			}
		}
	})
}

// An upgrade, and a rollback, that is killed at any point is ended by the same command, by the other one, or by its deadline
// after a boot: with the one pair of versions or the other, as the same instance.
func TestPowerFailsInAnUpgradeOnRPM(t *testing.T) {
	cutsOnRPM(t, func(t *testing.T, s *stage, next func() (point, turn int)) {
		first := s.settled(t)
		s.publish(t, nextSSM, nextECS, "")
		lines := [2]line{forward, back}
		for killed := true; killed; {
			point, turn := next()
			for way := range lines {
				what := fmt.Sprint(lines[way].args, " killed at ", point)
				if isNew := s.upgraded(t); isNew != (way == 1) { // what was taken back is brought about anew
					if d := s.upgrades(t, lines[1-way]); d.RC != 0 {
						t.Fatalf("before %s: %+v", what, d)
					}
				}
				killed = s.kill(t, lines[way], point)
				switch {
				case !killed:
				case turn%3 == 0:
					s.powerFails(t)
				case turn%3 == 1:
					if d := s.upgrades(t, lines[way]); d.RC != 0 && d.Error.Code != string(failure.NothingToRollBack) {
						t.Fatalf("%s: %+v", what, d)
					}
				default:
					if d := s.upgrades(t, lines[1-way]); d.RC != 0 && d.RC != 12 {
						t.Fatalf("%s, and the other way: %+v", what, d)
					}
				}
				s.tended(t, first, what)
				s.upgraded(t)
				s.whole(t)
				if t.Failed() {
					t.Fatal(what)
				}
				if !killed && point < 100 {
					t.Errorf("it had only %d points", point)
				}
			}
		}
	})
}
