package simagent

import (
	"context"
	"net"
)

// SSM is amazon-ssm-agent, with the worker that it starts.
type SSM struct {
	Place
	Version string // four numbers; empty means DefaultSSMVersion
	// Worker runs ssm-agent-worker until ctx ends; nil runs it inside this process.
	Worker func(ctx context.Context) error
}

// ECSAgent is the agent in its container. Its Place is the container: Root has /log, /data, /etc/ecs and
// /rotatingcreds, Env is the container's.
type ECSAgent struct {
	Place
	Version string // "1.105.1"; empty means DefaultECSVersion
	// Fault is what this version of the agent does wrong; empty is nothing. See the constants.
	Fault string
	// Listen opens introspection's port, after registration and not before; nil means tcp :51678.
	Listen func() (net.Listener, error)
}

// Faults of a version.
const (
	FaultCrash   = "crash"   // it dies a moment after its start, again and again
	FaultDeaf    = "deaf"    // it registers, and never connects to ACS
	FaultVersion = "version" // it says that it is another version
	FaultForget  = "forget"  // it does not find its state and registers anew
)

// Init is amazon-ecs-init, the program of ecs.service.
type Init struct {
	Place
	Version string // "1.105.1"; empty means DefaultECSVersion
}

// Versions of the agents where none is given.
const (
	DefaultSSMVersion = "3.3.4108.0"
	DefaultECSVersion = "1.105.1"
)

// commit stands where the real agents print the revision they were built from.
const commit = "5ca1ab1e"
