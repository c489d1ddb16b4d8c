package artifact

import (
	"context"
	"io"
	"io/fs"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// File is a regular file inside a package.
type File struct {
	Name string // clean and relative, with slashes: usr/bin/ssm-agent-worker
	Mode fs.FileMode
	Size int64
	Body io.Reader // valid until visit returns
}

// Extract streams the regular files of the Debian package at path, in their order, to visit; visit ends it early with
// fs.SkipAll. The package must be one that Fetch returned: nothing is verified here.
func Extract(ctx context.Context, files host.Files, path string, visit func(File) error) error {
	return failure.New(failure.NotBuilt, "extract")
}

// Control reads a Debian package's own name, version and architecture from its beginning.
func Control(r io.Reader) (name, version, arch string, err error) {
	return "", "", "", failure.New(failure.NotBuilt, "control")
}
