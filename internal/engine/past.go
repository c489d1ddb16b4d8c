package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Past is an operation that is over, as its journal has it.
type Past struct {
	Verb, RunID, Version string
	Started, Ended       time.Time
	How                  string // done, undone, kept or abandoned
	Path                 string // of the journal
}

// Last is the operation that ended last; nil when no journal of one is kept. One that changed nothing leaves none.
func (e *Engine) Last() (*Past, error) {
	dir := path.Join(e.Dir, journalDir)
	found, err := e.Host.Files.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, failure.Wrap(failure.NotRoot, err, "cannot list the journals in %s", dir)
	case err != nil:
		return nil, failure.Wrap(failure.JournalUnreadable, err, "cannot list the journals in %s", dir)
	}
	newest := ""
	for _, f := range found { // the names sort by time
		if name := f.Name(); name != openName && name[0] != '.' && strings.HasSuffix(name, ".jsonl") {
			newest = max(newest, name)
		}
	}
	if newest == "" {
		return nil, nil
	}
	return e.past(path.Join(dir, newest))
}

// past reads a journal that was moved aside. One that cannot be read was abandoned: its name says when.
func (e *Engine) past(name string) (*Past, error) {
	text, err := e.Host.Files.ReadFile(name)
	if err != nil {
		return nil, failure.Wrap(failure.JournalUnreadable, err, "cannot read the journal %s", name)
	}
	s, whole, err := parse(text)
	var last entry
	if err == nil {
		lines := bytes.Split(bytes.TrimRight(text[:whole], "\n"), []byte{'\n'})
		err = json.Unmarshal(lines[len(lines)-1], &last)
	}
	if err != nil {
		parts := strings.SplitN(strings.TrimSuffix(path.Base(name), ".jsonl"), "-", 3) // time, verb, run
		if len(parts) != 3 {
			return nil, failure.Wrap(failure.JournalUnreadable, err, "cannot read the journal %s", name)
		}
		ended, _ := time.Parse("20060102T150405Z", parts[0]) // zero is unknown
		return &Past{Verb: parts[1], RunID: parts[2], Ended: ended, How: endAbandoned, Path: name}, nil
	}
	return &Past{
		Verb: s.Verb, RunID: s.Run, Version: s.Program, Started: s.Started, Ended: last.At, How: s.ended, Path: name,
	}, nil
}
