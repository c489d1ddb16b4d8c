package cli

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// verb is a command of lifecycle, ready to be run.
type verb struct {
	begin    string // what it does first, for people who wait; empty for what is over at once
	mutating bool   // it changes things: there is a log
	dryRun   bool
	tells    bool         // its result for people holds its warnings: they are not told by themselves
	check    func() error // optional: refuses bad input before anything is looked at, and before there is a log
	run      func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error)
}

// do runs a verb with everything around it: the log, the progress, the watch for a change that has begun.
func (a *app) do(cmd *cobra.Command, v verb) error {
	a.outcome.dryRun = v.dryRun
	if v.check != nil {
		if err := v.check(); err != nil {
			return err
		}
	}
	h, err := a.env.Host()
	if err != nil {
		return err
	}
	if v.mutating {
		if err := a.openLog(h, v.dryRun); err != nil {
			return err
		}
		a.log.info("begin", "command", sectionOf(cmd), "version", a.env.Build.Version, "flags", a.given(cmd))
		for _, risk := range a.global.acceptRisk {
			a.warn("the risk %s is accepted (%s)", risk, a.gave("accept-risk"))
		}
	}
	h.Network.Roots = a.roots(h.Network.Roots)
	if err := a.wayOut(cmd.Context(), h.Reader); err != nil {
		return err
	}
	if v.begin != "" {
		stop := a.startProgress(v.begin)
		defer stop()
	}

	ctx := host.WithChildHook(cmd.Context(), func(c host.Child) {
		if c.PID == 0 {
			return
		}
		a.log.info("child", "pid", c.PID, "argv", strings.Join(c.Argv, " "))
	})
	rep, err := v.run(ctx, lifecycle.Deps{
		Host: h, HTTP: a.client(), Redactor: a.redactor, Listen: a.listen, RunID: a.runID, Version: a.env.Build.Version,
		Operator: a.operator, HostOperator: a.hostOperator, NodeOperator: a.nodeOperator, Getenv: a.getenv,
	})
	if !a.global.quiet && !v.tells {
		for _, text := range rep.Warnings {
			a.say("warning: " + text)
		}
	}
	rep.Warnings = append(a.outcome.report.Warnings, rep.Warnings...)
	a.outcome.report = rep
	return err
}

// given lists the flags and variables that this run was given, without values: those may be secret or long.
func (a *app) given(cmd *cobra.Command) string {
	var names []string
	for _, name := range flagNames(cmd) {
		if o := a.origins[name]; o.kind != byDefault && o.kind != "" {
			names = append(names, name+" ("+o.String()+")")
		}
	}
	return strings.Join(names, ", ")
}

// listen gets every event of the engine.
func (a *app) listen(e engine.Event) {
	if e.Kind == engine.Started || e.Kind == engine.Undoing {
		a.changing.Store(true)
	}
	a.log.event(e)
	if p := a.progress.Load(); p != nil {
		p.Event(e)
	}
}

// startProgress begins to tell what goes on, once a second.
func (a *app) startProgress(begin string) (stop func()) {
	progress := report.NewProgress(a.screen())
	a.progress.Store(progress)
	progress.Begin(begin)
	ticks, stopTicks := a.env.Ticker(time.Second)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-ticks:
				progress.Tick()
			}
		}
	}()
	return func() {
		close(done)
		stopTicks()
	}
}

func (a *app) screen() report.Screen {
	s := a.env.Streams
	screen := report.Screen{
		To: a.err, Style: a.style(s.ErrTTY), Quiet: a.global.quiet, Verbose: a.global.verbose,
		Now: a.env.Now, Clean: a.redactor.Clean,
	}
	live := s.interactive() && s.SpinnerFile != nil && !a.global.quiet && a.global.output == outputText &&
		a.getenv("TERM") != "dumb"
	if live {
		screen.Live = report.NewSpinner(s.SpinnerFile, s.Width, a.colored(s.ErrTTY), a.unicode())
	}
	return screen
}

func (a *app) style(tty bool) report.Style { return report.NewStyle(a.colored(tty), a.unicode()) }

// colored decides for one stream.
func (a *app) colored(tty bool) bool {
	switch a.global.color {
	case "always":
		return true
	case "never":
		return false
	}
	return tty
}

// unicode reports whether the locale says that the reader's terminal takes UTF-8.
func (a *app) unicode() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToUpper(a.getenv(name)); value != "" {
			return strings.Contains(value, "UTF-8") || strings.Contains(value, "UTF8")
		}
	}
	return false
}

// client is the HTTP client whose calls are logged, and told with --verbose.
func (a *app) client() *http.Client {
	client := *a.env.HTTP()
	if plain, ok := client.Transport.(*http.Transport); ok { // made for this client alone
		a.trusting(plain)
	}
	client.Transport = tracing{client.Transport, a}
	return &client
}

// tracing tells of each call: where to, what, how it ended. Bodies and headers are not looked at, apart from the name
// of the operation, which the AWS JSON protocol has in a header.
type tracing struct {
	next http.RoundTripper
	app  *app
}

func (t tracing) RoundTrip(req *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	began := t.app.env.Now()
	resp, err := next.RoundTrip(req)
	result := ""
	if err != nil {
		result = err.Error()
	} else {
		result = strconv.Itoa(resp.StatusCode)
	}
	what := req.Method + " " + req.URL.Scheme + "://" + req.URL.Host + req.URL.Path
	if operation := req.Header.Get("X-Amz-Target"); operation != "" {
		what += " " + operation
	}
	took := t.app.env.Now().Sub(began)
	t.app.log.info("call", "request", what, "result", result, "tookMs", took.Milliseconds())
	if t.app.global.verbose {
		t.app.say("call: " + what + ": " + result)
	}
	return resp, err
}
