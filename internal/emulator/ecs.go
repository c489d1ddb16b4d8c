package emulator

import (
	"strings"
)

// errNoCluster is what ECS answers operators; an agent that registers gets errAgentNoCluster.
var (
	errNoCluster      = newError("ClusterNotFoundException", "Cluster not found.")
	errAgentNoCluster = newError("ClientException", "Cluster not found.")
	errInactive       = func(arn string) *apiError {
		return newError("ClientException", "Container instance %s is inactive.", arn)
	}
)

func (e *Emulator) createCluster(c *call) (any, *apiError) {
	var in struct {
		ClusterName string `json:"clusterName"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if in.ClusterName == "" {
		in.ClusterName = "default"
	}
	e.AddCluster(in.ClusterName)
	e.mu.Lock()
	defer e.mu.Unlock()
	return map[string]any{"cluster": e.describeCluster(e.clusters[in.ClusterName])}, nil
}

func (e *Emulator) describeClusters(c *call) (any, *apiError) {
	var in struct {
		Clusters []string `json:"clusters"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if len(in.Clusters) == 0 {
		in.Clusters = []string{"default"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	found, failures := []any{}, []any{}
	for _, name := range in.Clusters {
		if cl := e.find(name); cl != nil {
			found = append(found, e.describeCluster(cl))
			continue
		}
		if !strings.HasPrefix(name, "arn:") {
			name = e.clusterARN(name)
		}
		failures = append(failures, missing(name))
	}
	return map[string]any{"clusters": found, "failures": failures}, nil
}

func missing(arn string) map[string]string { return map[string]string{"arn": arn, "reason": "MISSING"} }

func (e *Emulator) describeCluster(c *cluster) map[string]any {
	registered, tasks, pending, services := 0, 0, 0, 0
	for _, i := range c.instances {
		if i.Status != "INACTIVE" {
			running, waiting := e.counts(i.ARN)
			registered, tasks, pending = registered+1, tasks+running, pending+waiting
		}
	}
	for id, s := range e.services {
		if strings.HasPrefix(id, c.name+"/") && s.Status == "ACTIVE" {
			services++
		}
	}
	return map[string]any{
		"clusterArn": e.clusterARN(c.name), "clusterName": c.name, "status": c.status,
		"registeredContainerInstancesCount": registered, "runningTasksCount": tasks, "pendingTasksCount": pending,
		"activeServicesCount": services,
	}
}

// registerContainerInstance knows the managed node only from the caller's credentials: nothing in the request of an
// external instance names it (amazon-ecs-agent 1.105.1, request captured 2026-11-22).
func (e *Emulator) registerContainerInstance(c *call) (any, *apiError) {
	var in struct {
		Cluster              string `json:"cluster"`
		ContainerInstanceArn string `json:"containerInstanceArn"`
		Attributes           []attribute
		Tags                 []struct{ Key, Value string }
		TotalResources       []Resource
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if e.faulty(FaultRegisterAccessDenied) {
		return nil, e.accessDenied(c.key, "ecs:RegisterContainerInstance")
	}
	switch {
	case e.faulty(FaultClusterMissing):
		return nil, errAgentNoCluster
	case e.faulty(FaultInstanceLimit):
		return nil, newError("LimitExceededException", "The limit for the number of container instances per cluster was exceeded.")
	case e.faulty(FaultAgentExits1):
		return nil, newError("UnsupportedFeatureException", "The specified task isn't supported in this Region.")
	case e.faulty(FaultAgentExits5):
		return nil, newError("InvalidParameterException", "Invalid parameter.")
	}
	echo := in.Attributes
	if e.faulty(FaultNoAttributeEcho) {
		echo = []attribute{}
	}
	inactive := e.faulty(FaultRegisterInactive)
	if c.key.node == "" {
		return nil, newError("ClientException", "The identity document and identity document signature were not valid.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errAgentNoCluster
	}
	if cl.status == "INACTIVE" {
		return nil, newError("ClientException", "Cluster is inactive.")
	}
	i, failed := e.enroll(cl, in.ContainerInstanceArn, c.key.node)
	if failed != nil {
		return nil, failed
	}
	for _, t := range in.Tags {
		i.tags = setAttribute(i.tags, attribute{t.Key, t.Value})
	}
	for _, a := range in.Attributes {
		i.attributes = setAttribute(i.attributes, a)
	}
	if in.TotalResources != nil {
		i.Resources = in.TotalResources
	}
	if inactive {
		e.deregister(i)
	}
	out := i.describe(e, false)
	out["attributes"] = echo
	return map[string]any{"containerInstance": out}, nil
}

// enroll makes a container instance, or finds the one that registers again.
func (e *Emulator) enroll(cl *cluster, arn, nodeID string) (*instance, *apiError) {
	if arn != "" {
		i := cl.instance(arn)
		switch {
		case i == nil:
			return nil, newError("ClientException", "The referenced container instance %s was not found.", arn)
		case i.Status == "INACTIVE":
			return nil, errInactive(arn)
		}
		return i, nil
	}
	i := &instance{
		Instance: Instance{
			ARN:     strings.Replace(e.clusterARN(cl.name), ":cluster/", ":container-instance/", 1) + "/" + hexID(16),
			Cluster: cl.name, NodeID: nodeID, Status: "ACTIVE", Registered: e.opts.Now(),
		},
		sockets: map[*socket]bool{},
	}
	if len(cl.byID) == len(cl.instances) && cl.byID != nil {
		cl.byID[lastPart(i.ARN)] = i
	}
	cl.instances = append(cl.instances, i)
	return i, nil
}

func setAttribute(list []attribute, a attribute) []attribute {
	for i := range list {
		if list[i].Name == a.Name {
			list[i] = a
			return list
		}
	}
	return append(list, a)
}

func (i *instance) describe(e *Emulator, withTags bool) map[string]any {
	v := i.view()
	running, pending := e.counts(v.ARN)
	out := map[string]any{
		"containerInstanceArn": v.ARN, "ec2InstanceId": v.NodeID, "status": v.Status, "agentConnected": v.Connected,
		"registeredAt": seconds(v.Registered), "runningTasksCount": running, "pendingTasksCount": pending, "version": 1,
		"attributes": append([]attribute{}, i.attributes...), "attachments": []any{}, "tags": []any{},
		"versionInfo": map[string]string{
			"agentVersion": v.AgentVersion, "agentHash": v.AgentHash, "dockerVersion": v.Docker,
		},
	}
	out["registeredResources"], out["remainingResources"] = e.describeResources(i)
	if withTags {
		tags := []any{}
		for _, t := range i.tags {
			tags = append(tags, map[string]string{"key": t.Name, "value": t.Value})
		}
		out["tags"] = tags
	}
	return out
}

func (e *Emulator) discoverPollEndpoint(c *call) (any, *apiError) {
	base := e.pollBase(c.Request)
	return map[string]string{
		"endpoint": base + "/acs", "telemetryEndpoint": base + "/tcs", "serviceConnectEndpoint": base + "/sc",
	}, nil
}

func (e *Emulator) describeContainerInstances(c *call) (any, *apiError) {
	var in struct {
		Cluster            string   `json:"cluster"`
		ContainerInstances []string `json:"containerInstances"`
		Include            []string `json:"include"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if n := len(in.ContainerInstances); n == 0 || n > 100 {
		return nil, newError("InvalidParameterException", "Container instance identifiers must be between 1 and 100.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errNoCluster
	}
	var found []*instance
	failures := []any{}
	for _, id := range in.ContainerInstances {
		if i := cl.instance(id); i != nil {
			found = append(found, i)
		} else {
			failures = append(failures, missing(e.instanceARN(cl, id)))
		}
	}
	return e.describeInstances(found, failures, has(in.Include, "TAGS")), nil
}

func (e *Emulator) instanceARN(cl *cluster, id string) string {
	if strings.HasPrefix(id, "arn:") {
		return id
	}
	return strings.Replace(e.clusterARN(cl.name), ":cluster/", ":container-instance/", 1) + "/" + id
}

func (e *Emulator) deregisterContainerInstance(c *call) (any, *apiError) {
	var in struct {
		Cluster           string `json:"cluster"`
		ContainerInstance string `json:"containerInstance"`
		Force             bool   `json:"force"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errNoCluster
	}
	i := cl.instance(in.ContainerInstance)
	switch {
	case i == nil || i.Status == "INACTIVE":
		return nil, newError("ClientException", "The specified container instance was not found or is inactive.")
	case len(e.on(i.ARN)) > 0 && !in.Force:
		return nil, newError("InvalidParameterException", "Found running tasks on the instance.")
	}
	e.deregister(i)
	return map[string]any{"containerInstance": i.describe(e, false)}, nil
}

func (e *Emulator) updateContainerInstancesState(c *call) (any, *apiError) {
	var in struct {
		Cluster            string   `json:"cluster"`
		ContainerInstances []string `json:"containerInstances"`
		Status             string   `json:"status"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if in.Status != "ACTIVE" && in.Status != "DRAINING" {
		return nil, newError("InvalidParameterException", "Container instance status must be one of [ACTIVE, DRAINING].")
	}
	if n := len(in.ContainerInstances); n == 0 || n > 10 {
		return nil, newError("InvalidParameterException", "Container instance identifiers must be between 1 and 10.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errNoCluster
	}
	changed, failures := []any{}, []any{}
	for _, id := range in.ContainerInstances {
		switch i := cl.instance(id); {
		case i == nil:
			failures = append(failures, missing(e.instanceARN(cl, id)))
		case i.Status == "INACTIVE":
			failures = append(failures, map[string]string{"arn": i.ARN, "reason": "INACTIVE"})
		default:
			i.Status = in.Status
			e.settle()
			changed = append(changed, i.describe(e, false))
		}
	}
	return map[string]any{"containerInstances": changed, "failures": failures}, nil
}
