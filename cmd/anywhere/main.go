// Command anywhere makes a machine an Amazon ECS external instance, and looks after it.
package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/rehearsal"
)

// Set by the Makefile and the release: -ldflags "-X main.version=1.2.3". Without them commit and date are what the Go tool
// stamps, if it does.
var (
	version = "dev"
	commit  string
	date    string // of the commit
)

func main() {
	tty := &terminal{}
	exit := func(status int) {
		tty.restore()
		os.Exit(status)
	}
	env := cli.Env{
		Host:      host.Real,
		HTTP:      newHTTPClient,
		AWS:       control.Load,
		Now:       time.Now,
		Ticker:    newTicker,
		Streams:   standardStreams(tty),
		LookupEnv: os.LookupEnv,
		Unsetenv:  os.Unsetenv,
		ReadFile:  os.ReadFile,
		NewFile:   newFile,
		Signals:   signals(),
		Exit:      exit,
		Apart:     apart{host.NewSystemd()},
		NewRunID:  newRunID,
		Build:     build(),
	}
	env.Rehearse = func(ctx context.Context, req cli.RehearseRequest) (lifecycle.Report, error) {
		return rehearsal.Run(ctx, env, req)
	}
	env.Emulate = rehearsal.Emulate
	env.Faults = rehearsal.Faults
	exit(cli.Main(context.Background(), env, os.Args[1:]))
}

// signals brings what ends a command. SIGPIPE is among them so that a write to a closed pipe fails instead of killing
// the process. One that was ignored when we were started (nohup) stays ignored.
func signals() <-chan os.Signal {
	arrived := make(chan os.Signal, 8)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(sig) {
			signal.Notify(arrived, sig)
		}
	}
	return arrived
}

// apart is this process, and the systemd that it belongs to.
type apart struct{ *host.Systemd }

func (apart) Leading() bool { return host.Leading() }

func (apart) Again(args []string) (*os.Process, func() int, error) { return host.Again(args) }

// newFile makes a file that nobody else can read, not even through a link that somebody put in its place.
func newFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func newTicker(every time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(every)
	return t.C, t.Stop
}

// newHTTPClient has no time-out of its own: downloads take as long as they take, and every call comes with a context.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
}

func standardStreams(tty *terminal) cli.Streams {
	in, out, err := int(os.Stdin.Fd()), int(os.Stdout.Fd()), int(os.Stderr.Fd())
	s := cli.Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTTY: term.IsTerminal(in), OutTTY: term.IsTerminal(out), ErrTTY: term.IsTerminal(err),
		ReadSecret:  tty.readSecret,
		SpinnerFile: os.Stderr,
	}
	if s.ErrTTY {
		s.Width, _, _ = term.GetSize(err) // 0, where it cannot be told, means unknown
	}
	return s
}

// terminal is the one on stdin, and how it was before its echo was turned off.
type terminal struct {
	mu     sync.Mutex
	before *term.State
}

// readSecret reads a line without echo. It cannot be called back: when the run ends meanwhile, restore turns the echo
// on.
func (t *terminal) readSecret(context.Context) (string, error) {
	in := int(os.Stdin.Fd())
	before, err := term.GetState(in)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	t.before = before
	t.mu.Unlock()
	line, err := term.ReadPassword(in)
	return string(line), err
}

// restore must be called before the process ends.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before != nil {
		_ = term.Restore(int(os.Stdin.Fd()), t.before) // the terminal may be gone
	}
}

// newRunID names a run in logs, journals and AWS descriptions: the time, for people, and what tells apart runs of the
// same second.
func newRunID() string {
	return time.Now().UTC().Format("20060102T150405Z") + "-" + rand.Text()[:6]
}

// build is what the linker and the Go tool left in the binary.
func build() cli.Build {
	b := cli.Build{Version: version, Commit: commit, Date: date, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok || b.Commit != "" {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		}
	}
	return b
}
