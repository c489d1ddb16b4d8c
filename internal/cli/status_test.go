package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// watched runs a watch over the statuses, one a look, and ends it after the last as how says.
func watched(tty bool, how *failure.Error, looks ...lifecycle.Report) (out string, rep lifecycle.Report, err error) {
	var written bytes.Buffer
	ticks := make(chan time.Time, len(looks))
	a := newApp(Env{
		Now:     func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) },
		Ticker:  func(time.Duration) (<-chan time.Time, func()) { return ticks, func() {} },
		Streams: Streams{Out: &written, Err: &written, OutTTY: tty},
	})
	ctx, cancel := context.WithCancelCause(context.Background())
	next := 0
	rep, err = a.watching(func(context.Context, lifecycle.Deps) (lifecycle.Report, error) {
		if next == len(looks) {
			cancel(how)
			return lifecycle.Report{}, context.Cause(ctx)
		}
		next++
		ticks <- time.Time{}
		return looks[next-1], nil
	}, time.Second)(ctx, lifecycle.Deps{})
	return written.String(), rep, err
}

func status(state lifecycle.HealthState, message string, rules ...string) lifecycle.Report {
	result := lifecycle.StatusResult{State: state}
	for _, rule := range rules {
		result.Reasons = append(result.Reasons, lifecycle.StatusReason{Rule: rule, Code: failure.Network, Message: message})
	}
	exit := failure.ExitUnhealthy
	if state == lifecycle.Healthy {
		exit = failure.ExitOK
	}
	return lifecycle.Report{Result: result, Message: message, Exit: exit}
}

func TestWatchTellsChangesOnly(t *testing.T) {
	interrupted := failure.New(failure.Interrupted, "interrupted by Ctrl-C")
	out, rep, err := watched(false, interrupted,
		status(lifecycle.Healthy, "healthy: 1 task runs"), status(lifecycle.Healthy, "healthy: 2 tasks run"),
		status(lifecycle.Unhealthy, "unhealthy: lost at 1", "ecs.connection"), status(lifecycle.Unhealthy, "unhealthy: lost at 2", "ecs.connection"),
		status(lifecycle.Unhealthy, "unhealthy: Docker", "docker", "ecs.connection"))
	const stamp = "2026-11-22T12:00:00Z "
	if want := stamp + "healthy: 1 task runs\n" + stamp + "unhealthy: lost at 1\n" + stamp + "unhealthy: Docker\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	if err != nil || rep.Exit != failure.ExitUnhealthy {
		t.Errorf("Ctrl-C ends a watch as its last state: %v, %d", err, rep.Exit)
	}
	if _, rep, err := watched(false, interrupted, status(lifecycle.Unhealthy, "x", "docker"), status(lifecycle.Healthy, "well")); err != nil || rep.Exit != 0 {
		t.Errorf("%v, %d", err, rep.Exit)
	}
}

func TestWatchRedrawsATerminal(t *testing.T) {
	out, _, err := watched(true, failure.New(failure.Terminated, "terminated"),
		status(lifecycle.Unhealthy, "unhealthy: lost", "ecs.connection"), status(lifecycle.Healthy, "healthy: all is well"))
	if !failure.Is(err, failure.Terminated) {
		t.Errorf("SIGTERM is no end of a watch's own: %v", err)
	}
	screens := strings.Split(out, "\033[H")
	if len(screens) != 3 || !strings.Contains(screens[1], "lost") || !strings.Contains(screens[2], "all is well") || !strings.HasSuffix(out, "\033[J") {
		t.Errorf("%q", screens)
	}
}
