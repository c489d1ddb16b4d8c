package engine

import (
	"context"
	"errors"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// SnapWant is what becomes of a snap.
type SnapWant struct {
	Revision string `json:"revision,omitempty"` // one that is at hand; empty is the newest that its channel has
	Channel  string `json:"channel,omitempty"`  // that it follows from then on; empty is the one that it follows
	Follows  string `json:"follows,omitempty"`  // the one that it follows before: an undo has it follow that again
}

// Snap changes the revision of a snap that is installed. units are those that the snap brings: undo brings them back to what
// they were. Undo brings the revision back that was there, which snapd keeps; one that snapd or somebody has brought since
// stays. A run that was killed leaves snapd at work, for it needs nobody to end what it has begun: that is waited for,
// before anything is looked at, forwards and backwards.
func (tx *Tx) Snap(ctx context.Context, name string, want SnapWant, units ...string) error {
	if tx.host.Snaps == nil {
		return failure.New(failure.Internal, "there is no snapd here, and the snap %s is to be changed", name)
	}
	if err := tx.host.Snaps.Settle(tx.watched(ctx), name); err != nil {
		return err
	}
	before, err := readSnap(tx.host.Reader, name)
	if err != nil {
		return err
	}
	images, err := tx.unseen(ctx, units)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r, err := tx.firstRecord(kindSnap, &snapChange{
		Name: name, Revision: before.Revision, Version: before.Version, Want: want, Units: images,
	}, images, func(c change) bool { first, ok := c.(*snapChange); return ok && first.Name == name })
	if err != nil {
		return err
	}
	if err := bring(tx.watched(ctx), tx.host, before, want); err != nil {
		return err
	}
	now, err := readSnap(tx.host.Reader, name)
	if err != nil {
		return err
	}
	if !now.Whole() {
		return failure.New(failure.PackageInstall, "snapd says it is done, and the snap %s is not there", name).
			WithEvidence("nothing is at %s", now.Dir)
	}
	return tx.journal.write(entry{Is: markDone, Seq: r.seq, Version: now.Revision})
}

// bring makes a snap what is wanted.
func bring(ctx context.Context, h host.Host, now host.Snap, want SnapWant) error {
	if want.Revision == "" {
		return coded(h.Snaps.Refresh(ctx, now.Name, want.Channel), "cannot refresh the snap %s", now.Name)
	}
	// The channel first: what is still to be done is told by the revision.
	if want.Channel != "" && want.Channel != want.Follows {
		if err := h.Snaps.Switch(ctx, now.Name, want.Channel); err != nil {
			return coded(err, "cannot have the snap %s follow %s", now.Name, want.Channel)
		}
	}
	if now.Revision == want.Revision {
		return nil
	}
	return coded(h.Snaps.Revert(ctx, now.Name, want.Revision), "cannot bring revision %s of the snap %s back", want.Revision, now.Name)
}

// coded leaves an error as it is that says what it is about.
func coded(err error, format string, args ...any) error {
	if known := (*failure.Error)(nil); err == nil || errors.As(err, &known) {
		return err
	}
	return failure.Wrap(failure.PackageInstall, err, format, args...)
}

func readSnap(r host.Reader, name string) (host.Snap, error) {
	snap, found, err := host.ReadSnap(r.Files, name)
	if err == nil && !found {
		err = failure.New(failure.PackageInstall, "the snap %s is not installed", name).WithRemedy("snap list %s", name)
	}
	return snap, err
}

// snapChange is a snap that was brought to another revision.
type snapChange struct {
	Name     string      `json:"name"`
	Revision string      `json:"revision"` // before
	Version  string      `json:"version"`
	Want     SnapWant    `json:"want"`
	Units    []unitImage `json:"units,omitempty"`
}

func (c *snapChange) undo(ctx context.Context, u *undoing, r *record) ([]string, error) {
	if u.host.Snaps == nil {
		return nil, failure.New(failure.Internal, "there is no snapd here, and the snap %s is to go back", c.Name)
	}
	ctx = u.watched(ctx, r.step)
	if err := u.host.Snaps.Settle(ctx, c.Name); err != nil {
		return nil, err
	}
	now, found, err := host.ReadSnap(u.host.Files, c.Name)
	what := "snap " + c.Name
	switch {
	case err != nil:
		return nil, err
	case !found:
		return left(what, "somebody has removed it"), nil
	case r.version != "" && now.Revision != r.version && now.Revision != c.Revision:
		return left(what, "revision "+now.Revision+" came since, by snapd itself or by somebody"), nil
	case now.Revision != c.Revision && !now.Keeps(c.Revision):
		return left(what, "revision "+now.Revision+"; snapd does not keep "+c.Revision+" any more"), nil
	}
	_, _ = u.stopUnits(ctx) // what snapd went on with has started them
	back := SnapWant{Revision: c.Revision, Channel: c.Want.Follows}
	if c.Want.Channel == "" || c.Want.Channel == c.Want.Follows {
		back.Channel = "" // it was never another
	}
	return nil, bring(ctx, u.host, now, back)
}
