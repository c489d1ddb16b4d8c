package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// waits runs wait in a bubble of its own time, for at most a minute, and returns how long it took and its error.
func waits(t *testing.T, m *machine, done func(polls int) (bool, string, error)) (took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m.now = time.Now
		m.runs(ecsagent.Unit, time.Now())
		r := m.registration(RegisterRequest{WaitTimeout: time.Minute})
		begun, polls := time.Now(), 0
		applied := m.within(t.Context(), r, func(ctx context.Context, tx *engine.Tx) error {
			err = r.wait(ctx, tx, waiting{
				code: failure.ConnectTimeout, what: "the agent to come up", since: begun.Add(-time.Hour), ecs: true,
				done: func(context.Context) (bool, string, error) {
					polls++
					return done(polls)
				},
			})
			took = time.Since(begun)
			return nil
		})
		if applied != nil {
			t.Error(applied)
		}
	})
	return took, err
}

func never(int) (bool, string, error) { return false, "it sleeps", nil }

// bubbleTime is when a bubble begins.
var bubbleTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// ssmLogged is a line of the SSM agent's log.
func ssmLogged(at time.Time, message string) string {
	return at.In(time.Local).Format("2006-01-02 15:04:05.0000") + " " + message + "\n"
}

func TestWaitEndsWhenItIsDone(t *testing.T) {
	took, err := waits(t, newMachine(t), func(polls int) (bool, string, error) { return polls == 4, "", nil })
	if err != nil || took != 3*shortestPause {
		t.Errorf("%v after %s; want none after %s", err, took, 3*shortestPause)
	}
}

func TestPausesGrow(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{
		0: shortestPause, 200 * time.Millisecond: shortestPause, 800 * time.Millisecond: 100 * time.Millisecond,
		time.Minute: longestPause,
	} {
		if got := pause(waited); got != want {
			t.Errorf("after %s: %s, want %s", waited, got, want)
		}
	}
}

func TestWaitEndsWithItsOwnError(t *testing.T) {
	broken := errors.New("broken")
	took, err := waits(t, newMachine(t), func(int) (bool, string, error) { return false, "", broken })
	if !errors.Is(err, broken) || took != 0 {
		t.Errorf("%v after %s", err, took)
	}
}

// What the logs call final is not sat out.
func TestWaitIsHopeless(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*machine)
		code   failure.Code
		says   string // message and evidence
	}{
		"the ECS agent's log": {func(m *machine) {
			m.write(ecsagent.LogPath, logged(bubbleTime, "api error ClientException: Cluster not found."))
		}, failure.ClusterNotFound, "Cluster not found."},
		"the SSM agent's log, behind which the ECS agent waits": {func(m *machine) {
			m.write(ssmagent.LogPath, ssmLogged(bubbleTime, "ERROR InvalidInstanceId: Not existing"))
			m.write(ecsagent.LogPath, logged(bubbleTime, "api error ClientException: Cluster not found."))
		}, failure.NodeUnknown, "InvalidInstanceId"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			test.change(m)
			took, err := waits(t, m, never)
			f := failure.Of(err)
			if f == nil || f.Code != test.code || !strings.Contains(f.Message+f.Evidence, test.says) || f.Advice() == "" {
				t.Errorf("%+v; want %s with %q", f, test.code, test.says)
			}
			if took != 0 {
				t.Errorf("waited %s", took)
			}
		})
	}
}

func TestWaitEndsWithItsUnit(t *testing.T) {
	m := newMachine(t)
	took, err := waits(t, m, func(polls int) (bool, string, error) {
		m.units[ecsagent.Unit] = host.Unit{Loaded: true, Active: "failed", Result: "exit-code", ExitStatus: 5}
		return false, "", nil
	})
	const want = "ecs.service ended: exit-code, exit status 5"
	if !failure.Is(err, failure.ServiceFailed) || !strings.Contains(err.Error(), want) || took != 0 {
		t.Errorf("%v after %s", err, took)
	}
}

// A time-out names what was waited for, what was seen last, and the best reason that the logs have.
func TestWaitTimesOut(t *testing.T) {
	const ssmThrottled = "ERROR ThrottlingException: Rate exceeded"
	for name, test := range map[string]struct {
		change   func(*machine)
		code     failure.Code
		evidence string
	}{
		"nothing in the logs": {func(*machine) {}, failure.ConnectTimeout, "nothing in"},
		"the SSM agent's newest": {func(m *machine) {
			m.write(ssmagent.LogPath, ssmLogged(bubbleTime, "ERROR InternalServerError: x")+
				ssmLogged(bubbleTime.Add(time.Second), ssmThrottled))
		}, failure.Throttled, "ThrottlingException"},
		"the ECS agent's reason over its symptoms": {func(m *machine) {
			m.write(ecsagent.LogPath, logged(bubbleTime, "Failed to connect to ACS: InvalidClusterException: gone")+
				logged(bubbleTime.Add(time.Second), "ACS WebSocket connection closed"))
		}, failure.ClusterNotFound, "InvalidClusterException"},
		"the ECS agent's over the SSM agent's": {func(m *machine) {
			m.write(ssmagent.LogPath, ssmLogged(bubbleTime, ssmThrottled))
			m.write(ecsagent.LogPath, logged(bubbleTime, "Failed to connect to ACS: InvalidClusterException: gone"))
		}, failure.ClusterNotFound, "InvalidClusterException"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			test.change(m)
			took, err := waits(t, m, never)
			f := failure.Of(err)
			if f == nil || f.Code != test.code || !strings.Contains(f.Evidence, test.evidence) || f.Advice() == "" {
				t.Fatalf("%+v; want %s, evidence %q", f, test.code, test.evidence)
			}
			if !strings.Contains(f.Message, "gave up waiting after 1m0s for the agent to come up: it sleeps") {
				t.Errorf("the message is %q", f.Message)
			}
			if took < time.Minute || took > time.Minute+2*longestPause {
				t.Errorf("took %s", took)
			}
		})
	}
}

// All waits of a run share --wait-timeout.
func TestWaitsShareTheirTime(t *testing.T) {
	m := newMachine(t)
	synctest.Test(t, func(t *testing.T) {
		m.now = time.Now
		m.runs(ecsagent.Unit, time.Now())
		r := m.registration(RegisterRequest{WaitTimeout: time.Minute})
		begun := time.Now()
		err := m.within(t.Context(), r, func(ctx context.Context, tx *engine.Tx) error {
			first := waiting{code: failure.ConnectTimeout, what: "one", done: func(context.Context) (bool, string, error) {
				return time.Since(begun) >= 40*time.Second, "", nil
			}}
			if err := r.wait(ctx, tx, first); err != nil {
				return err
			}
			second := waiting{code: failure.ConnectTimeout, what: "two", done: func(context.Context) (bool, string, error) {
				return false, "", nil
			}}
			return r.wait(ctx, tx, second)
		})
		if !failure.Is(err, failure.ConnectTimeout) || !strings.Contains(err.Error(), "20s for two") {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took > time.Minute+2*longestPause {
			t.Errorf("took %s", took)
		}
	})
}

// An interruption ends the wait at once, with its own cause.
func TestWaitIsInterrupted(t *testing.T) {
	m := newMachine(t)
	synctest.Test(t, func(t *testing.T) {
		m.now = time.Now
		m.runs(ecsagent.Unit, time.Now())
		r := m.registration(RegisterRequest{})
		ctx, cancel := context.WithCancelCause(t.Context())
		begun := time.Now()
		var got error
		_ = m.within(ctx, r, func(ctx context.Context, tx *engine.Tx) error { // the engine has its own word about it
			got = r.wait(ctx, tx, waiting{what: "x", done: func(context.Context) (bool, string, error) {
				cancel(failure.New(failure.Terminated, "terminated"))
				return false, "", nil
			}})
			return got
		})
		if !failure.Is(got, failure.Terminated) || time.Since(begun) > 0 {
			t.Errorf("%v after %s", got, time.Since(begun))
		}
	})
}
