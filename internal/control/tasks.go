package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// How much one call takes. Source: ECS API reference, ListTasks, DescribeTasks, DescribeServices and ListClusters, read
// 2026-11-25.
const (
	maxListed   = 100
	maxTasks    = 100
	maxServices = 10
)

// TaskSight is a task as ECS has it.
type TaskSight struct {
	ARN        string
	Service    string // name; empty for a standalone task
	Group      string // "service:NAME", "family:NAME", or what run-task was told
	Definition string // ARN of its task definition
	StartedBy  string
	Last       string // lastStatus: PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING …, never STOPPED here
	Desired    string // desiredStatus
	Started    time.Time
}

// ServiceSight is a service as ECS has it.
type ServiceSight struct {
	Name             string
	Desired, Running int
	Minimum, Maximum int // percent of Desired that a deployment keeps running, and may run
	Daemon           bool
	Definition       string // ARN of its task definition
}

// SeeTasks lists the tasks of a container instance that have not stopped, whatever is desired of them: one that is told to
// stop still runs its containers, and is in none of ECS's counts (facts: aws B4).
func (o *Operator) SeeTasks(ctx context.Context, cluster, instance string) ([]TaskSight, error) {
	var arns []string
	for _, desired := range []types.DesiredStatus{types.DesiredStatusRunning, types.DesiredStatusStopped} {
		pages := ecs.NewListTasksPaginator(o.ecs, &ecs.ListTasksInput{
			Cluster: &cluster, ContainerInstance: &instance, DesiredStatus: desired, MaxResults: aws.Int32(maxListed),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, called(ctx, err, "list the tasks of %s", instance)
			}
			arns = append(arns, page.TaskArns...)
		}
	}
	slices.Sort(arns) // one that was told to stop in between is in both lists
	var all []TaskSight
	for some := range slices.Chunk(slices.Compact(arns), maxTasks) {
		out, err := o.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: some})
		if err != nil {
			return nil, called(ctx, err, "look at the tasks of %s", instance)
		}
		if err := failed(out.Failures, "look at the tasks of "+instance); err != nil {
			return nil, err
		}
		for _, t := range out.Tasks {
			if s := taskSight(t); s.Last != string(types.DesiredStatusStopped) {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

func taskSight(t types.Task) TaskSight {
	s := TaskSight{
		ARN: aws.ToString(t.TaskArn), Group: aws.ToString(t.Group), Definition: aws.ToString(t.TaskDefinitionArn),
		StartedBy: aws.ToString(t.StartedBy), Last: aws.ToString(t.LastStatus), Desired: aws.ToString(t.DesiredStatus),
		Started: aws.ToTime(t.StartedAt),
	}
	s.Service, _ = strings.CutPrefix(s.Group, "service:")
	if s.Service == s.Group {
		s.Service = ""
	}
	return s
}

// failed makes an error of failures[], but for what is not there: a task is forgotten some time after it stopped.
func failed(failures []types.Failure, tried string) error {
	for _, f := range failures {
		if reason := aws.ToString(f.Reason); reason != "MISSING" {
			return failure.New(failure.AWSUnavailable, "%s: ECS says %s", tried, reason).
				WithEvidence("%s: %s %s", aws.ToString(f.Arn), reason, aws.ToString(f.Detail))
		}
	}
	return nil
}

// StopTask tells a task to stop; ECS shows reason with it. One that is gone is no error.
func (o *Operator) StopTask(ctx context.Context, cluster, task, reason string) error {
	_, err := o.ecs.StopTask(ctx, &ecs.StopTaskInput{Cluster: &cluster, Task: &task, Reason: &reason})
	if err == nil {
		return nil
	}
	f := called(ctx, err, "stop the task %s", task)
	if f.Code == failure.Usage { // InvalidParameterException: "The referenced task was not found."
		return nil
	}
	return f
}

// SeeServices looks at services of a cluster, by name; those that are gone are left out.
func (o *Operator) SeeServices(ctx context.Context, cluster string, names []string) ([]ServiceSight, error) {
	var all []ServiceSight
	for some := range slices.Chunk(names, maxServices) {
		out, err := o.ecs.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &cluster, Services: some})
		if err != nil {
			return nil, called(ctx, err, "look at the services of cluster %s", cluster)
		}
		if err := failed(out.Failures, "look at the services of cluster "+cluster); err != nil {
			return nil, err
		}
		for _, s := range out.Services {
			sight := ServiceSight{
				Name: aws.ToString(s.ServiceName), Desired: int(s.DesiredCount), Running: int(s.RunningCount),
				Minimum: 100, Maximum: 200, Daemon: s.SchedulingStrategy == types.SchedulingStrategyDaemon,
				Definition: aws.ToString(s.TaskDefinition),
			}
			if d := s.DeploymentConfiguration; d != nil { // what ECS leaves out is its default: 100 and 200
				sight.Minimum = percent(d.MinimumHealthyPercent, sight.Minimum)
				sight.Maximum = percent(d.MaximumPercent, sight.Maximum)
			}
			all = append(all, sight)
		}
	}
	return all, nil
}

func percent(value *int32, missing int) int {
	if value == nil {
		return missing
	}
	return int(*value)
}

// Elsewhere lists the other container instances of a cluster that tasks can be placed on now: ACTIVE, with an agent that
// is connected.
func (o *Operator) Elsewhere(ctx context.Context, cluster, instance string) (arns []string, err error) {
	pages := ecs.NewListContainerInstancesPaginator(o.ecs, &ecs.ListContainerInstancesInput{
		Cluster: &cluster, Status: types.ContainerInstanceStatusActive, Filter: aws.String("agentConnected == true"),
		MaxResults: aws.Int32(maxListed),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called(ctx, err, "list the container instances of cluster %s", cluster)
		}
		for _, arn := range page.ContainerInstanceArns {
			if arn != instance {
				arns = append(arns, arn)
			}
		}
	}
	return arns, nil
}

// HostPorts are the ports of its host that a task of this definition takes, whichever host that is; none where Docker
// chooses them.
func (o *Operator) HostPorts(ctx context.Context, definition string) (ports []int, err error) {
	out, err := o.ecs.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &definition})
	if err != nil {
		return nil, called(ctx, err, "look at the task definition %s", definition)
	}
	if out.TaskDefinition == nil {
		return nil, failure.New(failure.AWSUnavailable, "look at the task definition %s: it is not in ECS's answer", definition)
	}
	for _, c := range out.TaskDefinition.ContainerDefinitions {
		for _, p := range c.PortMappings {
			port := int(aws.ToInt32(p.HostPort))
			if out.TaskDefinition.NetworkMode == types.NetworkModeHost && port == 0 {
				port = int(aws.ToInt32(p.ContainerPort))
			}
			if port != 0 {
				ports = append(ports, port)
			}
		}
	}
	return ports, nil
}

// InstancesOfService are the container instances on which a service has tasks that run or are to run, each once.
func (o *Operator) InstancesOfService(ctx context.Context, cluster, service string) (arns []string, err error) {
	pages := ecs.NewListTasksPaginator(o.ecs, &ecs.ListTasksInput{
		Cluster: &cluster, ServiceName: &service, MaxResults: aws.Int32(maxTasks),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called(ctx, err, "list the tasks of service %s", service)
		}
		if len(page.TaskArns) == 0 {
			continue
		}
		out, err := o.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: page.TaskArns})
		if err != nil {
			return nil, called(ctx, err, "look at the tasks of service %s", service)
		}
		if err := failed(out.Failures, "look at the tasks of service "+service); err != nil {
			return nil, err
		}
		for _, t := range out.Tasks {
			arns = append(arns, aws.ToString(t.ContainerInstanceArn))
		}
	}
	slices.Sort(arns)
	return slices.Compact(arns), nil
}

// ServiceNames lists the services of a cluster.
func (o *Operator) ServiceNames(ctx context.Context, cluster string) ([]string, error) {
	return names(ctx, ecs.NewListServicesPaginator(o.ecs, &ecs.ListServicesInput{
		Cluster: &cluster, MaxResults: aws.Int32(maxListed),
	}), func(page *ecs.ListServicesOutput) []string { return page.ServiceArns }, "list the services of cluster "+cluster)
}

// SeeClusters lists the names of all clusters of the account and Region.
func (o *Operator) SeeClusters(ctx context.Context) ([]string, error) {
	return names(ctx, ecs.NewListClustersPaginator(o.ecs, &ecs.ListClustersInput{MaxResults: aws.Int32(maxListed)}),
		func(page *ecs.ListClustersOutput) []string { return page.ClusterArns }, "list the clusters")
}

// pager is one of the SDK's paginators.
type pager[P any] interface {
	HasMorePages() bool
	NextPage(ctx context.Context, options ...func(*ecs.Options)) (P, error)
}

// names are the last parts of all ARNs that a paginator gives.
func names[P any](ctx context.Context, pages pager[P], arns func(P) []string, tried string) ([]string, error) {
	var all []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called(ctx, err, "%s", tried)
		}
		for _, arn := range arns(page) {
			all = append(all, arn[strings.LastIndexByte(arn, '/')+1:])
		}
	}
	return all, nil
}
