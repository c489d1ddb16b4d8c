package host

import (
	"context"
	"os"
	"os/exec"
	"syscall"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Leading reports whether this process leads a session of its own, so that no terminal's end concerns it.
func Leading() bool {
	session, err := unix.Getsid(0)
	return err == nil && session == os.Getpid()
}

// Again starts this program with these arguments in a session of its own, with our environment, stdout and stderr, and
// returns how to wait for its exit status. Whoever ends this process, its process group or its terminal does not end it.
func Again(args []string) (child *os.Process, wait func() (status int), err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, failure.Wrap(failure.Internal, err, "find this program, to start it again")
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // the files themselves: with ours, theirs do not end
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, failure.Wrap(failure.Internal, bare(err), "start this program again")
	}
	return cmd.Process, func() int {
		_ = cmd.Wait() // its status says all
		if status := cmd.ProcessState.ExitCode(); status >= 0 {
			return status
		}
		return failure.ExitUnclassified // a signal ended it
	}, nil
}

// Leave moves this process out of the control group of the service that it was started below into a scope of its own: what
// ends that service with all that belongs to it does not end this process.
func (s *Systemd) Leave(ctx context.Context, scope, description string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	result := make(chan string, 1) // as in job
	_, err = conn.StartTransientUnitContext(ctx, scope, "fail", []dbus.Property{
		dbus.PropDescription(description),
		dbus.PropPids(uint32(os.Getpid())), //nolint:gosec // no pid is negative
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}, result)
	if err != nil {
		return refusedBy(ctx, err, "start", scope)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case how := <-result:
		if how != "done" {
			return failure.New(failure.ServiceFailed, "cannot start %s: systemd's job ended with %q", scope, how)
		}
		return nil
	}
}
