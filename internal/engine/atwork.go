package engine

import (
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// AtWork tells which run holds the lock at name now ("pid 123, run …"); it is empty when none does. It asks the kernel's
// list of locks, and never takes the lock: not even for a moment could another run then be refused for it.
func AtWork(r host.Reader, name string) string {
	text, err := r.Files.ReadFile(name)
	line := strings.TrimSpace(string(text))
	var pid int
	if err != nil || line == "" {
		return ""
	}
	if _, err := fmt.Sscanf(line, "pid %d,", &pid); err != nil || pid <= 0 {
		return ""
	}
	// A killed process leaves its name in the file, and its pid may be another's by now: who holds a lock is in the list.
	locks, err := r.Files.ReadFile("/proc/locks")
	if err != nil {
		if _, err := r.Files.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
			return ""
		}
		return line
	}
	for held := range strings.Lines(string(locks)) {
		if f := strings.Fields(held); len(f) > 4 && f[1] == "FLOCK" && f[4] == fmt.Sprint(pid) {
			return line
		}
	}
	return ""
}
