package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// How long the agents are watched after an upgrade. docs/upgrade.md has the rules in words.
const (
	// UpgradePatience is what a new agent is given to come up and connect, unless --wait-timeout says otherwise. It exceeds
	// the 90 seconds that systemd gives a unit to stop, so that an agent which waits for the end of the old one is never
	// taken for one that does not come up.
	UpgradePatience = 3 * time.Minute
	// UpgradeSteady is how long it must have been well in one piece before the old one is given up.
	UpgradeSteady = 20 * time.Second
	// longestWatch bounds a watch during which the network, or AWS, is out: then the new agent stays, with a warning.
	longestWatch = 10 * time.Minute
	// taskTime is what a connected agent is given to know its tasks again: it reads them from its state before it connects.
	taskTime = 10 * time.Second
	// deadFor is how long the SSM agent's unit may wait for its next start before it counts as dead: that start comes 90
	// seconds after its end (facts: ssm-agent section 5.2).
	deadFor = 5 * time.Second
)

// watchGoal is what the agents must come to. Only what was seen before an upgrade is asked for after it.
type watchGoal struct {
	ECS bool `json:"ecs"` // the ECS agent was replaced, or started anew
	SSM bool `json:"ssm"` // so was the SSM agent

	ECSVersion string   `json:"ecsVersion"` // without a package's revision
	SSMVersion string   `json:"ssmVersion"`
	Cluster    string   `json:"cluster"` // as the agent says it
	ARN        string   `json:"arn"`     // of the container instance
	Node       string   `json:"node"`
	Connected  bool     `json:"connected"` // the old agent was connected to ECS
	Tasks      []string `json:"tasks"`     // that the old agent knew and that had not stopped, by ARN
	// Containers of tasks that ran, by id, with their start.
	Containers map[string]time.Time `json:"containers"`

	Patience time.Duration `json:"patience"`
	Steady   time.Duration `json:"steady"`
}

// reach is whether the host completes TLS to the Region's ECS endpoint.
type reach int

const (
	reachUnknown reach = iota
	reachable
	unreachable
)

// watchSight is one look at the agents.
type watchSight struct {
	now time.Time

	ecsUnit  host.Unit
	answered bool // the ECS agent that was started last has answered
	meta     ecsagent.Metadata
	life     ecsagent.Life
	tasks    []ecsagent.Task
	asked    bool // the agent has told its tasks
	running  map[string]time.Time
	listed   bool // Docker has told what runs

	ssmUnit    host.Unit
	ssmVersion string // of its last start; empty is unknown
	ssmOld     bool   // its program was replaced since it was started
	node       string

	endpoint reach
}

// decision is what a watch comes to.
type decision int

const (
	waitOn decision = iota
	commitIt
	revertIt
)

// verdict is what a look at the agents says.
type verdict struct {
	decision decision
	why      string         // what is waited for, or what the commit rests on
	failure  *failure.Error // of a revert
	warnings []string       // of a commit
}

// watch decides by local signs alone whether the new agents stay. It remembers what one look cannot say.
type watch struct {
	goal  watchGoal
	since time.Time // when the new agents were started
	begun time.Time // and when the watch began
	old   int       // deaths in the second of since that were the old agent's

	goodSince time.Time // the agents have been well since
	outSince  time.Time // nothing that is wrong can be held against the new agent since: the network or AWS is out
	out       time.Duration
	deadSince time.Time // of the SSM agent's unit
	connected time.Time // when the new ECS agent was first seen connected
}

// judge looks at what was seen. Its order is that of certainty: what no waiting can mend, what is well, what takes time.
func (w *watch) judge(s watchSight) verdict {
	if f := w.wrong(s); f != nil {
		return verdict{decision: revertIt, failure: f}
	}
	missing, held := w.missing(s)
	w.clock(s, missing, held)
	if missing == "" {
		if w.goodSince.IsZero() {
			w.goodSince = s.now
		}
		if s.now.Sub(w.goodSince) >= w.goal.Steady {
			return verdict{decision: commitIt, why: "the agents have been well for " + w.goal.Steady.String(), warnings: w.ended(s)}
		}
		return verdict{why: "that the agents stay well"}
	}
	w.goodSince = time.Time{}
	waited := s.now.Sub(w.begun)
	switch {
	case !held && waited >= longestWatch:
		return verdict{decision: commitIt, warnings: []string{fmt.Sprintf("nobody could see the new agent connect for %s: %s; "+
			"it stays, for that is no fault of its own; anywhere status says when it is well", longestWatch, missing)}}
	case held && waited-w.out >= w.goal.Patience:
		return verdict{decision: revertIt, failure: w.late(s, missing)}
	}
	return verdict{why: missing}
}

// clock takes the time out during which nothing can be held against the new agent.
func (w *watch) clock(s watchSight, missing string, held bool) {
	switch {
	case missing != "" && !held && w.outSince.IsZero():
		w.outSince = s.now
	case (missing == "" || held) && !w.outSince.IsZero():
		w.out += s.now.Sub(w.outSince)
		w.outSince = time.Time{}
	}
}

// wrong is what no waiting can mend; nil when there is nothing of the kind.
func (w *watch) wrong(s watchSight) *failure.Error {
	g := w.goal
	if g.Node != "" && s.node != g.Node {
		return failure.New(failure.IdentityUnknown, "the SSM agent's identity is %q now, and it was %s", s.node, g.Node)
	}
	if g.SSM {
		if f := w.wrongSSM(s); f != nil {
			return f
		}
	}
	if !g.ECS {
		return nil
	}
	switch {
	case s.ecsUnit.Active == "failed":
		return w.because(s, failure.New(failure.ServiceFailed, "%s ended: %s, exit status %d", s.ecsUnit.Name, s.ecsUnit.Result, s.ecsUnit.ExitStatus).
			WithRemedy("journalctl -u %s -n 50", s.ecsUnit.Name))
	case s.answered && g.ECSVersion != "" && s.meta.Version != g.ECSVersion:
		return failure.New(failure.NotVerified, "the ECS agent that runs says that it is %s, and %s was installed", s.meta.Version, g.ECSVersion).
			WithEvidence("http://%s/v1/metadata", ecsagent.IntrospectionAddress)
	case s.answered && g.ARN != "" && s.meta.ContainerInstanceARN != g.ARN:
		return failure.New(failure.NotVerified, "the ECS agent is another container instance now: %s, and it was %s",
			s.meta.ContainerInstanceARN, g.ARN).WithEvidence("http://%s/v1/metadata", ecsagent.IntrospectionAddress)
	case s.answered && g.Cluster != "" && ecsagent.ClusterName(s.meta.Cluster) != ecsagent.ClusterName(g.Cluster):
		return failure.New(failure.NotVerified, "the ECS agent is in cluster %s now, and it was in %s", s.meta.Cluster, g.Cluster)
	}
	// An agent that cannot reach ECS dies over it, and is started anew: only where the host reaches it that is its own fault.
	if n := w.deaths(s); n >= loopDeaths && s.endpoint != unreachable && !awsIsOut(s) {
		return w.because(s, failure.New(failure.AgentCrashLoop, "the new ECS agent has died %d times since it was started", n).
			WithEvidence("%s", ecsagent.InitLogPath).
			WithRemedy("docker logs %s; tail -n 50 %s", ecsagent.Container, ecsagent.LogPath))
	}
	for _, f := range s.life.Findings {
		if f.Terminal && !f.Time.Before(w.since.Truncate(time.Second)) && blamesAgent(f) && s.endpoint != unreachable {
			return failure.New(f.Code, "%s", f.Cause).WithEvidence("%s: %s", f.File, f.Line).WithRemedy("%s", f.Remedy)
		}
	}
	return w.lostTasks(s)
}

// blamesAgent reports whether a failure that the agent's log names as final can be the version's own. What depends on the
// network, on AWS or on Docker passes, and would meet the old version as well.
func blamesAgent(f ecsagent.Finding) bool {
	switch f.Code {
	case failure.Network, failure.Throttled, failure.AWSUnavailable, failure.TLSUntrusted, failure.ClockSkew, failure.DockerDown,
		failure.CredentialsExpired, failure.CredentialsInvalid, failure.InstanceInactive, failure.ClusterNotFound:
		return false
	}
	return true
}

func (w *watch) wrongSSM(s watchSight) *failure.Error {
	u := s.ssmUnit
	dead := u.Active == "failed" || u.Sub == "auto-restart"
	switch {
	case !dead:
		w.deadSince = time.Time{}
	case w.deadSince.IsZero():
		w.deadSince = s.now
	}
	if dead && s.now.Sub(w.deadSince) >= deadFor {
		return failure.New(failure.ServiceFailed, "the new SSM agent ended: %s is %s, exit status %d", u.Name,
			strings.TrimSpace(u.Active+" "+u.Sub), u.ExitStatus).WithRemedy("journalctl -u %s -n 50", u.Name)
	}
	return nil
}

// deaths counts those of the ECS agent since it was started.
func (w *watch) deaths(s watchSight) (n int) {
	for _, at := range s.life.Deaths {
		if !at.Before(w.since.Truncate(time.Second)) {
			n++
		}
	}
	return max(n-w.old, 0)
}

// awsIsOut reports whether the agent's own last word is that AWS does not serve it: that passes.
func awsIsOut(s watchSight) bool {
	return slices.ContainsFunc(s.life.Findings, func(f ecsagent.Finding) bool {
		return f.Code == failure.Throttled || f.Code == failure.AWSUnavailable
	})
}

// missing is what is not yet as it must be; empty when all is. held says whether it can be held against the new agent:
// not connecting cannot while the host itself does not reach ECS, or AWS refuses to serve, or where the old agent was
// not connected either.
func (w *watch) missing(s watchSight) (what string, held bool) {
	g := w.goal
	switch {
	case g.SSM && !s.ssmUnit.Running():
		return "the SSM agent to run", true
	case g.SSM && (s.ssmOld || g.SSMVersion != "" && s.ssmVersion != "" && s.ssmVersion != g.SSMVersion):
		return "the SSM agent to run as " + g.SSMVersion + ", not as " + s.ssmVersion, true
	}
	if !g.ECS {
		return "", true
	}
	switch {
	case !s.ecsUnit.Running():
		return s.ecsUnit.Name + " to run", true
	case !s.answered:
		what = "the new ECS agent to register"
	case s.life.Connected.IsZero() || !s.life.LostSince.IsZero():
		what = "the new ECS agent to connect to ECS"
	default:
		if w.connected.IsZero() {
			w.connected = s.now
		}
		return w.unknownTasks(s), true
	}
	if !g.Connected && w.deaths(s) == 0 {
		return what, false
	}
	return what, s.endpoint == reachable && !awsIsOut(s)
}

// unknownTasks is what the new agent has not told yet of its tasks.
func (w *watch) unknownTasks(s watchSight) string {
	switch {
	case len(w.goal.Tasks) > 0 && (!s.asked || len(w.unknown(s)) > 0):
		return "the new ECS agent to tell its tasks"
	case len(w.goal.Containers) > 0 && !s.listed:
		return "Docker to tell which containers run"
	}
	return ""
}

// lostTasks finds what the new agent has done to tasks: it does not know one any more, or it has ended a container without
// ECS having wanted it. What a container did by itself, or ECS wanted, is no fault of the upgrade's.
func (w *watch) lostTasks(s watchSight) *failure.Error {
	if !s.answered || !s.asked || s.life.Connected.IsZero() {
		return nil
	}
	if lost := w.unknown(s); len(lost) > 0 && !w.connected.IsZero() && s.now.Sub(w.connected) >= taskTime {
		return failure.New(failure.NotVerified, "the new ECS agent does not know %d of %d tasks any more", len(lost), len(w.goal.Tasks)).
			WithEvidence("%s", strings.Join(lost, ", "))
	}
	for _, task := range s.tasks {
		if task.Stopped() || task.DesiredStatus == "STOPPED" || !slices.Contains(w.goal.Tasks, task.ARN) {
			continue
		}
		for _, c := range task.Containers {
			if began, before := w.goal.Containers[c.ID]; before && s.listed && !s.running[c.ID].Equal(began) {
				return failure.New(failure.NotVerified, "the container %s of a task that ECS wants to run does not run on", c.Name).
					WithEvidence("%s, container %s, started at %s", task.ARN, c.ID, stamp(began))
			}
		}
	}
	return nil
}

// unknown are the tasks that the old agent knew and the new one does not.
func (w *watch) unknown(s watchSight) (lost []string) {
	for _, arn := range w.goal.Tasks {
		if !slices.ContainsFunc(s.tasks, func(t ecsagent.Task) bool { return t.ARN == arn }) {
			lost = append(lost, arn)
		}
	}
	return lost
}

// ended names the containers that ran before and do not any more, for a reason of their own or of ECS's.
func (w *watch) ended(s watchSight) (warnings []string) {
	if !s.listed {
		return nil
	}
	gone := 0
	for id, began := range w.goal.Containers {
		if !s.running[id].Equal(began) {
			gone++
		}
	}
	if gone > 0 {
		warnings = append(warnings, fmt.Sprintf("%d containers of tasks that ran before the upgrade have ended since, "+
			"by themselves or because ECS wanted it", gone))
	}
	return warnings
}

// late is the failure of an agent that had its time.
func (w *watch) late(s watchSight, missing string) *failure.Error {
	f := failure.New(failure.ConnectTimeout, "gave up waiting after %s for %s", s.now.Sub(w.begun).Round(time.Second), missing)
	if s.endpoint == reachable && w.goal.ECS {
		f.Message += ", while this host itself reaches ECS"
	}
	return w.because(s, f.WithEvidence("nothing in %s or %s explains it", ecsagent.LogPath, ecsagent.InitLogPath).
		WithRemedy("docker logs %s; tail -n 50 %s", ecsagent.Container, ecsagent.LogPath))
}

// because adds the agent's own words, where it has any.
func (w *watch) because(s watchSight, f *failure.Error) *failure.Error {
	for _, found := range s.life.Findings {
		if !found.Time.Before(w.since.Truncate(time.Second)) {
			f.Message += ": " + found.Cause
			return f.WithEvidence("%s: %s", found.File, found.Line)
		}
	}
	return f
}
