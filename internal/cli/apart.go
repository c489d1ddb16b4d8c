package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// leaveSession takes a run that replaces the SSM agent out of the session of Systems Manager that it was typed in, where the
// end of that session is an accepted risk. The first process only starts a second one, in a session of its own and on the
// same streams, and waits for it; the second one leaves the agent's service. left is true in the first one, when the second
// one has ended. Where that does not succeed the run goes on where it is: the upgrade's deadline ends it then.
func (a *app) leaveSession(cmd *cobra.Command) (left bool, err error) {
	if a.env.Apart == nil {
		return false, nil
	}
	h, err := a.env.Host()
	if err != nil {
		return false, err
	}
	session := lifecycle.UpgradeSession(h.Reader, a.global.acceptRisk)
	switch {
	case session == "":
		return false, nil
	case a.env.Apart.Leading():
		scope := lifecycle.UpgradeScope(a.runID)
		if err := a.env.Apart.Leave(cmd.Context(), scope, "anywhere upgrade, apart from the session of Systems Manager that it was typed in"); err != nil {
			a.warn("this run could not leave the session of Systems Manager: %s; should it end with the session, the host ends the upgrade by itself",
				failure.Of(err).Message)
		}
		return false, nil
	}
	child, wait, err := a.env.Apart.Again(a.args)
	if err != nil {
		a.warn("%s; should this run end with its session, the host ends the upgrade by itself", failure.Of(err).Message)
		return false, nil
	}
	if !a.global.quiet {
		a.say("this session of Systems Manager, below " + session + ", may end with the SSM agent; the upgrade goes on without it, as process " +
			lifecycle.FollowUpgrade(child.Pid))
	}
	a.await(cmd.Context(), child, wait)
	return true, nil
}

// await waits for the run that has taken over, and takes its exit status. It has told how it ended. Ctrl-C is passed on to
// it; what else ends this process does not concern it.
func (a *app) await(ctx context.Context, child *os.Process, wait func() int) {
	ended := make(chan int, 1)
	go func() { ended <- wait() }()
	select {
	case status := <-ended:
		a.outcome.elsewhere = &status
		return
	case <-ctx.Done():
	}
	cause := context.Cause(ctx)
	if failure.Is(cause, failure.Timeout) || failure.Is(cause, failure.Interrupted) && child.Signal(os.Interrupt) == nil { // it has --timeout itself
		status := <-ended
		a.outcome.elsewhere = &status
		return
	}
	if !a.global.quiet {
		a.say("the upgrade goes on, as process " + lifecycle.FollowUpgrade(child.Pid))
	}
	status := exitStatus(lifecycle.Report{}, cause)
	a.outcome.elsewhere = &status // the document is the other run's
}
