package emulator

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Task is a task of ECS on a container instance. Where no agent runs its containers, the emulator plays their life by its
// clock.
type Task struct {
	ARN      string // AddTask makes it
	Instance string // ARN
	Service  string // empty: standalone
	Group    string // empty: "service:NAME", or "family:FAMILY" of a standalone one
	Family   string // empty: the service's name, or "task"
	Revision int    // 0: 1
	// StartedBy is empty for what RunTask gave no value; a service's tasks have its deployment's id.
	StartedBy string
	Last      string    // PENDING, RUNNING, DEACTIVATING, STOPPING or STOPPED; empty: RUNNING
	Desired   string    // RUNNING or STOPPED; empty: RUNNING
	Created   time.Time // zero: now
	Started   time.Time
	Reason    string // stoppedReason

	Containers []Container // empty: one named like the family

	// Of a task whose agent runs it:
	Runs      bool                       // an agent runs it and reports; otherwise the emulator plays its life
	Overrides map[string]json.RawMessage // of RunTask, by container
	Times     map[string]float64         // pullStartedAt and so on, as reported
	StopCode  string
}

// Container is a container of a task.
type Container struct {
	Name, Image string
	DockerID    string // what Docker calls it, if there is one on the host; empty: the simulated agent makes one up

	// What an agent that runs it has reported, in the words of DescribeTasks:
	Last, Reason, Digest string
	Health               string // HEALTHY or UNHEALTHY; empty without a health check

	ExitCode *int
	Bindings []map[string]any
}

type task struct {
	Task
	cluster     string
	since       time.Time // of PENDING, or of the wish that it stops
	stopped     time.Time
	plain       bool  // made by SetTasks
	replacement *task // what the service started for it because its instance is DRAINING

	// Of a task whose agent runs it, for as long as the emulator runs:
	told  string             // what the agent has acknowledged: "", RUNNING or STOPPED
	sent  bool               // it may have heard of the task
	roles map[string]*issued // the credentials of its roles, by TaskApplication and TaskExecution
}

// keepStopped is how long ECS tells of a stopped task: at least an hour (API reference, DescribeTasks, read 2026-11-25).
const keepStopped = time.Hour

// AddTask puts a task on a container instance and returns the task's ARN; empty for an unknown instance.
func (e *Emulator) AddTask(instance string, t Task) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.instance(instance)
	if i == nil {
		return ""
	}
	return e.launch(i, t).ARN
}

// launch makes a task on an instance.
func (e *Emulator) launch(i *instance, t Task) *task {
	fill := func(s *string, otherwise string) { *s = or(*s, otherwise) }
	fill(&t.ARN, strings.Replace(e.clusterARN(i.Cluster), ":cluster/", ":task/", 1)+"/"+hexID(16))
	fill(&t.Family, t.Service)
	fill(&t.Family, "task")
	if i.Runs { // it has to be started first
		fill(&t.Last, "PENDING")
	}
	fill(&t.Last, "RUNNING")
	fill(&t.Desired, "RUNNING")
	if t.Service != "" {
		fill(&t.Group, "service:"+t.Service)
		fill(&t.StartedBy, "ecs-svc/"+"1234567890123456789")
	}
	fill(&t.Group, "family:"+t.Family)
	if t.Revision == 0 {
		t.Revision = 1
	}
	if t.Created.IsZero() {
		t.Created = e.opts.Now()
	}
	if t.Started.IsZero() && t.Last != "PENDING" {
		t.Started = e.opts.Now()
	}
	e.define(t.Family, t.Revision, false)
	if len(t.Containers) == 0 {
		for _, c := range e.containersOf(t.Family, t.Revision) {
			t.Containers = append(t.Containers, Container{Name: c.Name, Image: c.Image})
		}
	}
	t.Instance, t.Runs = i.ARN, i.Runs
	made := &task{Task: t, cluster: i.Cluster, since: e.opts.Now()}
	if t.Last == "STOPPED" {
		made.stopped = made.since
	}
	e.index().add(made)
	e.tasks = append(e.tasks, made)
	return made
}

// Tasks returns the tasks of all clusters, stopped ones too, oldest first.
func (e *Emulator) Tasks() []Task {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settle()
	out := []Task{}
	for _, t := range e.tasks {
		out = append(out, t.Task)
	}
	return out
}

// SetTasks makes a container instance run n plain tasks that belong to no service, beside those that AddTask made. An
// unknown ARN is passed over.
func (e *Emulator) SetTasks(arn string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.instance(arn)
	if i == nil {
		return
	}
	e.tasks = slices.DeleteFunc(e.tasks, func(t *task) bool { return t.plain && t.Instance == i.ARN })
	e.indexed = nil
	for range n {
		e.launch(i, Task{}).plain = true
	}
}

// FinishTask ends a task as its own program does. An unknown ARN is passed over.
func (e *Emulator) FinishTask(arn string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.task(arn); t != nil {
		e.ended(t, "Essential container in task exited")
	}
}

// AddInstance makes a container instance of another machine, whose agent counts as connected, and returns its ARN.
func (e *Emulator) AddInstance(clusterName string) string {
	e.AddCluster(clusterName)
	e.mu.Lock()
	defer e.mu.Unlock()
	i, _ := e.enroll(e.clusters[clusterName], "", "mi-"+hexID(9)[:17]) // a new one is never refused
	i.elsewhere = true
	return i.ARN
}

// taskIndex finds tasks without looking at all of them.
type taskIndex struct {
	byID       map[string]*task   // the end of the ARN
	byInstance map[string][]*task // oldest first
}

// index is that of all tasks. Whoever takes tasks away sets it to nil.
func (e *Emulator) index() *taskIndex {
	if e.indexed == nil {
		e.indexed = &taskIndex{byID: map[string]*task{}, byInstance: map[string][]*task{}}
		for _, t := range e.tasks {
			e.indexed.add(t)
		}
	}
	return e.indexed
}

func (x *taskIndex) add(t *task) {
	x.byID[lastPart(t.ARN)] = t
	x.byInstance[t.Instance] = append(x.byInstance[t.Instance], t)
}

// task finds a task by ARN or by the id that ends it.
func (e *Emulator) task(arnOrID string) *task {
	t := e.index().byID[lastPart(arnOrID)]
	if t == nil || t.ARN != arnOrID && !strings.HasSuffix(t.ARN, "/"+arnOrID) {
		return nil
	}
	return t
}

// on are the tasks of an instance that are not STOPPED.
func (e *Emulator) on(arn string) []*task {
	var out []*task
	for _, t := range e.index().byInstance[arn] {
		if t.Last != "STOPPED" {
			out = append(out, t)
		}
	}
	return out
}

// counts are runningTasksCount and pendingTasksCount: tasks that are DEACTIVATING or STOPPING are in neither (aws/aws-cdk
// pull request 13559).
func (e *Emulator) counts(arn string) (running, pending int) {
	for _, t := range e.on(arn) {
		switch t.Last {
		case "RUNNING":
			running++
		case "PENDING":
			pending++
		}
	}
	return running, pending
}

// stop wishes a task stopped.
func (e *Emulator) stop(t *task, reason string) {
	if t.Desired == "STOPPED" {
		return
	}
	t.Desired, t.Reason, t.since = "STOPPED", reason, e.opts.Now()
	switch {
	case t.Runs && t.sent: // the agent stops it, and says so
	case t.Last == "PENDING":
		e.ended(t, reason)
	case !t.Runs:
		t.Last = "DEACTIVATING"
	}
}

func (e *Emulator) ended(t *task, reason string) {
	t.Desired, t.Last, t.Reason, t.stopped = "STOPPED", "STOPPED", reason, e.opts.Now()
}

// orphan calls the tasks of an instance that was deregistered STOPPED. Nobody stops their containers.
func (e *Emulator) orphan(i *instance) {
	for _, t := range e.on(i.ARN) {
		if s := e.services[i.Cluster+"/"+t.Service]; s != nil && t.Desired == "RUNNING" && !s.Daemon {
			s.owed++
		}
		e.ended(t, "Container instance deregistered forcibly by user")
	}
}

// settle lets everything happen that the clock has made due.
func (e *Emulator) settle() {
	now := e.opts.Now()
	_, never := e.armed[FaultTaskNeverStops]
	for _, t := range e.tasks {
		if t.Runs {
			continue
		}
		waited := now.Sub(t.since)
		switch t.Last {
		case "PENDING":
			if waited >= e.opts.TaskTime {
				t.Last, t.Started = "RUNNING", now
			}
		case "DEACTIVATING":
			if waited >= e.opts.TaskTime/4 {
				t.Last = "STOPPING"
			}
		case "STOPPING":
			if waited >= e.opts.TaskTime && !never {
				e.ended(t, t.Reason)
			}
		}
	}
	e.schedule()
	before := len(e.tasks)
	e.tasks = slices.DeleteFunc(e.tasks, func(t *task) bool {
		return t.Last == "STOPPED" && now.Sub(t.stopped) > keepStopped
	})
	if len(e.tasks) < before {
		e.indexed = nil
	}
}

func (t *task) describe(e *Emulator) map[string]any {
	definition := strings.Replace(e.clusterARN(""), ":cluster/", ":task-definition/", 1) + taskDefinition(t.Family, t.Revision)
	containers := []any{}
	for _, c := range t.Containers {
		containers = append(containers, t.describeContainer(c))
	}
	out := map[string]any{
		"taskArn": t.ARN, "clusterArn": e.clusterARN(t.cluster), "containerInstanceArn": t.Instance, "group": t.Group,
		"taskDefinitionArn": definition, "lastStatus": t.Last, "desiredStatus": t.Desired, "startedBy": t.StartedBy,
		"launchType": "EXTERNAL", "containers": containers, "version": 1, "healthStatus": t.health(),
	}
	if !t.Created.IsZero() { // in a state that an older program kept it is
		out["createdAt"] = seconds(t.Created)
	}
	if !t.Started.IsZero() {
		out["startedAt"] = seconds(t.Started)
	}
	if !t.stopped.IsZero() {
		out["stoppedAt"] = seconds(t.stopped)
	}
	if t.Reason != "" {
		out["stoppedReason"] = t.Reason
	}
	if t.StopCode != "" {
		out["stopCode"] = t.StopCode
	}
	for name, at := range t.Times {
		out[name] = at
	}
	return out
}

func (e *Emulator) listTasks(c *call) (any, *apiError) {
	var in struct {
		Cluster           string `json:"cluster"`
		ContainerInstance string `json:"containerInstance"`
		ServiceName       string `json:"serviceName"`
		DesiredStatus     string `json:"desiredStatus"`
		Family            string `json:"family"`
		StartedBy         string `json:"startedBy"`
		LaunchType        string `json:"launchType"`
		NextToken         string `json:"nextToken"`
		MaxResults        *int   `json:"maxResults"`
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
	switch in.DesiredStatus {
	case "":
		in.DesiredStatus = "RUNNING"
	case "RUNNING", "PENDING", "STOPPED": // nothing is ever desired to be PENDING
	default:
		return nil, newError("InvalidParameterException", "desiredStatus must be one of [RUNNING, PENDING, STOPPED].")
	}
	if in.ServiceName != "" && e.service(cl, in.ServiceName) == nil {
		return nil, newError("ServiceNotFoundException", "Service not found.")
	}
	var where *instance
	if in.ContainerInstance != "" {
		if where = cl.instance(in.ContainerInstance); where == nil {
			return nil, newError("InvalidParameterException", "The specified container instance was not found.")
		}
	}
	arns := []string{}
	for _, t := range e.tasks {
		if t.cluster == cl.name && t.Desired == in.DesiredStatus && (where == nil || t.Instance == where.ARN) &&
			(in.ServiceName == "" || t.Service == lastPart(in.ServiceName)) && (in.Family == "" || t.Family == in.Family) &&
			(in.StartedBy == "" || t.StartedBy == in.StartedBy) && (in.LaunchType == "" || in.LaunchType == "EXTERNAL") {
			arns = append(arns, t.ARN)
		}
	}
	return listing(arns, in.NextToken, in.MaxResults, 100, "taskArns")
}

// listing answers a paged list with ECS's own bounds; otherwise is the size of a page where the caller names none.
func listing(all []string, token string, size *int, otherwise int, name string) (any, *apiError) {
	const most = 100
	if size == nil {
		size = &otherwise
	}
	if *size < 1 || *size > most {
		return nil, newError("InvalidParameterException", "maxResults must be between 1 and %d.", most)
	}
	rows, next, err := page(all, token, *size)
	if err != nil {
		return nil, newError("InvalidParameterException", "Invalid token.")
	}
	return withToken(map[string]any{name: rows}, "nextToken", next), nil
}

func lastPart(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

func (e *Emulator) describeTasks(c *call) (any, *apiError) {
	var in struct {
		Cluster string   `json:"cluster"`
		Tasks   []string `json:"tasks"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if n := len(in.Tasks); n == 0 || n > 100 {
		return nil, newError("InvalidParameterException", "Task identifiers must be between 1 and 100.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errNoCluster
	}
	found, failures := []any{}, []any{}
	for _, id := range in.Tasks {
		if t := e.task(id); t != nil && t.cluster == cl.name {
			found = append(found, t.describe(e))
			continue
		}
		if !strings.HasPrefix(id, "arn:") {
			id = strings.Replace(e.clusterARN(cl.name), ":cluster/", ":task/", 1) + "/" + id
		}
		failures = append(failures, missing(id))
	}
	return map[string]any{"tasks": found, "failures": failures}, nil
}

func (e *Emulator) stopTask(c *call) (any, *apiError) {
	var in struct {
		Cluster string `json:"cluster"`
		Task    string `json:"task"`
		Reason  string `json:"reason"`
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
	t := e.task(in.Task)
	if t == nil || t.cluster != cl.name {
		return nil, newError("InvalidParameterException", "The referenced task was not found.")
	}
	if in.Reason == "" {
		in.Reason = "Task stopped by user"
	}
	if s := e.services[cl.name+"/"+t.Service]; s != nil && t.Desired == "RUNNING" {
		s.owe(t)
	}
	e.stop(t, in.Reason)
	return map[string]any{"task": t.describe(e)}, nil
}
