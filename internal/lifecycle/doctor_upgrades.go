package lifecycle

import (
	"fmt"
	"path"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// fromUpgrades are the versions that were taken back on this host, with what the agents' logs said then. Nothing is wrong
// for it: the old version is at work. One that the host has by now, or has left behind, is over.
func (x *examination) fromUpgrades() []DoctorFinding {
	failed, err := readFailed(x.deps.Host.Reader)
	if err != nil { // without root, which doctor says once
		return nil
	}
	var all []DoctorFinding
	for _, f := range failed {
		installed, compare, flag := x.status.ECSAgent.Installed, ecsagent.CompareVersions, "--ecs-agent-version"
		if f.Package == ssmagent.Package {
			installed, compare, flag = x.status.SSMAgent.Installed, ssmagent.CompareVersions, "--ssm-agent-version"
		}
		finding := DoctorFinding{
			Kind: FindingWarning, Code: f.Code, Title: fmt.Sprintf("%s %s was taken back at %s: %s", f.Package, f.Version, f.At, f.Reason),
			Cause:    "an upgrade to this version did not do well on this host, and the version before it came back",
			Remedy:   fmt.Sprintf("less %s shows the agents' logs of then; to try it again: anywhere upgrade %s %s", f.Logs, flag, f.Version),
			Evidence: []DoctorEvidence{{Source: "file", File: failedPath, Line: f.Reason, First: f.At, Last: f.At, Count: 1}},
		}
		if _, known := failure.Catalogue[f.Code]; !known { // a newer program's
			finding.Code = failure.NotVerified
		}
		if installed != "" && compare(installed, f.Version) >= 0 {
			finding.Kind = FindingHistory
		}
		if said := x.keptWords(f); said != "" {
			finding.Evidence = append(finding.Evidence, DoctorEvidence{Source: "log", File: f.Logs, Line: said, First: f.At, Last: f.At, Count: 1})
		}
		all = append(all, finding)
	}
	return all
}

// keptWords is the most telling line of the logs that were kept of a version: the last one that is known, else the last one
// in which an agent complains.
func (x *examination) keptWords(f FailedUpgrade) string {
	if path.Dir(f.Logs) != failedLogs {
		return ""
	}
	text, err := x.deps.Host.Files.ReadFile(f.Logs)
	if err != nil {
		return ""
	}
	ecs, ssm := keptOf(string(text), ecsagent.LogPath)+"\n"+keptOf(string(text), ecsagent.InitLogPath), keptOf(string(text), ssmagent.LogPath)
	if f.Package == ssmagent.Package {
		if known := ssmagent.SearchText(ssm, f.Logs, x.sight.now); len(known) > 0 {
			return known[len(known)-1].Line
		}
		return complaint(ssm, " ERROR ", " CRITICAL ")
	}
	if known := ecsagent.SearchText(ecs, f.Logs); len(known) > 0 {
		return known[len(known)-1].Line
	}
	return complaint(ecs, "level=critical", "level=error")
}

// keptOf is the part of the kept logs that is of one file.
func keptOf(text, file string) string {
	_, part, _ := strings.Cut(text, keptBegin+file+keptEnd)
	part, _, _ = strings.Cut(part, keptBegin)
	return part
}

// complaintMost is how much of a line is quoted.
const complaintMost = 300

// complaint is the last line that has one of the marks.
func complaint(text string, marks ...string) (last string) {
	for line := range strings.Lines(text) {
		for _, mark := range marks {
			if strings.Contains(line, mark) {
				last = strings.TrimSpace(line)
			}
		}
	}
	if len(last) > complaintMost {
		last = strings.ToValidUTF8(last[:complaintMost], "") + "…"
	}
	return last
}
