package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
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
	Artifacts    string // --artifacts: URL or absolute folder

	Region, Cluster, ActivationID string // where the host is to be registered, and with what; empty: as it is
	Offline                       bool   // no check may use the network
	ListEndpoints                 bool   // nothing is checked: the result is the list that a firewall needs
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
	if req.SSMProfile != "" {
		if err := ssmagent.CheckProfile(req.SSMProfile); err != nil {
			return report, failure.Wrap(failure.Usage, err, "--ssm-profile")
		}
	}
	subject, err := req.subject(d)
	if err != nil {
		return report, err
	}
	report.Checks = preflight.Run(ctx, preflight.All(), subject, options)
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
	err = preflight.Verdict(report.Checks, req.Strict)
	if f := failure.Of(err); f != nil && f.Entry().Exit == failure.ExitRefusedByAWS {
		f.Code = failure.PreflightFailed // this command does not need what AWS refuses; a check failed
	}
	return report, err
}

// subject is this host, with its own registration where the request names no other.
func (req PreflightRequest) subject(d Deps) (preflight.Subject, error) {
	s := preflight.Subject{
		Host: d.Host.Reader, Region: req.Region, Cluster: req.Cluster, ActivationID: req.ActivationID,
		Profile: req.SSMProfile, GPU: req.EnableGPU, Artifacts: req.Artifacts, Offline: req.Offline, Getenv: d.Getenv,
		Endpoints: hostEndpoints(d.Host.Reader), Cached: installed(d.Host.Reader),
	}
	var there place
	if req.Cluster != "" {
		ref, err := control.ParseCluster(req.Cluster)
		if err != nil {
			return s, err
		}
		there = place{ref.Region, ref.Account, ref.Name}
	}
	if req.Region != "" && there.region != "" && req.Region != there.region {
		return s, failure.New(failure.Usage, "--region is %s and --cluster is in %s", req.Region, there.region)
	}
	// What cannot be read is told by the checks that read it.
	identity, _ := ssmagent.ReadIdentity(d.Host.Reader)
	if config, err := ecsagent.ReadConfig(d.Host.Reader); err == nil {
		there.region = first(there.region, req.Region, identity.Region, config.Agent(ecsagent.KeyRegion))
		if configured := config.Agent(ecsagent.KeyCluster); there.cluster == "" && configured != "" {
			there.cluster = ecsagent.ClusterName(configured)
		}
	}
	s.Region, s.Cluster, s.IPv6 = there.region, there.cluster, preflight.IPv6Only(d.Host.Reader)
	s.Remote = &remote{deps: d, region: there.region, account: there.account}
	return s, nil
}
