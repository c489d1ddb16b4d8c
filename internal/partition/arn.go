package partition

import (
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// ARN is an Amazon Resource Name, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE.
type ARN struct {
	Partition string // aws, aws-cn, …
	Service   string // ecs, ssm, iam, …
	Region    string // empty for services without one (iam)
	Account   string // 12 digits
	Resource  string // cluster/NAME, container-instance/CLUSTER/ID, role/PATH/NAME, …
}

func (a ARN) String() string {
	return strings.Join([]string{"arn", a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}

// ParseARN takes an ARN apart. Partition, service, account and resource must be there, and the Region, where there is
// one, must lie in the partition; else it is a usage error.
func ParseARN(s string) (ARN, error) {
	parts := strings.SplitN(s, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return ARN{}, failure.New(failure.Usage, "%q is not an ARN (arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE)", s)
	}
	a := ARN{Partition: parts[1], Service: parts[2], Region: parts[3], Account: parts[4], Resource: parts[5]}
	switch {
	case !isPartition(a.Partition):
		return ARN{}, failure.New(failure.Usage, "the ARN %q is of an unknown partition, %q", s, a.Partition)
	case a.Service == "" || a.Resource == "":
		return ARN{}, failure.New(failure.Usage, "the ARN %q names no resource", s)
	case !isAccount(a.Account):
		return ARN{}, failure.New(failure.Usage, "the ARN %q has no account of 12 digits", s)
	case a.Region == "":
		return a, nil
	case !regionForm.MatchString(a.Region) || of(a.Region).ID != a.Partition:
		return ARN{}, failure.New(failure.Usage, "the ARN %q: %q is no Region of the partition %s", s, a.Region, a.Partition)
	}
	return a, nil
}

func isPartition(id string) bool {
	for _, p := range partitions {
		if p.ID == id {
			return true
		}
	}
	return false
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}
