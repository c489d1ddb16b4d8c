package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// binfmtFile is where the kernel says which programs it runs by an interpreter.
const binfmtFile = "/proc/sys/fs/binfmt_misc"

// aarch64 has the kernel run programs for arm64 by the machine's own emulator, wherever they lie: F opens it now, P hands it
// the name that the program was called by (Documentation/admin-guide/binfmt-misc.rst).
const aarch64 = `:qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00` +
	`:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:FP`

// EmulateARM makes the lab run programs for arm64 until its last host is gone.
func EmulateARM() error {
	if _, err := os.Stat(filepath.Join(binfmtFile, "qemu-aarch64")); err == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(binfmtFile, "register")); err != nil {
		if err := unix.Mount("binfmt_misc", binfmtFile, "binfmt_misc", 0, ""); err != nil {
			return fmt.Errorf("mount binfmt_misc: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(binfmtFile, "register"), []byte(aarch64), 0o200)
}

// armPackages are what a host for arm64 is made of. Docker is the machine's own, for amd64: its daemon cannot be emulated
// (it speaks to the kernel in ways that qemu does not know), and it runs containers for arm64 as the kernel runs programs.
var armPackages = []string{
	"systemd", "systemd-sysv", "dbus", "ca-certificates", "iproute2", "procps", "docker.io:amd64", "iptables:amd64",
}

// credentialUnits are those of systemd 252 that cannot be given credentials under emulation, and fail for it.
var credentialUnits = []string{"systemd-sysctl", "systemd-sysusers", "systemd-tmpfiles-setup", "systemd-tmpfiles-setup-dev"}

// armRoot is where the root for arm64 lies, or will.
func armRoot() string {
	return filepath.Join(cacheDir, "arm64-"+digest(recipe, suite, armPackages, credentialUnits, aarch64))
}

// ProvisionARM builds the root of hosts for arm64 unless it is there: some minutes. It is a setup function for Main.
func ProvisionARM(string) error {
	unlock, err := lockCache()
	if err != nil {
		return err
	}
	defer unlock()
	root := armRoot()
	if _, err := os.Stat(root); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "lab: building the root of hosts for arm64, some minutes; later runs use it again")
	part := root + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	// The interpreter is registered in a mount namespace of its own, and gone with it.
	script := `mount -t binfmt_misc binfmt_misc ` + binfmtFile + ` && printf %s "$1" >` + binfmtFile + `/register && shift && exec "$@"`
	err = command("unshare", "-m", "sh", "-c", script, "sh", aarch64,
		"mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--architectures=arm64,amd64", "--skip=check/qemu",
		"--include="+strings.Join(armPackages, ","), suite, part)
	if err != nil {
		return err
	}
	files := map[string]string{"etc/apt/sources.list": "", "etc/resolv.conf": "", "etc/machine-id": ""}
	for _, unit := range credentialUnits {
		files["etc/systemd/system/"+unit+".service.d/lab.conf"] = "[Service]\nLoadCredential=\nSetCredential=\n"
	}
	for name, text := range files {
		name = filepath.Join(part, name)
		_ = os.Remove(name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(part, "srv/apt"), 0o755); err != nil {
		return err
	}
	if err := foreignDocker(filepath.Join(part, "var/lib/dpkg/status")); err != nil {
		return err
	}
	return os.Rename(part, root)
}

// foreignDocker lets Docker's package for amd64 meet what a package for arm64 depends on, as it would if it were for arm64.
func foreignDocker(status string) error {
	text, err := os.ReadFile(status)
	if err != nil {
		return err
	}
	const name = "Package: docker.io\n"
	if strings.Count(string(text), name) != 1 {
		return fmt.Errorf("%s does not have docker.io once", status)
	}
	return os.WriteFile(status, []byte(strings.Replace(string(text), name, name+"Multi-Arch: foreign\n", 1)), 0o644)
}
