package control

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/partition"
)

// ClusterRef names a cluster as an operator did: Region and Account are empty when only the name was given.
type ClusterRef struct{ Name, Region, Account string }

// ParseCluster reads the value of --cluster, a name or an ARN. Its errors are usage errors.
func ParseCluster(text string) (ClusterRef, error) {
	ref := ClusterRef{Name: text}
	if strings.HasPrefix(text, "arn:") {
		arn, err := partition.ParseARN(text)
		name, isCluster := strings.CutPrefix(arn.Resource, "cluster/")
		if err != nil || arn.Service != "ecs" || arn.Region == "" || !isCluster {
			return ClusterRef{}, failure.New(failure.Usage, "--cluster: %q is not the ARN of an ECS cluster", text)
		}
		ref = ClusterRef{Name: name, Region: arn.Region, Account: arn.Account}
	}
	if !isCluster(ref.Name) {
		return ClusterRef{}, failure.New(failure.Usage,
			"--cluster: %q is not the name of an ECS cluster: 1 to 255 letters, digits, hyphens and underscores", ref.Name)
	}
	return ref, nil
}

// ProveCluster asks ECS whether the cluster is there and ACTIVE. Every other state is failure.ClusterNotFound.
func (o *Operator) ProveCluster(ctx context.Context, c ClusterRef) error {
	if c.Account != "" && c.Account != o.Account {
		return failure.New(failure.Usage,
			"--cluster is in account %s, and the credentials are of account %s", c.Account, o.Account).
			WithEvidence("%s", o.ARN).WithRemedy("use a --profile of account %s", c.Account)
	}
	absent := func(how string) error {
		return failure.New(failure.ClusterNotFound, "cluster %s of account %s in %s %s", c.Name, o.Account, o.Region, how).
			WithRemedy("aws ecs create-cluster --region %s --cluster-name %s, or name another one", o.Region, c.Name)
	}
	out, err := o.ecs.DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{c.Name}})
	if err != nil {
		return called(ctx, err, "look for the cluster %s in %s", c.Name, o.Region)
	}
	if len(out.Failures) > 0 { // one cluster was asked for
		f := out.Failures[0]
		if reason := aws.ToString(f.Reason); reason != "MISSING" {
			return failure.New(failure.ClusterNotFound, "look for the cluster %s in %s: ECS says %s", c.Name, o.Region, reason).
				WithEvidence("%s: %s %s", aws.ToString(f.Arn), reason, aws.ToString(f.Detail))
		}
		return absent("does not exist")
	}
	if len(out.Clusters) != 1 {
		return absent("is not in ECS's answer")
	}
	if status := aws.ToString(out.Clusters[0].Status); status != "ACTIVE" {
		return absent("is " + status)
	}
	return nil
}
