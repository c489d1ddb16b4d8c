package host

import "context"

// Systemd is the service manager over D-Bus: a UnitReader and a Manager.
type Systemd struct{}

// NewSystemd returns the machine's systemd. It connects at the first call.
func NewSystemd() *Systemd { return &Systemd{} }

func (*Systemd) Unit(ctx context.Context, name string) (Unit, error) { panic("not yet") }
func (*Systemd) Available(ctx context.Context) error                 { panic("not yet") }
func (*Systemd) Start(ctx context.Context, name string) error        { panic("not yet") }
func (*Systemd) Stop(ctx context.Context, name string) error         { panic("not yet") }
func (*Systemd) Restart(ctx context.Context, name string) error      { panic("not yet") }
func (*Systemd) Enable(ctx context.Context, name string) error       { panic("not yet") }
func (*Systemd) Disable(ctx context.Context, name string) error      { panic("not yet") }
func (*Systemd) Reload(ctx context.Context) error                    { panic("not yet") }
