package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const leaveKind = "ecs.leave"

// leaving is a container instance that a move gives up, as the journal has it.
type leaving struct {
	Region   string `json:"region"`
	Account  string `json:"account,omitempty"`
	Cluster  string `json:"cluster"`
	Instance string `json:"instance"` // ARN
	Status   string `json:"status"`   // just before: ACTIVE or DRAINING; empty where that is not known
}

// ecsDeregister is the point of no return: an instance that ECS has deregistered does not come back.
func (m *moving) ecsDeregister() engine.Step {
	return engine.Step{
		ID: "ecs.deregister", Title: "Deregister the container instance from the old cluster",
		Observe: func(context.Context, host.Reader) (engine.Obs, error) {
			var due []string
			for _, arn := range m.leave {
				if !m.gone[arn] {
					due = append(due, arn)
				}
			}
			if len(due) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "deregister " + strings.Join(due, ", ")}, nil
			}
			return engine.Obs{State: engine.OK, Detail: first(strings.Join(m.leave, ", "), "none to be left")}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			for _, arn := range m.leave {
				if m.gone[arn] {
					continue
				}
				if err := m.giveUp(ctx, tx, arn); err != nil {
					return err
				}
				m.gone[arn] = true
			}
			return nil
		},
	}
}

// giveUp deregisters one instance. One that ECS does not know any more, or whose cluster is gone, is given up already.
func (m *moving) giveUp(ctx context.Context, tx *engine.Tx, arn string) error {
	cluster, instance := m.placeOf(arn)
	data := leaving{Region: m.to.region, Account: m.to.account, Cluster: cluster, Instance: instance, Status: m.status}
	if m.drain != nil { // its own undo makes it ACTIVE
		data.Status = control.Draining
	}
	err := tx.Effect(ctx, leaveKind, data, func(ctx context.Context) error {
		caller, err := m.to.remote.orNode(ctx)
		if err != nil {
			return err
		}
		tx.Note("deregisters %s as %s", instance, caller.ARN)
		was, err := caller.DeregisterInstance(ctx, cluster, instance, m.forces(arn))
		if err == nil && !was || failure.Is(err, failure.ClusterNotFound) {
			tx.Note("ECS knew %s no more", instance)
			err = nil
		}
		return err
	})
	return err
}

// ghosts gives up what an agent has left behind that registered and was killed before it could note that down: instances
// of this managed node that nobody is connected as. Only an operator can see them.
func (m *moving) ghosts() engine.Step {
	return engine.Step{
		ID: "ecs.ghosts", Title: "Deregister what an interrupted run has left",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			if arrived, err := m.arrived(reader); err != nil || !arrived {
				return engine.Obs{State: engine.Unknown, Detail: "once the host is in cluster " + m.to.cluster}, err
			}
			found, err := m.haunting(ctx)
			switch {
			case err != nil && ctx.Err() != nil:
				return engine.Obs{}, context.Cause(ctx)
			case err != nil: // who may not look leaves what nobody here knows of
				return engine.Obs{State: engine.OK, Detail: "could not be looked for: " + failure.Of(err).Message}, nil
			case len(found) > 0:
				return engine.Obs{State: engine.Pending, Detail: "deregister " + strings.Join(found, ", ")}, nil
			}
			return engine.Obs{State: engine.OK, Detail: "nothing"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			found, err := m.haunting(ctx)
			if err != nil {
				return err
			}
			for _, arn := range found {
				if err := m.giveUp(ctx, tx, arn); err != nil {
					if ctx.Err() != nil {
						return err
					}
					m.owed = append(m.owed, deregisterCall(arn))
					m.warnings = append(m.warnings, fmt.Sprintf("%s is left in ECS without an agent: %s", arn, failure.Of(err).Message))
				}
				m.gone[arn] = true
			}
			return nil
		},
	}
}

// haunting are the instances of this node, in all clusters that the move has to do with, that are not what it has become
// and that no agent is connected as.
func (m *moving) haunting(ctx context.Context) (found []string, err error) {
	if m.to.arnText == "" {
		if seen, err := m.to.verified(ctx, m.deps.Host.Reader); err != nil || seen.State != engine.OK {
			return nil, err
		}
	}
	clusters := []string{m.from.Cluster, m.to.cluster, m.noted[pinCluster]}
	slices.Sort(clusters)
	err = within(ctx, lookTime, func(ctx context.Context) error {
		operator, err := m.to.remote.here(ctx)
		if err != nil {
			return err
		}
		for _, cluster := range slices.Compact(clusters) {
			all, err := operator.InstancesOf(ctx, cluster, m.node)
			if err != nil && !failure.Is(err, failure.ClusterNotFound) {
				return err
			}
			for _, i := range all {
				if !i.Connected && i.ARN != m.to.arnText && !m.gone[i.ARN] {
					found = append(found, i.ARN)
				}
			}
		}
		return nil
	})
	return found, err
}

// forces reports whether an instance is given up although ECS counts tasks on it: because the operator said so, or
// because it is one of an interrupted move, without an agent behind it.
func (m *moving) forces(arn string) bool { return m.req.Force || arn != m.own() }

// own is the instance in the other cluster that the host is, or was until this move has set its state aside; empty where
// there is none.
func (m *moving) own() string {
	switch {
	case m.back:
		return ""
	case m.at.ID != "" && m.at.Cluster != m.to.cluster:
		return m.arnText(m.at)
	case m.at.ID == "" && m.resumed != nil && !m.resumed.Committed:
		return m.from.ContainerInstanceARN
	}
	return ""
}

// drained is the instance whose tasks are still to be moved away. Once this move has stopped the agent they have been, and
// nobody could count them any more.
func (m *moving) drained() string {
	if m.resumed != nil && m.rests {
		return ""
	}
	return m.own()
}

// certain are refusals after which it is sure that AWS has done nothing.
var certain = []failure.Code{
	failure.AccessDenied, failure.CredentialsInvalid, failure.CredentialsExpired, failure.ClockSkew, failure.Usage, failure.TasksRunning,
}

// left is how giving an instance up is taken back: not at all once ECS has done it. Whether it has is asked there, for a
// run can die between the call and its line in the journal.
func (d Deps) left() engine.Kind {
	return engine.Kind{
		Refused: func(err error) bool { return slices.Contains(certain, failure.Of(err).Code) },
		Committed: func(ctx context.Context, _ host.Reader, data []byte) (string, bool) {
			l, gone, err := d.lookAfter(ctx, data)
			return "container instance " + l.Instance + " is deregistered", err == nil && gone
		},
		Undo: func(ctx context.Context, _ host.Host, data []byte) ([]string, error) {
			l, gone, err := d.lookAfter(ctx, data)
			switch {
			case err != nil:
				return []string{fmt.Sprintf("container instance %s (whether ECS has deregistered it could not be found out: %s)",
					l.Instance, failure.Of(err).Message)}, nil
			case gone:
				return []string{"container instance " + l.Instance + " (ECS has deregistered it)"}, nil
			}
			return nil, nil
		},
	}
}

// lookAfter finds out whether ECS has given an instance up. A managed node may not look, but it may set the status that
// the instance had, which is refused when it is gone.
func (d Deps) lookAfter(ctx context.Context, data []byte) (l leaving, gone bool, err error) {
	if err := json.Unmarshal(data, &l); err != nil {
		return l, false, err
	}
	aws := &remote{deps: d, region: l.Region, account: l.Account}
	err = within(ctx, lookTime, func(ctx context.Context) error {
		caller, err := aws.orNode(ctx)
		if err != nil {
			return err
		}
		if seen, found, err := caller.Instance(ctx, l.Cluster, l.Instance); err == nil || failure.Is(err, failure.ClusterNotFound) {
			gone = !found || seen.Status == control.Inactive
			return nil
		}
		err = caller.SetInstanceStatus(ctx, l.Cluster, l.Instance, first(l.Status, control.Active))
		gone = failure.Is(err, failure.InstanceInactive) || failure.Is(err, failure.ClusterNotFound)
		if gone {
			err = nil
		}
		return err
	})
	return l, gone, err
}
