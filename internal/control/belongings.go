package control

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Belongings are what people have put on a container instance. A new instance of the same host has of it only what the
// agent's configuration says.
type Belongings struct {
	Attributes map[string]string // custom ones; "" is one without a value
	Tags       map[string]string
}

// agentsOwn begin the names of the attributes that the ECS agent and ECS give an instance by themselves. Source: ECS
// developer guide, "Amazon ECS-optimized container instance attributes", and the request of agent 1.105.1, 2026-11-25.
var agentsOwn = []string{"ecs.", "com.amazonaws.ecs."}

// reserved begins the keys of tags that only AWS writes. Source: ECS developer guide, "Tag restrictions", read 2026-11-25.
const reserved = "aws:"

// InstanceBelongings reads them; found is false when ECS does not know the instance.
func (o *Operator) InstanceBelongings(ctx context.Context, cluster, instance string) (b Belongings, found bool, err error) {
	out, err := o.ecs.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{
		Cluster: &cluster, ContainerInstances: []string{instance}, Include: []types.ContainerInstanceField{types.ContainerInstanceFieldTags},
	})
	if err != nil {
		return b, false, called(ctx, err, "read the attributes and tags of %s", instance)
	}
	for _, f := range out.Failures { // one was asked for
		if reason := aws.ToString(f.Reason); reason != "MISSING" {
			return b, false, failure.New(failure.AWSUnavailable, "read the attributes and tags of %s: ECS says %s", instance, reason).
				WithEvidence("%s: %s %s", aws.ToString(f.Arn), reason, aws.ToString(f.Detail))
		}
	}
	if len(out.ContainerInstances) != 1 {
		return b, false, nil
	}
	b = Belongings{Attributes: map[string]string{}, Tags: map[string]string{}}
	for _, a := range out.ContainerInstances[0].Attributes {
		name := aws.ToString(a.Name)
		if !slices.ContainsFunc(agentsOwn, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			b.Attributes[name] = aws.ToString(a.Value)
		}
	}
	for _, t := range out.ContainerInstances[0].Tags {
		if key := aws.ToString(t.Key); !strings.HasPrefix(strings.ToLower(key), reserved) {
			b.Tags[key] = aws.ToString(t.Value)
		}
	}
	return b, true, nil
}

// TagInstance sets tags of a container instance and leaves its others alone.
func (o *Operator) TagInstance(ctx context.Context, instance string, tags map[string]string) error {
	in := &ecs.TagResourceInput{ResourceArn: &instance}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		in.Tags = append(in.Tags, types.Tag{Key: &key, Value: aws.String(tags[key])})
	}
	if _, err := o.ecs.TagResource(ctx, in); err != nil {
		return called(ctx, err, "set tags of %s", instance)
	}
	return nil
}
