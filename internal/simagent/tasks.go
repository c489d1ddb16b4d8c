package simagent

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// taskList is the tasks of the agent's instance as the control plane last told them. Their containers are not run: the
// emulator plays their life, and says in the fields simulated… what the real agent would see of it in Docker. What the
// agent knows outlives its connection: tasks of an instance that was deregistered stay listed.
type taskList struct {
	mu    sync.Mutex
	tasks []taskMessage
}

// taskMessage is a task in ECS's PayloadMessage.
type taskMessage struct {
	ARN           string `json:"arn"`
	Family        string `json:"family"`
	Version       string `json:"version"`
	DesiredStatus string `json:"desiredStatus"`
	Containers    []struct {
		Name        string `json:"name"`
		Image       string `json:"image"`
		SimulatedID string `json:"simulatedId"`
	} `json:"containers"`
	SimulatedStatus string `json:"simulatedStatus"`
}

func (l *taskList) take(tasks []taskMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tasks = tasks
}

// taskAnswer is a task in the answer of /v1/tasks.
type taskAnswer struct {
	Arn           string
	DesiredStatus string `json:",omitempty"`
	KnownStatus   string
	Family        string
	Version       string
	Containers    []containerAnswer
}

type containerAnswer struct{ DockerId, DockerName, Name, Image string }

// answer has the agent's own three words for what a task is: one that is stopping is still RUNNING to it.
func (l *taskList) answer() []taskAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []taskAnswer{}
	for _, t := range l.tasks {
		a := taskAnswer{t.ARN, t.DesiredStatus, t.SimulatedStatus, t.Family, t.Version, []containerAnswer{}}
		if t.SimulatedStatus == "DEACTIVATING" || t.SimulatedStatus == "STOPPING" {
			a.KnownStatus = "RUNNING"
		}
		for _, c := range t.Containers {
			if c.SimulatedID == "" {
				sum := sha256.Sum256([]byte(t.ARN + c.Name))
				c.SimulatedID = hex.EncodeToString(sum[:])
			}
			a.Containers = append(a.Containers, containerAnswer{
				c.SimulatedID, "ecs-" + t.Family + "-" + t.Version + "-" + c.Name + "-" + c.SimulatedID[:min(18, len(c.SimulatedID))],
				c.Name, c.Image,
			})
		}
		out = append(out, a)
	}
	return out
}
