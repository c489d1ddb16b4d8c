package simagent

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"time"
)

// logfmt is the log of the ECS agent and of ecs-init: a file and standard output.
type logfmt struct {
	place   *Place
	file    string // below the place's root; empty writes to standard output only
	shuffle bool   // the agent's fields are in a random order (a Go map), msg among them; ecs-init's are not
}

// fields are pairs of a name and its value.
type fields []string

func (l logfmt) info(msg string, f ...string)     { l.line("info", msg, f) }
func (l logfmt) warn(msg string, f ...string)     { l.line("warn", msg, f) }
func (l logfmt) error(msg string, f ...string)    { l.line("error", msg, f) }
func (l logfmt) critical(msg string, f ...string) { l.line("critical", msg, f) }

func (l logfmt) line(level, msg string, f fields) {
	parts := []string{fmt.Sprintf("msg=%q", msg)}
	for i := 0; i+1 < len(f); i += 2 {
		parts = append(parts, fmt.Sprintf("%s=%q", f[i], f[i+1]))
	}
	if l.shuffle {
		rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	}
	text := fmt.Sprintf("level=%s time=%s %s\n", level, l.place.now().UTC().Format(time.RFC3339), strings.Join(parts, " "))
	_, _ = io.WriteString(l.place.stdout(), text) // a log that cannot be written stops nothing
	if l.file != "" {
		l.place.appendLog(path.Dir(l.file), path.Base(l.file), text, 0o755)
	}
}
