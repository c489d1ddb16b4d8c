package lifecycle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// symptoms are the codes that say that something does not work, and not why.
var symptoms = []failure.Code{
	failure.ServiceFailed, failure.AgentCrashLoop, failure.ConnectTimeout, failure.NotVerified, failure.Unfinished, failure.Network,
	failure.NotRoot, failure.NoSystemd,
}

// broad are the codes that several causes share: two findings of one of them are not the same for it.
var broad = []failure.Code{
	failure.ServiceFailed, failure.AgentConfig, failure.Network, failure.AccessDenied, failure.RegistrationDenied, failure.PreflightFailed,
	failure.Internal, failure.AgentCrashLoop, failure.NotRoot, failure.RegisteredElsewere, failure.ReadOnly, failure.AWSUnavailable,
}

// explains says which causes bring others about: where both are found, the cause stands first, whoever found it.
var explains = map[failure.Code][]failure.Code{
	failure.DiskFull: {failure.DockerDown, failure.ServiceFailed, failure.AgentCrashLoop, failure.AgentConfig, failure.ConnectTimeout,
		failure.CredentialsExpired, failure.JournalUnreadable, failure.RecordUnreadable},
	failure.ReadOnly: {failure.DockerDown, failure.ServiceFailed, failure.AgentCrashLoop, failure.AgentConfig, failure.ConnectTimeout,
		failure.CredentialsExpired},
	failure.ClockSkew: {failure.CredentialsExpired, failure.CredentialsInvalid, failure.TLSUntrusted, failure.ConnectTimeout, failure.AgentCrashLoop},
	failure.NameUnresolved: {failure.Network, failure.CredentialsExpired, failure.ConnectTimeout, failure.AgentCrashLoop,
		failure.EndpointUnreachable},
	failure.EndpointUnreachable: {failure.Network, failure.CredentialsExpired, failure.ConnectTimeout, failure.AgentCrashLoop},
	failure.TLSUntrusted:        {failure.Network, failure.CredentialsExpired, failure.ConnectTimeout, failure.AgentCrashLoop, failure.EndpointUnreachable},
	failure.DockerAbsent:        {failure.ServiceFailed, failure.ConnectTimeout, failure.AgentCrashLoop, failure.DockerDown},
	failure.DockerVersion:       {failure.ServiceFailed, failure.ConnectTimeout, failure.AgentCrashLoop, failure.DockerDown},
	failure.DockerDown:          {failure.ServiceFailed, failure.ConnectTimeout, failure.AgentCrashLoop, failure.Network},
	failure.ToolMissing:         {failure.DockerDown, failure.ServiceFailed, failure.ConnectTimeout, failure.AgentCrashLoop},
	failure.PortTaken:           {failure.ConnectTimeout, failure.AgentCrashLoop},
	failure.ForeignProfile:      {failure.AccessDenied, failure.CredentialsInvalid, failure.ConnectTimeout, failure.RegistrationDenied},
	failure.NodeUnknown:         {failure.CredentialsExpired, failure.CredentialsInvalid},
	failure.FingerprintChanged:  {failure.CredentialsExpired, failure.CredentialsInvalid},
	failure.NoSystemd:           {failure.ServiceFailed},
}

// findings are what is wrong, ranked. The rule, which docs/doctor.md has in words:
//
//  1. What is so now and contradicts a healthy instance, in the order of the rules of status; then what AWS says.
//  2. What the logs, or a check, name as the cause, the newest first.
//  3. What only says that something does not run.
//  4. Checks that fail, warnings, and what is over.
//
// A cause that explains another finding stands before it (explains).
func (x *examination) findings() []DoctorFinding {
	var all []DoctorFinding
	for _, f := range slices.Concat(x.fromStatus(), x.fromHost(), x.fromLogs(), x.fromJournal(), x.fromChecks(), x.fromFixes(), x.fromUpgrades()) {
		all = merged(all, f)
	}
	for i := range all {
		all[i].finish()
		all[i].Remedy = ecsagent.Typed(x.sight.ecsName, ssmagent.Typed(x.sight.ssmUnitName(), all[i].Remedy))
	}
	slices.SortStableFunc(all, func(a, b DoctorFinding) int {
		return cmp.Or(cmp.Compare(slices.Index(FindingKinds, a.Kind), slices.Index(FindingKinds, b.Kind)), newestFirst(a, b))
	})
	return causesFirst(all)
}

// newestFirst orders findings of the logs; the others stand in the order in which they were found.
func newestFirst(a, b DoctorFinding) int {
	if a.Kind != FindingCause && a.Kind != FindingHistory {
		return 0
	}
	return strings.Compare(b.newest(), a.newest())
}

// causesFirst moves each finding that explains others before the first of those. One that is moved up is their cause.
func causesFirst(all []DoctorFinding) []DoctorFinding {
	for from := 1; from < len(all); from++ {
		f := all[from]
		if !f.Kind.counts() {
			break // what is over, or harmless, explains nothing
		}
		to := slices.IndexFunc(all[:from], func(other DoctorFinding) bool { return slices.Contains(explains[f.Code], other.Code) })
		if to < 0 {
			continue
		}
		if f.Kind == FindingCheck || f.Kind == FindingSymptom {
			f.Kind = FindingCause
		}
		all = slices.Insert(slices.Delete(all, from, from+1), to, f)
	}
	return all
}

// merged adds a finding, as further evidence of one that is the same where there is one.
func merged(all []DoctorFinding, f DoctorFinding) []DoctorFinding {
	for i := range all {
		if !same(all[i], f) {
			continue
		}
		for _, e := range f.Evidence {
			all[i].Evidence = withEvidence(all[i].Evidence, e)
		}
		all[i].Fix = cmp.Or(all[i].Fix, f.Fix)
		if slices.Index(FindingKinds, f.Kind) < slices.Index(FindingKinds, all[i].Kind) {
			all[i].Kind = f.Kind
		}
		return all
	}
	return append(all, f)
}

// withEvidence adds a piece of evidence. A line of a log takes the place of the same line as status quotes it.
func withEvidence(all []DoctorEvidence, e DoctorEvidence) []DoctorEvidence {
	for i, other := range all {
		switch {
		case other == e:
			return all
		case e.Source == "log" && (other.Source == "status" || other.Source == "aws") && e.Line != "" && strings.HasSuffix(other.Line, e.Line):
			all[i] = e
			return slices.Compact(all)
		}
	}
	return append(all, e)
}

// same reports whether two findings are of one thing: the same code, unless many share it, or the same line of a log.
func same(a, b DoctorFinding) bool {
	if a.Kind == FindingHistory || b.Kind == FindingHistory || a.Code != b.Code || a.ofUpgrade() != b.ofUpgrade() {
		return false
	}
	if a.ofUpgrade() {
		return a.Title == b.Title
	}
	if !slices.Contains(broad, a.Code) || a.Title == b.Title {
		return true
	}
	return slices.ContainsFunc(a.Evidence, func(e DoctorEvidence) bool {
		return slices.ContainsFunc(b.Evidence, func(other DoctorEvidence) bool {
			return e.Line != "" && other.Line != "" && (strings.HasSuffix(e.Line, other.Line) || strings.HasSuffix(other.Line, e.Line))
		})
	})
}

// ofUpgrade reports whether the finding is of a version that was taken back: it has its code, and not its time.
func (f *DoctorFinding) ofUpgrade() bool {
	return len(f.Evidence) > 0 && f.Evidence[0].File == failedPath
}

// finish fills in what follows from the evidence.
func (f *DoctorFinding) finish() {
	row := failure.Catalogue[f.Code]
	f.Cause, f.Remedy = cmp.Or(f.Cause, row.Cause), cmp.Or(f.Remedy, row.Remedy)
	for _, e := range f.Evidence {
		if e.First != "" && (f.Since == "" || e.First < f.Since) {
			f.Since = e.First
		}
	}
	if f.Evidence == nil {
		f.Evidence = []DoctorEvidence{}
	}
}

// fromStatus are the reasons why status does not call the host healthy.
func (x *examination) fromStatus() []DoctorFinding {
	var all []DoctorFinding
	for _, r := range x.status.Reasons {
		f := DoctorFinding{Kind: FindingNow, Code: r.Code, Title: r.Message, Remedy: r.Remedy}
		if slices.Contains(symptoms, r.Code) {
			f.Kind = FindingSymptom
		}
		source := "status"
		if r.Rule == "aws" {
			source = "aws"
		}
		f.Evidence = []DoctorEvidence{{Source: source, File: r.Rule, Line: cmp.Or(r.Evidence, r.Message), Count: 1}}
		all = append(all, f)
	}
	if x.status.Remote != nil {
		for _, d := range x.status.Remote.Drift {
			if !d.Breaks { // those that break are reasons
				all = append(all, DoctorFinding{Kind: FindingWarning, Code: d.Code, Title: d.Message, Remedy: d.Remedy,
					Evidence: []DoctorEvidence{{Source: "aws", File: string(d.Kind), Line: d.Evidence, Count: 1}}})
			}
		}
	}
	return all
}

// loopbackRouting says whether the kernel lets containers reach the agent's credentials (facts: ecs-agent section 6.1).
const loopbackRouting = "/proc/sys/net/ipv4/conf/all/route_localnet"

// fromHost are contradictions that status and preflight do not look for, since nothing in the agents' logs tells of them.
func (x *examination) fromHost() []DoctorFinding {
	s := x.sight
	var all []DoctorFinding
	kind := FindingNow // what only a start fails over is a warning while the agent runs
	if s.answers() {
		kind = FindingWarning
	}
	if s.exec.err == nil && s.exec.value.Deadly() {
		all = append(all, DoctorFinding{
			Kind: kind, Code: failure.AgentConfig, Title: "ECS Exec's files are half there: the ECS agent dies of " +
				"that at each start, without a word in its log",
			Remedy: "anywhere register again completes them, and changes nothing else",
			Evidence: []DoctorEvidence{{Source: "file", File: ecsagent.ExecDir, Count: len(s.exec.value.Incomplete),
				Line: "incomplete: " + strings.Join(s.exec.value.Incomplete, ", ")}},
		})
	}
	for _, p := range []struct {
		what    host.Package
		program string
	}{{s.packages.value.ssm, ssmagent.Binary}, {s.packages.value.ecs, ecsagent.InitBinary}} {
		why := ""
		if p.what.Partial {
			why = fmt.Sprintf("the package %s is half installed: the package manager was interrupted in it", p.what.Name)
		} else if p.what.Installed && !p.what.Snap {
			if _, err := x.deps.Host.Files.Lstat(p.program); missing(err) {
				why = fmt.Sprintf("the package %s is installed, and its program %s is gone: what runs does not start again", p.what.Name, p.program)
			}
		}
		if why != "" {
			all = append(all, DoctorFinding{Kind: kind, Code: failure.PackagesBroken, Title: why,
				Remedy: "anywhere register installs it again, and keeps the registration",
				Evidence: []DoctorEvidence{{Source: "status", File: "packages", Count: 1,
					Line: strings.TrimSpace(fmt.Sprintf("%s %s, half-way %t", p.what.Name, p.what.Version, p.what.Partial))}}})
		}
	}
	if value := s.configured(ecsagent.KeyPropagateTagsFrom); value == "ec2_instance" {
		all = append(all, DoctorFinding{
			Kind: kind, Code: failure.AgentConfig, Title: ecsagent.KeyPropagateTagsFrom + "=" + value +
				" is for EC2 instances: an external one dies of it at each start, without a word in its log",
			Remedy:   "take the line out of " + ecsagent.ConfigPath + "; then systemctl restart " + s.ecsName,
			Evidence: []DoctorEvidence{{Source: "file", File: ecsagent.ConfigPath, Line: ecsagent.KeyPropagateTagsFrom + "=" + value, Count: 1}},
		})
	}
	for _, v := range []struct {
		what, version string
		bad           func(string) (string, bool)
	}{{"ECS agent", x.status.ECSAgent.Installed, ecsagent.KnownBad}, {"SSM agent", x.status.SSMAgent.Installed, ssmagent.KnownBad}} {
		if why, bad := v.bad(v.version); bad {
			all = append(all, DoctorFinding{Kind: FindingCheck, Code: failure.KnownBadVersion, Title: fmt.Sprintf("%s %s: %s", v.what, v.version, why),
				Remedy:   "anywhere register again replaces it",
				Evidence: []DoctorEvidence{{Source: "status", File: "packages", Line: v.version, Count: 1}}})
		}
	}
	for _, flaw := range ecsagent.FlawsOf(x.status.ECSAgent.Installed) {
		if flaw.Verdict != ecsagent.Refuse {
			all = append(all, DoctorFinding{Kind: FindingWarning, Code: failure.KnownBadVersion,
				Title:    fmt.Sprintf("ECS agent %s: %s", x.status.ECSAgent.Installed, flaw.Reason),
				Remedy:   "install a newer package amazon-ecs-init, then systemctl restart ecs; tasks run on",
				Evidence: []DoctorEvidence{{Source: "status", File: "packages", Line: flaw.Source, Count: 1}}})
		}
	}
	if info, err := x.deps.Host.Files.Stat(ssmagent.CredentialsPath); err == nil && info.Mode().Perm()&0o077 != 0 {
		all = append(all, DoctorFinding{Kind: FindingWarning, Code: failure.AgentConfig, Cause: "the SSM agent " +
			"keeps the mode of a file that is there",
			Title:    "the node's temporary keys can be read by others than root: " + ssmagent.CredentialsPath + " has mode " + info.Mode().Perm().String(),
			Remedy:   "chmod 0600 " + ssmagent.CredentialsPath,
			Evidence: []DoctorEvidence{{Source: "file", File: ssmagent.CredentialsPath, Line: info.Mode().String(), Count: 1}}})
	}
	if s.answers() && s.units.ecs.value.Running() && x.status.Tasks.Running > 0 {
		if text, err := x.deps.Host.Files.ReadFile(loopbackRouting); err == nil && strings.TrimSpace(string(text)) == "0" {
			all = append(all, DoctorFinding{Kind: FindingWarning, Code: failure.AgentConfig,
				Title: "tasks get no credentials of their roles: net.ipv4.conf.all.route_localnet is 0 again, " +
					"though ecs-init had set it",
				Remedy: "systemctl restart " + s.ecsName + " (tasks run on), and find what has reset it: " +
					"sysctl.d, a firewall's reload",
				Evidence: []DoctorEvidence{{Source: "file", File: loopbackRouting, Line: "0", Count: 1}}})
		}
	}
	if why := s.restartPending(); why != "" {
		all = append(all, DoctorFinding{Kind: FindingWarning, Code: failure.VersionManaged, Cause: "a newer agent " +
			"waits for a restart", Title: why,
			Remedy:   "systemctl restart " + s.ecsName + "; tasks run on",
			Evidence: []DoctorEvidence{{Source: "status", File: "packages", Line: why, Count: 1}}})
	}
	return all
}

// historyMost is how many failures that are over are told.
const historyMost = 10

// fromLogs are the known failures in the agents' logs. One that no later line shows to be over explains a host that is not
// healthy, and is a warning on one that is.
func (x *examination) fromLogs() []DoctorFinding {
	var all []DoctorFinding
	for _, s := range x.logs.ecs {
		row := ecsagent.Failures[s.Row]
		if passing(s.First, s.Over) {
			continue
		}
		over := !s.Over.IsZero() || len(row.Over) == 0 && x.stale(s.Last, x.sight.units.ecs.value.ActiveSince) ||
			row.Until != "" && ecsagent.Newer(x.status.ECSAgent.Installed, row.Until) // an upgrade has ended it
		all = append(all, x.fromLine(row.Code, row.Cause, row.Remedy, row.Fix, over, row.Symptom,
			DoctorEvidence{"log", s.File, s.Line, stamp(s.First), stamp(s.Last), s.Count}))
	}
	for _, s := range x.logs.ssm {
		row := ssmagent.Failures[s.Row]
		if passing(s.First, s.Over) || s.Last.Before(x.sight.node.value.identity.KeyCreated) { // of the time before it registered
			continue
		}
		cause, remedy := row.Explained()
		all = append(all, x.fromLine(row.Code, cause, remedy, row.Fix, !s.Over.IsZero(), false,
			DoctorEvidence{"log", s.File, s.Line, stamp(s.First), stamp(s.Last), s.Count}))
	}
	return newestHistory(all)
}

// passingTime is how long a failure must have lasted to be told when it is over: each start has some, and the agents close
// their connections by themselves now and then.
const passingTime = time.Minute

func passing(begun, over time.Time) bool { return !over.IsZero() && over.Sub(begun) < passingTime }

// newestHistory leaves out all but the newest of what is over.
func newestHistory(all []DoctorFinding) []DoctorFinding {
	slices.SortStableFunc(all, func(a, b DoctorFinding) int { return strings.Compare(b.newest(), a.newest()) })
	n := 0
	return slices.DeleteFunc(all, func(f DoctorFinding) bool {
		if f.Kind != FindingHistory {
			return false
		}
		n++
		return n > historyMost
	})
}

// staleAfter is how long a failure of which no success is known counts as present.
const staleAfter = 24 * time.Hour

// stale reports whether what no line can show to be over is: it is of an earlier start, or of long ago.
func (x *examination) stale(last, started time.Time) bool {
	return last.Before(started.Truncate(time.Second)) || x.sight.now.Sub(last) > staleAfter
}

func (x *examination) fromLine(
	code failure.Code, cause, remedy, fix string, over, symptom bool, e DoctorEvidence,
) DoctorFinding {
	f := DoctorFinding{Kind: FindingCause, Code: code, Title: cause, Remedy: remedy, Fix: fix, Evidence: []DoctorEvidence{e}}
	switch {
	case over:
		f.Kind, f.Fix = FindingHistory, ""
	case x.status.State == Healthy:
		f.Kind = FindingWarning
	case symptom:
		f.Kind = FindingSymptom
	}
	return f
}

// fromChecks are preflight's findings.
func (x *examination) fromChecks() []DoctorFinding {
	var all []DoctorFinding
	for _, c := range x.checks {
		f := DoctorFinding{Kind: FindingCheck, Code: cmp.Or(c.Code, failure.PreflightFailed), Title: c.Title + ": " + c.Detail, Remedy: c.Remedy,
			Evidence: []DoctorEvidence{{Source: "check", File: c.ID, Line: c.Detail, Count: 1}}}
		switch c.Status {
		case preflight.Fail:
		case preflight.Warn:
			if c.ID == "privileges" { // told by what could not be seen
				continue
			}
			f.Kind, f.Cause = FindingWarning, "a check of preflight warns"
		default:
			continue
		}
		f.Remedy = cmp.Or(f.Remedy, "anywhere preflight --only "+c.ID+" shows it again")
		all = append(all, f)
	}
	return all
}
