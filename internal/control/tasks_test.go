package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

func TestSeeTasks(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	own, other := w.AddInstance("prod"), w.AddInstance("prod")
	w.AddService("prod", emulator.Service{Name: "web", Desired: 1, Minimum: 50, Maximum: 150})
	w.AddTask(own, emulator.Task{Service: "web"})
	w.AddTask(own, emulator.Task{Family: "job", Last: "STOPPING", Desired: "STOPPED"})
	w.AddTask(own, emulator.Task{Family: "job", Last: "STOPPED", Desired: "STOPPED"})
	w.AddTask(own, emulator.Task{Family: "job", Last: "PENDING"})
	w.AddTask(other, emulator.Task{})
	tasks, err := o.SeeTasks(t.Context(), "prod", own)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, s := range tasks {
		seen = append(seen, fmt.Sprintf("%s %s %s %s", s.Service, s.Group, s.Last, s.Desired))
	}
	slices.Sort(seen)
	if want := " family:job PENDING RUNNING| family:job STOPPING STOPPED|web service:web RUNNING RUNNING"; strings.Join(seen, "|") != want {
		t.Errorf("%q", seen)
	}
	w.SetTasks(own, 250) // three pages of ARNs, and three calls that describe them
	if tasks, err = o.SeeTasks(t.Context(), "prod", own); err != nil || len(tasks) != 253 {
		t.Errorf("%d tasks, %v", len(tasks), err)
	}
}

// failures[] is looked at: what has been forgotten meanwhile is no failure, everything else is.
func TestTasksThatECSDoesNotDescribe(t *testing.T) {
	for reason, code := range map[string]failure.Code{"MISSING": "", "BUSY": failure.AWSUnavailable} {
		o := answering(t, func(operation string, _ map[string]any) string {
			switch operation {
			case "ListTasks":
				return `{"taskArns":["arn:1","arn:2"]}`
			case "DescribeTasks":
				return `{"tasks":[{"taskArn":"arn:2","lastStatus":"RUNNING"}],"failures":[{"arn":"arn:1","reason":"` + reason + `"}]}`
			case "DescribeServices":
				return `{"services":[{"serviceName":"web","desiredCount":2}],"failures":[{"arn":"arn:1","reason":"` + reason + `"}]}`
			}
			return `{"containerInstances":[],"failures":[{"arn":"arn:1","reason":"` + reason + `"}]}`
		})
		tasks, err := o.SeeTasks(t.Context(), "prod", "arn:i")
		if code == "" && (err != nil || len(tasks) != 1) || code != "" && !failure.Is(err, code) {
			t.Errorf("%s: %+v, %v", reason, tasks, err)
		}
		services, err := o.SeeServices(t.Context(), "prod", []string{"web", "gone"})
		if code == "" && (err != nil || len(services) != 1 || services[0].Minimum != 100 || services[0].Maximum != 200) ||
			code != "" && !failure.Is(err, code) {
			t.Errorf("%s: %+v, %v", reason, services, err)
		}
		want := code
		if code == "" {
			want = failure.InstanceInactive
		}
		if err := o.SetInstanceStatus(t.Context(), "prod", "arn:1", Draining); !failure.Is(err, want) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func TestWhereAServiceCanGo(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	own, other, third := w.AddInstance("prod"), w.AddInstance("prod"), w.AddInstance("prod")
	w.AddService("prod", emulator.Service{Name: "web", Desired: 2, Minimum: 100, Maximum: 200, FixedPorts: true})
	w.AddService("prod", emulator.Service{Name: "api", Desired: 1})
	w.AddTask(own, emulator.Task{Service: "web"})
	w.AddTask(other, emulator.Task{Service: "web"})
	w.SetInstanceStatus(third, "DRAINING")
	elsewhere, err := o.Elsewhere(t.Context(), "prod", own)
	if err != nil || !slices.Equal(elsewhere, []string{other}) {
		t.Errorf("%v, %v", elsewhere, err)
	}
	on, err := o.InstancesOfService(t.Context(), "prod", "web")
	if err != nil || len(on) != 2 || !slices.Contains(on, own) || !slices.Contains(on, other) {
		t.Errorf("%v, %v", on, err)
	}
	w.AddTaskDefinition(emulator.TaskDefinition{Family: "host", More: map[string]any{
		"networkMode": "host", "containerDefinitions": []any{map[string]any{"portMappings": []any{map[string]any{"containerPort": 53}}}},
	}})
	for definition, want := range map[string][]int{"web:1": {8080}, "api:1": nil, "host": {53}} {
		if ports, err := o.HostPorts(t.Context(), definition); err != nil || !slices.Equal(ports, want) {
			t.Errorf("%s: %v, %v", definition, ports, err)
		}
	}
	names, err := o.ServiceNames(t.Context(), "prod")
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"api", "web"}) {
		t.Errorf("%v, %v", names, err)
	}
	for n := range 150 {
		w.AddCluster(fmt.Sprintf("c%d", n))
	}
	if clusters, err := o.SeeClusters(t.Context()); err != nil || len(clusters) != 151 || !slices.Contains(clusters, "prod") {
		t.Errorf("%d clusters, %v", len(clusters), err)
	}
}

// Rights are settled by calls that change nothing, whatever AWS answers but for a denial.
func TestRightsAreSettledWithoutAChange(t *testing.T) {
	w := newWorld(t)
	own := w.AddInstance("prod")
	w.AddTask(own, emulator.Task{})
	id, _ := w.AddActivation(1, w.now)
	for action, may := range map[string]func(o *Operator) error{
		"ecs:UpdateContainerInstancesState": func(o *Operator) error { return o.MaySetInstanceStatus(t.Context(), "prod", own, Active) },
		"ecs:*":                             func(o *Operator) error { return o.MayDrain(t.Context(), "prod") },
		"ecs:DeregisterContainerInstance":   func(o *Operator) error { return o.MayDeregisterInstance(t.Context(), "prod") },
		"ssm:DeregisterManagedInstance":     func(o *Operator) error { return o.MayDeregisterNode(t.Context()) },
		"ecs:StopTask":                      func(o *Operator) error { return o.MayStopTask(t.Context(), "prod") },
		"ecs:ListTasks":                     func(o *Operator) error { return o.MayListTasks(t.Context(), "prod", own) },
		"ecs:DescribeTasks":                 func(o *Operator) error { return o.MayListTasks(t.Context(), "prod", own) },
	} {
		allowed, _ := w.operator()
		if err := may(allowed); err != nil {
			t.Errorf("%s: %v", action, err)
		}
		denied, _ := w.operator(action)
		if err := may(denied); !failure.Is(err, failure.AccessDenied) || failure.Of(err).Remedy == "" {
			t.Errorf("%s is denied: %v", action, err)
		}
		if err := w.Fault(emulator.FaultServerError); err != nil {
			t.Fatal(err)
		}
		if err := may(allowed); !failure.Is(err, failure.AWSUnavailable) {
			t.Errorf("%s and silence: %v", action, err)
		}
		w.ClearFault(emulator.FaultServerError)
	}
	i := w.Instances()[0]
	if left, _ := w.ActivationsLeft(id); i.Status != "ACTIVE" || i.Tasks != 1 || left != 1 {
		t.Errorf("something was changed: %+v", i)
	}
}

// What is gone already is no failure; tasks that run are one.
func TestLeavingTwice(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	own := w.AddInstance("prod")
	task := w.AddTask(own, emulator.Task{})
	if _, err := o.DeregisterInstance(t.Context(), "prod", own, false); !failure.Is(err, failure.TasksRunning) ||
		!strings.Contains(failure.Of(err).Remedy, "--force --accept-risk running-tasks") {
		t.Errorf("with a task: %v", err)
	}
	if err := o.StopTask(t.Context(), "prod", task, "enough"); err != nil || w.Tasks()[0].Reason != "enough" {
		t.Errorf("%v, %+v", err, w.Tasks())
	}
	if err := o.StopTask(t.Context(), "prod", task+"0", "enough"); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
	for n, want := range []bool{true, false} {
		if was, err := o.DeregisterInstance(t.Context(), "prod", own, true); was != want || err != nil {
			t.Errorf("%d: %v, %v", n, was, err)
		}
	}
	if was, err := o.DeregisterInstance(t.Context(), "prod", noInstance, false); was || err != nil {
		t.Errorf("one that never was: %v, %v", was, err)
	}
	if err := o.SetInstanceStatus(t.Context(), "prod", own, Active); !failure.Is(err, failure.InstanceInactive) {
		t.Errorf("%v", err)
	}
	if was, err := o.DeregisterNode(t.Context(), noNode); was || err != nil {
		t.Errorf("%v, %v", was, err)
	}
	if _, err := o.DeregisterInstance(t.Context(), "none", own, false); !failure.Is(err, failure.ClusterNotFound) {
		t.Errorf("%v", err)
	}
}

// Only a managed node's own keys connect as one.
func TestConnectNode(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	_, err := ConnectNode(t.Context(), cfg, Connection{EndpointURL: w.url}, func() (Keys, error) {
		return Keys{ID: "AKIAOPERATOR00000001", Secret: secret.NewText("the-operators-secret-key")}, nil
	})
	if !failure.Is(err, failure.CredentialsInvalid) || !strings.Contains(err.Error(), "not those of a managed node") {
		t.Errorf("an operator's keys: %v", err)
	}
	lost := failure.New(failure.NotRoot, "no keys")
	if _, err := ConnectNode(t.Context(), aws.Config{Region: region}, Connection{EndpointURL: w.url}, func() (Keys, error) { return Keys{}, lost }); err == nil {
		t.Error("it connected without keys")
	}
}
