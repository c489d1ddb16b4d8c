// Package control is the AWS side: join tokens, activations, nodes and container instances through the SDK, and the one
// place where AWS's errors become coded failures.
//
// It must not know the host, the agents' files or how a result is shown.
package control
