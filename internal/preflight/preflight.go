package preflight

import "time"

// Status of a check.
type Status string

// Statuses.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Result is what a check found.
type Result struct {
	ID       string
	Title    string
	Status   Status
	Ignored  bool   // a failure that --ignore made a warning
	Detail   string // what was seen
	Remedy   string // what to type
	Docs     string // URL
	Evidence map[string]any
	Duration time.Duration
}
