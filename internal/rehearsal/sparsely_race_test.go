//go:build race

package rehearsal

// sparsely: under the race detector, which is slow, a quarter of the points at which the power fails; .ci/run goes through
// all of them without it.
const (
	sparsely  = 4
	cutAtOnce = 2
)
