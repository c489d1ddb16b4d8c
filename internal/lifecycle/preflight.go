package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// PreflightRequest is what "anywhere preflight" was asked for.
type PreflightRequest struct {
	Only, Ignore []string
	Strict       bool   // warnings fail
	SSMProfile   string // as a registration would be given it
	EnableGPU    bool
}

// PreflightResult is the "result" of preflight's document.
type PreflightResult struct {
	Checks []PreflightCheck `json:"checks"`
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
	options := preflight.Options{Only: req.Only, Ignore: req.Ignore, Timeout: checkTime}
	report := Report{Result: PreflightResult{Checks: []PreflightCheck{}}}
	if err := options.Validate(); err != nil {
		return report, err
	}
	if req.SSMProfile != "" {
		if err := ssmagent.CheckProfile(req.SSMProfile); err != nil {
			return report, failure.Wrap(failure.Usage, err, "--ssm-profile")
		}
	}
	subject := preflight.Subject{Host: d.Host.Reader, Profile: req.SSMProfile, GPU: req.EnableGPU}
	report.Checks = preflight.Run(ctx, preflight.All(), subject, options)
	if ctx.Err() != nil {
		return report, context.Cause(ctx)
	}
	result := PreflightResult{Checks: []PreflightCheck{}}
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
