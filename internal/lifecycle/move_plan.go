package lifecycle

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// plan is the runbook of a move. The point of no return, that ECS gives the old container instance up, comes as late as
// can be: what can fail on this host has been done by then, and is undone from the journal alone. The agent is kept from
// starting at boot until then: a power cut must not have it register half-way.
func (m *moving) plan() engine.Plan {
	steps := []engine.Step{
		m.ecsStop(),
		m.ecsState(),
		m.ecsConfig(),
		m.ecsDeregister(),
		m.ecsStart(),
		m.verify(),
	}
	if m.back { // nothing is left that could be undone: what is known of an instance goes last
		steps[1], steps[2], steps[3] = steps[3], steps[1], steps[2]
	}
	if m.drain != nil {
		steps = append([]engine.Step{m.drain.step()}, steps...)
	}
	if len(m.carried.Attributes) > 0 || len(m.carried.Tags) > 0 {
		steps = append(steps, m.carry())
	}
	if m.back || m.resumed != nil || m.at.ID == "" {
		steps = append(steps, m.ghosts())
	}
	steps = append(steps, m.to.recordStep())
	commit := "ecs.deregister"
	if m.back {
		for i := range steps {
			steps[i].ID, steps[i].Title = "back."+steps[i].ID, "Back: "+steps[i].Title
		}
		commit = "back." + commit
	}
	return engine.Plan{Verb: verbMove, Key: m.key, Pins: m.pins(), Resolve: m.resolve, Steps: steps, Commit: commit}
}

// pins are what is noted before the first change. Those of an unfinished move stay as they are.
func (m *moving) pins() map[string]string {
	if m.noted != nil {
		return maps.Clone(m.noted)
	}
	return map[string]string{
		pinRegion: m.to.region, pinAccount: m.to.account, pinCluster: m.to.cluster, pinNode: m.node,
		pinFromCluster: m.from.Cluster, pinFromARN: m.from.ContainerInstanceARN, pinFromSetting: m.was, pinStatus: m.status,
		pinAttributes: objectOf(m.carried.Attributes), pinTags: objectOf(m.carried.Tags),
	}
}

// resolve runs when something is pending, and proves all that can be proven before the first change.
func (m *moving) resolve(ctx context.Context, pins map[string]string) error {
	pins[pinLeave] = strings.Join(m.leave, ",")
	if err := m.to.writable(); err != nil {
		return err
	}
	if member := m.at.ID != "" && len(m.leave) == 0; !m.back && !member {
		if err := m.proveTarget(ctx); err != nil {
			return err
		}
	}
	if err := m.check(ctx); err != nil {
		return err
	}
	if err := m.refuseLoop(ctx); err != nil {
		return err
	}
	if err := m.settleRights(ctx); err != nil {
		return err
	}
	if err := m.refuseOrphans(ctx); err != nil {
		return err
	}
	m.begun = true
	return nil
}

// proveTarget makes sure that there is a cluster to go to, before the host leaves its own. Without an operator nobody can
// look: the managed node may not.
func (m *moving) proveTarget(ctx context.Context) error {
	err := within(ctx, lookTime, func(ctx context.Context) error {
		return m.to.remote.ProveCluster(ctx, control.ClusterRef{Name: m.to.cluster, Region: m.to.region, Account: m.to.account})
	})
	switch {
	case err == nil:
		return nil
	case decided(err) && !none(err):
		return err
	case m.to.accepts("unproven-target") || m.resumed != nil:
		m.warnings = append(m.warnings, fmt.Sprintf("it was not proven that cluster %s is there and ACTIVE: %s", m.to.cluster, failure.Of(err).Message))
		return nil
	}
	return failure.New(failure.UnprovenTarget, "it could not be proven that cluster %s is there and ACTIVE: %s", m.to.cluster, failure.Of(err).Message).
		WithEvidence("%s", failure.Of(err).Evidence)
}

// refuseLoop refuses to give up the instance of an agent that dies again and again by itself: it would register in neither
// cluster. Where its log names AWS's refusal, which may be that of the old cluster, the move may well be the cure.
func (m *moving) refuseLoop(ctx context.Context) error {
	if m.back || m.resumed != nil {
		return nil
	}
	if _, err := ecsagent.Introspect(ctx, m.deps.Host.Reader); err == nil {
		return nil // it is up, whatever was before
	}
	loop, err := lookAt(ctx, m.deps).checkLoop()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil || loop == nil || loop.Code != failure.AgentCrashLoop:
		return err
	}
	return failure.New(failure.AgentUnstable, "%s: it would come up in neither cluster", loop.Message).WithEvidence("%s", loop.Evidence)
}

// movingChecks are the checks that can stop a move: what the ECS agent needs to start and to register anew. Packages are
// none of it.
var movingChecks = []string{
	"docker.presence", "docker.daemon", "docker.version", "disk.space", "credentials.chain", "existing.ssm", "existing.clone",
	"clock.skew", "network.dns", "network.endpoints", "network.iptables", "network.ports",
}

func (m *moving) check(ctx context.Context) error {
	subject := m.to.subject()
	subject.Cached, subject.Cluster = true, m.from.Cluster
	m.to.checks = preflight.Run(ctx, preflight.All(), subject, preflight.Options{Only: movingChecks, Timeout: checkTime})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.to.warnings = append(m.to.warnings, preflight.Warnings(m.to.checks)...)
	return preflight.Verdict(m.to.checks, false)
}

// settleRights makes sure that whoever is to give the old instance up may do so.
func (m *moving) settleRights(ctx context.Context) error {
	if len(m.leave) == 0 {
		return nil
	}
	return within(ctx, lookTime, func(ctx context.Context) error {
		caller, err := m.to.remote.orNode(ctx)
		if err != nil {
			return err
		}
		cluster, _ := m.placeOf(m.leave[0])
		err = caller.MayDeregisterInstance(ctx, cluster)
		if failure.Is(err, failure.ClusterNotFound) { // the instance went with its cluster
			return nil
		}
		return err
	})
}

// refuseOrphans refuses to leave containers of tasks behind that no agent looks after any more, unless that was accepted.
// What is drained first has none, or the drain says so.
func (m *moving) refuseOrphans(ctx context.Context) error {
	if !m.req.NoDrain || m.back || m.resumed != nil && m.resumed.Committed {
		return nil
	}
	running, err := runningTasks(ctx, m.deps.Host.Reader)
	if err != nil || len(running) == 0 {
		return err
	}
	if !m.req.Force || !m.to.accepts("running-tasks") {
		return failure.New(failure.TasksRunning, "%d containers of tasks run here, and the ECS agent would no longer know them in cluster %s",
			len(running), m.to.cluster).WithEvidence("%s", strings.Join(running, "; ")).
			WithRemedy("leave --no-drain out, so that they are moved away first; or leave them running without an agent: " +
				"--no-drain --force --accept-risk running-tasks")
	}
	m.warnOrphans(running)
	return nil
}

func (m *moving) warnOrphans(running []string) {
	if len(running) > 0 {
		m.warnings = append(m.warnings, fmt.Sprintf("%d containers of tasks run on and no agent looks after them: %s",
			len(running), strings.Join(running, "; ")))
	}
}

// arrived reports whether the ECS agent's state is that of a container instance in the target, and of none that is given
// up.
func (m *moving) arrived(reader host.Reader) (bool, error) {
	saved, err := ecsagent.ReadBinding(reader)
	if err != nil || len(saved.Instances) == 0 {
		return false, err
	}
	for _, arn := range saved.Instances {
		if inCluster(arn, saved.Cluster).Cluster != m.to.cluster || slices.Contains(m.leave, arn.String()) {
			return false, nil
		}
	}
	return true, nil
}

// underWay reports whether an agent that runs was started by this operation, to register in the target: stopped now, it
// might leave behind an instance that it has not noted down.
func (m *moving) underWay(reader host.Reader) (bool, error) {
	if m.resumed == nil || !m.resumed.Committed {
		return false, nil
	}
	saved, err := ecsagent.ReadBinding(reader)
	if err != nil || len(saved.Instances) > 0 {
		return false, err
	}
	config, err := ecsagent.ReadConfig(reader)
	return err == nil && ecsagent.SameCluster(config.Cluster(), m.to.account, m.to.region, m.to.cluster), err
}

// ecsStop brings the ECS agent to rest, and keeps it from starting at boot until all is ready for it.
func (m *moving) ecsStop() engine.Step {
	return engine.Step{
		ID: "ecs.stop", Title: "Stop the ECS agent",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			for _, past := range []func(host.Reader) (bool, error){m.arrived, m.underWay} {
				if yes, err := past(reader); err != nil || yes {
					return engine.Obs{State: engine.OK, Detail: "it is on its way to cluster " + m.to.cluster}, err
				}
			}
			unit, err := reader.Units.Unit(ctx, m.to.ecsUnit())
			switch {
			case err != nil:
				return engine.Obs{}, err
			case unit.Active != "inactive" && unit.Active != "failed":
				return engine.Obs{State: engine.Pending, Detail: "stop " + unit.Name}, nil
			case unit.IsEnabled():
				return engine.Obs{State: engine.Pending, Detail: "keep " + unit.Name + " from starting at boot until the move is done"}, nil
			}
			return engine.Obs{State: engine.OK, Detail: unit.Name + " is at rest"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			return tx.Unit(ctx, m.to.ecsUnit(), engine.UnitWant{Stop: true, Disable: true})
		},
	}
}

// ecsState sets the state aside that binds the agent to the instance that is given up. Other programs keep files beside it.
func (m *moving) ecsState() engine.Step {
	return engine.Step{
		ID: "ecs.state", Title: "Set the ECS agent's old state aside",
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			saved, err := ecsagent.ReadBinding(reader)
			if err != nil {
				return engine.Obs{}, err
			}
			arrived, err := m.arrived(reader)
			if err != nil || arrived || len(saved.Instances) == 0 {
				return engine.Obs{State: engine.OK, Detail: "nothing of another cluster"}, err
			}
			return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("move %s away: it is of %s", ecsagent.StateDB, saved.Instances[0])}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			for _, file := range []string{ecsagent.StateDB, ecsagent.LegacyState} {
				if err := m.to.setAside(ctx, tx, file); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// ecsConfig names the cluster in the agent's configuration, where it wins, and the attributes that go along: the agent
// sends those with its first registration, so that no task is placed here before they are there.
func (m *moving) ecsConfig() engine.Step {
	return m.to.fileStep(fileStep{
		id: "ecs.config", title: "Configure the ECS agent for the cluster", path: ecsagent.ConfigPath, mode: 0o600, settings: true,
		wanted: func(reader host.Reader, _ []byte) ([]byte, error) {
			config, err := ecsagent.ReadConfig(reader)
			if err != nil {
				return nil, err
			}
			if err := m.nameCluster(reader, config); err != nil {
				return nil, err
			}
			valued := pairsWith(m.carried.Attributes)
			if !holds(config.Agent(ecsagent.KeyAttributes), valued) {
				if err := config.User.Set(ecsagent.KeyAttributes, withPairs(config.Agent(ecsagent.KeyAttributes), valued)); err != nil {
					return nil, err
				}
			}
			return config.User.Bytes(), nil
		},
	})
}

// nameCluster sets ECS_CLUSTER. The agent compares it as a raw string with its state: what means the same cluster is never
// rewritten once it has arrived.
func (m *moving) nameCluster(reader host.Reader, config ecsagent.Config) error {
	wanted := m.setting
	if arrived, err := m.arrived(reader); err != nil {
		return err
	} else if arrived {
		saved, err := ecsagent.ReadBinding(reader)
		if err != nil {
			return err
		}
		wanted = first(saved.Cluster, config.Cluster(), wanted)
		if config.Cluster() == wanted {
			return nil
		}
		return config.User.Set(ecsagent.KeyCluster, wanted)
	}
	if wanted == "" { // it stood somewhere else, and does again
		config.User.Unset(ecsagent.KeyCluster)
		if ecsagent.SameCluster(config.Cluster(), m.to.account, m.to.region, m.to.cluster) {
			return nil
		}
		wanted = m.to.cluster
	}
	if known := config.Cluster(); known != "" && ecsagent.SameCluster(known, m.to.account, m.to.region, m.to.cluster) {
		return nil
	}
	return config.User.Set(ecsagent.KeyCluster, wanted)
}

// ecsStart starts the agent for the target. One that runs for the old cluster is not the one that is meant.
func (m *moving) ecsStart() engine.Step {
	step := m.to.ecsStart()
	started := step.Observe
	step.Observe = func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
		config, err := ecsagent.ReadConfig(reader)
		if err != nil {
			return engine.Obs{}, err
		}
		if !ecsagent.SameCluster(config.Cluster(), m.to.account, m.to.region, m.to.cluster) {
			return engine.Obs{State: engine.Unknown, Detail: "start " + m.to.ecsUnit() + " for cluster " + m.to.cluster}, nil
		}
		return started(ctx, reader)
	}
	return step
}

// verify waits until the ECS agent says that it is registered in the target: as an instance that is not one of those given
// up, of the managed node that the host was before.
func (m *moving) verify() engine.Step {
	step := m.to.verify()
	step.Observe = m.verified
	return step
}

func (m *moving) verified(ctx context.Context, reader host.Reader) (engine.Obs, error) {
	identity, err := ssmagent.ReadIdentity(reader)
	if err != nil {
		return engine.Obs{}, err
	}
	if identity.InstanceID != m.node {
		return engine.Obs{}, failure.New(failure.IdentityUnknown, "this host was managed node %s when the move began, and is %s now: somebody else registered it",
			m.node, first(identity.InstanceID, "none")).WithEvidence("%s", ssmagent.KeyPath)
	}
	arrived, err := m.arrived(reader)
	if err != nil {
		return engine.Obs{}, err
	}
	if !arrived && len(m.leave) > 0 { // what answers is the agent of before, which is to be stopped
		return engine.Obs{State: engine.Unknown, Detail: "once the agent is registered in cluster " + m.to.cluster}, nil
	}
	return m.to.verified(ctx, reader)
}

// placeOf is the cluster of an instance, by its ARN or as it was noted, and the ARN.
func (m *moving) placeOf(arn string) (cluster, instance string) {
	parsed, err := ecsagent.ParseInstanceARN(arn)
	if err != nil || parsed.Cluster == "" {
		return m.from.Cluster, arn
	}
	return parsed.Cluster, arn
}

// objectOf is a map as a JSON object with its keys sorted; empty for an empty one.
func objectOf(values map[string]string) string {
	if len(values) == 0 {
		return ""
	}
	return jsonObject(allPairs(values))
}

func allPairs(values map[string]string) (pairs []Pair) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		pairs = append(pairs, Pair{key, values[key]})
	}
	return pairs
}

// pairsWith are those that have a value: the agent's configuration knows no others.
func pairsWith(values map[string]string) []Pair {
	return slices.DeleteFunc(allPairs(values), func(p Pair) bool { return p.Value == "" })
}

// valuesOf is a JSON object of strings as a map.
func valuesOf(object string) map[string]string {
	values := map[string]string{}
	for _, p := range pairsOf(object) {
		values[p.Key] = p.Value
	}
	return values
}
