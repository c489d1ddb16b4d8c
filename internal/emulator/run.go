package emulator

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// launchAgain is how long a service waits after a task of its own accord has stopped.
const launchAgain = 10 * time.Second

// registerTaskDefinition takes what external instances can run. Limits: API reference, RegisterTaskDefinition, and
// developer guide, "Amazon ECS clusters for external instances", read 2026-11-25.
func (e *Emulator) registerTaskDefinition(c *call) (any, *apiError) {
	var more map[string]any
	var in struct {
		Family string `json:"family"`
		taskShape
	}
	if failed := c.decode(&more); failed != nil {
		return nil, failed
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	switch {
	case in.Family == "" || !matches(`^[A-Za-z0-9_-]{1,255}$`, in.Family):
		return nil, newError("ClientException", "Family contains invalid characters.")
	case len(in.ContainerDefinitions) == 0:
		return nil, newError("ClientException", "Container list cannot be empty.")
	case !slices.Contains([]string{"", "bridge", "host", "none"}, in.NetworkMode):
		return nil, newError("ClientException", "When requiresCompatibilities has EXTERNAL, the network mode must be one of "+
			"[bridge, host, none].")
	}
	for _, d := range in.ContainerDefinitions {
		switch {
		case d.Name == "":
			return nil, newError("ClientException", "Container.name should not be null or empty.")
		case d.Image == "":
			return nil, newError("ClientException", "Container.image should not be null or empty.")
		case d.Memory == 0 && d.MemoryReservation == 0 && in.Memory == "":
			return nil, newError("ClientException", "Invalid setting for container '%s'. At least one of 'memory' or "+
				"'memoryReservation' must be specified.", d.Name)
		}
	}
	for _, own := range []string{"family", "tags"} {
		delete(more, own)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	arn := e.addDefinition(TaskDefinition{Family: in.Family, More: more})
	return map[string]any{"taskDefinition": e.describeDefinition(e.definition(arn)), "tags": []any{}}, nil
}

// definition takes an ARN, "family:revision", or a family, which is its latest ACTIVE revision; nil for none.
func (e *Emulator) definition(name string) *TaskDefinition {
	var found *TaskDefinition
	for n := range e.definitions {
		d := &e.definitions[n]
		if name == e.definitionARN(*d) || name == taskDefinition(d.Family, d.Revision) ||
			name == d.Family && d.Status == "ACTIVE" {
			found = d // the latest comes last
		}
	}
	return found
}

func (e *Emulator) deregisterTaskDefinition(c *call) (any, *apiError) {
	var in struct {
		TaskDefinition string `json:"taskDefinition"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.definition(in.TaskDefinition)
	if d == nil || !strings.Contains(lastPart(in.TaskDefinition), ":") {
		return nil, newError("ClientException", "The specified task definition does not exist.")
	}
	d.Status = "INACTIVE"
	return map[string]any{"taskDefinition": e.describeDefinition(d)}, nil
}

// start is what RunTask and StartTask have in common.
type start struct {
	Cluster        string `json:"cluster"`
	TaskDefinition string `json:"taskDefinition"`
	Group          string `json:"group"`
	StartedBy      string `json:"startedBy"`
	Overrides      struct {
		ContainerOverrides []json.RawMessage `json:"containerOverrides"`
	} `json:"overrides"`
}

// prepare finds the cluster and the task that is to be started.
func (e *Emulator) prepare(in *start) (*cluster, *task, *apiError) {
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, nil, errNoCluster
	}
	d := e.definition(in.TaskDefinition)
	if d == nil || d.Status != "ACTIVE" {
		return nil, nil, newError("ClientException", "TaskDefinition not found.")
	}
	if strings.HasPrefix(in.Group, "service:") {
		return nil, nil, newError("InvalidParameterException", "Invalid namespace for group.")
	}
	t := &task{
		Task: Task{
			Family: d.Family, Revision: d.Revision, Last: "PENDING", Group: in.Group, StartedBy: in.StartedBy,
			Overrides: map[string]json.RawMessage{},
		},
	}
	for _, text := range in.Overrides.ContainerOverrides {
		var named containerDefinition
		if json.Unmarshal(text, &named) != nil || !slices.ContainsFunc(e.containersOf(d.Family, d.Revision),
			func(c containerDefinition) bool { return c.Name == named.Name }) {
			return nil, nil, newError("InvalidParameterException", "Override for container named %s is not a container in the "+
				"TaskDefinition.", named.Name)
		}
		t.Overrides[named.Name] = text
	}
	return cl, t, nil
}

// put starts the prepared task on an instance.
func (e *Emulator) put(i *instance, prepared *task) map[string]any {
	return e.launch(i, prepared.Task).describe(e)
}

// runTask places tasks on the instances with the fewest.
func (e *Emulator) runTask(c *call) (any, *apiError) {
	var in struct {
		start
		Count      *int   `json:"count"`
		LaunchType string `json:"launchType"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	count := 1
	if in.Count != nil {
		count = *in.Count
	}
	if count < 1 || count > 10 {
		return nil, newError("InvalidParameterException", "Count should be between 1 and 10.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl, prepared, failed := e.prepare(&in.start)
	if failed != nil {
		return nil, failed
	}
	if in.LaunchType != "EXTERNAL" || len(cl.instances) == 0 { // an instance of another launch type there is none
		return nil, newError("InvalidParameterException", "No Container Instances were found in your cluster.")
	}
	tasks, failures := []any{}, []any{}
	for range count {
		i, reasons := e.place(cl, prepared.Family, prepared.Revision)
		if i == nil {
			failures = append(failures, reasons...)
			break
		}
		tasks = append(tasks, e.put(i, prepared))
	}
	return map[string]any{"tasks": tasks, "failures": failures}, nil
}

// place chooses the instance with the fewest tasks that can take one more, or tells of each why it cannot.
func (e *Emulator) place(cl *cluster, family string, revision int) (*instance, []any) {
	var chosen *instance
	fewest, failures := 0, []any{}
	for _, i := range cl.instances {
		if i.Status == "INACTIVE" {
			continue
		}
		if reason := e.unfit(i, family, revision); reason != "" {
			failures = append(failures, map[string]string{"arn": i.ARN, "reason": reason})
			continue
		}
		if n := len(e.on(i.ARN)); chosen == nil || n < fewest {
			chosen, fewest = i, n
		}
	}
	return chosen, failures
}

// unfit is ECS's reason why an instance cannot take a task; empty if it can.
func (e *Emulator) unfit(i *instance, family string, revision int) string {
	switch {
	case i.Status != "ACTIVE":
		return "INACTIVE"
	case !i.view().Connected:
		return "AGENT"
	}
	return e.lacks(i, e.shape(family, revision).needs())
}

// startTask puts a task on each of the instances that are named.
func (e *Emulator) startTask(c *call) (any, *apiError) {
	var in struct {
		start
		ContainerInstances []string `json:"containerInstances"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if n := len(in.ContainerInstances); n == 0 || n > 10 {
		return nil, newError("InvalidParameterException", "Container instance identifiers must be between 1 and 10.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl, prepared, failed := e.prepare(&in.start)
	if failed != nil {
		return nil, failed
	}
	tasks, failures := []any{}, []any{}
	for _, id := range in.ContainerInstances {
		i := cl.instance(id)
		if i == nil {
			failures = append(failures, missing(e.instanceARN(cl, id)))
			continue
		}
		if reason := e.unfit(i, prepared.Family, prepared.Revision); reason != "" {
			failures = append(failures, map[string]string{"arn": i.ARN, "reason": reason})
			continue
		}
		tasks = append(tasks, e.put(i, prepared))
	}
	return map[string]any{"tasks": tasks, "failures": failures}, nil
}

// createService starts as many tasks as it is to have, as soon as there is room.
func (e *Emulator) createService(c *call) (any, *apiError) {
	var in struct {
		Cluster                 string `json:"cluster"`
		ServiceName             string `json:"serviceName"`
		TaskDefinition          string `json:"taskDefinition"`
		DesiredCount            *int   `json:"desiredCount"`
		LaunchType              string `json:"launchType"`
		SchedulingStrategy      string `json:"schedulingStrategy"`
		DeploymentConfiguration struct {
			Minimum *int `json:"minimumHealthyPercent"`
			Maximum *int `json:"maximumPercent"`
		} `json:"deploymentConfiguration"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	d := e.definition(in.TaskDefinition)
	daemon := in.SchedulingStrategy == "DAEMON"
	switch {
	case cl == nil:
		return nil, errNoCluster
	case cl.status != "ACTIVE":
		return nil, newError("ClusterNotFoundException", "Cluster not found.")
	case in.ServiceName == "" || !matches(`^[A-Za-z0-9_-]{1,255}$`, in.ServiceName):
		return nil, newError("InvalidParameterException", "Service name must match [a-zA-Z0-9-_]{1,255}.")
	case d == nil || d.Status != "ACTIVE":
		return nil, newError("ClientException", "TaskDefinition not found.")
	case in.LaunchType != "EXTERNAL":
		return nil, newError("InvalidParameterException", "The emulator has external instances alone: launchType must be EXTERNAL.")
	case !daemon && (in.DesiredCount == nil || *in.DesiredCount < 0):
		return nil, newError("InvalidParameterException", "Desired count is required and must not be negative.")
	}
	if old := e.services[cl.name+"/"+in.ServiceName]; old != nil && old.Status != "INACTIVE" {
		return nil, newError("InvalidParameterException", "Creation of service was not idempotent.")
	}
	s := &service{Service: Service{
		Name: in.ServiceName, Status: "ACTIVE", TaskDefinition: taskDefinition(d.Family, d.Revision), Daemon: daemon,
		Minimum: 100, Maximum: 200, Kept: true,
	}}
	if daemon {
		s.Minimum, s.Maximum = 0, 100
	} else {
		s.Desired = *in.DesiredCount
	}
	if m := in.DeploymentConfiguration.Minimum; m != nil {
		s.Minimum = *m
	}
	if m := in.DeploymentConfiguration.Maximum; m != nil {
		s.Maximum = *m
	}
	e.services[cl.name+"/"+s.Name] = s
	e.settle()
	return map[string]any{"service": s.describe(e, cl)}, nil
}

// updateService changes how many tasks a service is to have, and what new ones run.
func (e *Emulator) updateService(c *call) (any, *apiError) {
	var in struct {
		Cluster        string `json:"cluster"`
		Service        string `json:"service"`
		TaskDefinition string `json:"taskDefinition"`
		DesiredCount   *int   `json:"desiredCount"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl, s, failed := e.namedService(in.Cluster, in.Service)
	if failed != nil {
		return nil, failed
	}
	if in.TaskDefinition != "" {
		d := e.definition(in.TaskDefinition)
		if d == nil || d.Status != "ACTIVE" {
			return nil, newError("ClientException", "TaskDefinition not found.")
		}
		s.TaskDefinition = taskDefinition(d.Family, d.Revision)
	}
	if in.DesiredCount != nil {
		if *in.DesiredCount < 0 {
			return nil, newError("InvalidParameterException", "Desired count must not be negative.")
		}
		s.Desired, s.Kept = *in.DesiredCount, true
	}
	e.settle()
	return map[string]any{"service": s.describe(e, cl)}, nil
}

func (e *Emulator) deleteService(c *call) (any, *apiError) {
	var in struct {
		Cluster string `json:"cluster"`
		Service string `json:"service"`
		Force   bool   `json:"force"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl, s, failed := e.namedService(in.Cluster, in.Service)
	if failed != nil {
		return nil, failed
	}
	if s.Desired > 0 && !in.Force {
		return nil, newError("InvalidParameterException",
			"The service cannot be stopped while it is scaled above 0.")
	}
	s.Status, s.Desired, s.owed, s.left = "INACTIVE", 0, 0, nil
	for _, t := range e.tasks {
		if t.cluster == cl.name && t.Service == s.Name && t.Desired == "RUNNING" {
			e.stop(t, "Scaling activity initiated by (service "+s.Name+")")
		}
	}
	return map[string]any{"service": s.describe(e, cl)}, nil
}

func (e *Emulator) namedService(clusterName, name string) (*cluster, *service, *apiError) {
	cl := e.find(clusterName)
	if cl == nil {
		return nil, nil, errNoCluster
	}
	s := e.service(cl, name)
	switch {
	case s == nil:
		return nil, nil, newError("ServiceNotFoundException", "Service not found.")
	case s.Status != "ACTIVE":
		return nil, nil, newError("ServiceNotActiveException", "Service was not ACTIVE.")
	}
	return cl, s, nil
}

// keepUp makes a service have as many tasks as it is to have.
func (e *Emulator) keepUp(cl *cluster, s *service) {
	if !s.Kept || s.Status != "ACTIVE" {
		return
	}
	if s.Daemon {
		for _, i := range cl.instances {
			has := slices.ContainsFunc(e.on(i.ARN), func(t *task) bool { return t.Service == s.Name })
			if i.Status == "ACTIVE" && i.view().Connected && !has && !e.opts.Now().Before(s.next) {
				e.launch(i, s.task())
			}
		}
		s.left = nil
		return
	}
	wanted := 0
	for _, t := range e.tasks {
		if t.cluster == cl.name && t.Service == s.Name && t.Desired == "RUNNING" {
			if wanted++; wanted > s.Desired && t.replacement == nil && !e.replaces(t) {
				e.stop(t, "Scaling activity initiated by (service "+s.Name+")")
				wanted--
			}
		}
	}
	s.owed = max(0, s.Desired-wanted)
}

// replaces reports whether a task was started for one whose instance is DRAINING.
func (e *Emulator) replaces(t *task) bool {
	return slices.ContainsFunc(e.tasks, func(o *task) bool { return o.replacement == t && o.Desired == "RUNNING" })
}

// task is what the service starts.
func (s *service) task() Task {
	family, revision, _ := strings.Cut(s.TaskDefinition, ":")
	n, _ := strconv.Atoi(revision) // 0 is the first
	return Task{Service: s.Name, Last: "PENDING", Family: family, Revision: n}
}
