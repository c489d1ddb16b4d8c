package e2e

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// holdLock holds the package manager's lock as dpkg and apt do, by fcntl, until it is killed. Perl is in every Debian.
const holdLock = `open(my $f, ">>", "/var/lib/dpkg/lock-frontend") or die; my $l = pack("ssx4qqix4", 1, 0, 0, 0, 0);
fcntl($f, 6, $l) or die; open(my $g, ">", "/run/lock-held"); sleep 600;`

// halfInstalled is somebody else's package that dpkg has unpacked and not configured.
const halfInstalled = `mkdir -p /tmp/theirs/DEBIAN && cd /tmp && printf '%s\n' 'Package: theirs' 'Version: 1' \
'Architecture: all' 'Maintainer: they <they@example.com>' 'Description: theirs' >theirs/DEBIAN/control &&
dpkg-deb -b theirs theirs.deb && dpkg --unpack theirs.deb`

const readOnly = `mkdir -p $0; mount --bind $0 $0 && mount -o remount,bind,ro $0`

// A machine that cannot become an instance now says why, and is left alone. One after the other on one host, which
// becomes one at the end, in surroundings that are odd and no hindrance.
func TestHostsThatAreNotFit(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	var holder *lab.Process
	before := look(h)
	for _, c := range []struct {
		name         string
		spoil, mend  string // shell
		around       []string
		code         failure.Code
		message      string
		remedy       string
		before, then func()
	}{
		{name: "Docker's daemon is down", spoil: "systemctl stop docker.socket docker",
			mend: "systemctl start docker.socket docker",
			code: failure.DockerDown, message: "docker.service is inactive", remedy: "systemctl start docker"},
		{name: "the package manager is locked", code: failure.PackagesLocked, message: "perl", remedy: "wait",
			before: func() {
				holder = h.Start(lab.Cmd{Args: []string{"perl", "-e", holdLock}})
				await(t, "the lock is held", func() bool { return h.Exists("/run/lock-held") })
			},
			then: func() { holder.Signal("KILL"); holder.Wait() }},
		{name: "somebody else's dpkg was interrupted", spoil: halfInstalled, mend: "dpkg --purge theirs; rm -r /tmp/theirs*",
			code: failure.PackagesBroken, message: "interrupted", remedy: "dpkg --configure -a"},
		{name: "no room for downloads",
			spoil: "mkdir -p /var/lib/anywhere && mount -t tmpfs -o size=4m none /var/lib/anywhere",
			mend:  "umount /var/lib/anywhere; chmod 700 /var/lib/anywhere", code: failure.DiskFull,
			message: "/var/lib/anywhere", remedy: "free space"},
		{name: "no room for the agent's image",
			spoil: "mkdir -p /var/cache/ecs && mount -t tmpfs -o size=4m none /var/cache/ecs",
			mend:  "umount /var/cache/ecs; rmdir /var/cache/ecs", code: failure.DiskFull, message: "/var/cache/ecs",
			remedy: "free space"},
		{name: "a configuration folder is read-only", spoil: strings.ReplaceAll(readOnly, "$0", "/etc/ecs"),
			mend: "umount /etc/ecs; rmdir /etc/ecs",
			code: failure.ReadOnly, message: "/etc/ecs", remedy: "mount -o remount,rw /etc/ecs"},
		{name: "the system is read-only", spoil: strings.ReplaceAll(readOnly, "$0", "/usr"), mend: "umount -l /usr",
			code: failure.ReadOnly, message: "/usr", remedy: "mount -o remount,rw /usr"},
		{name: "no systemd", around: []string{"unshare", "-m", "/bin/sh", "-c",
			`mount -t tmpfs none /run/systemd && exec "$@"`, "sh"},
			code: failure.NoSystemd, message: "systemd", remedy: "on the host itself"},
		{name: "not root", around: []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"},
			code: failure.NotRoot, message: "65534", remedy: "sudo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.MustShell(c.spoil)
			if c.before != nil {
				c.before()
			}
			cmd := s.register(s.token(1))
			cmd.Args = append(c.around, cmd.Args...)
			s.fails(t, h, cmd, 3, c.code, c.message, "", c.remedy)
			if c.then != nil {
				c.then()
			}
			h.MustShell(c.mend)
			before.same(t, look(h))
			if n := s.asked("s3:"); n != 0 {
				t.Errorf("%d objects were downloaded", n)
			}
		})
	}

	cmd := s.register(s.token(1))
	cmd.Args = append([]string{"/bin/sh", "-c", `umask 077; unset HOME; mount -t tmpfs -o noexec none /tmp; exec "$@"`,
		"sh"}, cmd.Args...)
	cmd.Env = []string{"LANG=de_DE.UTF-8", "LC_ALL=de_DE.UTF-8"}
	s.mustRegister(h, cmd)
	for path, mode := range map[string]string{
		"/etc/ecs/ecs.config": "600", "/etc/amazon/ssm/amazon-ssm-agent.json": "600", "/var/lib/anywhere": "700",
		"/etc/systemd/system/ecs.service.d": "755", "/etc/systemd/system/ecs.service.d/50-anywhere.conf": "644",
		"/var/lib/ecs/deps/execute-command/bin/" + ssmVersion + "/ssm-agent-worker": "755",
		"/var/lib/ecs/deps/execute-command/bin/" + ssmVersion:                       "755",
		"/var/log/anywhere/anywhere.log":                                            "600",
	} {
		if got := h.MustShell("stat -c %a " + path); got != mode {
			t.Errorf("%s has mode %s, want %s", path, got, mode)
		}
	}
}
