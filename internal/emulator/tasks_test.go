package emulator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

// ecsOf asks the world's ECS. From then on it is now: the SDK signs by its own clock.
func (w *world) ecsOf() *ecs.Client {
	w.now = time.Now()
	return ecs.NewFromConfig(w.config())
}

// after lets time pass and everything happen that is due.
func (w *world) after(d time.Duration) {
	w.now = w.now.Add(d)
	for range 3 { // one thing leads to another
		w.Tasks()
	}
}

// where lists the tasks that have not stopped, by instance: "a:RUNNING b:PENDING".
func (w *world) where(names map[string]string) string {
	var all []string
	for _, t := range w.Tasks() {
		if t.Last != "STOPPED" {
			all = append(all, names[t.Instance]+":"+t.Last)
		}
	}
	return strings.Join(all, " ")
}

// Tasks leave a DRAINING instance as their service's deployment configuration allows, those of no service not at all.
func TestTasksUnderDraining(t *testing.T) {
	const taskTime = 30 * time.Second
	for name, test := range map[string]struct {
		service  emulator.Service
		last     string
		at, then string // where they are at once, and when all has come to rest
	}{
		"moves before it stops":       {emulator.Service{Desired: 1, Minimum: 100, Maximum: 200}, "RUNNING", "a:RUNNING b:PENDING", "b:RUNNING"},
		"stops before it moves":       {emulator.Service{Desired: 1, Minimum: 0, Maximum: 100}, "RUNNING", "a:DEACTIVATING b:PENDING", "b:RUNNING"},
		"never":                       {emulator.Service{Desired: 1, Minimum: 100, Maximum: 100}, "RUNNING", "a:RUNNING", "a:RUNNING"},
		"nowhere to go":               {emulator.Service{Desired: 1, Minimum: 100, Maximum: 200, NoRoom: true}, "RUNNING", "a:RUNNING", "a:RUNNING"},
		"nowhere to go, and may stop": {emulator.Service{Desired: 1, Minimum: 0, Maximum: 200, NoRoom: true}, "RUNNING", "a:DEACTIVATING", ""},
		"pending ones stop at once":   {emulator.Service{Desired: 1, Minimum: 100, Maximum: 100}, "PENDING", "b:PENDING", "b:RUNNING"},
		"a daemon starts nowhere":     {emulator.Service{Desired: 1, Maximum: 100, Daemon: true}, "RUNNING", "a:DEACTIVATING", ""},
		"of no service":               {emulator.Service{}, "RUNNING", "a:RUNNING", "a:RUNNING"},
	} {
		w := newWorld(t, emulator.Options{TaskTime: taskTime})
		client := w.ecsOf()
		a, b := w.AddInstance("demo"), w.AddInstance("demo")
		names := map[string]string{a: "a", b: "b"}
		task := emulator.Task{Last: test.last}
		if test.service.Maximum > 0 {
			test.service.Name, task.Service = "web", "web"
			w.AddService("demo", test.service)
		}
		w.AddTask(a, task)
		out, err := client.UpdateContainerInstancesState(t.Context(), &ecs.UpdateContainerInstancesStateInput{
			Cluster: aws.String("demo"), ContainerInstances: []string{a}, Status: types.ContainerInstanceStatusDraining,
		})
		if err != nil || len(out.Failures) > 0 {
			t.Fatal(err, out)
		}
		if at := w.where(names); at != test.at {
			t.Errorf("%s: at once %q, want %q", name, at, test.at)
		}
		for range 6 {
			w.after(taskTime)
		}
		if then := w.where(names); then != test.then {
			t.Errorf("%s: then %q, want %q", name, then, test.then)
		}
	}
}

// A daemon's task is the last one to stop, and starts again when its instance is ACTIVE again.
func TestADaemonStopsLast(t *testing.T) {
	w := newWorld(t, emulator.Options{TaskTime: time.Second})
	a, b := w.AddInstance("demo"), w.AddInstance("demo")
	names := map[string]string{a: "a", b: "b"}
	w.AddService("demo", emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
	w.AddService("demo", emulator.Service{Name: "logs", Desired: 1, Maximum: 100, Daemon: true})
	w.AddTask(a, emulator.Task{Service: "web"})
	w.AddTask(a, emulator.Task{Service: "logs"})
	w.SetInstanceStatus(a, "DRAINING")
	if at := w.where(names); at != "a:RUNNING a:RUNNING b:PENDING" {
		t.Error(at)
	}
	for range 6 {
		w.after(time.Second)
	}
	if at := w.where(names); at != "b:RUNNING" {
		t.Error(at)
	}
	w.SetInstanceStatus(a, "ACTIVE")
	w.after(time.Second)
	w.after(time.Second)
	if at := w.where(names); at != "b:RUNNING a:RUNNING" {
		t.Error(at)
	}
}

// A stopped task goes through its states by the clock, counts nowhere meanwhile, and is forgotten after an hour.
func TestTheLifeOfATask(t *testing.T) {
	w := newWorld(t, emulator.Options{TaskTime: 20 * time.Second})
	client := w.ecsOf()
	a := w.AddInstance("demo")
	arn := w.AddTask(a, emulator.Task{Family: "job"})
	look := func() (task types.Task, listed string) {
		out, err := client.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Cluster: aws.String("demo"), Tasks: []string{arn}})
		if err != nil {
			t.Fatal(err)
		}
		for _, desired := range []types.DesiredStatus{"RUNNING", "STOPPED"} {
			list, err := client.ListTasks(t.Context(), &ecs.ListTasksInput{Cluster: aws.String("demo"), ContainerInstance: &a, DesiredStatus: desired})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.TaskArns) > 0 {
				listed += string(desired)
			}
		}
		if len(out.Tasks) == 0 {
			t.Fatalf("%+v", out)
		}
		return out.Tasks[0], listed
	}
	if task, listed := look(); aws.ToString(task.LastStatus) != "RUNNING" || listed != "RUNNING" || aws.ToString(task.Group) != "family:job" ||
		task.LaunchType != types.LaunchTypeExternal || task.StartedAt == nil {
		t.Errorf("%+v, %s", task, listed)
	}
	if _, err := client.StopTask(t.Context(), &ecs.StopTaskInput{Cluster: aws.String("demo"), Task: &arn, Reason: aws.String("enough")}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"DEACTIVATING", "STOPPING", "STOPPING", "STOPPED"} {
		task, listed := look()
		if aws.ToString(task.LastStatus) != want || aws.ToString(task.DesiredStatus) != "STOPPED" || listed != "STOPPED" ||
			aws.ToString(task.StoppedReason) != "enough" || w.Instances()[0].Tasks+w.Instances()[0].Pending != 0 {
			t.Errorf("%s: %+v, listed %s, %+v", want, task, listed, w.Instances()[0])
		}
		w.now = w.now.Add(8 * time.Second)
	}
	w.now = w.now.Add(time.Hour)
	_, _, answer := w.call("AmazonEC2ContainerServiceV20141113.DescribeTasks", `{"cluster":"demo","tasks":["`+arn+`"]}`, signing{service: "ecs"})
	if failures, _ := answer["failures"].([]any); len(w.Tasks()) > 0 || len(failures) != 1 || failures[0].(map[string]any)["reason"] != "MISSING" {
		t.Errorf("%+v, %v", w.Tasks(), answer)
	}
}

func TestAskingForTasks(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	a, b := w.AddInstance("demo"), w.AddInstance("demo")
	w.AddService("demo", emulator.Service{Name: "web", Desired: 1, Minimum: 50, Maximum: 150})
	w.AddTask(a, emulator.Task{Service: "web"})
	w.AddTask(b, emulator.Task{Family: "job", StartedBy: "cron"})
	w.AddTask(b, emulator.Task{Family: "job", Last: "STOPPED", Desired: "STOPPED"})
	w.SetTasks(b, 250)
	for body, want := range map[string]string{
		`{"cluster":"demo"}`:                                       "100 page",
		`{"cluster":"demo","nextToken":"page-200"}`:                "52",
		`{"cluster":"demo","containerInstance":"` + a + `"}`:       "1",
		`{"cluster":"demo","serviceName":"web"}`:                   "1",
		`{"cluster":"demo","family":"job"}`:                        "1",
		`{"cluster":"demo","startedBy":"cron"}`:                    "1",
		`{"cluster":"demo","desiredStatus":"STOPPED"}`:             "1",
		`{"cluster":"demo","desiredStatus":"PENDING"}`:             "0",
		`{"cluster":"demo","maxResults":0}`:                        "InvalidParameterException",
		`{"cluster":"demo","maxResults":101}`:                      "InvalidParameterException",
		`{"cluster":"demo","desiredStatus":"ASLEEP"}`:              "InvalidParameterException",
		`{"cluster":"demo","serviceName":"none"}`:                  "ServiceNotFoundException",
		`{"cluster":"none"}`:                                       "ClusterNotFoundException",
		`{"cluster":"demo","containerInstance":"` + a[:60] + `0"}`: "InvalidParameterException",
	} {
		_, code, answer := w.call("AmazonEC2ContainerServiceV20141113.ListTasks", body, signing{service: "ecs"})
		got := code
		if arns, ok := answer["taskArns"].([]any); ok {
			got = fmt.Sprint(len(arns))
			if answer["nextToken"] != nil {
				got += " page"
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	many, err := json.Marshal(map[string]any{"cluster": "demo", "tasks": make([]string, 101), "services": make([]string, 11)})
	if err != nil {
		t.Fatal(err)
	}
	for operation, body := range map[string]string{
		"DescribeTasks": string(many), "DescribeServices": string(many), "StopTask": `{"cluster":"demo","task":"none"}`,
		"ListServices": `{"cluster":"demo","maxResults":200}`,
	} {
		if _, code, _ := w.call("AmazonEC2ContainerServiceV20141113."+operation, body, signing{service: "ecs"}); code != "InvalidParameterException" {
			t.Errorf("%s: %s", operation, code)
		}
	}
}

// An instance with tasks on it is deregistered by force only; then they are called stopped.
func TestDeregisteringWithTasks(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	client := w.ecsOf()
	a := w.AddInstance("demo")
	w.AddTask(a, emulator.Task{Last: "STOPPING", Desired: "STOPPED"})
	_, err := client.DeregisterContainerInstance(t.Context(), &ecs.DeregisterContainerInstanceInput{Cluster: aws.String("demo"), ContainerInstance: &a})
	if err == nil || !strings.Contains(err.Error(), "running tasks") || w.Instances()[0].Status != "ACTIVE" {
		t.Errorf("%v, %+v", err, w.Instances())
	}
	_, err = client.DeregisterContainerInstance(t.Context(), &ecs.DeregisterContainerInstanceInput{
		Cluster: aws.String("demo"), ContainerInstance: &a, Force: aws.Bool(true),
	})
	if tasks := w.Tasks(); err != nil || w.Instances()[0].Status != "INACTIVE" || tasks[0].Last != "STOPPED" {
		t.Errorf("%v, %+v", err, tasks)
	}
}

func TestTaskDefinitions(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.AddTaskDefinition(emulator.TaskDefinition{Family: "web", More: map[string]any{"networkMode": "host"}})
	second := w.AddTaskDefinition(emulator.TaskDefinition{Family: "web", More: map[string]any{"networkMode": "awsvpc"}})
	w.AddTaskDefinition(emulator.TaskDefinition{Family: "old", Status: "INACTIVE"})
	client := w.ecsOf()
	for name, want := range map[string]types.NetworkMode{"web": "awsvpc", "web:1": "host", second: "awsvpc"} {
		out, err := client.DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: &name})
		if err != nil || out.TaskDefinition.NetworkMode != want {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	if _, err := client.DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String("none")}); err == nil {
		t.Error("one that is not there was described")
	}
	for status, want := range map[types.TaskDefinitionStatus]int{"": 2, "ACTIVE": 2, "INACTIVE": 1} {
		out, err := client.ListTaskDefinitions(t.Context(), &ecs.ListTaskDefinitionsInput{Status: status})
		if err != nil || len(out.TaskDefinitionArns) != want {
			t.Errorf("%s: %+v, %v", status, out, err)
		}
	}
	clusters, err := client.ListClusters(t.Context(), &ecs.ListClustersInput{})
	if err != nil || len(clusters.ClusterArns) != 1 {
		t.Errorf("%+v, %v", clusters, err)
	}
}
