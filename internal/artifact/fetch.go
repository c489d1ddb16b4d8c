package artifact

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Resolve tells which version ref means.
func (s *Source) Resolve(ctx context.Context, ref Ref) (version string, err error) {
	return "", failure.New(failure.NotBuilt, "resolve")
}

// Fetch returns the package that ref names, from the cache when it verifies, else downloaded and verified.
func (s *Source) Fetch(ctx context.Context, ref Ref) (Package, error) {
	return Package{}, failure.New(failure.NotBuilt, "fetch")
}

// Cached returns the package that ref names if it is in the cache and verifies.
func (s *Source) Cached(ctx context.Context, ref Ref) (Package, bool) { return Package{}, false }
