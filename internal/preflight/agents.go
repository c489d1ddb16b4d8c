package preflight

import (
	"context"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

// agentInQuestion is the version of the ECS agent that the host has or will have.
type agentInQuestion struct {
	Version   string // empty is the latest, which none of the known floors excludes
	Installed bool   // it is there already, and will be kept
}

// name is the agent as details have it.
func (a agentInQuestion) name() string {
	if a.Version == "" {
		return "the latest ECS agent"
	}
	return "ECS agent " + a.Version
}

// before reports whether it is known to be older than a version.
func (a agentInQuestion) before(version string) bool {
	return a.Version != "" && ecsagent.CompareVersions(a.Version, version) < 0
}

// ecsAgent is the ECS agent in question: the version that is asked for, else the installed one, else the latest. One that
// is known to be bad is replaced by a verb.
func (s Subject) ecsAgent() (agentInQuestion, error) {
	p, err := s.Host.Packages.Package(ecsagent.Package)
	if err != nil {
		return agentInQuestion{}, err
	}
	if s.ECSAgent != "" {
		there := p.Installed && (p.Version == s.ECSAgent || strings.HasPrefix(p.Version, s.ECSAgent+"-"))
		return agentInQuestion{s.ECSAgent, there}, nil
	}
	if _, bad := ecsagent.KnownBad(p.Version); !p.Installed || bad && s.Mutating {
		return agentInQuestion{}, nil
	}
	return agentInQuestion{p.Version, true}, nil
}

// unit is what systemd says of a unit: nothing where it does not answer, which is os.systemd's to tell.
func (s Subject) unit(ctx context.Context, name string) (host.Unit, error) {
	unit, err := s.Host.Units.Unit(ctx, name)
	if failure.Is(err, failure.NoSystemd) {
		return host.Unit{Name: name}, nil
	}
	return unit, err
}

// newerAgent is the remedy for an ECS agent that is too old.
func newerAgent(floor string) string {
	return "bring the ECS agent to " + floor + " or newer: before the host is registered, anywhere register " +
		"--ecs-agent-version VERSION does it; afterwards, anywhere upgrade"
}

// ecsUnit is the ECS agent's unit on this system.
func ecsUnit(s Subject) string {
	release, err := host.ReadOSRelease(s.Host.Files)
	if err != nil {
		return ecsagent.Unit
	}
	row, _, _ := platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	return ecsagent.UnitOf(s.Host.Files, row.ECSUnit)
}
