package lifecycle

import (
	"context"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// imageGone says what of the agent's image, which the package brings, is not on the disk any more; "" is nothing. Then
// ecs-init downloads one at its next start, from us-east-1 whatever the Region is (ecs-init/cache/cache.go of 1.105.1): an
// agent that works today does not come back after a boot.
func imageGone(reader host.Reader) (string, error) {
	for _, name := range []string{ecsagent.CachedImage, ecsagent.CacheState} {
		info, err := reader.Files.Stat(name)
		switch {
		case missing(err):
			return name + " is missing", nil
		case err != nil:
			return "", err
		case info.Size() == 0:
			return name + " is empty", nil
		}
	}
	return "", nil
}

// lacksImage reports whether the package is there, and its image is not.
func (r *registration) lacksImage(reader host.Reader) (why string, installed host.Package, err error) {
	installed, err = reader.Packages.Package(ecsagent.Package)
	if err != nil || !installed.Installed || installed.Partial {
		return "", installed, err
	}
	why, err = imageGone(reader)
	return why, installed, err
}

func (r *registration) settleImage() error {
	why, _, err := r.lacksImage(r.deps.Host.Reader)
	r.imageless = why != ""
	return err
}

// ecsImage puts the image back out of the verified package of the installed version. A plan has it only where it is due.
func (r *registration) ecsImage() engine.Step {
	return engine.Step{
		ID: "ecs.image", Title: "Put the ECS agent's image back",
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			why, _, err := r.lacksImage(reader)
			if err != nil || why == "" {
				return engine.Obs{State: engine.OK, Detail: ecsagent.CachedImage}, err
			}
			return engine.Obs{State: engine.Pending, Detail: why + ": without it ecs-init would look in us-east-1 at its next start"}, nil
		},
		Fetch: func(ctx context.Context) error {
			_, installed, err := r.lacksImage(r.deps.Host.Reader)
			if err == nil && installed.Installed {
				_, err = r.fetchOnce(ctx, r.ref(artifact.ECSInit, installed.Version))
			}
			return err
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			_, installed, err := r.lacksImage(tx.Reader())
			if err != nil {
				return err
			}
			pkg, err := r.fetchOnce(ctx, r.ref(artifact.ECSInit, installed.Version))
			if err != nil {
				return err
			}
			return restoreImage(ctx, tx, pkg)
		},
	}
}

func restoreImage(ctx context.Context, tx *engine.Tx, pkg artifact.Package) error {
	files := tx.Reader().Files
	if info, err := files.Stat(ecsagent.CachedImage); err != nil || info.Size() == 0 {
		to := ecsagent.CachedImage
		if target, err := files.Readlink(to); err == nil { // as the package makes it; where it leads nowhere, its target is written
			if !path.IsAbs(target) {
				target = path.Join(ecsagent.CacheDir, target)
			}
			if path.Dir(path.Clean(target)) == ecsagent.CacheDir {
				to = path.Clean(target)
			} else if err := tx.Remove(ctx, to); err != nil {
				return err
			}
		}
		found := false
		err := artifact.Extract(ctx, files, pkg.Path, func(f artifact.File) error {
			if path.Dir("/"+f.Name) != ecsagent.CacheDir || path.Ext(f.Name) != ".tar" {
				return nil
			}
			found = true
			if err := tx.WriteFile(ctx, to, sized{f.Body, f.Size}, 0o644); err != nil {
				return err
			}
			return fs.SkipAll
		})
		if err != nil {
			return err
		}
		if !found {
			return failure.New(failure.ArtifactMissing, "%s has no image of the ECS agent", pkg.Path).
				WithEvidence("nothing below %s in it ends in .tar", ecsagent.CacheDir).
				WithRemedy("upgrade to a version that has one: anywhere upgrade --only ecs")
		}
	}
	if info, err := files.Stat(ecsagent.CacheState); err == nil && info.Size() > 0 {
		return nil
	}
	return tx.WriteFile(ctx, ecsagent.CacheState, strings.NewReader(imageIsNew), 0o644)
}

// imageIsNew is what the package itself brings: the next start loads the image (see ecsagent.CacheState).
const imageIsNew = "2"

// sized tells the length of what is read.
type sized struct {
	io.Reader
	size int64
}

func (s sized) Len() int { return int(s.size) }
