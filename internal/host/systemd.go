package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Systemd is the service manager over D-Bus. It implements [UnitReader] and [Manager].
type Systemd struct {
	booted string // the folder that exists where systemd is process 1
	dial   func(context.Context) (bus, error)

	mu  sync.Mutex
	bus bus
}

// bus is what is used of go-systemd's connection.
type bus interface {
	Connected() bool
	Close()
	GetUnitPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
	GetUnitTypePropertiesContext(ctx context.Context, unit, unitType string) (map[string]any, error)
	StartUnitContext(ctx context.Context, name, mode string, result chan<- string) (int, error)
	StopUnitContext(ctx context.Context, name, mode string, result chan<- string) (int, error)
	RestartUnitContext(ctx context.Context, name, mode string, result chan<- string) (int, error)
	EnableUnitFilesContext(ctx context.Context, names []string, runtime, force bool) (bool, []dbus.EnableUnitFileChange, error)
	DisableUnitFilesContext(ctx context.Context, names []string, runtime bool) ([]dbus.DisableUnitFileChange, error)
	ReloadContext(ctx context.Context) error
	ResetFailedUnitContext(ctx context.Context, name string) error
	StartTransientUnitContext(ctx context.Context, name, mode string, properties []dbus.Property, result chan<- string) (int, error)
	SystemStateContext(ctx context.Context) (*dbus.Property, error)
}

// NewSystemd returns the machine's systemd. It connects at the first call, and anew after the connection was lost (a
// restart of the bus, a re-execution of systemd by its package's upgrade).
func NewSystemd() *Systemd {
	return &Systemd{booted: "/run/systemd/system", dial: func(ctx context.Context) (bus, error) {
		// The connection is closed when its context ends; it outlives this call.
		return dbus.NewSystemConnectionContext(context.WithoutCancel(ctx))
	}}
}

// Available reports failure.NoSystemd when the machine was not booted by systemd, or its bus does not answer.
func (s *Systemd) Available(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.SystemStateContext(ctx); err != nil {
		return silent(ctx, err)
	}
	return nil
}

func (s *Systemd) connect(ctx context.Context) (bus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bus != nil && s.bus.Connected() {
		return s.bus, nil
	}
	if info, err := os.Stat(s.booted); err != nil || !info.IsDir() {
		return nil, failure.New(failure.NoSystemd, "this machine was not started by systemd").
			WithEvidence("there is no folder %s", s.booted)
	}
	if s.bus != nil {
		s.bus.Close()
	}
	conn, err := s.dial(ctx)
	if err != nil {
		s.bus = nil
		return nil, silent(ctx, err)
	}
	s.bus = conn
	return conn, nil
}

func silent(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return failure.Wrap(failure.NoSystemd, err, "systemd does not answer on the system bus").
		WithRemedy("systemctl status dbus.service says why")
}

// Unit implements UnitReader.
func (s *Systemd) Unit(ctx context.Context, name string) (Unit, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return Unit{}, err
	}
	p, err := conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, refusedBy(ctx, err, "look at", name)
	}
	u := Unit{Name: name, Active: text(p["ActiveState"]), Sub: text(p["SubState"])}
	if u.Loaded = text(p["LoadState"]) != "not-found"; !u.Loaded {
		return u, nil
	}
	u.Enabled, u.FragmentAt = text(p["UnitFileState"]), text(p["FragmentPath"])
	u.DropIns, _ = p["DropInPaths"].([]string)
	if since, _ := p["ActiveEnterTimestamp"].(uint64); since > 0 {
		u.ActiveSince = time.UnixMicro(int64(since)).UTC()
	}
	if !strings.HasSuffix(name, ".service") {
		return u, nil
	}
	if p, err = conn.GetUnitTypePropertiesContext(ctx, name, "Service"); err != nil {
		return Unit{}, refusedBy(ctx, err, "look at", name)
	}
	pid, _ := p["MainPID"].(uint32)
	restarts, _ := p["NRestarts"].(uint32)
	status, _ := p["ExecMainStatus"].(int32)
	u.Result, u.MainPID, u.Restarts, u.ExitStatus = text(p["Result"]), int(pid), int(restarts), int(status)
	return u, nil
}

func text(property any) string {
	s, _ := property.(string)
	return s
}

// Start implements Manager. A unit that died too often is not held to its limit: whoever starts it means it.
func (s *Systemd) Start(ctx context.Context, name string) error {
	s.forgive(ctx, name)
	return s.job(ctx, "start", name, bus.StartUnitContext)
}

// Stop implements Manager. A unit that does not exist is stopped.
func (s *Systemd) Stop(ctx context.Context, name string) error {
	return s.job(ctx, "stop", name, bus.StopUnitContext)
}

// Restart implements Manager; a unit that is not running is started. What systemd has counted of its deaths before is no sign
// of how it is afterwards.
func (s *Systemd) Restart(ctx context.Context, name string) error {
	s.forgive(ctx, name)
	return s.job(ctx, "restart", name, bus.RestartUnitContext)
}

// forgive has systemd forget how often a unit has died. One that has not failed, or does not exist, is no matter here.
func (s *Systemd) forgive(ctx context.Context, name string) {
	if conn, err := s.connect(ctx); err == nil {
		_ = conn.ResetFailedUnitContext(ctx, name)
	}
}

type jobMethod func(conn bus, ctx context.Context, name, mode string, result chan<- string) (int, error)

// job queues a job and waits for its result. When ctx ends it returns, and systemd finishes the job by itself.
func (s *Systemd) job(ctx context.Context, doing, name string, method jobMethod) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	result := make(chan string, 1) // buffered: go-systemd must never wait for a reader that has gone
	if _, err := method(conn, ctx, name, "replace", result); err != nil {
		if doing == "stop" && isDBus(err, "org.freedesktop.systemd1.NoSuchUnit") {
			return nil
		}
		return refusedBy(ctx, err, doing, name)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case how := <-result:
		if how == "done" {
			return nil
		}
		return failure.New(failure.ServiceFailed, "cannot %s %s: systemd's job ended with %q", doing, name, how).
			WithRemedy("journalctl -u %s -n 50 says why", name)
	}
}

// Enable implements Manager.
func (s *Systemd) Enable(ctx context.Context, name string) error {
	return s.files(ctx, "enable", name, func(conn bus) error {
		_, _, err := conn.EnableUnitFilesContext(ctx, []string{name}, false, false)
		return err
	})
}

// Disable implements Manager. A unit that does not exist is disabled.
func (s *Systemd) Disable(ctx context.Context, name string) error {
	return s.files(ctx, "disable", name, func(conn bus) error {
		_, err := conn.DisableUnitFilesContext(ctx, []string{name}, false)
		if isDBus(err, "org.freedesktop.systemd1.NoSuchUnit") {
			return nil
		}
		return err
	})
}

func (s *Systemd) files(ctx context.Context, doing, name string, change func(bus) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if err := change(conn); err != nil {
		return refusedBy(ctx, err, doing, name)
	}
	return s.Reload(ctx)
}

// Reload implements Manager.
func (s *Systemd) Reload(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return refusedBy(ctx, err, "reload", "the units")
	}
	return nil
}

// refusedBy is the error of a call that systemd did not carry out.
func refusedBy(ctx context.Context, err error, doing, name string) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, godbus.ErrClosed):
		return silent(ctx, err)
	case isDBus(err, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"),
		isDBus(err, "org.freedesktop.DBus.Error.AccessDenied"):
		return failure.Wrap(failure.NotRoot, err, "cannot %s %s", doing, name)
	}
	wrapped := failure.Wrap(failure.ServiceFailed, err, "cannot %s %s", doing, name)
	if strings.Contains(name, ".") {
		return wrapped.WithRemedy("systemctl status %s says more", name)
	}
	return wrapped
}

func isDBus(err error, name string) bool {
	var answer godbus.Error
	return errors.As(err, &answer) && answer.Name == name
}
