package preflight

import (
	"context"
	"fmt"
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
		return fail(failure.PackagesLocked, "the package manager is locked by "+state.LockedBy, waitFor(state.LockedBy)).
			with("lockedBy", state.LockedBy)
	case state.Interrupted && !s.Resuming && !onlyReinstalls(state): // what our own run left, it finishes itself
		return interruptedManager(state)
	}
	for _, p := range []struct {
		name, asked string
		bad         func(string) (string, bool)
	}{
		{ssmagent.Package, s.SSMAgent, ssmagent.KnownBad}, {ecsagent.Package, s.ECSAgent, ecsagent.KnownBad},
	} {
		there, err := s.Host.Packages.Package(p.name)
		if err != nil {
			return broken(err)
		}
		if r := held(state, there, p.asked, p.bad); r.Status != Pass {
			return r.with("package", p.name).with("version", there.Version)
		}
	}
	r := pass("%s is free and whole", state.Family)
	if state.ListsBy != "" {
		r.Detail += "; " + state.ListsBy + " brings its lists of packages up to date"
		if s.Docker { // apt-get does not wait for that lock
			r = warn("the lists of packages are locked by "+state.ListsBy+": Docker cannot be installed meanwhile",
				waitFor(state.ListsBy))
		}
	}
	return r.with("family", state.Family).with("listsLockedBy", state.ListsBy)
}

// waitFor is the remedy for a lock; Debian's and Ubuntu's automatic updates hold it for minutes after a boot. A process's
// name has 15 characters.
func waitFor(holder string) string {
	if strings.Contains(holder, "unattended-upgr") || strings.Contains(holder, "apt.systemd.dai") {
		return "these are the system's automatic updates (systemctl status unattended-upgrades apt-daily.service " +
			"apt-daily-upgrade.service): wait until they have finished, then run the command again"
	}
	return "wait until it has finished, then run the command again"
}

// held looks at a package that somebody keeps from changing. dpkg and rpm
// install a file over a hold, and say nothing.
func held(state host.ManagerState, there host.Package, asked string, bad func(string) (string, bool)) Result {
	why, isBad := bad(there.Version)
	other := asked != "" && there.Version != asked && !strings.HasPrefix(there.Version, asked+"-")
	name := there.Name
	unhold := state.UnholdCommand(name)
	switch {
	case !there.Held:
		return pass("")
	case !there.Installed:
		return fail(failure.PackageHeld, name+" is held and not installed", unhold)
	case other:
		return warn(fmt.Sprintf("%s is held at %s, and %s is asked for, which would be installed over the hold",
			name, there.Version, asked), unhold+", or leave the version flag out")
	case isBad:
		return warn(fmt.Sprintf("%s is held at %s, which is replaced all the same: %s", name, there.Version, why), unhold)
	}
	return pass("")
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
	switch {
	case state.Family == "rpm" && len(anew) == 0:
		remedy = "rpm --rebuilddb"
	case state.Family == "rpm": // rpm forgets; the note of it is our own
		remedy = state.ReinstallCommand(anew...) + "; rm"
		for _, name := range anew {
			remedy += " " + host.RPMNote(name)
		}
	case len(anew) > 0: // configuring passes over them
		remedy += "; " + state.ReinstallCommand(anew...)
	}
	return fail(failure.PackagesBroken, detail, remedy+"; then run the same command again").with("unfinished", packages)
}
