package simagent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// docker is the part of Docker's HTTP API that ecs-init needs.
type docker struct {
	http *http.Client
	api  string // "/v1.44"; empty before version
}

func newDocker(socket string) *docker {
	return &docker{http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// dockerError is an answer of the daemon's that is not a success.
type dockerError struct {
	status  int
	message string
}

func (e *dockerError) Error() string {
	return fmt.Sprintf("Error response from daemon: %s (HTTP %d)", e.message, e.status)
}

// do makes a call and decodes the answer into out, unless that is nil.
func (d *docker) do(ctx context.Context, method, path string, body io.Reader, kind string, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://docker"+d.api+path, body)
	if err != nil {
		return err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	answer, err := d.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 400 {
		var shape struct{ Message string }
		_ = json.NewDecoder(answer.Body).Decode(&shape) // no JSON: the status says enough
		return &dockerError{answer.StatusCode, shape.Message}
	}
	if out == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	return json.NewDecoder(answer.Body).Decode(out)
}

type dockerVersion struct{ Version, ApiVersion, MinAPIVersion string }

// negotiate asks the daemon for its version and settles the API's: ecs-init knows 1.21 to 1.44 (ecs-init 1.105.1,
// docker/dependencies.go).
func (d *docker) negotiate(ctx context.Context) error {
	var v dockerVersion
	if err := d.do(ctx, http.MethodGet, "/version", nil, "", &v); err != nil {
		return err
	}
	least, most := minor(v.MinAPIVersion, 12), minor(v.ApiVersion, 44)
	use := max(least, 25)
	if use > most {
		use = most
	}
	if use > 44 || use < 21 {
		return fmt.Errorf("could not create docker client: the daemon speaks API 1.%d to 1.%d, not 1.21 to 1.44",
			least, most)
	}
	d.api = fmt.Sprintf("/v1.%d", use)
	return nil
}

// minor is the second number of an API version; all begin with 1.
func minor(version string, otherwise int) int {
	n, err := strconv.Atoi(strings.TrimPrefix(version, "1."))
	if err != nil {
		return otherwise
	}
	return n
}

// load loads an image's tar. The daemon answers 200 and tells a failure in its stream of messages.
func (d *docker) load(ctx context.Context, tar io.Reader) error {
	var message struct{ Error string }
	err := d.do(ctx, http.MethodPost, "/images/load?quiet=1", tar, "application/x-tar", &message)
	if err == io.EOF { // no message at all
		return nil
	}
	if err == nil && message.Error != "" {
		return fmt.Errorf("loading the image: %s", message.Error)
	}
	return err
}

func (d *docker) hasImage(ctx context.Context, name string) (bool, error) {
	err := d.do(ctx, http.MethodGet, "/images/"+name+"/json", nil, "", nil)
	if failed, ok := err.(*dockerError); ok && failed.status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// remove removes a container by force; one that is not there is fine.
func (d *docker) remove(ctx context.Context, name string) error {
	err := d.do(ctx, http.MethodDelete, "/containers/"+name+"?force=1", nil, "", nil)
	if failed, ok := err.(*dockerError); ok && failed.status == http.StatusNotFound {
		return nil
	}
	return err
}

func (d *docker) create(ctx context.Context, name string, spec any) (string, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	var out struct{ Id string }
	err = d.do(ctx, http.MethodPost, "/containers/create?name="+url.QueryEscape(name), bytes.NewReader(body),
		"application/json", &out)
	return out.Id, err
}

func (d *docker) start(ctx context.Context, id string) error {
	return d.do(ctx, http.MethodPost, "/containers/"+id+"/start", nil, "", nil)
}

// wait waits until a container has ended and returns its exit status.
func (d *docker) wait(ctx context.Context, id string) (int, error) {
	var out struct{ StatusCode int }
	err := d.do(ctx, http.MethodPost, "/containers/"+id+"/wait", nil, "", &out)
	return out.StatusCode, err
}

func (d *docker) stop(ctx context.Context, name string, grace time.Duration) error {
	return d.do(ctx, http.MethodPost, fmt.Sprintf("/containers/%s/stop?t=%d", name, int(grace.Seconds())), nil, "", nil)
}
