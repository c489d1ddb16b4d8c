package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Host says what machine a test wants.
type Host struct {
	Name   string   // its hostname; "host" when empty
	Cgroup int      // 1 or 2; 2 when zero
	Docker bool     // installed and running
	ARM    bool     // for arm64, emulated, always with Docker; needs ProvisionARM
	System string   // what it is, of Systems; Debian when empty
	Suite  string   // the release of Debian that it is made of; bookworm when empty, others need ProvisionReleases
	Names  []string // further names that lead to the test process, in /etc/hosts
	Binds  []string // files or folders of the machine that the host sees read-only, as SOURCE:TARGET
	Synced bool     // what is synced reaches the machine's disk, and takes its time
}

// Machine is a running (or killed) host of one test.
type Machine struct {
	IP string // its address in the world

	t       testing.TB
	host    Host
	root    Root
	number  int
	dir     string // upper, work, root, docker, log
	cgroup  string
	nspawn  *exec.Cmd
	exited  chan struct{} // closed when nspawn has ended
	leader  int           // pid of the host's systemd; 0 when it is down
	running int           // numbers the units of commands
	hashes  map[string]hashed
}

// bootLimit bounds a boot and a shutdown. They take about a second; a loaded machine may need much longer.
const bootLimit = 90 * time.Second

// Start boots a new host, and removes it when the test ends.
func Start(t testing.TB, host Host) *Machine {
	t.Helper()
	if world.run == "" {
		t.Fatal("lab: no TestMain with lab.Main in this package")
	}
	if host.Name == "" {
		host.Name = "host"
	}
	if host.Cgroup == 0 {
		host.Cgroup = 2
	}
	n := int(lastHost.Add(1))
	m := &Machine{
		IP: hostAddress(n), t: t, host: host, root: world.root, number: n,
		dir:    filepath.Join(world.run, strconv.Itoa(n)),
		cgroup: world.id + "-" + strconv.Itoa(n),
		hashes: map[string]hashed{},
	}
	t.Cleanup(m.remove)
	if host.Suite != "" {
		m.root = rootOf(host.Suite)
	}
	if host.ARM {
		if err := EmulateARM(); err != nil {
			t.Fatal("lab: ", err)
		}
	}
	if err := m.makeDisk(); err != nil {
		t.Fatal("lab: ", err)
	}
	m.Boot()
	return m
}

// makeDisk mounts the host's root and writes what makes it this host.
func (m *Machine) makeDisk() error {
	for _, sub := range []string{"upper", "work", "root", "docker"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			return err
		}
	}
	lower := m.root.Base
	if m.host.Docker {
		lower = m.root.Docker + ":" + lower
	}
	if m.host.ARM {
		lower = armRoot()
	}
	system := Systems[m.host.System]
	if m.host.System != "" { // its layer was made on Docker's, and needs nothing of it
		if system.Release == "" {
			return fmt.Errorf("there is no system %q", m.host.System)
		}
		layers := map[string]string{"dnf": m.root.Dnf, "yum": m.root.Dnf, "dnf5": m.root.Dnf5, "zypper": m.root.Zypper}
		lower = layers[system.Manager] + ":" + lower
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		lower, filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work"))
	if !m.host.Synced { // Kill doesn't lose the page cache, so nothing could tell, and dpkg is faster
		options += ",volatile"
	}
	if err := unix.Mount("overlay", m.disk(), "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay on %s: %w", m.disk(), err)
	}
	hosts := fmt.Sprintf("127.0.0.1 localhost\n127.0.1.1 %s\n%s lab %s\n",
		m.host.Name, Address, strings.Join(m.host.Names, " "))
	files := map[string]string{"etc/hostname": m.host.Name + "\n", "etc/hosts": hosts, "etc/resolv.conf": ""}
	if m.host.Cgroup == 1 {
		files["etc/systemd/system/lab-cgroups.service"] = writableCgroups
	}
	if system.Release != "" {
		files["etc/os-release"] = system.Release
	}
	for path, text := range files {
		path = filepath.Join(m.disk(), path)
		if err := os.RemoveAll(path); err != nil { // resolv.conf may be a link
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if m.host.Cgroup == 1 {
		wants := filepath.Join(m.disk(), "etc/systemd/system/sysinit.target.wants")
		if err := os.MkdirAll(wants, 0o755); err != nil {
			return err
		}
		return os.Symlink("../lab-cgroups.service", filepath.Join(wants, "lab-cgroups.service"))
	}
	return nil
}

// nspawn leaves the controllers of cgroup v1 read-only, and then Docker can't start a container. A plain remount says
// "mount point is busy": it is the bind that must be remounted.
const writableCgroups = `[Unit]
Description=Make the lab's cgroup controllers writable
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cd /sys/fs/cgroup; for c in *; do if mountpoint -q $$c; then case $$c in systemd|unified) ;; *) \
 mount -o remount,bind,rw /sys/fs/cgroup/$$c;; esac; fi; done'
`

// disk is where the machine of the test process sees the host's root.
func (m *Machine) disk() string { return filepath.Join(m.dir, "root") }

// Boot switches a killed or shut down host on again.
func (m *Machine) Boot() {
	m.t.Helper()
	if m.leader != 0 {
		m.t.Fatal("lab: the host is up already")
	}
	begin := time.Now()
	if err := m.boot(); err != nil {
		m.t.Fatalf("lab: boot %s: %v\n%s", m.host.Name, err, m.consoleTail())
	}
	m.t.Logf("lab: %s (cgroup v%d, %s) up in %v", m.host.Name, m.host.Cgroup, m.IP, time.Since(begin).Round(time.Millisecond))
}

func (m *Machine) boot() error {
	netns, err := plugIn(m.number)
	if err != nil {
		return err
	}
	cgroups, err := makeCgroups(m.cgroup)
	if err != nil {
		return err
	}
	console, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()

	// A shell moves itself into the cgroups and then becomes nspawn.
	args := append([]string{"-c", `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"`, "sh"}, cgroups...)
	args = append(args, "--", "systemd-nspawn", "--directory="+m.disk(), "--boot", "--machine="+m.host.Name,
		"--register=no", "--keep-unit", "--console=pipe", "--network-namespace-path="+netns,
		// What dockerd needs: its mounts and keyrings.
		"--capability=all", "--system-call-filter=add_key keyctl bpf",
		"--bind="+filepath.Join(m.dir, "docker")+":/var/lib/docker",
		"--bind-ro="+m.root.Apt+":/srv/apt", "--resolv-conf=off", "--timezone=off")
	for _, bind := range m.host.Binds {
		args = append(args, "--bind-ro="+bind)
	}
	cmd := exec.Command("sh", args...)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.Env = append(os.Environ(),
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="+strconv.Itoa(m.host.Cgroup-1),
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network", // else dockerd can't switch forwarding on
		"SYSTEMD_NSPAWN_LOCK=0")
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	m.nspawn, m.exited = cmd, exited
	return m.awaitBoot()
}

// awaitBoot waits until systemd says that it has started all it wanted to.
func (m *Machine) awaitBoot() error {
	state := ""
	err := m.poll(func() bool {
		if m.leader == 0 {
			m.leader = findLeader(m.nspawn.Process.Pid)
		}
		if m.leader == 0 {
			return false
		}
		// Not an error when it fails: there is no D-Bus yet in the first moments.
		out, _ := m.enter("systemctl", "is-system-running").Output()
		state = strings.TrimSpace(string(out))
		return state == "running" || state == "degraded"
	})
	if err != nil {
		return fmt.Errorf("state %q: %w", state, err)
	}
	if state == "degraded" {
		failed, _ := m.enter("systemctl", "--failed", "--no-legend", "--plain").Output()
		m.t.Logf("lab: %s is up, with failed units:\n%s", m.host.Name, failed)
	}
	return nil
}

// poll calls done until it is true, nspawn ends or bootLimit is over.
func (m *Machine) poll(done func() bool) error {
	limit := time.After(bootLimit)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-m.exited:
			return fmt.Errorf("systemd-nspawn ended: %v", m.nspawn.ProcessState)
		case <-limit:
			return fmt.Errorf("not within %v", bootLimit)
		case <-tick.C:
		}
	}
	return nil
}

// findLeader is the child of nspawn that is process 1 of its namespace; 0 while there is none.
func findLeader(nspawn int) int {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", nspawn))
	if err != nil {
		return 0
	}
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(children)) {
			status, _ := os.ReadFile("/proc/" + child + "/status")
			for line := range strings.Lines(string(status)) {
				pids, ok := strings.CutPrefix(line, "NSpid:")
				if fields := strings.Fields(pids); ok && len(fields) > 1 && fields[len(fields)-1] == "1" {
					pid, _ := strconv.Atoi(child)
					return pid
				}
			}
		}
	}
	return 0
}

// Kill ends every process of the host at once, as a power cut does. Boot switches it on again.
func (m *Machine) Kill() {
	m.t.Helper()
	if err := m.kill(); err != nil {
		m.t.Fatalf("lab: kill %s: %v", m.host.Name, err)
	}
}

func (m *Machine) kill() error {
	if m.nspawn == nil {
		return nil
	}
	var err error
	if m.leader != 0 { // the kernel takes the whole process namespace with its process 1
		err = unix.Kill(m.leader, unix.SIGKILL)
	} else {
		err = m.nspawn.Process.Kill()
	}
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return m.awaitEnd()
}

// awaitEnd waits for nspawn and clears up what a boot makes.
func (m *Machine) awaitEnd() error {
	select {
	case <-m.exited:
	case <-time.After(bootLimit):
		return fmt.Errorf("systemd-nspawn still runs after %v", bootLimit)
	}
	m.nspawn, m.leader = nil, 0
	unplug(m.number)
	return removeCgroups(m.cgroup)
}

// nspawn's exit status when the host asked for a reboot and there is no unit to restart.
const rebootStatus = 133

// Reboot restarts the host in the orderly way and returns when it is up again.
func (m *Machine) Reboot() {
	m.t.Helper()
	if err := m.enter("systemctl", "reboot").Run(); err != nil {
		m.t.Fatalf("lab: reboot %s: %v", m.host.Name, err)
	}
	nspawn := m.nspawn
	if err := m.awaitEnd(); err != nil {
		m.t.Fatalf("lab: reboot %s: %v", m.host.Name, err)
	}
	if code := nspawn.ProcessState.ExitCode(); code != rebootStatus {
		m.t.Fatalf("lab: %s did not reboot: systemd-nspawn ended with %d\n%s", m.host.Name, code, m.consoleTail())
	}
	m.Boot()
}

// testimony is what a host says of itself after a failed test. Last of all the agents are asked what they wait for: Go
// programs answer SIGQUIT with all their stacks.
const testimony = `
journalctl --no-pager -b -n 60 -o short-monotonic
tail -v -n 25 /var/log/ecs/*.log /var/log/amazon/ssm/*.log
timeout 10 docker ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.Status}} {{.Image}}'
timeout 10 docker inspect --format '{{json .State}}' ecs-agent
systemctl kill --signal=QUIT ecs.service
timeout 10 docker kill --signal=QUIT ecs-agent
sleep 1
journalctl --no-pager -b -n 200 -o cat -u ecs.service | grep -v ' msg='
timeout 10 docker logs --tail 200 ecs-agent 2>&1 | grep -v ' msg='
`

// remove is the end of the host. When the test failed, what the host says goes into the test's log first.
func (m *Machine) remove() {
	if m.t.Failed() && m.leader != 0 {
		words, _ := m.enter("timeout", "60", "sh", "-c", testimony).CombinedOutput()
		m.t.Logf("lab: what %s says:\n%s", m.host.Name, words)
	}
	if err := m.kill(); err != nil {
		m.t.Errorf("lab: stop %s: %v", m.host.Name, err)
	}
	if err := unix.Unmount(m.disk(), unix.MNT_DETACH); err != nil {
		m.t.Errorf("lab: unmount the disk of %s: %v", m.host.Name, err)
		return // never delete through a mount
	}
	if err := os.RemoveAll(m.dir); err != nil {
		m.t.Errorf("lab: delete the disk of %s: %v", m.host.Name, err)
	}
}

// enter is a command in all namespaces of the host but its cgroups.
func (m *Machine) enter(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{
		"-t", strconv.Itoa(m.leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
	}, args...)...)
}

// consoleTail is the end of what nspawn and systemd printed.
func (m *Machine) consoleTail() string {
	f, err := os.Open(filepath.Join(m.dir, "console"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 4096 {
		_, _ = f.Seek(-4096, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}
