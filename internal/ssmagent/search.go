package ssmagent

import (
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Sighting is what the logs have of one of the Failures.
type Sighting struct {
	Row         int // in Failures
	Count       int
	First, Last time.Time
	Line        string // the last one, on one line, cut, without secrets
	File        string // and the file that it is in
	Over        time.Time
}

// Searched is one file that was searched.
type Searched struct {
	File  string
	Bytes int
	Whole bool  // all of it was read
	Err   error // why it was not
}

// worth are the messages that can be one of the Failures: what the agent itself calls a warning or worse, and the few that
// it does not. To hold every line to every pattern would take seconds.
var worth = regexp.MustCompile(`^([-0-9]+ [0-9:.]+ )?(ERROR|CRITICAL|WARN)\b|hibernate|hardware ID|panic`)

// SearchLogs looks for all that is known in the agent's logs and what they were rolled over to, the newest most bytes of
// each. Over is when the service next accepted the identity (see Failure.Lasts). What cannot be read is told in Searched.
func SearchLogs(r host.Reader, most int64) ([]Sighting, []Searched) {
	var searched []Searched
	var all []foundRecord
	for _, log := range []string{LogPath, ErrorLogPath} {
		files, err := host.LogFiles(r.Files, log)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				searched = append(searched, Searched{File: log, Err: err})
			}
			continue
		}
		left := most
		for _, file := range files {
			if left <= 0 {
				break
			}
			data, whole, err := host.ReadEnd(r.Files, file, left)
			searched = append(searched, Searched{file, len(data), whole, err})
			if err != nil {
				continue
			}
			if left -= int64(len(data)); !whole {
				left = 0
			}
			all = append(all, recordsIn(string(data), file, r.Now())...)
		}
	}
	return sightings(all, r.Now()), searched
}

// SearchText is SearchLogs for what the agent says in its unit's journal, where its logs are not to be had.
func SearchText(text, file string, now time.Time) []Sighting {
	return sightings(recordsIn(text, file, now), now)
}

// foundRecord is a message and the file that it is in.
type foundRecord struct {
	record
	file string
}

func recordsIn(text, file string, now time.Time) (all []foundRecord) {
	for _, rec := range splitRecords(text, now.Location()) {
		if !rec.time.IsZero() {
			all = append(all, foundRecord{rec, file})
		}
	}
	return all
}

func sightings(all []foundRecord, now time.Time) []Sighting {
	slices.SortStableFunc(all, func(a, b foundRecord) int { return a.time.Compare(b.time) })
	seen := map[int]*Sighting{}
	repeated := map[int]time.Time{} // errors.log repeats the log's lines with the same time
	redactor := new(secret.Redactor)
	for _, rec := range all {
		if accepted.MatchString(rec.text) {
			for i, s := range seen {
				if s.Over.IsZero() && Failures[i].Lasts == 0 {
					s.Over = rec.time
				}
			}
			continue
		}
		if !worth.MatchString(rec.text) {
			continue
		}
		i := slices.IndexFunc(Failures, func(f Failure) bool { return f.Pattern.MatchString(rec.text) })
		if i < 0 || repeated[i].Equal(rec.time) && seen[i] != nil {
			continue
		}
		repeated[i] = rec.time
		s := seen[i]
		if s == nil || !s.Over.IsZero() {
			s = &Sighting{Row: i, First: rec.time}
			seen[i] = s
		}
		s.Count, s.Last, s.File, s.Line = s.Count+1, rec.time, rec.file, short(redactor.Clean(rec.text))
	}
	var list []Sighting
	for i, s := range seen {
		if lasts := Failures[i].Lasts; lasts > 0 && now.Sub(s.Last) > lasts {
			s.Over = s.Last.Add(lasts)
		}
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b Sighting) int { return a.Row - b.Row })
	return list
}

// Explained returns the failure's cause and remedy: its own, else those of its code.
func (f Failure) Explained() (cause, remedy string) { return f.explained() }
