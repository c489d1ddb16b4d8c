package lifecycle

import (
	"context"
	"fmt"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// resolveAgent is the version that is asked for, or the newest that can be had. What becomes of a snap is found out with it.
func (u *upgrade) resolveAgent(ctx context.Context, a *upgradedAgent) (string, error) {
	switch {
	case !a.installed.Snap:
		return u.source.Resolve(ctx, u.ref(a.product, first(a.asked, artifact.Latest)))
	case a.back.From.Snap != "": // snapd keeps it, and nobody need be asked
		a.snap = engine.SnapWant{Revision: a.back.From.Snap, Channel: a.back.From.Channel, Follows: a.back.To.Channel}
		return a.back.From.Version, nil
	}
	snap, _, err := host.ReadSnap(u.deps.Host.Files, a.name)
	if err != nil {
		return "", err
	}
	if !snap.Store() && explicit(a.asked) == "" { // there is nothing that it could be refreshed from
		u.fetching.Lock()
		u.warnings = append(u.warnings, fmt.Sprintf("the snap %s was installed from a file (revision %s) and follows no channel: it stays as it is",
			a.name, snap.Revision))
		u.fetching.Unlock()
		return a.installed.Version, nil
	}
	version, want, err := u.chooseSnap(ctx, a.asked)
	if f := failure.Of(err); f != nil && u.ecs().in && (f.Code == failure.Network || f.Code == failure.PackagesBroken) {
		advised := *f
		advised.Remedy = f.Advice() + "; or leave the SSM agent out: --only ecs"
		return "", &advised
	}
	if err != nil {
		return "", err
	}
	a.snap, a.installed.Held = want, u.offer.Held
	return version, nil
}

// pinSnap pins what is to become of a snap.
func (u *upgrade) pinSnap(a *upgradedAgent) error {
	if !a.installed.Snap || u.resumed != nil {
		return nil
	}
	snap, _, err := host.ReadSnap(u.deps.Host.Files, a.name)
	if err != nil {
		return err
	}
	if line := follows(a.snap); line != "" && a.action == actReplace && u.verb == verbUpgrade {
		u.warnings = append(u.warnings, line)
	}
	pinSnap(u.pins, snap.Revision, a.snap)
	return nil
}

// snapPackage is one side of a snap's upgrade, for the record.
func (u *upgrade) snapPackage(version string) OwnedPackage {
	if version == u.pins[pinFromSSM] {
		return OwnedPackage{Version: version, Snap: u.pins[pinSnapFrom], Channel: u.pins[pinSnapFollows]}
	}
	to := OwnedPackage{Version: version, Channel: first(u.pins[pinSnapChannel], u.pins[pinSnapFollows])}
	if snap, _, err := host.ReadSnap(u.deps.Host.Files, ssmagent.Package); err == nil && snap.Version == version {
		to.Snap = snap.Revision
	}
	return to
}

// snapGoesBack reports whether a snap can go back from an upgrade. Snapd refreshes snaps by itself: what came so is none of
// ours to take back, and what it does not keep any more cannot be had.
func (u *upgrade) snapGoesBack(known Upgraded) (bool, error) {
	snap, found, err := host.ReadSnap(u.deps.Host.Files, ssmagent.Package)
	switch {
	case err != nil || !found:
		return false, err
	case snap.Revision == known.To.Snap && snap.Keeps(known.From.Snap):
		return true, nil
	case snap.Revision == known.To.Snap:
		u.warnings = append(u.warnings, fmt.Sprintf("the snap %s stays: snapd does not keep revision %s (%s) any more",
			ssmagent.Package, known.From.Snap, known.From.Version))
	case snap.Revision != known.From.Snap:
		u.warnings = append(u.warnings, fmt.Sprintf("the snap %s stays: snapd, or somebody, has brought revision %s since (%s)",
			ssmagent.Package, snap.Revision, snap.Version))
	}
	return false, nil
}
