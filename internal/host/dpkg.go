package host

import "context"

// Dpkg is Debian's package manager: a PackageReader and a Packager.
type Dpkg struct{}

// NewDpkg returns dpkg with its database in files.
func NewDpkg(files Files, disk Disk, runner Runner) *Dpkg { return &Dpkg{} }

func (*Dpkg) Package(name string) (Package, error)                      { panic("not yet") }
func (*Dpkg) State() (ManagerState, error)                              { panic("not yet") }
func (*Dpkg) Install(ctx context.Context, file string) error            { panic("not yet") }
func (*Dpkg) Remove(ctx context.Context, name string, purge bool) error { panic("not yet") }
func (*Dpkg) Repair(ctx context.Context) error                          { panic("not yet") }
