package preflight

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

func diskChecks() []Check {
	return []Check{{ID: "disk.space", Title: "Disk space", Run: diskSpace}}
}

// room is what is written below a folder.
type room struct {
	path  string
	bytes uint64
}

// roomNeeded is what a registration writes below each folder, in bytes. Packages as of 2026-11 (SSM 32 MB, ECS 21 MB)
// are kept once and unpacked once; the image is 84 MB in Docker. Source: the packages themselves, measured 2026-11-22.
var roomNeeded = []room{
	{"/var/lib/anywhere", 100 << 20},
	{"/usr", 200 << 20},
	{"/var/lib/ecs", 150 << 20},
	{"/var/cache/ecs", 100 << 20},
	{"/var/lib/docker", 500 << 20},
	{"/var/log", 20 << 20},
	{"/etc", 1 << 20},
}

// dockerRoom is what installing Docker takes in addition: lists and packages in the cache, the programs, an empty data
// folder. Docker's own packages as of 2026-11 have 110 MB and take 480 MB; Debian's lists have 26 MB, Ubuntu's 60 MB.
var dockerRoom = []room{
	{"/var/lib/anywhere", 200 << 20},
	{"/usr", 500 << 20},
	{"/var/lib/docker", 100 << 20},
}

// fileSystem is one of those that are written to.
type fileSystem struct {
	paths        []string
	free, needed uint64
}

func diskSpace(_ context.Context, s Subject) Result {
	needed := roomNeeded
	if s.Docker && !s.Resuming { // a run that goes on has spent some of it
		needed = slices.Concat(roomNeeded, dockerRoom)
	}
	systems, err := fileSystems(s.Host.Files, needed)
	if err != nil {
		return broken(err)
	}
	evidence := map[string]any{}
	var lacking []string
	for _, f := range systems {
		for _, p := range f.paths {
			evidence[p] = f.free
		}
		if f.free < f.needed {
			lacking = append(lacking, fmt.Sprintf("%d MiB are free and %d needed for %s",
				f.free>>20, f.needed>>20, strings.Join(f.paths, ", ")))
		}
	}
	r := pass("enough on every file system that is written to")
	if len(lacking) > 0 {
		r = fail(failure.DiskFull, strings.Join(lacking, "; "),
			"free space there (df -h; apt-get clean; journalctl --vacuum-size=100M), then run the command again")
	}
	r.Evidence = evidence
	return r
}

// fileSystems adds up what is needed on each: folders that share one share its room.
func fileSystems(files host.Files, needed []room) ([]*fileSystem, error) {
	var all []*fileSystem
	at := map[uint64]*fileSystem{}
	for _, need := range needed {
		device, known := deviceOf(files, need.path)
		f := at[device]
		if !known || f == nil {
			free, err := files.Space(need.path)
			if failure.Is(err, failure.ReadOnly) {
				return nil, err
			}
			if err != nil {
				return nil, failure.Wrap(failure.Internal, err, "could not tell how much room there is for %s", need.path)
			}
			f = &fileSystem{free: free}
			all = append(all, f)
			if known {
				at[device] = f
			}
		}
		if !slices.Contains(f.paths, need.path) {
			f.paths = append(f.paths, need.path)
		}
		f.needed += need.bytes
	}
	return all, nil
}

// deviceOf names the file system of name, or of its nearest parent that exists.
func deviceOf(files host.Files, name string) (device uint64, known bool) {
	for {
		info, err := files.Stat(name)
		if err == nil {
			return device64(info)
		}
		if name == "/" {
			return 0, false
		}
		name = path.Dir(name)
	}
}
