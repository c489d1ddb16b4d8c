package partition

import "testing"

func TestNamesWithIPv6(t *testing.T) {
	for _, test := range []struct{ region, service, host, probe, s3 string }{
		{"eu-central-1", "ecs", "ecs.eu-central-1.api.aws", "ecs.eu-central-1.api.aws", "https://s3.dualstack.eu-central-1.amazonaws.com"},
		{"eu-central-1", "ecs-a", "ecs-a-*.eu-central-1.api.aws", "", "https://s3.dualstack.eu-central-1.amazonaws.com"},
		{"eu-central-1", "s3", "s3.dualstack.eu-central-1.amazonaws.com", "s3.dualstack.eu-central-1.amazonaws.com",
			"https://s3.dualstack.eu-central-1.amazonaws.com"},
		{"eu-central-1", "api.ecr", "ecr.eu-central-1.api.aws", "ecr.eu-central-1.api.aws",
			"https://s3.dualstack.eu-central-1.amazonaws.com"},
		{"eu-central-1", "dkr.ecr", "*.dkr-ecr.eu-central-1.on.aws", "", "https://s3.dualstack.eu-central-1.amazonaws.com"},
		{"cn-north-1", "ssm", "ssm.cn-north-1.api.amazonwebservices.com.cn", "ssm.cn-north-1.api.amazonwebservices.com.cn",
			"https://s3.dualstack.cn-north-1.amazonaws.com.cn"},
		{"eusc-de-east-1", "ssm", "ssm.eusc-de-east-1.api.amazonwebservices.eu", "ssm.eusc-de-east-1.api.amazonwebservices.eu",
			"https://s3.eusc-de-east-1.amazonaws.eu"},
		{"us-iso-east-1", "ecs", "ecs.us-iso-east-1.api.aws.ic.gov", "ecs.us-iso-east-1.api.aws.ic.gov", "https://s3.us-iso-east-1.c2s.ic.gov"},
	} {
		found := false
		for _, d := range DestinationsByIPv6(test.region) {
			if d.Service != test.service {
				continue
			}
			if !found && (d.Host != test.host || d.Probe != test.probe) {
				t.Errorf("%s in %s: %q, tried %q", test.service, test.region, d.Host, d.Probe)
			}
			found = true
		}
		if got := S3(test.region, true); !found || got != test.s3 {
			t.Errorf("%s: %s", test.region, got)
		}
		if got := S3(test.region, false); got != Endpoint("s3", test.region) {
			t.Errorf("%s without IPv6: %s", test.region, got)
		}
	}
}
