package lifecycle

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// errNoAnswer is why a part was not seen that did not answer in time.
var errNoAnswer = errors.New("no answer within " + glanceTime.String())

// seen is one part of the host, or why it was not seen.
type seen[T any] struct {
	value T
	err   error
}

// denied reports whether it is for root to see.
func (s seen[T]) denied() bool { return errors.Is(s.err, fs.ErrPermission) }

// silent reports whether it did not answer in time.
func (s seen[T]) silent() bool { return errors.Is(s.err, errNoAnswer) }

// future is a part that is being looked at.
type future[T any] struct {
	done chan struct{}
	seen seen[T]
}

// look begins to look at a part. What hangs is left behind when the time is over: take does not wait for it.
func look[T any](ctx context.Context, at func(context.Context) (T, error)) *future[T] {
	f := &future[T]{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.seen.value, f.seen.err = at(ctx)
	}()
	return f
}

// take waits for a part, at most until ctx ends.
func (f *future[T]) take(ctx context.Context) seen[T] {
	select {
	case <-f.done:
		return f.seen
	case <-ctx.Done():
	}
	select {
	case <-f.done: // both are so
		return f.seen
	default:
		return seen[T]{err: context.Cause(ctx)}
	}
}

// sight is what one look at the host has brought.
type sight struct {
	now     time.Time
	ecsName string // the ECS agent's unit

	open     seen[*engine.Operation]
	last     seen[*engine.Past]
	atWork   string
	record   seen[Record]
	packages seen[agentPackages]
	docker   seen[docker.Glimpse]
	units    struct{ docker, ecs, ssm, snap seen[host.Unit] }
	node     seen[node]
	refusals seen[[]ssmagent.Finding]
	process  seen[ssmagent.Process]
	config   seen[ecsagent.Config]
	exec     seen[ecsagent.ExecFiles]
	cached   string
	agent    seen[ecsagent.Metadata]
	arn      ecsagent.InstanceARN // of agent; zero when it has none
	tasks    seen[[]ecsagent.Task]
	life     seen[ecsagent.Life]
	remote   *StatusRemote // nil: not asked
}

// agentPackages are the two packages.
type agentPackages struct{ ssm, ecs host.Package }

// node is the managed node that the host is, judged.
type node struct {
	identity  ssmagent.Identity
	verdict   ssmagent.Verdict
	why       string
	machineID string
	refusal   ssmagent.Recent
	ready     bool // the shared credentials are the agent's and not expired
	readyWhy  string
}

// lookAt asks everything at once. The parts are independent, so that none keeps another from being seen.
func lookAt(caller context.Context, d Deps) *sight {
	r := d.Host.Reader
	ctx, cancel := context.WithTimeoutCause(caller, glanceTime, errNoAnswer)
	defer cancel()
	s := &sight{now: r.Now(), ecsName: ecsUnitOf(r)}
	unit := func(name string) *future[host.Unit] {
		return look(ctx, func(ctx context.Context) (host.Unit, error) { return r.Units.Unit(ctx, name) })
	}
	dockerUnit, ecsUnit, ssmUnit, snapUnit := unit("docker.service"), unit(s.ecsName), unit(ssmagent.UnitName), unit(ssmagent.SnapUnit)
	// The logs are read from the start of their agents on. A service manager that hangs must not keep them from being read.
	ofUnit, cancelUnits := context.WithTimeoutCause(ctx, unitTime, errNoAnswer)
	defer cancelUnits()
	ssmRuns := func() host.Unit {
		if snap := snapUnit.take(ofUnit).value; snap.Loaded {
			return snap
		}
		return ssmUnit.take(ofUnit).value
	}
	engineOf := d.engine()
	open := look(ctx, func(context.Context) (*engine.Operation, error) { return engineOf.Open() })
	last := look(ctx, func(context.Context) (*engine.Past, error) { return engineOf.Last() })
	atWork := look(ctx, func(context.Context) (string, error) { return engine.AtWork(r, LockPath), nil })
	record := look(ctx, func(context.Context) (Record, error) { return readRecord(r) })
	packages := look(ctx, func(context.Context) (p agentPackages, err error) {
		if p.ssm, err = r.Packages.Package(ssmagent.Package); err == nil {
			p.ecs, err = r.Packages.Package(ecsagent.Package)
		}
		return p, err
	})
	dockerd := look(ctx, func(ctx context.Context) (docker.Glimpse, error) {
		return docker.Glance(ctx, r, ecsagent.Image, ecsagent.Container)
	})
	judged := look(ctx, func(context.Context) (node, error) { return judgeNode(r, ssmRuns()) })
	refusals := look(ctx, func(context.Context) ([]ssmagent.Finding, error) {
		return ssmagent.ReadLog(r, ssmRuns().ActiveSince)
	})
	process := look(ctx, func(context.Context) (ssmagent.Process, error) {
		return ssmagent.ReadProcess(r, ssmRuns().MainPID)
	})
	config := look(ctx, func(context.Context) (ecsagent.Config, error) { return ecsagent.ReadConfig(r) })
	exec := look(ctx, func(context.Context) (ecsagent.ExecFiles, error) { return ecsagent.ReadExec(r) })
	cached := look(ctx, func(context.Context) (string, error) { return ecsagent.CachedVersion(r), nil })
	agent := look(ctx, func(ctx context.Context) (ecsagent.Metadata, error) { return ecsagent.Introspect(ctx, r) })
	tasks := look(ctx, func(ctx context.Context) ([]ecsagent.Task, error) { return ecsagent.Tasks(ctx, r) })
	life := look(ctx, func(context.Context) (ecsagent.Life, error) {
		return ecsagent.ReadLife(r, ecsUnit.take(ofUnit).value.ActiveSince)
	})

	s.units.docker, s.units.ecs = dockerUnit.take(ctx), ecsUnit.take(ctx)
	s.units.ssm, s.units.snap = ssmUnit.take(ctx), snapUnit.take(ctx)
	s.open, s.last, s.atWork, s.record = open.take(ctx), last.take(ctx), atWork.take(ctx).value, record.take(ctx)
	s.packages, s.docker, s.node = packages.take(ctx), dockerd.take(ctx), judged.take(ctx)
	s.refusals, s.process, s.config, s.exec = refusals.take(ctx), process.take(ctx), config.take(ctx), exec.take(ctx)
	s.cached, s.agent, s.tasks, s.life = cached.take(ctx).value, agent.take(ctx), tasks.take(ctx), life.take(ctx)
	if s.agent.err == nil {
		s.arn, _ = ecsagent.ParseInstanceARN(s.agent.value.ContainerInstanceARN) // zero when it is none
	}
	return s
}

// ecsUnitOf is the ECS agent's unit on this system.
func ecsUnitOf(r host.Reader) string {
	release, err := host.ReadOSRelease(r.Files)
	if err != nil {
		return ecsagent.Unit
	}
	row, _, _ := platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	return ecsagent.UnitOf(r.Files, row.ECSUnit)
}

// judgeNode reads the identity and what speaks for and against it.
func judgeNode(r host.Reader, unit host.Unit) (node, error) {
	var n node
	var err error
	if n.identity, err = ssmagent.ReadIdentity(r); err != nil {
		return n, err
	}
	machine, err := r.Files.ReadFile(ssmagent.MachineIDPath)
	if err != nil && !missing(err) {
		return n, err
	}
	n.machineID = strings.TrimSpace(string(machine))
	if n.refusal, err = ssmagent.ReadRecent(r, n.identity.InstanceID); err != nil {
		return n, err
	}
	n.verdict, n.why = ssmagent.Assess(n.identity, n.machineID, unit, n.refusal, r.Now())
	if n.identity.Registered() {
		n.ready, n.readyWhy = ssmagent.CredentialsReady(r, n.identity, time.Time{})
	}
	return n, nil
}

// ssmUnit is the unit of the SSM agent that is there: the package's, or the snap's.
func (s *sight) ssmUnit() seen[host.Unit] {
	if s.units.snap.err == nil && s.units.snap.value.Loaded {
		return s.units.snap
	}
	return s.units.ssm
}

// answers reports whether the ECS agent has answered with a container instance.
func (s *sight) answers() bool { return s.arn.ID != "" }

// closed reports whether it is known that the ECS agent has no container instance.
func (s *sight) closed() bool { return errors.Is(s.agent.err, ecsagent.ErrClosed) }

// connecting reports whether the ECS agent has registered a moment ago and has not said yet whether it is connected.
func (s *sight) connecting() bool {
	life := s.life.value
	return s.answers() && s.life.err == nil && life.Connected.IsZero() && life.LostSince.IsZero() &&
		!life.Registered.IsZero() && s.now.Sub(life.Registered) < 10*time.Second
}

// crash loops: three deaths in ten minutes are no accident.
const (
	loopDeaths = 3
	loopWindow = 10 * time.Minute
	loopFresh  = 2 * time.Minute // how young a service is that the manager has started again and again
)

// deaths counts those of the ECS agent in the last ten minutes.
func (s *sight) deaths() (n int, last time.Time) {
	for _, at := range s.life.value.Deaths {
		if s.now.Sub(at) <= loopWindow {
			n, last = n+1, at
		}
	}
	return n, last
}

// loops reports whether the service manager starts a unit again and again.
func (s *sight) loops(u host.Unit) bool {
	young := !u.ActiveSince.IsZero() && s.now.Sub(u.ActiveSince) < loopFresh
	return u.Sub == "auto-restart" || u.Restarts >= loopDeaths && young
}

// lost reports whether the ECS agent has been without a connection for longer than it takes to make one.
func (s *sight) lost() bool {
	life := s.life.value
	return life.Gone || !life.LostSince.IsZero() && s.now.Sub(life.LostSince) >= reconnectTime
}

// reconnectTime is what an agent is given to connect anew. It closes the connection itself every half hour and makes the
// next one at once (ecs-agent/acs/session/session.go of aws/amazon-ecs-agent 1.105.1).
const reconnectTime = time.Minute

// restartPending says why the ECS agent that runs is not the one that would be started now; empty when it is.
func (s *sight) restartPending() string {
	image, program := s.docker.value.ImageID, s.docker.value.Program
	installed, running := s.packages.value.ecs.Version, s.agent.value.Version
	switch {
	case program.State == "running" && image != "" && program.ImageID != "" && image != program.ImageID:
		return "the ECS agent that runs is not of the image that Docker has loaded since"
	case s.packages.err == nil && ecsagent.Newer(installed, running):
		return "ECS agent " + running + " runs and " + installed + " is installed"
	}
	return ""
}

// why is an error in a few words.
func why(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "needs root"
	}
	return failure.Of(err).Message
}
