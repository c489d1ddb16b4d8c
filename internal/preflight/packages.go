package preflight

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

func packageChecks() []Check {
	return []Check{{ID: "packages.manager", Title: "Package manager", Root: true, Run: packagesManager}}
}

func packagesManager(_ context.Context, s Subject) Result {
	state, err := s.Host.Packages.State()
	switch {
	case err != nil:
		return broken(err)
	case state.Family == "":
		return fail(failure.UnsupportedOS, "there is no package manager that anywhere knows", "anywhere platforms")
	case state.LockedBy != "":
		return fail(failure.PackagesLocked, "the package manager is locked by "+state.LockedBy,
			"wait until it has finished, then run the command again").with("lockedBy", state.LockedBy)
	case state.Interrupted && !s.Resuming: // what our own run left, it finishes itself
		return fail(failure.PackagesBroken, "the package manager was interrupted and must be repaired first",
			"dpkg --configure -a")
	}
	for _, name := range []string{ssmagent.Package, ecsagent.Package} {
		p, err := s.Host.Packages.Package(name)
		if err != nil {
			return broken(err)
		}
		if p.Held && !p.Installed {
			return fail(failure.PackageHeld, name+" is held and not installed", "apt-mark unhold "+name).with("package", name)
		}
	}
	return pass("%s is free and whole", state.Family).with("family", state.Family)
}
