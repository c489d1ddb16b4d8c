package ecsagent

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Life is what the logs of the agent and of ecs-init say of the agent since its unit was started last. A zero time is
// something that they do not say.
type Life struct {
	Findings   []Finding // known failures that no later line shows to be over, as ReadLog has them
	Registered time.Time // it registered, for the last time
	Connected  time.Time // it connected to ECS (ACS), for the last time
	LostSince  time.Time // and the first line after that which says that it is not connected any more
	Lost       Line      // the line that says most about why
	Gone       bool      // it was lost for good: ECS has deregistered the instance
	Provider   string    // where its credentials came from, the last time it got some
	Deaths     []time.Time
}

// Line is a line of a log.
type Line struct {
	Time time.Time
	Text string // the program's own words: on one line, cut, without secrets
	File string
}

// RotatingProvider is the agent's name for the credentials that Systems Manager's agent maintains
// (ecs-agent/credentials/providers of 1.105.1).
const RotatingProvider = "RotatingSharedCredentialsProvider"

// Lines that show the end of the connection to ECS. By itself the agent closes it every half hour and makes a new one
// (ecs-agent/acs/session/session.go of 1.105.1).
var (
	saysGone    = []string{"Container instance is deregistered", "InactiveInstanceException"}
	saysWhyLost = append([]string{
		"Failed to connect to ACS", "Error connecting to ACS", "ACS: Unable to discover poll endpoint",
		"ACS Connection hasn't had any activity for too long",
	}, saysGone...)
	saysLost = append([]string{
		"ACS WebSocket connection closed", "Disconnected from ACS",
		"econnecting to ACS", // at once, after a while, or now that it has waited
	}, saysWhyLost...)
)

const (
	saysExited   = "Agent exited with code"
	saysStopped  = "Agent exited with code 0"  // it was told to (ecs-init/engine/engine.go of 1.105.1)
	saysUpdated  = "Agent exited with code 42" // to make room for a newer one
	saysProvider = "credentials from provider: "
)

// farBack is how much of the log is searched for what its end does not say: a log is rolled over at 5 MB, and the agent
// connects anew every half hour (ecs-agent/logger and acs/session of 1.105.1). What has thousands of lines a minute hides
// the last connection from a short look.
const farBack = 6 << 20

// ReadLife reads what the logs say from since on. A log that is missing says nothing.
func ReadLife(r host.Reader, since time.Time) (Life, error) {
	entries, err := entriesSince(r.Files, since)
	if err != nil {
		return Life{}, err
	}
	life := Life{Findings: knownIn(entries, r.Now())}
	for _, e := range entries {
		life.take(e)
	}
	if life.Connected.IsZero() && life.LostSince.IsZero() {
		err = life.searchBack(r.Files, since.Truncate(time.Second))
	}
	return life, err
}

func (l *Life) take(e entry) {
	says := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(e.text, text) })
	}
	switch {
	case e.file == InitLogPath:
		if says(saysExited) && !says(saysStopped, saysUpdated) {
			l.Deaths = append(l.Deaths, e.time)
		}
	case says(saysConnected):
		l.Connected, l.LostSince, l.Lost, l.Gone = e.time, time.Time{}, Line{}, false
	case says(saysLost...):
		if l.LostSince.IsZero() {
			l.LostSince = e.time
		}
		if l.Gone = l.Gone || says(saysGone...); l.Lost.Text == "" || says(saysWhyLost...) {
			l.Lost = Line{Time: e.time, Text: evidence(new(secret.Redactor).Clean(e.line)), File: e.file}
		}
	case says(saysRegistered, saysCompleted):
		l.Registered = e.time
	case says(saysProvider):
		_, name, _ := strings.Cut(e.text, saysProvider)
		l.Provider = providerName.FindString(name)
	}
}

var providerName = regexp.MustCompile(`^\w+`)

// searchBack looks further back for the last word on the connection, and takes in the lines that have it.
func (l *Life) searchBack(files host.Files, since time.Time) error {
	for _, file := range []string{LogPath, newestRolled(files, LogPath)} {
		if file == "" {
			continue
		}
		data, _, err := readEnd(files, file, farBack)
		if err != nil {
			return err
		}
		for _, texts := range [][]string{{saysRegistered, saysCompleted}, {saysProvider}, slices.Concat(saysLost, []string{saysConnected})} {
			if e, found := lastLine(data, texts); found && !e.time.Before(since) {
				e.file = LogPath
				l.take(e)
			}
		}
		if !l.Connected.IsZero() || !l.LostSince.IsZero() {
			return nil
		}
	}
	return nil
}

// lastLine is the last line that has one of the texts.
func lastLine(data []byte, texts []string) (entry, bool) {
	at := -1
	for _, text := range texts { // forward: bytes.LastIndex takes ten times as long
		for from := max(at, 0); ; {
			i := bytes.Index(data[from:], []byte(text))
			if i < 0 {
				break
			}
			at = max(at, from+i)
			from += i + len(text)
		}
	}
	if at < 0 {
		return entry{}, false
	}
	from := bytes.LastIndexByte(data[:at], '\n') + 1
	line, _, _ := bytes.Cut(data[from:], []byte{'\n'})
	parsed := parseEntries(line)
	if len(parsed) == 0 {
		return entry{}, false
	}
	return parsed[0], true
}

var cachedName = regexp.MustCompile(`ecs-agent-(?:arm64-)?v(\d+\.\d+\.\d+)(?:-\d+)?\.tar$`)

// CachedVersion is the version of the image that the package left for Docker to load; empty when that is not known.
func CachedVersion(r host.Reader) string {
	target, err := r.Files.Readlink(CachedImage)
	if err != nil {
		return ""
	}
	found := cachedName.FindStringSubmatch(target)
	if found == nil {
		return ""
	}
	return found[1]
}

// Newer reports whether a package's version is newer than that of the agent that runs.
func Newer(installed, running string) bool {
	return installed != "" && running != "" && CompareVersions(upstream(installed), running) > 0
}
