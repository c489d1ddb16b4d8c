package lifecycle

import (
	"context"
	"fmt"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// hostRegion is the Region that the host itself names: its managed node's, else the ECS agent's. What cannot be read,
// or is no Region, names none: the checks of these files tell of that.
func hostRegion(reader host.Reader) string {
	var named []string
	if identity, err := ssmagent.ReadIdentity(reader); err == nil {
		named = append(named, identity.Region)
	}
	if config, err := ecsagent.ReadConfig(reader); err == nil {
		named = append(named, config.Agent(ecsagent.KeyRegion))
	}
	for _, region := range named {
		if region != "" && partition.CheckRegion(region) == nil {
			return region
		}
	}
	return ""
}

// hostEndpoints are where the agents' own configuration says that AWS is.
func hostEndpoints(reader host.Reader) (e preflight.Endpoints) {
	if config, err := ecsagent.ReadConfig(reader); err == nil {
		e.ECS = config.Agent(ecsagent.KeyEndpoint)
	}
	if config, err := ssmagent.ReadConfig(reader); err == nil {
		e.SSM, e.SSMMessages, e.EC2Messages = config.SSMEndpoint, config.MGSEndpoint, config.MDSEndpoint
	}
	return e
}

// installed reports whether both packages are there, so that nothing need be downloaded.
func installed(reader host.Reader) bool {
	for _, name := range []string{ssmagent.Package, ecsagent.Package} {
		if p, err := reader.Packages.Package(name); err != nil || !p.Installed {
			return false
		}
	}
	return true
}

// cached reports whether everything that this run would download is on the host already, and verifies.
func (r *registration) cached(ctx context.Context) bool {
	ssm, ok := r.there(ctx, pinSSM, artifact.SSMAgent, r.req.SSMAgentVersion, ssmagent.KnownBad)
	if !ok {
		return false
	}
	if _, ok := r.there(ctx, pinECS, artifact.ECSInit, r.req.ECSAgentVersion, ecsagent.KnownBad); !ok {
		return false
	}
	if r.req.NoExec {
		return true
	}
	if exec, err := ecsagent.ReadExec(r.deps.Host.Reader); err == nil && len(exec.Complete) > 0 {
		return true
	}
	if snap, err := snapPrograms(r.deps.Host.Reader); err == nil && snap.Whole() {
		return true
	}
	_, ok = r.source.Cached(ctx, r.ref(artifact.SSMAgent, ssm)) // ECS Exec's files come out of it
	return ok
}

// there reports whether the version of a package that this run wants is installed or in the cache. A version that only
// AWS can tell is not.
func (r *registration) there(
	ctx context.Context, pin string, product artifact.Product, asked string, bad func(string) (string, bool),
) (version string, ok bool) {
	have, err := r.deps.Host.Packages.Package(string(product))
	if err != nil || asked == artifact.Latest {
		return "", false
	}
	version = asked
	if r.resumed != nil {
		version = first(asked, r.resumed.Pins[pin])
	}
	if _, isBad := bad(have.Version); version == "" && have.Installed && !isBad {
		return have.Version, true
	}
	if version == "" {
		return "", false
	}
	if have.Installed && sameVersion(have.Version, version) {
		return version, true
	}
	_, ok = r.source.Cached(ctx, r.ref(product, version))
	return version, ok
}

// PreflightEndpoint is a row of a firewall's list.
type PreflightEndpoint struct {
	Service  string `json:"service"`  // of AWS, or whose it is
	Host     string `json:"host"`     // with * for a part that varies
	Port     int    `json:"port"`     // to be let out
	Protocol string `json:"protocol"` // https, wss or http
	Required bool   `json:"required"` // without it there is no external instance
	Need     string `json:"need"`     // always, packages, docker or some
	Why      string `json:"why"`      // what goes there
	Source   string `json:"source"`   // where the fact is from
}

// listEndpoints is what a firewall must let out. It asks nobody.
func listEndpoints(d Deps, req PreflightRequest) (Report, error) {
	result := PreflightResult{Checks: []PreflightCheck{}, Endpoints: []PreflightEndpoint{}}
	report := Report{Result: result}
	region := first(req.Region, hostRegion(d.Host.Reader))
	if region == "" {
		return report, failure.New(failure.Usage,
			"--list-endpoints: --region is missing, and nothing on this host says which").
			WithRemedy("name the AWS Region, like --region us-east-1")
	}
	if err := partition.CheckRegion(region); err != nil {
		return report, err
	}
	required := 0
	destinations := partition.Destinations(region)
	if preflight.IPv6Only(d.Host.Reader) {
		destinations = partition.DestinationsByIPv6(region)
	}
	for _, row := range destinations {
		if req.Artifacts != "" && (row.Bucket || row.Need == partition.Docker) {
			continue // they come from elsewhere
		}
		e := PreflightEndpoint{
			row.Service, row.Host, row.Port, "tcp", row.Need == partition.Always || row.Need == partition.Packages,
			string(row.Need), row.Why, row.Source,
		}
		if e.Required {
			required++
		}
		result.Endpoints = append(result.Endpoints, e)
	}
	report.Result = result
	report.Message = fmt.Sprintf("an external instance in %s connects to %d endpoints, and cannot do without %d of them",
		region, len(result.Endpoints), required)
	return report, nil
}
