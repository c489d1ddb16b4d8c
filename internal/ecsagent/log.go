package ecsagent

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

const (
	logTail       = 256 << 10 // bytes of each file that are read
	entryBound    = 4 << 10   // bytes of one entry that are looked at
	evidenceBound = 400       // characters
)

// Finding is a known failure that a log shows.
type Finding struct {
	Code     failure.Code
	Time     time.Time // of its last line
	Line     string    // that line, the program's own words: on one line, cut, without secrets
	File     string
	Cause    string
	Remedy   string
	Terminal bool // waiting longer cannot help
	Symptom  bool // it says that something failed, not why
}

// Error is the finding as a command's failure; doing says what was tried ("could not register with ECS").
func (f Finding) Error(doing string) *failure.Error {
	return failure.New(f.Code, "%s: %s", doing, f.Cause).WithEvidence("%s: %s", f.File, f.Line).WithRemedy("%s", f.Remedy)
}

// ReadLog finds the known failures in the last 256 KiB of the agent's and ecs-init's logs, in lines from since on (to the
// second, as the logs have it) that no later line shows to be over. Each failure is there once, with its last line:
// terminal ones first, reasons before symptoms, then the newest. A log that is missing has no findings.
func ReadLog(r host.Reader, since time.Time) ([]Finding, error) {
	entries, err := entriesSince(r.Files, since)
	if err != nil {
		return nil, err
	}
	return knownIn(entries, r.Now()), nil
}

// entriesSince reads the ends of both logs in the order of their times.
func entriesSince(files host.Files, since time.Time) ([]entry, error) {
	since = since.Truncate(time.Second)
	// ecs-init's first: what it says of the agent's end comes after the agent's own words, which are then there to be read.
	ends, err := readEntries(files, InitLogPath, since)
	if err != nil {
		return nil, err
	}
	entries, err := readEntries(files, LogPath, since)
	if err != nil {
		return nil, err
	}
	entries = append(entries, ends...)
	slices.SortStableFunc(entries, func(a, b entry) int { return a.time.Compare(b.time) })
	return entries, nil
}

// knownIn finds the failures that stand at the end of the entries.
func knownIn(entries []entry, now time.Time) []Finding {
	seen := map[int]*sighting{}
	for _, e := range entries {
		clearOver(seen, e)
		if i := recognise(e.text); i >= 0 {
			seen[i] = seen[i].add(e)
		}
	}
	return findings(seen, now)
}

// sighting is a failure's lines.
type sighting struct {
	first time.Time
	last  entry
	again bool // there are two at least
}

// lasts reports whether the failure came back and has stood for so long. The pauses between an agent's tries grow, so
// that the next line is not waited for.
func (s *sighting) lasts(settle time.Duration, now time.Time) bool {
	return settle == 0 || s.again && now.Sub(s.first) >= settle
}

func (s *sighting) add(e entry) *sighting {
	if s == nil {
		return &sighting{first: e.time, last: e}
	}
	s.last, s.again = e, true
	return s
}

// recognise is the index in Failures of the first row that fits, or -1.
func recognise(text string) int {
	return slices.IndexFunc(Failures, func(f Failure) bool {
		return !slices.ContainsFunc(f.Texts, func(want string) bool { return !strings.Contains(text, want) }) &&
			!slices.ContainsFunc(f.Not, func(other string) bool { return strings.Contains(text, other) })
	})
}

func clearOver(seen map[int]*sighting, e entry) {
	for i := range seen {
		if slices.ContainsFunc(Failures[i].Over, func(text string) bool { return strings.Contains(e.text, text) }) {
			delete(seen, i)
		}
	}
}

func findings(seen map[int]*sighting, now time.Time) []Finding {
	redactor := new(secret.Redactor)
	indices := make([]int, 0, len(seen))
	for i := range seen {
		indices = append(indices, i)
	}
	terminal := func(i int) bool {
		return Failures[i].Terminal && seen[i].lasts(Failures[i].Settle, now)
	}
	slices.SortFunc(indices, func(a, b int) int {
		return cmp.Or(
			truthFirst(terminal(a), terminal(b)),
			truthFirst(!Failures[a].Symptom, !Failures[b].Symptom),
			seen[b].last.time.Compare(seen[a].last.time),
			cmp.Compare(a, b))
	})
	var out []Finding
	for _, i := range indices {
		f, s := Failures[i], seen[i]
		remedy := f.Remedy
		if remedy == "" {
			remedy = failure.Catalogue[f.Code].Remedy
		}
		out = append(out, Finding{Code: f.Code, Time: s.last.time, File: s.last.file,
			Line: evidence(redactor.Clean(s.last.line)), Cause: f.Cause, Remedy: remedy, Terminal: terminal(i), Symptom: f.Symptom})
	}
	return out
}

func truthFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// evidence is a line fit to be shown.
func evidence(line string) string {
	line = strings.Join(strings.Fields(line), " ")
	if utf8.RuneCountInString(line) <= evidenceBound {
		return line
	}
	return string([]rune(line)[:evidenceBound]) + "…"
}

// entry is a log line with those that belong to it.
type entry struct {
	time time.Time
	file string // the log that it is in, also when that was rolled over
	line string // as it stands there
	text string // with the quotes and line breaks inside values as they were meant
}

var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, " ", `\t`, " ")

// readEntries reads the tail of a log, and of the file that it was rolled over to when it begins after since.
func readEntries(files host.Files, file string, since time.Time) ([]entry, error) {
	data, whole, err := readTail(files, file)
	if err != nil {
		return nil, err
	}
	entries := parseEntries(data)
	if whole && (len(entries) == 0 || entries[0].time.After(since)) {
		if rolled := newestRolled(files, file); rolled != "" {
			older, _, err := readTail(files, rolled)
			if err != nil {
				return nil, err
			}
			entries = append(parseEntries(older), entries...)
		}
	}
	for i := range entries {
		entries[i].file = file
	}
	return slices.DeleteFunc(entries, func(e entry) bool { return e.time.Before(since) }), nil
}

// newestRolled is the file to which a log was rolled over last (ecs-agent.log.7, ecs-init.log.2026-11-22-09), or empty.
func newestRolled(files host.Files, file string) string {
	list, err := files.ReadDir(path.Dir(file))
	if err != nil {
		return ""
	}
	var newest string
	var at time.Time
	for _, item := range list {
		info, err := item.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasPrefix(item.Name(), path.Base(file)+".") {
			continue
		}
		if info.ModTime().After(at) {
			newest, at = path.Join(path.Dir(file), item.Name()), info.ModTime()
		}
	}
	return newest
}

// readTail reads the last logTail bytes.
func readTail(files host.Files, file string) (data []byte, whole bool, err error) {
	return readEnd(files, file, logTail)
}

// readEnd reads the last bytes of a log, from the beginning of a line; whole reports whether that is all.
func readEnd(files host.Files, file string, most int64) (data []byte, whole bool, err error) {
	f, err := files.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, failure.Wrap(failure.Internal, err, "could not read the log %s", file)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, failure.Wrap(failure.Internal, err, "could not read the log %s", file)
	}
	skip := max(0, info.Size()-most)
	if seeker, ok := f.(io.Seeker); ok {
		_, err = seeker.Seek(skip, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, f, skip)
	}
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(f, most))
	}
	if err != nil {
		return nil, false, failure.Wrap(failure.Internal, err, "could not read the log %s", file)
	}
	if skip > 0 {
		_, after, _ := strings.Cut(string(data), "\n")
		return []byte(after), false, nil
	}
	return data, true, nil
}

// parseEntries splits a log into entries: a line without a time of its own belongs to the one before it.
func parseEntries(data []byte) []entry {
	var entries []entry
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		if at, ok := lineTime(line); ok {
			entries = append(entries, entry{time: at, line: line})
		} else if n := len(entries); n > 0 && len(entries[n-1].line) < entryBound {
			entries[n-1].line += " " + strings.TrimSpace(line)
		}
	}
	for i, e := range entries {
		if len(e.line) > entryBound {
			e.line = e.line[:entryBound]
		}
		entries[i].line, entries[i].text = e.line, unescape.Replace(e.line)
	}
	return entries
}

// lineTime is the time of a line in either of the agent's formats (ecs-agent/logger/log.go of 1.105.1), always UTC.
func lineTime(line string) (time.Time, bool) {
	var text string
	if strings.HasPrefix(line, "{") {
		var fields struct{ Time string }
		if json.Unmarshal([]byte(line), &fields) != nil {
			return time.Time{}, false
		}
		text = fields.Time
	} else {
		text = logfmt(line)["time"]
	}
	at, err := time.Parse(time.RFC3339, text)
	return at, err == nil
}

// logfmt reads key=value and key="quoted value" pairs, which stand in any order. Of a key that is there twice the first
// counts; words without an equals sign are passed over.
func logfmt(line string) map[string]string {
	fields := map[string]string{}
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		end := strings.IndexAny(line, "= ")
		if end < 0 {
			break
		}
		key, rest := line[:end], line[end+1:]
		if line[end] == ' ' {
			line = rest
			continue
		}
		var value string
		value, line = logfmtValue(rest)
		if _, twice := fields[key]; !twice {
			fields[key] = value
		}
	}
	return fields
}

func logfmtValue(s string) (value, rest string) {
	if quoted, err := strconv.QuotedPrefix(s); err == nil && s[0] == '"' {
		value, _ = strconv.Unquote(quoted)
		return value, s[len(quoted):]
	}
	value, rest, _ = strings.Cut(s, " ")
	return value, rest
}
