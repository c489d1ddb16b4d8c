package host

import (
	"fmt"
	"strings"
)

// PackageManager is all that can be asked of a host's package manager.
type PackageManager interface {
	PackageReader
	Packager
	Repositories
}

// NewPackageManager is the host's own: dpkg where it has a database, else rpm where it is installed. A host with neither
// has a dpkg that knows of no package.
func NewPackageManager(files Files, disk Disk, runner Runner) PackageManager {
	if _, err := files.Stat(dpkgStatus); err == nil {
		return NewDpkg(files, disk, runner)
	}
	if _, err := files.Stat(rpmProgram); err == nil {
		return NewRpm(files, disk, runner)
	}
	return NewDpkg(files, disk, runner)
}

// commands are what an operator types to one package manager; %s are the packages' names.
var commands = map[string]struct{ install, reinstall, remove, unhold string }{
	"apt":    {"apt-get install %s", "apt-get install --reinstall %s", "apt-get remove %s", "apt-mark unhold %s"},
	"yum":    {"yum install %s", "yum reinstall %s", "yum remove %s", "yum versionlock delete '*%s*'"},
	"dnf":    {"dnf install %s", "dnf reinstall %s", "dnf remove %s", "dnf versionlock delete %s"},
	"dnf5":   {"dnf install %s", "dnf reinstall %s", "dnf remove %s", "dnf versionlock delete %s"},
	"zypper": {"zypper install %s", "zypper install --force %s", "zypper remove %s", "zypper removelock %s"},
}

func (s ManagerState) command(pick func(name string) string, names []string) string {
	name := s.Manager
	if _, known := commands[name]; !known {
		name = map[string]string{"rpm": "dnf"}[s.Family]
	}
	if name == "" {
		name = "apt"
	}
	return fmt.Sprintf(pick(name), strings.Join(names, " "))
}

// InstallCommand is what an operator types to install packages out of the host's repositories.
func (s ManagerState) InstallCommand(names ...string) string {
	return s.command(func(m string) string { return commands[m].install }, names)
}

// ReinstallCommand is what an operator types to install packages anew.
func (s ManagerState) ReinstallCommand(names ...string) string {
	return s.command(func(m string) string { return commands[m].reinstall }, names)
}

// RemoveCommand is what an operator types to remove packages.
func (s ManagerState) RemoveCommand(names ...string) string {
	return s.command(func(m string) string { return commands[m].remove }, names)
}

// UnholdCommand is what an operator types to let a package change again.
func (s ManagerState) UnholdCommand(name string) string {
	return s.command(func(m string) string { return commands[m].unhold }, []string{name})
}
