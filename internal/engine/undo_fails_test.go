package engine

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// balky is a machine on which one change fails, the one of this number, and from then on every one if it is stubborn.
type balky struct {
	at, n    int
	stubborn bool
	point    string
}

func (b *balky) fails(what, name string) error {
	b.n++
	if b.n < b.at || b.n > b.at && !b.stubborn {
		return nil
	}
	if b.n == b.at {
		b.point = what + " " + name
	}
	return &fs.PathError{Op: what, Path: name, Err: syscall.ENOSPC}
}

func (b *balky) host(h host.Host) host.Host {
	h.Disk, h.Packager, h.Manager = balkyDisk{h.Disk, b}, balkyPackager{h.Packager, b}, balkyManager{h.Manager, b}
	return h
}

type balkyDisk struct {
	host.Disk
	*balky
}

func (d balkyDisk) WriteFile(name string, data io.Reader, mode fs.FileMode, owner host.Owner) error {
	if strings.HasPrefix(name, dataDir) {
		return d.Disk.WriteFile(name, data, mode, owner)
	}
	if err := d.fails("write", name); err != nil {
		return err
	}
	return d.Disk.WriteFile(name, data, mode, owner)
}

func (d balkyDisk) Rename(from, to string) error {
	if strings.HasPrefix(from, dataDir) {
		return d.Disk.Rename(from, to)
	}
	if err := d.fails("rename", from); err != nil {
		return err
	}
	return d.Disk.Rename(from, to)
}

func (d balkyDisk) Symlink(target, name string) error {
	if err := d.fails("link", name); err != nil {
		return err
	}
	return d.Disk.Symlink(target, name)
}

func (d balkyDisk) Mkdir(name string, mode fs.FileMode, owner host.Owner) error {
	if strings.HasPrefix(name, dataDir) {
		return d.Disk.Mkdir(name, mode, owner)
	}
	if err := d.fails("mkdir", name); err != nil {
		return err
	}
	return d.Disk.Mkdir(name, mode, owner)
}

func (d balkyDisk) Remove(name string) error {
	if strings.HasPrefix(name, dataDir) {
		return d.Disk.Remove(name)
	}
	if err := d.fails("remove", name); err != nil {
		return err
	}
	return d.Disk.Remove(name)
}

func (d balkyDisk) RemoveAll(name string) error {
	if strings.HasPrefix(name, dataDir) {
		return d.Disk.RemoveAll(name)
	}
	if err := d.fails("remove all of", name); err != nil {
		return err
	}
	return d.Disk.RemoveAll(name)
}

type balkyPackager struct {
	host.Packager
	*balky
}

func (p balkyPackager) Install(ctx context.Context, file string) error {
	if err := p.fails("install", file); err != nil {
		return err
	}
	return p.Packager.Install(ctx, file)
}

func (p balkyPackager) Remove(ctx context.Context, name string, purge bool) error {
	if err := p.fails("remove package", name); err != nil {
		return err
	}
	return p.Packager.Remove(ctx, name, purge)
}

type balkyManager struct {
	host.Manager
	*balky
}

func (m balkyManager) Start(ctx context.Context, name string) error {
	if err := m.fails("start", name); err != nil {
		return err
	}
	return m.Manager.Start(ctx, name)
}

func (m balkyManager) Stop(ctx context.Context, name string) error {
	if err := m.fails("stop", name); err != nil {
		return err
	}
	return m.Manager.Stop(ctx, name)
}

func (m balkyManager) Enable(ctx context.Context, name string) error {
	if err := m.fails("enable", name); err != nil {
		return err
	}
	return m.Manager.Enable(ctx, name)
}

func (m balkyManager) Disable(ctx context.Context, name string) error {
	if err := m.fails("disable", name); err != nil {
		return err
	}
	return m.Manager.Disable(ctx, name)
}

// Whatever an undo cannot do, be it for once or because the disk is full for good, is left to the next: nothing is told as
// changed by somebody else, and in the end the machine is as it was.
func TestAnUndoThatFailsAnywhereIsEndedByTheNext(t *testing.T) {
	for name, steps := range plans {
		for _, stubborn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stubborn %v", name, stubborn), func(t *testing.T) {
				for at := 1; ; at++ {
					m := testMachine(t)
					before := m.tree()
					halfway(t, m, steps...)
					e, b := newEngine(m, "two"), &balky{at: at, stubborn: stubborn}
					e.Host = b.host(e.Host)
					out, err := e.Rollback(t.Context())
					if b.n < at {
						if at < 2 {
							t.Error("nothing failed")
						}
						return
					}
					if err != nil && out.RolledBack {
						t.Errorf("%d (%s): rolled back, and yet: %v", at, b.point, err)
					}
					for _, kept := range out.Kept {
						if strings.Contains(kept, "somebody else") || err == nil {
							t.Errorf("%d (%s): %s", at, b.point, kept)
						}
					}
					if err != nil {
						if out, err := newEngine(m, "three").Rollback(t.Context()); err != nil || !out.RolledBack {
							t.Errorf("%d (%s): the next: %+v, %v", at, b.point, out, err)
						}
					}
					if diff := cmp.Diff(before, m.tree()); diff != "" {
						t.Errorf("%d (%s): %s", at, b.point, diff)
					}
					settled(t, m)
				}
			})
		}
	}
}
