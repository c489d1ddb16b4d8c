package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// pieces refuses to begin where packages that this run will need are not at --artifacts. All that is missing is told at
// once, with what other questions have found missing, errs: on a site without a way to AWS each piece is a walk to
// another machine. Errors of another kind go first. AWS itself is not asked beforehand: what it lacks is a wrong version.
func (r *registration) pieces(ctx context.Context, refs []artifact.Ref, errs ...error) error {
	var missing []string
	var first *failure.Error
	for _, err := range errs {
		if err != nil && !failure.Is(err, failure.ArtifactMissing) {
			return err
		}
		if f := failure.Of(err); err != nil {
			if first == nil {
				first = f
			}
			missing = append(missing, f.Message)
		}
	}
	if r.req.Artifacts != "" {
		more, err := r.source.Missing(ctx, refs...)
		if err != nil {
			return err
		}
		missing = append(missing, more...)
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	switch {
	case len(missing) == 0:
		return nil
	case len(missing) == 1 && first != nil: // it knows more
		return first
	}
	err := artifact.MissingFailure(missing)
	if r.req.Artifacts != "" {
		err = err.WithRemedy("bring them from a machine that reaches AWS: anywhere mirror DIR %s; or correct --artifacts", r.mirrorFlags(refs))
	}
	return err
}

// mirrorFlags are the flags by which a mirror has what this run needs.
func (r *registration) mirrorFlags(refs []artifact.Ref) string {
	flags := fmt.Sprintf("--region %s --os-family %s --arch %s", r.region, r.row.Family, r.deps.Host.Self.GOARCH)
	for _, product := range []artifact.Product{artifact.ECSInit, artifact.SSMAgent} {
		var versions []string
		for _, ref := range refs {
			if ref.Product == product && !slices.Contains(versions, ref.Version) {
				versions = append(versions, ref.Version)
			}
		}
		if len(versions) > 0 {
			flags += map[artifact.Product]string{
				artifact.ECSInit: " --ecs-agent-version ", artifact.SSMAgent: " --ssm-agent-version ",
			}[product] + strings.Join(versions, ",")
		}
	}
	return flags
}

// needs are the packages that this registration will fetch, as far as their versions are known.
func (r *registration) needs(pins map[string]string) (refs []artifact.Ref, err error) {
	add := func(product artifact.Product, version string) {
		if ref := r.ref(product, version); version != "" && !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	for _, p := range []struct {
		product artifact.Product
		version string
	}{{artifact.SSMAgent, pins[pinSSM]}, {artifact.ECSInit, pins[pinECS]}} {
		have, err := r.deps.Host.Packages.Package(string(p.product))
		if err != nil {
			return nil, err
		}
		if have.Snap { // snapd brings its versions
			continue
		}
		if !have.Installed || have.Partial || !sameVersion(have.Version, p.version) {
			add(p.product, p.version)
		}
	}
	if r.imageless {
		add(artifact.ECSInit, pins[pinECS])
	}
	if programs, err := snapPrograms(r.deps.Host.Reader); err == nil && programs.Whole() { // ECS Exec's come out of it
		return refs, nil
	}
	if exec, err := ecsagent.ReadExec(r.deps.Host.Reader); !r.req.NoExec && (err != nil || len(exec.Complete) == 0) {
		add(artifact.SSMAgent, first(pins[pinExec], pins[pinSSM]))
	}
	return refs, nil
}

// upgradeNeeds are the packages that this upgrade will fetch: what it cannot do without, and those to go back to.
func (u *upgrade) upgradeNeeds() (refs, former []artifact.Ref) {
	for _, a := range u.both() {
		if !a.in || a.action != actReplace || a.installed.Snap {
			continue
		}
		refs = append(refs, u.ref(a.product, a.target))
		if a.installed.Version != "" && !u.accepts(riskNoWayBack) {
			former = append(former, u.ref(a.product, a.installed.Version))
		}
	}
	exec, err := ecsagent.ReadExec(u.deps.Host.Reader)
	if wanted := u.pins[pinExec]; u.ecs().in && !u.isSnap() && err == nil && len(exec.Complete) > 0 && !slices.Contains(exec.Complete, wanted) {
		if ref := u.ref(artifact.SSMAgent, wanted); !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs, former
}

// upgradePieces are pieces for an upgrade. A version to go back to that cannot be had is a matter of its own
// (no_way_back), and is told here only beside others.
func (u *upgrade) upgradePieces(ctx context.Context) error {
	refs, former := u.upgradeNeeds()
	if err := u.pieces(ctx, refs); err == nil || !failure.Is(err, failure.ArtifactMissing) {
		return err
	}
	return u.pieces(ctx, append(refs, former...))
}

// namedPieces refuses a version that was asked for by name and cannot be had, where only the newest is looked up otherwise.
func (u *upgrade) namedPieces(ctx context.Context) error {
	var named []artifact.Ref
	for _, a := range u.both() {
		if a.in && explicit(a.asked) != "" && a.action == actReplace && !a.installed.Snap {
			named = append(named, u.ref(a.product, a.target))
		}
	}
	missing, err := u.source.Missing(ctx, named...)
	if err != nil || len(missing) == 0 {
		return err
	}
	absent := artifact.MissingFailure(missing)
	if u.req.Artifacts != "" {
		return absent.WithRemedy("bring it from a machine that reaches AWS: anywhere mirror DIR %s; or name another version", u.mirrorFlags(named))
	}
	return absent.WithRemedy("name another version; anywhere upgrade --check says what the newest ones are")
}
