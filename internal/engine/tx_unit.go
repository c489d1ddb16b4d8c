package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// UnitWant is the state a unit is to be in. The zero value of a field leaves that side alone.
type UnitWant struct {
	Enable  bool
	Disable bool
	Start   bool // start if it is not running
	Restart bool // restart or start
	Stop    bool
	// AtRest, with Restart, is what is done between the stop and the start.
	AtRest func(ctx context.Context) error
}

// Unit brings a unit to the wanted state; one that is in it already is left alone. Undo stops units first, takes
// everything else back, reloads the manager, and then brings every unit to what it was before the operation touched it.
func (tx *Tx) Unit(ctx context.Context, name string, want UnitWant) error {
	if want.Enable && want.Disable || want.Stop && (want.Start || want.Restart) || want.AtRest != nil && !want.Restart {
		return failure.New(failure.Internal, "cannot bring %s to two states at once", name)
	}
	now, err := tx.host.Units.Unit(ctx, name)
	if err != nil {
		return failure.Wrap(failure.ServiceFailed, err, "cannot look at the unit %s", name)
	}
	due := tx.jobs(now, want)
	if len(due) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var r *record
	if !tx.seen(name) {
		if r, err = tx.journal.record(tx.step, kindUnit, unitChange{imageOf(name, now)}); err != nil {
			return err
		}
	}
	for _, j := range due {
		if err := j.do(tx.watched(ctx), name); err != nil {
			if j.doing == atRest {
				return err
			}
			return failure.Wrap(failure.ServiceFailed, err, "cannot %s %s", j.doing, name)
		}
	}
	if r == nil {
		return nil
	}
	return tx.done(r)
}

// unitJob is one of the things that bring a unit to the wanted state.
type unitJob struct {
	due   bool
	doing string
	do    func(ctx context.Context, name string) error
}

// atRest is what the caller does; its errors are the caller's.
const atRest = "at rest"

// jobs are what is due to bring a unit from what it is to what is wanted, in their order.
func (tx *Tx) jobs(now host.Unit, want UnitWant) []unitJob {
	manager, enabled, up := tx.host.Manager, now.IsEnabled(), isUp(now)
	inTwo := want.AtRest != nil
	all := []unitJob{
		{want.Enable && !enabled, "enable", manager.Enable},
		{want.Disable && enabled, "disable", manager.Disable},
		{(want.Stop || inTwo) && up, "stop", manager.Stop},
		{inTwo, atRest, func(ctx context.Context, _ string) error { return want.AtRest(ctx) }},
		{want.Restart && !inTwo, "restart", manager.Restart},
		{inTwo || want.Start && !want.Restart && now.Active != "active", "start", manager.Start},
	}
	return slices.DeleteFunc(all, func(j unitJob) bool { return !j.due })
}

// ReloadUnits makes the service manager read its files again; an undo of the operation then does so too.
func (tx *Tx) ReloadUnits(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := tx.journal.record(tx.step, kindReload, reloadChange{})
	if err != nil {
		return err
	}
	if err := tx.host.Manager.Reload(tx.watched(ctx)); err != nil {
		return failure.Wrap(failure.ServiceFailed, err, "cannot make the service manager read its files again")
	}
	return tx.done(r)
}

// unitImage is what a unit was.
type unitImage struct {
	Name    string `json:"name"`
	Loaded  bool   `json:"loaded"`
	Up      bool   `json:"up"`
	Enabled bool   `json:"enabled"`
}

func imageOf(name string, u host.Unit) unitImage {
	return unitImage{Name: name, Loaded: u.Loaded, Up: isUp(u), Enabled: u.IsEnabled()}
}

// isUp reports whether a unit is up or on its way there: a service that waits for its next restart, a timer, a service
// that did its work and exited all count, for undo must start them again.
func isUp(u host.Unit) bool {
	return u.Active == "active" || u.Active == "activating" || u.Active == "reloading"
}

// unseen are the images of those units of which the journal has none yet. A unit's first image is the one that counts.
func (tx *Tx) unseen(ctx context.Context, names []string) ([]unitImage, error) {
	var images []unitImage
	for _, name := range names {
		if tx.seen(name) {
			continue
		}
		now, err := tx.host.Units.Unit(ctx, name)
		if err != nil {
			return nil, failure.Wrap(failure.ServiceFailed, err, "cannot look at the unit %s", name)
		}
		images = append(images, imageOf(name, now))
	}
	return images, nil
}

func (tx *Tx) seen(name string) bool {
	for _, i := range tx.journal.story.units() {
		if i.Name == name {
			return true
		}
	}
	return false
}

// units are the first images of all units that the operation touched, in the order in which it did.
func (s *story) units() []unitImage {
	var all []unitImage
	for _, r := range s.records {
		switch c := r.change.(type) {
		case *unitChange:
			all = append(all, c.Before)
		case *packageChange:
			all = append(all, c.Units...)
		case *removalChange:
			all = append(all, c.Units...)
		case *snapChange:
			all = append(all, c.Units...)
		}
	}
	return all
}

// unitChange is a unit that was started, stopped, enabled or disabled.
type unitChange struct {
	Before unitImage `json:"before"`
}

// undo of a unit happens before and after all others, see undoing.stopUnits and bringBackUnits.
func (*unitChange) undo(context.Context, *undoing, *record) ([]string, error) { return nil, nil }

// reloadChange is a reload of the service manager.
type reloadChange struct{}

func (*reloadChange) undo(context.Context, *undoing, *record) ([]string, error) { return nil, nil }

// stopUnits stops what was not running before, and everything when files change under it, and disables what was not
// enabled: a package that is removed while its unit is enabled leaves a dangling link behind. The errors say what
// stays up, and what stays enabled.
func (u *undoing) stopUnits(ctx context.Context) (up, enabled error) {
	ctx = u.watched(ctx, "")
	for _, before := range u.journal.story.units() {
		now, err := u.host.Units.Unit(ctx, before.Name)
		if err == nil && isUp(now) && (!before.Up || u.changesFiles()) {
			err = u.host.Manager.Stop(ctx, before.Name)
		}
		if err != nil {
			u.tell.warn(before.Name+" could not be stopped before its files go back", err)
			up = errors.Join(up, err)
		}
		if !now.Loaded || !now.IsEnabled() || before.Enabled {
			continue
		}
		if err := u.host.Manager.Disable(ctx, before.Name); err != nil {
			u.tell.warn(before.Name+" could not be disabled before its files go back", err)
			enabled = errors.Join(enabled, err)
		}
	}
	return up, enabled
}

// bringBackUnits brings each unit to its first image. A unit that no longer exists is passed over. One that is up
// already was started by a package's script in the middle of the undo, with files that were not yet back: it is
// stopped first.
func (u *undoing) bringBackUnits(ctx context.Context) {
	if up, _ := u.stopUnits(ctx); up != nil {
		u.failed("a service could not be stopped, and runs with what is undone", up)
	}
	units := u.journal.story.units()
	if len(units) > 0 || u.has(kindReload) || u.has(kindPackage) || u.has(kindRemoval) || u.has(kindSnap) {
		if err := u.host.Manager.Reload(u.watched(ctx, "")); err != nil {
			u.failed("the service manager could not read its files again", err)
		}
	}
	for _, before := range units {
		if err := u.bringBack(u.watched(ctx, ""), before); err != nil {
			u.failed("the unit "+before.Name+" could not be brought back", err)
		}
	}
}

func (u *undoing) bringBack(ctx context.Context, before unitImage) error {
	now, err := u.host.Units.Unit(ctx, before.Name)
	if err != nil {
		return err
	}
	if !now.Loaded {
		if isUp(now) { // its file is gone, and its processes are not
			return u.host.Manager.Stop(ctx, before.Name)
		}
		return nil
	}
	switch {
	case before.Enabled && !now.IsEnabled():
		err = u.host.Manager.Enable(ctx, before.Name)
	case !before.Enabled && now.IsEnabled():
		err = u.host.Manager.Disable(ctx, before.Name)
	}
	if err != nil {
		return err
	}
	switch {
	case before.Up && !isUp(now):
		return u.host.Manager.Start(ctx, before.Name)
	case !before.Up && isUp(now):
		return u.host.Manager.Stop(ctx, before.Name)
	}
	return nil
}

// changesFiles reports whether the operation touched anything besides units. What an interrupted undo has done already
// counts too: it may have died before a unit that a package's script had started was stopped again.
func (u *undoing) changesFiles() bool {
	for _, r := range u.journal.story.records {
		switch r.kind {
		case kindUnit, kindReload, kindBackup:
		default:
			return true
		}
	}
	return false
}

func (u *undoing) has(kind string) bool {
	for _, r := range u.journal.story.records {
		if r.kind == kind {
			return true
		}
	}
	return false
}
