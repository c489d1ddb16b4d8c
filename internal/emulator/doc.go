// Package emulator is ECS, SSM and the artifact buckets over HTTP on loopback, true to the wire, with faults.
//
// It must not know anywhere's own client code.
package emulator
