package preflight

import (
	"context"
	"strings"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

func dockerChecks() []Check {
	return []Check{
		{ID: "docker.presence", Title: "Docker", Run: withDocker(dockerPresence)},
		{ID: "docker.flavour", Title: "Kind of Docker", Run: withDocker(dockerFlavour)},
		{ID: "docker.daemon", Title: "Docker's daemon", Root: true, Run: withDocker(dockerDaemon)},
		{ID: "docker.version", Title: "Docker's API", Root: true, Run: dockerVersion},
	}
}

// inspectOnce asks the daemon when the first check wants to know about it, for all of them.
func inspectOnce(ctx context.Context, r host.Reader) func() (docker.Info, error) {
	var (
		once sync.Once
		done = make(chan struct{})
		info docker.Info
		err  error
	)
	ask := func() {
		defer close(done)
		info, err = docker.Inspect(ctx, r)
	}
	return func() (docker.Info, error) {
		once.Do(func() { go ask() })
		<-done
		return info, err
	}
}

func withDocker(check func(Subject, docker.Info) Result) func(context.Context, Subject) Result {
	return func(_ context.Context, s Subject) Result {
		info, err := s.docker()
		if err != nil {
			return broken(err)
		}
		return check(s, info)
	}
}

// dockerPresence only warns where register installs Docker: such a host can become an external instance as it is.
func dockerPresence(s Subject, info docker.Info) Result {
	if s.Docker && !info.Running {
		return pass("not installed yet; will be installed from %s", s.DockerFrom).with("from", s.DockerFrom)
	}
	if !info.Present {
		byHand := installDocker(s) + ", then run the command again"
		switch from := installable(s); {
		case from != "" && s.Mutating:
			return fail(failure.DockerAbsent, "Docker is not installed", "leave --docker-source none out, or "+byHand)
		case from != "":
			return warn("Docker is not installed", "nothing: anywhere register installs it from "+from+
				" (--docker-source chooses)").with("from", from)
		}
		return fail(failure.DockerAbsent, "Docker is not installed", byHand)
	}
	return pass("%s", info.Flavour).with("flavour", info.Flavour).with("unit", info.Unit)
}

// installDocker is what an operator types to get Docker: the distribution's package, or else Docker's own. No package of
// RHEL and its rebuilds is Docker, for what is called so there is podman-docker.
func installDocker(s Subject) string {
	const own = "Docker's own packages (https://docs.docker.com/engine/install/)"
	release, err := host.ReadOSRelease(s.Host.Files)
	if err != nil {
		return "install " + own
	}
	row, _, known := platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	if !known || row.DockerPackage == "" {
		return "install " + own
	}
	return host.ManagerState{Family: string(row.Family), Manager: row.Manager}.InstallCommand(row.DockerPackage) + ", or " + own
}

func removeCommand(s Subject, name string) string {
	state, err := s.Host.Packages.State()
	if err != nil {
		return "remove " + name
	}
	return state.RemoveCommand(name)
}

// installable says where anywhere register would install Docker from; "" where it does not.
func installable(s Subject) string {
	release, err := host.ReadOSRelease(s.Host.Files)
	if err != nil {
		return ""
	}
	row, _, known := platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	if !known || !row.Built {
		return ""
	}
	var names []string
	for _, source := range row.Docker {
		names = append(names, docker.SourceName(row, source))
	}
	return strings.Join(names, ", else ")
}

func dockerFlavour(s Subject, info docker.Info) Result {
	if !info.Present {
		return skip("Docker is not installed")
	}
	var what, remedy string
	switch info.Flavour {
	case docker.Engine:
		return pass("Docker Engine").with("flavour", info.Flavour)
	case docker.Podman:
		what, remedy = "podman stands in for Docker; the ECS agent does not work with it",
			removeCommand(s, "podman-docker")+" && "+installDocker(s)
	case docker.Snap:
		what, remedy = "Docker is a snap: the ECS agent's folders are not visible to it",
			"snap remove docker && "+installDocker(s)
	case docker.Rootless:
		what, remedy = "Docker runs rootless; the ECS agent needs the system's daemon", "systemctl enable --now docker"
	case docker.Desktop:
		what, remedy = "this is Docker Desktop, whose containers run in a virtual machine of its own",
			"install Docker Engine in its place: https://docs.docker.com/engine/install/"
	}
	return fail("", what, remedy).with("flavour", info.Flavour)
}

func dockerDaemon(s Subject, info docker.Info) Result {
	switch {
	case !info.Present:
		return skip("Docker is not installed")
	case !info.Running && s.Docker:
		return skip("Docker is half installed, and will be whole")
	case !info.Running && info.Flavour != docker.Engine:
		return skip("not Docker Engine: see docker.flavour")
	case !info.Running:
		return fail(failure.DockerDown, "Docker is installed and does not answer: "+info.Why,
			"systemctl start docker; journalctl -u docker -n 50 says why it stopped").
			with("unit", info.Unit).with("why", info.Why)
	}
	return pass("version %s answers", info.Version).
		with("version", info.Version).with("root", info.Root).with("driver", info.Driver)
}

// dockerVersion compares what the daemon speaks with what the ECS agent in question does.
func dockerVersion(_ context.Context, s Subject) Result {
	info, err := s.docker()
	if err != nil {
		return broken(err)
	}
	if !info.Running {
		return skip("Docker does not run")
	}
	agent, err := s.ecsAgent()
	if err != nil {
		return broken(err)
	}
	speaks := docker.AgentRange(agent.Version)
	r := pass("API %s to %s; %s speaks %s to %s", info.MinAPIVersion, info.APIVersion, agent.name(), speaks.Min, speaks.Max)
	if ok, move := docker.Fits(info, agent.Version); !ok {
		remedy := "https://docs.docker.com/engine/install/ has each version's packages"
		if floor := docker.FirstAgentFor(info.MinAPIVersion); floor != "" && agent.before(floor) {
			remedy = newerAgent(floor)
		}
		r = fail(failure.DockerVersion, move, remedy)
	}
	return r.with("version", info.Version).with("api", info.APIVersion).with("minApi", info.MinAPIVersion).
		with("agentVersion", agent.Version).with("agentMinApi", speaks.Min).with("agentMaxApi", speaks.Max)
}
