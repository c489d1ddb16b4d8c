package preflight

import (
	"context"
	"fmt"
	"slices"
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
	switch damaged := strings.Join(identity.Damaged, "; "); {
	case snap.Loaded:
		return fail("", "the SSM agent is a snap, which anywhere does not manage yet: the deb refuses to stand beside it",
			"snap remove amazon-ssm-agent, then run the command again")
	case identity.Hidden != "":
		return warn(damaged, "anywhere register makes the agent see it again").with("damaged", identity.Damaged).
			with("managedInstanceId", identity.Hidden)
	case len(identity.Damaged) > 0 && !identity.Registered():
		return warn("there is no registration that works: "+damaged,
			"put "+ssmagent.DataDir+" back from a backup, or register anew with a new activation: anywhere register --token -").
			with("damaged", identity.Damaged)
	case !identity.Registered():
		return pass("none")
	case identity.Fingerprint == "":
		return warn(identity.InstanceID+" has lost its fingerprint, and Systems Manager will refuse it once the agent has made another: "+damaged,
			"put "+ssmagent.FingerprintPath+" back from a backup before the SSM agent is started anew; else register anew: "+
				"anywhere register --token - --accept-risk replace-identity").with("damaged", identity.Damaged)
	}
	return pass("%s in %s", identity.InstanceID, identity.Region).with("managedInstanceId", identity.InstanceID).
		with("region", identity.Region).with("damaged", append([]string{}, identity.Damaged...))
}

func existingECS(_ context.Context, s Subject) Result {
	config, err := ecsagent.ReadConfig(s.Host)
	if err != nil {
		return broken(err)
	}
	exec, err := ecsagent.ReadExec(s.Host)
	if err != nil {
		return broken(err)
	}
	state, err := ecsagent.ReadState(s.Host)
	if err != nil {
		return broken(err)
	}
	problems := slices.DeleteFunc(config.Problems(), harmless)
	fatal := slices.IndexFunc(problems, func(p ecsagent.Problem) bool { return p.Fatal })
	cluster := ecsagent.ClusterName(config.Cluster())
	var r Result
	switch {
	case fatal >= 0:
		r = fail("", sentence(problems[fatal]), problems[fatal].Remedy)
	case exec.Deadly():
		r = warn("ECS Exec's files are incomplete ("+strings.Join(exec.Incomplete, ", ")+
			"): the ECS agent dies of that without a word in its log", "anywhere register completes them")
	case len(problems) > 0:
		r = warn(sentence(problems[0]), problems[0].Remedy)
	case state.Any():
		r = pass("state of cluster %s", cluster)
	default:
		r = pass("none")
	}
	if state.Any() {
		r = r.with("cluster", cluster)
	}
	sentences := []string{}
	for _, p := range problems {
		sentences = append(sentences, sentence(p))
	}
	return r.with("problems", sentences)
}

// harmless are settings that were put in comments: ecs-init makes variables of odd names of them, which nobody reads.
// Access keys are not harmless, but credentials.chain has told of them.
func harmless(p ecsagent.Problem) bool {
	comment := strings.HasPrefix(p.Key, "#") || strings.HasPrefix(p.Key, ";")
	return !p.Fatal && comment || slices.Contains(accessKeys, p.Key)
}

// sentence is a problem with its place; a file as a whole has no line.
func sentence(p ecsagent.Problem) string {
	switch {
	case p.Line == 0:
		return p.File + " " + p.Wrong
	case p.Key == "":
		return fmt.Sprintf("line %d of %s %s", p.Line, p.File, p.Wrong)
	}
	return fmt.Sprintf("%s in line %d of %s %s", p.Key, p.Line, p.File, p.Wrong)
}
