package preflight

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
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
	if err := ssmagent.RefuseSnap(ctx, s.Host); err != nil {
		return broken(err).with("managedInstanceId", identity.InstanceID)
	}
	pkg, err := s.Host.Packages.Package(ssmagent.Package)
	if err != nil {
		return broken(err)
	}
	if _, err := ssmagent.ReadConfig(s.Host); err != nil {
		return broken(err)
	}
	unit, err := s.unit(ctx, ssmagent.UnitOf(s.Host))
	if err != nil {
		return broken(err)
	}
	return judgeIdentity(s, identity, pkg, unit).with("managedInstanceId", identity.InstanceID).
		with("region", identity.Region).with("damaged", append([]string{}, identity.Damaged...)).
		with("restarts", unit.Restarts).with("snap", pkg.Snap)
}

// judgeIdentity says of the managed node what does not fit together, the worst first. What only concerns a host that is
// not registered stands above what concerns one that is.
func judgeIdentity(s Subject, i ssmagent.Identity, pkg host.Package, unit host.Unit) Result {
	damage, name := strings.Join(i.Damaged, "; "), ssmagent.UnitOf(s.Host)
	sideFile := fmt.Sprintf(`printf '%%s' '{"ManagedInstanceID":"%s","Region":"%s"}' >%s`,
		i.InstanceID, i.Region, ssmagent.RegistrationPath)
	switch {
	case i.Hidden != "":
		return warn(damage, "anywhere register makes the agent see it again").with("hidden", i.Hidden)
	case !i.Registered() && len(i.Damaged) > 0:
		return warn("there is no registration that works: "+damage,
			"put "+ssmagent.DataDir+" back from a backup, or register anew with a new activation: anywhere register --token -")
	case !i.Registered() && pkg.Snap:
		return pass("none; the snap %s %s is installed, and is used", ssmagent.Package, pkg.Version)
	case !i.Registered() && pkg.Installed:
		return pass("none; %s %s is installed", ssmagent.Package, pkg.Version)
	case !i.Registered():
		return pass("none")
	case i.Fingerprint == "":
		return warn(i.InstanceID+" has lost its fingerprint, and Systems Manager will refuse it once the agent "+
			"has made another: "+damage,
			"put "+ssmagent.FingerprintPath+" back from a backup before the SSM agent is started anew; "+
				"or give the node up: anywhere register --token - --accept-risk replace-identity")
	case i.Runtime.InstanceID != "" && i.Runtime.InstanceID != i.InstanceID:
		return warn(fmt.Sprintf("the vault says %s, and the running agent last worked as %s (%s)",
			i.InstanceID, i.Runtime.InstanceID, ssmagent.RuntimePath), "systemctl restart "+name)
	case looping(unit, s.Host.Now()):
		return warn(fmt.Sprintf("%s in %s; its agent starts and dies again and again (%d restarts)",
			i.InstanceID, i.Region, unit.Restarts),
			"journalctl -u "+name+" -n 50 says why")
	case i.SideID != i.InstanceID || i.SideRegion != i.Region:
		return warn(fmt.Sprintf("%s in %s; %s", i.InstanceID, i.Region, damage),
			"the agent works without that file and other programs read it: "+sideFile)
	case len(i.Damaged) > 0:
		return warn(fmt.Sprintf("%s in %s; %s", i.InstanceID, i.Region, damage),
			"systemctl restart "+name+"; if it stays, put "+ssmagent.DataDir+" back from a backup")
	}
	return pass("%s in %s", i.InstanceID, i.Region)
}

// loopTime is how long a unit must have been up to count as one that runs, however often it was started before.
const loopTime = 10 * time.Minute

// looping reports whether systemd starts a unit again and again: it waits for the next try, or the last ones are recent.
func looping(u host.Unit, now time.Time) bool {
	return u.Sub == "auto-restart" || u.Restarts >= 3 && now.Sub(u.ActiveSince) < loopTime
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

func existingECS(ctx context.Context, s Subject) Result {
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
	native, err := s.Host.Packages.Package(ecsagent.AmazonLinuxPackage)
	if err != nil {
		return broken(err)
	}
	elsewhere, err := stateElsewhere(ctx, s, config)
	if err != nil {
		return broken(err)
	}
	stumbles, err := agentStumbles(ctx, s)
	if err != nil {
		return broken(err)
	}
	problems := slices.DeleteFunc(config.Problems(), harmless)
	fatal := slices.IndexFunc(problems, func(p ecsagent.Problem) bool { return p.Fatal })
	cluster := ecsagent.ClusterName(config.Cluster())
	var r Result
	switch {
	case native.Installed:
		r = fail("", fmt.Sprintf("Amazon Linux's own package %s %s is installed, and %s has the same files: "+
			"they cannot stand beside each other", native.Name, native.Version, ecsagent.Package),
			"yum remove "+ecsagent.AmazonLinuxPackage+", then run the command again")
	case fatal >= 0:
		r = fail("", sentence(problems[fatal]), problems[fatal].Remedy)
	case elsewhere.Status != Pass:
		r = elsewhere
	case exec.Deadly():
		r = warn("ECS Exec's files are incomplete ("+strings.Join(exec.Incomplete, ", ")+
			"): the ECS agent dies of that without a word in its log", "anywhere register completes them")
	case stumbles.Status != Pass:
		r = stumbles
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

// stateElsewhere compares the container instance in the ECS agent's state with the cluster that it is, or will be, told
// to join: with another one it ends for good, after the activation's slot is spent. A state that a registration sets
// aside by itself does no harm: that of a managed node that is gone, and that of an instance that ECS has deregistered.
func stateElsewhere(ctx context.Context, s Subject, config ecsagent.Config) (Result, error) {
	configured := config.Agent(ecsagent.KeyCluster)
	wanted := cmp.Or(s.Cluster, configured)
	binding, err := ecsagent.ReadBinding(s.Host)
	if err != nil {
		return Result{}, err
	}
	named := binding.Instances
	here := func(arn ecsagent.InstanceARN) bool {
		return arn.Cluster == "" || ecsagent.SameCluster(wanted, arn.Account, arn.Region, arn.Cluster)
	}
	if len(named) == 0 || slices.ContainsFunc(named, here) {
		return pass(""), nil
	}
	identity, err := ssmagent.ReadIdentity(s.Host)
	if err != nil || !identity.Registered() {
		return pass(""), err
	}
	unit, err := s.unit(ctx, ecsUnit(s))
	if err != nil {
		return Result{}, err
	}
	findings, err := ecsagent.ReadLog(s.Host, unit.ActiveSince)
	if err != nil {
		return Result{}, err
	}
	if slices.ContainsFunc(findings, func(f ecsagent.Finding) bool { return f.Code == failure.InstanceInactive }) {
		return pass(""), nil
	}
	last := named[len(named)-1]
	name := ecsagent.ClusterName(wanted)
	r := fail(failure.ClusterMismatch,
		fmt.Sprintf("the ECS agent's state in %s is of cluster %s (%s), and %s is %s: the agent would end at once",
			ecsagent.StateDB, last.Cluster, last, ecsagent.KeyCluster, name),
		fmt.Sprintf("write %s=%s in %s to stay in it; anywhere move --cluster %s to leave it",
			ecsagent.KeyCluster, last.Cluster, ecsagent.ConfigPath, name))
	return r.with("stateCluster", last.Cluster).with("containerInstanceArn", last.String()), nil
}

// agentStumbles looks for an ECS agent that systemd starts in vain, and for its own words about that.
func agentStumbles(ctx context.Context, s Subject) (Result, error) {
	unit, err := s.unit(ctx, ecsUnit(s))
	if err != nil || unit.Active != "failed" && !looping(unit, s.Host.Now()) {
		return pass(""), err
	}
	findings, err := ecsagent.ReadLog(s.Host, unit.ActiveSince)
	if err != nil {
		return Result{}, err
	}
	detail := fmt.Sprintf("%s starts and dies again and again (%d restarts)", unit.Name, unit.Restarts)
	if unit.Active == "failed" {
		detail = fmt.Sprintf("%s failed (%s, exit status %d)", unit.Name, unit.Result, unit.ExitStatus)
	}
	remedy := "journalctl -u " + unit.Name + " -n 50 and " + ecsagent.LogPath + " say why"
	if len(findings) > 0 {
		detail, remedy = detail+": "+findings[0].Cause, cmp.Or(findings[0].Remedy, remedy)
	}
	return warn(detail, remedy).with("restarts", unit.Restarts), nil
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
