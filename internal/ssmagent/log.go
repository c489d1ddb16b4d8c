package ssmagent

import (
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Finding is a line of the agent's logs that is in the catalogue.
type Finding struct {
	Code     failure.Code
	Time     time.Time
	Line     string // with its continuation lines, joined by blanks
	File     string
	Cause    string
	Remedy   string
	Terminal bool // waiting longer cannot help
}

// ReadLog returns what the ends of the agent's logs (256 KiB each) say newer than since, oldest first. Missing logs are
// no error.
func ReadLog(r host.Reader, since time.Time) ([]Finding, error) { panic("not yet") }

// Recent is what Assess needs from the log: when the agent last got credentials, and the last refusals. A Finding
// without Time was not found.
type Recent struct {
	Success      time.Time
	Deregistered Finding // InvalidInstanceId
	Fingerprint  Finding // MachineFingerprintDoesNotMatch, or changed hardware
}

// ReadRecent reads Recent from the end of the agent's log.
func ReadRecent(r host.Reader) (Recent, error) { panic("not yet") }
