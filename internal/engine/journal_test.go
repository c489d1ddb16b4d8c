package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const journalFile = dataDir + "/journal/open.jsonl"

func TestATornLastLineWasNeverActedUpon(t *testing.T) {
	for name, tail := range map[string]string{
		"half a line":         `{"is":"record","seq":9,"st`,
		"a line without end":  `{"is":"commit","at":"2026-11-22T10:00:00Z","what":"never written whole"}`,
		"zeros":               strings.Repeat("\x00", 40),
		"zeros and a new end": strings.Repeat("\x00", 40) + `"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			before := m.tree()
			halfway(t, m, writing...)
			m.put(journalFile, m.get(journalFile)+tail)
			op, err := newEngine(m, "look").Open()
			if err != nil || op == nil || op.Committed || op.Changes != 5 {
				t.Fatalf("operation %+v, error %v", op, err)
			}
			// It goes on, without gluing its first line to the torn one, and can be read after that.
			halfway(t, m, join(writing, removing)...)
			if op, err = newEngine(m, "look").Open(); err != nil || op.LastStep != "remove" || !slices.Contains(op.Begun, "remove") || len(op.Done) > len(op.Begun) {
				t.Fatalf("operation %+v, error %v", op, err)
			}
			if out, err := newEngine(m, "two").Rollback(t.Context()); err != nil || !out.RolledBack {
				t.Errorf("outcome %+v, error %v", out, err)
			}
			equal(t, "the machine", m.tree(), before)
		})
	}
}

func TestAJournalThatCannotBeReadIsNotNone(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(string) string
		code  failure.Code
	}{
		"empty":            {func(string) string { return "" }, failure.JournalUnreadable},
		"header cut":       {func(s string) string { return s[:20] }, failure.JournalUnreadable},
		"header not ended": {func(s string) string { return s[:strings.Index(s, "\n")] }, failure.JournalUnreadable},
		"no header":        {func(s string) string { return s[strings.Index(s, "\n")+1:] }, failure.JournalUnreadable},
		"newer":            {func(s string) string { return strings.Replace(s, `Journal":1`, `Journal":2`, 1) }, failure.NewerRecord},
		"newer, with more in it": {func(s string) string { return strings.Replace(s, `Journal":1`, `Journal":7,"quantum":true`, 1) },
			failure.NewerRecord},
		"middle cut":     {func(s string) string { return strings.Replace(s, `"is":"done"`, `"is`, 1) }, failure.JournalUnreadable},
		"middle zeroed":  {func(s string) string { return strings.Replace(s, `"is":"done"`, "\x00\x00\x00", 1) }, failure.JournalUnreadable},
		"unknown line":   {func(s string) string { return strings.Replace(s, `"is":"done"`, `"is":"dine"`, 1) }, failure.JournalUnreadable},
		"unknown field":  {func(s string) string { return strings.Replace(s, `"is":"done"`, `"is":"done","x":1`, 1) }, failure.JournalUnreadable},
		"missing record": {func(s string) string { return strings.Replace(s, `"seq":1,`, `"seq":2,`, 1) }, failure.JournalUnreadable},
		"spoilt data":    {func(s string) string { return strings.Replace(s, `"data":{`, `"data":{"y":1,`, 1) }, failure.JournalUnreadable},
		"last line spoilt but ended": {func(s string) string { return s + "{\n" },
			failure.JournalUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			halfway(t, m, writing...)
			text := m.get(journalFile)
			m.put(journalFile, test.spoil(text))
			if m.get(journalFile) == text {
				t.Fatal("nothing was spoilt")
			}
			before := m.tree()
			e := newEngine(m, "two")
			op, err := e.Open()
			if op != nil {
				t.Errorf("operation %+v", op)
			}
			wantCode(t, err, test.code)
			_, err = e.Apply(t.Context(), planOf(first), Options{})
			wantCode(t, err, test.code)
			_, err = e.Rollback(t.Context())
			wantCode(t, err, test.code)
			equal(t, "the machine", m.tree(), before)

			// Moving it aside is always possible, and touches nothing else.
			at, err := e.Abandon()
			if err != nil || !m.exists(at) || m.exists(journalFile) {
				t.Errorf("moved to %s, error %v", at, err)
			}
			equal(t, "the machine", m.tree(), before)
			if out, err := e.Apply(t.Context(), planOf(first), Options{}); err != nil || out.Resumed {
				t.Errorf("outcome %+v, error %v", out, err)
			}
		})
	}
}

func TestAbandonMovesTheJournalAside(t *testing.T) {
	m := testMachine(t)
	halfway(t, m, writing...)
	before := m.tree()
	at, err := newEngine(m, "two").Abandon()
	if err != nil || !strings.HasSuffix(at, "Z-register-one.jsonl") || !strings.Contains(m.get(at), `"how":"abandoned"`) {
		t.Errorf("moved to %s, error %v", at, err)
	}
	equal(t, "the machine", m.tree(), before)
	if !m.exists(dataDir + "/backup/one") {
		t.Error("its backups are gone")
	}
}

// full is a disk that has no room for the journal any more, and writes half a line of it.
type full struct {
	host.Disk
	lines int // that still fit
}

func (f *full) Append(path string) (host.AppendFile, error) {
	file, err := f.Disk.Append(path)
	return fullFile{file, f}, err
}

func (f *full) room() bool { f.lines--; return f.lines >= 0 }

type fullFile struct {
	host.AppendFile
	disk *full
}

func (f fullFile) Write(p []byte) (int, error) {
	if f.disk.room() {
		return f.AppendFile.Write(p)
	}
	n, _ := f.AppendFile.Write(p[:len(p)/2])
	return n, &os.PathError{Op: "write", Path: journalFile, Err: syscall.ENOSPC}
}

// Nothing is changed that could not be written down first, and a full disk keeps nothing from being taken back.
func TestAFullDiskIsUndone(t *testing.T) {
	for lines := range 16 { // as many as the operation has before its end
		m := testMachine(t)
		before := m.tree()
		e := newEngine(m, "one")
		disk := &full{Disk: m.Dir, lines: lines}
		e.Host.Disk = disk
		out, err := e.Apply(t.Context(), planOf(writing...), Options{})
		wantCode(t, err, failure.DiskFull)
		if len(out.Kept) > 0 {
			t.Errorf("room for %d lines: outcome %+v", lines, out)
		}
		if got := m.tree(); len(got) != len(before) {
			t.Errorf("room for %d lines: %d files, want %d", lines, len(got), len(before))
		}
		// The next one, with room again, reads what was written.
		if out, err := newEngine(m, "two").Apply(t.Context(), planOf(join(writing, removing)...), Options{}); err != nil {
			t.Errorf("room for %d lines: outcome %+v, error %v", lines, out, err)
		}
	}
}

// A journal that is written is a journal that can be read, up to every point of it.
func TestTheReaderReadsWhatIsWritten(t *testing.T) {
	m := testMachine(t)
	e := newEngine(m, "one")
	lines := 0
	e.pulse = func(point string) {
		if !strings.HasPrefix(point, "after ") {
			return
		}
		lines++
		text, err := m.ReadFile(journalFile)
		must(err)
		s, whole, err := parse(text)
		if err != nil || whole != len(text) || s.Run != "one" {
			t.Errorf("after line %d: %v, %d of %d bytes", lines, err, whole, len(text))
		}
	}
	if _, err := e.Apply(t.Context(), planOf(join(plans["everything"], []Step{broken})...), Options{}); err == nil {
		t.Fatal("the broken step did not break")
	}
	if lines < 80 {
		t.Errorf("only %d lines", lines)
	}
}

func FuzzParse(f *testing.F) {
	m := newMachine(f.TempDir())
	furnish(m)
	e := newEngine(m, "one")
	_, err := e.Apply(context.Background(), planOf(join(removing, upgrading, []Step{broken})...), Options{NoRollback: true})
	if err == nil {
		f.Fatal("the broken step did not break")
	}
	text, err := m.ReadFile(journalFile)
	must(err)
	f.Add(text)
	f.Add(text[:len(text)-7])
	head := bytes.IndexByte(text, '\n') + 1
	f.Add(text[:head])
	for _, line := range []string{
		`{"is":"commit","at":"2026-11-22T10:00:00Z","what":"the slot"}`, `{"is":"end","at":"2026-11-22T10:00:00Z","how":"done"}`,
		`{"is":"resume","at":"2026-11-22T10:00:00Z","pins":{"a":"1"}}`, `{"is":"child","at":"2026-11-22T10:00:00Z","child":{"pid":1}}`,
	} {
		f.Add(append(text[:head:head], line+"\n"...))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, whole, err := parse(text)
		if err != nil {
			if s != nil || !failure.Is(err, failure.JournalUnreadable) && !failure.Is(err, failure.NewerRecord) {
				t.Fatalf("%+v with the error %v", s, err)
			}
			return
		}
		if whole > len(text) || text[whole-1] != '\n' {
			t.Fatalf("%d of %d bytes are whole", whole, len(text))
		}
		again, all, err := parse(text[:whole])
		if err != nil || all != whole || len(again.records) != len(s.records) || again.commit != s.commit {
			t.Fatalf("the whole part reads otherwise: %v, %d of %d bytes", err, all, whole)
		}
		s.left()
		s.units()
	})
}

func TestLock(t *testing.T) {
	const name = "/run/lock/anywhere.lock"
	m := newMachine(t.TempDir())
	release, err := Lock(t.Context(), m.host(), name, "first-run", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(t.Context(), m.host(), name, "second-run", 0)
	wantCode(t, err, failure.Locked)
	if message := failure.Of(err).Message; !strings.Contains(message, "first-run") || !strings.Contains(message, "pid ") {
		t.Errorf("the message is %q", message)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err = Lock(ctx, m.host(), name, "second-run", 1<<40); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	release()
	release, err = Lock(t.Context(), m.host(), name, "third-run", 0)
	if err != nil || !strings.Contains(m.get(name), "third-run") {
		t.Errorf("the lock says %q, error %v", m.get(name), err)
	}
	release()
}

func TestALockThatIsALinkIsRefused(t *testing.T) {
	m := newMachine(t.TempDir())
	m.put("/etc/precious", "precious")
	m.put("/run/lock/x", "")
	must(os.Symlink("../../etc/precious", m.Local("/run/lock/anywhere.lock")))
	_, err := Lock(t.Context(), m.host(), "/run/lock/anywhere.lock", "run", 0)
	wantCode(t, err, failure.ReadOnly)
	equal(t, "the file", m.get("/etc/precious"), "precious")
}
