package ecsagent

import (
	"cmp"
	"path"
	"regexp"
	"slices"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// unitDirs are where packages put their units.
var unitDirs = []string{"/usr/lib/systemd/system", "/lib/systemd/system"}

// UnitOf is the agent's unit on a system whose packages are known to call it name. On SUSE both names are met: AWS's own
// rpm for every system brings ecs.service, the one that is built for SUSE amazon-ecs.service. What is installed decides.
func UnitOf(files host.Files, name string) string {
	if name == "" || name == Unit || brought(files, name) || !brought(files, Unit) {
		return cmp.Or(name, Unit)
	}
	return Unit
}

func brought(files host.Files, unit string) bool {
	return slices.ContainsFunc(unitDirs, func(dir string) bool {
		_, err := files.Stat(path.Join(dir, unit))
		return err == nil
	})
}

// typedUnit is the usual unit in a command line of a remedy.
var typedUnit = regexp.MustCompile(`\b(systemctl (?:restart|start|stop|status|reset-failed|enable --now)|journalctl -u) ecs(?:\.service)?\b`)

// Typed is a remedy as it is to be typed on a host whose agent has this unit: the tables of failures name the usual one.
func Typed(unit, remedy string) string {
	if unit == Unit {
		return remedy
	}
	return typedUnit.ReplaceAllString(remedy, "${1} "+unit)
}

// DropIn is the content of DropInPath. Exit status 5 is the agent's "terminal": starting it again cannot help. The
// generic RPM's unit says so itself, the Debian package's does not and would restart it every ten seconds for ever
// (packaging/generic-deb-integrated/debian/ecs.service of 1.105.1). No unit of AWS's waits for the network.
func DropIn() []byte {
	return []byte(`# Written by anywhere. Changes are overwritten; add another file beside this one instead.
[Unit]
Wants=network-online.target
After=network-online.target

[Service]
RestartPreventExitStatus=5
`)
}
