package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// DoctorLimit is a task definition or a service that cannot run on this host.
type DoctorLimit struct {
	TaskDefinition string   `json:"taskDefinition"` // family:revision
	UsedBy         []string `json:"usedBy"`         // services and tasks of the cluster that use it; empty when none does
	Limit          string   `json:"limit"`          // id of the limit; docs/limits.md has them all
	Why            string   `json:"why"`            // what in it cannot be
	Instead        string   `json:"instead"`        // what to use instead
}

// Limit is something that external instances cannot do.
type Limit struct {
	ID      string
	What    string // what cannot be
	Instead string // what to use instead
	Source  string
	// ofTask and ofService say what in a task definition, or in a service, comes up against the limit; empty when nothing does.
	// A limit without either is one that no definition shows.
	ofTask    func(control.DefinitionSight, instanceFacts) string
	ofService func(control.ServiceNeeds) string
}

// instanceFacts are what of this host decides about task definitions.
type instanceFacts struct {
	arch       string // X86_64 or ARM64
	gpu        bool   // GPUs are turned on
	logDrivers []string
}

// Where the limits come from.
const (
	sourceConsiderations = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-anywhere.html, read " +
		"2026-11-22"
	sourceCapabilities = "aws/amazon-ecs-agent 1.105.1, agent/app/agent_capability.go: the attribute is taken " +
		"away on external instances"
)

// Limits are what external instances cannot do. docs/limits.md is held to them by a test.
var Limits = []Limit{
	{
		ID: "launch-type", What: "Run a task definition that was registered for other launch types only " +
			"(`requiresCompatibilities` without `EXTERNAL`)",
		Instead: "register a revision with \"requiresCompatibilities\": [\"EXTERNAL\"], or with none; the console " +
			"takes it as JSON only", Source: sourceConsiderations,
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			if len(d.Compatible) == 0 || slices.Contains(d.Compatible, "EXTERNAL") {
				return ""
			}
			return "it was registered for " + strings.Join(d.Compatible, " and ") + ", and not for EXTERNAL"
		},
		ofService: func(s control.ServiceNeeds) string {
			if s.LaunchType == "" || s.LaunchType == "EXTERNAL" {
				return ""
			}
			return "service " + s.Name + " has the launch type " + s.LaunchType + ", so none of its tasks is placed here"
		},
	},
	{
		ID: "network-mode", What: "Give a task a network interface of its own (`awsvpc`)",
		Instead: "\"networkMode\": \"bridge\", \"host\" or \"none\"; with bridge, hostPort 0 gives each task a free " +
			"port", Source: sourceConsiderations,
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			if d.Network != "awsvpc" {
				return ""
			}
			return "its network mode is awsvpc"
		},
	},
	{
		ID: "efs", What: "Mount EFS volumes through ECS (`efsVolumeConfiguration`)",
		Instead: "mount NFS or EFS on the host yourself (over VPN or Direct Connect), and give the task a bind " +
			"mount of that folder (\"host\": {\"sourcePath\": …})",
		Source: sourceConsiderations,
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			return volumes(d.EFS, "is an EFS file system")
		},
	},
	{
		ID: "fsx", What: "Mount FSx for Windows File Server volumes",
		Instead: "mount the share on the host, and give the task a bind mount of it",
		Source:  "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/wfsx-volumes.html, read 2026-11-25",
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			return volumes(d.FSx, "is an FSx file system")
		},
	},
	{
		ID: "ebs", What: "Attach EBS volumes to tasks (`configuredAtLaunch`, a service's `volumeConfigurations`)",
		Instead: "a bind mount of a folder of the host, or a Docker volume", Source: sourceCapabilities,
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			return volumes(d.EBS, "is an EBS volume that is made at launch")
		},
		ofService: func(s control.ServiceNeeds) string {
			if !s.Volumes {
				return ""
			}
			return "service " + s.Name + " gives its tasks EBS volumes"
		},
	},
	{
		ID: "ephemeral-storage", What: "Give a task ephemeral storage of a size (`ephemeralStorage`: Fargate only)",
		Instead: "room on the host's own disk below Docker's folder",
		Source:  "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_EphemeralStorage.html, read 2026-11-25",
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			if !d.Ephemeral {
				return ""
			}
			return "it asks for ephemeral storage, which only Fargate has"
		},
	},
	{
		ID: "load-balancer", What: "Put a service behind an Elastic Load Balancer",
		Instead: "a load balancer or reverse proxy of your own (HAProxy, nginx, Traefik) with fixed host ports; or " +
			"register the hosts' addresses " +
			"with an IP target group yourself, where a VPN or Direct Connect reaches them", Source: sourceConsiderations,
		ofService: func(s control.ServiceNeeds) string {
			if !s.Balanced {
				return ""
			}
			return "service " + s.Name + " has a load balancer"
		},
	},
	{
		ID: "service-discovery", What: "Register a service's tasks in Cloud Map (`serviceRegistries`)",
		Instead: "DNS or a registry of your own (Consul), kept by the tasks or from ECS's events", Source: sourceConsiderations,
		ofService: func(s control.ServiceNeeds) string {
			if !s.Discovered {
				return ""
			}
			return "service " + s.Name + " uses service discovery"
		},
	},
	{
		ID: "service-connect", What: "Join a service to Service Connect or VPC Lattice",
		Instead: "addresses of your own: fixed ports behind a proxy or DNS of your own", Source: sourceCapabilities,
		ofService: func(s control.ServiceNeeds) string {
			if !s.Connected {
				return ""
			}
			return "service " + s.Name + " uses Service Connect or VPC Lattice"
		},
	},
	{
		ID: "app-mesh", What: "Run tasks with an App Mesh proxy (`proxyConfiguration`)",
		Instead: "an Envoy of your own beside the containers, without proxyConfiguration", Source: sourceConsiderations,
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			if d.Proxy == "" {
				return ""
			}
			return "it has a proxy of " + d.Proxy
		},
	},
	{
		ID: "capacity-provider", What: "Use capacity providers, and the cluster auto scaling and managed draining " +
			"that come with them",
		Instead: "\"launchType\": \"EXTERNAL\", with placement constraints on attributes; capacity is the hosts " +
			"that you register", Source: sourceConsiderations,
		ofService: func(s control.ServiceNeeds) string {
			if len(s.Providers) == 0 {
				return ""
			}
			return "service " + s.Name + " uses the capacity provider " + strings.Join(s.Providers, ", ")
		},
	},
	{
		ID: "architecture", What: "Run tasks made for another processor (`runtimePlatform.cpuArchitecture`)",
		Instead: "an image for several architectures and a revision without cpuArchitecture, or hosts of that " +
			"architecture",
		Source: "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RuntimePlatform.html, read 2026-11-25",
		ofTask: func(d control.DefinitionSight, f instanceFacts) string {
			if d.Arch == "" || f.arch == "" || d.Arch == f.arch {
				return ""
			}
			return "it is for " + d.Arch + ", and this host is " + f.arch
		},
	},
	{
		ID: "operating-system", What: "Run Windows tasks on a Linux host (`runtimePlatform.operatingSystemFamily`)",
		Instead: "a Windows host as external instance",
		Source:  "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RuntimePlatform.html, read 2026-11-25",
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			if !strings.HasPrefix(d.OS, "WINDOWS") {
				return ""
			}
			return "it is for " + d.OS + ", and this host runs Linux"
		},
	},
	{
		ID: "gpu", What: "Give tasks GPUs on a host where GPU support is not turned on",
		Instead: "install the NVIDIA driver and container toolkit; then anywhere register --enable-gpu",
		Source:  "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-gpu.html, read 2026-11-22",
		ofTask: func(d control.DefinitionSight, f instanceFacts) string {
			if !d.GPU || f.gpu {
				return ""
			}
			return "it asks for GPUs, and " + ecsagent.KeyGPU + " is not true on this host"
		},
	},
	{
		ID: "fault-injection", What: "Inject faults with AWS FIS through the task metadata endpoint " +
			"(`enableFaultInjection`)",
		Instead: "tc, stress-ng or a chaos tool on the host", Source: sourceCapabilities,
		ofTask: func(d control.DefinitionSight, _ instanceFacts) string {
			if !d.FaultInjection {
				return ""
			}
			return "it allows the injection of faults, which external instances do not offer"
		},
	},
	{
		ID: "log-driver", What: "Use a log driver that the agent was not told of",
		Instead: "add the driver to ECS_AVAILABLE_LOGGING_DRIVERS in " + ecsagent.ConfigPath + " (all of them, as a " +
			"JSON list), then systemctl restart ecs",
		Source: "aws/amazon-ecs-agent 1.105.1, ecs-init/docker/docker.go: the default list",
		ofTask: func(d control.DefinitionSight, f instanceFacts) string {
			for _, driver := range d.LogDrivers {
				if !slices.Contains(f.logDrivers, driver) {
					return "it logs with " + driver + ", and the ECS agent here offers " + strings.Join(f.logDrivers, ", ")
				}
			}
			return ""
		},
	},

	// What no task definition shows.
	{ID: "agent-update", What: "Update the agent from AWS (`UpdateContainerAgent`, the console's button)",
		Instead: "`anywhere upgrade`: in place, watched, and taken back where it does not do well; tasks run on", Source: sourceConsiderations},
	{ID: "several-clusters", What: "Be in more than one cluster at a time", Instead: "attributes and placement " +
		"constraints within one cluster; another host, or a VM, for another",
		Source: sourceConsiderations},
	{ID: "selinux", What: "Run with SELinux enforcing and Docker's SELinux support on", Instead: "SELinux " +
		"permissive, or Docker without selinux-enabled; AppArmor works", Source: sourceConsiderations},
	{ID: "offline", What: "Start tasks, or renew their roles' credentials, while the host cannot reach the Region",
		Instead: "running tasks go on; give what must survive an outage a restart policy of Docker's own, and data " +
			"and credentials of its own", Source: sourceConsiderations},
	{ID: "availability-zone", What: "Spread tasks over Availability Zones: external instances are in none",
		Instead: "attributes of your own (--attribute site=berlin) and \"spread\" over attribute:site", Source: "aws/amazon-ecs-agent 1.105.1 run against a server, 2026-11-22: the zone is empty"},
	{ID: "spot-draining", What: "Drain by itself before the machine goes away", Instead: "anywhere drain, from " +
		"whatever stops the machine",
		Source: "aws/amazon-ecs-agent 1.105.1, agent/app/agent.go: the metadata service is not asked on external " +
			"instances"},
	{ID: "ec2-tags", What: "Take the tags of an EC2 instance (`ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM`: the " +
		"agent dies of it)",
		Instead: "--tag at registration", Source: "aws/amazon-ecs-agent 1.105.1 run against a server, 2026-11-22"},
	{ID: "instance-profile", What: "Use an EC2 instance profile or the metadata service from tasks",
		Instead: "a task role: the agent serves its credentials to the containers", Source: sourceConsiderations},
}

func volumes(names []string, what string) string {
	if len(names) == 0 {
		return ""
	}
	return "its volume " + strings.Join(names, ", ") + " " + what
}

// LimitsText is the table of limits for the documentation, a line each.
func LimitsText() string {
	var b strings.Builder
	for _, l := range Limits {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", l.ID, l.What, l.Instead, l.Source)
	}
	return b.String()
}

// defaultLogDrivers are what ecs-init tells the agent when nobody says otherwise (ecs-init/docker/docker.go of 1.105.1).
// awsfirelens goes through fluentd.
var defaultLogDrivers = []string{"json-file", "syslog", "awslogs", "fluentd", "none"}

// instance is what of this host decides about task definitions.
func (x *examination) instance() instanceFacts {
	f := instanceFacts{
		arch: map[string]string{"amd64": "X86_64", "arm64": "ARM64"}[x.deps.Host.Self.GOARCH],
		gpu:  x.sight.configured(ecsagent.KeyGPU) == "true", logDrivers: slices.Clone(defaultLogDrivers),
	}
	var drivers []string
	if json.Unmarshal([]byte(x.sight.configured("ECS_AVAILABLE_LOGGING_DRIVERS")), &drivers) == nil && len(drivers) > 0 {
		f.logDrivers = drivers
	}
	if slices.Contains(f.logDrivers, "fluentd") {
		f.logDrivers = append(f.logDrivers, "awsfirelens")
	}
	return f
}

// definitionsMost is how many task definitions are read, those of services and tasks first.
const definitionsMost = 100

// seeLimits reads the task definitions of the cluster's services and tasks, and the newest of every family that is meant
// for external instances, and holds them to the limits. What the operator may not read is only not seen.
func (x *examination) seeLimits(ctx context.Context) error {
	cluster := first(x.sight.arn.Cluster, ecsagent.ClusterName(first(x.sight.agent.value.Cluster, x.sight.configured(ecsagent.KeyCluster))))
	region := first(x.sight.arn.Region, x.sight.node.value.identity.Region, x.sight.configured(ecsagent.KeyRegion))
	operator, err := (&remote{deps: x.deps, region: region}).connect(ctx)
	if err != nil {
		return err
	}
	seen := func(part string, err error) error {
		if failure.Is(err, failure.AccessDenied) || failure.Is(err, failure.ClusterNotFound) { // a missing cluster is told by drift
			x.unseen = append(x.unseen, StatusUnseen{Part: part, Why: failure.Of(err).Message})
			return nil
		}
		return err
	}
	used := map[string][]string{} // by ARN
	var order []string
	use := func(arn, by string) {
		if used[arn] == nil {
			order = append(order, arn)
		}
		used[arn] = append(used[arn], by)
	}
	services, err := operator.SeeNeeds(ctx, cluster)
	if err := seen("the cluster's services", err); err != nil {
		return err
	}
	for _, s := range services {
		use(s.Definition, "service "+s.Name)
	}
	tasks, err := operator.SeeUsed(ctx, cluster)
	if err := seen("the cluster's tasks", err); err != nil {
		return err
	}
	var ofTasks []string
	for arn := range tasks {
		ofTasks = append(ofTasks, arn)
	}
	slices.Sort(ofTasks)
	for _, arn := range ofTasks {
		if used[arn] == nil { // a service's tasks are the service's
			use(arn, fmt.Sprintf("%d running tasks", tasks[arn]))
		}
	}
	for _, s := range services {
		x.holdService(s)
	}
	latest, more, err := operator.LatestDefinitions(ctx, definitionsMost)
	if err := seen("the account's task definitions", err); err != nil {
		return err
	}
	for _, arn := range latest {
		if used[arn] == nil {
			order = append(order, arn)
		}
	}
	if more || len(order) > definitionsMost {
		x.unseen = append(x.unseen, StatusUnseen{Part: "the account's further task definitions", Why: fmt.Sprintf("%d were read", min(len(order), definitionsMost))})
		order = order[:min(len(order), definitionsMost)]
	}
	facts := x.instance()
	for _, arn := range order {
		d, err := operator.SeeTaskDefinition(ctx, arn)
		if failure.Is(err, failure.AccessDenied) { // it is denied for all of them
			return seen("the cluster's task definitions", err)
		}
		if failure.Is(err, failure.Internal) || failure.Is(err, failure.Usage) { // ECS has it no more
			x.unseen = append(x.unseen, StatusUnseen{Part: "the task definition " + arn[strings.LastIndexByte(arn, '/')+1:], Why: failure.Of(err).Message})
			continue
		}
		if err != nil {
			return err
		}
		x.holdDefinition(d, used[arn], facts)
	}
	return nil
}

// holdService holds a service to the limits.
func (x *examination) holdService(s control.ServiceNeeds) {
	name := s.Definition[strings.LastIndexByte(s.Definition, '/')+1:]
	for _, l := range Limits {
		if l.ofService == nil {
			continue
		}
		if why := l.ofService(s); why != "" {
			x.limits = append(x.limits, DoctorLimit{name, []string{"service " + s.Name}, l.ID, why, l.Instead})
		}
	}
}

// holdDefinition holds a task definition to the limits. One that nothing in the cluster uses and that was made for other
// launch types is not meant to run here.
func (x *examination) holdDefinition(d control.DefinitionSight, usedBy []string, facts instanceFacts) {
	if len(usedBy) == 0 && len(d.Compatible) > 0 && !slices.Contains(d.Compatible, "EXTERNAL") {
		return
	}
	for _, l := range Limits {
		if l.ofTask == nil {
			continue
		}
		if why := l.ofTask(d, facts); why != "" {
			x.limits = append(x.limits, DoctorLimit{d.Name, append([]string{}, usedBy...), l.ID, why, l.Instead})
		}
	}
}
