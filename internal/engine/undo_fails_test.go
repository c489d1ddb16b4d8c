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

// try does what is asked for, or fails. The engine's own folder is never what fails.
func (b *balky) try(what, name string, do func() error) error {
	if strings.HasPrefix(name, dataDir) {
		return do()
	}
	b.n++
	if b.n < b.at || b.n > b.at && !b.stubborn {
		return do()
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
	return d.try("write", name, func() error { return d.Disk.WriteFile(name, data, mode, owner) })
}

func (d balkyDisk) Rename(from, to string) error {
	return d.try("rename", from, func() error { return d.Disk.Rename(from, to) })
}

func (d balkyDisk) Symlink(target, name string) error {
	return d.try("link", name, func() error { return d.Disk.Symlink(target, name) })
}

func (d balkyDisk) Mkdir(name string, mode fs.FileMode, owner host.Owner) error {
	return d.try("mkdir", name, func() error { return d.Disk.Mkdir(name, mode, owner) })
}

func (d balkyDisk) Remove(name string) error {
	return d.try("remove", name, func() error { return d.Disk.Remove(name) })
}

func (d balkyDisk) RemoveAll(name string) error {
	return d.try("remove all of", name, func() error { return d.Disk.RemoveAll(name) })
}

type balkyPackager struct {
	host.Packager
	*balky
}

func (p balkyPackager) Install(ctx context.Context, file string) error {
	return p.try("install", file, func() error { return p.Packager.Install(ctx, file) })
}

func (p balkyPackager) Remove(ctx context.Context, name string, purge bool) error {
	return p.try("remove package", name, func() error { return p.Packager.Remove(ctx, name, purge) })
}

type balkyManager struct {
	host.Manager
	*balky
}

func (m balkyManager) Start(ctx context.Context, name string) error {
	return m.try("start", name, func() error { return m.Manager.Start(ctx, name) })
}

func (m balkyManager) Stop(ctx context.Context, name string) error {
	return m.try("stop", name, func() error { return m.Manager.Stop(ctx, name) })
}

func (m balkyManager) Enable(ctx context.Context, name string) error {
	return m.try("enable", name, func() error { return m.Manager.Enable(ctx, name) })
}

func (m balkyManager) Disable(ctx context.Context, name string) error {
	return m.try("disable", name, func() error { return m.Manager.Disable(ctx, name) })
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
