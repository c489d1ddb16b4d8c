package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Look returns what is known of one container, by its id or name.
func Look(ctx context.Context, r host.Reader, name string) (Program, error) {
	return newClient(r).program(ctx, name)
}

// Load loads the images of an archive, as "docker load" does. It takes as long as it takes.
func Load(ctx context.Context, r host.Reader, archive io.Reader) error {
	c := newClient(r)
	c.http.Timeout = 0
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker/images/load?quiet=1", archive)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-tar")
	response, err := c.http.Do(request)
	if err != nil {
		return unanswered(ctx, err, "could not load an image")
	}
	defer response.Body.Close()
	messages := json.NewDecoder(io.LimitReader(response.Body, answerBound)) // the daemon tells a failure among them, too
	for {
		var message struct{ Message, Error string }
		switch err := messages.Decode(&message); {
		case errors.Is(err, io.EOF) && response.StatusCode == http.StatusOK:
			return nil
		case errors.Is(err, io.EOF):
			return failure.New(failure.ServiceFailed, "Docker cannot load the image: it answered %s", response.Status)
		case err != nil:
			return unanswered(ctx, err, "could not load an image")
		}
		if said := message.Error + message.Message; said != "" {
			return failure.New(failure.ServiceFailed, "Docker cannot load the image: %s", said)
		}
	}
}

// Mounted reports whether a container, running or not, has something at or below a folder of the host mounted.
func Mounted(ctx context.Context, r host.Reader, folder string) (bool, error) {
	var all []struct{ Mounts []struct{ Source string } }
	if err := newClient(r).get(ctx, "/containers/json?all=1", &all); err != nil {
		return false, unanswered(ctx, err, "could not list Docker's containers")
	}
	for _, c := range all {
		for _, m := range c.Mounts {
			if m.Source == folder || strings.HasPrefix(m.Source, folder+"/") {
				return true, nil
			}
		}
	}
	return false, nil
}

// Unnamed reports whether an image is there, by its id, and has no name: another image has taken it.
func Unnamed(ctx context.Context, r host.Reader, id string) (bool, error) {
	var answer struct{ RepoTags []string }
	err := newClient(r).get(ctx, "/images/"+id+"/json", &answer)
	var status statusError
	switch {
	case errors.As(err, &status) && status.status == http.StatusNotFound:
		return false, nil
	case err != nil:
		return false, unanswered(ctx, err, "could not ask Docker for the image "+id)
	}
	return len(answer.RepoTags) == 0, nil
}

// Tag gives an image, by its id, a name of the form REPOSITORY:TAG, which another image may lose by that.
func Tag(ctx context.Context, r host.Reader, id, name string) error {
	repository, tag, _ := strings.Cut(name, ":")
	query := url.Values{"repo": {repository}, "tag": {tag}}
	return changed(ctx, newClient(r).do(ctx, http.MethodPost, "/images/"+id+"/tag?"+query.Encode(), nil), "name the image "+id+" "+name)
}

// RemoveImage removes an image by its id, unless a container is made of it; with force only one that runs counts. An image
// that is not there is no error.
func RemoveImage(ctx context.Context, r host.Reader, id string, force bool) error {
	path := "/images/" + id
	if force {
		path += "?force=1"
	}
	err := newClient(r).do(ctx, http.MethodDelete, path, nil)
	var status statusError
	if errors.As(err, &status) && status.status == http.StatusNotFound {
		return nil
	}
	return changed(ctx, err, "remove the image "+id)
}

// changed is the failure of a call that was to change something.
func changed(ctx context.Context, err error, doing string) error {
	var status statusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return failure.New(failure.ServiceFailed, "cannot %s: %s", doing, status.message).WithEvidence("%v", err)
	}
	return unanswered(ctx, err, "could not "+doing)
}
