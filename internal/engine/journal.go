package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// journalFormat is the version of the journal's format. It grows with every change after which an older program could
// misread a journal.
const journalFormat = 1

// header is the journal's first line. It is written whole, together with the file, so it can never be torn.
type header struct {
	Format  int               `json:"anywhereJournal"`
	Verb    string            `json:"verb"`
	Key     string            `json:"key"`
	Run     string            `json:"run"`
	Program string            `json:"program"`
	Pins    map[string]string `json:"pins"`
	Started time.Time         `json:"started"`
}

// entry is any further line. Which fields are used depends on Is.
type entry struct {
	Is   mark      `json:"is"`
	At   time.Time `json:"at"`
	Seq  int       `json:"seq,omitempty"`  // of a record, counted from 1
	Step string    `json:"step,omitempty"` // id

	Title   string            `json:"title,omitempty"`   // begin
	Kind    string            `json:"kind,omitempty"`    // record
	Data    json.RawMessage   `json:"data,omitempty"`    // record: the before-image
	Version string            `json:"version,omitempty"` // done, of a package: what is installed now
	Child   *host.Child       `json:"child,omitempty"`   // child
	What    string            `json:"what,omitempty"`    // commit: what cannot be taken back
	Kept    []string          `json:"kept,omitempty"`    // undone: what was left alone
	Run     string            `json:"run,omitempty"`     // resume: the run that goes on
	Program string            `json:"program,omitempty"` // resume: its version
	Pins    map[string]string `json:"pins,omitempty"`    // resume
	How     string            `json:"how,omitempty"`     // end: see the constants
}

// mark tells entries apart.
type mark string

const (
	markBegin  mark = "begin"  // a step's change begins
	markRecord mark = "record" // something is about to be changed; has its before-image
	markDone   mark = "done"   // and has been changed
	markVoid   mark = "void"   // and has not been, which is certain: it was refused
	markChild  mark = "child"  // a child process was started
	markStep   mark = "step"   // a step was observed OK after its change
	markCommit mark = "commit" // from here on only forward
	markResume mark = "resume" // another run goes forward; what was undone before it is in force again
	markUndo   mark = "undo"   // the operation is being undone
	markUndone mark = "undone" // a record was undone
	markEnd    mark = "end"    // the operation is over; only the journal's own clearing up may be left
)

// How an operation ended.
const (
	endDone      = "done"
	endUndone    = "undone"
	endKept      = "kept" // undone but for what somebody else had changed; the backups stay
	endAbandoned = "abandoned"
	endNothing   = "nothing" // it had changed nothing, and no journal of it is kept
)

// story is what a journal says.
type story struct {
	header
	records  []*record
	children []host.Child
	steps    []*begun // in the order in which they began
	undoing  bool     // the last run was taking the operation back
	commit   string   // what cannot be taken back; empty when everything can
	ended    string   // how
}

// record is one recorded change.
type record struct {
	seq     int
	step    string
	kind    string
	data    json.RawMessage
	change  change // data, for the undo table
	done    bool
	void    bool   // it never happened
	version string // of a package, after its installation
	undone  bool
	kept    []string
}

// begun is a step as the journal knows it.
type begun struct {
	id, title string
	done      bool
}

// parse reads a journal. whole is the length of the part that can be trusted: a last line that is not ended, or that
// holds the zeros which a power cut leaves in place of data, was never acted upon, for every line is on the disk before
// what it announces is done. Anything else that cannot be read is an error.
func parse(text []byte) (s *story, whole int, err error) {
	for number := 1; whole < len(text); number++ {
		line, _, ended := bytes.Cut(text[whole:], []byte{'\n'})
		last := !ended || whole+len(line)+1 == len(text)
		if number > 1 && last && (!ended || bytes.IndexByte(line, 0) >= 0) {
			return s, whole, nil
		}
		if number == 1 {
			s, err = parseHeader(line)
		} else {
			err = s.read(line)
		}
		if err != nil {
			return nil, 0, failure.Wrap(failure.JournalUnreadable, err, "line %d", number)
		}
		if !ended {
			return nil, 0, failure.New(failure.JournalUnreadable, "line 1: it is cut")
		}
		whole += len(line) + 1
	}
	if s == nil {
		return nil, 0, failure.New(failure.JournalUnreadable, "it is empty")
	}
	return s, whole, nil
}

func parseHeader(line []byte) (*story, error) {
	var format struct {
		Format int `json:"anywhereJournal"`
	}
	if err := json.Unmarshal(line, &format); err != nil {
		return nil, err
	}
	switch {
	case format.Format > journalFormat:
		return nil, failure.New(failure.NewerRecord,
			"it has format %d, and this program knows %d", format.Format, journalFormat)
	case format.Format < 1:
		return nil, failure.New(failure.JournalUnreadable, "it is not a journal's header")
	}
	s := &story{}
	if err := strict(line, &s.header); err != nil {
		return nil, err
	}
	if s.Verb == "" || !isName(s.Run) {
		return nil, failure.New(failure.JournalUnreadable, "the header names no operation")
	}
	if s.Pins == nil {
		s.Pins = map[string]string{}
	}
	return s, nil
}

func (s *story) read(line []byte) error {
	var e entry
	if err := strict(line, &e); err != nil {
		return err
	}
	return s.tell(e)
}

// tell takes in one entry, from the disk or just written.
func (s *story) tell(e entry) error {
	if s.ended != "" {
		return fmt.Errorf("a line %q after the end", e.Is)
	}
	switch e.Is {
	case markBegin:
		if s.step(e.Step) == nil {
			s.steps = append(s.steps, &begun{id: e.Step, title: e.Title})
		}
	case markStep:
		step := s.step(e.Step)
		if step == nil {
			return fmt.Errorf("step %q ends and never began", e.Step)
		}
		step.done = true
	case markRecord:
		if e.Seq != len(s.records)+1 {
			return fmt.Errorf("record %d comes after %d records", e.Seq, len(s.records))
		}
		if s.step(e.Step) == nil {
			return fmt.Errorf("a record of step %q, which never began", e.Step)
		}
		change, err := decode(e.Kind, e.Data)
		if err != nil {
			return fmt.Errorf("record %d (%s): %w", e.Seq, e.Kind, err)
		}
		s.records = append(s.records, &record{seq: e.Seq, step: e.Step, kind: e.Kind, data: e.Data, change: change})
	case markDone, markVoid, markUndone:
		if e.Seq < 1 || e.Seq > len(s.records) {
			return fmt.Errorf("%q of the unknown record %d", e.Is, e.Seq)
		}
		r := s.records[e.Seq-1]
		switch e.Is {
		case markDone:
			r.done, r.version = true, e.Version
		case markVoid:
			r.void = true
		default:
			r.undone, r.kept = true, e.Kept
		}
	case markChild:
		if e.Child == nil {
			return fmt.Errorf("a child line without a child")
		}
		last := len(s.children) - 1
		if last >= 0 && s.children[last].PID == 0 && slices.Equal(s.children[last].Argv, e.Child.Argv) {
			s.children = s.children[:last] // it was about to start, and has
		}
		s.children = append(s.children, *e.Child)
	case markCommit:
		if e.What == "" {
			return fmt.Errorf("a commit of nothing")
		}
		s.commit = e.What
	case markResume:
		maps.Copy(s.Pins, e.Pins)
		s.undoing = false
		for _, r := range s.records {
			r.undone, r.kept = false, nil
		}
	case markUndo:
		s.undoing = true
	case markEnd:
		if e.How == "" {
			return fmt.Errorf("an end without saying how")
		}
		s.ended = e.How
	default:
		return fmt.Errorf("an unknown line %q", e.Is)
	}
	return nil
}

func (s *story) step(id string) *begun {
	for _, step := range s.steps {
		if step.id == id {
			return step
		}
	}
	return nil
}

// changes is the number of records that stand for a change, and not only for a precaution.
func (s *story) changes() int {
	n := 0
	for _, r := range s.records {
		switch {
		case r.void, r.kind == kindClaim, r.kind == kindSnapshot, r.kind == kindBackup:
		default:
			n++
		}
	}
	return n
}

// left lists, for a reader, what the operation has done and leaves so.
func (s *story) left() []string {
	var kept []string
	if s.commit != "" {
		kept = append(kept, s.commit)
	}
	for _, step := range s.steps {
		switch {
		case step.title == s.commit:
		case step.done:
			kept = append(kept, step.title)
		case s.touched(step.id):
			kept = append(kept, step.title+" (begun)")
		}
	}
	return kept
}

// touched reports whether a step has recorded anything.
func (s *story) touched(step string) bool {
	for _, r := range s.records {
		if r.step == step && !r.void {
			return true
		}
	}
	return false
}

// strict decodes one JSON value with no unknown field and nothing behind it.
func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the value")
	}
	return nil
}

// isName reports whether s can be part of a file's name.
func isName(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' {
		return false
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		default:
			return false
		}
	}
	return true
}
