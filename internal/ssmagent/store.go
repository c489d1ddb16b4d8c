package ssmagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// store reads the agent's JSON files. It collects what cannot be understood, and the first error of the host.
type store struct {
	files   host.Files
	damaged []string
	err     error
}

// load reads a file into v and reports whether it was there and understood. A file that is not JSON leaves v as it
// was, or partly filled when only a type is wrong.
func (s *store) load(path string, v any) bool {
	text, err := s.files.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		s.fail(err, "reading the SSM agent's %s", path)
		return false
	}
	if err := json.Unmarshal(text, v); err != nil {
		s.damage("%s cannot be understood: %s", path, jsonTrouble(text, err))
		return false
	}
	return true
}

// find tells where the manifest has a value, and whether it has it at all; the path is then the usual one.
func (s *store) find(manifest map[string]string, entry, usual string) (path string, listed bool) {
	if path = manifest[entry]; path == "" {
		return usual, false
	}
	if path != usual {
		s.damage("%s looks for %s in %s", ManifestPath, entry, path)
	}
	return path, true
}

// exists reports whether there is a file; an error counts as a file, for it was told when the file was read.
func (s *store) exists(path string) bool {
	_, err := s.files.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *store) damage(format string, args ...any) {
	s.damaged = append(s.damaged, fmt.Sprintf(format, args...))
}

func (s *store) fail(err error, format string, args ...any) {
	if s.err == nil {
		s.err = unreadable(err, format, args...)
	}
}

// unreadable makes an error of a file that is there and cannot be read.
func unreadable(err error, format string, args ...any) error {
	if errors.Is(err, fs.ErrPermission) {
		return failure.Wrap(failure.NotRoot, err, format, args...)
	}
	return failure.Wrap(failure.Internal, err, format, args...)
}

// jsonTrouble says what is wrong with a JSON text without quoting it, for it may hold a key.
func jsonTrouble(text []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case len(text) == 0:
		return "it is empty"
	case errors.As(err, &syntax) && syntax.Offset >= int64(len(text)):
		return fmt.Sprintf("the JSON ends too early, at %s", position(text, syntax.Offset))
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not JSON at %s", position(text, syntax.Offset))
	case errors.As(err, &kind):
		what, _, _ := strings.Cut(kind.Value, " ") // "number 12": the number may be part of a secret
		return fmt.Sprintf("a JSON %s is where something else belongs, at %s", what, position(text, kind.Offset))
	}
	return "a value in it has the wrong form" // a time, for one
}

// position is an offset as people and editors count: "line 3 (offset 41)".
func position(text []byte, offset int64) string {
	line := 1
	for _, c := range text[:min(max(offset, 0), int64(len(text)))] {
		if c == '\n' {
			line++
		}
	}
	return fmt.Sprintf("line %d (offset %d)", line, offset)
}
