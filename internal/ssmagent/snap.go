package ssmagent

import (
	"context"
	"errors"
	"io/fs"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// SnapInstalled reports whether the agent is there as a snap: its unit, or its program where snapd mounts it.
func SnapInstalled(ctx context.Context, r host.Reader) (bool, error) {
	unit, err := r.Units.Unit(ctx, SnapUnit)
	if err != nil && !failure.Is(err, failure.NoSystemd) || unit.Loaded { // without systemd the files tell
		return unit.Loaded, err
	}
	for _, name := range snapBinaries {
		_, err := r.Files.Stat(name)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}
