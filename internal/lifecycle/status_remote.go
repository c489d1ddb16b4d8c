package lifecycle

import (
	"context"
	"fmt"
	"path"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// StatusRemote is what AWS says of this host.
type StatusRemote struct {
	Account string           `json:"account"`       // of the operator's credentials
	ECS     *StatusRemoteECS `json:"ecs,omitempty"` // the container instance in ECS
	SSM     *StatusRemoteSSM `json:"ssm,omitempty"` // the managed node in Systems Manager
	Drift   []StatusDrift    `json:"drift"`         // where AWS and the host differ
	Unseen  []StatusUnseen   `json:"unseen"`        // what AWS did not tell
}

// StatusRemoteECS is the container instance as ECS has it.
type StatusRemoteECS struct {
	ContainerInstanceARN string `json:"containerInstanceArn"`
	ManagedInstanceID    string `json:"managedInstanceId"`
	Status               string `json:"status"`         // ACTIVE, DRAINING, INACTIVE, …
	AgentConnected       bool   `json:"agentConnected"` // ECS sees the agent
	AgentVersion         string `json:"agentVersion"`   // the agent's version
	RunningTasks         int    `json:"runningTasks"`   // how many tasks run
	PendingTasks         int    `json:"pendingTasks"`   // how many tasks start
	RegisteredAt         string `json:"registeredAt"`   // when it registered
}

// StatusRemoteSSM is the managed node as Systems Manager has it.
type StatusRemoteSSM struct {
	PingStatus   string `json:"pingStatus"`   // Online, ConnectionLost, …
	LastPing     string `json:"lastPing"`     // when the agent was last heard
	AgentVersion string `json:"agentVersion"` // the agent's version
	Role         string `json:"role"`         // the node's IAM role
	Name         string `json:"name"`         // the node's name
	IP           string `json:"ip"`           // its address, as it said
}

// StatusDrift is a difference between what the host is and what AWS has of it.
type StatusDrift struct {
	Kind     DriftKind    `json:"kind"`     // which kind of difference
	Breaks   bool         `json:"breaks"`   // the host is not healthy for it
	Code     failure.Code `json:"code"`     // stable code of the cause; docs/errors.md has them all
	Message  string       `json:"message"`  // what differs
	Evidence string       `json:"evidence"` // what shows it
	Remedy   string       `json:"remedy"`   // what to type
}

// DriftKind names a difference.
type DriftKind string

// Kinds of drift.
const (
	DriftWrongAccount DriftKind = "wrong_account" // the credentials are of another account than the host
	DriftECSGone      DriftKind = "ecs_gone"      // ECS has no such instance, or has it INACTIVE
	DriftECSLost      DriftKind = "ecs_not_connected"
	DriftECSNode      DriftKind = "ecs_other_node" // ECS has the instance as another managed node's
	DriftDraining     DriftKind = "ecs_draining"
	DriftGhost        DriftKind = "ghost" // another instance of this node
	DriftTwice        DriftKind = "connected_twice"
	DriftSSMGone      DriftKind = "ssm_gone"
	DriftSSMLost      DriftKind = "ssm_not_online"
	DriftRole         DriftKind = "role_changed"
)

// DriftKinds are all of them.
var DriftKinds = []DriftKind{
	DriftWrongAccount, DriftECSGone, DriftECSLost, DriftECSNode, DriftDraining, DriftGhost, DriftTwice, DriftSSMGone, DriftSSMLost, DriftRole,
}

func (r *StatusRemote) drift(kind DriftKind, breaks bool, f *failure.Error) {
	r.Drift = append(r.Drift, StatusDrift{kind, breaks, f.Code, f.Message, f.Evidence, f.Advice()})
}

// breaks are the differences that make the host unhealthy.
func (s *sight) breaks() []StatusReason {
	var all []StatusReason
	if s.remote == nil {
		return nil
	}
	for _, d := range s.remote.Drift {
		if d.Breaks {
			all = append(all, StatusReason{Rule: "aws", Code: d.Code, Message: d.Message, Evidence: d.Evidence, Remedy: d.Remedy})
		}
	}
	return all
}

// askAWS joins what ECS and Systems Manager say. Access that is denied leaves its part unseen; anything else that keeps
// AWS from being asked is an error, for it was asked for.
func (s *sight) askAWS(ctx context.Context, d Deps, req StatusRequest) error {
	region := first(s.arn.Region, s.node.value.identity.Region, s.configured(ecsagent.KeyRegion))
	switch {
	case region == "" && s.node.denied():
		return failure.New(failure.NotRoot, "--remote: which managed node this host is can be seen by root only, and its ECS agent does not answer")
	case region == "":
		return nil // an unregistered host: there is nothing to ask about
	case req.Region != "" && req.Region != region:
		return failure.New(failure.Usage, "--region is %s and this host is registered in %s", req.Region, region).
			WithRemedy("leave --region out")
	}
	operator, err := (&remote{deps: d, region: region}).connect(ctx)
	if err != nil {
		return err
	}
	s.remote = &StatusRemote{Account: operator.Account, Drift: []StatusDrift{}, Unseen: []StatusUnseen{}}
	owned := s.record.value.Registration
	account := s.arn.Account
	if account == "" && s.record.err == nil && owned != nil {
		account = owned.Account
	}
	if account != "" && account != operator.Account {
		s.remote.drift(DriftWrongAccount, true, failure.New(failure.RegisteredElsewere,
			"this host is registered in account %s, and the credentials are of account %s", account, operator.Account).
			WithEvidence("%s", first(s.agent.value.ContainerInstanceARN, operator.ARN)).
			WithRemedy("use a --profile of account %s; if %s is the right account, register the host there anew", account, operator.Account))
		return nil
	}
	for _, ask := range []struct {
		what string
		do   func(context.Context, *control.Operator) error
	}{{"the container instance in ECS", s.askECS}, {"the managed node in Systems Manager", s.askSSM}} {
		err := ask.do(ctx, operator)
		switch {
		case failure.Is(err, failure.AccessDenied):
			s.remote.Unseen = append(s.remote.Unseen, StatusUnseen{Part: ask.what, Why: failure.Of(err).Message})
		case err != nil:
			return err
		}
	}
	return nil
}

func (s *sight) askECS(ctx context.Context, o *control.Operator) error {
	arn, id := s.agent.value.ContainerInstanceARN, s.node.value.identity.InstanceID
	cluster := first(s.arn.Cluster, ecsagent.ClusterName(first(s.agent.value.Cluster, s.configured(ecsagent.KeyCluster))))
	if s.answers() {
		seen, found, err := o.SeeInstance(ctx, cluster, arn)
		if err != nil && !failure.Is(err, failure.ClusterNotFound) {
			return err
		}
		if !found {
			s.remote.drift(DriftECSGone, true, failure.New(failure.InstanceInactive, "ECS has no such container instance in cluster %s", cluster).
				WithEvidence("%s", arn).WithRemedy("anywhere register again: it starts anew with a new container instance, once the ECS agent was started anew"))
		} else {
			s.compare(seen, id)
			id = first(id, seen.NodeID)
		}
	}
	if id == "" {
		return nil
	}
	clusters := []string{cluster}
	if owned := s.record.value.Registration; s.record.err == nil && owned != nil && owned.Cluster != "" && owned.Cluster != cluster {
		clusters = append(clusters, owned.Cluster)
	}
	for _, c := range clusters {
		all, err := o.SeeInstancesOf(ctx, c, id)
		if failure.Is(err, failure.ClusterNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !s.answers() && c == cluster && len(all) == 1 { // its own, whose ARN the agent does not tell
			s.compare(all[0], id)
			continue
		}
		for _, other := range all {
			if other.ARN != arn {
				s.ghost(c, other)
			}
		}
	}
	return nil
}

// compare notes what ECS says of the host's own instance.
func (s *sight) compare(i control.InstanceSight, id string) {
	s.remote.ECS = &StatusRemoteECS{
		ContainerInstanceARN: i.ARN, ManagedInstanceID: i.NodeID, Status: i.Status, AgentConnected: i.Connected,
		AgentVersion: i.AgentVersion, RunningTasks: i.Running, PendingTasks: i.Pending, RegisteredAt: stamp(i.Registered),
	}
	again := "systemctl restart " + s.ecsName + ", then anywhere register again: it starts anew with a new container instance"
	switch {
	case i.Status == "INACTIVE":
		s.remote.drift(DriftECSGone, true, failure.New(failure.InstanceInactive, "ECS has deregistered this container instance").
			WithEvidence("%s", i).WithRemedy("%s", again))
		return
	case i.Status == "DRAINING":
		cluster := first(s.arn.Cluster, ecsagent.ClusterName(s.configured(ecsagent.KeyCluster)))
		s.remote.drift(DriftDraining, false, failure.New(failure.TasksRunning, "ECS is draining this container instance: it gets no new tasks").
			WithEvidence("%s", i).WithRemedy("aws ecs update-container-instances-state --region %s --cluster %s --status ACTIVE --container-instances %s",
			s.arn.Region, cluster, i.ARN))
	}
	if id != "" && i.NodeID != id {
		s.remote.drift(DriftECSNode, true, failure.New(failure.RegisteredElsewere,
			"ECS has this container instance as that of %s, and the host is %s", i.NodeID, id).
			WithEvidence("%s", i).
			WithRemedy("stop %s, move %s away, then anywhere register: it starts anew with a new container instance", s.ecsName, ecsagent.StateDB))
	}
	if !i.Connected {
		s.remote.drift(DriftECSLost, true, s.becauseECS(failure.New(failure.Network, "ECS says that this host's agent is not connected").
			WithEvidence("%s", i).WithRemedy("tail -n 50 %s", ecsagent.LogPath)))
	}
}

// ghost notes another instance of this host's managed node.
func (s *sight) ghost(cluster string, other control.InstanceSight) {
	if other.Connected {
		s.remote.drift(DriftTwice, true, failure.New(failure.FingerprintChanged,
			"another agent is connected to ECS as this managed node: a copy of this machine runs somewhere").
			WithEvidence("%s", other).WithRemedy("find the copy, stop it, and register it anew with a new activation"))
		return
	}
	s.remote.drift(DriftGhost, false, failure.New(failure.RegisteredElsewere,
		"cluster %s has another container instance of this host: %s", cluster, other).
		WithEvidence("%s", other).
		WithRemedy("aws ecs deregister-container-instance --region %s --cluster %s --container-instance %s removes it",
			first(s.arn.Region, s.node.value.identity.Region), cluster, other.ARN))
}

func (s *sight) askSSM(ctx context.Context, o *control.Operator) error {
	id := s.node.value.identity.InstanceID
	if id == "" && s.remote.ECS != nil {
		id = s.remote.ECS.ManagedInstanceID
	}
	if id == "" {
		return nil
	}
	n, found, err := o.SeeNode(ctx, id)
	if err != nil {
		return err
	}
	if !found {
		s.remote.drift(DriftSSMGone, true, failure.New(failure.NodeUnknown, "Systems Manager does not know %s in account %s, %s", id, o.Account, o.Region).
			WithEvidence("ssm:DescribeInstanceInformation finds no such node"))
		return nil
	}
	s.remote.SSM = &StatusRemoteSSM{
		PingStatus: n.PingStatus, LastPing: stamp(n.LastPing), AgentVersion: n.AgentVersion, Role: n.Role, Name: n.Name, IP: n.IP,
	}
	if n.PingStatus != "Online" {
		s.remote.drift(DriftSSMLost, true, s.becauseSSM(failure.New(failure.Network, "Systems Manager has not heard from %s since %s: %s", id,
			first(stamp(n.LastPing), "its registration"), n.PingStatus).
			WithEvidence("%s, IP address %s", n.PingStatus, first(n.IP, "unknown")).
			WithRemedy("systemctl status %s", s.ssmUnitName())))
	}
	role, err := o.SeeRole(ctx, n.ActivationID)
	if err != nil && !failure.Is(err, failure.AccessDenied) {
		return err
	}
	if role != "" && n.Role != "" && path.Base(role) != path.Base(n.Role) {
		s.remote.drift(DriftRole, false, failure.New(failure.RoleUnusable, "the node's role is %s, and its activation gave it %s", n.Role, role).
			WithEvidence("activation %s", n.ActivationID).
			WithRemedy("aws ssm update-managed-instance-role --region %s --instance-id %s --iam-role %s, if the change was not meant", o.Region, id, role))
	}
	return nil
}

// unseenWarnings tell what of AWS could not be asked.
func (s *sight) unseenWarnings() []string {
	var lines []string
	if s.remote != nil {
		for _, u := range s.remote.Unseen {
			lines = append(lines, fmt.Sprintf("%s was not seen: %s", u.Part, u.Why))
		}
	}
	return lines
}
