package control

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// DefinitionSight is a task definition as far as it matters to where its tasks can run.
type DefinitionSight struct {
	Name           string   // family:revision
	Compatible     []string // launch types that it was registered for; empty is any
	Network        string   // network mode; empty is bridge
	OS, Arch       string   // LINUX, WINDOWS_…; X86_64, ARM64; empty is any
	Proxy          string   // APPMESH; empty is none
	EFS, FSx, EBS  []string // names of volumes of that kind
	GPU            bool
	FaultInjection bool
	Ephemeral      bool     // ephemeral storage of a size
	LogDrivers     []string // of its containers
}

// ServiceNeeds is a service as far as it matters to where its tasks can run.
type ServiceNeeds struct {
	Name       string
	Definition string // ARN of its task definition
	LaunchType string // EXTERNAL, EC2, FARGATE; empty where capacity providers decide
	Providers  []string
	Balanced   bool // it stands behind a load balancer
	Discovered bool // it is in Cloud Map
	Connected  bool // it is in a mesh of Service Connect or VPC Lattice
	Volumes    bool // its tasks get EBS volumes
}

// SeeTaskDefinition looks at one task definition, by ARN, family:revision, or family.
func (o *Operator) SeeTaskDefinition(ctx context.Context, name string) (DefinitionSight, error) {
	out, err := o.ecs.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &name})
	if err != nil {
		return DefinitionSight{}, called(ctx, err, "look at the task definition %s", name)
	}
	return definitionSight(*out.TaskDefinition), nil
}

func definitionSight(d types.TaskDefinition) DefinitionSight {
	arn := aws.ToString(d.TaskDefinitionArn)
	s := DefinitionSight{
		Name: arn[strings.LastIndexByte(arn, '/')+1:], Network: string(d.NetworkMode),
		FaultInjection: aws.ToBool(d.EnableFaultInjection), Ephemeral: d.EphemeralStorage != nil,
	}
	for _, c := range d.RequiresCompatibilities {
		s.Compatible = append(s.Compatible, string(c))
	}
	if p := d.RuntimePlatform; p != nil {
		s.OS, s.Arch = string(p.OperatingSystemFamily), string(p.CpuArchitecture)
	}
	if d.ProxyConfiguration != nil {
		s.Proxy = string(d.ProxyConfiguration.Type)
		if s.Proxy == "" {
			s.Proxy = "APPMESH" // the only one there is
		}
	}
	for _, v := range d.Volumes {
		name := aws.ToString(v.Name)
		switch {
		case v.EfsVolumeConfiguration != nil:
			s.EFS = append(s.EFS, name)
		case v.FsxWindowsFileServerVolumeConfiguration != nil:
			s.FSx = append(s.FSx, name)
		case aws.ToBool(v.ConfiguredAtLaunch):
			s.EBS = append(s.EBS, name)
		}
	}
	for _, c := range d.ContainerDefinitions {
		for _, r := range c.ResourceRequirements {
			s.GPU = s.GPU || r.Type == types.ResourceTypeGpu
		}
		if l := c.LogConfiguration; l != nil && !slices.Contains(s.LogDrivers, string(l.LogDriver)) {
			s.LogDrivers = append(s.LogDrivers, string(l.LogDriver))
		}
	}
	return s
}

// SeeNeeds looks at all services of a cluster.
func (o *Operator) SeeNeeds(ctx context.Context, cluster string) ([]ServiceNeeds, error) {
	names, err := o.ServiceNames(ctx, cluster)
	if err != nil {
		return nil, err
	}
	var all []ServiceNeeds
	for some := range slices.Chunk(names, maxServices) {
		out, err := o.ecs.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &cluster, Services: some})
		if err != nil {
			return nil, called(ctx, err, "look at the services of cluster %s", cluster)
		}
		if err := failed(out.Failures, "look at the services of cluster "+cluster); err != nil {
			return nil, err
		}
		for _, s := range out.Services {
			if aws.ToString(s.Status) == "INACTIVE" {
				continue
			}
			needs := ServiceNeeds{
				Name: aws.ToString(s.ServiceName), Definition: aws.ToString(s.TaskDefinition), LaunchType: string(s.LaunchType),
				Balanced: len(s.LoadBalancers) > 0, Discovered: len(s.ServiceRegistries) > 0,
			}
			for _, p := range s.CapacityProviderStrategy {
				needs.Providers = append(needs.Providers, aws.ToString(p.CapacityProvider))
			}
			for _, d := range s.Deployments {
				if aws.ToString(d.Status) == "PRIMARY" {
					c := d.ServiceConnectConfiguration
					needs.Connected = c != nil && c.Enabled || len(d.VpcLatticeConfigurations) > 0
					needs.Volumes = len(d.VolumeConfigurations) > 0
				}
			}
			all = append(all, needs)
		}
	}
	return all, nil
}

// SeeUsed finds the task definitions of a cluster's tasks that have not stopped: the ARNs, each with how many tasks it has.
func (o *Operator) SeeUsed(ctx context.Context, cluster string) (map[string]int, error) {
	var arns []string
	pages := ecs.NewListTasksPaginator(o.ecs, &ecs.ListTasksInput{Cluster: &cluster, MaxResults: aws.Int32(maxListed)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called(ctx, err, "list the tasks of cluster %s", cluster)
		}
		arns = append(arns, page.TaskArns...)
	}
	used := map[string]int{}
	for some := range slices.Chunk(arns, maxTasks) {
		out, err := o.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: some})
		if err != nil {
			return nil, called(ctx, err, "look at the tasks of cluster %s", cluster)
		}
		if err := failed(out.Failures, "look at the tasks of cluster "+cluster); err != nil {
			return nil, err
		}
		for _, t := range out.Tasks {
			used[aws.ToString(t.TaskDefinitionArn)]++
		}
	}
	return used, nil
}

// LatestDefinitions are the ARNs of the newest revision of each family of task definitions, at most so many families; more
// says that there are others.
func (o *Operator) LatestDefinitions(ctx context.Context, most int) (arns []string, more bool, err error) {
	pages := ecs.NewListTaskDefinitionsPaginator(o.ecs, &ecs.ListTaskDefinitionsInput{
		Status: types.TaskDefinitionStatusActive, Sort: types.SortOrderDesc, MaxResults: aws.Int32(maxListed),
	})
	last := ""
	for n := 0; pages.HasMorePages(); n++ {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, false, called(ctx, err, "list the task definitions")
		}
		for _, arn := range page.TaskDefinitionArns { // the revisions of a family stand together, the newest first
			family, _, _ := strings.Cut(arn[strings.LastIndexByte(arn, '/')+1:], ":")
			if family == last {
				continue
			}
			if len(arns) == most {
				return arns, true, nil
			}
			arns, last = append(arns, arn), family
		}
		if n == definitionPages && pages.HasMorePages() {
			return arns, true, nil
		}
	}
	return arns, false, nil
}

// definitionPages bounds how long the list is followed: an account can have a hundred thousand revisions.
const definitionPages = 20
