package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

func existingChecks() []Check {
	return []Check{
		{ID: "existing.ssm", Title: "Existing managed node", Root: true, Run: existingSSM},
		{ID: "existing.ecs", Title: "Existing ECS agent", Root: true, Run: existingECS},
		{ID: "existing.clone", Title: "Another machine with this identity", Root: true, Run: existingClone},
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
		return fail("", "the SSM agent is a snap, which anywhere does not manage yet: the deb refuses to stand beside it",
			"snap remove amazon-ssm-agent, then run the command again")
	case len(identity.Damaged) > 0 && !identity.Registered():
		return warn("there is no registration that works: "+strings.Join(identity.Damaged, "; "),
			"put "+ssmagent.DataDir+" back from a backup, or register anew with a new activation: anywhere register --token -").
			with("damaged", identity.Damaged)
	case !identity.Registered():
		return pass("none")
	}
	return pass("%s in %s", identity.InstanceID, identity.Region).with("managedInstanceId", identity.InstanceID).
		with("region", identity.Region).with("damaged", append([]string{}, identity.Damaged...))
}

// existingClone looks for signs that this machine and another one are the same managed node: a copy of a registered
// machine. One that has the original's machine-id too can be told only by AWS, which sees both.
func existingClone(ctx context.Context, s Subject) Result {
	identity, verdict, why, err := ssmagent.Judge(ctx, s.Host)
	if err != nil {
		return broken(err)
	}
	const anew = "register this machine anew: anywhere register --token - --accept-risk replace-identity"
	switch {
	case !identity.Registered():
		return pass("none: this host is no managed node")
	case verdict == ssmagent.Clone && s.Replacing:
		return warn(why+"; that identity is given up", anew).with("managedInstanceId", identity.InstanceID)
	case verdict == ssmagent.Clone:
		return fail(failure.FingerprintChanged, why, anew).with("managedInstanceId", identity.InstanceID)
	}
	seen := pass("%s is this machine's, as far as can be seen here", identity.InstanceID)
	if s.Remote != nil && !s.Offline {
		seen = clonesSeen(ctx, s, identity)
	}
	return seen.with("managedInstanceId", identity.InstanceID)
}

// clonesSeen asks AWS for a second machine of the same identity. That it cannot be asked is not told here: other checks
// do.
func clonesSeen(ctx context.Context, s Subject, identity ssmagent.Identity) Result {
	instances, err := s.Remote.InstancesOf(ctx, orElse(s.Cluster, "default"), identity.InstanceID)
	if err != nil {
		return pass("%s is this machine's, as far as can be seen here; ECS was not asked", identity.InstanceID)
	}
	connected := []string{}
	for _, i := range instances {
		if i.Connected {
			connected = append(connected, i.ARN)
		}
	}
	const remedy = "find the copy (aws ssm describe-instance-information shows the last one's name and address); there: " +
		"anywhere register --token - --accept-risk replace-identity"
	if len(connected) > 1 {
		r := fail(failure.FingerprintChanged, fmt.Sprintf("ECS sees %s connected %d times: another machine is a copy of this one",
			identity.InstanceID, len(connected)), remedy).with("containerInstances", connected)
		if s.Replacing {
			r.Status = Warn
		}
		return r
	}
	node, found, err := s.Remote.Node(ctx, identity.InstanceID)
	name, readErr := s.Host.Files.ReadFile("/etc/hostname")
	mine, _, _ := strings.Cut(strings.TrimSpace(string(name)), ".")
	theirs, _, _ := strings.Cut(node.Computer, ".")
	if err == nil && readErr == nil && found && mine != "" && theirs != "" && !strings.EqualFold(mine, theirs) {
		return warn(fmt.Sprintf("%s last spoke to Systems Manager as %s (%s), and this machine is %s: another one may be a copy of it, "+
			"or this one was renamed less than five minutes ago", identity.InstanceID, node.Computer, node.IP, mine), remedy).
			with("computerName", node.Computer).with("ipAddress", node.IP)
	}
	return pass("%s is this machine's; ECS sees it connected %d times", identity.InstanceID, len(connected)).
		with("containerInstances", connected)
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
	cluster := ecsagent.ClusterName(config.Agent(ecsagent.KeyCluster))
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
