package rehearsal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// errDead is what everything answers once the program counts as killed.
var errDead = errors.New("the program was killed")

// mortal is a host, and a way to AWS, on which the program dies at a point of its life. From then on nothing that it does
// has any effect, which is all that anybody sees of a kill; what agents do goes on. The points are around every line of the
// journal and around every call that changes something at AWS.
type mortal struct {
	host.Disk
	host.Packager
	host.Manager
	host.Runner

	mu     sync.Mutex
	at     int         // the point at which it dies; 0 is never
	when   func() bool // and the first point at which this is so; nil is never
	torn   bool        // half a line is on the disk, where it dies before one
	points int         // passed so far
	dead   bool
	die    context.CancelFunc
}

// kill runs a line that dies at a point, and reports whether it came so far. At an odd place half a line of the journal is
// left behind.
func (s *stage) kill(t *testing.T, l line, at int) (killed bool) {
	t.Helper()
	return s.perish(t, l, &mortal{at: at, torn: at%4 == 1})
}

// perish runs a line that m kills, and reports whether it did.
func (s *stage) perish(t *testing.T, l line, m *mortal) (killed bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m.die = cancel
	s.around, s.way = m.around, m
	if r := s.machine.rpms; r != nil {
		r.mortal(func() bool { return m.point() != nil })
		defer r.mortal(nil)
	}
	defer func() { s.around, s.way = nil, nil }()
	env := s.env(l)
	env.Streams.Out, env.Streams.Err = io.Discard, io.Discard
	rc := cli.Main(ctx, env, s.args(l))
	killed = m.alive() != nil
	if !killed && rc != 0 {
		t.Fatalf("%q was not killed, and ended with %d", l.args, rc)
	}
	return killed
}

// around returns the host with death in it.
func (m *mortal) around(h host.Host) host.Host {
	m.Disk, m.Packager, m.Manager, m.Runner = h.Disk, h.Packager, h.Manager, h.Runner
	if _, is := h.Packager.(*host.Rpm); is { // what it notes, and its children, die with it
		m.Packager = host.NewRpm(h.Files, mortalDisk{m}, mortalRunner{m})
	}
	if h.Snaps != nil { // its command is run by the runner, and dies with it
		h.Snaps = host.NewSnapd(h.Files, h.Runner)
	}
	dial := h.Dial
	h.Disk, h.Packager, h.Manager, h.Runner = mortalDisk{m}, mortalPackager{m}, mortalManager{m}, mortalRunner{m}
	h.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := m.alive(); err != nil {
			return nil, err
		}
		return dial(ctx, network, address)
	}
	return h
}

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return nil
}

// point is a moment at which the program can die; it is an error when it has.
func (m *mortal) point() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.points++; m.points == m.at || !m.dead && m.when != nil && m.when() {
		m.dead = true
		m.die()
	}
	if m.dead {
		return errDead
	}
	return nil
}

// Do is the way to AWS.
func (m *mortal) Do(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	reads := operation == "" || strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "List")
	if !reads {
		_ = m.point()
	}
	if m.alive() != nil { // an error of the network would be tried again
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Header: http.Header{"X-Amzn-Errortype": {"Dead"}}}, nil
	}
	response, err := http.DefaultClient.Do(r.WithContext(context.WithoutCancel(r.Context())))
	if !reads {
		_ = m.point()
	}
	return response, err
}

type mortalDisk struct{ *mortal }

func (d mortalDisk) WriteFile(name string, data io.Reader, mode fs.FileMode, owner host.Owner) error {
	return d.do(func() error { return d.Disk.WriteFile(name, data, mode, owner) })
}

func (d mortalDisk) Rename(from, to string) error {
	return d.do(func() error { return d.Disk.Rename(from, to) })
}

func (d mortalDisk) Mkdir(name string, mode fs.FileMode, owner host.Owner) error {
	return d.do(func() error { return d.Disk.Mkdir(name, mode, owner) })
}

func (d mortalDisk) Symlink(target, name string) error {
	return d.do(func() error { return d.Disk.Symlink(target, name) })
}

func (d mortalDisk) Remove(name string) error {
	return d.do(func() error { return d.Disk.Remove(name) })
}

func (d mortalDisk) RemoveAll(name string) error {
	return d.do(func() error { return d.Disk.RemoveAll(name) })
}

func (m *mortal) do(change func() error) error {
	if err := m.alive(); err != nil {
		return err
	}
	return change()
}

func (d mortalDisk) Append(name string) (host.AppendFile, error) {
	if err := d.alive(); err != nil {
		return nil, err
	}
	file, err := d.Disk.Append(name)
	return mortalFile{file, d.mortal}, err
}

// mortalFile is the journal, or the log.
type mortalFile struct {
	host.AppendFile
	m *mortal
}

func (f mortalFile) Write(line []byte) (int, error) {
	if err := f.m.alive(); err != nil {
		return 0, err
	}
	if !bytes.Contains(line, []byte(`{"is":`)) { // none of the journal's
		return f.AppendFile.Write(line)
	}
	if err := f.m.point(); err != nil {
		n := 0
		if f.m.torn {
			n, _ = f.AppendFile.Write(line[:len(line)/2])
		}
		return n, err
	}
	return f.AppendFile.Write(line)
}

func (f mortalFile) Sync() error {
	err := f.AppendFile.Sync()
	if dead := f.m.point(); dead != nil {
		return dead
	}
	return err
}

type mortalPackager struct{ *mortal }

func (p mortalPackager) Install(ctx context.Context, file string) error {
	return p.do(func() error { return p.Packager.Install(ctx, file) })
}

func (p mortalPackager) Remove(ctx context.Context, name string, purge bool) error {
	return p.do(func() error { return p.Packager.Remove(ctx, name, purge) })
}

func (p mortalPackager) Repair(ctx context.Context) error {
	return p.do(func() error { return p.Packager.Repair(ctx) })
}

type mortalManager struct{ *mortal }

func (u mortalManager) Start(ctx context.Context, name string) error {
	return u.do(func() error { return u.Manager.Start(ctx, name) })
}

func (u mortalManager) Stop(ctx context.Context, name string) error {
	return u.do(func() error { return u.Manager.Stop(ctx, name) })
}

func (u mortalManager) Restart(ctx context.Context, name string) error {
	return u.do(func() error { return u.Manager.Restart(ctx, name) })
}

func (u mortalManager) Enable(ctx context.Context, name string) error {
	return u.do(func() error { return u.Manager.Enable(ctx, name) })
}

func (u mortalManager) Disable(ctx context.Context, name string) error {
	return u.do(func() error { return u.Manager.Disable(ctx, name) })
}

func (u mortalManager) Reload(ctx context.Context) error {
	return u.do(func() error { return u.Manager.Reload(ctx) })
}

type mortalRunner struct{ *mortal }

func (r mortalRunner) Run(ctx context.Context, cmd host.Cmd) (result host.Result, err error) {
	err = r.do(func() error {
		result, err = r.Runner.Run(ctx, cmd)
		return err
	})
	return result, err
}

func (r mortalRunner) Wait(ctx context.Context, child host.Child) error {
	return r.Runner.Wait(ctx, child)
}
