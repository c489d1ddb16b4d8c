package ecsagent

import (
	"regexp"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// File is one ecs.config, kept line by line so that an edit changes only what it must.
type File struct{ lines []string }

// Parse takes any content; what no reader understands is kept as it is.
func Parse(data []byte) *File { return &File{strings.Split(string(data), "\n")} }

// Bytes is the file's content.
func (f *File) Bytes() []byte { return []byte(strings.Join(f.lines, "\n")) }

// Get returns the value as ecs-init reads it for the agent: the last line wins, nothing is unquoted.
func (f *File) Get(key string) (value string, ok bool) {
	for _, line := range f.lines {
		if k, v, is := initAssignment(line); is && k == key {
			value, ok = v, true
		}
	}
	return value, ok
}

// Set makes key=value the only line that any reader could take for key: in place of the last such line, or at the end.
// Everything else stays. It fails with failure.InvalidConfig, and changes nothing, when the pair does not make one line of
// its own.
func (f *File) Set(key, value string) error {
	if !oneLine(key, value) {
		return failure.New(failure.InvalidConfig, "%s cannot be written: its value would not stay on one line", key).
			WithRemedy("take line breaks, outer blanks, opening quotes and closing backslashes out of the value of %s", key)
	}
	last := -1
	for i, line := range f.lines {
		if meant(line) == key {
			last = i
		}
	}
	if last < 0 {
		f.append(key + "=" + value)
		return nil
	}
	kept := make([]string, 0, len(f.lines))
	for i, line := range f.lines {
		switch {
		case i == last:
			kept = append(kept, key+"="+value)
		case meant(line) != key:
			kept = append(kept, line)
		}
	}
	f.lines = kept
	return nil
}

// Unset removes every line that any reader could take for key.
func (f *File) Unset(key string) {
	kept := f.lines[:0:0]
	for _, line := range f.lines {
		if meant(line) != key {
			kept = append(kept, line)
		}
	}
	f.lines = kept
}

func (f *File) append(line string) {
	if n := len(f.lines); n > 0 && f.lines[n-1] == "" {
		f.lines = append(f.lines[:n-1], line, "")
		return
	}
	f.lines = append(f.lines, line, "")
}

// initAssignment reads a line as ecs-init does (ecs-init/docker/docker.go of 1.105.1): trimmed, cut at the first equals
// sign. It knows no comments, no quotes and no export.
func initAssignment(line string) (key, value string, ok bool) {
	return strings.Cut(strings.TrimSpace(line), "=")
}

// meant is the key that a line's author had in mind, whichever reader understands it; empty for comments.
func meant(line string) string {
	key, _, ok := initAssignment(strings.TrimPrefix(line, byteOrderMark))
	if !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, ";") {
		return ""
	}
	if fields := strings.Fields(key); len(fields) == 2 && fields[0] == "export" {
		return fields[1]
	}
	return strings.TrimSpace(key)
}

const byteOrderMark = "\ufeff"

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// oneLine reports whether both readers take the pair for one line and go on with the next one.
func oneLine(key, value string) bool {
	if !variableName.MatchString(key) || strings.ContainsAny(value, "\n\r\x00") || value != strings.TrimSpace(value) {
		return false
	}
	read := host.ParseEnvironmentFile(key + "=" + value + "\nNEXT=1\n")
	return len(read) == 2 && read[0].Key == key && read[1] == host.Assignment{Key: "NEXT", Value: "1", Line: 2}
}
