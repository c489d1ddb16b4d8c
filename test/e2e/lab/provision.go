package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cacheDir is kept between runs. It must not be on an overlay: hosts' disks are overlays on what is here.
const cacheDir = "/var/cache/anywhere-lab"

// What the machine needs (a program of it, and the Debian package it comes in) and what the hosts are made of.
var (
	machineNeeds = [][2]string{
		{"systemd-nspawn", "systemd-container"},
		{"mmdebstrap", "mmdebstrap"},
		{"dpkg-scanpackages", "dpkg-dev"},
		{"ip", "iproute2"},
		{"ansible-playbook", "ansible-core"},
		{"ssh", "openssh-client"},
		{"nsenter", "util-linux"},
		{"qemu-aarch64-static", "qemu-user-static"},
		{"/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"},
	}
	hostPackages = []string{
		"systemd", "systemd-sysv", "dbus", "ca-certificates", "iproute2", "procps", "openssh-server", "strace", "python3",
	}
	// releases are those of Debian that hosts are made of, by suite.
	releases = map[string]release{
		suite:      {docker: []string{"docker.io", "iptables"}, rpm: frontEnds("dnf", "zypper")},
		"bullseye": {docker: []string{"docker.io", "iptables"}},
		"trixie":   {docker: []string{"docker.io", "docker-cli", "iptables"}},
		"sid":      {docker: []string{"docker.io", "docker-cli", "iptables"}, rpm: frontEnds("dnf", "dnf5", "zypper")},
	}
)

// suite is what hosts are made of unless they ask for another.
const suite = "bookworm"

// release is what is installed of one release, in its layers.
type release struct {
	docker []string
	rpm    map[string][]string // by front end; no two of them go together
}

// frontEnds are package managers of other families, which run on Debian too.
func frontEnds(names ...string) map[string][]string {
	packages := map[string][]string{}
	for _, name := range names {
		packages[name] = []string{"rpm", name, "createrepo-c", "p11-kit"}
	}
	return packages
}

// recipe counts changes to the way the root is made that the lists above don't show.
const recipe = "2"

// Root is the file system that hosts are made from, in layers.
type Root struct {
	Base   string // Debian with systemd, without Docker
	Docker string // what installing Docker adds: an overlay layer to lay on Base
	Apt    string // a package repository with Docker and what it depends on
	// Dnf, Dnf5 and Zypper are layers to lay on Docker and Base: they put rpm and a front end in dpkg's place. Not every
	// release has each of them.
	Dnf, Dnf5, Zypper string
}

// currentRoot is where the root of most hosts lies, or will.
func currentRoot() Root { return rootOf(suite) }

// rootOf is where the root of a release for the lists above lies, or will.
func rootOf(suite string) Root {
	dir := filepath.Join(cacheDir, "root-"+digest(recipe, suite, hostPackages, releases[suite].docker, releases[suite].rpm))
	return Root{
		Base:   filepath.Join(dir, "base"),
		Docker: filepath.Join(dir, "docker"),
		Apt:    filepath.Join(dir, "apt"),
		Dnf:    filepath.Join(dir, "dnf"),
		Dnf5:   filepath.Join(dir, "dnf5"),
		Zypper: filepath.Join(dir, "zypper"),
	}
}

// digest names what is made of these things.
func digest(of ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(of...)))
	return hex.EncodeToString(sum[:6])
}

// Provision makes the machine ready for hosts: installs tools that are missing and builds the root unless it is in
// cacheDir already (about a minute the first time). It needs Debian's package archive only if something is missing.
func Provision() (Root, error) {
	if err := installTools(machineNeeds); err != nil {
		return Root{}, err
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return Root{}, err
	}
	return currentRoot(), provisionRoot(suite)
}

// ProvisionReleases is a setup function for Main that does the same for hosts of other releases of Debian.
func ProvisionReleases(suites ...string) func(string) error {
	return func(string) error {
		for _, suite := range suites {
			if err := provisionRoot(suite); err != nil {
				return err
			}
		}
		return nil
	}
}

// provisionRoot builds the root of a release unless it is there.
func provisionRoot(suite string) error {
	root := rootOf(suite)
	there := func() bool { _, err := os.Stat(root.Base); return err == nil }
	if there() { // whole, for it came by a rename; another that is being built may take minutes
		return nil
	}
	unlock, err := lockCache()
	if err != nil {
		return err
	}
	defer unlock()
	if there() {
		return nil
	}
	fmt.Fprintf(os.Stderr, "lab: building the root file system of hosts of %s, about a minute; later runs use it again\n", suite)
	final := filepath.Dir(root.Base)
	part := final + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := buildRoot(part, suite); err != nil {
		return fmt.Errorf("build the root in %s: %w", part, err)
	}
	return os.Rename(part, final)
}

// installTools installs what is missing of these programs.
func installTools(needs [][2]string) error {
	var missing []string
	for _, need := range needs {
		found := false
		if filepath.IsAbs(need[0]) {
			_, err := os.Stat(need[0])
			found = err == nil
		} else {
			_, err := exec.LookPath(need[0])
			found = err == nil
		}
		if !found {
			missing = append(missing, need[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintln(os.Stderr, "lab: installing", strings.Join(missing, " "))
	if err := apt("", "update"); err != nil {
		return err
	}
	return apt("", append([]string{"install"}, missing...)...)
}

// apt runs apt-get on the machine, or in the root file system that lies below chroot.
func apt(chroot string, args ...string) error {
	all := append([]string{"-qq", "-y", "--no-install-recommends"}, args...)
	cmd := exec.Command("apt-get", all...)
	if chroot != "" {
		cmd = exec.Command("chroot", append([]string{chroot, "apt-get"}, all...)...)
	}
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// lockCache lets one process at a time build; another waits and then finds the work done.
func lockCache() (unlock func(), err error) { return lockFile("lock") }

func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(cacheDir, name), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// buildRoot makes the layers of a release below dir.
func buildRoot(dir, suite string) error {
	base, docker, pool := filepath.Join(dir, "base"), filepath.Join(dir, "docker"), filepath.Join(dir, "apt")
	for _, d := range []string{base, docker, pool} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// An archive that stands still is signed too; sid's says for a week that it is valid.
	err := command("mmdebstrap", "--quiet", "--variant=minbase", `--aptopt=Acquire::Check-Valid-Until "false"`,
		"--include="+strings.Join(hostPackages, ","), suite, base)
	if err != nil {
		return err
	}
	if err := addDocker(base, docker, pool, dir, releases[suite].docker); err != nil {
		return err
	}
	layers := []string{base, docker}
	for name, packages := range releases[suite].rpm {
		layers = append(layers, filepath.Join(dir, name))
		if err := addRPM(docker+":"+base, filepath.Join(dir, name), dir, packages); err != nil {
			return err
		}
	}
	// From here on the root has no network: one repository on its own disk, and no name server to wait for.
	for path, text := range map[string]string{
		"etc/apt/sources.list": "deb [trusted=yes] file:/srv/apt ./\n",
		"etc/resolv.conf":      "",
		"etc/machine-id":       "", // each host makes its own at its first boot
	} {
		_ = os.Remove(filepath.Join(base, path))
		if err := os.WriteFile(filepath.Join(base, path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, layer := range layers {
		lists, err := filepath.Glob(filepath.Join(layer, "var/lib/apt/lists/*_*"))
		if err != nil {
			return err
		}
		if err := command("rm", append([]string{"-f"}, lists...)...); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(base, "srv/apt"), 0o755)
}

// overlay mounts layer over lower, below dir.
func overlay(lower, layer, dir string) (merged string, done func() error, err error) {
	work, merged := filepath.Join(dir, "work"), filepath.Join(dir, "merged")
	for _, d := range []string{work, merged, layer} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, layer, work)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return "", nil, fmt.Errorf("mount an overlay on %s: %w", merged, err)
	}
	return merged, func() error {
		return errors.Join(unix.Unmount(merged, unix.MNT_DETACH), os.RemoveAll(work), os.Remove(merged))
	}, nil
}

// lendNameServers gives a root the machine's, for as long as it is built.
func lendNameServers(root string) error {
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "etc/resolv.conf"), resolv, 0o644)
}

// addRPM installs rpm and a front end into a layer, and takes dpkg's database away: what is left is a host of that family,
// which knows of no package.
func addRPM(lower, layer, dir string, packages []string) (err error) {
	merged, done, err := overlay(lower, layer, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := lendNameServers(merged); err != nil {
		return err
	}
	if err := apt(merged, append([]string{"install"}, packages...)...); err != nil {
		return err
	}
	if err := apt(merged, "clean"); err != nil {
		return err
	}
	for _, path := range []string{"var/lib/dpkg", "etc/os-release", "etc/resolv.conf"} {
		if err := os.RemoveAll(filepath.Join(merged, path)); err != nil {
			return err
		}
	}
	for path, text := range map[string]string{
		"etc/rpm/macros": "%_dbpath /var/lib/rpm\n", // Debian's is in root's home
		// Debian's own repository of what was installed once has no key.
		"etc/dnf/plugins/local.conf": "[main]\nenabled = false\n",
		"etc/resolv.conf":            "",
	} {
		path = filepath.Join(merged, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, path := range []string{"var/lib/rpm", "etc/yum.repos.d", "etc/zypp/repos.d"} {
		if err := os.MkdirAll(filepath.Join(merged, path), 0o755); err != nil {
			return err
		}
	}
	return command("chroot", merged, "rpm", "--initdb")
}

// addDocker installs Docker into a layer over base, and keeps the packages that took as a repository.
func addDocker(base, layer, pool, dir string, packages []string) (err error) {
	merged, done, err := overlay(base, layer, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := lendNameServers(merged); err != nil {
		return err
	}
	// No daemon may start in the chroot.
	noStart := filepath.Join(merged, "usr/sbin/policy-rc.d")
	if err := os.WriteFile(noStart, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	if err := apt(merged, "update"); err != nil {
		return err
	}
	if err := apt(merged, append([]string{"install", "--download-only"}, packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(merged, "var/cache/apt/archives/*.deb"))
	if err != nil {
		return err
	}
	if err := command("cp", append(debs, pool)...); err != nil {
		return err
	}
	if err := apt(merged, append([]string{"install"}, packages...)...); err != nil {
		return err
	}
	if err := apt(merged, "clean"); err != nil {
		return err
	}
	for _, path := range []string{noStart, filepath.Join(merged, "etc/resolv.conf")} {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	scan := exec.Command("dpkg-scanpackages", "-m", ".")
	scan.Dir = pool
	index, err := scan.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", scan, err)
	}
	return os.WriteFile(filepath.Join(pool, "Packages"), index, 0o644)
}

// Debs is a folder with the Debian packages of Docker and what it depends on.
func Debs() string { return DebsOf(suite) }

// DebsOf is that of another release. What its root has from the beginning is not among them.
func DebsOf(suite string) string { return rootOf(suite).Apt }
