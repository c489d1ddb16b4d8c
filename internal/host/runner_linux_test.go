package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/secret"
)

func newTestRunner(env map[string]string) *runner {
	lookup := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	return &runner{lookup: lookup, proc: "/proc", poll: time.Millisecond}
}

func shell(script string) Cmd { return Cmd{Path: "/bin/sh", Args: []string{"-c", script}} }

func run(t *testing.T, ctx context.Context, r Runner, cmd Cmd) Result {
	t.Helper()
	result, err := r.Run(ctx, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestRunTellsHowTheChildEnded(t *testing.T) {
	r := newTestRunner(nil)
	for script, want := range map[string]Result{
		"echo out; echo err >&2; exit 3": {ExitCode: 3, Output: "out\nerr\n"},
		"exit 0":                         {},
		"echo dying; kill -9 $$":         {ExitCode: -1, Output: "dying\n"},
	} {
		if got := run(t, t.Context(), r, shell(script)); got != want {
			t.Errorf("%s: got %+v", script, got)
		}
	}
	if _, err := r.Run(t.Context(), Cmd{Path: "/no/such/program"}); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("got %v", err)
	}
}

func TestRunKeepsTheLastOutput(t *testing.T) {
	got := run(t, t.Context(), newTestRunner(nil), shell(`i=0; while [ $i -lt 12000 ]; do echo "line $i"; i=$((i+1)); done`))
	if len(got.Output) > tailSize || len(got.Output) < tailSize-20 {
		t.Errorf("%d bytes", len(got.Output))
	}
	if !strings.HasPrefix(got.Output, "line ") || !strings.HasSuffix(got.Output, "line 11999\n") {
		t.Errorf("starts with %.20q", got.Output)
	}
}

func TestRunFeedsStdin(t *testing.T) {
	cmd := shell("cat")
	cmd.Stdin = strings.NewReader("fed")
	check(t, "output", run(t, t.Context(), newTestRunner(nil), cmd).Output, "fed")
}

func TestChildEnvironmentIsAnAllowList(t *testing.T) {
	r := newTestRunner(map[string]string{
		"PATH": "/usr/bin:/bin", "HTTPS_PROXY": "http://proxy:3128", "LANG": "de_DE", "TERM": "xterm", "LD_PRELOAD": "/evil.so",
		"AWS_SECRET_ACCESS_KEY": "operator", "ANYWHERE_ACTIVATION_CODE": "code",
	})
	cmd := Cmd{Path: "/usr/bin/env", Env: []string{"DEBIAN_FRONTEND=noninteractive"}}
	check(t, "environment", run(t, t.Context(), r, cmd).Output, "LANG=C.UTF-8\nTERM=dumb\nPATH=/usr/bin:/bin\n"+
		"HTTPS_PROXY=http://proxy:3128\nHOME=/root\nDEBIAN_FRONTEND=noninteractive\n")
	if out := run(t, t.Context(), newTestRunner(nil), Cmd{Path: "/usr/bin/env"}).Output; !strings.Contains(out, "PATH=/usr/local/sbin:") {
		t.Errorf("no PATH without ours:\n%s", out)
	}
	out := run(t, t.Context(), newTestRunner(map[string]string{"HOME": "/home/me"}), Cmd{Path: "/usr/bin/env"}).Output
	if !strings.Contains(out, "HOME=/home/me\n") || strings.Contains(out, "HOME=/root") {
		t.Errorf("HOME:\n%s", out)
	}
}

func TestChildIsInItsOwnGroupAndKnown(t *testing.T) {
	r := newTestRunner(nil)
	var seen Child
	announced := false
	ctx := WithChildHook(t.Context(), func(c Child) {
		if c.PID == 0 {
			announced = seen.PID == 0
			return
		}
		seen = c
		if group, err := syscall.Getpgid(c.PID); err != nil || group != c.PID {
			t.Errorf("process group %d of child %d, %v", group, c.PID, err)
		}
		started, _, err := r.stat(c.PID)
		if err != nil || started != c.Started || started == 0 {
			t.Errorf("started %d, %v; the hook says %d", started, err, c.Started)
		}
	})
	cmd := Cmd{Path: "/bin/sh", Args: []string{"-c", "read x; echo $2", "sh", "-code", "s3cr3t-code", "-x=s3cr3t-code"}}
	cmd.Secret, cmd.Stdin = []string{"s3cr3t-code"}, strings.NewReader("\n")
	result := run(t, ctx, r, cmd)
	check(t, "output", result.Output, secret.Mask+"\n")
	if !announced {
		t.Error("nothing was said before it started")
	}
	check(t, "argv", strings.Join(seen.Argv[3:], " "), "sh -code "+secret.Mask+" -x="+secret.Mask)
}

func TestRunGoesOnWhenTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ctx = WithChildHook(ctx, func(c Child) {
		if c.PID != 0 {
			cancel()
		}
	})
	release, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := shell("read x; echo finished")
	cmd.Stdin = release
	done := make(chan Result)
	go func() {
		result, _ := newTestRunner(nil).Run(ctx, cmd)
		done <- result
	}()
	<-ctx.Done()
	fmt.Fprintln(hold)
	check(t, "output", (<-done).Output, "finished\n")
	if _, err := newTestRunner(nil).Run(ctx, shell("exit 0")); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended starts nothing: %v", err)
	}
}

// A run that is killed while it starts a child has written down the arguments only.
func TestWaitForAChildWhoseStartNobodySaw(t *testing.T) {
	r := newTestRunner(nil)
	argv := []string{"/bin/sh", "-c", "read x; : " + t.Name(), "sh", "-code", "hunter2-hunter2", "x=hunter2-hunter2"}
	other := exec.Command(argv[0], argv[1:]...)
	hold, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	child := Child{Argv: Cmd{Path: argv[0], Args: argv[1:], Secret: []string{"hunter2-hunter2"}}.masked()}

	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if err := r.Wait(ctx, child); err != stopped {
		t.Errorf("while it runs: %v", err)
	}
	if err := r.Wait(ctx, Child{Argv: append(child.Argv, "more")}); err != nil {
		t.Errorf("another one: %v", err)
	}
	hold.Close()
	if err := r.Wait(t.Context(), child); err != nil {
		t.Error(err)
	}
	other.Wait()
}

func TestWaitForAChildOfAnother(t *testing.T) {
	r := newTestRunner(nil)
	other := exec.Command("/bin/sh", "-c", "read x")
	hold, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	started, _, err := r.stat(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	child := Child{PID: other.Process.Pid, Started: started}

	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if err := r.Wait(ctx, child); err != stopped {
		t.Errorf("while it runs: %v", err)
	}
	if err := r.Wait(t.Context(), Child{PID: child.PID, Started: started + 1}); err != nil {
		t.Errorf("another process has the pid: %v", err)
	}
	done := make(chan error)
	go func() { done <- r.Wait(t.Context(), child) }()
	hold.Close()
	if err := <-done; err != nil { // nobody has reaped it yet: a zombie is gone
		t.Error(err)
	}
	other.Wait()
	if err := r.Wait(t.Context(), child); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}
