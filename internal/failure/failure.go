package failure

import (
	"context"
	"errors"
	"fmt"
)

// Exit statuses, the contract with scripts. They stand in every command's help.
const (
	ExitOK           = 0
	ExitUnclassified = 1
	ExitUsage        = 2
	ExitPreflight    = 3
	ExitRefusedByAWS = 4
	ExitNetwork      = 5
	ExitUnverified   = 6
	ExitRolledBack   = 7
	ExitKept         = 8
	ExitUnsupported  = 9
	ExitUnhealthy    = 10
	ExitPending      = 11
	ExitRefused      = 12
	ExitLocked       = 13
	ExitReboot       = 14
	ExitInterrupted  = 130
	ExitTerminated   = 143
)

// Code names a cause. Codes are stable: scripts match them, docs/errors.md lists them.
type Code string

// Error is a failure as its user sees it.
type Error struct {
	Code     Code
	Message  string // what was tried and what went wrong: lower case, no full stop
	Evidence string // the log line, API error or file that shows it; may be empty
	Remedy   string // what to type or do next; empty means the catalogue's
	Err      error  // the underlying error, for errors.Is and the log; its text is not shown unless Message holds it
}

// New returns an Error whose message is formatted like fmt.Sprintf.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an Error with the message followed by err's own text. A coded err keeps its code, evidence and remedy:
// the first room that knew the cause is right.
func Wrap(code Code, err error, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	var inner *Error
	if errors.As(err, &inner) {
		out := *inner
		out.Message, out.Err = message+": "+inner.Message, err
		return &out
	}
	return &Error{Code: code, Message: message + ": " + err.Error(), Err: err}
}

// WithEvidence returns e with the evidence set.
func (e *Error) WithEvidence(format string, args ...any) *Error {
	e.Evidence = fmt.Sprintf(format, args...)
	return e
}

// WithRemedy returns e with its own remedy in place of the catalogue's.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Entry is the catalogue's row for the error's code.
func (e *Error) Entry() Entry {
	if row, ok := Catalogue[e.Code]; ok {
		return row
	}
	return Catalogue[Internal]
}

// Advice is the error's own remedy, else the catalogue's.
func (e *Error) Advice() string {
	if e.Remedy != "" {
		return e.Remedy
	}
	return e.Entry().Remedy
}

// Of finds the coded error in err's chain. A context that ended is the interruption that ended it; anything else is
// Internal, with err's text.
func Of(err error) *Error {
	var coded *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return coded
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: Timeout, Message: err.Error(), Err: err}
	case errors.Is(err, context.Canceled):
		return &Error{Code: Interrupted, Message: err.Error(), Err: err}
	}
	return &Error{Code: Internal, Message: err.Error(), Err: err}
}

// Is reports whether err's chain holds an Error with this code.
func Is(err error, code Code) bool {
	var coded *Error
	return errors.As(err, &coded) && coded.Code == code
}
