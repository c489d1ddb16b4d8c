package lab

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Address is where hosts reach the test process.
const Address = "10.77.0.1"

// insideVar tells the child of Main that it is inside the lab: the folder of this run. Main removes it at once.
const insideVar = "ANYWHERE_LAB_RUN"

// world is the lab as the tests' process sees it. Main fills it before the first test and nothing changes it afterwards.
var world struct {
	run  string // folder of this run
	id   string // unique on this machine while the run lasts: prefix of the cgroups' names
	root Root
}

// Shared is the path of a file that a setup function made.
func Shared(name string) string { return filepath.Join(world.run, "shared", name) }

// Main runs the tests of a package inside the lab and exits. The setup functions run before, outside, with the
// machine's network; they leave what they make in the folder that they are given (see Shared).
func Main(m *testing.M, setup ...func(dir string) error) {
	if run := os.Getenv(insideVar); run != "" {
		if err := errors.Join(os.Unsetenv(insideVar), enterWorld(run)); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	flag.Parse()
	code, err := outside(setup)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// outside prepares the machine, runs this program again inside the lab, and clears up behind it.
func outside(setup []func(string) error) (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("real hosts need root: run it as root")
	}
	// An interrupt goes to the child as well, which ends; then it is cleared up here.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM)
	if _, err := Provision(); err != nil {
		return 1, err
	}
	run, err := newRun()
	if err != nil {
		return 1, err
	}
	id := filepath.Base(run.Name())
	defer func() { err = errors.Join(err, leaveNothing(id, run.Name()), run.Close()) }()
	for _, f := range setup {
		if err := f(filepath.Join(run.Name(), "shared")); err != nil {
			return 1, err
		}
	}

	runtime.LockOSThread() // Pdeathsig follows this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"="+run.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// enterWorld makes the namespaces usable that this process was started in.
func enterWorld(run string) error {
	world.run, world.id, world.root = run, filepath.Base(run), currentRoot()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// nspawn and ip leave files in these; here they go with the namespace.
	for _, dir := range []string{"/run/systemd", "/run/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return makeWorldNetwork()
}

// newRun makes the folder of this run and returns it open and locked: the lock lasts as long as the run, however it ends.
// What earlier runs left that were killed together with their parent is removed.
func newRun() (*os.File, error) {
	unlock, err := lockCache()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(); err != nil {
		return nil, err
	}
	dir := filepath.Join(cacheDir, "run", cgroupPrefix+strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(filepath.Join(dir, "shared"), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return f, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// sweep removes the folders and cgroups of runs that are not alive.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(cacheDir, "run", cgroupPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			continue // its own run has just removed it
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			errs = append(errs, leaveNothing(filepath.Base(dir), dir))
		}
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// leaveNothing removes what a run left outside its namespaces, and says so if it can't.
func leaveNothing(id, dir string) error {
	errs := []error{removeCgroups(id), os.RemoveAll(dir)}
	left, err := cgroupsNamed(func(name string) bool { return ofRun(name, id) })
	errs = append(errs, err)
	for _, cgroup := range left {
		errs = append(errs, fmt.Errorf("left behind: cgroup %s", cgroup))
	}
	return errors.Join(errs...)
}

// command runs a program of the machine and puts its output into the error.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
