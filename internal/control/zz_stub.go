package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func (o *Operator) SetInstanceStatus(ctx context.Context, cluster, instance, status string) error {
	out, err := o.ecs.UpdateContainerInstancesState(ctx, &ecs.UpdateContainerInstancesStateInput{Cluster: &cluster, ContainerInstances: []string{instance}, Status: types.ContainerInstanceStatus(status)})
	if err != nil {
		return called(ctx, err, "set")
	}
	if len(out.Failures) > 0 {
		return failure.New(failure.InstanceInactive, "gone")
	}
	return nil
}
func (o *Operator) DeregisterInstance(ctx context.Context, cluster, instance string, force bool) (bool, error) {
	i, found, err := o.Instance(ctx, cluster, instance)
	if err == nil && (!found || i.Status == "INACTIVE") {
		return false, nil
	}
	_, err = o.ecs.DeregisterContainerInstance(ctx, &ecs.DeregisterContainerInstanceInput{Cluster: &cluster, ContainerInstance: &instance, Force: aws.Bool(force)})
	if err != nil {
		return false, called(ctx, err, "deregister")
	}
	return true, nil
}
func (o *Operator) MayDeregisterInstance(ctx context.Context, cluster, instance string) error {
	return nil
}
func (o *Operator) MaySetInstanceStatus(ctx context.Context, cluster, instance string) error {
	return nil
}
