package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

type runner struct {
	lookup func(string) (string, bool) // our environment
	proc   string                      // where /proc is
	poll   time.Duration               // between two looks at a child that is not ours
}

// NewRunner returns the Runner of this machine. When ctx ends while a child runs, Run goes on waiting for it: children
// are short-lived, and one that is left half-way (dpkg, a registration) does more harm than a late Ctrl-C; only a
// disposable one is ended with it. A ctx that has ended already starts nothing.
func NewRunner() Runner {
	return &runner{lookup: os.LookupEnv, proc: "/proc", poll: 200 * time.Millisecond}
}

// Run implements Runner. The child writes into a file of its own and not into a pipe, so that it does not die of a
// broken pipe when this process is killed.
func (r *runner) Run(ctx context.Context, cmd Cmd) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	output, err := outputFile()
	if err != nil {
		return Result{}, failure.Wrap(failure.Internal, err, "cannot run %s", cmd.Path)
	}
	defer output.Close()
	child := exec.Command(cmd.Path, cmd.Args...)
	child.Env = childEnv(r.lookup, cmd.Env)
	child.Dir = "/"
	child.Stdin, child.Stdout, child.Stderr = cmd.Stdin, output, output
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ChildHook(ctx)(Child{Argv: cmd.masked()})
	if err := child.Start(); err != nil {
		return Result{}, failure.Wrap(failure.Internal, bare(err), "cannot run %s", cmd.Path)
	}
	started, _, err := r.stat(child.Process.Pid) // it stays in /proc at least until Wait
	if err != nil {
		started = 0
	}
	ChildHook(ctx)(Child{PID: child.Process.Pid, Started: started, Argv: cmd.masked()})
	stop := func() bool { return true }
	if cmd.Disposable {
		stop = context.AfterFunc(ctx, func() { _ = syscall.Kill(-child.Process.Pid, syscall.SIGTERM) })
	}
	waited := child.Wait()
	if !stop() {
		return Result{}, context.Cause(ctx)
	}
	text, err := tail(output)
	if err != nil {
		text = fmt.Sprintf("(its output cannot be read: %v)", err)
	}
	result := Result{ExitCode: child.ProcessState.ExitCode(), Output: cmd.mask(text)}
	var exit *exec.ExitError
	if waited != nil && !errors.As(waited, &exit) && cmd.Stdin != nil {
		return result, failure.Wrap(failure.Internal, waited, "cannot feed %s", cmd.Path)
	}
	return result, nil
}

// outputFile is a file without a name: in memory, or where the kernel is older than 3.17 in the folder for temporary
// ones.
func outputFile() (*os.File, error) {
	if fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC); err == nil {
		return os.NewFile(uintptr(fd), "output"), nil
	}
	f, err := os.CreateTemp("", "anywhere-output-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// Wait implements Runner.
func (r *runner) Wait(ctx context.Context, child Child) error {
	if child.PID != 0 {
		return r.wait(ctx, child)
	}
	for {
		found, err := r.find(child.Argv)
		if err != nil || found.PID == 0 {
			return err
		}
		if err := r.wait(ctx, found); err != nil {
			return err
		}
	}
}

// find looks for a process that was started with these arguments.
func (r *runner) find(argv []string) (Child, error) {
	files, err := filepath.Glob(filepath.Join(r.proc, "[0-9]*", "cmdline"))
	if err != nil {
		return Child{}, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !masks(argv, strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")) {
			continue // gone meanwhile, or another
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return Child{}, err
		}
		if started, state, err := r.stat(pid); err == nil && state != 'Z' && state != 'X' {
			return Child{PID: pid, Started: started, Argv: argv}, nil
		}
	}
	return Child{}, nil
}

// masks reports whether argv is what masking has left of full.
func masks(argv, full []string) bool {
	return slices.EqualFunc(argv, full, func(masked, arg string) bool {
		before, after, hidden := strings.Cut(masked, secret.Mask)
		return masked == arg || hidden && strings.HasPrefix(arg, before) && strings.HasSuffix(arg, after)
	})
}

func (r *runner) wait(ctx context.Context, child Child) error {
	tick := time.NewTicker(r.poll)
	defer tick.Stop()
	for {
		started, state, err := r.stat(child.PID)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
			return nil
		case err != nil:
			return failure.Wrap(failure.Internal, err, "cannot tell whether process %d still runs", child.PID)
		case started != child.Started, state == 'Z', state == 'X':
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// stat reads the start time, in clock ticks since boot, and the state of a process: fields 22 and 3 of
// proc_pid_stat(5).
func (r *runner) stat(pid int) (started uint64, state byte, err error) {
	data, err := os.ReadFile(filepath.Join(r.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	end := bytes.LastIndexByte(data, ')') // the name before it may hold anything
	fields := bytes.Fields(data[end+1:])
	if end < 0 || len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat not understood: %q", pid, data)
	}
	started, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return started, fields[0][0], err
}
