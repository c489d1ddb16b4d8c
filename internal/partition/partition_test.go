package partition

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestRegionsOfEachPartition(t *testing.T) {
	for region, want := range map[string]struct{ id, ssm, bucket string }{
		"us-east-1":      {"aws", "https://ssm.us-east-1.amazonaws.com", "https://s3.us-east-1.amazonaws.com/amazon-ecs-agent-us-east-1"},
		"ap-southeast-7": {"aws", "https://ssm.ap-southeast-7.amazonaws.com", "https://s3.ap-southeast-7.amazonaws.com/amazon-ecs-agent-ap-southeast-7"},
		"mx-central-1":   {"aws", "https://ssm.mx-central-1.amazonaws.com", "https://s3.mx-central-1.amazonaws.com/amazon-ecs-agent-mx-central-1"},
		"us-gov-west-1":  {"aws-us-gov", "https://ssm.us-gov-west-1.amazonaws.com", "https://s3.us-gov-west-1.amazonaws.com/amazon-ecs-agent-us-gov-west-1"},
		"cn-northwest-1": {"aws-cn", "https://ssm.cn-northwest-1.amazonaws.com.cn", "https://s3.cn-northwest-1.amazonaws.com.cn/amazon-ecs-agent-cn-northwest-1"},
		"eusc-de-east-1": {"aws-eusc", "https://ssm.eusc-de-east-1.amazonaws.eu", "https://s3.eusc-de-east-1.amazonaws.eu/amazon-ecs-agent-eusc-de-east-1"},
		"us-iso-east-1":  {"aws-iso", "https://ssm.us-iso-east-1.c2s.ic.gov", "https://s3.us-iso-east-1.c2s.ic.gov/amazon-ecs-agent-us-iso-east-1"},
		"us-isob-east-1": {"aws-iso-b", "https://ssm.us-isob-east-1.sc2s.sgov.gov", "https://s3.us-isob-east-1.sc2s.sgov.gov/amazon-ecs-agent-us-isob-east-1"},
		"eu-isoe-west-1": {"aws-iso-e", "https://ssm.eu-isoe-west-1.cloud.adc-e.uk", "https://s3.eu-isoe-west-1.cloud.adc-e.uk/amazon-ecs-agent-eu-isoe-west-1"},
		"us-isof-east-1": {"aws-iso-f", "https://ssm.us-isof-east-1.csp.hci.ic.gov", "https://s3.us-isof-east-1.csp.hci.ic.gov/amazon-ecs-agent-us-isof-east-1"},
	} {
		p, err := Of(region)
		if err != nil || p.ID != want.id {
			t.Errorf("%s: %v, %v", region, p, err)
		}
		if got := Endpoint("ssm", region); got != want.ssm {
			t.Errorf("%s: %s", region, got)
		}
		if got := ECSBucket(region); got != want.bucket {
			t.Errorf("%s: %s", region, got)
		}
		if got := SSMBucket(region); got != strings.ReplaceAll(want.bucket, "ecs-agent", "ssm") {
			t.Errorf("%s: %s", region, got)
		}
	}
	if got := Endpoint("ecs-t", "us-east-1"); got != "https://ecs-t-1.us-east-1.amazonaws.com" {
		t.Errorf("telemetry has numbered hosts: %s", got)
	}
	if _, err := Of("nowhere"); !failure.Is(err, failure.Usage) {
		t.Errorf("got %v", err)
	}
}

func TestStrangeRegionsAreExplained(t *testing.T) {
	for _, test := range []struct {
		given  string
		named  []string // parts of the message
		remedy string
	}{
		{"“us-east-1”", []string{"character 1 is a left double quotation mark (U+201C)", "character 11 is a right double"}, "--region us-east-1"},
		{"us–east–1", []string{"character 3 is an en dash (U+2013)", "character 8 is"}, "--region us-east-1"},
		{"us-eаst-1", []string{"character 5 is a Cyrillic letter “а” (U+0430)"}, "--region us-east-1"},
		{"US-East-1", []string{"character 1 is the capital U", "character 4 is the capital E"}, "--region us-east-1"},
		{" us-east-1\n", []string{"character 1 is a blank", "character 11 is a newline"}, "--region us-east-1"},
		{"us-east-1\u200b", []string{"character 10 is a zero width space (U+200B)"}, "--region us-east-1"},
		{"us-east-1\u00a0", []string{"a no-break space (U+00A0)"}, "--region us-east-1"},
		{"us_east_1", []string{"character 3 is a low line"}, "--region us-east-1"},
		{"us-east-1a", []string{"Availability Zone"}, "--region us-east-1"},
		{"us-east-1\xff", []string{"not valid UTF-8"}, "--region us-east-1"},
		{"us-east-é", []string{"character 9 is a Latin letter that is not ASCII “é” (U+00E9)"}, "type it anew"},
		{"us-east-1\x07", []string{"a control character (U+0007)"}, "--region us-east-1"},
		{"frankfurt", []string{`--region "frankfurt" is not`}, "type it anew"},
		{"", []string{"--region is empty"}, "us-east-1"},
		{"us-east-1.evil.example", []string{"character 10 is a full stop"}, "type it anew"},
	} {
		err := CheckRegion(test.given)
		if !failure.Is(err, failure.Usage) {
			t.Errorf("%q: got %v", test.given, err)
			continue
		}
		for _, part := range test.named {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %q is not in %q", test.given, part, err)
			}
		}
		if advice := failure.Of(err).Advice(); !strings.Contains(advice, test.remedy) {
			t.Errorf("%q: remedy %q", test.given, advice)
		}
	}
}

// A slip of the finger is told with what was meant; what could be a Region of next year passes.
func TestNearRegions(t *testing.T) {
	for s, near := range map[string]string{
		"eu-centrall-1": "eu-central-1", "eu-cental-2": "eu-central-2", "us-esat-1": "us-east-1", "su-east-1": "us-east-1",
		"us-east-11": "us-east-1", "ap-sotheast-1": "ap-southeast-1", "us-gov-wset-1": "us-gov-west-1", "cn-nroth-1": "cn-north-1",
		"eusc-de-eats-1": "eusc-de-east-1", "us-isobb-east-1": "us-isob-east-1", "eu-west1": "eu-west-1", "useast-1": "us-east-1",
		"us-east1": "us-east-1",
	} {
		err := CheckRegion(s)
		if !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), "near it are: ") || !strings.Contains(err.Error(), near) {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if advice := failure.Of(err).Advice(); !strings.HasPrefix(advice, "use --region ") {
			t.Errorf("%s: %s", s, advice)
		}
	}
	for _, s := range []string{"us-east-3", "eu-east-1", "us-central-1", "nz-north-1", "ca-northwest-2", "us-isof-west-1", "eusc-de-west-1"} {
		if err := CheckRegion(s); err != nil {
			t.Errorf("%s could be a new Region: %v", s, err)
		}
	}
	for _, s := range known {
		if err := CheckRegion(s); err != nil || !regionForm.MatchString(s) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// What each partition has, by one Region of it.
func TestPartitions(t *testing.T) {
	const instance = "0123456789abcdef0123456789abcdef"
	for _, want := range []struct {
		id, region, dual, console string
		isolated                  bool
	}{
		{"aws", "eu-central-1", "api.aws", "eu-central-1.console.aws.amazon.com", false},
		{"aws-cn", "cn-north-1", "api.amazonwebservices.com.cn", "cn-north-1.console.amazonaws.cn", false},
		{"aws-us-gov", "us-gov-west-1", "api.aws", "us-gov-west-1.console.amazonaws-us-gov.com", false},
		{"aws-eusc", "eusc-de-east-1", "api.amazonwebservices.eu", "", false},
		{"aws-iso", "us-iso-west-1", "api.aws.ic.gov", "", true},
		{"aws-iso-b", "us-isob-east-1", "api.aws.scloud", "", true},
		{"aws-iso-e", "eu-isoe-west-1", "api.cloud-aws.adc-e.uk", "", true},
		{"aws-iso-f", "us-isof-south-1", "api.aws.hci.ic.gov", "", true},
	} {
		p, err := Of(want.region)
		if err != nil || p.ID != want.id || p.DualStackSuffix != want.dual || p.Isolated != want.isolated {
			t.Errorf("%s: %+v, %v", want.region, p, err)
		}
		url := ConsoleInstance(want.region, "prod", instance)
		if good := "https://" + want.console + "/ecs/v2/clusters/prod/infrastructure/container-instances/" + instance + "?region=" + want.region; want.console == "" && url != "" || want.console != "" && url != good {
			t.Errorf("%s: %s", want.region, url)
		}
		internet, doubtful := 0, false
		for _, d := range Destinations(want.region) {
			suffix := "." + p.Suffix
			if !strings.HasSuffix(d.Host, suffix) {
				internet++
			}
			doubtful = doubtful || strings.Contains(d.Why, "a mirror and --artifacts are sure")
		}
		if most := map[bool]int{true: 0, false: 2}[want.isolated]; internet > most || doubtful != want.isolated {
			t.Errorf("%s: %d hosts are not of its partition; %v", want.region, internet, doubtful)
		}
	}
	seen := map[string]int{}
	for _, region := range known {
		p, _ := Of(region)
		seen[p.ID]++
	}
	for id, n := range map[string]int{"aws": 34, "aws-cn": 2, "aws-us-gov": 2, "aws-eusc": 1, "aws-iso": 2, "aws-iso-b": 2, "aws-iso-e": 1, "aws-iso-f": 2} {
		if seen[id] != n {
			t.Errorf("%s has %d Regions, want %d", id, seen[id], n)
		}
	}
	if ConsoleInstance("eu-central-1", "", instance) != "" || ConsoleInstance("eu-central-1", "prod", "") != "" {
		t.Error("a link that leads nowhere")
	}
}

func FuzzCheckRegion(f *testing.F) {
	f.Add("us-east-1")
	f.Add("“us–еast-1”\xff")
	f.Fuzz(func(t *testing.T, s string) {
		err := CheckRegion(s)
		if err == nil && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%q passed", s)
		}
		if err != nil && !failure.Is(err, failure.Usage) {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func TestParseARN(t *testing.T) {
	for _, s := range []string{
		"arn:aws:ecs:eu-central-1:123456789012:cluster/prod",
		"arn:aws-cn:ssm:cn-north-1:123456789012:managed-instance/mi-0123456789abcdef0",
		"arn:aws:iam::123456789012:role/path/ecsAnywhereRole",
		"arn:aws-us-gov:logs:us-gov-west-1:123456789012:log-group:/ecs/x:*",
	} {
		a, err := ParseARN(s)
		if err != nil || a.String() != s {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	a, err := ParseARN("arn:aws:ecs:eu-central-1:123456789012:cluster/prod")
	if want := (ARN{"aws", "ecs", "eu-central-1", "123456789012", "cluster/prod"}); err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	for _, s := range []string{
		"", "prod", "arn:aws:ecs", "arn:aws:ecs:eu-central-1:123456789012", "arn:aws:ecs:eu-central-1:123456789012:",
		"arn:aws::eu-central-1:123456789012:cluster/x", "arn:azure:ecs:eu-central-1:123456789012:cluster/x",
		"arn:aws:ecs:eu-central-1:12345678901:cluster/x", "arn:aws:ecs:eu-central-1:12345678901x:cluster/x",
		"arn:aws:ecs:Europe:123456789012:cluster/x", "arn:aws:ecs:cn-north-1:123456789012:cluster/x",
		"ARN:aws:ecs:eu-central-1:123456789012:cluster/x",
	} {
		if a, err := ParseARN(s); !failure.Is(err, failure.Usage) {
			t.Errorf("%q: %+v, %v", s, a, err)
		}
	}
}
