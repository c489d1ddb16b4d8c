package partition

import (
	"fmt"
	"strings"
)

// Partition is one of AWS's clouds: a set of Regions with accounts, names and DNS suffixes of its own.
type Partition struct {
	ID              string // as in ARNs: aws, aws-cn, aws-us-gov, aws-eusc, aws-iso, …
	Suffix          string // of endpoints: amazonaws.com
	DualStackSuffix string // of endpoints with IPv6: api.aws; empty where there are none
	Console         string // host of the web console; empty where it is not publicly known
	// Script reports whether AWS's own ecs-anywhere-install.sh knows the partition's suffix. Where it does not, nobody has
	// shown that the artifact buckets exist.
	Script bool
	// Isolated tells that its networks have no way to the internet: what is only there is nothing to be let out for.
	Isolated bool

	prefixes []string // of its Regions
}

// partitions, the commercial one last: a Region of no other partition is its.
//
// Suffixes, dual-stack suffixes and Region patterns: aws-sdk-go-v2 v1.47.7 (2026-11), internal/endpoints/awsrulesfn. The same suffixes in the SSM agent's own table: common/identity/endpoint/endpoint.go (2024-10).
// Script: ecs-anywhere-install.sh of 2026-04-14. Consoles: AWS's Getting Started pages of each partition, read
// 2026-11-22.
var partitions = []Partition{
	{ID: "aws-cn", Suffix: "amazonaws.com.cn", DualStackSuffix: "api.amazonwebservices.com.cn",
		Console: "console.amazonaws.cn", Script: true, prefixes: []string{"cn-"}},
	{ID: "aws-us-gov", Suffix: "amazonaws.com", DualStackSuffix: "api.aws",
		Console: "console.amazonaws-us-gov.com", Script: true, prefixes: []string{"us-gov-"}},
	{ID: "aws-eusc", Suffix: "amazonaws.eu", DualStackSuffix: "api.amazonwebservices.eu",
		Script: true, prefixes: []string{"eusc-"}},
	{ID: "aws-iso", Suffix: "c2s.ic.gov", DualStackSuffix: "api.aws.ic.gov", Isolated: true,
		prefixes: []string{"us-iso-"}},
	{ID: "aws-iso-b", Suffix: "sc2s.sgov.gov", DualStackSuffix: "api.aws.scloud", Isolated: true,
		prefixes: []string{"us-isob-"}},
	{ID: "aws-iso-e", Suffix: "cloud.adc-e.uk", DualStackSuffix: "api.cloud-aws.adc-e.uk", Isolated: true,
		prefixes: []string{"eu-isoe-"}},
	{ID: "aws-iso-f", Suffix: "csp.hci.ic.gov", DualStackSuffix: "api.aws.hci.ic.gov", Isolated: true,
		prefixes: []string{"us-isof-"}},
	{ID: "aws", Suffix: "amazonaws.com", DualStackSuffix: "api.aws",
		Console: "console.aws.amazon.com", Script: true, prefixes: []string{""}},
}

// Of is the partition of a Region. A Region that CheckRegion refuses is its error; one that is only unknown here is
// taken as a new commercial one.
func Of(region string) (Partition, error) {
	if err := CheckRegion(region); err != nil {
		return Partition{}, err
	}
	return of(region), nil
}

func of(region string) Partition {
	for _, p := range partitions {
		for _, prefix := range p.prefixes {
			if strings.HasPrefix(region, prefix) {
				return p
			}
		}
	}
	panic("the commercial partition takes every Region")
}

// Endpoint is the https URL, without a path, of a service in a Region: ecs, ssm, ssmmessages, ec2messages, s3, logs,
// api.ecr, sts, ….
//
// ecs-a (the agent's channel) and ecs-t (telemetry) have numbered hosts, ecs-a-1, ecs-a-2 and so on, of which ECS picks
// one in DiscoverPollEndpoint; theirs is the first, to see whether such a host can be reached. A firewall must let in
// ecs-a-*.REGION.SUFFIX. Source: "Amazon ECS clusters for external instances", ECS developer guide, read 2026-11-22.
func Endpoint(service, region string) string {
	switch service {
	case "ecs-a", "ecs-t":
		service += "-1"
	}
	return fmt.Sprintf("https://%s.%s.%s", service, region, of(region).Suffix)
}

// ConsoleInstance is the page of a container instance in the web console; empty where the console is not publicly known.
// The form of the path: the console of Amazon ECS, as AWS's Getting Started pages link to it, read 2026-11-22.
func ConsoleInstance(region, cluster, instance string) string {
	p := of(region)
	if p.Console == "" || cluster == "" || instance == "" {
		return ""
	}
	return fmt.Sprintf("https://%s.%s/ecs/v2/clusters/%s/infrastructure/container-instances/%s?region=%s",
		region, p.Console, cluster, instance, region)
}

// ECSBucket is the base URL of the ECS agent's packages in a Region. Source: ecs-anywhere-install.sh of 2026-04-14; the
// bucket is named in the path because a certificate's wildcard would not cover it as a host in all partitions.
func ECSBucket(region string) string { return Endpoint("s3", region) + "/amazon-ecs-agent-" + region }

// SSMBucket is the base URL of the SSM agent's packages in a Region. Source: amazon-ssm-agent (2024-10),
// agent/updateutil/updateutil.go.
func SSMBucket(region string) string { return Endpoint("s3", region) + "/amazon-ssm-" + region }
