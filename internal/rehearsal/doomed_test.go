package rehearsal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// doomed is a run of a command that is killed at a point of its life. From then on nothing that it does has any effect: not
// on the disk, not on services, not at AWS. What agents do goes on. The points are around every line of the journal and
// around every call that changes something at AWS.
type doomed struct {
	mu     sync.Mutex
	at     int // the point at which it dies; 0 is never
	points int // passed so far
	dead   bool
	die    context.CancelFunc
}

var errDoomed = errors.New("the process is dead")

// point is a moment at which the run can die.
func (m *doomed) point() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.points++; m.points == m.at {
		m.dead = true
		m.die()
	}
}

func (m *doomed) gone() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDoomed
	}
	return nil
}

// kill runs a line that dies at a point, and reports whether it came so far.
func (s *stage) kill(t *testing.T, l line, at int) (killed bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := &doomed{at: at, die: cancel}
	env := s.env(l)
	h := s.machine.host()
	h.Disk, h.Manager = doomedDisk{h.Disk, m}, doomedManager{h.Manager, m}
	env.Host = func() (host.Host, error) { return h, nil }
	config := env.AWS
	env.AWS = func(ctx context.Context, a control.Access) (aws.Config, error) {
		cfg, err := config(ctx, a)
		cfg.HTTPClient = doomedClient{m}
		return cfg, err
	}
	var said bytes.Buffer
	env.Streams.Out, env.Streams.Err = &said, &said
	rc := cli.Main(ctx, env, s.args(l))
	if m.gone() == nil {
		t.Logf("it lives, after %d points, exit %d: %s", m.points, rc, said.String())
	}
	return m.gone() != nil
}

// doomedClient is the way to AWS.
type doomedClient struct{ m *doomed }

func (c doomedClient) Do(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	reads := operation == "" || strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "List")
	if !reads {
		c.m.point()
	}
	if c.m.gone() != nil { // anything else would be tried again
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Header: http.Header{"X-Amzn-Errortype": {"Dead"}}}, nil
	}
	response, err := http.DefaultClient.Do(r.WithContext(context.WithoutCancel(r.Context())))
	if !reads {
		c.m.point()
	}
	return response, err
}

type doomedDisk struct {
	host.Disk
	m *doomed
}

func (d doomedDisk) WriteFile(path string, data io.Reader, mode fs.FileMode, owner host.Owner) error {
	return d.do(func() error { return d.Disk.WriteFile(path, data, mode, owner) })
}

func (d doomedDisk) Rename(from, to string) error {
	return d.do(func() error { return d.Disk.Rename(from, to) })
}

func (d doomedDisk) Mkdir(path string, mode fs.FileMode, owner host.Owner) error {
	return d.do(func() error { return d.Disk.Mkdir(path, mode, owner) })
}

func (d doomedDisk) Symlink(target, path string) error {
	return d.do(func() error { return d.Disk.Symlink(target, path) })
}

func (d doomedDisk) Remove(path string) error {
	return d.do(func() error { return d.Disk.Remove(path) })
}

func (d doomedDisk) RemoveAll(path string) error {
	return d.do(func() error { return d.Disk.RemoveAll(path) })
}

func (d doomedDisk) do(change func() error) error {
	if err := d.m.gone(); err != nil {
		return err
	}
	return change()
}

func (d doomedDisk) Append(path string) (host.AppendFile, error) {
	if err := d.m.gone(); err != nil {
		return nil, err
	}
	file, err := d.Disk.Append(path)
	return doomedFile{file, d.m}, err
}

// doomedFile is the journal, or the log.
type doomedFile struct {
	host.AppendFile
	m *doomed
}

func (f doomedFile) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`{"is":`)) { // a line of the journal, not yet there
		f.m.point()
	}
	if err := f.m.gone(); err != nil {
		return 0, err
	}
	return f.AppendFile.Write(p)
}

func (f doomedFile) Sync() error {
	err := f.AppendFile.Sync()
	f.m.point() // and there
	if dead := f.m.gone(); dead != nil {
		return dead
	}
	return err
}

type doomedManager struct {
	host.Manager
	m *doomed
}

func (u doomedManager) Start(ctx context.Context, name string) error {
	return u.do(ctx, name, u.Manager.Start)
}

func (u doomedManager) Stop(ctx context.Context, name string) error {
	return u.do(ctx, name, u.Manager.Stop)
}

func (u doomedManager) Restart(ctx context.Context, name string) error {
	return u.do(ctx, name, u.Manager.Restart)
}

func (u doomedManager) Enable(ctx context.Context, name string) error {
	return u.do(ctx, name, u.Manager.Enable)
}

func (u doomedManager) Disable(ctx context.Context, name string) error {
	return u.do(ctx, name, u.Manager.Disable)
}

func (u doomedManager) do(ctx context.Context, name string, change func(context.Context, string) error) error {
	if err := u.m.gone(); err != nil {
		return err
	}
	return change(ctx, name)
}
