//go:build !race

package rehearsal

// sparsely: of the stages at whose points the power fails, each one that it divides is played, so many at once.
const (
	sparsely  = 1
	cutAtOnce = 12
)
