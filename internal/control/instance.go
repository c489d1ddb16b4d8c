package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Instance is a container instance as ECS has it.
type Instance struct {
	ARN       string
	Node      string // mi-…
	Status    string // ACTIVE, DRAINING, REGISTERING, DEREGISTERING, REGISTRATION_FAILED or INACTIVE
	Reason    string // of the status; mostly empty
	Connected bool   // its agent has a connection to ECS now
	// GPUs are the ids of those that tasks can be given. It is nil where ECS shows no resources at all.
	GPUs []string
}

// maxDescribed is how many instances one call describes. Source: ECS API reference, DescribeContainerInstances, read
// 2026-11-22.
const maxDescribed = 100

// Instance finds a container instance by its ARN; found is false when ECS does not know it in this cluster.
func (o *Operator) Instance(ctx context.Context, cluster, arn string) (i Instance, found bool, err error) {
	all, err := o.describe(ctx, cluster, []string{arn})
	if err != nil || len(all) == 0 {
		return Instance{}, false, err
	}
	return all[0], true, nil
}

// InstancesOf lists the container instances of a managed node in a cluster, those that were deregistered not.
func (o *Operator) InstancesOf(ctx context.Context, cluster, node string) ([]Instance, error) {
	var all []Instance
	pages := ecs.NewListContainerInstancesPaginator(o.ecs, &ecs.ListContainerInstancesInput{
		Cluster: &cluster, Filter: aws.String("ec2InstanceId == " + node), MaxResults: aws.Int32(maxDescribed),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called(ctx, err, "look for the container instances of %s in cluster %s", node, cluster)
		}
		if len(page.ContainerInstanceArns) == 0 {
			continue
		}
		some, err := o.describe(ctx, cluster, page.ContainerInstanceArns)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// describe looks up to maxDescribed instances up. Those that ECS does not know are left out; any other failure of one is
// an error.
func (o *Operator) describe(ctx context.Context, cluster string, arns []string) ([]Instance, error) {
	out, err := o.ecs.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{
		Cluster: &cluster, ContainerInstances: arns,
	})
	if err != nil {
		return nil, called(ctx, err, "ask ECS for the container instance in cluster %s of %s", cluster, o.Region)
	}
	for _, f := range out.Failures {
		if reason := aws.ToString(f.Reason); reason != "MISSING" {
			return nil, failure.New(failure.AWSUnavailable, "ask ECS for %s: it says %s", aws.ToString(f.Arn), reason).
				WithEvidence("%s: %s %s", aws.ToString(f.Arn), reason, aws.ToString(f.Detail))
		}
	}
	all := make([]Instance, 0, len(out.ContainerInstances))
	for _, i := range out.ContainerInstances {
		all = append(all, instanceOf(i))
	}
	return all, nil
}

func instanceOf(i ecstypes.ContainerInstance) Instance {
	var gpus []string
	if len(i.RegisteredResources) > 0 {
		gpus = []string{}
	}
	for _, r := range i.RegisteredResources {
		if aws.ToString(r.Name) == "GPU" {
			gpus = append(gpus, r.StringSetValue...)
		}
	}
	return Instance{
		GPUs: gpus,
		ARN:  aws.ToString(i.ContainerInstanceArn), Node: aws.ToString(i.Ec2InstanceId), Status: aws.ToString(i.Status),
		Reason: aws.ToString(i.StatusReason), Connected: i.AgentConnected,
	}
}

// Node is a managed node as Systems Manager has it.
type Node struct {
	ID           string // mi-…
	Ping         string // Online, ConnectionLost or Inactive
	Computer, IP string // as its agent last told them
}

// Online is the ping status of a node whose agent is connected.
const Online = string(ssmtypes.PingStatusOnline)

// Node finds a managed node by its id; found is false when Systems Manager does not know it in this account and Region.
// It says so by an empty list, or by an error (facts: aws A7).
func (o *Operator) Node(ctx context.Context, id string) (n Node, found bool, err error) {
	out, err := o.ssm.DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{
		Filters: []ssmtypes.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: []string{id}}},
	})
	if err != nil {
		f := called(ctx, err, "ask Systems Manager for %s in %s", id, o.Region)
		if f.Code == failure.NodeUnknown {
			return Node{}, false, nil
		}
		return Node{}, false, f
	}
	for _, i := range out.InstanceInformationList {
		if aws.ToString(i.InstanceId) == id {
			return Node{
				ID: id, Ping: string(i.PingStatus),
				Computer: aws.ToString(i.ComputerName), IP: aws.ToString(i.IPAddress),
			}, true, nil
		}
	}
	return Node{}, false, nil
}
