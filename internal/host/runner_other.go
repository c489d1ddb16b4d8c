//go:build !linux

package host

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

type runner struct{}

// NewRunner returns a Runner that starts nothing: it is not built for this platform.
func NewRunner() Runner { return runner{} }

func (runner) Run(_ context.Context, cmd Cmd) (Result, error) {
	return Result{}, failure.New(failure.NotBuilt, "cannot run %s: not built for this platform", cmd.Path)
}

func (runner) Wait(_ context.Context, child Child) error {
	return failure.New(failure.NotBuilt, "cannot wait for process %d: not built for this platform", child.PID)
}
