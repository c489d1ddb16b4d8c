package ssmagent

import (
	"context"
	"path"
	"regexp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Form is the way in which the agent is installed. What differs between them is here; configuration, identity and logs are
// the same (see the paths).
type Form struct {
	Snap bool   // Ubuntu's snap; else the package of the distribution's family
	Unit string // its service
	Dir  string // where its programs are
}

// Binary is the agent's program; it is also what registers.
func (f Form) Binary() string { return path.Join(f.Dir, Package) }

// Packaged is the form of the deb and the rpm.
var Packaged = Form{Unit: UnitName, Dir: path.Dir(Binary)}

// FormOf tells how the agent is installed, or would be. Where a snap and a package are, the package counts: RefuseSnap tells
// of the two.
func FormOf(r host.Reader) (Form, error) {
	snap, found, err := host.ReadSnap(r.Files, Package)
	if err != nil || !found { // the package manager's database is large, and need not be read then
		return Packaged, err
	}
	p, err := r.Packages.Package(Package)
	if err != nil || !p.Snap {
		return Packaged, err
	}
	return Form{Snap: true, Unit: SnapUnit, Dir: snap.Dir}, nil
}

// UnitOf is the agent's unit on this host. What cannot be read is told by those who need more than a name.
func UnitOf(r host.Reader) string {
	form, err := FormOf(r)
	if err != nil {
		return UnitName
	}
	return form.Unit
}

// IsUnit reports whether a unit is the agent's, in whichever form.
func IsUnit(name string) bool { return name == UnitName || name == SnapUnit }

// typedUnit is the package's unit in a command line of a remedy.
var typedUnit = regexp.MustCompile(`\b(systemctl (?:restart|start|status|enable --now)|journalctl(?: -u ecs)? -u) amazon-ssm-agent(?:\.service)?\b`)

// Typed is a remedy as it is to be typed on a host whose agent has this unit: the tables of failures name the package's.
func Typed(unit, remedy string) string {
	if unit == UnitName {
		return remedy
	}
	return typedUnit.ReplaceAllString(remedy, "${1} "+unit)
}

// RefuseSnap is the failure for a snap that cannot be worked with; nil where there is none, or a whole one.
func RefuseSnap(ctx context.Context, r host.Reader) error {
	snap, found, err := host.ReadSnap(r.Files, Package)
	if err != nil {
		return err
	}
	unit, err := r.Units.Unit(ctx, SnapUnit)
	if err != nil && !failure.Is(err, failure.NoSystemd) { // without systemd the files tell
		return err
	}
	if !found && !unit.Loaded {
		return nil
	}
	p, err := r.Packages.Package(Package)
	if err != nil {
		return err
	}
	switch {
	case p.Beside, p.Installed && !p.Snap && unit.Loaded:
		return failure.New(failure.SnapAgent, "the SSM agent is there twice, as a snap and as the package %s %s; both work on one identity",
			Package, p.Version).
			WithEvidence("%s, and %s", first(snap.Dir, SnapUnit), Binary).
			WithRemedy("keep one of the two; the identity stays with either: snap remove %[1]s, or apt-get remove %[1]s; then run the command again", Package)
	case found && snap.Revision == "":
		return failure.New(failure.SnapAgent, "the SSM agent's snap is disabled: none of its revisions is current").
			WithEvidence("there is no %s", snap.Dir).
			WithRemedy("snap enable %s, then run the command again", Package)
	case found && !isThere(r, path.Join(snap.Dir, Package)), found && !snap.Whole(), !found && unit.Loaded:
		return failure.New(failure.SnapAgent, "the SSM agent's snap is broken: its files are not there").
			WithEvidence("looked for %s", path.Join(first(snap.Dir, "/snap/"+Package+"/current"), Package)).
			WithRemedy("snap list %[1]s and snap changes say why; snap remove %[1]s, then snap install --classic %[1]s; "+
				"the identity stays; then run the command again", Package)
	}
	return nil
}

func isThere(r host.Reader, name string) bool {
	_, err := r.Files.Stat(name)
	return err == nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
