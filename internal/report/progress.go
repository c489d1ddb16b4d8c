package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/engine"
)

// How often a reader without a terminal hears of something that goes on.
const patience = 10 * time.Second

// Screen is where progress goes, and how.
type Screen struct {
	To      io.Writer
	Live    Line // the line that changes; nil where there is no terminal
	Style   Style
	Quiet   bool // errors only, and those are not progress
	Verbose bool // plans, children and API calls too
	Now     func() time.Time
	Clean   func(string) string
}

// Line is the line at the bottom of a terminal that says what goes on just now.
type Line interface {
	Show(text string)  // in place of what was there
	Above(text string) // a finished line, over it
	Close()
}

// Progress tells people how a command goes: on a terminal with one line that changes, elsewhere with one plain line a
// step. It is safe for concurrent use.
type Progress struct {
	mu      sync.Mutex
	screen  Screen
	now     *current            // the step at work
	fetches map[string]*current // by step; those that go on
	order   []string            // of the fetches
	hushed  bool
}

// current is something that goes on.
type current struct {
	title, note string
	since       time.Time
	spoken      time.Time // when the reader last heard of it
	done, total int64
}

// NewProgress returns a Progress on screen.
func NewProgress(screen Screen) *Progress {
	return &Progress{screen: screen, fetches: map[string]*current{}}
}

// Begin says what the command does first, before any event can come.
func (p *Progress) Begin(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin(text)
	if p.screen.Live == nil {
		p.line("", text)
	}
	p.show()
}

// Tick lets time pass: the caller calls it about once a second.
func (p *Progress) Tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show()
	if p.screen.Live != nil || p.hushed {
		return
	}
	for _, c := range p.running() {
		if p.screen.Now().Sub(c.spoken) >= patience {
			p.line("", "still waiting for "+c.what()+elapsed(p.screen.Now().Sub(c.since))) // bytes are for terminals
			c.spoken = p.screen.Now()
		}
	}
}

// Close ends the changing line. Events that come later are printed plainly.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.fetches, p.order = nil, map[string]*current{}, nil
	if p.screen.Live != nil {
		p.screen.Live.Close()
		p.screen.Live = nil
	}
}

// Hush takes the changing line away while a question stands on the terminal, and brings it back.
func (p *Progress) Hush(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hushed = on; on && p.screen.Live != nil {
		p.screen.Live.Close()
	}
	p.show()
}

// Say prints a message that is no step's, also when quiet: the caller knows why.
func (p *Progress) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.screen.Live != nil {
		p.screen.Live.Above(p.screen.Clean(text))
		return
	}
	fmt.Fprintln(p.screen.To, p.screen.Clean(text))
}

// Event tells one event.
func (p *Progress) Event(e engine.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case engine.Fetching:
		p.fetches[e.Step] = &current{title: e.Title, since: e.Time, spoken: e.Time}
		p.order = append(p.order, e.Step)
	case engine.Progressed:
		if c := p.fetches[e.Step]; c != nil {
			c.done, c.total = e.Done, e.Total
		}
	case engine.Fetched:
		p.fetched(e)
	case engine.Started:
		p.begin(e.Title)
	case engine.Undoing:
		p.begin("undoing: " + e.Title)
	case engine.Noted:
		if p.now != nil {
			p.now.note = e.Text
		}
		if p.screen.Verbose {
			p.line("note", "  "+e.Text)
		}
	case engine.Advanced:
		if p.now != nil {
			p.now.note, p.now.spoken = e.Text, p.screen.Now()
		}
		if p.screen.Live == nil {
			p.line("", e.Title+": "+e.Text)
		}
	case engine.Planned:
		if p.screen.Verbose {
			p.step("planned", e)
		}
	case engine.Unchanged, engine.Kept:
		p.step(statusOf[e.Kind], e)
	case engine.Finished, engine.Failed, engine.Undone:
		p.step(statusOf[e.Kind], e)
		p.now = nil
	case engine.Warned:
		p.line("warn", "warning: "+e.Text)
	}
	p.show()
}

// statusOf are the words of the document's steps.
var statusOf = map[engine.EventKind]string{
	engine.Unchanged: "unchanged", engine.Finished: "done", engine.Failed: "failed",
	engine.Undone: "undone", engine.Kept: "kept",
}

func (p *Progress) begin(title string) {
	p.now = &current{title: title, since: p.screen.Now(), spoken: p.screen.Now()}
}

func (p *Progress) fetched(e engine.Event) {
	c := p.fetches[e.Step]
	delete(p.fetches, e.Step)
	for i, id := range p.order {
		if id == e.Step {
			p.order = append(p.order[:i:i], p.order[i+1:]...)
			break
		}
	}
	text := "downloaded and verified: " + e.Title
	if e.Err != nil {
		p.line("failed", fmt.Sprintf("download failed: %s: %s", e.Title, e.Err))
		return
	}
	took := e.Took
	if c != nil && took == 0 {
		took = e.Time.Sub(c.since)
	}
	if c != nil && c.done > 0 {
		text += " (" + Bytes(c.done) + ")"
	}
	p.line("done", text+elapsed(took))
}

// step is the one line of a step that has ended.
func (p *Progress) step(status string, e engine.Event) {
	text := e.Title + elapsed(e.Took)
	detail := e.Text
	if e.Err != nil {
		detail = e.Err.Error()
	}
	if detail != "" {
		text += ": " + detail
	}
	switch {
	case p.screen.Live == nil:
		text = fmt.Sprintf("%-9s %s", status, text)
	case status == "undone", status == "kept": // the symbols do not tell these from done and warnings
		text = status + ": " + text
	}
	p.line(status, text)
}

// line prints one finished line: with a symbol on a terminal, with the time elsewhere.
func (p *Progress) line(status, text string) {
	if p.screen.Quiet {
		return
	}
	text = strings.ReplaceAll(strings.TrimRight(p.screen.Clean(text), "\n"), "\n", "\n  ")
	if p.screen.Live == nil {
		fmt.Fprintf(p.screen.To, "%s %s\n", p.screen.Now().Format(time.TimeOnly), text)
		return
	}
	p.screen.Live.Above(p.screen.Style.mark(status) + " " + text)
}

// show redraws the changing line.
func (p *Progress) show() {
	if p.screen.Live == nil || p.screen.Quiet || p.hushed {
		return
	}
	var parts []string
	for _, c := range p.running() {
		parts = append(parts, c.words(p.screen.Now()))
	}
	p.screen.Live.Show(p.screen.Clean(strings.Join(parts, " | ")))
}

// running is all that goes on: the fetches in the order they began, else the step.
func (p *Progress) running() []*current {
	var all []*current
	for _, id := range p.order {
		all = append(all, p.fetches[id])
	}
	if len(all) == 0 && p.now != nil {
		all = append(all, p.now)
	}
	return all
}

// words says what goes on: title, note, bytes and rate, seconds.
func (c *current) what() string {
	if c.note == "" {
		return c.title
	}
	return c.title + ": " + c.note
}

func (c *current) words(now time.Time) string {
	text := c.what()
	took := now.Sub(c.since)
	if c.done > 0 {
		text += " " + Bytes(c.done)
		if c.total > 0 {
			text += fmt.Sprintf(" of %s (%d%%)", Bytes(c.total), c.done*100/c.total)
		}
		if seconds := took.Seconds(); seconds >= 1 {
			text += ", " + Bytes(int64(float64(c.done)/seconds)) + "/s"
		}
	}
	return text + elapsed(took)
}

// elapsed is how long something took, in brackets; nothing for less than a tenth of a second.
func elapsed(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return ""
	case d < 10*time.Second:
		return fmt.Sprintf(" (%.1f s)", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf(" (%d s)", int(d.Seconds()))
	}
	return fmt.Sprintf(" (%d min %02d s)", int(d.Minutes()), int(d.Seconds())%60)
}

// Bytes writes a number of bytes for people, in the decimal units that download pages use.
func Bytes(n int64) string {
	switch {
	case n >= 1_000_000_000:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d B", n)
}
