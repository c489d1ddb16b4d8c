package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// exitStatuses is the table that stands in every command's help.
var exitStatuses = []struct {
	Status  int
	Meaning string
}{
	{failure.ExitOK, "done, or already so"},
	{failure.ExitUnclassified, "unclassified failure"},
	{failure.ExitUsage, "usage: bad flag, value or configuration, missing input"},
	{failure.ExitPreflight, "a preflight check failed"},
	{failure.ExitRefusedByAWS, "AWS refused: credentials, access, activation"},
	{failure.ExitNetwork, "network or AWS unavailable; trying again may help"},
	{failure.ExitUnverified, "an artifact could not be verified"},
	{failure.ExitRolledBack, "failed and rolled back: the host is as it was"},
	{failure.ExitKept, "failed and not restored: what is done is kept"},
	{failure.ExitUnsupported, "not supported here"},
	{failure.ExitUnhealthy, "not registered, or registered but unhealthy"},
	{failure.ExitPending, "changes pending, with --detailed-exitcode"},
	{failure.ExitRefused, "refused: the host's state forbids it, or the operator said no"},
	{failure.ExitLocked, "locked: another run is at work"},
	{failure.ExitReboot, "done so far; reboot, then run the same command again"},
	{failure.ExitInterrupted, "interrupted, after undoing or journaling"},
	{failure.ExitTerminated, "terminated, after undoing or journaling"},
}

// long is a command's help text with the table of exit statuses below it.
func long(text string) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(text))
	b.WriteString("\n\nExit status:\n")
	for _, row := range exitStatuses {
		fmt.Fprintf(&b, "  %3d  %s\n", row.Status, row.Meaning)
	}
	return strings.TrimRight(b.String(), "\n")
}

// exitStatus is the one place where a run's end becomes a number. An interruption keeps its own status whatever became
// of the changes, as shells and service managers expect; otherwise what became of them counts for more than the cause.
func exitStatus(rep lifecycle.Report, err error) int {
	if err == nil {
		return rep.Exit
	}
	failed := failure.Of(err)
	switch {
	case failed.Code == failure.Interrupted, failed.Code == failure.Terminated, failed.Code == failure.Timeout:
	case len(rep.Kept) > 0:
		return failure.ExitKept
	case rep.RolledBack:
		return failure.ExitRolledBack
	}
	return failed.Entry().Exit
}

// causeOf gives an error that only says "cancelled" its cause: who or what ended ctx. An error of another kind that
// came up first stays what it is.
func causeOf(ctx context.Context, err error) error {
	var ended *failure.Error
	if err == nil || !errors.As(context.Cause(ctx), &ended) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ended
	}
	return err
}
