package lifecycle

import (
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Rule is one part of what healthy means.
type Rule struct {
	ID    string
	Words string
	// proof: a host of which this was not seen is not called healthy, also where only root could have seen it.
	proof bool
	// check returns what does not hold; unseen says why that could not be found out.
	check func(*sight) (broken *failure.Error, unseen error)
}

// Rules are what healthy means: all of them hold. They stand in the order in which their failing explains most.
//
// A rule that does not hold makes the host unhealthy (the first: half done). One that could not be looked at makes its
// state unknown, but for what only root may see: then the rest decides. A host that is no managed node and whose ECS
// agent has no container instance is unregistered, and nothing else is asked of it.
var Rules = []Rule{
	{ID: "operation", Words: "No operation of anywhere's was begun here and not finished.",
		check: (*sight).checkOperation},
	{ID: "registration", Words: "The registration with Systems Manager is whole and this machine's own, and the SSM agent's log has no " +
		"refusal of it that is newer than the last success.",
		check: (*sight).checkRegistration},
	{ID: "docker", Words: "Docker Engine answers, in a version that the ECS agent can talk to.",
		check: (*sight).checkDocker},
	{ID: "ssm.service", Words: "The SSM agent's service runs, comes up at boot, and is not started again and again.",
		check: (*sight).checkSSMService},
	{ID: "ecs.service", Words: "The ECS agent's service runs, comes up at boot, and is not started again and again.",
		check: (*sight).checkECSService},
	{ID: "credentials", Words: "The credentials that the SSM agent maintains are there and have not expired, and the ECS agent uses them and " +
		"no others.",
		check: (*sight).checkCredentials},
	{ID: "ecs.instance", Words: "The ECS agent itself reports a container instance, in the cluster that is configured and the Region that the " +
		"host is registered in.",
		proof: true, check: (*sight).checkInstance},
	{ID: "ecs.connection", Words: "The ECS agent's log says that it is connected to ECS, and nothing newer says otherwise for more than a minute. " +
		"(An active service and an answering port prove nothing: both stay as they are when ECS has deregistered the instance.) " +
		"Where the log is silent, `--remote` can bear witness.",
		proof: true, check: (*sight).checkConnection},
	{ID: "ecs.loop", Words: "The ECS agent has died less than three times in the last ten minutes.",
		check: (*sight).checkLoop},
	{ID: "aws", Words: "With `--remote`: ECS has the container instance, not INACTIVE and connected, as this managed node's; Systems Manager " +
		"has the node, and hears from it. (The differences are in `result.remote.drift`; those that break are reasons.)"},
}

// judge applies the rules.
func (s *sight) judge() (HealthState, []StatusReason) {
	if why := s.unregistered(); why != nil && !s.unfinished() {
		return Unregistered, []StatusReason{newReason("registration", why)}
	}
	var broken, open []StatusReason
	for _, rule := range Rules {
		if rule.check == nil { // the rule about AWS: its reasons come by themselves
			broken = append(broken, s.breaks()...)
			continue
		}
		f, unseen := rule.check(s)
		switch {
		case f != nil:
			broken = appendNew(broken, newReason(rule.ID, f))
		case unseen != nil && (rule.proof || !failure.Is(unseen, failure.NotRoot)):
			open = append(open, newReason(rule.ID, failure.Of(unseen)))
		}
	}
	switch {
	case s.unfinished():
		return HalfDone, append(broken, open...)
	case len(broken) > 0:
		return Unhealthy, append(broken, open...)
	case len(open) > 0:
		return StateUnknown, open
	}
	return Healthy, []StatusReason{}
}

// appendNew leaves out a reason that stands there already under another rule: one line of a log can break several.
func appendNew(all []StatusReason, r StatusReason) []StatusReason {
	for _, other := range all {
		if other.Code == r.Code && other.Evidence == r.Evidence && r.Evidence != "" {
			return all
		}
	}
	return append(all, r)
}

func newReason(rule string, f *failure.Error) StatusReason {
	return StatusReason{
		Rule: rule, Code: f.Code, Message: f.Message, Evidence: f.Evidence, Remedy: f.Advice(), Retryable: f.Entry().Retryable,
	}
}

// unseenPart is the reason for a part that could not be looked at.
func unseenPart[T any](part string, s seen[T], code failure.Code, remedy string) error {
	if s.denied() {
		return failure.New(failure.NotRoot, "%s can be seen by root only", part).WithEvidence("%v", s.err).
			WithRemedy("sudo anywhere status")
	}
	if !s.silent() { // an error of the part itself
		f := *failure.Of(s.err)
		f.Message = part + ": " + f.Message
		return &f
	}
	return failure.New(code, "%s: %v", part, s.err).WithRemedy("%s", remedy)
}

// unregistered says so when the host is no external instance, as far as can be seen.
func (s *sight) unregistered() *failure.Error {
	n := s.node.value
	f := failure.New(failure.NotRegistered, "this host is not registered with Systems Manager, and its ECS agent has no container instance")
	switch {
	case s.answers() || s.agent.silent():
		return nil
	case s.node.err == nil && n.verdict == ssmagent.None:
		return f.WithEvidence("%s", n.why)
	case s.node.denied() && s.packages.err == nil && !s.packages.value.ssm.Installed && !s.packages.value.ecs.Installed &&
		s.units.snap.err == nil && !s.units.snap.value.Loaded:
		return f.WithEvidence("neither %s nor %s is installed", ssmagent.Package, ecsagent.Package)
	}
	return nil
}

// unfinished reports whether an operation was begun and nobody is at work on it.
func (s *sight) unfinished() bool {
	known := failure.Is(s.open.err, failure.JournalUnreadable) || failure.Is(s.open.err, failure.NewerRecord)
	return (known || s.open.err == nil && s.open.value != nil) && s.atWork == ""
}

func (s *sight) checkOperation() (*failure.Error, error) {
	op := s.open.value
	switch {
	case s.open.err != nil && s.unfinished():
		return failure.Of(s.open.err), nil
	case s.open.err != nil && s.atWork == "":
		return nil, unseenPart("an unfinished operation", s.open, failure.JournalUnreadable, "sudo anywhere operation show")
	case op == nil || s.atWork != "":
		return nil, nil
	}
	f := failure.New(failure.Unfinished, "%s, begun at %s (run %s), is not finished", op.Verb, stamp(op.Started), op.RunID).
		WithEvidence("%s: %d changes, the last step is %s", op.Path, op.Changes, first(op.LastStep, "none"))
	if op.Verb == verbMove {
		return f.WithRemedy("%s", moveOn(op)), nil
	}
	if op.Committed {
		return f.WithRemedy("finish it: the same anywhere %s command again; it is past its point of no return, so it cannot be undone", op.Verb), nil
	}
	return f.WithRemedy("finish it: the same anywhere %s command again; or undo it: anywhere rollback", op.Verb), nil
}

func (s *sight) checkRegistration() (*failure.Error, error) {
	n := s.node.value
	const anew = "register anew, with a new activation: anywhere register --token -"
	switch {
	case s.node.err != nil:
		return nil, unseenPart("the registration with Systems Manager", s.node, failure.IdentityUnknown, "ls -l "+ssmagent.VaultDir)
	case n.verdict == ssmagent.None && !s.answers(): // the agent hangs, or it would be an unregistered host
		return failure.New(failure.NotRegistered, "this host is not registered with Systems Manager").WithEvidence("%s", n.why), nil
	case n.verdict == ssmagent.None:
		return failure.New(failure.IdentityUnknown, "the ECS agent works, and the host is no managed node: %s", n.why).WithRemedy(anew), nil
	case n.verdict == ssmagent.Broken:
		return failure.New(failure.IdentityUnknown, "the registration with Systems Manager cannot be used").
			WithEvidence("%s", n.why).WithRemedy("put %s back from a backup, or %s", ssmagent.DataDir, anew), nil
	case n.verdict == ssmagent.Clone:
		return s.refused(failure.FingerprintChanged, "the registration is another machine's", n.refusal.Fingerprint), nil
	case n.verdict == ssmagent.Deregistered:
		return s.refused(failure.NodeUnknown, "Systems Manager does not know this host any more", n.refusal.Deregistered), nil
	case n.identity.Fingerprint == "":
		return failure.New(failure.IdentityUnknown, "the registration has lost its fingerprint: it works until its credentials are renewed").
			WithEvidence("%s", n.why).WithRemedy(anew + " --accept-risk replace-identity"), nil
	}
	return nil, nil
}

// refused is a registration that does not work any more; line is what the SSM agent's log has to say, if anything.
func (s *sight) refused(code failure.Code, what string, line ssmagent.Finding) *failure.Error {
	f := failure.New(code, "%s (%s)", what, s.node.value.identity.InstanceID)
	if line.Line == "" || line.Time.IsZero() {
		return f.WithEvidence("%s", s.node.value.why)
	}
	return f.WithEvidence("%s: %s", line.File, line.Line)
}

func (s *sight) checkDocker() (*failure.Error, error) {
	g := s.docker.value
	switch {
	case s.docker.err != nil:
		return nil, unseenPart("Docker", s.docker, failure.DockerDown, "anywhere preflight --only docker.daemon waits longer for it; journalctl -u docker -n 50")
	case g.Denied:
		return nil, failure.New(failure.NotRoot, "Docker can be seen by root only").WithEvidence("%s", g.Why)
	case !g.Present:
		return failure.New(failure.DockerAbsent, "Docker is not installed"), nil
	case !g.Running:
		return failure.New(failure.DockerDown, "Docker does not run: %s", first(g.Why, "it does not answer")), nil
	case g.Flavour == docker.Podman:
		return failure.New(failure.DockerVersion, "podman answers under Docker's name, and the ECS agent does not work with it").
			WithRemedy("install Docker Engine; anywhere preflight --only docker.flavour"), nil
	}
	if ok, move := docker.Fits(g.Info, s.packages.value.ecs.Version); !ok {
		return failure.New(failure.DockerVersion, "%s", move).WithRemedy("anywhere preflight --only docker.version says which versions there are"), nil
	}
	return nil, nil
}

func (s *sight) checkSSMService() (*failure.Error, error) {
	unit := s.ssmUnit()
	if unit.err != nil {
		return nil, unseenPart("the SSM agent's service", unit, failure.NoSystemd, "systemctl status "+ssmagent.UnitName)
	}
	return s.service(unit.value, "the SSM agent", s.becauseSSM), nil
}

func (s *sight) checkECSService() (*failure.Error, error) {
	unit := s.units.ecs
	if unit.err != nil {
		return nil, unseenPart("the ECS agent's service", unit, failure.NoSystemd, "systemctl status "+s.ecsName)
	}
	return s.service(unit.value, "the ECS agent", s.becauseECS), nil
}

// service is what is wrong with a unit.
func (s *sight) service(u host.Unit, what string, because func(*failure.Error) *failure.Error) *failure.Error {
	start := failure.New(failure.ServiceFailed, "%s does not run: %s is %s", what, u.Name, strings.TrimSpace(u.Active+" "+u.Sub)).
		WithRemedy("systemctl start %s; journalctl -u %s -n 50 says why it stopped", u.Name, u.Name)
	switch {
	case !u.Loaded:
		return failure.New(failure.ServiceFailed, "%s is not installed: there is no %s", what, u.Name).
			WithRemedy("anywhere register installs it")
	case s.loops(u):
		return because(failure.New(failure.AgentCrashLoop, "%s is started again and again: %s, %d restarts, exit status %d",
			what, u.Name, u.Restarts, u.ExitStatus).WithRemedy("journalctl -u %s -n 50", u.Name))
	case u.Active == "failed":
		return because(failure.New(failure.ServiceFailed, "%s has ended: %s failed (%s, exit status %d)", what, u.Name, u.Result, u.ExitStatus).
			WithRemedy("journalctl -u %s -n 50 says why", u.Name))
	case !u.Running():
		return start
	case !u.IsEnabled():
		return failure.New(failure.ServiceFailed, "%s does not come up at boot: %s is %s", what, u.Name, first(u.Enabled, "not enabled")).
			WithRemedy("systemctl enable %s", u.Name)
	}
	return nil
}

// becauseSSM adds what the SSM agent's log has said since its start, where it names a cause.
func (s *sight) becauseSSM(f *failure.Error) *failure.Error {
	for i := len(s.refusals.value) - 1; i >= 0; i-- {
		if known := s.refusals.value[i]; known.Terminal {
			return failure.New(known.Code, "%s: %s", f.Message, known.Cause).
				WithEvidence("%s: %s", known.File, known.Line).WithRemedy("%s", known.Remedy)
		}
	}
	return f
}

// becauseECS adds what the logs of the ECS agent and ecs-init name as the cause.
func (s *sight) becauseECS(f *failure.Error) *failure.Error {
	for _, known := range s.life.value.Findings {
		if harmlessWhileConnected(known) {
			continue
		}
		return failure.New(known.Code, "%s: %s", f.Message, known.Cause).
			WithEvidence("%s: %s", known.File, known.Line).WithRemedy("%s", known.Remedy)
	}
	return f
}

// harmlessWhileConnected is a finding that explains why tasks fail, and not why the agent does.
func harmlessWhileConnected(f ecsagent.Finding) bool {
	return f.Code == failure.CgroupUnusable || f.Code == failure.AgentConfig && !f.Terminal && !f.Symptom
}

func (s *sight) checkCredentials() (*failure.Error, error) {
	n := s.node.value
	if name := s.life.value.Provider; name != "" && name != ecsagent.RotatingProvider {
		return failure.New(failure.ForeignProfile, "the ECS agent uses credentials from %s, and not those of Systems Manager", name).
			WithEvidence("%s", ecsagent.LogPath).
			WithRemedy("sudo anywhere preflight --only credentials.chain says where they are; take them away, then systemctl restart %s", s.ecsName), nil
	}
	switch {
	case s.node.err != nil:
		return nil, unseenPart("the credentials", s.node, failure.CredentialsInvalid, "ls -l "+ssmagent.CredentialsPath)
	case !n.identity.Registered() || n.verdict == ssmagent.Clone || n.verdict == ssmagent.Deregistered || n.ready:
		return nil, nil // told by the rule for the registration, or well
	}
	code := failure.CredentialsInvalid
	if expires := n.identity.Runtime.CredentialsExpiresAt; !expires.IsZero() && !expires.After(s.now) {
		code = failure.CredentialsExpired
	}
	return s.becauseSSM(failure.New(code, "the SSM agent keeps no credentials that are good: %s", n.readyWhy).
		WithEvidence("%s", ssmagent.RuntimePath).WithRemedy("systemctl restart %s, then look again", s.ssmUnitName())), nil
}

func (s *sight) ssmUnitName() string { return first(s.ssmUnit().value.Name, ssmagent.UnitName) }

func (s *sight) checkInstance() (*failure.Error, error) {
	meta := s.agent.value
	switch {
	case s.closed():
		since := s.units.ecs.value.ActiveSince
		if u := s.units.ecs; u.err == nil && !u.value.Running() {
			return nil, nil // told by the rule for the service
		}
		return s.becauseECS(failure.New(failure.ConnectTimeout, "the ECS agent runs%s and has not registered",
			prefixed(" since ", stamp(since), "")).WithEvidence("port %s is closed", ecsagent.IntrospectionAddress).
			WithRemedy("tail -n 50 %s %s; docker logs %s", ecsagent.LogPath, ecsagent.InitLogPath, ecsagent.Container)), nil
	case s.agent.silent():
		return nil, unseenPart("the ECS agent", s.agent, failure.Network, "docker logs "+ecsagent.Container)
	case s.agent.err != nil:
		return failure.Of(s.agent.err), nil
	case !s.answers():
		return s.becauseECS(failure.New(failure.ConnectTimeout, "the ECS agent answers and has no container instance").
			WithRemedy("docker logs %s", ecsagent.Container)), nil
	}
	elsewhere := func(format string, args ...any) *failure.Error {
		return failure.New(failure.RegisteredElsewere, format, args...).WithEvidence("the ECS agent reports %s", meta.ContainerInstanceARN)
	}
	n := s.node.value.identity
	if s.arn.Cluster != "" && !ecsagent.SameCluster(meta.Cluster, s.arn.Account, s.arn.Region, s.arn.Cluster) {
		return elsewhere("the ECS agent was told cluster %s, and its instance is in %s", ecsagent.ClusterName(meta.Cluster), s.arn.Cluster), nil
	}
	if s.node.err == nil && n.Registered() && n.Region != s.arn.Region {
		return elsewhere("the host is managed node %s in %s, and its container instance is in %s", n.InstanceID, n.Region, s.arn.Region).
			WithRemedy("deregister it in %s, then anywhere register --region %s", s.arn.Region, n.Region), nil
	}
	if configured := s.configured(ecsagent.KeyCluster); configured != "" &&
		!ecsagent.SameCluster(configured, s.arn.Account, s.arn.Region, meta.Cluster) {
		return failure.New(failure.ClusterMismatch, "the configuration names cluster %s, and the ECS agent runs in %s: its next start will fail",
			ecsagent.ClusterName(configured), ecsagent.ClusterName(meta.Cluster)).
			WithEvidence("%s=%s", ecsagent.KeyCluster, configured).
			WithRemedy("write %s=%s again, or move the host: anywhere move --cluster %s", ecsagent.KeyCluster, meta.Cluster, ecsagent.ClusterName(configured)), nil
	}
	return nil, nil
}

func (s *sight) checkConnection() (*failure.Error, error) {
	life := s.life.value
	switch {
	case !s.answers(): // there is nothing to be connected, or nobody to ask
		return nil, nil
	case s.life.err == nil && s.lost():
		f := failure.New(failure.Network, "the ECS agent is not connected to ECS since %s", stamp(life.LostSince)).
			WithEvidence("%s: %s", life.Lost.File, life.Lost.Text).WithRemedy("check DNS, proxy and firewall for the host in the evidence")
		if life.Gone {
			f.Code, f.Message = failure.InstanceInactive, "ECS has deregistered this container instance"
			f.Remedy = "anywhere register again: it starts anew with a new container instance"
			return f, nil
		}
		return s.becauseECS(f), nil
	case s.life.err == nil && !life.Connected.IsZero():
		return nil, nil
	case s.remote != nil && s.remote.ECS != nil && s.remote.ECS.AgentConnected:
		return nil, nil
	case s.life.err != nil:
		return nil, unseenPart("the ECS agent's log", s.life, failure.Network, "anywhere status --remote asks ECS itself")
	}
	return nil, failure.New(failure.NotVerified, "the ECS agent's log does not say whether it is connected to ECS").
		WithEvidence("%s", ecsagent.LogPath).
		WithRemedy("anywhere status --remote asks ECS itself; ECS_LOGLEVEL=info in %s makes the log say it", ecsagent.ConfigPath)
}

func (s *sight) checkLoop() (*failure.Error, error) {
	n, last := s.deaths()
	if n < loopDeaths {
		return nil, nil // a log that may not be read is told by the rule for the connection
	}
	return s.becauseECS(failure.New(failure.AgentCrashLoop, "the ECS agent has died %d times in the last %s, the last time at %s",
		n, "ten minutes", stamp(last)).WithEvidence("%s", ecsagent.InitLogPath).
		WithRemedy("docker logs %s; tail -n 50 %s", ecsagent.Container, ecsagent.LogPath)), nil
}

// RulesText is the rule for healthy in words, a line each, for the documentation.
func RulesText() string {
	var b strings.Builder
	for _, r := range Rules {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.ID, r.Words)
	}
	return b.String()
}
