package docker

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

func TestGlance(t *testing.T) {
	const image, container = "amazon/amazon-ecs-agent:latest", "ecs-agent"
	active := units{"docker.service": {Name: "docker.service", Loaded: true, Active: "active", Sub: "running"}}
	waiting := units{
		"docker.service": {Name: "docker.service", Loaded: true, Active: "inactive"},
		"docker.socket":  {Name: "docker.socket", Loaded: true, Active: "active"},
	}
	dockerd := []string{"/usr/bin/dockerd"}
	whole := daemon{
		"/version": engineVersion, "/images/" + image + "/json": `{"Id":"sha256:a"}`,
		"/containers/ecs-agent/json": `{"Image":"sha256:b","State":{"Status":"running","StartedAt":"2026-11-22T11:40:01.5Z"}}`,
	}
	started := time.Date(2026, 11, 22, 11, 40, 1, 500_000_000, time.UTC)
	for _, test := range []struct {
		name     string
		existing []string
		units    units
		daemon   daemon
		refuses  error
		want     Glimpse
		why      string
	}{
		{name: "absent"},
		{name: "runs", existing: dockerd, units: active, daemon: whole, want: Glimpse{
			Info: Info{Present: true, Running: true, Flavour: Engine, Version: "27.3.1"}, ImageID: "sha256:a",
			Program: Program{Exists: true, ImageID: "sha256:b", State: "running", StartedAt: started},
		}},
		{name: "without image and container", existing: dockerd, units: active, daemon: daemon{"/version": engineVersion},
			want: Glimpse{Info: Info{Present: true, Running: true, Flavour: Engine, Version: "27.3.1"}}},
		{name: "podman", daemon: daemon{"/version": `{"Version":"5.4.2","Components":[{"Name":"Podman Engine"}]}`},
			want: Glimpse{Info: Info{Present: true, Running: true, Flavour: Podman, Version: "5.4.2"}}},
		{name: "down", existing: dockerd, units: active, want: Glimpse{Info: Info{Present: true, Flavour: Engine}}, why: "there is no"},
		{name: "would be started by a look", existing: dockerd, units: waiting, daemon: whole,
			want: Glimpse{Info: Info{Present: true, Flavour: Engine}}, why: "docker.service is inactive"},
		{name: "closed to this user", existing: dockerd, units: active, refuses: syscall.EACCES,
			want: Glimpse{Info: Info{Present: true, Flavour: Engine}, Denied: true}, why: "not permitted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := machine(t, test.existing, test.units, test.daemon)
			if test.refuses != nil {
				r.Dial = func(context.Context, string, string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Net: "unix", Err: test.refuses}
				}
			}
			got, err := Glance(t.Context(), r, image, container)
			if err != nil || !strings.Contains(got.Why, test.why) || (test.why == "") != (got.Why == "") {
				t.Fatalf("%v, %+v; want %q", err, got, test.why)
			}
			want := test.want
			if got.Present != want.Present || got.Running != want.Running || got.Flavour != want.Flavour || got.Version != want.Version ||
				got.Denied != want.Denied || got.ImageID != want.ImageID || got.Program != want.Program {
				t.Errorf("%+v\nwant %+v", got, want)
			}
		})
	}
}

// A service manager that hangs hides nothing; a daemon that hangs is an error when the caller's time is over.
func TestGlanceIsBounded(t *testing.T) {
	r := machine(t, []string{"/usr/bin/dockerd"}, nil, daemon{"/version": engineVersion})
	r.Units = hanging{}
	if got, err := Glance(t.Context(), r, "a/b", "c"); err != nil || !got.Running {
		t.Errorf("%v, %+v", err, got)
	}
	over := errors.New("over")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, over)
	defer cancel()
	r.Units = units{}
	r.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, err := Glance(ctx, r, "a/b", "c"); !errors.Is(err, over) {
		t.Error(err)
	}
}

type hanging struct{}

func (hanging) Unit(ctx context.Context, _ string) (host.Unit, error) {
	<-ctx.Done()
	return host.Unit{}, ctx.Err()
}
func (hanging) Available(context.Context) error { return nil }
