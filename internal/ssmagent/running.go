package ssmagent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Process is the agent that runs.
type Process struct {
	Replaced bool   // its program was replaced since it was started: an older version still runs
	Version  string // that it logged at its start; empty when the log does not reach back so far
}

// startLine is among what the agent logs first. Source: the log in https://github.com/aws/amazon-ssm-agent/issues/571
// (3.3.131.0), read 2026-11-25.
var startLine = regexp.MustCompile(`amazon-ssm-agent - v(\d+\.\d+\.\d+\.\d+)`)

// ReadProcess looks at the agent's process. What may not be seen without root is an error with the code failure.NotRoot;
// a process that is gone is none.
func ReadProcess(r host.Reader, pid int) (Process, error) {
	var p Process
	if pid > 0 {
		program, err := r.Files.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, unreadable(err, "looking at the SSM agent's process %d", pid)
		}
		p.Replaced = strings.HasSuffix(program, " (deleted)") // the kernel's mark, proc(5)
		if !p.Replaced {
			if p.Replaced, err = ofOtherRevision(r.Files, program); err != nil {
				return p, err
			}
		}
	}
	log, err := readTail(r.Files, LogPath)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, unreadable(err, "reading the SSM agent's log %s", LogPath)
	}
	if at := bytes.LastIndex(log, []byte("amazon-ssm-agent - v")); at >= 0 {
		if found := startLine.FindSubmatch(log[at:]); found != nil {
			p.Version = string(found[1])
		}
	}
	return p, nil
}

// ofOtherRevision reports whether a program is of a revision of the agent's snap that is not the current one: snapd keeps
// the files of those, so that the kernel does not tell.
func ofOtherRevision(files host.Files, program string) (bool, error) {
	snap, found, err := host.ReadSnap(files, Package)
	if err != nil || !found || snap.Revision == "" {
		return false, err
	}
	revision, ok := strings.CutPrefix(path.Dir(program), path.Dir(snap.Dir)+"/")
	return ok && revision != snap.Revision && revision != "current", nil
}

// Upstream is a package's version without its revision: 3.3.4108.0 of 3.3.4108.0-1.
func Upstream(version string) string {
	upstream, _, _ := strings.Cut(version, "-")
	return upstream
}
