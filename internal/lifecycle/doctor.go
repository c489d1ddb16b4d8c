package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// DoctorRequest is what "anywhere doctor" was asked for.
type DoctorRequest struct {
	Remote  bool
	Offline bool   // no check may use the network
	Region  string // --region, when it was typed; must agree with the host's

	Fix         bool
	DryRun      bool // with Fix: show what would be done
	LockTimeout time.Duration
	// Confirm asks before the safe remedies are applied; nil is a yes that was given.
	Confirm func(ctx context.Context, steps []engine.StepReport) error

	Bundle string // absolute path of the support archive to be written; empty is none
	// NewFile makes that file, which must not exist, readable by its owner only.
	NewFile func(path string) (*os.File, error)
}

// DoctorResult is the "result" of doctor's document.
type DoctorResult struct {
	State    HealthState      `json:"state"`            // the answer of anywhere status
	Findings []DoctorFinding  `json:"findings"`         // what is wrong, the most probable cause first
	RuledOut []DoctorRuledOut `json:"ruledOut"`         // what was looked at and is well
	Unseen   []StatusUnseen   `json:"unseen"`           // what could not be looked at
	Limits   []DoctorLimit    `json:"limits"`           // with --remote: task definitions of the cluster that cannot run here
	Fixes    []DoctorFix      `json:"fixes"`            // what --fix can do, or has done
	Bundle   *DoctorBundle    `json:"bundle,omitempty"` // with --bundle
	Remote   *StatusRemote    `json:"remote,omitempty"` // with --remote: what AWS says of this host
}

// FindingKind says how a finding is known, and so how much it counts.
type FindingKind string

// Kinds of findings, in the order of their weight.
const (
	FindingNow     FindingKind = "now"     // it is so now, and contradicts a healthy instance
	FindingCause   FindingKind = "cause"   // it explains why the host is not healthy
	FindingSymptom FindingKind = "symptom" // it says that something does not work, and not why
	FindingCheck   FindingKind = "check"   // a check of preflight fails
	FindingWarning FindingKind = "warning" // worth knowing; nothing fails for it
	FindingHistory FindingKind = "history" // it was so, and is over
)

// FindingKinds are all of them, the weightiest first.
var FindingKinds = []FindingKind{FindingNow, FindingCause, FindingSymptom, FindingCheck, FindingWarning, FindingHistory}

// counts reports whether a finding of the kind is something wrong.
func (k FindingKind) counts() bool { return k != FindingWarning && k != FindingHistory }

// DoctorFinding is one thing that is, or was, wrong.
type DoctorFinding struct {
	Kind     FindingKind      `json:"kind"`     // how it is known, and so how much it counts
	Code     failure.Code     `json:"code"`     // stable code of the cause; docs/errors.md has them all
	Title    string           `json:"title"`    // what is wrong
	Cause    string           `json:"cause"`    // what that means
	Evidence []DoctorEvidence `json:"evidence"` // what shows it, the most telling first
	Since    string           `json:"since"`    // since when, as far as that was seen
	Remedy   string           `json:"remedy"`   // what to type
	Fix      string           `json:"fix"`      // the safe remedy that --fix applies; empty when there is none
}

// newest is the time of the finding's newest evidence, as the document has it.
func (f DoctorFinding) newest() (last string) {
	for _, e := range f.Evidence {
		last = max(last, e.Last)
	}
	return last
}

// DoctorEvidence is what shows a finding.
type DoctorEvidence struct {
	Source string `json:"source"` // status, check, log, journal, file or aws
	File   string `json:"file"`   // the file, the journal's unit, the rule or the check
	Line   string `json:"line"`   // what stands there, without secrets
	First  string `json:"first"`  // when it was first seen
	Last   string `json:"last"`   // and last
	Count  int    `json:"count"`  // how often
}

// DoctorRuledOut is something that was looked at and is well.
type DoctorRuledOut struct {
	ID     string `json:"id"`     // of the rule, the check, or what was looked at
	Title  string `json:"title"`  // what was asked
	Detail string `json:"detail"` // what was seen
}

// How much of the logs is searched: the newest megabytes of each log and what it was rolled over to.
const (
	searchECS = 8 << 20
	searchSSM = 2 << 20
)

// Doctor looks for what is wrong with the host, says what most probably is the cause, and, when asked to, applies the
// remedies that are safe. With an error the report still has what was seen.
func Doctor(ctx context.Context, d Deps, req DoctorRequest) (Report, error) {
	out := &output{}
	if req.Bundle != "" {
		var err error
		if out, err = req.openBundle(); err != nil {
			return (&examination{}).report(), err
		}
		defer out.discard()
	}
	x, err := examine(ctx, d, req)
	report := x.report()
	if err == nil && req.Fix {
		err = x.fix(ctx, &report)
	}
	if req.Bundle == "" || x.sight == nil || ctx.Err() != nil {
		return report, err
	}
	bundle, failed := x.bundle(ctx, out, report) // also of a host that AWS could not be asked about, or that was not mended
	if failed != nil {
		return report, cmp.Or(err, failed)
	}
	result := report.Result.(DoctorResult)
	result.Bundle = bundle
	report.Result = result
	return report, err
}

// examination is one look at everything.
type examination struct {
	deps    Deps
	req     DoctorRequest
	sight   *sight
	status  StatusResult
	checks  []preflight.Result
	logs    logs
	journal journal
	fixes   []engine.StepReport // of those that are due
	unfixed error               // why that could not be found out
	limits  []DoctorLimit
	unseen  []StatusUnseen // of AWS, beside the status's
}

// logs are what the agents' logs have.
type logs struct {
	ecs         []ecsagent.Sighting
	ecsSearched []ecsagent.Searched
	ssm         []ssmagent.Sighting
	ssmSearched []ssmagent.Searched
}

// fallBack takes from the journal what the agents' logs would have said, where those cannot be read or are gone: both agents'
// services write there too.
func (l *logs) fallBack(j journal, ecsUnit, ssmUnit string, now time.Time) {
	if !slices.ContainsFunc(l.ecsSearched, func(s ecsagent.Searched) bool { return s.Err == nil && s.Bytes > 0 }) {
		l.ecs = ecsagent.SearchText(j.messages(ecsUnit), "journal of "+ecsUnit)
	}
	if !slices.ContainsFunc(l.ssmSearched, func(s ssmagent.Searched) bool { return s.Err == nil && s.Bytes > 0 }) {
		l.ssm = ssmagent.SearchText(j.messages(ssmUnit), "journal of "+ssmUnit, now)
	}
}

// examine looks at everything at once. Nothing is changed, and what cannot be seen keeps nothing else from being seen.
func examine(ctx context.Context, d Deps, req DoctorRequest) (*examination, error) {
	x := &examination{deps: d, req: req}
	if own := hostRegion(d.Host.Reader); req.Region != "" && own != "" && req.Region != own {
		return x, failure.New(failure.Usage, "--region is %s and this host is in %s", req.Region, own).WithRemedy("leave --region out")
	}
	subject, err := PreflightRequest{Region: req.Region, Offline: req.Offline}.subject(d)
	if err != nil {
		return x, err
	}
	if !req.Remote {
		subject.Remote = nil
	}
	r := d.Host.Reader
	checks := look(ctx, func(ctx context.Context) ([]preflight.Result, error) {
		return preflight.Run(ctx, preflight.All(), subject, preflight.Options{Timeout: checkTime}), nil
	})
	ecs := look(ctx, func(context.Context) (l logs, err error) {
		l.ecs, l.ecsSearched = ecsagent.SearchLogs(r, searchECS)
		return l, nil
	})
	ssm := look(ctx, func(context.Context) (l logs, err error) {
		l.ssm, l.ssmSearched = ssmagent.SearchLogs(r, searchSSM)
		return l, nil
	})
	journals := look(ctx, func(ctx context.Context) (journal, error) { return readJournal(ctx, d, ecsUnitOf(r)), nil })
	x.sight = lookAt(ctx, d)
	for begun := time.Now(); x.sight.connecting() && time.Since(begun) < connectTime && ctx.Err() == nil; {
		select {
		case <-time.After(connectEvery):
		case <-ctx.Done():
		}
		x.sight = lookAt(ctx, d)
	}
	if req.Remote {
		err = x.askAWS(ctx)
	}
	x.checks = checks.take(ctx).value
	e, s := ecs.take(ctx).value, ssm.take(ctx).value
	x.logs = logs{e.ecs, e.ecsSearched, s.ssm, s.ssmSearched}
	x.journal = journals.take(ctx).value
	x.logs.fallBack(x.journal, x.sight.ecsName, ssmagent.UnitOf(r), x.sight.now)
	x.status = x.sight.result()
	x.fixes, x.unfixed = x.due(ctx)
	if ctx.Err() != nil {
		return x, context.Cause(ctx)
	}
	return x, err
}

// askAWS joins what AWS says of the host, and of what is to run on it.
func (x *examination) askAWS(ctx context.Context) error {
	if err := x.sight.askAWS(ctx, x.deps, StatusRequest{Remote: true, Region: x.req.Region}); err != nil {
		return err
	}
	if x.sight.remote == nil || slices.ContainsFunc(x.sight.remote.Drift, func(d StatusDrift) bool { return d.Kind == DriftWrongAccount }) {
		return nil
	}
	return x.seeLimits(ctx)
}

// report is what the examination comes to.
func (x *examination) report() Report {
	result := DoctorResult{
		State: StateUnknown, Findings: []DoctorFinding{}, RuledOut: []DoctorRuledOut{}, Unseen: []StatusUnseen{}, Limits: []DoctorLimit{},
		Fixes: []DoctorFix{},
	}
	if x.sight == nil {
		return Report{Result: result}
	}
	result.State, result.Remote = x.status.State, x.status.Remote
	result.Findings = x.findings()
	result.RuledOut = x.ruledOut(result.Findings)
	result.Unseen = x.allUnseen()
	result.Limits = append(result.Limits, x.limits...)
	result.Fixes = append(result.Fixes, x.fixList()...)
	report := Report{Result: result, Checks: x.checks, Message: doctorSentence(result)}
	report.Warnings = append(x.sight.ownWarnings(), x.sight.unseenWarnings()...)
	for _, u := range x.unseen {
		report.Warnings = append(report.Warnings, fmt.Sprintf("%s was not seen: %s", u.Part, u.Why))
	}
	if result.ill() {
		report.Exit = failure.ExitUnhealthy
	}
	return report
}

// ill reports whether anything is wrong.
func (r DoctorResult) ill() bool {
	return r.State != Healthy || slices.ContainsFunc(r.Findings, func(f DoctorFinding) bool { return f.Kind.counts() })
}

// doctorSentence is the result in one line.
func doctorSentence(r DoctorResult) string {
	warnings := 0
	for _, f := range r.Findings {
		if f.Kind == FindingWarning {
			warnings++
		}
	}
	switch {
	case !r.ill() && warnings == 0:
		return "nothing wrong was found"
	case !r.ill() && warnings == 1:
		return "nothing wrong was found; there is 1 warning"
	case !r.ill():
		return fmt.Sprintf("nothing wrong was found; there are %d warnings", warnings)
	case len(r.Findings) == 0 || !r.Findings[0].Kind.counts():
		return "the host's state is " + strings.ReplaceAll(string(r.State), "_", " ")
	}
	return r.Findings[0].Title
}

// allUnseen is what could not be looked at, each thing once.
func (x *examination) allUnseen() []StatusUnseen {
	all := slices.Clone(x.status.Unseen)
	add := func(u StatusUnseen) {
		if !slices.ContainsFunc(all, func(other StatusUnseen) bool { return other.Part == u.Part }) {
			all = append(all, u)
		}
	}
	for _, c := range x.checks {
		switch {
		case c.Status != preflight.Skip:
		case c.Detail == "needs root":
			add(StatusUnseen{Part: "the check " + c.ID, Why: c.Detail, NeedsRoot: true})
		case strings.Contains(c.Detail, "--offline"):
			add(StatusUnseen{Part: "the checks of the network", Why: "--offline was given"})
		}
	}
	for _, s := range x.logs.ecsSearched {
		if s.Err != nil {
			add(StatusUnseen{Part: s.File, Why: why(s.Err), NeedsRoot: denied(s.Err)})
		}
	}
	for _, s := range x.logs.ssmSearched {
		if s.Err != nil {
			add(StatusUnseen{Part: s.File, Why: why(s.Err), NeedsRoot: denied(s.Err)})
		}
	}
	if x.journal.unseen != nil {
		add(*x.journal.unseen)
	}
	if x.unfixed != nil && !failure.Is(x.unfixed, failure.NotRoot) {
		add(StatusUnseen{Part: "what --fix could do", Why: why(x.unfixed), NeedsRoot: denied(x.unfixed)})
	}
	for _, u := range x.unseen {
		add(u)
	}
	return all
}

func denied(err error) bool {
	return seen[struct{}]{err: err}.denied() || failure.Is(err, failure.NotRoot)
}

// ruledOut is what was looked at and is well: the rules that hold, the checks that pass, and logs without a known failure.
func (x *examination) ruledOut(findings []DoctorFinding) []DoctorRuledOut {
	out := []DoctorRuledOut{}
	if x.status.State != Unregistered {
		for _, rule := range Rules {
			if rule.check == nil || slices.ContainsFunc(x.status.Reasons, func(r StatusReason) bool { return r.Rule == rule.ID }) {
				continue
			}
			if broken, open := rule.check(x.sight); broken == nil && open == nil && x.asked(rule.ID) {
				out = append(out, DoctorRuledOut{rule.ID, rule.Words, "it holds"})
			}
		}
	}
	for _, c := range x.checks {
		if c.Status == preflight.Pass {
			out = append(out, DoctorRuledOut{c.ID, c.Title, c.Detail})
		}
	}
	for _, v := range []struct {
		id, title, version string
		bad                func(string) (string, bool)
	}{
		{"ecs.version", "Known-bad version of the ECS agent", x.status.ECSAgent.Installed, ecsagent.KnownBad},
		{"ssm.version", "Known-bad version of the SSM agent", x.status.SSMAgent.Installed, ssmagent.KnownBad},
	} {
		if _, bad := v.bad(v.version); v.version != "" && !bad {
			out = append(out, DoctorRuledOut{v.id, v.title, v.version + " is not known to be bad"})
		}
	}
	inLogs := func(source string) bool {
		return slices.ContainsFunc(findings, func(f DoctorFinding) bool {
			return f.Kind != FindingHistory && slices.ContainsFunc(f.Evidence, func(e DoctorEvidence) bool { return e.Source == source })
		})
	}
	if n := x.logs.size(); n > 0 && !inLogs("log") {
		out = append(out, DoctorRuledOut{"logs", "Known failures in the agents' logs",
			fmt.Sprintf("none that is not over, of %d that are known, in the newest %d KiB", len(ecsagent.Failures)+len(ssmagent.Failures), n>>10)})
	}
	if x.journal.unseen == nil && x.journal.lines > 0 && !inLogs("journal") {
		out = append(out, DoctorRuledOut{"journal", "Known failures in the journal of Docker, the agents and the kernel",
			fmt.Sprintf("none that is not over, of %d that are known, in its newest %d lines", len(journalFailures), x.journal.lines)})
	}
	return out
}

// asked reports whether a rule that holds was asked of anything: a host without an instance breaks no rule about it.
func (x *examination) asked(rule string) bool {
	switch rule {
	case "ecs.instance", "ecs.connection":
		return x.sight.answers()
	case "credentials":
		return x.sight.node.value.ready
	case "ecs.loop":
		return x.sight.life.err == nil
	}
	return true
}

// size is how many bytes of logs were searched.
func (l logs) size() (n int) {
	for _, s := range l.ecsSearched {
		n += s.Bytes
	}
	for _, s := range l.ssmSearched {
		n += s.Bytes
	}
	return n
}
