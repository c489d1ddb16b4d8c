package docker

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Socket is where dockerd listens and where the ECS agent expects it.
const Socket = "/var/run/docker.sock"

// Flavour tells kinds of Docker apart.
type Flavour string

// Flavours. Only Engine can carry the ECS agent.
const (
	Engine   Flavour = "docker"
	Podman   Flavour = "podman"
	Snap     Flavour = "snap"
	Rootless Flavour = "rootless"
	Desktop  Flavour = "docker-desktop"
)

// Info is what can be told about Docker on a host. Fields below Running are empty while it does not run.
type Info struct {
	Present         bool    // a unit, a binary or a socket is there
	Running         bool    // the daemon answers
	Why             string  // why it does not run, as far as can be seen; empty when it runs
	Flavour         Flavour // also told, as far as possible, while it does not run
	Unit            string  // the unit that belongs to it; empty when none is known
	Version         string  // of the engine, like 27.3.1
	APIVersion      string  // the newest that it speaks, like 1.47
	MinAPIVersion   string  // the oldest; empty when it does not say (before Docker 1.12)
	CgroupDriver    string  // cgroupfs, systemd or none
	CgroupVersion   string  // 1 or 2
	Driver          string  // storage driver, like overlay2
	Root            string  // data folder, like /var/lib/docker
	SecurityOptions []string
	SELinux         bool // the daemon labels containers
	Rootless        bool
}

// Inspect looks at Docker. That it is absent or down is no error but said in Info.
func Inspect(ctx context.Context, r host.Reader) (Info, error) { panic("not yet") }

// Container is one container, running or not.
type Container struct {
	ID     string
	Names  []string // without the leading slash
	Image  string
	State  string // running, exited, …
	Labels map[string]string
}

// Containers lists all containers that have the label ("name" or "name=value"); an empty label lists all.
func Containers(ctx context.Context, r host.Reader, label string) ([]Container, error) {
	panic("not yet")
}

// Image returns the id of a local image; ok is false when Docker has none of that name.
func Image(ctx context.Context, r host.Reader, name string) (id string, ok bool, err error) {
	panic("not yet")
}

// Fits reports whether the daemon and the ECS agent have an API version in common, and if not which side to move.
func Fits(info Info) (ok bool, move string) { panic("not yet") }
