package host

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// fakeBus is a systemd with some units. A job ends with the unit's result, or never when that is empty.
type fakeBus struct {
	units   map[string]map[string]any
	service map[string]map[string]any
	result  string
	refuse  error // of every change
	closed  bool
	reloads int
	scopes  []string
	moved   []uint32 // processes, into the scopes
	resets  []string
	enabled []string
}

func (b *fakeBus) Connected() bool { return !b.closed }
func (b *fakeBus) Close()          { b.closed = true }

func (b *fakeBus) SystemStateContext(context.Context) (*dbus.Property, error) { return nil, b.refuse }

func (b *fakeBus) GetUnitPropertiesContext(_ context.Context, unit string) (map[string]any, error) {
	if b.closed {
		return nil, godbus.ErrClosed
	}
	if p, ok := b.units[unit]; ok {
		return p, nil
	}
	return map[string]any{"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}, nil
}

func (b *fakeBus) GetUnitTypePropertiesContext(_ context.Context, unit, kind string) (map[string]any, error) {
	if kind != "Service" {
		return nil, errors.New("unknown interface")
	}
	return b.service[unit], nil
}

func (b *fakeBus) job(name, state, sub string, result chan<- string) (int, error) {
	if b.refuse != nil {
		return 0, b.refuse
	}
	if b.result == "done" {
		b.units[name]["ActiveState"], b.units[name]["SubState"] = state, sub
	}
	if b.result != "" {
		result <- b.result // blocks for ever when it is not buffered
	}
	return 1, nil
}

func (b *fakeBus) StartUnitContext(_ context.Context, name, _ string, result chan<- string) (int, error) {
	return b.job(name, "active", "running", result)
}

func (b *fakeBus) ResetFailedUnitContext(_ context.Context, name string) error {
	b.resets = append(b.resets, name)
	return nil
}

func (b *fakeBus) StopUnitContext(_ context.Context, name, _ string, result chan<- string) (int, error) {
	return b.job(name, "inactive", "dead", result)
}

func (b *fakeBus) RestartUnitContext(_ context.Context, name, _ string, result chan<- string) (int, error) {
	return b.job(name, "active", "running", result)
}

func (b *fakeBus) EnableUnitFilesContext(_ context.Context, names []string, runtime, force bool) (bool, []dbus.EnableUnitFileChange, error) {
	if b.refuse == nil {
		b.enabled = append(b.enabled, names...)
	}
	return true, nil, b.refuse
}

func (b *fakeBus) DisableUnitFilesContext(_ context.Context, names []string, runtime bool) ([]dbus.DisableUnitFileChange, error) {
	if b.refuse == nil {
		b.enabled = slices.DeleteFunc(b.enabled, func(name string) bool { return slices.Contains(names, name) })
	}
	return nil, b.refuse
}

func (b *fakeBus) StartTransientUnitContext(
	_ context.Context, name, _ string, properties []dbus.Property, result chan<- string,
) (int, error) {
	if b.refuse != nil {
		return 0, b.refuse
	}
	b.scopes = append(b.scopes, name)
	for _, p := range properties {
		if pids, ok := p.Value.Value().([]uint32); ok && p.Name == "PIDs" {
			b.moved = append(b.moved, pids...)
		}
	}
	result <- b.result
	return 1, nil
}

func (b *fakeBus) ReloadContext(context.Context) error { b.reloads++; return nil }

func newSystemd(t *testing.T) (*Systemd, *fakeBus) {
	t.Helper()
	b := &fakeBus{
		result: "done",
		units: map[string]map[string]any{
			"ecs.service": {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart", "UnitFileState": "enabled",
				"FragmentPath": "/lib/systemd/system/ecs.service", "ActiveEnterTimestamp": uint64(1_700_000_000_123_456),
				"DropInPaths": []string{"/etc/systemd/system/ecs.service.d/50-anywhere.conf"}},
			"anywhere.timer": {"LoadState": "loaded", "ActiveState": "active", "SubState": "waiting", "UnitFileState": "enabled"},
			"masked.service": {"LoadState": "masked", "ActiveState": "inactive", "SubState": "dead", "UnitFileState": "masked"},
		},
		service: map[string]map[string]any{"ecs.service": {"Result": "exit-code", "MainPID": uint32(42), "NRestarts": uint32(7),
			"ExecMainStatus": int32(5)}},
	}
	return &Systemd{booted: t.TempDir(), dial: func(context.Context) (bus, error) { return b, nil }}, b
}

func TestUnit(t *testing.T) {
	s, _ := newSystemd(t)
	for _, want := range []Unit{
		{Name: "ecs.service", Loaded: true, Active: "activating", Sub: "auto-restart", Enabled: "enabled", Result: "exit-code",
			MainPID: 42, Restarts: 7, ExitStatus: 5, ActiveSince: time.Date(2023, 11, 14, 22, 13, 20, 123456000, time.UTC),
			DropIns:    []string{"/etc/systemd/system/ecs.service.d/50-anywhere.conf"},
			FragmentAt: "/lib/systemd/system/ecs.service"},
		{Name: "anywhere.timer", Loaded: true, Active: "active", Sub: "waiting", Enabled: "enabled"},
		{Name: "masked.service", Loaded: true, Active: "inactive", Sub: "dead", Enabled: "masked"},
		{Name: "no.service", Active: "inactive", Sub: "dead"},
	} {
		got, err := s.Unit(t.Context(), want.Name)
		if err != nil || !slices.Equal(got.DropIns, want.DropIns) {
			t.Errorf("got %+v, %v", got, err)
		}
		got.DropIns, want.DropIns = nil, nil
		if !equalUnits(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func equalUnits(a, b Unit) bool {
	return a.ActiveSince.Equal(b.ActiveSince) && a.Name == b.Name && a.Loaded == b.Loaded && a.Active == b.Active &&
		a.Sub == b.Sub && a.Enabled == b.Enabled && a.Result == b.Result && a.MainPID == b.MainPID &&
		a.Restarts == b.Restarts && a.ExitStatus == b.ExitStatus && a.FragmentAt == b.FragmentAt
}

func TestOnlyDoneIsSuccess(t *testing.T) {
	for _, result := range []string{"canceled", "timeout", "failed", "dependency", "skipped", "done"} {
		s, _ := newSystemd(t)
		conn, _ := s.connect(t.Context())
		conn.(*fakeBus).result = result
		for what, do := range map[string]func(context.Context, string) error{"start": s.Start, "stop": s.Stop, "restart": s.Restart} {
			err := do(t.Context(), "ecs.service")
			if result == "done" {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			if !failure.Is(err, failure.ServiceFailed) || !strings.Contains(err.Error(), what+" ecs.service") ||
				!strings.Contains(err.Error(), result) || !strings.Contains(failure.Of(err).Advice(), "journalctl -u ecs.service") {
				t.Errorf("%s that ends with %s: %v", what, result, err)
			}
		}
	}
}

func TestJobChangesTheUnit(t *testing.T) {
	s, b := newSystemd(t)
	if err := s.Start(t.Context(), "ecs.service"); err != nil || !slices.Equal(b.resets, []string{"ecs.service"}) {
		t.Fatalf("%v, forgiven %v", err, b.resets)
	}
	if u, err := s.Unit(t.Context(), "ecs.service"); err != nil || !u.Running() {
		t.Errorf("%+v, %v", u, err)
	}
	// Nor what it has counted of the time before: an agent that was not registered has died every second.
	if err := s.Restart(t.Context(), "ecs.service"); err != nil || len(b.resets) != 2 {
		t.Errorf("%v, forgiven %v", err, b.resets)
	}
}

func TestAJobThatHangsEndsWithTheContext(t *testing.T) {
	s, b := newSystemd(t)
	b.result = ""
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := s.Start(ctx, "ecs.service"); err != why {
		t.Errorf("got %v", err)
	}
}

func TestEnableReloads(t *testing.T) {
	s, b := newSystemd(t)
	if err := s.Enable(t.Context(), "ecs.service"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.enabled, []string{"ecs.service"}) || b.reloads != 1 {
		t.Errorf("enabled %v, reloads %d", b.enabled, b.reloads)
	}
	if err := s.Disable(t.Context(), "ecs.service"); err != nil {
		t.Fatal(err)
	}
	if len(b.enabled) != 0 || b.reloads != 2 {
		t.Errorf("enabled %v, reloads %d", b.enabled, b.reloads)
	}
}

func TestRefusals(t *testing.T) {
	missing := godbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit", Body: []any{"Unit no.service not found."}}
	asks := godbus.Error{Name: "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", Body: []any{"Interactive authentication required."}}
	for _, test := range []struct {
		name   string
		refuse error
		do     func(*Systemd) error
		code   failure.Code // empty is success
	}{
		{"start what is not there", missing, func(s *Systemd) error { return s.Start(context.Background(), "no.service") }, failure.ServiceFailed},
		{"enable what is not there", missing, func(s *Systemd) error { return s.Enable(context.Background(), "no.service") }, failure.ServiceFailed},
		{"stop what is not there", missing, func(s *Systemd) error { return s.Stop(context.Background(), "no.service") }, ""},
		{"disable what is not there", missing, func(s *Systemd) error { return s.Disable(context.Background(), "no.service") }, ""},
		{"without root", asks, func(s *Systemd) error { return s.Start(context.Background(), "ecs.service") }, failure.NotRoot},
		{"bus gone", godbus.ErrClosed, func(s *Systemd) error { return s.Start(context.Background(), "ecs.service") }, failure.NoSystemd},
		{"systemd silent", missing, func(s *Systemd) error { return s.Available(context.Background()) }, failure.NoSystemd},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, b := newSystemd(t)
			b.refuse = test.refuse
			err := test.do(s)
			if test.code == "" && err != nil || test.code != "" && !failure.Is(err, test.code) {
				t.Errorf("got %v, want %q", err, test.code)
			}
		})
	}
}

func TestAvailable(t *testing.T) {
	s, _ := newSystemd(t)
	if err := s.Available(t.Context()); err != nil {
		t.Error(err)
	}
	s, _ = newSystemd(t)
	s.booted = filepath.Join(t.TempDir(), "no")
	if err := s.Available(t.Context()); !failure.Is(err, failure.NoSystemd) {
		t.Errorf("not booted by systemd: %v", err)
	}
	s, _ = newSystemd(t)
	s.dial = func(context.Context) (bus, error) { return nil, errors.New("no such socket") }
	if err := s.Available(t.Context()); !failure.Is(err, failure.NoSystemd) || !strings.Contains(err.Error(), "no such socket") {
		t.Errorf("no bus: %v", err)
	}
}

func TestALostConnectionIsMadeAnew(t *testing.T) {
	s, first := newSystemd(t)
	if _, err := s.Unit(t.Context(), "ecs.service"); err != nil {
		t.Fatal(err)
	}
	_, second := newSystemd(t)
	s.dial = func(context.Context) (bus, error) { return second, nil }
	first.closed = true
	second.units["ecs.service"]["ActiveState"] = "failed"
	if u, err := s.Unit(t.Context(), "ecs.service"); err != nil || u.Active != "failed" {
		t.Errorf("%+v, %v", u, err)
	}
}
