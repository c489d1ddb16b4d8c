//go:build !linux

package host

import "github.com/anywhere-ecs/anywhere/internal/failure"

func lockHolder(string) (pid int, locked bool, err error) {
	return 0, false, failure.New(failure.NotBuilt, "cannot look at dpkg's locks: not built for this platform")
}
