package host

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	Point, Type, Source string
	ReadOnly            bool
}

func (m mount) String() string {
	mode := "rw"
	if m.ReadOnly {
		mode = "ro"
	}
	return fmt.Sprintf("file system %s on %s (%s, %s)", m.Source, m.Point, m.Type, mode)
}

// readMounts reads the mounts that this process sees. It is always the running kernel's list: it speaks of local paths.
func readMounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(data)
}

// parseMounts parses mountinfo, as proc_pid_mountinfo(5) describes it: id, parent, device, root, mount point, options,
// optional fields up to a dash, type, source, options of the file system.
func parseMounts(data []byte) ([]mount, error) {
	var mounts []mount
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 2 {
			return nil, fmt.Errorf("line of mountinfo not understood: %q", lines.Text())
		}
		readOnly := hasOption(left[5], "ro") || len(right) > 2 && hasOption(right[2], "ro")
		m := mount{Point: unescape(left[4]), Type: right[0], Source: unescape(right[1]), ReadOnly: readOnly}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func hasOption(list, option string) bool {
	for _, o := range strings.Split(list, ",") {
		if o == option {
			return true
		}
	}
	return false
}

// unescape replaces the \ooo that the kernel writes for blank, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// mountOf finds the mount that holds a local path, or would hold it if it existed.
func mountOf(local string) (mount, bool) {
	mounts, err := readMounts()
	if err != nil {
		return mount{}, false
	}
	for {
		whole, err := filepath.EvalSymlinks(local)
		if err == nil {
			local = whole
			break
		}
		if filepath.Dir(local) == local {
			break
		}
		local = filepath.Dir(local)
	}
	var best mount
	found := false
	for _, m := range mounts { // of two mounts on one point the later hides the earlier
		if within(local, m.Point) && len(m.Point) >= len(best.Point) {
			best, found = m, true
		}
	}
	return best, found
}
