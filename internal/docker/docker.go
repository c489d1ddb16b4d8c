package docker

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Socket is where dockerd listens and where the ECS agent looks for it, unless DOCKER_HOST says otherwise
// (ecs-init/docker/docker.go of aws/amazon-ecs-agent 1.105.1).
const Socket = "/var/run/docker.sock"

// Flavour tells kinds of Docker apart.
type Flavour string

// Flavours. Only Engine carries the ECS agent as AWS documents it.
const (
	Engine   Flavour = "docker"
	Podman   Flavour = "podman" // its Docker-like service; the agent does not work with it (aws/containers-roadmap issue 1437)
	Snap     Flavour = "snap"
	Rootless Flavour = "rootless"
	Desktop  Flavour = "docker-desktop"
)

// Info is what can be told about Docker on a host. The fields from Version on are empty while it does not run.
type Info struct {
	Present         bool    // a unit, a binary or an answer is there
	Running         bool    // the daemon answers
	Why             string  // why it does not, as far as can be seen; empty when it does
	Flavour         Flavour // empty when nothing is there
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

// Inspect looks at Docker. That it is absent or down is no error but said in Info; an error means that it could not be
// found out.
func Inspect(ctx context.Context, r host.Reader) (Info, error) {
	info, err := installed(ctx, r)
	if err != nil {
		return Info{}, err
	}
	if info.Why != "" && socketActivated(ctx, r) {
		return info, nil // a connection would start the daemon, and looking changes nothing
	}
	asking, cancel := context.WithTimeout(ctx, answerTime) // both answers together: who waits for this has a bound of his own
	defer cancel()
	client := newClient(r)
	version, err := client.version(asking)
	if err == nil {
		var daemon daemonInfo
		if daemon, err = client.info(asking); err == nil {
			describe(&info, version, daemon)
			return info, nil
		}
	}
	if ctx.Err() != nil {
		return Info{}, context.Cause(ctx)
	}
	if info.Present {
		info.Why = cmp.Or(info.Why, whyDown(err))
	}
	return info, nil
}

// Find is what Inspect says without asking a daemon whose programs or unit are there.
func Find(ctx context.Context, r host.Reader) (Info, error) {
	info, err := installed(ctx, r)
	if err != nil || info.Present {
		return info, err
	}
	return Inspect(ctx, r)
}

// describe fills in what the daemon says of itself.
func describe(info *Info, version daemonVersion, daemon daemonInfo) {
	info.Present, info.Running, info.Why = true, true, ""
	info.Version, info.APIVersion, info.MinAPIVersion = version.Version, version.APIVersion, version.MinAPIVersion
	info.CgroupDriver, info.CgroupVersion = daemon.CgroupDriver, daemon.CgroupVersion
	info.Driver, info.Root, info.SecurityOptions = daemon.Driver, daemon.DockerRootDir, daemon.SecurityOptions
	info.SELinux = daemon.has("selinux")
	info.Rootless = daemon.has("rootless")
	switch {
	case version.podman():
		info.Flavour = Podman
	case strings.Contains(daemon.OperatingSystem, "Docker Desktop"):
		info.Flavour = Desktop
	case info.Rootless:
		info.Flavour = Rootless
	case strings.HasPrefix(info.Root, "/var/snap/docker/"):
		info.Flavour = Snap
	default:
		info.Flavour = Engine
	}
}

// Container is one container, running or not.
type Container struct {
	ID      string
	Names   []string // without the slash in front
	Image   string   // the name it was made from
	ImageID string   // sha256:…
	State   string   // running, exited, created, …
	Labels  map[string]string
}

// Running reports whether the container runs or will again by itself.
func (c Container) Running() bool {
	return slices.Contains([]string{"running", "restarting", "paused"}, c.State)
}

// Containers lists all containers that have the label ("name" or "name=value"), the stopped ones too; an empty label
// lists all. It fails with failure.DockerDown when the daemon does not answer.
func Containers(ctx context.Context, r host.Reader, label string) ([]Container, error) {
	return newClient(r).containers(ctx, label)
}

// Image returns the id (sha256:…) of a local image; ok is false when Docker has none of that name. It fails with
// failure.DockerDown when the daemon does not answer.
func Image(ctx context.Context, r host.Reader, name string) (id string, ok bool, err error) {
	return newClient(r).image(ctx, name)
}
