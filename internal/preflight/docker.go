package preflight

import (
	"context"
	"fmt"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func dockerChecks() []Check {
	return []Check{
		{ID: "docker.presence", Title: "Docker", Run: withDocker(dockerPresence)},
		{ID: "docker.flavour", Title: "Kind of Docker", Run: withDocker(dockerFlavour)},
		{ID: "docker.daemon", Title: "Docker's daemon", Root: true, Run: withDocker(dockerDaemon)},
		{ID: "docker.version", Title: "Docker's API", Root: true, Run: withDocker(dockerVersion)},
	}
}

func withDocker(check func(docker.Info) Result) func(context.Context, Subject) Result {
	return func(ctx context.Context, s Subject) Result {
		info, err := docker.Inspect(ctx, s.Host)
		if err != nil {
			return broken(err)
		}
		return check(info)
	}
}

func dockerPresence(info docker.Info) Result {
	if !info.Present {
		return fail(failure.DockerAbsent, "Docker is not installed", "install Docker Engine (apt-get install docker.io, or Docker's own repository), then run the command again")
	}
	return pass("%s", info.Flavour)
}

func dockerFlavour(info docker.Info) Result {
	if !info.Present {
		return skip("Docker is not installed")
	}
	remedy := "remove it and install Docker Engine: https://docs.docker.com/engine/install/"
	switch info.Flavour {
	case docker.Podman:
		return fail("", "podman stands in for Docker; the ECS agent does not work with it", remedy)
	case docker.Snap:
		return fail("", "Docker is a snap: the ECS agent's folders are not visible to it", remedy)
	case docker.Rootless:
		return fail("", "Docker runs rootless; the ECS agent needs the system's daemon", remedy)
	case docker.Desktop:
		return fail("", "this is Docker Desktop, whose containers run in a virtual machine of its own", remedy)
	case docker.Engine:
	}
	return pass("Docker Engine")
}

func dockerDaemon(info docker.Info) Result {
	switch {
	case !info.Present:
		return skip("Docker is not installed")
	case !info.Running:
		return fail(failure.DockerDown, "Docker is installed and does not answer: "+info.Why, "systemctl start docker; journalctl -u docker -n 50 says why it stopped")
	}
	return pass("version %s answers", info.Version).with("root", info.Root).with("driver", info.Driver)
}

func dockerVersion(info docker.Info) Result {
	if !info.Running {
		return skip("Docker does not run")
	}
	if ok, move := docker.Fits(info); !ok {
		return fail(failure.DockerVersion, fmt.Sprintf("Docker %s speaks API %s to %s: %s", info.Version, info.MinAPIVersion, info.APIVersion, move), move)
	}
	return pass("API %s to %s", info.MinAPIVersion, info.APIVersion)
}
