package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

// Packages of Docker's own repository: daemon, client, and what runs containers. What they depend on comes with them.
// Source: https://docs.docker.com/engine/install/debian/ and .../ubuntu/, read 2026-11-25.
var ownPackages = []string{"docker-ce", "docker-ce-cli", "containerd.io"}

// What Debian's and Ubuntu's docker.io does not bring by itself in every release, and dockerd does not start without.
// Source: packages docker.io of Debian 10 to 13, where iptables is a dependency or only recommended.
var distroNeeds = []string{"iptables"}

// Conflicting are the distribution's packages that Docker's own would have to replace. Source: as ownPackages, "Uninstall
// old versions".
var Conflicting = []string{"docker.io", "docker-doc", "docker-compose", "docker-compose-v2", "podman-docker", "containerd", "runc"}

// Units of Docker in both kinds of packages, in the order in which they are stopped: the socket would start the daemon
// again.
var Units = []string{"docker.socket", "docker.service", "containerd.service"}

// Folders that the packages and the daemons make, besides what the package manager removes.
var Folders = []string{
	"/etc/docker", "/etc/containerd", "/etc/cni", "/opt/containerd", DataRoot, ContainerdRoot,
	"/run/docker.sock", "/run/docker.pid",
}

// Where the daemons keep their data, unless they are configured otherwise.
const (
	DataRoot       = "/var/lib/docker"
	ContainerdRoot = "/var/lib/containerd"
	configPath     = "/etc/docker/daemon.json"
)

// RemovalScript is what docker.io leaves in the data folder when it is removed, to delete all that is in it when it is
// purged. Source: prerm and postrm of docker.io 20.10.24+dfsg1-1 (Debian 12).
const RemovalScript = DataRoot + "/nuke-graph-directory.sh"

// Group is made by the packages and not removed with them.
const Group = "docker"

// Packages are what a source of the platform table (see platform.Row.Docker) has to install for Docker.
func Packages(row platform.Row, source string) []string {
	if source == platform.SourceDocker {
		return slices.Clone(ownPackages)
	}
	return append([]string{row.DockerPackage}, distroNeeds...)
}

// SourceName is a source for people.
func SourceName(row platform.Row, source string) string {
	if source == platform.SourceDocker {
		return "Docker's own repository"
	}
	return fmt.Sprintf("%s's package %s", row.System, row.DockerPackage)
}

// Holdings are the containers, images and volumes that Docker has, each named; the images that ours knows, and their
// containers, do not count. Where the daemon does not answer, its data folder tells. It fails when neither can.
func Holdings(ctx context.Context, r host.Reader, ours func(image string) bool) ([]string, error) {
	held, err := newClient(r).holdings(ctx, ours)
	if !failure.Is(err, failure.DockerDown) {
		return held, err
	}
	return stored(r.Files)
}

func (c *client) holdings(ctx context.Context, ours func(image string) bool) ([]string, error) {
	containers, err := c.containers(ctx, "")
	if err != nil {
		return nil, err
	}
	var held []string
	for _, one := range containers {
		if !ours(one.Image) {
			held = append(held, "the container "+strings.Join(append(one.Names, short(one.ID))[:1], ""))
		}
	}
	var images []struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	if err := c.get(ctx, "/images/json", &images); err != nil {
		return nil, unanswered(ctx, err, "could not list Docker's images")
	}
	for _, one := range images {
		if len(one.RepoTags) == 0 || slices.ContainsFunc(one.RepoTags, func(tag string) bool { return !ours(tag) }) {
			held = append(held, "the image "+strings.Join(append(one.RepoTags, short(one.ID))[:1], ""))
		}
	}
	var volumes struct{ Volumes []struct{ Name string } }
	if err := c.get(ctx, "/volumes", &volumes); err != nil {
		return nil, unanswered(ctx, err, "could not list Docker's volumes")
	}
	for _, one := range volumes.Volumes {
		held = append(held, "the volume "+one.Name)
	}
	return held, nil
}

// short is an id as Docker prints it.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// places are the folders that have an entry for each thing that Docker holds, with those that it makes by itself. Images
// in containerd's store, Docker's own since 29, are in the last one. Source: moby v20.10 to v29.
var places = []struct {
	what, in string
	not      []string
}{
	{"the container", DataRoot + "/containers", nil},
	{"the volume", DataRoot + "/volumes", []string{"metadata.db", "backingFsBlockDev"}},
	{"the image", DataRoot + "/image/*/imagedb/content/sha256", nil},
	{"an image's part", ContainerdRoot + "/io.containerd.content.v1.content/blobs/sha256", nil},
}

// stored looks for what a daemon that does not answer holds. Where its configuration may put that, nobody looks.
func stored(files host.Files) ([]string, error) {
	config, err := files.ReadFile(configPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failure.Wrap(failure.Internal, err, "could not read %s", configPath)
	}
	for _, key := range []string{`"data-root"`, `"graph"`} {
		if strings.Contains(string(config), key) {
			return nil, failure.New(failure.DockerDown, "the daemon does not answer, and %s puts its data elsewhere", configPath)
		}
	}
	var held []string
	for _, place := range places {
		dirs := []string{place.in}
		if before, after, any := strings.Cut(place.in, "/*/"); any {
			drivers, err := entries(files, before)
			if err != nil {
				return nil, err
			}
			dirs = nil
			for _, driver := range drivers {
				dirs = append(dirs, path.Join(before, driver, after))
			}
		}
		for _, dir := range dirs {
			names, err := entries(files, dir)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if !slices.Contains(place.not, name) {
					held = append(held, place.what+" "+short(name))
				}
			}
		}
	}
	return held, nil
}

func entries(files host.Files, dir string) ([]string, error) {
	found, err := files.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "could not look into %s", dir)
	}
	names := make([]string, len(found))
	for i, entry := range found {
		names[i] = entry.Name()
	}
	return names, nil
}
