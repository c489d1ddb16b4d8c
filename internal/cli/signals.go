package cli

import (
	"context"
	"os"
	"syscall"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// watch ends the returned context when a signal asks for it. stop ends the watching.
//
// One Ctrl-C stops at the next safe point, a second one exits at once. A lost terminal (SIGHUP) or reader (SIGPIPE)
// ends a command that has changed nothing yet; once a change has begun they are passed over, and the run finishes into
// its log. The kernel sends SIGPIPE for a write to a closed socket too; only our own streams are meant here.
func (a *app) watch(ctx context.Context) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		interrupted := false
		for {
			select {
			case <-done:
				return
			case sig := <-a.env.Signals:
				interrupted = a.signalled(sig, cancel, interrupted)
			}
		}
	}()
	return watched, func() {
		close(done)
		cancel(nil)
	}
}

// signalled acts on one signal and reports whether a Ctrl-C has come by now.
func (a *app) signalled(sig os.Signal, cancel context.CancelCauseFunc, interrupted bool) bool {
	switch sig {
	case os.Interrupt:
		if interrupted {
			words := "What was begun stays in the journal: run the same command again, or undo it with: anywhere rollback"
			if own := a.parting.Load(); own != nil {
				words = *own
			}
			a.say("interrupted again: exiting at once. " + words)
			a.env.Exit(failure.ExitInterrupted)
		}
		if !a.calm.Load() {
			a.say("interrupted: stopping at the next safe point; Ctrl-C again exits at once")
		}
		cancel(failure.New(failure.Interrupted, "interrupted by Ctrl-C"))
		return true
	case syscall.SIGTERM:
		a.say("terminated: stopping at the next safe point")
		cancel(failure.New(failure.Terminated, "terminated by SIGTERM"))
	case syscall.SIGHUP, syscall.SIGPIPE:
		if sig == syscall.SIGPIPE && !gone(a.out.lost()) && !gone(a.err.lost()) {
			break // of a connection whose other end has closed it: that is its user's failure to tell, or to mend
		}
		if a.changing.Load() {
			a.logf("%s passed over: a change has begun", signalName(sig))
			break
		}
		cancel(failure.New(failure.Terminated, "ended by %s: the terminal or the reader of the output has gone",
			signalName(sig)))
	}
	return interrupted
}

func signalName(sig os.Signal) string {
	if sig == syscall.SIGPIPE {
		return "SIGPIPE"
	}
	return "SIGHUP"
}
