package lifecycle

import (
	"context"
	"slices"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// settleGoal says what the agents must come to: the new versions, and for the rest what they are now. An operation that is
// gone on with has said it already.
func (u *upgrade) settleGoal(ctx context.Context) error {
	reader := u.deps.Host.Reader
	if u.resumed != nil && u.goal.Steady != 0 { // settle has read it
		return nil
	}
	u.goal = watchGoal{
		ECS: u.pins[pinECS] != "", SSM: u.pins[pinSSM] != "",
		ECSVersion: ssmagent.Upstream(u.pins[pinECS]), SSMVersion: ssmagent.Upstream(u.pins[pinSSM]),
		ARN: u.pins[pinARN], Node: u.node, Tasks: []string{}, Containers: map[string]time.Time{},
		Patience: first(u.asked.WaitTimeout, UpgradePatience), Steady: u.steady(),
	}
	if !u.goal.ECS {
		return nil
	}
	if meta, err := ecsagent.Introspect(ctx, reader); err == nil {
		u.goal.Cluster = meta.Cluster
	}
	unit, err := reader.Units.Unit(ctx, u.ecsUnit())
	if err != nil {
		return err
	}
	life, err := ecsagent.ReadLife(reader, unit.ActiveSince)
	if err != nil {
		return err
	}
	u.goal.Connected = unit.Running() && !life.Connected.IsZero() && life.LostSince.IsZero()
	if u.drain != nil { // none is to be left
		return nil
	}
	if tasks, err := ecsagent.Tasks(ctx, reader); err == nil {
		for _, t := range tasks {
			if !t.Stopped() && t.DesiredStatus != "STOPPED" {
				u.goal.Tasks = append(u.goal.Tasks, t.ARN)
			}
		}
	}
	if running := taskContainers(ctx, reader); running != nil {
		u.goal.Containers = running
	}
	return nil
}

// taskContainers are the containers of tasks that run, by id, with their start; nil when Docker does not tell.
func taskContainers(ctx context.Context, r host.Reader) map[string]time.Time {
	all, err := docker.Containers(ctx, r, ecsagent.TaskLabel)
	if err != nil {
		return nil
	}
	running := map[string]time.Time{}
	for _, c := range all {
		if !c.Running() {
			continue
		}
		if seen, err := docker.Look(ctx, r, c.ID); err == nil {
			running[c.ID] = seen.StartedAt
		}
	}
	return running
}

// reachEvery is how often the host's own way to ECS is tried while the new agent is not connected.
const reachEvery = 5 * time.Second

// watch looks at the new agents until it is clear whether they stay.
func (u *upgrade) watch(ctx context.Context, tx *engine.Tx) error {
	if u.goal.Steady == 0 { // this run has not armed the deadline
		if err := u.settleGoal(ctx); err != nil {
			return err
		}
	}
	reader := tx.Reader()
	w := &watch{goal: u.goal, since: first(u.ecsSince, u.started), begun: reader.Now(), old: u.oldDeaths}
	if w.since.IsZero() { // an earlier run has started them
		w.since = w.begun
		unit, err := reader.Units.Unit(ctx, u.ecsUnit())
		if err != nil {
			return err
		}
		if u.goal.ECS && unit.Running() && !unit.ActiveSince.IsZero() {
			w.since = unit.ActiveSince
		}
	}
	told, endpoint, tried := "", reachUnknown, time.Time{}
	for {
		s := u.lookAt(ctx, reader, w)
		if !s.connected() && u.goal.ECS && reader.Now().Sub(tried) >= reachEvery {
			endpoint, tried = u.reaches(ctx), reader.Now()
		}
		s.endpoint = endpoint
		v := w.judge(s)
		if u.gap == 0 && !w.connected.IsZero() && !u.gapFrom.IsZero() {
			u.gap = w.connected.Sub(u.gapFrom)
		}
		switch v.decision {
		case commitIt:
			u.seen = true
			u.warnings = append(u.warnings, v.warnings...)
			return nil
		case revertIt:
			if arn, err := ecsagent.ParseInstanceARN(s.meta.ContainerInstanceARN); err == nil && u.goal.ARN != "" && arn.String() != u.goal.ARN {
				u.owed = append(u.owed, deregisterCall(arn.String()))
				u.warnings = append(u.warnings, "the version that is taken back has registered another container instance, "+
					"which is nobody's now: "+deregisterCall(arn.String()))
			}
			u.blame(u.culprit(s), v.failure)
			u.keepWords(reader)
			return v.failure
		}
		if v.why != told {
			tx.Note("waiting for %s", v.why)
			told = v.why
		}
		again := time.NewTimer(pause(reader.Now().Sub(w.begun)))
		select {
		case <-ctx.Done():
			again.Stop()
			return context.Cause(ctx)
		case <-again.C:
		}
	}
}

// culprit is the agent that a failed watch is held against.
func (u *upgrade) culprit(s watchSight) *upgradedAgent {
	if !u.goal.ECS || u.goal.SSM && !s.ssmUnit.Running() {
		return u.ssm()
	}
	return u.ecs()
}

// connected reports whether the ECS agent that was looked at is connected to ECS.
func (s watchSight) connected() bool {
	return s.answered && !s.life.Connected.IsZero() && s.life.LostSince.IsZero()
}

// reaches tries the Region's ECS endpoint from the host itself.
func (u *upgrade) reaches(ctx context.Context) reach {
	ctx, cancel := context.WithTimeout(ctx, reachEvery)
	defer cancel()
	if err := preflight.ReachECS(ctx, u.subject()); err != nil {
		return unreachable
	}
	return reachable
}

// lookAt is one look at the agents. What does not answer is not seen.
func (u *upgrade) lookAt(ctx context.Context, r host.Reader, w *watch) watchSight {
	s := watchSight{now: r.Now(), node: u.goal.Node}
	if identity, err := ssmagent.ReadIdentity(r); err == nil {
		s.node = identity.InstanceID
	}
	if u.goal.SSM {
		s.ssmUnit, _ = r.Units.Unit(ctx, ssmagent.UnitOf(r))
		if process, err := ssmagent.ReadProcess(r, s.ssmUnit.MainPID); err == nil {
			s.ssmVersion, s.ssmOld = process.Version, process.Replaced
		}
	}
	if !u.goal.ECS {
		return s
	}
	s.ecsUnit, _ = r.Units.Unit(ctx, u.ecsUnit())
	s.life, _ = ecsagent.ReadLife(r, w.since)
	program, err := docker.Look(ctx, r, ecsagent.Container)
	if err != nil || !program.Exists || program.StartedAt.Before(w.since) {
		return s
	}
	if s.meta, err = ecsagent.Introspect(ctx, r); err != nil {
		return s
	}
	s.answered = true
	if s.tasks, err = ecsagent.Tasks(ctx, r); err == nil {
		s.asked = true
	}
	if len(u.goal.Containers) > 0 {
		s.running = taskContainers(ctx, r)
		s.listed = s.running != nil
	}
	return s
}

// blame names the version that this run takes back, and why.
func (u *upgrade) blame(a *upgradedAgent, f *failure.Error) {
	if u.guilty != nil || f == nil || u.pins[a.pin] == "" || sameVersion(u.pins[a.from], u.pins[a.pin]) {
		return
	}
	u.guilty = &FailedUpgrade{
		Package: a.name, Version: u.pins[a.pin], At: stamp(u.deps.Host.Now()), Code: f.Code, Reason: f.Message,
	}
}

// keepWords keeps the ends of the agents' logs: the undo goes on writing into them.
func (u *upgrade) keepWords(r host.Reader) {
	for _, file := range []string{ecsagent.LogPath, ecsagent.InitLogPath, ssmagent.LogPath} {
		if text, err := r.Files.ReadFile(file); err == nil {
			u.words[file] = slices.Clone(text[max(0, len(text)-keptWords):])
		}
	}
}

// keptWords is how much of each log is kept, in bytes.
const keptWords = 64 << 10
