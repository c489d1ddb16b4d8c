package ssmagent

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Finding is a line of the agent's logs that is in the catalogue.
type Finding struct {
	Code     failure.Code
	Time     time.Time
	Line     string // with its continuation lines, joined by blanks; cut when very long
	File     string
	Cause    string
	Remedy   string
	Terminal bool // waiting longer cannot help
}

// tailSize is how much of a log's end is read. At the agent's pace of a few lines a minute that is days.
const tailSize = 256 << 10

// ReadLog returns what the ends of the agent's logs (256 KiB each) say newer than since, oldest first. Missing logs
// are no error; logs that may not be read are one with the code failure.NotRoot.
func ReadLog(r host.Reader, since time.Time) ([]Finding, error) {
	type mark struct {
		code failure.Code
		at   int64 // milliseconds: errors.log repeats the log's lines with the same time
	}
	seen := map[mark]bool{}
	var findings []Finding
	for _, path := range []string{LogPath, ErrorLogPath} {
		records, err := readRecords(r, path)
		if err != nil {
			return nil, err
		}
		for _, rec := range records {
			known, ok := explain(rec.text)
			at := mark{known.Code, rec.time.UnixMilli()}
			if !ok || !rec.time.After(since) || seen[at] {
				continue
			}
			seen[at] = true
			findings = append(findings, known.found(rec, path))
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int { return a.Time.Compare(b.Time) })
	return findings, nil
}

func (f Failure) found(rec record, path string) Finding {
	cause, remedy := f.explained()
	return Finding{
		Code: f.Code, Time: rec.time, Line: short(rec.text), File: path,
		Cause: cause, Remedy: remedy, Terminal: f.Terminal,
	}
}

// Recent is what Assess needs from the log: when the service last accepted the identity, and the last refusals. A
// Finding without Time was not found.
type Recent struct {
	Success      time.Time
	Deregistered Finding // InvalidInstanceId
	Fingerprint  Finding // MachineFingerprintDoesNotMatch, or changed hardware
}

// accepted is in the lines that show that the service took the identity for good.
var accepted = line(`Credentials ready|Next credential rotation will be in|` +
	`Successfully registered the instance with AWS SSM using Managed instance-id`)

var nodeID = regexp.MustCompile(`\bmi-[0-9a-f]{17}\b`)

// ReadRecent reads Recent from the end of the agent's log, passing over lines that name another node than instanceID.
func ReadRecent(r host.Reader, instanceID string) (Recent, error) {
	var recent Recent
	records, err := readRecords(r, LogPath)
	if err != nil {
		return recent, err
	}
	for _, rec := range records {
		if ids := nodeID.FindAllString(rec.text, -1); len(ids) > 0 && !slices.Contains(ids, instanceID) {
			continue
		}
		if accepted.MatchString(rec.text) {
			recent.Success = latest(recent.Success, rec.time)
			continue
		}
		known, ok := explain(rec.text)
		switch {
		case !ok:
		case known.Code == failure.NodeUnknown && !rec.time.Before(recent.Deregistered.Time):
			recent.Deregistered = known.found(rec, LogPath)
		case known.Code == failure.FingerprintChanged && !rec.time.Before(recent.Fingerprint.Time):
			recent.Fingerprint = known.found(rec, LogPath)
		}
	}
	return recent, nil
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// record is one message of the agent: a line with a time, and the lines without one that belong to it.
type record struct {
	time time.Time // zero for what comes before the first line with a time
	text string
}

// readRecords reads the end of a log. Its times are local times of the machine.
func readRecords(r host.Reader, path string) ([]record, error) {
	text, err := readTail(r.Files, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(err, "reading the SSM agent's log %s", path)
	}
	records := splitRecords(string(text), r.Now().Location())
	if len(records) > 0 && records[0].time.IsZero() {
		records = records[1:] // the rest of a message that began before the tail
	}
	return records, nil
}

// readTail reads the last tailSize bytes of a file that may be too large to read whole.
func readTail(files host.Files, path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if before := info.Size() - tailSize; before > 0 {
		if seeker, ok := f.(io.Seeker); ok {
			_, err = seeker.Seek(before, io.SeekStart)
		} else {
			_, err = io.CopyN(io.Discard, f, before)
		}
		if err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, tailSize+tailSize)) // it may grow while it is read, but not without end
}

// stampForm begins every message: local time to a tenth of a millisecond. Older agents leave the fraction out.
const stampForm = "2006-01-02 15:04:05"

var stamped = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})? `)

func splitRecords(text string, zone *time.Location) []record {
	var records []record
	for row := range strings.Lines(text) {
		row = strings.TrimRight(row, "\r\n")
		if prefix := stamped.FindString(row); prefix != "" {
			if at, err := time.ParseInLocation(stampForm, strings.TrimSpace(prefix), zone); err == nil {
				records = append(records, record{at, row})
				continue
			}
		}
		if row = strings.TrimSpace(row); row == "" {
			continue
		}
		if len(records) == 0 {
			records = append(records, record{})
		}
		last := &records[len(records)-1]
		last.text = strings.TrimSpace(last.text + " " + row)
	}
	return records
}

// short cuts a line to what a person will read, at a character's boundary.
func short(text string) string {
	const most = 600
	if len(text) <= most {
		return text
	}
	return string(bytes.ToValidUTF8([]byte(text[:most]), nil)) + "…"
}
