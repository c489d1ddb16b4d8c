package docker

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Glimpse is what a quick look at Docker brings: the daemon's version, one image and one container.
type Glimpse struct {
	Info            // without what only the slower /info tells: drivers, folders, security
	Denied  bool    // this user may not open the socket: nothing is known of the daemon, and Why says so
	ImageID string  // sha256:… of the image; empty when Docker has none of that name
	Program Program // the container
}

// Program is a container that runs one program for good.
type Program struct {
	Exists    bool
	ImageID   string // sha256:… that it was made from; another one than the image's name has now is a start behind
	State     string // running, restarting, exited, …
	StartedAt time.Time
	ExitCode  int
}

// unitTime is what Glance gives the service manager, which answers within a few milliseconds.
const unitTime = 250 * time.Millisecond

// Glance looks at Docker, an image and a container by name. It costs the daemon a few milliseconds; Inspect says more.
// That Docker is absent, down or closed to this user is no error but said in the Glimpse; an error means that it could
// not be found out, as when ctx ends before the daemon answers.
func Glance(ctx context.Context, r host.Reader, image, container string) (Glimpse, error) {
	ofUnits, cancel := context.WithTimeout(ctx, unitTime) // a service manager that hangs must not hide the daemon
	defer cancel()
	info, err := installed(ofUnits, r)
	if err != nil {
		return Glimpse{}, err
	}
	g := Glimpse{Info: info}
	if info.Why != "" && socketActivated(ofUnits, r) {
		return g, nil // a connection would start the daemon, and looking changes nothing
	}
	client := newClient(r)
	version, err := client.version(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return g, context.Cause(ctx)
	case errors.Is(err, fs.ErrPermission):
		g.Denied, g.Why = true, whyDown(err)
		return g, nil
	case err != nil && info.Present:
		g.Why = cmp.Or(info.Why, whyDown(err))
		return g, nil
	case err != nil:
		return g, nil
	}
	g.Present, g.Running, g.Why = true, true, ""
	g.Version, g.APIVersion, g.MinAPIVersion = version.Version, version.APIVersion, version.MinAPIVersion
	if g.Flavour = cmp.Or(g.Flavour, Engine); version.podman() {
		g.Flavour = Podman
	}
	if g.ImageID, _, err = client.image(ctx, image); err != nil {
		return g, err
	}
	g.Program, err = client.program(ctx, container)
	return g, err
}

func (c *client) program(ctx context.Context, name string) (Program, error) {
	var answer struct {
		Image string
		State struct {
			Status    string
			StartedAt time.Time
			ExitCode  int
		}
	}
	err := c.get(ctx, "/containers/"+name+"/json", &answer)
	var status statusError
	switch {
	case errors.As(err, &status) && status.status == http.StatusNotFound:
		return Program{}, nil
	case err != nil:
		return Program{}, unanswered(ctx, err, "could not ask Docker for the container "+name)
	}
	return Program{
		Exists: true, ImageID: answer.Image, State: answer.State.Status, StartedAt: answer.State.StartedAt,
		ExitCode: answer.State.ExitCode,
	}, nil
}
