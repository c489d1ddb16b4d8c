package docker

import (
	"context"
	"errors"
	"io/fs"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// signs of Docker on a host whose daemon may be down. The first row that is there counts, so that an engine goes before
// what only looks like one. Sources: the packages docker-ce 28, docker.io of Debian 13, podman-docker 5 and the snap docker.
var signs = []struct {
	flavour Flavour
	unit    string
	binary  string
}{
	{Engine, "docker.service", "/usr/bin/dockerd"},
	{Engine, "docker.service", "/usr/sbin/dockerd"},
	{Snap, "snap.docker.dockerd.service", "/snap/bin/docker"},
	{Podman, "podman.socket", "/usr/share/doc/podman-docker"},
	{Podman, "podman.socket", "/usr/lib/tmpfiles.d/podman-docker.conf"},
}

// installed tells absent from down, without asking the daemon.
func installed(ctx context.Context, r host.Reader) (Info, error) {
	for _, sign := range signs {
		_, err := r.Files.Stat(sign.binary)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Info{}, failure.Wrap(failure.Internal, err, "could not look for Docker at %s", sign.binary)
		}
		if err != nil {
			continue
		}
		info := Info{Present: true, Flavour: sign.flavour, Unit: sign.unit}
		info.Why, _ = unitDown(ctx, r, sign.unit)
		return info, nil
	}
	// An engine in an unusual place: its unit shows it.
	why, loaded := unitDown(ctx, r, "docker.service")
	if !loaded {
		return Info{}, nil
	}
	return Info{Present: true, Flavour: Engine, Unit: "docker.service", Why: why}, nil
}

// socketActivated reports whether systemd listens on the socket in the daemon's place.
func socketActivated(ctx context.Context, r host.Reader) bool {
	unit, err := r.Units.Unit(ctx, "docker.socket")
	return err == nil && unit.Active == "active"
}

// unitDown says what the service manager has to say of a unit that is not up. That it says nothing is no failure here:
// the socket decides.
func unitDown(ctx context.Context, r host.Reader, name string) (why string, loaded bool) {
	unit, err := r.Units.Unit(ctx, name)
	switch {
	case err != nil || !unit.Loaded:
		return "", false
	case unit.Active == "active":
		return "", true
	case unit.Active == "failed":
		return name + " failed (" + unit.Result + ")", true
	}
	return name + " is " + unit.Active, true
}
