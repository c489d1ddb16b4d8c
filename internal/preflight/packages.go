package preflight

import (
	"context"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
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
	case state.Interrupted && !s.Resuming && !onlyReinstalls(state): // what our own run left, it finishes itself
		return interruptedManager(state)
	}
	for _, name := range ours {
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

// ours are the packages that a registration installs, whatever is left of them.
var ours = []string{ssmagent.Package, ecsagent.Package}

// onlyReinstalls reports whether nothing else is half-way than packages that a registration installs anew: their package
// file is what repairs them, and "dpkg --configure -a" would pass over them.
func onlyReinstalls(state host.ManagerState) bool {
	for _, p := range state.Unfinished {
		if !p.Reinstall || !slices.Contains(ours, p.Name) {
			return false
		}
	}
	return len(state.Unfinished) > 0
}

// interruptedManager is for what somebody else's run left: AWS's script, or an upgrade of the system. It is theirs to
// finish, because finishing runs scripts of packages that anywhere knows nothing of.
func interruptedManager(state host.ManagerState) Result {
	detail, remedy := "the package manager was interrupted and must be repaired first", "dpkg --configure -a"
	packages := []string{}
	var anew []string
	for _, p := range state.Unfinished {
		packages = append(packages, p.Name+" ("+p.State+")")
		if p.Reinstall && !slices.Contains(ours, p.Name) {
			anew = append(anew, p.Name)
		}
	}
	if len(packages) > 0 {
		detail = "the package manager was interrupted in " + strings.Join(packages, ", ") + " and must be repaired first"
	}
	if len(anew) > 0 { // configuring passes over them
		remedy += "; apt-get install --reinstall " + strings.Join(anew, " ")
	}
	return fail(failure.PackagesBroken, detail, remedy+"; then run the same command again").with("unfinished", packages)
}
