package control

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Statuses of a container instance.
const (
	Active   = string(types.ContainerInstanceStatusActive)
	Draining = string(types.ContainerInstanceStatusDraining)
	Inactive = "INACTIVE" // deregistered, which is final; ECS still describes it for a while
)

// SetInstanceStatus makes a container instance ACTIVE or DRAINING. One that ECS has deregistered, or does not know, is
// failure.InstanceInactive.
func (o *Operator) SetInstanceStatus(ctx context.Context, cluster, instance, status string) error {
	out, err := o.ecs.UpdateContainerInstancesState(ctx, &ecs.UpdateContainerInstancesStateInput{
		Cluster: &cluster, ContainerInstances: []string{instance}, Status: types.ContainerInstanceStatus(status),
	})
	if err != nil {
		return called(ctx, err, "make %s %s", instance, status)
	}
	if len(out.Failures) == 0 {
		return nil
	}
	f := out.Failures[0] // one was asked for
	code := failure.AWSUnavailable
	if reason := aws.ToString(f.Reason); reason == Inactive || reason == "MISSING" {
		code = failure.InstanceInactive
	}
	return failure.New(code, "make %s %s: ECS says %s", instance, status, aws.ToString(f.Reason)).
		WithEvidence("%s: %s %s", aws.ToString(f.Arn), aws.ToString(f.Reason), aws.ToString(f.Detail))
}

// DeregisterInstance makes ECS forget a container instance, which is final. was is false when it was gone already. While
// tasks run on it ECS refuses (failure.TasksRunning) unless force, which leaves their containers running with nobody to
// look after them.
func (o *Operator) DeregisterInstance(ctx context.Context, cluster, instance string, force bool) (was bool, err error) {
	_, err = o.ecs.DeregisterContainerInstance(ctx, &ecs.DeregisterContainerInstanceInput{
		Cluster: &cluster, ContainerInstance: &instance, Force: &force,
	})
	if err == nil {
		return true, nil
	}
	f := called(ctx, err, "deregister %s from cluster %s", instance, cluster)
	switch {
	case instanceGone(f):
		return false, nil
	case f.Code == failure.Usage && strings.Contains(f.Evidence, "running tasks"):
		f.Code = failure.TasksRunning
		f.Remedy = "anywhere drain moves them away; or leave them running with nobody to look after them: --force --accept-risk running-tasks"
	}
	return false, f
}

// instanceGone tells ECS's answer about a container instance that it does not know or has deregistered. Its words, as
// ClientException or InvalidParameterException: "The specified container instance was not found.", "The referenced
// container instance was not found." or "… is inactive" (issues of aws/amazon-ecs-agent, read 2026-11-25).
func instanceGone(f *failure.Error) bool {
	about := strings.ToLower(f.Evidence)
	return strings.Contains(about, "container instance") &&
		(strings.Contains(about, "not found") || strings.Contains(about, "inactive"))
}

// DeregisterNode makes Systems Manager forget a managed node. was is false when it was gone already. The node's own role
// may not do it (facts: aws A2).
func (o *Operator) DeregisterNode(ctx context.Context, node string) (was bool, err error) {
	_, err = o.ssm.DeregisterManagedInstance(ctx, &ssm.DeregisterManagedInstanceInput{InstanceId: &node})
	if err == nil {
		return true, nil
	}
	f := called(ctx, err, "deregister the managed node %s", node)
	if f.Code == failure.NodeUnknown {
		return false, nil
	}
	return false, f
}

// What the rights are tried with: nothing has these ids. IAM decides before a service looks whether a thing is there, so
// AWS's other answers all mean that the caller may. The resource of ecs:DeregisterContainerInstance is the cluster, so
// that answer holds for every instance of it; ssm:DeregisterManagedInstance can be restricted to single nodes, and the
// answer is then a denial although the one node would be allowed. Source: Service Authorization Reference, ECS and
// Systems Manager, read 2026-11-25.
const (
	noInstance = "00000000000000000000000000000000"
	noTask     = noInstance
	noNode     = "mi-00000000000000000"
)

// MayDeregisterInstance settles, without changing anything, whether the caller may deregister container instances of a
// cluster. A denial is an error, and so is AWS's silence.
func (o *Operator) MayDeregisterInstance(ctx context.Context, cluster string) error {
	_, err := o.DeregisterInstance(ctx, cluster, noInstance, false)
	return unlessMay(err)
}

// MayDeregisterNode settles, without changing anything, whether the caller may deregister managed nodes.
func (o *Operator) MayDeregisterNode(ctx context.Context) error {
	_, err := o.DeregisterNode(ctx, noNode)
	return unlessMay(err)
}

// MaySetInstanceStatus settles, without changing anything, whether the caller may drain a container instance: it is set to
// the status that it has.
func (o *Operator) MaySetInstanceStatus(ctx context.Context, cluster, instance, now string) error {
	return unlessMay(o.SetInstanceStatus(ctx, cluster, instance, now))
}

// MayStopTask settles, without changing anything, whether the caller may stop tasks of a cluster. That right can be
// restricted to single tasks too; then the answer is a denial although a task would be allowed.
func (o *Operator) MayStopTask(ctx context.Context, cluster string) error {
	return unlessMay(o.StopTask(ctx, cluster, noTask, "never"))
}

// MayDrain settles, without changing anything, whether the caller may set the status of container instances of a cluster,
// where it cannot see which one an instance has.
func (o *Operator) MayDrain(ctx context.Context, cluster string) error {
	return o.MaySetInstanceStatus(ctx, cluster, noInstance, Active)
}

// MayListTasks settles whether the caller may see the tasks of a container instance.
func (o *Operator) MayListTasks(ctx context.Context, cluster, instance string) error {
	_, err := o.SeeTasks(ctx, cluster, instance)
	return unlessMay(err)
}

// unlessMay passes on what says that the caller may not, or that nobody knows; every other answer is about the thing that
// was named.
func unlessMay(err error) error {
	if err == nil {
		return nil
	}
	switch failure.Of(err).Code {
	case failure.Usage, failure.InstanceInactive, failure.NodeUnknown, failure.TasksRunning, failure.Internal:
		return nil
	}
	return err
}
