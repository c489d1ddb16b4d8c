package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// How often --watch looks.
const (
	watchEvery  = 2 * time.Second
	watchLeast  = time.Second
	watchRemote = 10 * time.Second // with --remote: a look is half a dozen calls, and AWS counts them
)

type statusOptions struct {
	remote, facts bool
	watch         time.Duration // 0: once
}

func newStatus(a *app) *cobra.Command {
	o := &statusOptions{}
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Say whether this host is a healthy external instance",
		Long: long(`
Looks at the host and says in one word how it is: healthy, unhealthy, half_done (an operation was begun and not
finished), unregistered, or unknown (what decides could not be seen). When it is not healthy, the reasons come first,
each with what was seen and what to type. Exits 0 when it is healthy, 10 otherwise.

It changes nothing, waits for nobody, and works without root as far as that goes: what only root may see is named. An
active service and an answering port are not taken for health: ECS may have deregistered the instance. What counts is
in docs/status.md. Only --remote uses the network; it takes an operator's credentials, and says how the host differs
from what ECS and Systems Manager have of it: deregistered there, another instance of this host, another role or
account.`),
		Example: `  anywhere status
  sudo anywhere status -o json
  anywhere status --remote --profile ops
  anywhere status --watch=5s
  sudo anywhere status --facts -q`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runStatus(cmd, o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.remote, "remote", false, "ask ECS and Systems Manager too, with an operator's credentials")
	f.Var(durationValue{&o.watch}, "watch",
		"look again and again: on a terminal the screen is kept up to date, elsewhere there is a line for each change")
	f.Lookup("watch").NoOptDefVal = watchEvery.String()
	f.BoolVar(&o.facts, "facts", false, "write the Ansible local fact "+lifecycle.FactsPath)
	return cmd
}

func (a *app) runStatus(cmd *cobra.Command, o *statusOptions) error {
	watching := cmd.Flags().Changed("watch")
	switch {
	case watching && a.global.output == outputJSON:
		return usage(cmd, "--watch and --output json exclude each other: a document is one")
	case watching && o.facts:
		return usage(cmd, "--watch and --facts exclude each other")
	case watching && o.watch < watchLeast:
		return usage(cmd, "--watch: the least is %s", watchLeast)
	case watching && o.remote && o.watch < watchRemote && o.watch != watchEvery:
		return usage(cmd, "--watch: with --remote the least is %s", watchRemote)
	}
	req := lifecycle.StatusRequest{Remote: o.remote, Facts: o.facts}
	if a.origins["region"].kind == byFlag {
		req.Region = a.global.region
	}
	look := func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
		return lifecycle.Status(ctx, deps, req)
	}
	if watching {
		every := o.watch
		if o.remote {
			every = max(every, watchRemote)
		}
		return a.do(cmd, verb{tells: true, run: a.watching(look, every)})
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		result, ok := rep.Result.(lifecycle.StatusResult)
		switch {
		case !ok || result.State == "":
		case !a.global.quiet:
			report.Status(w, s, rep, result, a.env.Now())
		case result.State != lifecycle.Healthy:
			report.StatusReasons(w, s, rep, result)
		}
	}
	return a.do(cmd, verb{tells: true, run: look})
}

// watching looks again and again until the command is ended. Ctrl-C is how a watch ends: its exit status is that of the
// last state.
func (a *app) watching(
	look func(context.Context, lifecycle.Deps) (lifecycle.Report, error), every time.Duration,
) func(context.Context, lifecycle.Deps) (lifecycle.Report, error) {
	return func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
		a.calm.Store(true)
		ticks, stop := a.env.Ticker(every)
		defer stop()
		var last lifecycle.Report
		known := ""
		for {
			rep, err := look(ctx, deps)
			if ctx.Err() != nil {
				return ended(ctx, last)
			}
			if err != nil {
				return rep, err
			}
			if last = rep; a.redraws() {
				a.redraw(rep)
			} else if now := signature(rep); now != known {
				report.StatusLine(cleaning{a.out, a.redactor}, rep, a.env.Now())
				known = now
			}
			select {
			case <-ticks:
			case <-ctx.Done():
				return ended(ctx, last)
			}
		}
	}
}

func ended(ctx context.Context, last lifecycle.Report) (lifecycle.Report, error) {
	if cause := context.Cause(ctx); !failure.Is(cause, failure.Interrupted) || last.Result == nil {
		return last, cause
	}
	return last, nil
}

// signature is what must change for a status to be another one: not its times and counts.
func signature(rep lifecycle.Report) string {
	result, ok := rep.Result.(lifecycle.StatusResult)
	if !ok {
		return ""
	}
	var b strings.Builder
	fmt.Fprint(&b, result.State, result.ContainerInstanceARN)
	for _, r := range result.Reasons {
		fmt.Fprint(&b, " ", r.Rule, " ", r.Code)
	}
	return b.String()
}

// redraws reports whether there is a screen that can be drawn on.
func (a *app) redraws() bool {
	return a.env.Streams.OutTTY && a.getenv("TERM") != "dumb" && !a.global.quiet
}

// redraw puts a status in the place of the last one, in one write so that it does not flicker.
func (a *app) redraw(rep lifecycle.Report) {
	result, ok := rep.Result.(lifecycle.StatusResult)
	if !ok {
		return
	}
	var screen bytes.Buffer
	report.Status(&screen, a.style(true), rep, result, a.env.Now())
	fmt.Fprintf(&screen, "\n%s; Ctrl-C ends the watch\n", report.Timestamp(a.env.Now()))
	text := strings.ReplaceAll(a.redactor.Clean(screen.String()), "\n", "\033[K\n")
	_, _ = a.out.Write([]byte("\033[H" + text + "\033[J"))
}
