package partition

import (
	"net/url"
	"strings"
	"testing"
)

// Each Region's list has that Region's names, and the services that are asked elsewhere in the code have the same names
// there.
func TestDestinations(t *testing.T) {
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1", "us-iso-east-1"} {
		seen, required := map[string]Destination{}, ""
		for _, d := range Destinations(region) {
			switch {
			case strings.ContainsAny(d.Host+d.Probe+d.Why, "{}"):
				t.Errorf("%s: %+v is not filled in", region, d)
			case strings.Contains(d.Probe, "*"):
				t.Errorf("%s: %s is not one name", region, d.Probe)
			case d.Why == "" || d.Source == "" || d.Port != 443 || d.Need == "":
				t.Errorf("%s: %+v lacks something", region, d)
			case seen[d.Host].Host != "":
				t.Errorf("%s: %s stands twice", region, d.Host)
			}
			seen[d.Host] = d
			if d.Need == Always {
				required += d.Service + " "
			}
			if d.Service != "s3" && d.Probe != "" && d.Need != Docker {
				if want, _ := url.Parse(Endpoint(d.Service, region)); want.Host != d.Probe {
					t.Errorf("%s: %s is probed, and %s is used", region, d.Probe, want.Host)
				}
			}
		}
		if required != "ecs ecs-a ecs-t ssm ssmmessages " {
			t.Errorf("%s: always needed: %s", region, required)
		}
		for _, bucket := range []string{ECSBucket(region), SSMBucket(region)} {
			if where, _ := url.Parse(bucket); seen[where.Host].Need != Packages {
				t.Errorf("%s: the packages' host %s is not in the list", region, where.Host)
			}
		}
	}
}

func TestIsAWS(t *testing.T) {
	for name, want := range map[string]bool{
		"ecs.eu-central-1.amazonaws.com": true, "ecs.eu-central-1.api.aws": true, "ssm.cn-north-1.amazonaws.com.cn": true,
		"vpce-0a1b.ecs.eu-central-1.vpce.amazonaws.com": true, "ecs.us-iso-east-1.c2s.ic.gov": true,
		"10.77.0.1": false, "localhost": false, "amazonaws.com": false, "amazonaws.com.example.org": false, "": false,
	} {
		if IsAWS(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
