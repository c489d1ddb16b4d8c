package docker

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"

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
	{Snap, "snap.docker.dockerd.service", "/var/lib/snapd/snap/bin/docker"}, // systems without /snap
	{Desktop, "", "/opt/docker-desktop"},
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
		if info.Flavour == Engine && info.Why != "" && !enabled(ctx, r, sign.unit) && rootlessRuns(r) {
			info.Flavour = Rootless // docker-ce's own way: the system's daemon switched off, a user's in its place
		}
		return info, nil
	}
	if podmanScript(r) {
		why, _ := unitDown(ctx, r, "podman.socket")
		return Info{Present: true, Flavour: Podman, Unit: "podman.socket", Why: why}, nil
	}
	// An engine in an unusual place: its unit shows it.
	why, loaded := unitDown(ctx, r, "docker.service")
	switch {
	case !loaded && rootlessRuns(r): // installed in a user's home
		return Info{Present: true, Flavour: Rootless}, nil
	case !loaded:
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

// podmanScript reports whether the program docker is podman-docker's script, on a system that leaves documents out.
func podmanScript(r host.Reader) bool {
	const program = "/usr/bin/docker"
	info, err := r.Files.Stat(program)
	if err != nil || info.Size() > 64<<10 { // the real one has tens of megabytes
		return false
	}
	text, err := r.Files.ReadFile(program)
	return err == nil && bytes.HasPrefix(text, []byte("#!")) && bytes.Contains(text, []byte("podman"))
}

// rootlessRuns reports whether a user's own daemon has its socket where dockerd-rootless-setuptool.sh puts it.
func rootlessRuns(r host.Reader) bool {
	const users = "/run/user"
	entries, err := r.Files.ReadDir(users)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(entry fs.DirEntry) bool {
		_, err := r.Files.Stat(path.Join(users, entry.Name(), "docker.sock"))
		return err == nil
	})
}

func enabled(ctx context.Context, r host.Reader, name string) bool {
	unit, err := r.Units.Unit(ctx, name)
	return err == nil && unit.IsEnabled()
}
