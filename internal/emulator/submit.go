package emulator

import (
	"slices"
)

// stateChange is what an agent reports of a container, alone or within its task.
type stateChange struct {
	ContainerName   string           `json:"containerName"`
	RuntimeID       string           `json:"runtimeId"`
	ImageDigest     string           `json:"imageDigest"`
	Status          string           `json:"status"`
	Reason          string           `json:"reason"`
	ExitCode        *int             `json:"exitCode"`
	NetworkBindings []map[string]any `json:"networkBindings"`
}

// see keeps what was reported; what a report leaves out stays as it was.
func (t *task) see(c stateChange) {
	n := slices.IndexFunc(t.Containers, func(x Container) bool { return x.Name == c.ContainerName })
	if n < 0 {
		return
	}
	seen := &t.Containers[n]
	for _, field := range []struct {
		to    *string
		value string
	}{{&seen.Last, c.Status}, {&seen.Reason, c.Reason}, {&seen.DockerID, c.RuntimeID}, {&seen.Digest, c.ImageDigest}} {
		*field.to = or(field.value, *field.to)
	}
	if c.ExitCode != nil {
		seen.ExitCode = c.ExitCode
	}
	if c.NetworkBindings != nil {
		seen.Bindings = c.NetworkBindings
	}
}

// describeContainer is a container in DescribeTasks.
func (t *task) describeContainer(c Container) map[string]any {
	out := map[string]any{
		"name": c.Name, "image": c.Image, "lastStatus": or(c.Last, t.Last), "taskArn": t.ARN, "runtimeId": c.DockerID,
	}
	if c.Health != "" {
		out["healthStatus"] = c.Health
	}
	if c.ExitCode != nil {
		out["exitCode"] = *c.ExitCode
	}
	if c.Reason != "" {
		out["reason"] = c.Reason
	}
	if c.Digest != "" {
		out["imageDigest"] = c.Digest
	}
	if c.Bindings != nil {
		out["networkBindings"] = c.Bindings
	}
	return out
}

// health is UNHEALTHY if a container is, HEALTHY if those with a health check are, UNKNOWN without one.
func (t *task) health() string {
	status := "UNKNOWN"
	for _, c := range t.Containers {
		switch {
		case c.Health == "UNHEALTHY":
			return c.Health
		case c.Health == "HEALTHY":
			status = c.Health
		}
	}
	return status
}

// acknowledged is the answer to every state change.
var acknowledged = map[string]string{"acknowledgment": "ACK"}

// reported finds the task that an agent reports on. InvalidParameterException is what makes it forget the report instead
// of sending it for a day (amazon-ecs-agent 1.105.1, agent/eventhandler).
func (e *Emulator) reported(c *call, clusterName, id string) (*task, *apiError) {
	cl := e.find(clusterName)
	if cl == nil {
		return nil, errNoCluster
	}
	t := e.task(id)
	if t == nil || t.cluster != cl.name {
		return nil, newError("InvalidParameterException", "The referenced task was not found.")
	}
	if i := cl.instance(t.Instance); c.key.node != "" && (i == nil || i.NodeID != c.key.node) {
		return nil, newError("InvalidParameterException", "The referenced task was not found.")
	}
	return t, nil
}

func (e *Emulator) submitTaskStateChange(c *call) (any, *apiError) {
	var in struct {
		Cluster            string        `json:"cluster"`
		Task               string        `json:"task"`
		Status             string        `json:"status"`
		Reason             string        `json:"reason"`
		Containers         []stateChange `json:"containers"`
		PullStartedAt      float64       `json:"pullStartedAt"`
		PullStoppedAt      float64       `json:"pullStoppedAt"`
		ExecutionStoppedAt float64       `json:"executionStoppedAt"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t, failed := e.reported(c, in.Cluster, in.Task)
	if failed != nil {
		return nil, failed
	}
	for _, x := range in.Containers {
		t.see(x)
	}
	for name, at := range map[string]float64{
		"pullStartedAt": in.PullStartedAt, "pullStoppedAt": in.PullStoppedAt, "executionStoppedAt": in.ExecutionStoppedAt,
	} {
		if at != 0 {
			if t.Times == nil {
				t.Times = map[string]float64{}
			}
			t.Times[name] = at
		}
	}
	switch {
	case t.Last == "STOPPED": // reported before
	case in.Status == "RUNNING":
		t.Last = "RUNNING"
		if t.Started.IsZero() {
			t.Started = e.opts.Now()
		}
	case in.Status == "STOPPED":
		e.stoppedByAgent(t, in.Reason)
	}
	e.settle()
	return acknowledged, nil
}

// stoppedByAgent ends a task as its agent tells it. The reason for which somebody wanted it stopped is the better one.
func (e *Emulator) stoppedByAgent(t *task, reason string) {
	if t.Desired == "STOPPED" {
		e.ended(t, t.Reason)
		return
	}
	if t.Started.IsZero() {
		t.StopCode, reason = "TaskFailedToStart", or(reason, "Task failed to start")
	} else {
		t.StopCode, reason = "EssentialContainerExited", or(reason, "Essential container in task exited")
	}
	if s := e.services[t.cluster+"/"+t.Service]; s != nil {
		s.owe(t)
		s.next = e.opts.Now().Add(launchAgain)
	}
	e.ended(t, reason)
}

func (e *Emulator) submitContainerStateChange(c *call) (any, *apiError) {
	var in struct {
		Cluster string `json:"cluster"`
		Task    string `json:"task"`
		stateChange
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t, failed := e.reported(c, in.Cluster, in.Task)
	if failed != nil {
		return nil, failed
	}
	t.see(in.stateChange)
	return acknowledged, nil
}

// submitAttachmentStateChanges takes what an agent says of attachments; no external instance has any.
func (e *Emulator) submitAttachmentStateChanges(c *call) (any, *apiError) {
	var in struct {
		Cluster     string           `json:"cluster"`
		Attachments []map[string]any `json:"attachments"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.find(in.Cluster) == nil {
		return nil, errNoCluster
	}
	return acknowledged, nil
}
