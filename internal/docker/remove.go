package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// StopTime is what a container is given to end by itself. Source: ECS_CONTAINER_STOP_TIMEOUT's default, agent/config of
// aws/amazon-ecs-agent 1.105.1.
const StopTime = 30 * time.Second

// RemoveContainer ends a container, giving its program StopTime, and removes it; its volumes and image stay. One that is
// not there is no error. It fails with failure.DockerDown when the daemon does not answer.
func RemoveContainer(ctx context.Context, r host.Reader, id string) error {
	c := newClient(r)
	c.http.Timeout = StopTime + answerTime
	for _, call := range []struct{ method, path string }{
		{http.MethodPost, fmt.Sprintf("/containers/%s/stop?t=%d", id, int(StopTime.Seconds()))},
		{http.MethodDelete, "/containers/" + id + "?force=1"},
	} {
		err := c.do(ctx, call.method, call.path, nil)
		var status statusError
		switch {
		case errors.As(err, &status) && status.status == http.StatusNotFound:
			return nil
		case errors.As(err, &status):
			return failure.New(failure.ServiceFailed, "cannot remove the container %s: %s", id, status.message).WithEvidence("%v", err)
		case err != nil:
			return unanswered(ctx, err, "could not remove the container "+id)
		}
	}
	return nil
}
