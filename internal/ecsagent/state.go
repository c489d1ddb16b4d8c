package ecsagent

import (
	"bytes"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// State is what the agent has on the disk. DB alone does not mean registered: the agent makes the file before it
// registers, and writes cluster and ARN to it afterwards (agent/app/agent.go of 1.105.1). The file is not opened here:
// the running agent keeps it locked.
type State struct {
	DB      bool      // StateDB exists
	Legacy  bool      // LegacyState exists
	ModTime time.Time // of StateDB, else of LegacyState
}

// Any reports whether something there may bind the host to a container instance.
func (s State) Any() bool { return s.DB || s.Legacy }

// ReadState looks for the agent's state.
func ReadState(r host.Reader) (State, error) {
	db, err := statOptional(r.Files, StateDB)
	if err != nil {
		return State{}, err
	}
	legacy, err := statOptional(r.Files, LegacyState)
	if err != nil {
		return State{}, err
	}
	state := State{DB: db != nil, Legacy: legacy != nil}
	switch {
	case db != nil:
		state.ModTime = db.ModTime()
	case legacy != nil:
		state.ModTime = legacy.ModTime()
	}
	return state, nil
}

// Bound reports whether the state names a container instance, so that the host belongs to one. An agent that was refused
// at its first registration leaves a file that names none. The file is looked through for the ARN's own bytes, which
// BoltDB keeps in one piece: what it freed may still be there, so that true can be too much, and false never is. What
// cannot be read counts as bound.
func Bound(r host.Reader) bool {
	for _, name := range []string{StateDB, LegacyState} {
		data, err := r.Files.ReadFile(name)
		if err == nil && bytes.Contains(data, []byte(":container-instance/")) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// instanceARN finds container instances' ARNs in any text.
var instanceARN = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:container-instance/[A-Za-z0-9_-]+(?:/[A-Za-z0-9-]+)?`)
})

// StateInstances are the container instances that the state names, found as Bound finds them: BoltDB keeps what it freed,
// so that former ones may be among them, and the present one always is. A state that cannot be read names none.
func StateInstances(r host.Reader) []InstanceARN {
	var all []InstanceARN
	for _, name := range []string{StateDB, LegacyState} {
		data, err := r.Files.ReadFile(name)
		if err != nil || !bytes.Contains(data, []byte(":container-instance/")) {
			continue
		}
		for _, text := range instanceARN().FindAll(data, -1) {
			if arn, err := ParseInstanceARN(string(text)); err == nil && !slices.Contains(all, arn) {
				all = append(all, arn)
			}
		}
	}
	return all
}

// statOptional is nil for a path that does not exist.
func statOptional(files host.Files, path string) (fs.FileInfo, error) {
	info, err := files.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, failure.Wrap(failure.Internal, err, "could not look at %s", path)
	}
	return info, nil
}
