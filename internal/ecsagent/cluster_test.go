package ecsagent

import (
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestSameCluster(t *testing.T) {
	const (
		prod    = "arn:aws:ecs:eu-west-1:111111111111:cluster/prod"
		other   = "arn:aws:ecs:eu-west-1:222222222222:cluster/prod"
		distant = "arn:aws:ecs:us-east-1:111111111111:cluster/prod"
	)
	tests := []struct {
		configured, account, region, want string
		same                              bool
	}{
		{"prod", "111111111111", "eu-west-1", "prod", true},
		{"prod", "", "", "prod", true},
		{"prod", "", "", "Prod", false},
		{"", "", "", "default", true},
		{" prod ", "", "", "prod", true},
		{prod, "111111111111", "eu-west-1", "prod", true},
		{"prod", "111111111111", "eu-west-1", prod, true},
		{prod, "", "", prod, true},
		{prod, "222222222222", "eu-west-1", "prod", false},
		{"prod", "111111111111", "eu-west-1", other, false},
		{"prod", "111111111111", "eu-west-1", distant, false},
		{prod, "", "", other, false},
		{prod, "", "", distant, false},
		{other, "", "eu-west-1", "prod", true}, // the account is not known, so not compared
		{"arn:aws:iam::111111111111:role/prod", "", "", "prod", false},
		{"arn:", "", "", "arn:", false},
	}
	for _, tt := range tests {
		if got := SameCluster(tt.configured, tt.account, tt.region, tt.want); got != tt.same {
			t.Errorf("SameCluster(%q, %q, %q, %q) = %v", tt.configured, tt.account, tt.region, tt.want, got)
		}
		if got := SameCluster(tt.want, tt.account, tt.region, tt.configured); got != tt.same {
			t.Errorf("SameCluster(%q, %q, %q, %q) = %v, not the same the other way round", tt.want, tt.account, tt.region, tt.configured, got)
		}
	}
}

func TestParseInstanceARN(t *testing.T) {
	long := InstanceARN{"aws-cn", "cn-north-1", "123456789012", "prod", "0123456789abcdef0123456789abcdef"}
	short := InstanceARN{"aws", "eu-west-1", "123456789012", "", "5d3a2b1c-0000-4000-8000-000000000000"}
	for text, want := range map[string]InstanceARN{
		"arn:aws-cn:ecs:cn-north-1:123456789012:container-instance/prod/0123456789abcdef0123456789abcdef": long,
		"arn:aws:ecs:eu-west-1:123456789012:container-instance/5d3a2b1c-0000-4000-8000-000000000000":      short,
	} {
		got, err := ParseInstanceARN(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("ParseInstanceARN(%q) = %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "arn", "i-0abc", "arn:aws:ecs:eu-west-1:123456789012:cluster/prod", "arn:aws:ecs:eu-west-1:123456789012:container-instance/",
		"arn:aws:ecs:eu-west-1:123456789012:container-instance/a/b/c", "arn:aws:ecs:eu-west-1:123456789012:container-instance//id",
		"arn:aws:ec2:eu-west-1:123456789012:container-instance/prod/id", "arn:aws:ecs::123456789012:container-instance/prod/id",
	} {
		if got, err := ParseInstanceARN(text); !failure.Is(err, failure.Internal) || got != (InstanceARN{}) {
			t.Errorf("ParseInstanceARN(%q) = %+v, %v", text, got, err)
		}
	}
}
