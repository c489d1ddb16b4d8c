package partition

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// In every Region of every partition, with IPv6 and without, the names for a firewall and for the agents are those that AWS's own SDK, by which this
// command asks, uses there.
func TestNamesAreTheSDKs(t *testing.T) {
	for _, region := range known {
		for _, dual := range []bool{false, true} {
			e, err := ecs.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), ecs.EndpointParameters{
				Region: aws.String(region), UseDualStack: aws.Bool(dual), UseFIPS: aws.Bool(false),
			})
			if err != nil {
				t.Fatalf("%s: %v", region, err)
			}
			s, err := ssm.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), ssm.EndpointParameters{
				Region: aws.String(region), UseDualStack: aws.Bool(dual), UseFIPS: aws.Bool(false),
			})
			if err != nil {
				t.Fatalf("%s: %v", region, err)
			}
			want := map[string]string{"ecs": e.URI.Host, "ssm": s.URI.Host}
			all := Destinations(region)
			if dual {
				all = DestinationsByIPv6(region)
			}
			p, err := Of(region)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range all {
				if host := want[d.Service]; host != "" && (d.Host != host || d.Probe != host) {
					t.Errorf("%s, IPv6 %v: %s is %s and asked as %s, and the SDK's is %s", region, dual, d.Service, d.Host, d.Probe, host)
				}
				ours := strings.HasSuffix(d.Host, "."+region+"."+p.Suffix) || strings.HasSuffix(d.Host, "."+region+"."+p.DualStackSuffix) ||
					dual && p.ID == "aws" && strings.HasSuffix(d.Host, "."+region+".on.aws")
				if !ours && !d.internet {
					t.Errorf("%s, IPv6 %v: %s is another partition's or Region's", region, dual, d.Host)
				}
				if !IsAWS(d.Host) && d.Need != Docker && !strings.HasSuffix(d.Host, ".on.aws") {
					t.Errorf("%s, IPv6 %v: %s is not known for AWS's", region, dual, d.Host)
				}
			}
			if !dual {
				for service, host := range want {
					if got := Endpoint(service, region); got != "https://"+host {
						t.Errorf("%s: %s is %s", region, service, got)
					}
				}
			}
		}
	}
}
