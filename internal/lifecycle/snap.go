package lifecycle

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Ubuntu's images bring the SSM agent as a snap. It is used as it is, and changed only by snapd: a channel has one version,
// snapd downloads and verifies it, keeps the revision that it replaces, and goes on by itself with what it was asked for.
// What is decided is pinned, so that a run that goes on asks nobody.
const (
	pinSnapFrom     = "snap-from"     // the revision that is replaced
	pinSnapRevision = "snap-revision" // that is gone back to; empty is the newest of the channel
	pinSnapChannel  = "snap-channel"  // that the snap is to follow, where that is another
	pinSnapFollows  = "snap-follows"  // and the one that it follows before
)

// isSnap reports whether the SSM agent is a snap here. What cannot be read is told by refuseSnap.
func (r *registration) isSnap() bool {
	form, err := ssmagent.FormOf(r.deps.Host.Reader)
	return err == nil && form.Snap
}

// agentStep keeps the SSM agent's version as it should be, in the form in which it is installed.
func (r *registration) agentStep(p packageStep) engine.Step {
	step := r.packageStep(p)
	fetch, change := step.Fetch, step.Change
	step.Fetch = func(ctx context.Context) error {
		if r.isSnap() { // snapd's
			return nil
		}
		return fetch(ctx)
	}
	step.Change = func(ctx context.Context, tx *engine.Tx) error {
		if r.isSnap() {
			return r.changeSnap(ctx, tx)
		}
		return change(ctx, tx)
	}
	return step
}

// changeSnap has snapd bring the agent to the pinned version.
func (r *registration) changeSnap(ctx context.Context, tx *engine.Tx) error {
	if err := restSSMAgent(ctx, tx); err != nil {
		return err
	}
	want := engine.SnapWant{
		Revision: r.pins[pinSnapRevision], Channel: r.pins[pinSnapChannel], Follows: r.pins[pinSnapFollows],
	}
	if err := tx.Snap(ctx, ssmagent.Package, want, ssmagent.SnapUnit); err != nil {
		return err
	}
	now, err := tx.Reader().Packages.Package(ssmagent.Package)
	if err != nil || sameVersion(now.Version, r.pins[pinSSM]) {
		return err
	}
	return failure.New(failure.PackageInstall, "snapd has brought version %s of the snap %s, and %s was to come from %s",
		now.Version, ssmagent.Package, r.pins[pinSSM], first(want.Channel, want.Follows)).
		WithRemedy("what the channel has has changed meanwhile: run the command again; snap info %s shows it", ssmagent.Package)
}

// offered is what snapd and the store say of the agent's snap, asked once in a run.
func (r *registration) offered(ctx context.Context) (host.SnapOffer, error) {
	if r.offer != nil {
		return *r.offer, nil
	}
	snapd := r.deps.Host.Snaps
	if snapd == nil {
		return host.SnapOffer{}, failure.New(failure.Internal, "there is no snapd here, and the SSM agent is a snap")
	}
	offer, err := snapd.Offer(ctx, ssmagent.Package)
	if err != nil {
		return offer, err
	}
	r.offer = &offer
	return offer, nil
}

// latest is the newest version of a product that can be had here.
func (r *registration) latest(ctx context.Context, product artifact.Product) (string, error) {
	if product != artifact.SSMAgent || !r.isSnap() {
		return r.source.Resolve(ctx, r.ref(product, artifact.Latest))
	}
	version, _, err := r.chooseSnap(ctx, "")
	return version, err
}

// chooseSnap finds out how the snap comes to a version: the newest of the channel that it follows where none is named, else
// from whichever channel has it, or from what snapd still keeps.
func (r *registration) chooseSnap(ctx context.Context, asked string) (version string, want engine.SnapWant, err error) {
	snap, _, err := host.ReadSnap(r.deps.Host.Files, ssmagent.Package)
	if err != nil {
		return "", want, err
	}
	if !snap.Store() {
		return "", want, failure.New(failure.SnapAgent, "the snap %s was installed from a file (revision %s): it follows no channel, "+
			"and nobody has verified it", ssmagent.Package, snap.Revision).
			WithRemedy("snap refresh --amend --channel=latest/stable %s makes it the store's; then run the command again", ssmagent.Package)
	}
	offer, err := r.offered(ctx)
	if err != nil {
		return "", want, err
	}
	want.Follows = offer.Follows
	followed, known := offer.Followed()
	switch {
	case explicit(asked) == "" && known, known && sameVersion(followed.Version, asked):
		return followed.Version, want, nil
	case explicit(asked) == "" && offer.Newest:
		return snap.Version, want, nil
	case explicit(asked) == "":
		return "", want, failure.New(failure.ArtifactMissing, "the snap %s follows %s, in which there is nothing",
			ssmagent.Package, first(offer.Follows, "no channel")).
			WithEvidence("%s", releases(offer)).
			WithRemedy("snap switch --channel=latest/stable %s, then run the command again", ssmagent.Package)
	}
	for _, release := range offer.Channels {
		if sameVersion(release.Version, asked) {
			want.Channel = release.Channel
			return release.Version, want, nil
		}
	}
	for _, kept := range snap.Kept {
		if sameVersion(kept.Version, asked) {
			want.Revision = kept.Revision
			return kept.Version, want, nil
		}
	}
	return "", want, failure.New(failure.ArtifactMissing, "no channel of the snap %s has version %s", ssmagent.Package, asked).
		WithEvidence("%s", releases(offer)).
		WithRemedy("a snap can only be brought to what a channel has: name one of these with --ssm-agent-version, or leave it out")
}

// releases is what the channels have, for people.
func releases(offer host.SnapOffer) string {
	var all []string
	for _, release := range offer.Channels {
		all = append(all, release.String())
	}
	return strings.Join(all, ", ")
}

// resolveSnap pins how the snap comes to the version that the run works with, where that is another one.
func (r *registration) resolveSnap(ctx context.Context, pins map[string]string) error {
	if !r.isSnap() || pins[pinSnapFrom] != "" {
		return nil
	}
	snap, _, err := host.ReadSnap(r.deps.Host.Files, ssmagent.Package)
	if err != nil || sameVersion(snap.Version, pins[pinSSM]) {
		return err
	}
	_, want, err := r.chooseSnap(ctx, pins[pinSSM])
	if err != nil {
		return err
	}
	if line := follows(want); line != "" {
		r.warnings = append(r.warnings, line)
	}
	pinSnap(pins, snap.Revision, want)
	return nil
}

func pinSnap(pins map[string]string, from string, want engine.SnapWant) {
	pins[pinSnapFrom], pins[pinSnapRevision], pins[pinSnapChannel], pins[pinSnapFollows] = from, want.Revision, want.Channel, want.Follows
}

// follows warns of a snap that is to follow another channel: snapd refreshes it from there, by itself, from then on.
func follows(want engine.SnapWant) string {
	if want.Channel == "" || want.Channel == want.Follows {
		return ""
	}
	line := fmt.Sprintf("the snap %s follows %s from now on, and snapd refreshes it from there by itself", ssmagent.Package, want.Channel)
	if want.Follows != "" {
		line += fmt.Sprintf("; to have it follow %s again: snap switch --channel=%[1]s %s", want.Follows, ssmagent.Package)
	}
	return line
}

// snapPrograms is the agent's snap if ECS Exec's programs can be taken out of it: the same three files as in the package
// (facts: ssm-agent section 13), of the version that runs, verified and mounted read-only by snapd. Else it is not whole, and
// they come out of the package.
func snapPrograms(r host.Reader) (host.Snap, error) {
	form, err := ssmagent.FormOf(r)
	if err != nil || !form.Snap {
		return host.Snap{}, err
	}
	snap, _, err := host.ReadSnap(r.Files, ssmagent.Package)
	if err != nil || !snap.Store() {
		return host.Snap{}, err
	}
	for _, name := range ecsagent.ExecBinaries {
		info, err := r.Files.Stat(path.Join(snap.Dir, name))
		if missing(err) || err == nil && (!info.Mode().IsRegular() || info.Size() == 0) {
			return host.Snap{}, nil
		}
		if err != nil {
			return host.Snap{}, err
		}
	}
	return snap, nil
}
