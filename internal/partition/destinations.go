package partition

import "strings"

// Destination is a name that an external instance connects to: what a firewall has to let out.
type Destination struct {
	Service string // ecs, ecs-a, s3, download.docker.com, …
	Host    string // as in a firewall's list: ecs-a-*.eu-central-1.amazonaws.com
	Probe   string // one concrete name of Host; empty where none is known beforehand
	Port    int
	Need    Need
	Why     string // what goes there
	Source  string // of this row, with date
	Bucket  bool   // it holds the agents' packages: not needed where they come from elsewhere

	internet bool // it is on the internet, whatever the partition
}

// Need says when a Destination is needed.
type Need string

// Needs.
const (
	Always   Need = "always"   // without it there is no external instance
	Packages Need = "packages" // until the agents' packages are there, and for upgrades
	Docker   Need = "docker"   // while Docker is installed from its own repository
	Some     Need = "some"     // by tasks or features that Why names
)

// Sources of the destinations.
const (
	domains = "Amazon ECS clusters for external instances, ECS developer guide, read 2026-11-22"
	script  = "amazon-ecs-agent scripts/ecs-anywhere-install.sh of 2026-04-14"
	gateway = "amazon-ssm-agent common/identity/endpoint (2024-10): channels and their fallback"
	images  = "https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html, read 2026-11-22"
)

// destinations with {region} and {suffix} to be filled in; an empty probe is the host. ecs-a and ecs-t have numbered
// hosts of which ECS picks one; theirs is the first. The account's own registry has the account's number in its name.
var destinations = []Destination{
	{Service: "ecs", Host: "ecs.{region}.{suffix}", Need: Always,
		Why: "the ECS agent registers the instance", Source: domains},
	{Service: "ecs-a", Host: "ecs-a-*.{region}.{suffix}", Probe: "ecs-a-1.{region}.{suffix}", Need: Always,
		Why: "the ECS agent is told which tasks to run (websocket)", Source: domains},
	{Service: "ecs-t", Host: "ecs-t-*.{region}.{suffix}", Probe: "ecs-t-1.{region}.{suffix}", Need: Always,
		Why: "the ECS agent reports health and metrics (websocket)", Source: domains},
	{Service: "ssm", Host: "ssm.{region}.{suffix}", Need: Always,
		Why: "registration of the managed node, and its credentials", Source: domains},
	{Service: "ssmmessages", Host: "ssmmessages.{region}.{suffix}", Need: Always,
		Why: "Run Command, Session Manager and ECS Exec (websocket)", Source: domains},
	{Service: "s3", Host: "s3.{region}.{suffix}", Need: Packages, Bucket: true,
		Why: "the agents' packages: buckets amazon-ecs-agent-{region} and amazon-ssm-{region}", Source: script},
	{Service: "ec2messages", Host: "ec2messages.{region}.{suffix}", Need: Some,
		Why: "Run Command while ssmmessages cannot be reached", Source: gateway},
	// Whatever the Region is, ecs-init of an external instance looks in us-east-1: ecs-init/cache/cache.go of 1.105.1.
	{Service: "s3", Host: "amazon-ecs-agent.s3.us-east-1.amazonaws.com", Need: Some, Bucket: true, internet: true,
		Why:    "ecs-init's own download of the ECS agent, when the package's image is gone",
		Source: "amazon-ecs-agent ecs-init/cache/cache.go of 1.105.1 (2026-06-29)"},
	{Service: "api.ecr", Host: "api.ecr.{region}.{suffix}", Need: Some,
		Why: "tasks with images in ECR: the way into the registry", Source: images},
	{Service: "dkr.ecr", Host: "*.dkr.ecr.{region}.{suffix}", Need: Some,
		Why: "tasks with images in ECR: the registry", Source: images},
	{Service: "s3", Host: "prod-{region}-starport-layer-bucket.s3.{region}.{suffix}", Need: Some,
		Why: "tasks with images in ECR: their layers", Source: images},
	{Service: "logs", Host: "logs.{region}.{suffix}", Need: Some,
		Why: "tasks with the awslogs driver, and logs of sessions", Source: domains},
	{Service: "secretsmanager", Host: "secretsmanager.{region}.{suffix}", Need: Some,
		Why: "tasks with secrets of Secrets Manager, or images of a private registry", Source: domains},
	{Service: "kms", Host: "kms.{region}.{suffix}", Need: Some,
		Why: "sessions and ECS Exec with encryption by a key of KMS", Source: gateway},
	{Service: "download.docker.com", Host: "download.docker.com", Need: Docker, internet: true,
		Why: "Docker's own packages, where Docker is installed from there", Source: script},
}

// Destinations are what an external instance in a Region connects to, all by TCP from the host outwards; what it cannot
// do without comes first.
func Destinations(region string) []Destination {
	p := of(region)
	fill := strings.NewReplacer("{region}", region, "{suffix}", p.Suffix)
	var all []Destination
	for _, d := range destinations {
		if d.internet && p.Isolated {
			continue
		}
		if d.Bucket && !p.Script {
			d.Why += " (AWS does not say that they exist here: a mirror and --artifacts are sure)"
		}
		d.Host, d.Probe, d.Why, d.Port = fill.Replace(d.Host), fill.Replace(d.Probe), fill.Replace(d.Why), 443
		if d.Probe == "" && !strings.Contains(d.Host, "*") {
			d.Probe = d.Host
		}
		all = append(all, d)
	}
	return all
}

// IsAWS reports whether a name is one of AWS's endpoints, of whichever partition.
func IsAWS(name string) bool {
	for _, p := range partitions {
		for _, suffix := range []string{p.Suffix, p.DualStackSuffix} {
			if suffix != "" && strings.HasSuffix(name, "."+suffix) {
				return true
			}
		}
	}
	return false
}
