package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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
		{ID: "os.pending-reboot", Title: "Pending reboot", Run: pendingReboot},
		{ID: inContainer, Title: "Container", Run: container},
	}
}

// inContainer is the check that knows why there is no systemd, and what to do, where the machine is a container or WSL.
const inContainer = "os.container"

func privileges(_ context.Context, s Subject) Result {
	switch {
	case s.Host.Self.EUID == 0:
		return pass("running as root")
	case s.Mutating:
		return fail(failure.NotRoot, fmt.Sprintf("running as user %d, and the command changes the system", s.Host.Self.EUID),
			"run the same command as root: put sudo in front")
	}
	return warn(fmt.Sprintf("running as user %d: what needs root is skipped", s.Host.Self.EUID), "sudo anywhere preflight")
}

func osRelease(_ context.Context, s Subject) Result {
	if s.Host.Self.GOOS != "linux" {
		return fail(failure.NotBuilt, s.Host.Self.GOOS+" is not supported yet", "anywhere platforms")
	}
	release, err := host.ReadOSRelease(s.Host.Files)
	if err != nil {
		r := broken(err)
		r.follows = inContainer // an image may hold one program and nothing that says which system it is
		return r
	}
	name := release.PrettyName
	if name == "" {
		name = strings.TrimSpace(release.ID + " " + release.VersionID)
	}
	const position = "anywhere platforms says what AWS's position is, and what was tested"
	const listed = "anywhere platforms lists those that can"
	row, verdict, found := platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	if !found {
		return fail(failure.UnsupportedOS, name+" is not a system that anywhere knows", listed).
			with("id", release.ID).with("versionId", release.VersionID)
	}
	var r Result
	switch {
	case row.Broken:
		r = fail(failure.UnsupportedOS, name+" cannot become an external instance: "+row.Notes, listed)
	case !row.Built:
		r = fail(failure.NotBuilt, "anywhere does not install on "+name+" yet", "anywhere platforms says what works")
	case verdict == platform.Older:
		r = fail(failure.UnsupportedOS, name+" is older than any system that ECS Anywhere ran on", listed)
	case row.AWS.State == platform.Listed:
		r = pass("%s is on AWS's list of %s", name, platform.Date)
	case row.AWS.State == platform.WasListed:
		r = warn(fmt.Sprintf("%s was on AWS's list until %s", name, row.AWS.Until), position)
	default:
		r = warn(fmt.Sprintf("%s is not on AWS's list of %s", name, platform.Date), position)
	}
	return r.with("id", release.ID).with("versionId", release.VersionID).with("family", row.Family)
}

func osArch(_ context.Context, s Subject) Result {
	if arch := s.Host.Self.GOARCH; arch != "amd64" && arch != "arm64" {
		return fail(failure.UnsupportedArch, arch+" is not an architecture of ECS Anywhere",
			"use a 64-bit machine: x86_64 or arm64").with("arch", arch)
	}
	return pass("%s", s.Host.Self.GOARCH).with("arch", s.Host.Self.GOARCH)
}

func osSystemd(ctx context.Context, s Subject) Result {
	if err := s.Host.Units.Available(ctx); err != nil {
		r := broken(err)
		r.follows = inContainer
		return r
	}
	return pass("systemd answers")
}

func machineID(_ context.Context, s Subject) Result {
	text, err := s.Host.Files.ReadFile("/etc/machine-id")
	id := strings.TrimSpace(string(text))
	const remedy = "systemd-machine-id-setup, then run the command again"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("", "there is no /etc/machine-id: the managed node's fingerprint would not last", remedy)
	case err != nil:
		return broken(err)
	case id == "" || id == "uninitialized":
		return fail("", "/etc/machine-id is empty: the managed node's fingerprint would not last", remedy)
	}
	return pass("set")
}

// What Debian's and Ubuntu's packages leave when only a reboot puts their new version to use (update-notifier-common,
// unattended-upgrades; the second file names the packages, one a line), and where kernels keep their modules.
const (
	rebootRequired     = "/run/reboot-required"
	rebootRequiredPkgs = "/run/reboot-required.pkgs"
	modulesDir         = "/lib/modules"
)

// pendingReboot looks for what waits for a reboot. A kernel whose modules are gone from the disk is the worse case: what
// Docker and ecs-init need of iptables can no longer be loaded.
func pendingReboot(_ context.Context, s Subject) Result {
	waiting, err := packagesToReboot(s.Host.Files)
	if err != nil {
		return broken(err)
	}
	installed, gone, err := modulesGone(s)
	if err != nil {
		return broken(err)
	}
	const remedy = "systemctl reboot, then run the command again"
	_, err = s.Host.Files.Stat(rebootRequired)
	var r Result
	switch {
	case gone:
		r = warn(fmt.Sprintf("the modules of the running kernel %s are gone (%s has those of %s): "+
			"what Docker's network needs cannot be loaded before a reboot",
			s.Host.Kernel.Release(), modulesDir, strings.Join(installed, ", ")), remedy)
	case err == nil && len(waiting) > 0:
		r = warn("a reboot is pending, for "+strings.Join(waiting, ", "), remedy)
	case err == nil:
		r = warn("a reboot is pending ("+rebootRequired+")", remedy)
	case !errors.Is(err, fs.ErrNotExist):
		return broken(err)
	default:
		r = pass("none")
	}
	return r.with("packages", waiting).with("kernel", s.Host.Kernel.Release()).with("modules", installed)
}

// packagesToReboot are the packages that wait, each once.
func packagesToReboot(files host.Files) ([]string, error) {
	names := []string{}
	text, err := files.ReadFile(rebootRequiredPkgs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for name := range strings.FieldsSeq(string(text)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// modulesGone lists the kernels whose modules are installed, and reports whether the running one is not among them.
// Nothing is said of a machine that has none, whose kernel needs none, and of a container, whose kernel is the host's.
func modulesGone(s Subject) (installed []string, gone bool, err error) {
	installed = []string{}
	entries, err := s.Host.Files.ReadDir(modulesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			installed = append(installed, entry.Name())
		}
	}
	running := s.Host.Kernel.Release()
	gone = running != "" && len(installed) > 0 && !slices.Contains(installed, running) && s.Host.Kernel.Container() == ""
	return installed, gone, nil
}

// isWSL knows the kernel of Windows' Subsystem for Linux by its release: 5.15.167.4-microsoft-standard-WSL2, and
// 4.4.0-19041-Microsoft of the first one.
func isWSL(release string) bool {
	return strings.Contains(strings.ToLower(release), "microsoft")
}

// container tells a container that is a whole machine, with systemd of its own, from one that only holds a program.
func container(ctx context.Context, s Subject) Result {
	kind := s.Host.Kernel.Container()
	if isWSL(s.Host.Kernel.Release()) {
		if s.Host.Units.Available(ctx) != nil {
			return fail(failure.NoSystemd, "this is Windows' Subsystem for Linux, without systemd",
				"write [boot] and systemd=true in /etc/wsl.conf, then wsl --shutdown on Windows").with("container", "wsl")
		}
		return warn("this is Windows' Subsystem for Linux, which Windows ends with the last session and AWS does not support: "+
			"good for a try, not for tasks that matter", "use a virtual machine or a server").with("container", "wsl")
	}
	if kind == "" {
		return pass("not in a container")
	}
	if s.Host.Units.Available(ctx) != nil {
		return fail(failure.NoSystemd, "this is a "+kind+" container, not a host", "run anywhere on the host itself").
			with("container", kind)
	}
	return warn("this is a "+kind+" container with its own systemd: tasks work as far as it lets Docker work", "").
		with("container", kind)
}
