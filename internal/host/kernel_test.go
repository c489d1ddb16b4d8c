package host

import (
	"path/filepath"
	"testing"
)

func TestKernel(t *testing.T) {
	for _, test := range []struct {
		name      string
		files     map[string]string
		cgroup    CgroupMode
		selinux   string
		apparmor  bool
		container string
	}{
		{name: "nothing to read", cgroup: CgroupUnknown, selinux: "disabled"},
		{name: "v2, AppArmor", cgroup: CgroupV2, selinux: "disabled", apparmor: true, files: map[string]string{
			"/sys/fs/cgroup/cgroup.controllers": "cpu memory", "/sys/module/apparmor/parameters/enabled": "Y\n"}},
		{name: "hybrid, enforcing", cgroup: CgroupHybrid, selinux: "enforcing", files: map[string]string{
			"/sys/fs/cgroup/memory/tasks": "", "/sys/fs/cgroup/unified/cgroup.controllers": "", "/sys/fs/selinux/enforce": "1"}},
		{name: "v1, permissive, AppArmor off", cgroup: CgroupV1, selinux: "permissive", files: map[string]string{
			"/sys/fs/cgroup/memory/tasks": "", "/sys/fs/cgroup/unified/x": "", "/sys/fs/selinux/enforce": "0\n",
			"/sys/module/apparmor/parameters/enabled": "N"}},
		{name: "systemd knows the container", cgroup: CgroupUnknown, selinux: "disabled", container: "systemd-nspawn",
			files: map[string]string{"/run/systemd/container": "systemd-nspawn\n", "/proc/1/environ": "container=lxc\x00"}},
		{name: "the first process knows it", cgroup: CgroupUnknown, selinux: "disabled", container: "lxc",
			files: map[string]string{"/proc/1/environ": "PATH=/bin\x00container=lxc\x00X=container=no\x00", "/.dockerenv": ""}},
		{name: "Docker's mark", cgroup: CgroupUnknown, selinux: "disabled", container: "docker",
			files: map[string]string{"/proc/1/environ": "PATH=/bin\x00container=\x00", "/.dockerenv": ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, root := newDir(t)
			for name, text := range test.files {
				put(t, filepath.Join(root, name), text)
			}
			k := NewKernel(d)
			check(t, "cgroup", string(k.Cgroup()), string(test.cgroup))
			check(t, "SELinux", k.SELinux(), test.selinux)
			check(t, "container", k.Container(), test.container)
			if k.AppArmor() != test.apparmor {
				t.Errorf("AppArmor %v", k.AppArmor())
			}
		})
	}
	d, root := newDir(t)
	put(t, filepath.Join(root, "proc/sys/kernel/osrelease"), "6.1.0-18-amd64\n")
	check(t, "release", NewKernel(d).Release(), "6.1.0-18-amd64")
}
