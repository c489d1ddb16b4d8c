package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

// PreflightRequest is what "anywhere preflight" was asked for.
type PreflightRequest struct {
	Only, Ignore []string
	Strict       bool // warnings fail

	Region        string // where the host is, or is to be, registered; empty is what the host says
	Offline       bool   // no check may use the network
	ListEndpoints bool   // nothing is checked: the result is the list that a firewall needs
}

// PreflightResult is the "result" of preflight's document.
type PreflightResult struct {
	Checks    []PreflightCheck    `json:"checks"`
	Endpoints []PreflightEndpoint `json:"endpoints"` // with --list-endpoints
}

// PreflightCheck is one finding of it.
type PreflightCheck struct {
	ID         string         `json:"id"`
	Title      string         `json:"title"`
	Status     string         `json:"status"` // pass, warn, fail, skip
	Ignored    bool           `json:"ignored"`
	Detail     string         `json:"detail"`
	Remedy     string         `json:"remedy"`
	Docs       string         `json:"docs"`
	Evidence   map[string]any `json:"evidence"`
	DurationMs int64          `json:"durationMs"`
}

// Preflight runs the checks and changes nothing.
func Preflight(ctx context.Context, d Deps, req PreflightRequest) (Report, error) {
	if req.ListEndpoints {
		return listEndpoints(d, req)
	}
	options := preflight.Options{Only: req.Only, Ignore: req.Ignore, Timeout: checkTime}
	result := PreflightResult{Checks: []PreflightCheck{}, Endpoints: []PreflightEndpoint{}}
	report := Report{Result: result}
	if err := options.Validate(); err != nil {
		return report, err
	}
	reader := d.Host.Reader
	report.Checks = preflight.Run(ctx, preflight.All(), preflight.Subject{
		Host: reader, Region: first(req.Region, hostRegion(reader)), Endpoints: hostEndpoints(reader),
		Cached: installed(reader), Offline: req.Offline, Getenv: d.Getenv,
	}, options)
	if ctx.Err() != nil {
		return report, context.Cause(ctx)
	}
	count := map[preflight.Status]int{}
	for _, c := range report.Checks {
		if c.Ignored {
			count[preflight.Warn]++
		} else {
			count[c.Status]++
		}
		result.Checks = append(result.Checks, PreflightCheck{
			c.ID, c.Title, string(c.Status), c.Ignored, c.Detail, c.Remedy, c.Docs, c.Evidence, int64(c.Duration / time.Millisecond),
		})
	}
	report.Result = result
	report.Warnings = preflight.Warnings(report.Checks)
	report.Message = fmt.Sprintf("%d passed, %d warnings, %d failed, %d skipped",
		count[preflight.Pass], count[preflight.Warn], count[preflight.Fail], count[preflight.Skip])
	return report, preflight.Verdict(report.Checks, req.Strict)
}
