package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

func machineChecks() []Check {
	return []Check{
		{ID: "privileges", Title: "Root", Run: privileges},
		{ID: "os.release", Title: "Operating system", Docs: ecsAnywhereDocs, Run: osRelease},
		{ID: "os.arch", Title: "Architecture", Docs: ecsAnywhereDocs, Run: osArch},
		{ID: "os.systemd", Title: "systemd", Run: osSystemd},
		{ID: "os.machine-id", Title: "Machine id", Run: machineID},
		{ID: "os.container", Title: "Container", Run: container},
		{ID: "disk.space", Title: "Disk space", Run: diskSpace},
	}
}

func privileges(_ context.Context, s Subject) Result {
	switch {
	case s.Host.Self.EUID == 0:
		return pass("running as root")
	case s.Mutating:
		return fail(failure.NotRoot, fmt.Sprintf("running as user %d, and the command changes the system", s.Host.Self.EUID), "run it as root: sudo anywhere …")
	}
	return warn(fmt.Sprintf("running as user %d: what needs root is skipped", s.Host.Self.EUID), "sudo anywhere preflight")
}

func osRelease(_ context.Context, s Subject) Result {
	if s.Host.Self.GOOS != "linux" {
		return fail(failure.NotBuilt, s.Host.Self.GOOS+" is not supported yet", "anywhere platforms")
	}
	release, err := host.ReadOSRelease(s.Host.Files)
	if err != nil {
		return broken(err)
	}
	name := release.PrettyName
	if name == "" {
		name = strings.TrimSpace(release.ID + " " + release.VersionID)
	}
	row, verdict, found := platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	if !found {
		return fail(failure.UnsupportedOS, name+" is not a system that anywhere knows", "anywhere platforms lists those that can").
			with("id", release.ID).with("versionId", release.VersionID)
	}
	var r Result
	switch {
	case row.Broken:
		r = fail(failure.UnsupportedOS, name+" cannot become an external instance: "+row.Notes, "anywhere platforms lists those that can")
	case !row.Built:
		r = fail(failure.NotBuilt, "anywhere does not install on "+name+" yet", "anywhere platforms says what works")
	case verdict == platform.Older:
		r = fail(failure.UnsupportedOS, name+" is older than any system that ECS Anywhere ran on", "anywhere platforms lists those that can")
	case row.AWS.State == platform.Listed:
		r = pass("%s is on AWS's list of %s", name, platform.Date)
	case row.AWS.State == platform.WasListed:
		r = warn(fmt.Sprintf("%s was on AWS's list until %s", name, row.AWS.Until), "")
	default:
		r = warn(fmt.Sprintf("%s is not on AWS's list of %s", name, platform.Date), "")
	}
	return r.with("id", release.ID).with("versionId", release.VersionID).with("family", row.Family)
}

func osArch(_ context.Context, s Subject) Result {
	if arch := s.Host.Self.GOARCH; arch != "amd64" && arch != "arm64" {
		return fail(failure.UnsupportedArch, arch+" is not an architecture of ECS Anywhere", "use a 64-bit machine: x86_64 or arm64")
	}
	return pass("%s", s.Host.Self.GOARCH)
}

func osSystemd(ctx context.Context, s Subject) Result {
	if err := s.Host.Units.Available(ctx); err != nil {
		return broken(err)
	}
	return pass("systemd answers")
}

func machineID(_ context.Context, s Subject) Result {
	text, err := s.Host.Files.ReadFile("/etc/machine-id")
	id := strings.TrimSpace(string(text))
	const remedy = "systemd-machine-id-setup, then run the command again"
	switch {
	case err != nil:
		return fail("", "there is no /etc/machine-id: the managed node's fingerprint would not last", remedy)
	case id == "" || id == "uninitialized":
		return fail("", "/etc/machine-id is empty: the managed node's fingerprint would not last", remedy)
	}
	return pass("set")
}

func container(_ context.Context, s Subject) Result {
	switch kind := s.Host.Kernel.Container(); kind {
	case "":
		return pass("not in a container")
	case "systemd-nspawn", "lxc", "lxc-libvirt":
		return warn("this is a "+kind+" container with its own systemd: tasks work as far as it lets Docker work", "")
	default:
		return fail(failure.NoSystemd, "this is a "+kind+" container, not a host", "run anywhere on the host itself")
	}
}

// roomNeeded is what a registration writes below each folder, in bytes. Packages as of 2026-11 (SSM 32 MB, ECS 21 MB) are
// kept once and unpacked once; the image is 84 MB in Docker. Source: facts/rival, measured 2026-11-22.
var roomNeeded = []struct {
	path  string
	bytes uint64
}{
	{"/var/lib/anywhere", 100 << 20},
	{"/usr", 200 << 20},
	{"/var/lib/ecs", 150 << 20},
	{"/var/cache/ecs", 100 << 20},
	{"/var/lib/docker", 500 << 20},
	{"/var/log", 20 << 20},
	{"/etc", 1 << 20},
}

func diskSpace(_ context.Context, s Subject) Result {
	least := pass("enough on every file system that is written to")
	var lacking []string
	for _, need := range roomNeeded {
		free, err := s.Host.Files.Space(need.path)
		if err != nil {
			return broken(err)
		}
		least = least.with(need.path, free)
		if free < need.bytes {
			lacking = append(lacking, fmt.Sprintf("%s has %d MiB free and needs %d", need.path, free>>20, need.bytes>>20))
		}
	}
	if len(lacking) > 0 {
		r := fail(failure.DiskFull, strings.Join(lacking, "; "), "free space there, then run the command again")
		r.Evidence = least.Evidence
		return r
	}
	return least
}
