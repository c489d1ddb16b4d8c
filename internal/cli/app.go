package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/report"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// app is one run of a command line.
type app struct {
	env         Env
	global      globals
	file        configFile
	redactor    *secret.Redactor
	code        string                // what codeVariable held
	authorities lifecycle.Authorities // of --ca-file, which this command trusts besides the system's
	origins     map[string]origin     // of the command's flags
	settled     bool                  // flags, environment and file were read without error

	args    []string // of this command line
	started time.Time
	runID   string

	out, err *stream

	progress atomic.Pointer[report.Progress] // while a verb runs; signals and calls have their say in it
	log      *runLog
	changing atomic.Bool            // a change has begun
	calm     atomic.Bool            // Ctrl-C is the ordinary end of this command, and needs no explanation
	release  func()                 // of the deadline's timer
	parting  atomic.Pointer[string] // what to do after a run that exits at once, where there is no journal

	outcome outcome
}

// outcome is what a command leaves for the end, where all are told alike.
type outcome struct {
	report lifecycle.Report
	dryRun bool
	// elsewhere is the exit status of the run that has taken over, and has told everything.
	elsewhere *int
	// text writes the result for people; it is called without an error, and after one when it is set to bear it.
	text func(w io.Writer, s report.Style, rep lifecycle.Report, err error)
}

func newApp(env Env) *app {
	a := &app{env: env, redactor: &secret.Redactor{}, release: func() {}}
	a.out, a.err = &stream{to: env.Streams.Out}, &stream{to: env.Streams.Err}
	return a
}

// stream swallows what cannot be written, and remembers it: a reader who has gone must not end a change half-way.
type stream struct {
	mu     sync.Mutex
	to     io.Writer
	failed error
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil && s.to != nil {
		_, s.failed = s.to.Write(p)
	}
	return len(p), nil
}

func (s *stream) lost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (a *app) getenv(name string) string {
	if name == codeVariable {
		return a.code
	}
	if a.env.LookupEnv == nil {
		return ""
	}
	value, _ := a.env.LookupEnv(name)
	return value
}

// takeCode takes the activation code out of the environment, before anything is started that would inherit it.
func (a *app) takeCode() {
	if a.env.LookupEnv == nil {
		return
	}
	value, found := a.env.LookupEnv(codeVariable)
	if !found {
		return
	}
	a.code = strings.TrimSpace(value)
	a.redactor.Add(a.code)
	if err := a.env.Unsetenv(codeVariable); err != nil {
		a.warn("the variable %s could not be unset: %s", codeVariable, err)
	}
}

// prepare is run before every command, once the command line is parsed.
func (a *app) prepare(cmd *cobra.Command) error {
	switch cmd.Name() {
	case "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		return nil // they say the same whatever is configured, and must not fail over it
	}
	var err error
	if a.file, err = a.readConfig(cmd.Root(), cmd); err != nil {
		return err
	}
	if a.origins, err = a.settle(cmd); err != nil {
		return err
	}
	if a.global.quiet && a.global.verbose {
		return usage(cmd, "--quiet and --verbose exclude each other")
	}
	if err := refuseEmpty(cmd); err != nil {
		return err
	}
	if a.origins["region"].kind != byDefault {
		if err := partition.CheckRegion(a.global.region); err != nil {
			failed := failure.Of(err)
			failed.Message = strings.Replace(failed.Message, "--region", a.gave("region")+":", 1)
			return failed
		}
	}
	if err := control.CheckEndpoint(a.global.endpointURL); err != nil {
		failed := failure.Of(err)
		failed.Message = strings.Replace(failed.Message, "--endpoint-url", a.gave("endpoint-url"), 1)
		return failed
	}
	a.settled = true
	if a.global.timeout > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.global.timeout,
			failure.New(failure.Timeout, "not finished within %s %s", a.gave("timeout"), durationValue{&a.global.timeout}))
		a.release = cancel
		cmd.SetContext(ctx)
	}
	return nil
}

// say tells a message on stderr at once, whatever is drawn there.
func (a *app) say(text string) {
	text = a.redactor.Clean(text)
	if p := a.progress.Load(); p != nil {
		p.Say(text)
		return
	}
	fmt.Fprintln(a.err, text)
}

// warn tells of something that the reader should know, now and in the document.
func (a *app) warn(format string, args ...any) {
	text := a.redactor.Clean(fmt.Sprintf(format, args...))
	a.outcome.report.Warnings = append(a.outcome.report.Warnings, text)
	if !a.global.quiet {
		a.say("warning: " + text)
	}
}

// finish tells how the run ended and returns the exit status.
func (a *app) finish(cmd *cobra.Command, args []string, err error) int {
	if p := a.progress.Swap(nil); p != nil {
		p.Close()
	}
	if a.outcome.elsewhere != nil {
		return *a.outcome.elsewhere
	}
	rep := a.outcome.report
	status := exitStatus(rep, err)
	a.logEnd(status, err)
	if a.env.Ended != nil {
		a.env.Ended(status, rep, err)
	}
	if a.wantsJSON(args) {
		a.writeFailure(rep, err)
		a.writeJSON(cmd, rep, status, err)
	} else {
		a.writeText(rep, err)
	}
	return a.delivered(status)
}

// delivered makes a success whose result could not be written a failure, unless its reader has gone on purpose.
func (a *app) delivered(status int) int {
	lost := a.out.lost()
	if lost == nil || gone(lost) || status != failure.ExitOK {
		return status
	}
	fmt.Fprintf(a.err, "error: the result could not be written to stdout: %s\n", lost)
	return failure.ExitUnclassified
}

func (a *app) writeText(rep lifecycle.Report, err error) {
	if a.outcome.text != nil {
		a.outcome.text(cleaning{a.out, a.redactor}, a.style(a.env.Streams.OutTTY), rep, err)
	}
	a.writeFailure(rep, err)
}

// writeFailure tells people on stderr, also when a program reads stdout.
func (a *app) writeFailure(rep lifecycle.Report, err error) {
	if err == nil {
		return
	}
	failed := report.Failure{
		Err: failure.Of(err), RolledBack: rep.RolledBack, Kept: rep.Kept, LogFile: a.log.path(), RunID: a.runID,
	}
	if moved, ok := rep.Result.(lifecycle.MoveResult); ok && moved.Returned {
		failed.Now = "the host is in cluster " + moved.Cluster + " as before, and is container instance " + moved.ContainerInstanceARN + " now"
	}
	failed.Write(cleaning{a.err, a.redactor}, a.style(a.env.Streams.ErrTTY))
}

func (a *app) writeJSON(cmd *cobra.Command, rep lifecycle.Report, status int, err error) {
	doc := report.Document{
		Schema: report.Schema, Command: sectionOf(cmd), Version: a.env.Build.Version, RunID: a.runID,
		Changed: rep.Changed, Failed: report.Failed(status), RC: status, Msg: rep.Message, DryRun: a.outcome.dryRun,
		Warnings: rep.Warnings, StartedAt: report.Timestamp(a.started),
		DurationMs: a.env.Now().Sub(a.started).Milliseconds(), LogFile: a.log.path(),
		Steps: report.Steps(rep.Steps), Result: rep.Result,
	}
	if err != nil {
		failed := failure.Of(err)
		doc.Msg = failed.Message
		doc.Error = report.NewError(failed, rep.RolledBack, rep.Kept)
	}
	if err := doc.Write(a.out, a.redactor.Clean, a.env.Streams.OutTTY); err != nil {
		fmt.Fprintf(a.err, "error: the result cannot be put into JSON: %s\n", err)
	}
}

// wantsJSON is --output once it is settled; before that, what the arguments and the environment ask for: a command line
// that cannot be parsed is told in the form it asked for, too.
func (a *app) wantsJSON(args []string) bool {
	if a.settled {
		return a.global.output == outputJSON
	}
	if asked := outputIn(args); asked != "" {
		return asked == outputJSON
	}
	return a.getenv("ANYWHERE_OUTPUT") == outputJSON
}

// outputIn is the last value of --output in arguments that may not parse.
func outputIn(args []string) (asked string) {
	for i, arg := range args {
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		switch name, value, assigned := strings.Cut(arg, "="); {
		case arg == "--":
			return asked
		case name == "--output" && assigned:
			asked = value
		case name == "--output":
			asked = next
		case strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--"):
			if value, found := shorthandOutput(arg[1:]); found && value != "" {
				asked = value
			} else if found {
				asked = next
			}
		}
	}
	return asked
}

// shorthandOutput finds o in a group of shorthands like qo: what follows it is its value.
func shorthandOutput(group string) (value string, found bool) {
	before, after, found := strings.Cut(group, "o")
	if !found || strings.Trim(before, "qvyh") != "" {
		return "", false
	}
	return strings.TrimPrefix(after, "="), true
}

// cleaning takes secrets out of text on its way to w. The renderers write whole lines.
type cleaning struct {
	to       io.Writer
	redactor *secret.Redactor
}

func (c cleaning) Write(p []byte) (int, error) { return c.redactor.Writer(c.to).Write(p) }

// isCoded reports whether err was made by us, rather than by the parser of the command line.
func isCoded(err error) bool {
	var coded *failure.Error
	return errors.As(err, &coded)
}

// gone reports whether a write failed because its reader has gone, like head after its last line.
func gone(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) }
