//go:build !linux

package host

import (
	"context"
	"os"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Leading is never so here.
func Leading() bool { return false }

// Again is not built here.
func Again([]string) (child *os.Process, wait func() (status int), err error) {
	return nil, nil, failure.New(failure.NotBuilt, "a run that outlives its session is not built for this system")
}

// Leave is not built here.
func (*Systemd) Leave(context.Context, string, string) error {
	return failure.New(failure.NotBuilt, "a run that outlives its session is not built for this system")
}
