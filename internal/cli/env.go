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
	// Setenv gives this process, and through it its calls and its children, a variable: those of a proxy. Nil is a process
	// that makes none of its calls through one.
	Setenv func(name, value string) error
	// ReadFile reads the files that the caller names, in the caller's own name space: configuration, tokens, codes.
	ReadFile func(path string) ([]byte, error)
	// NewFile makes a file that must not exist, in the same name space, readable by its owner only.
	NewFile func(path string) (*os.File, error)

	// Signals brings SIGINT, SIGTERM, SIGHUP and SIGPIPE; nil in a process that takes none.
	Signals <-chan os.Signal
	// Exit ends the process at once: for the second Ctrl-C only.
	Exit func(status int)

	NewRunID func() string
	Build    Build

	// Rehearse plays a story against an embedded AWS. It sits above this room, so main brings it; without it there is no
	// rehearse command.
	Rehearse func(ctx context.Context, req RehearseRequest) (lifecycle.Report, error)
	// Faults are the names that Rehearse knows, for completion.
	Faults func() []string
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

// RehearseRequest is what "anywhere rehearse" was asked for.
type RehearseRequest struct {
	Scenario string
	Faults   []string // names from the catalogue of faults
	Keep     string   // folder in which the throw-away host stays; empty removes it
	Args     []string // flags for the real command, after --
	JSON     bool     // the commands' documents are collected in the result, and stdout is left alone
}
