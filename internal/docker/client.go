package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const (
	answerTime  = 5 * time.Second // a busy daemon takes a second or two
	answerBound = 32 << 20        // bytes; a container is less than 10 KiB
)

// client speaks to the daemon without an API version in the path: the daemon then uses its own newest, in which the few
// fields that are read here have been the same since 1.24.
type client struct{ http http.Client }

func newClient(r host.Reader) *client {
	return &client{http.Client{Timeout: answerTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return r.Dial(ctx, "unix", Socket)
		},
	}}}
}

// statusError is an answer other than 200.
type statusError struct {
	status  int
	message string
}

func (e statusError) Error() string {
	return fmt.Sprintf("docker answered %d: %s", e.status, e.message)
}

func (c *client) get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, into)
}

// do makes a call. into is nil where the answer does not matter: then one that says that it is so already is none the worse.
func (c *client) do(ctx context.Context, method, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBound))
	if err != nil {
		return err
	}
	if code := response.StatusCode; into == nil && (code == http.StatusNoContent || code == http.StatusNotModified) {
		return nil
	}
	if response.StatusCode != http.StatusOK {
		var answer struct{ Message string }
		if json.Unmarshal(body, &answer) != nil {
			answer.Message = http.StatusText(response.StatusCode)
		}
		return statusError{response.StatusCode, answer.Message}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("docker's answer to %s is not what it should be: %w", path, err)
	}
	return nil
}

// daemonVersion is what /version answers.
type daemonVersion struct {
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
	Components    []struct{ Name string }
}

// podman reports whether podman's Docker-like service answers: it names itself in its components.
func (v daemonVersion) podman() bool {
	for _, c := range v.Components {
		if strings.Contains(c.Name, "Podman") {
			return true
		}
	}
	return false
}

func (c *client) version(ctx context.Context) (v daemonVersion, err error) {
	err = c.get(ctx, "/version", &v)
	return v, err
}

// daemonInfo is what /info answers.
type daemonInfo struct {
	CgroupDriver, CgroupVersion string
	Driver, DockerRootDir       string
	OperatingSystem             string
	SecurityOptions             []string // "name=seccomp,profile=builtin"
}

// has reports whether a security option of that name is on.
func (i daemonInfo) has(name string) bool {
	for _, option := range i.SecurityOptions {
		for field := range strings.SplitSeq(option, ",") {
			if field == "name="+name || field == name {
				return true
			}
		}
	}
	return false
}

func (c *client) info(ctx context.Context) (i daemonInfo, err error) {
	err = c.get(ctx, "/info", &i)
	return i, err
}

func (c *client) containers(ctx context.Context, label string) ([]Container, error) {
	query := url.Values{"all": {"1"}}
	if label != "" {
		filters, err := json.Marshal(map[string][]string{"label": {label}})
		if err != nil {
			return nil, err
		}
		query.Set("filters", string(filters))
	}
	var answer []struct {
		ID      string `json:"Id"`
		Names   []string
		Image   string
		ImageID string
		State   string
		Labels  map[string]string
	}
	if err := c.get(ctx, "/containers/json?"+query.Encode(), &answer); err != nil {
		return nil, unanswered(ctx, err, "could not list Docker's containers")
	}
	list := make([]Container, 0, len(answer))
	for _, a := range answer {
		for i, name := range a.Names {
			a.Names[i] = strings.TrimPrefix(name, "/")
		}
		list = append(list, Container{ID: a.ID, Names: a.Names, Image: a.Image, ImageID: a.ImageID,
			State: a.State, Labels: a.Labels})
	}
	return list, nil
}

func (c *client) image(ctx context.Context, name string) (id string, ok bool, err error) {
	var answer struct {
		ID string `json:"Id"`
	}
	err = c.get(ctx, "/images/"+name+"/json", &answer)
	var status statusError
	switch {
	case errors.As(err, &status) && status.status == http.StatusNotFound:
		return "", false, nil
	case err != nil:
		return "", false, unanswered(ctx, err, "could not ask Docker for the image "+name)
	}
	return answer.ID, true, nil
}

func unanswered(ctx context.Context, err error, doing string) error {
	if ctx.Err() != nil { // the caller gave up, not the daemon
		return context.Cause(ctx)
	}
	return failure.New(failure.DockerDown, "%s: %s", doing, whyDown(err)).WithEvidence("%v", err)
}

// whyDown says in words why the daemon did not answer.
func whyDown(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no " + Socket
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens on " + Socket
	case errors.Is(err, fs.ErrPermission):
		return "not permitted to open " + Socket
	case errors.As(err, &timeout) && timeout.Timeout():
		return "the daemon did not answer within " + answerTime.String()
	}
	return err.Error()
}
