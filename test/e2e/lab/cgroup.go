package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const cgroupPrefix = "anywhere-lab-"

// ofRun tells whether a cgroup's name was made by the run with this id.
func ofRun(name, id string) bool { return strings.HasPrefix(name, id+"-") }

// hierarchy is one mounted cgroup tree and the place of this process in it.
type hierarchy struct {
	controllers string // "cpuset", "name=systemd"; empty for the unified one
	mount, own  string
}

// hierarchies lists the machine's. Its mounts are only ever read: the lab makes folders in them, nothing else.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	at := map[string]string{} // controllers -> mount point
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 {
			continue
		}
		switch right[0] {
		case "cgroup2":
			at[""] = left[4]
		case "cgroup":
			for _, option := range strings.Split(right[2], ",") {
				at[option] = left[4]
			}
		}
	}
	memberships, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for line := range strings.Lines(strings.TrimSpace(string(memberships))) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("unexpected line in /proc/self/cgroup: %q", line)
		}
		first, _, _ := strings.Cut(parts[1], ",")
		if mount, ok := at[first]; ok {
			all = append(all, hierarchy{controllers: parts[1], mount: mount, own: filepath.Join(mount, parts[2])})
		}
	}
	return all, nil
}

// makeCgroups makes a child cgroup of our own in every hierarchy: the host then counts as ours, for the machine's limits
// too, and its cgroup namespace begins there.
func makeCgroups(name string) (dirs []string, err error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for _, h := range all {
		dir := filepath.Join(h.own, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if h.controllers == "cpuset" { // empty in a new cgroup, and then nothing can join it
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				value, err := os.ReadFile(filepath.Join(h.own, file))
				if err != nil {
					return nil, err
				}
				if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
					return nil, err
				}
			}
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// cgroupsNamed lists the lab's cgroups on this machine, in all hierarchies.
func cgroupsNamed(wanted func(name string) bool) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, h := range all {
		entries, err := os.ReadDir(h.own)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && wanted(e.Name()) {
				found = append(found, filepath.Join(h.own, e.Name()))
			}
		}
	}
	return found, nil
}

// removeCgroups ends what still runs in the cgroups of a run, or of one host of it, and removes them.
func removeCgroups(id string) error {
	tops, err := cgroupsNamed(func(name string) bool { return name == id || ofRun(name, id) })
	if err != nil {
		return err
	}
	var errs []error
	for _, top := range tops {
		errs = append(errs, removeCgroup(top))
	}
	return errors.Join(errs...)
}

func removeCgroup(top string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := tryRemoveCgroup(top)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond) // the kernel needs a moment to take dead processes out
	}
}

func tryRemoveCgroup(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // gone meanwhile: all the better
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		pids, _ := os.ReadFile(filepath.Join(dirs[i], "cgroup.procs"))
		for _, field := range strings.Fields(string(pids)) {
			if pid, _ := strconv.Atoi(field); pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if rmErr := os.Remove(dirs[i]); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = rmErr
		}
	}
	return err
}
