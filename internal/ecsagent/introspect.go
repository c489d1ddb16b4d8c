package ecsagent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const (
	// IntrospectionAddress is where the agent answers once it has registered, never before
	// (ecs-agent/introspection/server.go of 1.105.1; agent/app/agent.go starts it after the registration).
	IntrospectionAddress = "127.0.0.1:51678"

	introspectionBound = 2 * time.Second // the agent answers from memory
	answerBound        = 16 << 20        // bytes; a task is less than 10 KiB
)

// ErrClosed means that nothing listens on the introspection port: the agent does not run, or has not registered since it
// was started.
var ErrClosed = errors.New("the ECS agent's introspection port is closed: it has not registered since it started")

// Metadata is what the agent says of itself. It proves that this process of the agent has registered once, not that ECS
// still has the instance as ACTIVE: it stays the same after a deregistration in ECS.
type Metadata struct {
	Cluster              string // as configured: a name or an ARN
	ContainerInstanceARN string
	Version              string // like 1.105.1
	Hash                 string // of the agent's commit, eight digits
}

// Introspect asks the running agent. It fails with ErrClosed when the port is closed, with failure.Network when what
// answers there is not the agent or does not answer in two seconds.
func Introspect(ctx context.Context, r host.Reader) (Metadata, error) {
	body, err := ask(ctx, r, "/v1/metadata")
	if err != nil {
		return Metadata{}, err
	}
	return decodeMetadata(body)
}

// Task is a task that the agent knows; a stopped one stays for three hours.
type Task struct {
	ARN           string
	DesiredStatus string // empty, RUNNING or STOPPED
	KnownStatus   string // PENDING, RUNNING, STOPPED and those between
	Family        string
	Revision      string
	Containers    []TaskContainer
}

// TaskContainer is one of its containers.
type TaskContainer struct{ ID, Name, Image string }

// Stopped reports whether nothing of the task runs any more.
func (t Task) Stopped() bool { return t.KnownStatus == "STOPPED" }

// Tasks asks the running agent for its tasks. It fails as Introspect does.
func Tasks(ctx context.Context, r host.Reader) ([]Task, error) {
	body, err := ask(ctx, r, "/v1/tasks")
	if err != nil {
		return nil, err
	}
	return decodeTasks(body)
}

func ask(caller context.Context, r host.Reader, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(caller, introspectionBound)
	defer cancel()
	// A transport of its own: no proxy, whatever the environment says, and no connection that outlives the question.
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return r.Dial(ctx, "tcp", IntrospectionAddress)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+IntrospectionAddress+path, nil)
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "could not ask the ECS agent")
	}
	response, err := client.Do(request)
	if err != nil {
		switch {
		case caller.Err() != nil: // the caller gave up, not the agent
			return nil, context.Cause(caller)
		case refused(err):
			return nil, ErrClosed
		}
		return nil, unanswered(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBound))
	if err != nil {
		return nil, unanswered(err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, foreign("http://%s%s answered %s", IntrospectionAddress, path, response.Status)
	}
	return body, nil
}

func unanswered(err error) error {
	return failure.Wrap(failure.Network, err, "the ECS agent's introspection at %s did not answer", IntrospectionAddress).
		WithRemedy("docker logs ecs-agent")
}

func foreign(format string, args ...any) error {
	return failure.New(failure.Network, "what listens on %s is not the ECS agent", IntrospectionAddress).
		WithEvidence(format, args...).
		WithRemedy("ss -ltnp 'sport = :51678' names the program; it must leave the port to the ECS agent")
}

// refused also knows Windows' own number (WSAECONNREFUSED), which errors.Is does not take for ECONNREFUSED.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.Errno(10061))
}

// versionText matches "Amazon ECS Agent - v1.105.1 (*a8b3e7d3)"; the star marks a build from a changed tree.
var versionText = regexp.MustCompile(`v(\d+\.\d+\.\d+) \(\*?([0-9a-f]{8})\)`)

func decodeMetadata(body []byte) (Metadata, error) {
	var answer struct {
		Cluster              string
		ContainerInstanceArn *string // null in principle; the port is closed before there is one
		Version              string
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Metadata{}, foreign("/v1/metadata: %v", err)
	}
	m := Metadata{Cluster: answer.Cluster}
	if answer.ContainerInstanceArn != nil {
		m.ContainerInstanceARN = *answer.ContainerInstanceArn
	}
	if found := versionText.FindStringSubmatch(answer.Version); found != nil {
		m.Version, m.Hash = found[1], found[2]
	}
	if !strings.HasPrefix(answer.Version, "Amazon ECS Agent") && m.ContainerInstanceARN == "" {
		return Metadata{}, foreign("/v1/metadata has neither the agent's version nor an instance ARN")
	}
	return m, nil
}

func decodeTasks(body []byte) ([]Task, error) {
	var answer struct {
		Tasks []struct {
			Arn, DesiredStatus, KnownStatus, Family, Version string
			Containers                                       []struct {
				ID          string `json:"DockerId"`
				Name, Image string
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, foreign("/v1/tasks: %v", err)
	}
	tasks := make([]Task, 0, len(answer.Tasks))
	for _, t := range answer.Tasks {
		task := Task{ARN: t.Arn, DesiredStatus: t.DesiredStatus, KnownStatus: t.KnownStatus,
			Family: t.Family, Revision: t.Version}
		for _, c := range t.Containers {
			task.Containers = append(task.Containers, TaskContainer{ID: c.ID, Name: c.Name, Image: c.Image})
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}
