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

// Binding is what the state binds the host to, as far as it can be read without opening the database: BoltDB keeps a value
// in one piece behind its key, and so a look at the bytes finds it. What BoltDB freed may still be there, so that more
// instances than one are possible.
type Binding struct {
	Instances []InstanceARN
	// Cluster is ECS_CLUSTER as the agent saved it, a name or an ARN: it compares the raw string. Empty when the state has
	// none, or more than one.
	Cluster string
}

// savedPattern finds the two values, as BoltDB has them (key, then the value as JSON), and as JSON files have them.
var savedPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:cluster-name|"Cluster")"?:? ?"([A-Za-z0-9_:/-]+)"|` +
		`(arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]+:container-instance/(?:[A-Za-z0-9_-]+/)?[0-9a-f-]+)`)
})

// ReadBinding looks through StateDB, or through LegacyState where the first binds to nothing, as the agent does.
func ReadBinding(r host.Reader) (Binding, error) {
	for _, name := range []string{StateDB, LegacyState} {
		data, err := readOptional(r, name)
		if err != nil {
			return Binding{}, err
		}
		var b Binding
		clusters := map[string]bool{}
		for _, found := range savedPattern().FindAllSubmatch(data, -1) {
			if cluster := string(found[1]); cluster != "" {
				clusters[cluster], b.Cluster = true, cluster
			} else if arn, err := ParseInstanceARN(string(found[2])); err == nil && !slices.Contains(b.Instances, arn) {
				b.Instances = append(b.Instances, arn)
			}
		}
		if len(clusters) > 1 {
			b.Cluster = ""
		}
		if len(b.Instances) > 0 {
			return b, nil
		}
	}
	return Binding{}, nil
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
