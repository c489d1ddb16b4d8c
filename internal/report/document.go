package report

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Schema is the version of the document. Fields are only ever added to it.
const Schema = "anywhere/v1"

// Document is what -o json prints: one object for every command, also on failure. The names at the top are those that
// Ansible modules use. Arrays are never null; Error is there only when Failed.
type Document struct {
	Schema  string `json:"schema"`
	Command string `json:"command"` // without the program's name, like "operation show"
	Version string `json:"version"` // of the program
	RunID   string `json:"runId"`

	Changed  bool     `json:"changed"`
	Failed   bool     `json:"failed"`
	RC       int      `json:"rc"` // the exit status
	Msg      string   `json:"msg"`
	DryRun   bool     `json:"dryRun"`
	Warnings []string `json:"warnings"`

	StartedAt  string `json:"startedAt"` // RFC 3339, UTC
	DurationMs int64  `json:"durationMs"`
	LogFile    string `json:"logFile"` // empty when nothing was logged

	Steps  []Step `json:"steps"`
	Result any    `json:"result"` // the command's own; an object
	Error  *Error `json:"error,omitempty"`
}

// Step is one step of a command that changes things.
type Step struct {
	ID         string `json:"id"`
	Title      string `json:"title"`
	Status     string `json:"status"` // done, unchanged, planned, skipped, failed, undone or kept
	Detail     string `json:"detail"`
	DurationMs int64  `json:"durationMs"`
}

// Error is a failure for programs. Code is always the cause, also when the exit status says that it was undone or kept.
type Error struct {
	Code       string   `json:"code"`
	Message    string   `json:"message"`
	Evidence   string   `json:"evidence"`
	Remedy     string   `json:"remedy"`
	Retryable  bool     `json:"retryable"`
	RolledBack bool     `json:"rolledBack"`
	Kept       []string `json:"kept"`
}

// Failed reports whether an exit status is a failure: 10 (unhealthy), 11 (changes pending) and 14 (reboot needed) are
// answers.
func Failed(status int) bool {
	switch status {
	case failure.ExitOK, failure.ExitUnhealthy, failure.ExitPending, failure.ExitReboot:
		return false
	}
	return true
}

// Steps puts the engine's report into the document's form.
func Steps(reports []engine.StepReport) []Step {
	steps := make([]Step, 0, len(reports))
	for _, s := range reports {
		steps = append(steps, Step{s.ID, s.Title, s.Status, s.Detail, s.Duration.Milliseconds()})
	}
	return steps
}

// NewError puts a failure into the document's form.
func NewError(f *failure.Error, rolledBack bool, kept []string) *Error {
	return &Error{
		Code: string(f.Code), Message: f.Message, Evidence: f.Evidence, Remedy: f.Advice(),
		Retryable: f.Entry().Retryable, RolledBack: rolledBack, Kept: kept,
	}
}

// Timestamp is the form of times in the document.
func Timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Write writes the document and a line feed: every string through clean, nil arrays as empty ones. indent is for a
// reader with eyes; programs get one line, because SSM Run Command and log shippers cut long output.
func (d Document) Write(w io.Writer, clean func(string) string, indent bool) error {
	if d.Result == nil {
		d.Result = struct{}{}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(tidy(d, clean)); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}
