package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// fromUpgrades are the versions that upgrades have taken back on this host, with what the logs kept of then say of them. They
// are over, and tell why the next upgrade leaves a version out.
func (x *examination) fromUpgrades() (all []DoctorFinding) {
	for _, f := range x.taken {
		option := "--ecs-agent-version "
		if f.Package == ssmagent.Package {
			option = "--ssm-agent-version "
		}
		version, _, _ := strings.Cut(f.Version, "-") // without the packager's number
		all = append(all, DoctorFinding{
			Kind: FindingHistory, Code: f.Code, Since: f.At,
			Title: fmt.Sprintf("an upgrade took %s %s back: %s", f.Package, f.Version, f.Reason),
			Remedy: fmt.Sprintf("it is not tried again unless it is named: anywhere upgrade %s%s; the logs of then are in %s",
				option, version, f.Logs),
			Evidence: append([]DoctorEvidence{{Source: "file", File: failedPath, Line: f.Reason, First: f.At, Last: f.At, Count: 1}},
				x.keptLogs(f)...),
		})
	}
	return all
}

// keptLogs are the known failures in the ends of the agents' logs that were kept of a version that was taken back.
func (x *examination) keptLogs(f FailedUpgrade) (all []DoctorEvidence) {
	text, err := x.deps.Host.Files.ReadFile(f.Logs)
	if err != nil {
		return []DoctorEvidence{{Source: "file", File: f.Logs, Line: why(err), Count: 1}}
	}
	add := func(line string, first, last, over time.Time, count int) {
		if over.IsZero() {
			all = append(all, DoctorEvidence{"log", f.Logs, line, stamp(first), stamp(last), count})
		}
	}
	for _, part := range strings.Split(string(text), keptBegin) {
		file, words, ok := strings.Cut(part, keptEnd)
		switch {
		case !ok: // what stands before the first
		case file == ssmagent.LogPath:
			for _, s := range ssmagent.SearchText(words, f.Logs, x.sight.now) {
				add(s.Line, s.First, s.Last, s.Over, s.Count)
			}
		default:
			for _, s := range ecsagent.SearchText(words, f.Logs) {
				add(s.Line, s.First, s.Last, s.Over, s.Count)
			}
		}
	}
	return all
}
