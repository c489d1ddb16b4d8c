package preflight

import (
	"context"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

func existingChecks() []Check {
	return []Check{
		{ID: "existing.ssm", Title: "Existing managed node", Root: true, Run: existingSSM},
		{ID: "existing.ecs", Title: "Existing ECS agent", Root: true, Run: existingECS},
	}
}

func existingSSM(ctx context.Context, s Subject) Result {
	identity, err := ssmagent.ReadIdentity(s.Host)
	if err != nil {
		return broken(err)
	}
	snap, err := s.Host.Units.Unit(ctx, ssmagent.SnapUnit)
	if err != nil {
		return broken(err)
	}
	switch {
	case snap.Loaded:
		return fail("", "the SSM agent is installed as a snap, which anywhere does not manage yet: the deb refuses to stand beside it",
			"snap remove amazon-ssm-agent, then run the command again")
	case len(identity.Damaged) > 0 && !identity.Registered():
		return warn("there is no registration that works: "+strings.Join(identity.Damaged, "; "), "")
	case !identity.Registered():
		return pass("none")
	}
	return pass("%s in %s", identity.InstanceID, identity.Region).with("managedInstanceId", identity.InstanceID).with("damaged", append([]string{}, identity.Damaged...))
}

func existingECS(_ context.Context, s Subject) Result {
	config, err := ecsagent.ReadConfig(s.Host)
	if err != nil {
		return broken(err)
	}
	for _, p := range config.Problems() {
		if p.Fatal {
			return fail("", p.File+": "+p.Wrong, p.Remedy).with("line", p.Line)
		}
	}
	exec, err := ecsagent.ReadExec(s.Host)
	if err != nil {
		return broken(err)
	}
	if exec.Deadly() { // register completes them
		return warn("ECS Exec's files are incomplete ("+strings.Join(exec.Incomplete, ", ")+"): the ECS agent dies of that without a word in its log", "")
	}
	state, err := ecsagent.ReadState(s.Host)
	if err != nil {
		return broken(err)
	}
	if !state.DB && !state.Legacy {
		return pass("none")
	}
	return pass("state of cluster %s", config.Agent(ecsagent.KeyCluster)).with("cluster", config.Agent(ecsagent.KeyCluster))
}
