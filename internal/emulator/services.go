package emulator

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Service is a service of ECS. AddTask gives it its tasks; the emulator moves them when their instance is DRAINING, as far
// as the deployment configuration allows.
type Service struct {
	Name           string
	Desired        int
	Minimum        int    // minimumHealthyPercent
	Maximum        int    // maximumPercent
	Daemon         bool   // DAEMON: one task on each instance, which is stopped last and starts nowhere else
	Status         string // empty: ACTIVE
	TaskDefinition string // "family:revision"; empty: NAME:1
	// FixedPorts: its tasks have host ports of their own, so that an instance has room for one of them.
	FixedPorts bool
	// NoRoom: no other instance has room for it, as one that lacks the memory or that a placement constraint leaves out.
	NoRoom bool
	// Kept: it is kept at its desired count, as a service that CreateService made or UpdateService scaled. Others have the
	// tasks that AddTask gives them.
	Kept bool
	// More is what else DescribeServices says of it, in ECS's own words ("loadBalancers").
	More map[string]any
}

type service struct {
	Service
	owed int       // tasks to start when there is room
	left []string  // of a daemon: the instances that it was drained from
	next time.Time // nothing is started before
}

// owe remembers that a task of the service has to be started anew.
func (s *service) owe(t *task) {
	if s.Daemon {
		s.left = append(s.left, t.Instance)
		return
	}
	s.owed++
}

// AddService makes a service, or changes the one of its name.
func (e *Emulator) AddService(clusterName string, s Service) {
	e.AddCluster(clusterName)
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.Status == "" {
		s.Status = "ACTIVE"
	}
	if s.TaskDefinition == "" {
		s.TaskDefinition = s.Name + ":1"
	}
	if family, revision, _ := strings.Cut(s.TaskDefinition, ":"); revision != "" {
		n, _ := strconv.Atoi(revision) // 0 is the next one
		e.define(family, n, s.FixedPorts)
	}
	if old := e.services[clusterName+"/"+s.Name]; old != nil {
		old.Service = s
		return
	}
	e.services[clusterName+"/"+s.Name] = &service{Service: s}
}

// service finds a service of a cluster by its name or ARN.
func (e *Emulator) service(cl *cluster, nameOrARN string) *service {
	return e.services[cl.name+"/"+lastPart(nameOrARN)]
}

func (e *Emulator) serviceARN(clusterName, name string) string {
	return strings.Replace(e.clusterARN(clusterName), ":cluster/", ":service/", 1) + "/" + name
}

// schedule is the service scheduler as far as draining needs it. Source: API reference, UpdateContainerInstancesState,
// read 2026-11-25; that DAEMON tasks stop last: developer guide, "Amazon ECS services", and aws/containers-roadmap 1700.
func (e *Emulator) schedule() {
	for _, id := range slices.Sorted(maps.Keys(e.services)) {
		name, _, _ := strings.Cut(id, "/")
		if e.clusters[name] != nil {
			e.keepUp(e.clusters[name], e.services[id])
		}
		if cl, s := e.clusters[name], e.services[id]; cl != nil && s.Daemon {
			e.scheduleDaemon(cl, s)
		} else if cl != nil {
			e.scheduleReplicas(cl, s)
		}
	}
}

func (e *Emulator) scheduleReplicas(cl *cluster, s *service) {
	running, active := 0, 0
	var draining []*task
	for _, t := range e.tasks {
		if t.cluster != cl.name || t.Service != s.Name || t.Desired != "RUNNING" {
			continue
		}
		active++
		leaves := cl.instance(t.Instance).Status == "DRAINING"
		switch {
		case t.Last == "RUNNING":
			running++
			if leaves {
				draining = append(draining, t)
			}
		case leaves: // PENDING ones are stopped at once
			e.stop(t, "Task stopped because its container instance is DRAINING")
			s.owed++
			active--
		}
	}
	least, most := (s.Desired*s.Minimum+99)/100, s.Desired*s.Maximum/100
	for _, t := range draining {
		ready := t.replacement != nil && t.replacement.Last == "RUNNING"
		if ready || running-1 >= least {
			if t.replacement == nil {
				s.owed++
			}
			e.stop(t, fmt.Sprintf("Scaling activity initiated by (deployment ecs-svc/%s)", s.Name))
			running--
			active--
			continue
		}
		if t.replacement == nil && active < most {
			if i := e.room(cl, s); i != nil {
				t.replacement = e.launch(i, Task{Service: s.Name, Last: "PENDING", Family: t.Family, Revision: t.Revision})
				active++
			}
		}
	}
	for s.owed > 0 && active < most && !e.opts.Now().Before(s.next) {
		i := e.room(cl, s)
		if i == nil {
			return
		}
		e.launch(i, s.task())
		s.owed--
		active++
	}
}

// room is an instance on which a task of the service can be started.
func (e *Emulator) room(cl *cluster, s *service) *instance {
	if s.Kept && !s.FixedPorts && !s.NoRoom {
		t := s.task()
		i, _ := e.place(cl, t.Family, t.Revision)
		return i
	}
	for _, i := range cl.instances {
		if i.Status != "ACTIVE" || !i.view().Connected || s.NoRoom && i.elsewhere {
			continue
		}
		taken := slices.ContainsFunc(e.on(i.ARN), func(t *task) bool { return t.Service == s.Name })
		if !s.FixedPorts || !taken {
			return i
		}
	}
	return nil
}

func (e *Emulator) scheduleDaemon(cl *cluster, s *service) {
	for _, t := range e.tasks {
		if t.cluster != cl.name || t.Service != s.Name || t.Desired != "RUNNING" {
			continue
		}
		others := slices.ContainsFunc(e.on(t.Instance), func(o *task) bool {
			of := e.services[cl.name+"/"+o.Service]
			return of != nil && !of.Daemon && (o.Last == "RUNNING" || o.Last == "PENDING")
		})
		if cl.instance(t.Instance).Status == "DRAINING" && !others {
			e.stop(t, "Task stopped because its container instance is DRAINING")
			s.owe(t)
		}
	}
	s.left = slices.DeleteFunc(s.left, func(arn string) bool {
		i := cl.instance(arn)
		if i != nil && i.Status == "ACTIVE" {
			e.launch(i, s.task())
		}
		return i == nil || i.Status == "ACTIVE" || i.Status == "INACTIVE"
	})
}

func (e *Emulator) listServices(c *call) (any, *apiError) {
	var in struct {
		Cluster            string `json:"cluster"`
		LaunchType         string `json:"launchType"`
		SchedulingStrategy string `json:"schedulingStrategy"`
		NextToken          string `json:"nextToken"`
		MaxResults         *int   `json:"maxResults"`
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
	arns := []string{}
	for _, id := range slices.Sorted(maps.Keys(e.services)) {
		s := e.services[id]
		if !strings.HasPrefix(id, cl.name+"/") || s.Status == "INACTIVE" ||
			in.SchedulingStrategy != "" && in.SchedulingStrategy != s.strategy() ||
			in.LaunchType != "" && in.LaunchType != s.describe(e, cl)["launchType"] {
			continue
		}
		arns = append(arns, e.serviceARN(cl.name, s.Name))
	}
	return listing(arns, in.NextToken, in.MaxResults, 10, "serviceArns")
}

func (s *service) strategy() string {
	if s.Daemon {
		return "DAEMON"
	}
	return "REPLICA"
}

func (s *service) describe(e *Emulator, cl *cluster) map[string]any {
	running, pending := 0, 0
	for _, t := range e.tasks {
		if t.cluster != cl.name || t.Service != s.Name {
			continue
		}
		switch t.Last {
		case "RUNNING":
			running++
		case "PENDING":
			pending++
		}
	}
	out := map[string]any{
		"serviceArn": e.serviceARN(cl.name, s.Name), "serviceName": s.Name, "clusterArn": e.clusterARN(cl.name),
		"status": s.Status, "desiredCount": s.Desired, "runningCount": running, "pendingCount": pending,
		"launchType": "EXTERNAL", "schedulingStrategy": s.strategy(),
		"taskDefinition": strings.Replace(e.clusterARN(""), ":cluster/", ":task-definition/", 1) + s.TaskDefinition,
		"deploymentConfiguration": map[string]any{
			"minimumHealthyPercent": s.Minimum, "maximumPercent": s.Maximum,
		},
		"loadBalancers": []any{}, "serviceRegistries": []any{}, "events": []any{}, "placementConstraints": []any{},
	}
	maps.Copy(out, s.More)
	return out
}

func (e *Emulator) describeServices(c *call) (any, *apiError) {
	var in struct {
		Cluster  string   `json:"cluster"`
		Services []string `json:"services"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if n := len(in.Services); n == 0 || n > 10 {
		return nil, newError("InvalidParameterException", "Service identifiers must be between 1 and 10.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errNoCluster
	}
	found, failures := []any{}, []any{}
	for _, name := range in.Services {
		if s := e.service(cl, name); s != nil {
			found = append(found, s.describe(e, cl))
		} else {
			failures = append(failures, missing(e.serviceARN(cl.name, lastPart(name))))
		}
	}
	return map[string]any{"services": found, "failures": failures}, nil
}

// TaskDefinition is a revision of a task definition. More is what DescribeTaskDefinition says of it, in ECS's own words
// ("networkMode", "volumes", "containerDefinitions").
type TaskDefinition struct {
	Family   string
	Revision int    // 0: the next one
	Status   string // empty: ACTIVE
	More     map[string]any
}

func taskDefinition(family string, revision int) string {
	return fmt.Sprintf("%s:%d", family, revision)
}

// define makes sure that a revision is there: nothing runs without one. With ports its container has a port of its host.
func (e *Emulator) define(family string, revision int, ports bool) {
	if slices.ContainsFunc(e.definitions, func(d TaskDefinition) bool { return d.Family == family && d.Revision == revision }) {
		return
	}
	mappings := []any{}
	if ports {
		mappings = append(mappings, map[string]any{"containerPort": 80, "hostPort": 8080, "protocol": "tcp"})
	}
	e.addDefinition(TaskDefinition{Family: family, Revision: revision, More: map[string]any{
		"networkMode": "bridge", "requiresCompatibilities": []string{"EXTERNAL"},
		"containerDefinitions": []any{map[string]any{
			"name": family, "image": "public.example/" + family + ":1", "essential": true, "portMappings": mappings,
		}},
	}})
}

// AddTaskDefinition makes a revision and returns its ARN. One of the same number is replaced.
func (e *Emulator) AddTaskDefinition(d TaskDefinition) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.addDefinition(d)
}

func (e *Emulator) addDefinition(d TaskDefinition) string {
	if d.Revision == 0 {
		d.Revision = 1
		for _, other := range e.definitions {
			if other.Family == d.Family {
				d.Revision = max(d.Revision, other.Revision+1)
			}
		}
	}
	if d.Status == "" {
		d.Status = "ACTIVE"
	}
	delete(e.shapes, taskDefinition(d.Family, d.Revision))
	e.definitionsVersion++
	e.definitions = append(slices.DeleteFunc(e.definitions, func(o TaskDefinition) bool {
		return o.Family == d.Family && o.Revision == d.Revision
	}), d)
	sort.Slice(e.definitions, func(i, j int) bool {
		a, b := e.definitions[i], e.definitions[j]
		return a.Family < b.Family || a.Family == b.Family && a.Revision < b.Revision
	})
	return e.definitionARN(d)
}

func (e *Emulator) definitionARN(d TaskDefinition) string {
	return strings.Replace(e.clusterARN(""), ":cluster/", ":task-definition/", 1) + taskDefinition(d.Family, d.Revision)
}

func (e *Emulator) listTaskDefinitions(c *call) (any, *apiError) {
	var in struct {
		FamilyPrefix string `json:"familyPrefix"`
		Status       string `json:"status"`
		Sort         string `json:"sort"`
		NextToken    string `json:"nextToken"`
		MaxResults   *int   `json:"maxResults"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if in.Status == "" {
		in.Status = "ACTIVE"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	arns := []string{}
	for _, d := range e.definitions { // familyPrefix is the whole name of a family
		if d.Status == in.Status && (in.FamilyPrefix == "" || in.FamilyPrefix == d.Family) {
			arns = append(arns, e.definitionARN(d))
		}
	}
	if in.Sort == "DESC" {
		slices.Reverse(arns)
	}
	return listing(arns, in.NextToken, in.MaxResults, 100, "taskDefinitionArns")
}

// describeTaskDefinition takes an ARN, "family:revision", or a family, which is its latest ACTIVE revision.
func (e *Emulator) describeTaskDefinition(c *call) (any, *apiError) {
	var in struct {
		TaskDefinition string `json:"taskDefinition"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	found := e.definition(in.TaskDefinition)
	if found == nil {
		return nil, newError("ClientException", "Unable to describe task definition.")
	}
	return map[string]any{"taskDefinition": e.describeDefinition(found), "tags": []any{}}, nil
}

func (e *Emulator) describeDefinition(found *TaskDefinition) map[string]any {
	out := map[string]any{
		"taskDefinitionArn": e.definitionARN(*found), "family": found.Family, "revision": found.Revision,
		"status": found.Status, "containerDefinitions": []any{}, "volumes": []any{}, "placementConstraints": []any{},
		"compatibilities": []string{"EXTERNAL", "EC2"},
	}
	maps.Copy(out, found.More)
	return out
}

func (e *Emulator) listClusters(c *call) (any, *apiError) {
	var in struct {
		NextToken  string `json:"nextToken"`
		MaxResults *int   `json:"maxResults"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	arns := []string{}
	for _, name := range slices.Sorted(maps.Keys(e.clusters)) {
		if e.clusters[name].status != "INACTIVE" {
			arns = append(arns, e.clusterARN(name))
		}
	}
	return listing(arns, in.NextToken, in.MaxResults, 100, "clusterArns")
}
