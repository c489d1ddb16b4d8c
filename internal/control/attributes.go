package control

import (
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// maxAttributes is how many attributes one PutAttributes takes. Source: ECS API reference, PutAttributes, read 2026-11-25.
const maxAttributes = 10

// InstanceAttributes are the attributes of a container instance, given by name or ARN of its cluster and by its ARN. Those
// without a value, which the agent makes of its capabilities, have an empty one.
func (o *Operator) InstanceAttributes(ctx context.Context, cluster, instance string) (map[string]string, error) {
	out, err := o.ecs.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{
		Cluster: &cluster, ContainerInstances: []string{instance},
	})
	if err != nil {
		return nil, called(ctx, err, "read the attributes of %s", instance)
	}
	if len(out.Failures) > 0 { // one was asked for
		f := out.Failures[0]
		return nil, failure.New(failure.InstanceInactive, "read the attributes of %s: ECS says %s", instance, aws.ToString(f.Reason)).
			WithEvidence("%s: %s %s", aws.ToString(f.Arn), aws.ToString(f.Reason), aws.ToString(f.Detail))
	}
	if len(out.ContainerInstances) != 1 {
		return nil, failure.New(failure.AWSUnavailable, "read the attributes of %s: it is not in ECS's answer", instance)
	}
	attributes := map[string]string{}
	for _, a := range out.ContainerInstances[0].Attributes {
		attributes[aws.ToString(a.Name)] = aws.ToString(a.Value)
	}
	return attributes, nil
}

// PutInstanceAttributes sets attributes of a container instance and leaves its others alone.
func (o *Operator) PutInstanceAttributes(ctx context.Context, cluster, instance string, attributes map[string]string) error {
	for names := range slices.Chunk(slices.Sorted(maps.Keys(attributes)), maxAttributes) {
		in := &ecs.PutAttributesInput{Cluster: &cluster}
		for _, name := range names {
			in.Attributes = append(in.Attributes, types.Attribute{
				Name: &name, Value: aws.String(attributes[name]), TargetType: types.TargetTypeContainerInstance, TargetId: &instance,
			})
		}
		if _, err := o.ecs.PutAttributes(ctx, in); err != nil {
			return called(ctx, err, "set attributes of %s", instance)
		}
	}
	return nil
}
