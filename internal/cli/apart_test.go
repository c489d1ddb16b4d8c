package cli

import (
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// elsewhere is a process that notes what it was asked for.
type elsewhere struct {
	leads  bool
	fails  error
	status int
	again  [][]string
	scopes []string
}

func (e *elsewhere) Leading() bool { return e.leads }

func (e *elsewhere) Again(args []string) (*os.Process, func() int, error) {
	e.again = append(e.again, args)
	if e.fails != nil {
		return nil, nil, e.fails
	}
	self, err := os.FindProcess(os.Getpid())
	return self, func() int { return e.status }, err
}

func (e *elsewhere) Leave(_ context.Context, scope, _ string) error {
	e.scopes = append(e.scopes, scope)
	return e.fails
}

// A run that replaces the SSM agent below its own session goes on as another process, which leaves the agent's service.
func TestARunLeavesItsSession(t *testing.T) {
	accepted := []string{"upgrade", "--accept-risk", "lose-ssm-session", "-o", "json"}
	no := failure.New(failure.Internal, "it cannot be")
	for _, test := range []struct {
		name    string
		args    []string
		outside bool
		stays   bool // the command has no reason to leave
		where   elsewhere

		again, leaves bool
		rc            int
		says          string
	}{
		{name: "the first process", args: accepted, where: elsewhere{status: 7}, again: true, rc: 7, says: "goes on without it, as process"},
		{name: "the second one", args: accepted, where: elsewhere{leads: true}, leaves: true, rc: 3},
		{name: "it cannot be started", args: accepted, where: elsewhere{fails: no}, again: true, rc: 3, says: "the host ends the upgrade by itself"},
		{name: "it cannot leave", args: accepted, where: elsewhere{leads: true, fails: no}, leaves: true, rc: 3, says: "the host ends the upgrade by itself"},
		{name: "in no session", args: accepted, outside: true, rc: 3},
		{name: "nobody has accepted it", args: accepted[:1], rc: 3},
		{name: "the SSM agent stays", args: append(slices.Clone(accepted), "--only", "ecs"), stays: true, rc: 3},
		{name: "nothing is done", args: append(slices.Clone(accepted), "--dry-run"), stays: true, rc: 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			parent := "8 (ssm-session-wor) S 1 8"
			if test.outside {
				parent = "8 (sshd) S 1 8"
			}
			for pid, text := range map[string]string{"self": "9 (anywhere) S 8 9", "8": parent} {
				if err := os.MkdirAll(filepath.Join(root, "proc", pid), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, "proc", pid, "stat"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var said strings.Builder
			looks := 0
			env := Env{
				Host: func() (host.Host, error) { // the session is looked for first; then it gets as far as its work
					if looks++; looks > 1 || test.stays {
						return host.Host{}, failure.New(failure.NotRoot, "the command line got as far as the host")
					}
					return host.Host{Reader: host.Reader{Files: host.NewDir(root), Self: host.Self{EUID: 0}}}, nil
				},
				Now: time.Now, NewRunID: func() string { return "run-1" },
				Streams:  Streams{In: strings.NewReader(""), Out: io.Discard, Err: &said},
				ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist },
				Apart:    &test.where,
			}
			if rc := Main(t.Context(), env, test.args); rc != test.rc {
				t.Errorf("exit status %d\n%s", rc, &said)
			}
			if again := len(test.where.again) == 1 && slices.Equal(test.where.again[0], test.args); again != test.again {
				t.Errorf("started again: %q", test.where.again)
			}
			if leaves := len(test.where.scopes) == 1 && strings.HasSuffix(test.where.scopes[0], ".scope"); leaves != test.leaves {
				t.Errorf("scopes: %q", test.where.scopes)
			}
			if !strings.Contains(said.String(), test.says) {
				t.Errorf("it says %s", &said)
			}
		})
	}
}

// What ends the process that was typed: Ctrl-C is passed on, and a time-out waited for, which the other run has too; the loss
// of the session leaves the other run alone.
func TestWaitingForTheRunThatHasTakenOver(t *testing.T) {
	for _, test := range []struct {
		cause  failure.Code
		status int
		says   string
	}{
		{failure.Interrupted, 7, ""},
		{failure.Timeout, 7, ""},
		{failure.Terminated, failure.ExitTerminated, "the upgrade goes on, as process "},
	} {
		var said strings.Builder
		a := newApp(Env{Streams: Streams{Out: io.Discard, Err: &said}})
		child := exec.Command("sleep", "60")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(failure.New(test.cause, "so"))
		left, over := make(chan struct{}), make(chan struct{})
		a.await(ctx, child.Process, func() int {
			defer close(over)
			if test.cause == failure.Terminated { // the child is at work still
				<-left
			}
			if test.cause != failure.Interrupted {
				_ = child.Process.Kill()
			}
			if err := child.Wait(); err == nil {
				t.Error("nothing has ended it")
			}
			return 7
		})
		close(left)
		<-over
		if status := a.outcome.elsewhere; status == nil || *status != test.status || !strings.Contains(said.String(), test.says) {
			t.Errorf("%s: %v, %s", test.cause, status, &said)
		}
	}
}
