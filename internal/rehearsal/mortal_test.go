package rehearsal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// errDead is what everything answers once the program counts as killed.
var errDead = errors.New("the program was killed")

// mortal is a host on which the program dies: from a line of the journal on it changes nothing any more, which is all
// that anybody sees of a kill. A program that is killed for good runs on in a test, and gets errors.
type mortal struct {
	host.Disk
	host.Packager
	host.Manager
	host.Runner
	mu    sync.Mutex
	lines int // of the journal that may still be written
	torn  bool
	dead  bool
}

// around returns the host with death in it.
func (m *mortal) around(h host.Host) host.Host {
	m.Disk, m.Packager, m.Manager, m.Runner = h.Disk, h.Packager, h.Manager, h.Runner
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

// line is a line of the journal about to be written.
func (m *mortal) line() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lines--; m.lines < 0 {
		m.dead = true
	}
	if m.dead {
		return errDead
	}
	return nil
}

// Do is the way to AWS.
func (m *mortal) Do(r *http.Request) (*http.Response, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(r)
}

func isJournal(name string) bool { return strings.HasSuffix(name, "/journal/open.jsonl") }

type mortalDisk struct{ *mortal }

func (d mortalDisk) WriteFile(name string, data io.Reader, mode fs.FileMode, owner host.Owner) error {
	if isJournal(name) {
		if err := d.line(); err != nil {
			return err
		}
	}
	if err := d.alive(); err != nil {
		return err
	}
	return d.Disk.WriteFile(name, data, mode, owner)
}

func (d mortalDisk) Rename(from, to string) error {
	if err := d.alive(); err != nil {
		return err
	}
	return d.Disk.Rename(from, to)
}

func (d mortalDisk) Mkdir(name string, mode fs.FileMode, owner host.Owner) error {
	if err := d.alive(); err != nil {
		return err
	}
	return d.Disk.Mkdir(name, mode, owner)
}

func (d mortalDisk) Symlink(target, name string) error {
	if err := d.alive(); err != nil {
		return err
	}
	return d.Disk.Symlink(target, name)
}

func (d mortalDisk) Remove(name string) error {
	if err := d.alive(); err != nil {
		return err
	}
	return d.Disk.Remove(name)
}

func (d mortalDisk) RemoveAll(name string) error {
	if err := d.alive(); err != nil {
		return err
	}
	return d.Disk.RemoveAll(name)
}

func (d mortalDisk) Append(name string) (host.AppendFile, error) {
	if err := d.alive(); err != nil {
		return nil, err
	}
	file, err := d.Disk.Append(name)
	if err == nil && isJournal(name) {
		file = mortalFile{file, d.mortal}
	}
	return file, err
}

// mortalFile is the journal. The line at which the program dies is on the disk, or half of it is.
type mortalFile struct {
	host.AppendFile
	m *mortal
}

func (f mortalFile) Write(line []byte) (int, error) {
	if err := f.m.alive(); err != nil {
		return 0, err
	}
	if err := f.m.line(); err != nil {
		if f.m.torn {
			line = line[:len(line)/2]
		}
		n, _ := f.AppendFile.Write(line)
		return n, errDead
	}
	return f.AppendFile.Write(line)
}

type mortalPackager struct{ *mortal }

func (p mortalPackager) Install(ctx context.Context, file string) error {
	if err := p.alive(); err != nil {
		return err
	}
	return p.Packager.Install(ctx, file)
}

func (p mortalPackager) Remove(ctx context.Context, name string, purge bool) error {
	if err := p.alive(); err != nil {
		return err
	}
	return p.Packager.Remove(ctx, name, purge)
}

func (p mortalPackager) Repair(ctx context.Context) error {
	if err := p.alive(); err != nil {
		return err
	}
	return p.Packager.Repair(ctx)
}

type mortalManager struct{ *mortal }

func (u mortalManager) call(ctx context.Context, name string, do func(context.Context, string) error) error {
	if err := u.alive(); err != nil {
		return err
	}
	return do(ctx, name)
}

func (u mortalManager) Start(ctx context.Context, name string) error {
	return u.call(ctx, name, u.Manager.Start)
}
func (u mortalManager) Stop(ctx context.Context, name string) error {
	return u.call(ctx, name, u.Manager.Stop)
}
func (u mortalManager) Restart(ctx context.Context, name string) error {
	return u.call(ctx, name, u.Manager.Restart)
}
func (u mortalManager) Enable(ctx context.Context, name string) error {
	return u.call(ctx, name, u.Manager.Enable)
}
func (u mortalManager) Disable(ctx context.Context, name string) error {
	return u.call(ctx, name, u.Manager.Disable)
}
func (u mortalManager) Reload(ctx context.Context) error {
	return u.call(ctx, "", func(ctx context.Context, _ string) error { return u.Manager.Reload(ctx) })
}

type mortalRunner struct{ *mortal }

func (r mortalRunner) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if err := r.alive(); err != nil {
		return host.Result{}, err
	}
	return r.Runner.Run(ctx, cmd)
}

func (r mortalRunner) Wait(ctx context.Context, child host.Child) error {
	return r.Runner.Wait(ctx, child)
}
