package simagent

import (
	"context"
	"io"
)

// Main is the command line of amazon-ssm-agent: without arguments the service. It returns the exit status.
func (s *SSM) Main(ctx context.Context, args []string) int { return 1 }

// Main is the command line of amazon-ecs-init. It returns the exit status. The end of ctx is SIGTERM.
func (i *Init) Main(ctx context.Context, args []string) int { return 1 }

// Main is the command line of the agent. It returns the exit status. The end of ctx is SIGTERM.
func (a *ECSAgent) Main(ctx context.Context, args []string) int { return 1 }

// Image is a Docker image of the agent, as ecs-init loads it.
type Image struct {
	Binary  []byte // static; it becomes /agent
	Arch    string // Docker's name: amd64 or arm64; empty means amd64
	Version string // shown in the image's labels
}

// WriteTo streams the image as a tar for "docker load".
func (i Image) WriteTo(w io.Writer) (int64, error) { return 0, nil }
