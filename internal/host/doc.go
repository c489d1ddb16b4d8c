// Package host is the machine: files below a root, child processes, packages, units, the kernel's facts and the clock,
// each behind a small interface. A [Reader] is what observers and checks get: by type it can change nothing. A [Host]
// can change things, and only the engine's Tx and the cache of artifacts use that half.
//
// It must not know AWS, the agents or Docker.
package host
