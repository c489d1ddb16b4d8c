// Package simagent is agents that behave as AWS's do: goroutines in a rehearsal, binaries in the test packages.
//
// It must not know anywhere's own readers.
package simagent
