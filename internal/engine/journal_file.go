package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const (
	openName     = "open.jsonl"
	keepJournals = 10
)

// journal is the open journal, with what it says so far. It is safe for concurrent use: a child's line may come from
// another goroutine than the step's.
type journal struct {
	*Engine
	mu    sync.Mutex
	story *story
	text  []byte // every whole line, to write it anew after an append that failed half-way
	file  host.AppendFile
	torn  bool // the file ends in something that is not a whole line
	// orphans are the children of earlier runs, which may still be at work.
	orphans []host.Child
}

func (e *Engine) journalPath() string { return path.Join(e.Dir, journalDir, openName) }

// load reads the open journal; it is nil when there is none. One that has ended counts as open: its clearing up was cut
// short.
func (e *Engine) load() (*journal, error) {
	text, err := e.Host.Files.ReadFile(e.journalPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, failure.Wrap(failure.NotRoot, err, "cannot read the journal %s", e.journalPath())
	case err != nil:
		return nil, failure.Wrap(failure.JournalUnreadable, err, "cannot read the journal %s", e.journalPath())
	}
	s, whole, err := parse(text)
	if err != nil {
		return nil, e.unreadable(text, err)
	}
	return &journal{Engine: e, story: s, text: text[:whole], torn: whole < len(text), orphans: s.children}, nil
}

// unreadable is the failure of a journal that was not understood. Where another version of the program began it, that one
// may understand it.
func (e *Engine) unreadable(text []byte, err error) error {
	f := failure.Of(failure.Wrap(failure.JournalUnreadable, err, "cannot read the journal %s", e.journalPath()))
	var head struct{ Program, Verb, Run string }
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	if json.Unmarshal(line, &head) != nil || head.Program == "" || head.Program == e.Version {
		return f
	}
	return f.WithEvidence("%s was begun by anywhere %s (run %s)", head.Verb, head.Program, head.Run).
		WithRemedy("finish or undo it with anywhere %s or a newer one; or anywhere operation abandon, "+
			"which moves the journal aside and leaves the host as it is", head.Program)
}

// create begins a journal. The file comes into being with its header, so that a cut header is never a journal of ours.
func (e *Engine) create(plan Plan) (*journal, error) {
	h := header{
		Format: journalFormat, Verb: plan.Verb, Key: plan.Key, Run: e.RunID, Program: e.Version,
		Pins: plan.Pins, Started: e.Host.Now().UTC(),
	}
	line, err := json.Marshal(h)
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "cannot write the journal's header")
	}
	text := append(line, '\n')
	story, _, err := parse(text) // what is written must be readable, and must not share the plan's pins
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "cannot write the journal's header")
	}
	j := &journal{Engine: e, story: story, text: text}
	if err := e.folders(e.Dir, path.Join(e.Dir, journalDir)); err != nil {
		return nil, err
	}
	e.at("before header")
	if err := e.Host.Disk.WriteFile(e.journalPath(), bytes.NewReader(text), 0o600, host.Owner{}); err != nil {
		return nil, failure.Wrap(writeCode(err), err, "cannot begin the journal %s", e.journalPath())
	}
	e.at("after header")
	return j, nil
}

// folders makes folders of the engine's own.
func (e *Engine) folders(dirs ...string) error {
	for _, dir := range dirs {
		if err := e.Host.Disk.Mkdir(dir, 0o700, host.Owner{}); err != nil {
			return failure.Wrap(writeCode(err), err, "cannot make the folder %s", dir)
		}
	}
	return nil
}

// backups is the folder of the operation's before-images. It belongs to the run that began the operation.
func (j *journal) backups() string { return path.Join(j.Dir, backupDir, j.story.Run) }

// write appends an entry and returns when it is on the disk.
func (j *journal) write(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(e)
}

func (j *journal) append(e entry) error {
	e.At = j.Host.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "cannot write a line of the journal")
	}
	line = append(line, '\n')
	j.at("before " + string(e.Is))
	if err := j.toDisk(line); err != nil {
		return failure.Wrap(writeCode(err), err, "cannot write the journal %s", j.journalPath())
	}
	j.at("after " + string(e.Is))
	j.text = append(j.text, line...)
	if err := j.story.tell(e); err != nil {
		return failure.Wrap(failure.Internal, err, "the journal contradicts itself")
	}
	return nil
}

// record writes a record with the next number.
func (j *journal) record(step, kind string, data any) (*record, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "cannot record a change of kind %s", kind)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := entry{Is: markRecord, Seq: j.nextSeq(), Step: step, Kind: kind, Data: raw}
	if err := j.append(e); err != nil {
		return nil, err
	}
	return j.story.records[len(j.story.records)-1], nil
}

// nextSeq is the number that the next record will have; only the goroutine of the step makes records.
func (j *journal) nextSeq() int { return len(j.story.records) + 1 }

func (j *journal) toDisk(line []byte) error {
	if j.torn {
		if err := j.mend(); err != nil {
			return err
		}
	}
	if j.file == nil {
		file, err := j.Host.Disk.Append(j.journalPath())
		if err != nil {
			return err
		}
		j.file = file
	}
	if _, err := j.file.Write(line); err != nil {
		j.torn = true
		return err
	}
	if err := j.file.Sync(); err != nil {
		j.torn = true // it may be there, and may be gone after a power cut
		return err
	}
	return nil
}

// mend writes the whole lines anew, so that nothing is ever appended to half a line.
func (j *journal) mend() error {
	j.shut()
	if err := j.Host.Disk.WriteFile(j.journalPath(), bytes.NewReader(j.text), 0o600, host.Owner{}); err != nil {
		return err
	}
	j.torn = false
	return nil
}

func (j *journal) shut() {
	if j.file != nil {
		_ = j.file.Close() // every line was synced on its own
		j.file = nil
	}
}

// end closes the journal of an operation that is over. What is left to do after the end mark is done again by the next
// run when this one is killed in it.
func (j *journal) end(how string) error {
	if err := j.write(entry{Is: markEnd, How: how}); err != nil {
		return err
	}
	return j.clear()
}

func (j *journal) clear() error {
	j.shut()
	if j.story.ended != endKept && j.story.ended != endAbandoned {
		if err := j.Host.Disk.RemoveAll(j.backups()); err != nil {
			return err
		}
		j.at("backups removed")
	}
	if j.story.ended == endNothing {
		return j.Host.Disk.Remove(j.journalPath())
	}
	if _, err := j.aside(j.story.Verb, j.story.Run); err != nil {
		return err
	}
	j.at("journal renamed")
	return j.prune()
}

// aside gives the open journal its last name, which sorts by time.
func (e *Engine) aside(verb, run string) (string, error) {
	verb = strings.ReplaceAll(verb, "-", "_") // so that the name's parts can be told apart
	name := e.Host.Now().UTC().Format("20060102T150405Z") + "-" + verb + "-" + run + ".jsonl"
	to := path.Join(e.Dir, journalDir, name)
	return to, e.Host.Disk.Rename(e.journalPath(), to)
}

// prune keeps the last journals, and the backups that belong to them.
func (e *Engine) prune() error {
	dir := path.Join(e.Dir, journalDir)
	found, err := e.Host.Files.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range found {
		if name := f.Name(); name != openName && name[0] != '.' && strings.HasSuffix(name, ".jsonl") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for ; len(names) > keepJournals; names = names[1:] {
		parts := strings.SplitN(strings.TrimSuffix(names[0], ".jsonl"), "-", 3) // time, verb, run
		if len(parts) == 3 && isName(parts[2]) {
			if err := e.Host.Disk.RemoveAll(path.Join(e.Dir, backupDir, parts[2])); err != nil {
				return err
			}
		}
		if err := e.Host.Disk.Remove(path.Join(dir, names[0])); err != nil {
			return err
		}
	}
	return nil
}

// at tells the kill tests where we are.
func (e *Engine) at(point string) {
	if e.pulse != nil {
		e.pulse(point)
	}
}

// writeCode classifies an error of writing.
func writeCode(err error) failure.Code {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return failure.DiskFull
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return failure.ReadOnly
	}
	return failure.Internal
}

// unwritten is the error of a change to the disk. A coded one is the host's, which names the path and what was tried.
func unwritten(err error, format string, args ...any) error {
	if coded := (*failure.Error)(nil); errors.As(err, &coded) {
		return err
	}
	return failure.Wrap(writeCode(err), err, format, args...)
}
