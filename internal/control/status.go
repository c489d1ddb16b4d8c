package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// InstanceSight is a container instance as ECS has it.
type InstanceSight struct {
	ARN          string
	NodeID       string // mi-…: ECS has it as the EC2 instance's id
	Status       string // ACTIVE, DRAINING, INACTIVE, REGISTERING, DEREGISTERING, REGISTRATION_FAILED
	Connected    bool
	AgentVersion string
	Docker       string
	Running      int
	Pending      int
	Registered   time.Time
}

// NodeSight is a managed node as Systems Manager has it.
type NodeSight struct {
	ID           string
	PingStatus   string // Online, ConnectionLost or Inactive
	LastPing     time.Time
	AgentVersion string
	Role         string
	Name         string
	IP           string
	ActivationID string
}

// SeeInstance asks ECS for one container instance of a cluster, by name or ARN; found is false when ECS has none of that
// ARN there. A cluster that is not there is failure.ClusterNotFound.
func (o *Operator) SeeInstance(ctx context.Context, cluster, arn string) (i InstanceSight, found bool, err error) {
	all, err := o.seeInstances(ctx, cluster, []string{arn})
	if err != nil || len(all) == 0 {
		return InstanceSight{}, false, err
	}
	return all[0], true, nil
}

// SeeInstancesOf finds the container instances that a managed node has in a cluster, but for INACTIVE ones. There should
// be one: a node that lost its state and registered anew leaves others behind.
func (o *Operator) SeeInstancesOf(ctx context.Context, cluster, nodeID string) ([]InstanceSight, error) {
	pages := ecs.NewListContainerInstancesPaginator(o.ecs, &ecs.ListContainerInstancesInput{
		Cluster: &cluster, Filter: aws.String("ec2InstanceId == " + nodeID),
	})
	var all []InstanceSight
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called(ctx, err, "list the container instances of %s in cluster %s", nodeID, cluster)
		}
		if len(page.ContainerInstanceArns) == 0 {
			continue
		}
		more, err := o.seeInstances(ctx, cluster, page.ContainerInstanceArns)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func (o *Operator) seeInstances(ctx context.Context, cluster string, arns []string) ([]InstanceSight, error) {
	out, err := o.ecs.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{
		Cluster: &cluster, ContainerInstances: arns,
	})
	if err != nil {
		return nil, called(ctx, err, "look at the container instance in cluster %s", cluster)
	}
	for _, f := range out.Failures {
		if reason := aws.ToString(f.Reason); reason != "MISSING" {
			return nil, failure.New(failure.Internal, "look at the container instance in cluster %s: ECS says %s", cluster, reason).
				WithEvidence("%s: %s %s", aws.ToString(f.Arn), reason, aws.ToString(f.Detail))
		}
	}
	var all []InstanceSight
	for _, i := range out.ContainerInstances {
		all = append(all, instanceSight(i))
	}
	return all, nil
}

func instanceSight(i ecstypes.ContainerInstance) InstanceSight {
	s := InstanceSight{
		ARN: aws.ToString(i.ContainerInstanceArn), NodeID: aws.ToString(i.Ec2InstanceId), Status: aws.ToString(i.Status),
		Connected: i.AgentConnected, Running: int(i.RunningTasksCount), Pending: int(i.PendingTasksCount),
		Registered: aws.ToTime(i.RegisteredAt),
	}
	if v := i.VersionInfo; v != nil {
		s.AgentVersion, s.Docker = aws.ToString(v.AgentVersion), aws.ToString(v.DockerVersion)
	}
	return s
}

// SeeNode asks Systems Manager for a managed node; found is false when it does not know it.
func (o *Operator) SeeNode(ctx context.Context, id string) (n NodeSight, found bool, err error) {
	out, err := o.ssm.DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{
		Filters: []ssmtypes.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: []string{id}}},
	})
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "InvalidInstanceId" {
		return NodeSight{}, false, nil
	}
	if err != nil {
		return NodeSight{}, false, called(ctx, err, "look at the managed node %s", id)
	}
	for _, i := range out.InstanceInformationList {
		if aws.ToString(i.InstanceId) == id {
			return NodeSight{
				ID: id, PingStatus: string(i.PingStatus), LastPing: aws.ToTime(i.LastPingDateTime),
				AgentVersion: aws.ToString(i.AgentVersion), Role: aws.ToString(i.IamRole), Name: aws.ToString(i.Name),
				IP: aws.ToString(i.IPAddress), ActivationID: aws.ToString(i.ActivationId),
			}, true, nil
		}
	}
	return NodeSight{}, false, nil
}

// SeeRole is the role that an activation gives its nodes; empty when the activation is gone. A node's role can be changed
// after its registration (ssm:UpdateManagedInstanceRole).
func (o *Operator) SeeRole(ctx context.Context, activationID string) (string, error) {
	if activationID == "" {
		return "", nil
	}
	out, err := o.ssm.DescribeActivations(ctx, &ssm.DescribeActivationsInput{
		Filters: []ssmtypes.DescribeActivationsFilter{{
			FilterKey: ssmtypes.DescribeActivationsFilterKeysActivationIds, FilterValues: []string{activationID},
		}},
	})
	if err != nil {
		return "", called(ctx, err, "look at the activation %s", activationID)
	}
	for _, a := range out.ActivationList {
		if aws.ToString(a.ActivationId) == activationID {
			return aws.ToString(a.IamRole), nil
		}
	}
	return "", nil
}

// String names an instance in a sentence.
func (i InstanceSight) String() string {
	connected := "not connected"
	if i.Connected {
		connected = "connected"
	}
	return fmt.Sprintf("%s (%s, %s, registered %s)", i.ARN, i.Status, connected, i.Registered.UTC().Format(time.RFC3339))
}
