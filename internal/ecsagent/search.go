package ecsagent

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
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

// SearchLogs looks for all that is known in the agent's and ecs-init's logs and what they were rolled over to, the newest
// most bytes of each. Over is when a later line showed that a failure is over. What cannot be read is told in Searched.
func SearchLogs(r host.Reader, most int64) ([]Sighting, []Searched) {
	var entries []entry
	var searched []Searched
	for _, log := range []string{LogPath, InitLogPath} {
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
			for _, e := range parseEntries(data) {
				e.file = file
				entries = append(entries, e)
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return a.time.Compare(b.time) })
	return sightings(entries), searched
}

// SearchText is SearchLogs for what ecs-init says in its unit's journal, where its logs are not to be had.
func SearchText(text, file string) []Sighting {
	entries := parseEntries([]byte(text))
	for i := range entries {
		entries[i].file = file
	}
	return sightings(entries)
}

func sightings(entries []entry) []Sighting {
	seen := map[int]*Sighting{}
	last := map[int]entry{}
	for _, e := range entries {
		for i, s := range seen {
			if s.Over.IsZero() && slices.ContainsFunc(Failures[i].Over, func(text string) bool { return strings.Contains(e.text, text) }) {
				s.Over = e.time
			}
		}
		i := recognise(e.text)
		if i < 0 {
			continue
		}
		s := seen[i]
		if s == nil || !s.Over.IsZero() { // an old one that was over says nothing of how long the new one lasts
			s = &Sighting{Row: i, First: e.time}
			seen[i] = s
		}
		s.Count, s.Last, s.File = s.Count+1, e.time, e.file
		last[i] = e
	}
	redactor := new(secret.Redactor)
	var all []Sighting
	for i, s := range seen {
		s.Line = evidence(redactor.Clean(last[i].line))
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Sighting) int { return a.Row - b.Row })
	return all
}
