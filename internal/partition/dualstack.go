package partition

import (
	"fmt"
	"strings"
)

// DualStack reports whether a Region's services have names with IPv6. AWS's own script leaves the buckets of the European
// Sovereign Cloud out (ecs-anywhere-install.sh of 2026-04-14).
func DualStack(region string) bool { return of(region).DualStackSuffix != "" }

// DualStackBuckets reports whether a Region's buckets have names with IPv6.
func DualStackBuckets(region string) bool {
	p := of(region)
	return p.DualStackSuffix != "" && !p.Isolated && p.ID != "aws-eusc"
}

// S3 is the base URL of a Region's buckets; dual is the name with IPv6, where there is one. Source: ecs-anywhere-install.sh
// of 2026-04-14.
func S3(region string, dual bool) string {
	if !dual || !DualStackBuckets(region) {
		return Endpoint("s3", region)
	}
	return fmt.Sprintf("https://s3.dualstack.%s.%s", region, of(region).Suffix)
}

// DestinationsByIPv6 are Destinations with the names that have IPv6. ECS tells the agent the names of its channels, and AWS
// documents no pattern of theirs: these are after that of the others, and are not tried. Sources: aws-sdk-go-v2 of
// 2026-11-05, internal/endpoints of each service; https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-requests.html,
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/dual-stack-endpoints.html, read 2026-11-22.
func DestinationsByIPv6(region string) []Destination {
	p := of(region)
	if p.DualStackSuffix == "" {
		return Destinations(region)
	}
	plain := "." + region + "." + p.Suffix
	all := Destinations(region)
	for i, d := range all {
		name := func(text string) string {
			service, found := strings.CutSuffix(text, plain)
			switch {
			case !found:
				return text
			case d.Service == "s3" && service == "s3":
				return strings.TrimPrefix(S3(region, true), "https://")
			case d.Service == "s3":
				return strings.Replace(text, ".s3.", ".s3.dualstack.", 1)
			case d.Service == "api.ecr":
				return "ecr." + region + "." + p.DualStackSuffix
			case d.Service == "dkr.ecr" && p.ID == "aws":
				return "*.dkr-ecr." + region + ".on.aws"
			case d.Service == "dkr.ecr":
				return text
			}
			return service + "." + region + "." + p.DualStackSuffix
		}
		all[i].Host, all[i].Probe = name(d.Host), name(d.Probe)
		if d.Service == "ecs-a" || d.Service == "ecs-t" {
			all[i].Probe = ""
		}
	}
	return all
}
