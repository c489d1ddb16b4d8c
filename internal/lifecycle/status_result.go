package lifecycle

import (
	"fmt"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// configured is a setting of the ECS agent; empty when it is not set or could not be read.
func (s *sight) configured(key string) string {
	if s.config.err != nil || s.config.value.User == nil {
		return ""
	}
	return s.config.value.Agent(key)
}

// result puts the sight into the form of the document.
func (s *sight) result() StatusResult {
	r := StatusResult{
		Verified:     VerifiedNone,
		Region:       first(s.arn.Region, s.node.value.identity.Region, s.configured(ecsagent.KeyRegion)),
		Account:      s.arn.Account,
		Registration: s.registration(), ECSAgent: s.ecsAgent(), SSMAgent: s.ssmAgent(), Docker: s.dockerStatus(),
		Credentials: s.credentials(), Connection: s.connection(), Tasks: s.taskList(), Exec: s.execStatus(),
		Operation: s.operations(), Unseen: s.unseen(), Remote: s.remote,
	}
	r.ManagedInstanceID = r.Registration.VaultID
	r.State, r.Reasons = s.judge()
	for i := range r.Reasons {
		r.Reasons[i].Remedy = ecsagent.Typed(s.ecsName, ssmagent.Typed(s.ssmUnitName(), r.Reasons[i].Remedy))
	}
	if s.answers() {
		r.ContainerInstanceARN = s.agent.value.ContainerInstanceARN
		r.Cluster = first(s.arn.Cluster, ecsagent.ClusterName(s.agent.value.Cluster))
	} else if name := s.configured(ecsagent.KeyCluster); name != "" {
		r.Cluster = ecsagent.ClusterName(name)
	}
	if r.State == Healthy {
		r.Verified = VerifiedLocal
		if s.remote != nil && s.remote.ECS != nil && s.remote.SSM != nil {
			r.Verified = VerifiedAWS
		}
	}
	return r
}

func (s *sight) registration() StatusRegistration {
	r := StatusRegistration{Damaged: []string{}}
	if s.node.err != nil {
		return r
	}
	n := s.node.value
	i := n.identity
	r.Verdict, r.Why = string(n.verdict), n.why
	r.SideFileID, r.RuntimeID = i.SideID, i.Runtime.InstanceID
	r.MachineIDSame = i.MachineID != "" && i.MachineID == n.machineID
	r.Damaged = append(r.Damaged, i.Damaged...)
	if !i.Registered() {
		return r
	}
	r.VaultID, r.VaultRegion = i.InstanceID, i.Region
	r.Agree = i.SideID == i.InstanceID && i.SideRegion == i.Region && (i.Runtime.InstanceID == "" || i.Runtime.InstanceID == i.InstanceID)
	owned := s.record.value.Registration
	r.ByAnywhere = s.record.err == nil && owned != nil && owned.ManagedInstanceID == i.InstanceID
	return r
}

func (s *sight) unit(u seen[host.Unit]) StatusUnit {
	if u.err != nil {
		return StatusUnit{}
	}
	v := u.value
	return StatusUnit{
		Name: v.Name, Loaded: v.Loaded, Active: v.Active, Sub: v.Sub, Enabled: v.IsEnabled(), Since: stamp(v.ActiveSince),
		Restarts: v.Restarts, CrashLoop: s.loops(v),
	}
}

func (s *sight) ecsAgent() StatusECSAgent {
	a := StatusECSAgent{
		Cached: s.cached, LoadedImage: s.docker.value.ImageID, Running: s.agent.value.Version, Unit: s.unit(s.units.ecs),
		RestartPending: s.restartPending() != "",
	}
	if p := s.packages.value.ecs; p.Installed {
		a.Installed = p.Version
	}
	if program := s.docker.value.Program; program.State == "running" {
		a.RunningImage, a.StartedAt = program.ImageID, stamp(program.StartedAt)
	}
	a.RecentDeaths, _ = s.deaths()
	a.Unit.CrashLoop = a.Unit.CrashLoop || a.RecentDeaths >= loopDeaths
	return a
}

func (s *sight) ssmAgent() StatusSSMAgent {
	a := StatusSSMAgent{
		Unit: s.unit(s.ssmUnit()), Snap: s.units.snap.err == nil && s.units.snap.value.Loaded,
		RestartPending: s.process.value.Replaced,
	}
	if p := s.packages.value.ssm; p.Installed {
		a.Installed = p.Version
	}
	if s.ssmUnit().value.Running() {
		a.Running = s.process.value.Version
		if a.Running == "" && s.process.err == nil && !s.process.value.Replaced { // its program is the installed one
			a.Running = ssmagent.Upstream(a.Installed)
		}
	}
	return a
}

func (s *sight) dockerStatus() StatusDocker {
	g := s.docker.value
	d := StatusDocker{
		Present: g.Present, Running: g.Running, Version: g.Version, Flavour: string(g.Flavour), Why: g.Why, Unit: s.unit(s.units.docker),
	}
	if s.docker.err != nil {
		d.Why = why(s.docker.err)
	}
	return d
}

func (s *sight) credentials() StatusCredentials {
	c := StatusCredentials{Provider: s.life.value.Provider}
	if s.node.err != nil {
		return c
	}
	n := s.node.value
	c.Ready, c.Why = n.ready, n.readyWhy
	if run := n.identity.Runtime; run.InstanceID != "" {
		c.Profile = first(run.ShareProfile, ssmagent.DefaultProfile)
		c.Retrieved, c.Expires = stamp(run.CredentialsRetrievedAt), stamp(run.CredentialsExpiresAt)
	}
	return c
}

func (s *sight) connection() StatusConnection {
	life := s.life.value
	c := StatusConnection{
		Since: stamp(life.Connected), Lost: stamp(life.LostSince),
		Connected: s.answers() && !life.Connected.IsZero() && !s.lost(),
	}
	if life.Lost.Text != "" {
		c.Evidence = life.Lost.File + ": " + life.Lost.Text
	}
	return c
}

func (s *sight) taskList() StatusTasks {
	t := StatusTasks{List: []StatusTask{}}
	for _, task := range s.tasks.value {
		switch {
		case task.Stopped():
			t.Stopped++
			continue
		case task.KnownStatus == "RUNNING":
			t.Running++
		default:
			t.Pending++
		}
		t.List = append(t.List, StatusTask{
			ARN: task.ARN, Definition: task.Family + ":" + task.Revision, Status: task.KnownStatus, Desired: task.DesiredStatus,
		})
	}
	return t
}

func (s *sight) execStatus() StatusExec {
	e := s.exec.value
	switch {
	case s.exec.err != nil:
		return StatusExec{Why: why(s.exec.err)}
	case len(e.Complete) == 0:
		return StatusExec{Why: "no version of its programs is complete below " + ecsagent.ExecDir}
	case !e.Certs:
		return StatusExec{Why: ecsagent.ExecBundle + " is missing"}
	case !e.ConfigDir:
		return StatusExec{Why: ecsagent.ExecDir + "/config is missing"}
	}
	return StatusExec{Ready: true, Version: e.Complete[len(e.Complete)-1]}
}

func (s *sight) operations() StatusOperation {
	o := StatusOperation{AtWork: s.atWork}
	if s.open.err == nil && s.open.value != nil {
		open := operationResult(s.open.value)
		o.Unfinished = &open
	}
	if p := s.last.value; s.last.err == nil && p != nil {
		o.Last = &StatusLast{Verb: p.Verb, RunID: p.RunID, StartedAt: stamp(p.Started), EndedAt: stamp(p.Ended), How: p.How}
	}
	return o
}

// unseen lists what could not be looked at.
func (s *sight) unseen() []StatusUnseen {
	all := []StatusUnseen{}
	add := func(part string, err error, denied bool) {
		if err != nil {
			all = append(all, StatusUnseen{Part: part, Why: why(err), NeedsRoot: denied})
		}
	}
	add("an unfinished operation", s.open.err, s.open.denied())
	add("the last operation", s.last.err, s.last.denied())
	add("anywhere's record", s.record.err, s.record.denied())
	add("installed packages", s.packages.err, s.packages.denied())
	add("registration and credentials", s.node.err, s.node.denied())
	add("the SSM agent's service", s.ssmUnit().err, s.ssmUnit().denied())
	add("the SSM agent's process", s.process.err, s.process.denied())
	add("the SSM agent's log", s.refusals.err, s.refusals.denied())
	add("the ECS agent's service", s.units.ecs.err, s.units.ecs.denied())
	add("the ECS agent's configuration", s.config.err, s.config.denied())
	add("the ECS agent's log", s.life.err, s.life.denied())
	if !s.closed() {
		add("the ECS agent's answer", s.agent.err, false)
		add("tasks", s.tasks.err, false)
	}
	add("ECS Exec's files", s.exec.err, s.exec.denied())
	add("Docker", s.docker.err, s.docker.denied())
	if s.docker.value.Denied {
		all = append(all, StatusUnseen{Part: "Docker", Why: s.docker.value.Why, NeedsRoot: true})
	}
	return all
}

// overdue is how long after half of its life a credential that was not renewed is worth a word: the agent renews it at
// the half, and tries again within minutes.
const overdue = 10 * time.Minute

// warnings are what should be known and does not make the host unhealthy.
func (s *sight) warnings() []string {
	lines := s.ownWarnings()
	if pending := s.restartPending(); pending != "" {
		lines = append(lines, fmt.Sprintf("%s; systemctl restart %s starts it", pending, s.ecsName))
	}
	lines = append(lines, s.ecsWarnings()...)
	if s.remote != nil {
		for _, d := range s.remote.Drift {
			if !d.Breaks {
				lines = append(lines, fmt.Sprintf("%s; %s", d.Message, d.Remedy))
			}
		}
	}
	return append(lines, s.unseenWarnings()...)
}

// ownWarnings are those that doctor has no finding of its own for.
func (s *sight) ownWarnings() []string {
	var lines []string
	warn := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if s.atWork != "" {
		warn("another anywhere is at work: %s", s.atWork)
	}
	if s.process.value.Replaced {
		warn("the SSM agent's program was replaced and the old one still runs; systemctl restart %s starts the new one", s.ssmUnitName())
	}
	n := s.node.value
	if run := n.identity.Runtime; n.ready {
		half := run.CredentialsRetrievedAt.Add(run.CredentialsExpiresAt.Sub(run.CredentialsRetrievedAt) / 2)
		if s.now.After(half.Add(overdue)) {
			warn("the credentials were to be renewed at %s and were not; they expire at %s%s", stamp(half),
				stamp(run.CredentialsExpiresAt), s.lastRefusal())
		}
	}
	if n.identity.Registered() {
		for _, damage := range n.identity.Damaged {
			warn("registration: %s", damage)
		}
	}
	if owned := s.record.value.Registration; s.record.err == nil && owned != nil {
		if id := n.identity.InstanceID; id != "" && id != owned.ManagedInstanceID {
			warn("by its record this host is %s, and it is %s now: somebody else has registered it since", owned.ManagedInstanceID, id)
		}
		if s.arn.Cluster != "" && owned.Cluster != "" && owned.Cluster != s.arn.Cluster {
			warn("by its record this host is in cluster %s, and it is in %s now: somebody else has moved it since", owned.Cluster, s.arn.Cluster)
		}
	}
	if s.record.err != nil && !s.record.denied() {
		warn("what on this host is anywhere's own is not known: %s", why(s.record.err))
	}
	return lines
}

// lastRefusal is the SSM agent's own reason for not having renewed its credentials, if it has told one.
func (s *sight) lastRefusal() string {
	for i := len(s.refusals.value) - 1; i >= 0; i-- {
		if f := s.refusals.value[i]; f.Time.After(s.node.value.identity.Runtime.CredentialsRetrievedAt) {
			return ": " + f.Cause
		}
	}
	return ""
}

// ecsWarnings are those about the ECS agent.
func (s *sight) ecsWarnings() []string {
	var lines []string
	if n, last := s.deaths(); n > 0 && n < loopDeaths {
		lines = append(lines, fmt.Sprintf("the ECS agent has died %d times in the last ten minutes, the last time at %s: %s", n, stamp(last), ecsagent.InitLogPath))
	}
	if s.exec.err == nil && s.exec.value.Deadly() {
		lines = append(lines, "ECS Exec's files are incomplete, and the next start of the ECS agent will fail over it; anywhere register completes them")
	}
	for _, f := range s.life.value.Findings {
		if !f.Symptom && s.answers() && (harmlessWhileConnected(f) || !s.lost()) {
			lines = append(lines, fmt.Sprintf("the ECS agent's log: %s (%s: %s)", f.Cause, f.File, f.Line))
		}
	}
	for _, flaw := range ecsagent.FlawsOf(s.agent.value.Version) {
		lines = append(lines, fmt.Sprintf("ECS agent %s: %s (%s)", s.agent.value.Version, flaw.Reason, flaw.Source))
	}
	if s.config.err == nil && s.config.value.User != nil {
		for _, p := range s.config.value.Problems() {
			if p.Fatal {
				lines = append(lines, fmt.Sprintf("line %d of %s %s; %s", p.Line, p.File, p.Wrong, p.Remedy))
			}
		}
	}
	return lines
}
