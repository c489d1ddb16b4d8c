package cli

import (
	"context"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// Env is the world around a command line. What costs time is a function, and is called only by the commands that need
// it.
type Env struct {
	Host func() (host.Host, error)
	HTTP func() *http.Client
	// AWS is an operator's configuration for AWS's API: credentials and Region. It may call AWS, for single sign-on.
	AWS func(ctx context.Context, access control.Access) (aws.Config, error)

	Now    func() time.Time
	Ticker func(every time.Duration) (ticks <-chan time.Time, stop func())

	Streams   Streams
	LookupEnv func(name string) (string, bool)
	Unsetenv  func(name string) error
	// ReadFile reads the files that the caller names, in the caller's own name space: configuration, tokens, codes.
	ReadFile func(path string) ([]byte, error)
	// NewFile makes a file that must not exist, in the same name space, readable by its owner only.
	NewFile func(path string) (*os.File, error)

	// Signals brings SIGINT, SIGTERM, SIGHUP and SIGPIPE; nil in a process that takes none.
	Signals <-chan os.Signal
	// Exit ends the process at once: for the second Ctrl-C only.
	Exit func(status int)

	// Apart is how a run leaves the session that it was typed in; nil where it cannot.
	Apart Apart

	NewRunID func() string
	Build    Build

	// Ended, where it is set, is told how each command line has ended, before its result is written.
	Ended func(status int, rep lifecycle.Report, err error)

	// Rehearse plays a story against an embedded AWS. It sits above this room, so main brings it; without it there is no
	// rehearse command.
	Rehearse func(ctx context.Context, req RehearseRequest) (lifecycle.Report, error)
	// Emulate serves an embedded AWS until its context ends. As Rehearse, it sits above this room.
	Emulate func(ctx context.Context, req EmulatorRequest) (lifecycle.Report, error)
	// Faults are those that Rehearse and Emulate know.
	Faults func() []EmulatedFault
}

// Apart is how a run leaves a session that may end before it does.
type Apart interface {
	// Leading reports whether this process leads a session of its own already.
	Leading() bool
	// Again starts this program with these arguments in a session of its own, on the same stdout and stderr.
	Again(args []string) (child *os.Process, wait func() (status int), err error)
	// Leave moves this process out of the service that it was started below, into a scope of its own.
	Leave(ctx context.Context, scope, description string) error
}

// Streams are the process's standard streams and what is known of them.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Whether the stream is a terminal.
	InTTY, OutTTY, ErrTTY bool
	// Width of the terminal in columns; 0 is unknown.
	Width int
	// ReadSecret reads a line from the terminal without echo. It is called only when In is a terminal, and may still be
	// waiting when the process ends.
	ReadSecret func(ctx context.Context) (string, error)
	// SpinnerFile is the file behind Err, which the spinner needs to draw on; nil where there is none.
	SpinnerFile *os.File
}

// interactive reports whether someone is there to look and to answer: stdin and stderr are terminals.
func (s Streams) interactive() bool { return s.InTTY && s.ErrTTY }

// Build says which program this is.
type Build struct {
	Version string // like 1.2.3, or dev
	Commit  string // empty when unknown
	Date    string // of the commit, RFC 3339 UTC; empty when unknown
	Go      string // version of the compiler
}
