package ecsagent

import (
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// ClusterName is the name in a cluster's name or ARN; for an empty one it is "default", as the agent has it
// (agent/config/config.go of 1.105.1).
func ClusterName(nameOrARN string) string {
	nameOrARN = strings.TrimSpace(nameOrARN)
	if nameOrARN == "" {
		return "default"
	}
	if strings.HasPrefix(nameOrARN, "arn:") {
		_, name, _ := strings.Cut(nameOrARN, ":cluster/")
		return name
	}
	return nameOrARN
}

// SameCluster reports whether two names or ARNs mean one cluster. A name means the cluster of that name in account and
// region; where account or region is empty it is not known and not compared.
func SameCluster(configured, account, region, want string) bool {
	a, b := placeOf(configured, account, region), placeOf(want, account, region)
	return a.name == b.name && a.name != "" &&
		alike(a.account, b.account) && alike(a.region, b.region) && alike(a.partition, b.partition)
}

type clusterPlace struct{ partition, region, account, name string }

func placeOf(nameOrARN, account, region string) clusterPlace {
	place := clusterPlace{region: region, account: account, name: ClusterName(nameOrARN)}
	if fields := strings.SplitN(strings.TrimSpace(nameOrARN), ":", 6); len(fields) == 6 && fields[0] == "arn" {
		place.partition, place.region, place.account = fields[1], fields[3], fields[4]
		if fields[2] != "ecs" {
			place.name = ""
		}
	}
	return place
}

// alike compares what may be unknown.
func alike(a, b string) bool { return a == b || a == "" || b == "" }

// InstanceARN is the ARN of a container instance in its parts.
type InstanceARN struct {
	Partition, Region, Account string
	Cluster                    string // empty in the short form that ECS gave until 2018
	ID                         string
}

// ParseInstanceARN reads an ARN like arn:aws:ecs:eu-west-1:123456789012:container-instance/CLUSTER/ID. Another string is
// failure.Internal: it comes from the agent or from ECS.
func ParseInstanceARN(s string) (InstanceARN, error) {
	fields := strings.SplitN(s, ":", 6)
	if len(fields) == 6 && fields[0] == "arn" && fields[2] == "ecs" {
		path := strings.Split(fields[5], "/")
		arn := InstanceARN{Partition: fields[1], Region: fields[3], Account: fields[4], ID: path[len(path)-1]}
		if len(path) == 3 {
			arn.Cluster = path[1]
		}
		whole := arn.Partition != "" && arn.Region != "" && arn.Account != "" && arn.ID != ""
		if whole && path[0] == "container-instance" && (len(path) == 2 || len(path) == 3 && arn.Cluster != "") {
			return arn, nil
		}
	}
	return InstanceARN{}, failure.New(failure.Internal, "%q is not the ARN of a container instance", s)
}

// String is the ARN.
func (a InstanceARN) String() string {
	path := a.ID
	if a.Cluster != "" {
		path = a.Cluster + "/" + a.ID
	}
	return "arn:" + a.Partition + ":ecs:" + a.Region + ":" + a.Account + ":container-instance/" + path
}
