package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// VM says what is particular about a whole virtual machine: a Debian 12 with a kernel of its own, its own control groups
// with all controllers, and AppArmor or SELinux. The processor is emulated (qemu without KVM): all of it is slow.
type VM struct {
	SELinux bool   // enforcing, with Debian's policy, in place of AppArmor
	Vendor  string // who made the machine, as its firmware says; qemu's own when empty
	Product string // and what it is
}

// vmFactor is how much longer everything takes in a virtual machine.
const vmFactor = 6

// vmsUp counts the virtual machines of this run that exist.
var vmsUp atomic.Int32

// Patience is what a wait of so long is to be where the slowest host of this moment may be what is waited for.
func Patience(limit time.Duration) time.Duration {
	if vmsUp.Load() > 0 {
		return vmFactor * limit
	}
	return limit
}

// vmNeeds is what the machine needs for them.
var vmNeeds = [][2]string{{"qemu-system-x86_64", "qemu-system-x86"}, {"mkfs.ext4", "e2fsprogs"}, {"ssh-keygen", "openssh-client"}}

// vmPackages are what a virtual machine has besides what all hosts have.
var vmPackages = []string{
	"linux-image-cloud-amd64", "initramfs-tools", "udev", "kmod", "libpam-systemd", "apparmor",
	"selinux-basics", "selinux-policy-default", "policycoreutils", "auditd",
}

// vmFiles are files of the image. The network comes up as the kernel's command line says.
var vmFiles = map[string]string{
	"etc/fstab":            "/dev/vda / ext4 rw,noatime 0 1\n",
	"etc/resolv.conf":      "",
	"etc/apt/sources.list": "",
	"etc/machine-id":       "",
	"etc/systemd/system/lab-network.service": `[Unit]
Description=The lab's network
DefaultDependencies=no
Before=network-pre.target network.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for word in $(cat /proc/cmdline); do case $word in lab.address=*) \
 ip link set eth0 up; ip addr add $${word#*=} dev eth0; ip route add default via ` + Address + `;; esac; done'

[Install]
WantedBy=multi-user.target
`,
	"usr/local/sbin/lab-relabel": `#!/bin/sh
# The machine's first process, once: every file gets its label.
load_policy -i && restorecon -RF -T0 / && sync && echo "` + relabelled + `"
mount -o remount,ro /
exec systemctl --force --force poweroff
`,
}

const relabelled = "lab: every file has its label"

// vmImage is the folder with the disk, the kernel and the key.
func vmImage() string {
	return filepath.Join(cacheDir, "vm-"+digest(recipe, suite, hostPackages, releases[suite].docker, vmPackages, vmFiles))
}

// ProvisionVM builds the disk of virtual machines unless it is there: some minutes. It is a setup function for Main.
func ProvisionVM(string) error {
	if err := installTools(vmNeeds); err != nil {
		return err
	}
	unlock, err := lockFile("vm.lock") // it takes minutes, and no other run should wait for it
	if err != nil {
		return err
	}
	defer unlock()
	image := vmImage()
	if _, err := os.Stat(image); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "lab: building the disk of virtual machines, some minutes; later runs use it again")
	part := image + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := buildVM(part); err != nil {
		return fmt.Errorf("build the disk of virtual machines in %s: %w", part, err)
	}
	return os.Rename(part, image)
}

func buildVM(dir string) error {
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	var packages []string
	packages = append(append(append(packages, hostPackages...), releases[suite].docker...), vmPackages...)
	err := command("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include="+strings.Join(packages, ","), suite, root)
	if err != nil {
		return err
	}
	key := filepath.Join(dir, "key")
	if err := command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key); err != nil {
		return err
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return err
	}
	files := map[string]string{"root/.ssh/authorized_keys": string(public)}
	for name, text := range vmFiles {
		files[name] = text
	}
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if path.Dir(name) == "usr/local/sbin" {
			mode = 0o755
		}
		name = filepath.Join(root, name)
		_ = os.Remove(name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "root/.ssh"), 0o700); err != nil {
		return err
	}
	if err := command("systemctl", "--root="+root, "enable", "lab-network.service"); err != nil {
		return err
	}
	for name, pattern := range map[string]string{"kernel": "vmlinuz-*", "initrd": "initrd.img-*"} {
		found, err := filepath.Glob(filepath.Join(root, "boot", pattern))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("%s in the image's /boot: %q, %v", pattern, found, err)
		}
		if err := command("cp", found[0], filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	disk := filepath.Join(dir, "disk")
	if err := command("truncate", "--size=3G", disk); err != nil {
		return err
	}
	if err := command("mkfs.ext4", "-q", "-F", "-d", root, disk); err != nil {
		return err
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	return relabel(dir)
}

// relabel boots the disk once, with nothing but what labels it.
func relabel(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	console := filepath.Join(dir, "console")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(qemu(dir, filepath.Join(dir, "disk"), console,
		"security=selinux enforcing=0 init=/usr/local/sbin/lab-relabel"), "-no-reboot", "-nic", "none")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	said, _ := os.ReadFile(console)
	if err != nil || !strings.Contains(string(said), relabelled) {
		return fmt.Errorf("label the files: %w: %s\n%s", err, out, said[max(0, len(said)-2000):])
	}
	return os.Remove(console)
}

// qemu is what all its starts have in common. What the guest calls synced is in the machine's page cache, which a power
// cut (a killed qemu) leaves; what it has not synced is lost, as in a real one.
func qemu(image, disk, console, kernel string) []string {
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536",
		"-serial", "file:" + console, "-device", "virtio-rng-pci", "-drive", "file=" + disk + ",if=virtio,format=raw,cache=unsafe",
		"-kernel", filepath.Join(image, "kernel"), "-initrd", filepath.Join(image, "initrd"),
		"-append", "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 " + kernel,
	}
}

// makeVMDisk copies the image.
func (m *Machine) makeVMDisk() error {
	if m.host.Cgroup != 2 || m.host.ARM || m.host.System != "" || len(m.host.Binds) > 0 || !m.host.Docker {
		return fmt.Errorf("there is no such virtual machine: %+v", m.host)
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	vmsUp.Add(1)
	m.t.Cleanup(func() { vmsUp.Add(-1) })
	return command("cp", "--sparse=always", filepath.Join(vmImage(), "disk"), m.disk())
}

// bootVM starts qemu with a cable to the world, and waits until the system is up.
func (m *Machine) bootVM() error {
	unplug(m.number)
	cable := "v" + strconv.Itoa(m.number)
	for _, args := range [][]string{{"tuntap", "add", cable, "mode", "tap"}, {"link", "set", cable, "master", "br0", "up"}} {
		if err := command("ip", args...); err != nil {
			return err
		}
	}
	kernel := "systemd.hostname=" + m.host.Name + " lab.address=" + m.IP + "/16"
	if m.host.VM.SELinux {
		kernel += " security=selinux enforcing=1"
	}
	args := append(qemu(vmImage(), m.disk(), filepath.Join(m.dir, "console"), kernel),
		"-netdev", "tap,id=n0,ifname="+cable+",script=no,downscript=no",
		"-device", fmt.Sprintf("virtio-net-pci,netdev=n0,romfile=,mac=02:00:0a:4d:01:%02x", m.number%256))
	if m.host.VM.Vendor != "" {
		args = append(args, "-smbios", "type=1,manufacturer="+m.host.VM.Vendor+",product="+m.host.VM.Product)
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &errs, &errs
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	m.nspawn, m.exited = cmd, exited
	if err := m.awaitVM(""); err != nil {
		return fmt.Errorf("%w\n%s", err, errs.String())
	}
	return nil
}

// awaitVM waits until the system is up and its boot another than before.
func (m *Machine) awaitVM(before string) error {
	said := ""
	err := m.poll(func() bool {
		m.connect()
		out, err := m.ssh(nil, "cat /proc/sys/kernel/random/boot_id && timeout 30 systemctl is-system-running --wait").Output()
		boot, state, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if said = state; boot == "" || boot == before {
			if err != nil && boot == "" {
				m.disconnect()
			}
			return false
		}
		return state == "running" || state == "degraded"
	})
	if err != nil {
		return fmt.Errorf("state %q: %w", said, err)
	}
	m.leader = m.nspawn.Process.Pid
	if said == "degraded" {
		failed, _ := m.enter("systemctl", "--failed", "--no-legend", "--plain").Output()
		m.t.Logf("lab: %s is up, with failed units:\n%s", m.host.Name, failed)
	}
	if before != "" || m.named {
		return nil
	}
	m.named = true
	return m.write("/etc/hosts", strings.NewReader(m.hosts()), 0o644)
}

// rebootVM restarts the system in the orderly way.
func (m *Machine) rebootVM() error {
	before, err := m.ssh(nil, "cat /proc/sys/kernel/random/boot_id").Output()
	if err != nil {
		return err
	}
	_ = m.ssh(nil, "systemctl reboot").Run() // the line may be cut before it answers
	m.disconnect()
	return m.awaitVM(strings.TrimSpace(string(before)))
}

// Firmware changes what the machine says that it is, from the next Boot on.
func (m *Machine) Firmware(vendor, product string) {
	m.host.VM.Vendor, m.host.VM.Product = vendor, product
}

// connect keeps one connection open that all commands share: a new one takes a second of emulated arithmetic.
func (m *Machine) connect() {
	if m.master != nil {
		return
	}
	control := filepath.Join(m.dir, "ssh")
	_ = os.Remove(control)
	cmd := exec.Command("ssh", append(m.sshOptions(), "-M", "-N", "root@"+m.IP)...)
	if err := cmd.Start(); err != nil {
		return
	}
	m.master = cmd
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(control); err == nil {
			return
		}
		if cmd.Process.Signal(syscall.Signal(0)) != nil {
			break
		}
		if state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); bytes.Contains(state, []byte(") Z ")) {
			break
		}
	}
	m.disconnect()
}

// disconnect ends that connection.
func (m *Machine) disconnect() {
	if m.master != nil {
		_ = m.master.Process.Kill()
		_ = m.master.Wait()
		m.master = nil
	}
	_ = os.Remove(filepath.Join(m.dir, "ssh"))
}

func (m *Machine) sshOptions() []string {
	return []string{
		"-F", "none", "-i", filepath.Join(vmImage(), "key"), "-S", filepath.Join(m.dir, "ssh"), "-T", "-o", "LogLevel=ERROR",
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10",
		"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8", // it does not say good-bye when its power is cut
	}
}

// ssh runs a script by root's login shell in the virtual machine, with arguments.
func (m *Machine) ssh(stdin io.Reader, script string, args ...string) *exec.Cmd {
	line := "/bin/sh -c " + quoted(append([]string{script, "sh"}, args...))
	cmd := exec.Command("ssh", append(m.sshOptions(), "-o", "ControlMaster=no", "root@"+m.IP, line)...)
	cmd.Stdin = stdin
	return cmd
}

// quoted is a list of words as a shell reads them.
func quoted(words []string) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(all, " ")
}

// startVM is a command as an administrator types it: in a login's session, with its environment.
func (m *Machine) startVM(c Cmd, pidFile string) *exec.Cmd {
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	words := append(append([]string{pidFile, dir, "env"}, c.Env...), c.Args...)
	return m.ssh(strings.NewReader(c.Stdin), `echo $$ >"$1" && cd "$2" && shift 2 && exec "$@"`, words...)
}

// errIn is what a script that failed says.
func errIn(op, name string, err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if exit.ExitCode() == notThere {
			err = fs.ErrNotExist
		} else {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// notThere is the exit status of scripts that miss a file.
const notThere = 44

func (m *Machine) readVM(name string) ([]byte, error) {
	data, err := m.ssh(nil, `[ -e "$1" ] || exit `+strconv.Itoa(notThere)+`; exec cat "$1"`, name).Output()
	if err != nil {
		return nil, errIn("read", name, err)
	}
	return data, nil
}

func (m *Machine) writeVM(name string, data io.Reader, mode fs.FileMode) error {
	_, err := m.ssh(data, `mkdir -p "${1%/*}/" && cat >"$1" && chmod "$2" "$1"`, path.Clean(name), fmt.Sprintf("%o", mode.Perm())).Output()
	if err != nil {
		return errIn("write", name, err)
	}
	return nil
}

func (m *Machine) globVM(pattern string) []string {
	out, err := m.ssh(nil, "for f in "+pattern+`; do [ -e "$f" ] || [ -L "$f" ] && echo "$f"; done; :`).Output()
	if err != nil {
		m.t.Fatalf("lab: %s on %s: %v", pattern, m.host.Name, err)
	}
	return strings.Fields(string(out))
}

// treeVM keeps what it has hashed in the host, as Tree does in the test. What lies in /usr is told by its time.
const treeVM = `
import hashlib, json, os, stat, sys
cache = "/run/lab-hashes"
try: known = json.load(open(cache))
except (OSError, ValueError): known = {}
def describe(name):
    s = os.lstat(name)
    line = "%s %d:%d" % (stat.filemode(s.st_mode), s.st_uid, s.st_gid)
    if stat.S_ISLNK(s.st_mode): line += " -> " + os.readlink(name)
    elif stat.S_ISREG(s.st_mode):
        if name.startswith("/usr/"): # half a gigabyte of programs is not read: their times tell
            sys.stdout.write("%s\0%s %d %d\0" % (name, line, s.st_size, s.st_mtime_ns))
            return
        key = [s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]
        if known.get(name, [None])[0] != key:
            known[name] = [key, hashlib.blake2b(open(name, "rb").read(), digest_size=8).hexdigest()]
        line += " " + known[name][1]
    sys.stdout.write("%s\0%s\0" % (name, line))
def walk(name):
    try: describe(name)
    except FileNotFoundError: return
    if os.path.isdir(name) and not os.path.islink(name):
        for entry in sorted(os.listdir(name)): walk(name.rstrip("/") + "/" + entry)
for top in sys.argv[1:]: walk(top)
json.dump(known, open(cache, "w"))
`

func (m *Machine) treeOfVM(paths []string) Tree {
	m.t.Helper()
	out, err := m.ssh(strings.NewReader(treeVM), `exec python3 - "$@"`, paths...).Output()
	if err != nil {
		m.t.Fatalf("lab: %v", errIn("walk", strings.Join(paths, " "), err))
	}
	fields, tree := strings.Split(string(out), "\x00"), Tree{}
	for i := 0; i+1 < len(fields); i += 2 {
		tree[fields[i]] = fields[i+1]
	}
	return tree
}

// metadataAddress is where EC2's metadata service is.
const metadataAddress = "169.254.169.254"

// ServeMetadata has a handler answer at the address of EC2's metadata service until the test ends, for all hosts.
func ServeMetadata(t testing.TB, handler http.Handler) {
	t.Helper()
	if err := command("ip", "addr", "add", metadataAddress+"/32", "dev", "br0"); err != nil {
		t.Fatal("lab: ", err)
	}
	t.Cleanup(func() {
		if err := command("ip", "addr", "del", metadataAddress+"/32", "dev", "br0"); err != nil {
			t.Error("lab: ", err)
		}
	})
	listener, err := net.Listen("tcp", metadataAddress+":80")
	if err != nil {
		t.Fatal("lab: ", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}
