package simagent_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

// The agent lists the tasks that ECS has given it, in its own words, and goes on doing so when ECS has deregistered it.
func TestTheAgentListsItsTasks(t *testing.T) {
	h := newNode(t)
	a, address := h.agent(nil)
	defer h.background(a.Run)()
	h.until("the connection", func() bool { i := h.cloud.Instances(); return len(i) == 1 && i[0].Connected })
	arn := h.cloud.Instances()[0].ARN
	type task struct {
		Arn, DesiredStatus, KnownStatus, Family, Version string
		Containers                                       []struct{ DockerId, DockerName, Name, Image string }
	}
	tasks := func() []task {
		answer, err := http.Get("http://" + address() + "/v1/tasks")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var out struct{ Tasks []task }
		if err := json.NewDecoder(answer.Body).Decode(&out); err != nil || out.Tasks == nil {
			t.Fatalf("%+v, %v", out, err)
		}
		return out.Tasks
	}
	if all := tasks(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	web := h.cloud.AddTask(arn, emulator.Task{Family: "web", Revision: 7, Containers: []emulator.Container{{Name: "nginx", Image: "nginx:1", DockerID: "0123456789abcdef"}}})
	h.cloud.AddTask(arn, emulator.Task{Family: "job", Last: "STOPPING", Desired: "STOPPED"})
	h.until("both tasks", func() bool { return len(tasks()) == 2 })
	first, second := tasks()[0], tasks()[1]
	if first.Arn != web || first.KnownStatus != "RUNNING" || first.DesiredStatus != "RUNNING" || first.Family != "web" || first.Version != "7" ||
		len(first.Containers) != 1 || first.Containers[0].DockerId != "0123456789abcdef" || first.Containers[0].Name != "nginx" {
		t.Errorf("%+v", first)
	}
	if second.KnownStatus != "RUNNING" || second.DesiredStatus != "STOPPED" || len(second.Containers[0].DockerId) != 64 {
		t.Errorf("one that is stopping: %+v", second)
	}
	h.cloud.FinishTask(web)
	h.until("the end of one", func() bool { return tasks()[0].KnownStatus == "STOPPED" })
	if err := h.cloud.Fault(emulator.FaultInstanceInactive); err != nil {
		t.Fatal(err)
	}
	h.until("the refusal", func() bool { return h.says("Container instance is deregistered") })
	if all := tasks(); len(all) != 2 || all[1].KnownStatus != "RUNNING" {
		t.Errorf("after its deregistration: %+v", all)
	}
}
