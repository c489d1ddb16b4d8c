package preflight

import (
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// mounted puts paths on file systems of their own.
type mounted struct {
	files
	devices map[string]uint64
}

func (f mounted) Stat(path string) (fs.FileInfo, error) {
	if device, found := f.devices[path]; found {
		return onDevice{device: device}, nil
	}
	return f.files.Stat(path)
}

type onDevice struct {
	fs.FileInfo
	device uint64
}

func (i onDevice) Sys() any { return &syscall.Stat_t{Dev: i.device} }

// Folders that share a file system need room together; those with one of their own do not.
func TestDiskSpaceByFileSystem(t *testing.T) {
	m := newMachine(t)
	m.free = map[string]uint64{"": 10 * gib, "/var/lib/docker": 400 << 20, "/var/log": 30 << 20}
	reader := m.reader()
	reader.Files = mounted{files{m.reader().Files.(files).Dir, m}, map[string]uint64{
		"/": 1, "/var/lib/docker": 2, "/var/log": 3, "/var/cache": 3,
	}}
	r := diskSpace(t.Context(), Subject{Host: reader})
	if r.Status != Fail || !strings.Contains(r.Detail, "400 MiB are free and 500 needed for /var/lib/docker") {
		t.Errorf("%s: %s", r.Status, r.Detail)
	}
	if free := r.Evidence["/var/log"]; free != uint64(10*gib) { // what /var/cache/ecs, asked first, has on that one
		t.Errorf("evidence of /var/log: %v", free)
	}
	if strings.Contains(r.Detail, "/usr") {
		t.Errorf("%s: /usr has room", r.Detail)
	}
}
