package host

import (
	"bytes"
	"strings"
)

type kernel struct{ files Files }

// NewKernel reads the running kernel's facts from /proc and /sys of files. What cannot be read is unknown, disabled or
// empty. It asks the files and not the system calls, so that what is mounted over them is believed.
func NewKernel(files Files) Kernel { return kernel{files} }

// Cgroup tells the modes by cgroup.controllers, which the kernel puts at the root of each v2 hierarchy and nowhere else
// (cgroups(7)).
func (k kernel) Cgroup() CgroupMode {
	switch {
	case k.exists("/sys/fs/cgroup/cgroup.controllers"):
		return CgroupV2
	case k.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
		return CgroupHybrid
	case k.exists("/sys/fs/cgroup/memory"), k.exists("/sys/fs/cgroup/cpu"), k.exists("/sys/fs/cgroup/systemd"):
		return CgroupV1
	}
	return CgroupUnknown
}

func (k kernel) SELinux() string {
	switch k.word("/sys/fs/selinux/enforce") {
	case "1":
		return "enforcing"
	case "0":
		return "permissive"
	}
	return "disabled"
}

func (k kernel) AppArmor() bool { return k.word("/sys/module/apparmor/parameters/enabled") == "Y" }

// Container asks what systemd noted at boot, then the variable that container managers give the first process, then
// Docker's own mark. Without root only the first and the last can be read.
func (k kernel) Container() string {
	if name := k.word("/run/systemd/container"); name != "" {
		return name
	}
	if environ, err := k.files.ReadFile("/proc/1/environ"); err == nil {
		for _, variable := range bytes.Split(environ, []byte{0}) {
			if name, ok := bytes.CutPrefix(variable, []byte("container=")); ok && len(name) > 0 {
				return string(name)
			}
		}
	}
	if k.exists("/.dockerenv") {
		return "docker"
	}
	return ""
}

func (k kernel) Release() string { return k.word("/proc/sys/kernel/osrelease") }

func (k kernel) exists(name string) bool {
	_, err := k.files.Stat(name)
	return err == nil
}

func (k kernel) word(name string) string {
	data, err := k.files.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
