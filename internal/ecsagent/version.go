package ecsagent

import (
	"strings"

	debversion "github.com/knqyf263/go-deb-version"
)

// Verdict is how bad a version is.
type Verdict int

// Verdicts.
const (
	Warn          Verdict = iota // say so
	RefuseInstall                // do not install it; one that runs is only warned of
	Refuse                       // known bad: neither install it nor leave it
)

// Flaw is something known of a range of versions.
type Flaw struct {
	From    string // first version that has it; empty is from the beginning
	Through string // last one; empty when Before says it
	Before  string // first version without it
	Verdict Verdict
	Reason  string
	Source  string
}

// InstallFloor is the oldest agent that anywhere installs: the first that takes Systems Manager's credentials before an
// EC2 role (CHANGELOG.md of aws/amazon-ecs-agent, 1.100.0 of 2025-10-07).
const InstallFloor = "1.100.0"

// StateFloor is the first agent that keeps its state in StateDB. Older ones keep it in LegacyState, and find nothing of what a
// newer one has written (CHANGELOG.md of aws/amazon-ecs-agent, 1.44.0 of 2020-08-13).
const StateFloor = "1.44.0"

// Flaws are the versions with known flaws, worst first.
var Flaws = []Flaw{
	{Before: "1.52.0", Verdict: Refuse, Reason: "it does not know external instances",
		Source: "aws/amazon-ecs-agent CHANGELOG.md, 1.52.0 of 2021-04-28"},
	{From: "1.85.0", Through: "1.86.0", Verdict: Refuse, Reason: "a restart of Docker, as automatic updates do, leaves ecs stopped",
		Source: "aws/amazon-ecs-agent issue 4270; CHANGELOG.md, 1.86.1 of 2024-08-15"},
	{Before: InstallFloor, Verdict: RefuseInstall, Reason: "it looks for an EC2 role before it takes Systems Manager's credentials",
		Source: "aws/amazon-ecs-agent CHANGELOG.md, 1.100.0 of 2025-10-07; issue 3604"},
	{From: "1.78.0", Through: "1.78.0", Verdict: Warn, Reason: "its AppArmor profile was taken back in the next release",
		Source: "aws/amazon-ecs-agent CHANGELOG.md, 1.78.1 of 2023-10-26"},
	{Before: "1.61.0", Verdict: Warn, Reason: "it does not know cgroup v2",
		Source: "aws/amazon-ecs-agent CHANGELOG.md, 1.61.0 of 2022-04-05"},
	{Before: "1.80.0", Verdict: Warn, Reason: "under AppArmor with cgroup v2 its tasks fail (cgroupv2 create: unable to create v2 manager)",
		Source: "aws/amazon-ecs-agent issues 3227 and 3770; CHANGELOG.md, 1.80.0 of 2024-01-09"},
	{Before: "1.81.0", Verdict: Warn, Reason: "it does not work with Docker 25 and later",
		Source: "aws/amazon-ecs-agent issue 4074; CHANGELOG.md, 1.81.0 of 2024-01-31"},
	{Before: "1.98.0", Verdict: Warn, Reason: "it does not work on a network with IPv6 only",
		Source: "aws/amazon-ecs-agent CHANGELOG.md, 1.98.0 of 2025-08-15"},
}

// FlawsOf are the rows that version is in. version may have a package's revision (1.105.1-1).
func FlawsOf(version string) []Flaw {
	var out []Flaw
	for _, f := range Flaws {
		if f.covers(version) {
			out = append(out, f)
		}
	}
	return out
}

// KnownBad reports whether a version must be neither installed nor left on a host, and why.
func KnownBad(version string) (reason string, bad bool) { return worst(version, Refuse) }

// NotToInstall reports whether a version must not be installed, and why. Of one that is installed it is a warning.
func NotToInstall(version string) (reason string, refused bool) {
	return worst(version, RefuseInstall)
}

func worst(version string, least Verdict) (string, bool) {
	for _, f := range FlawsOf(version) {
		if f.Verdict >= least {
			return f.Reason + " (" + f.Source + ")", true
		}
	}
	return "", false
}

func (f Flaw) covers(version string) bool {
	v := upstream(version)
	switch {
	case v == "":
		return false
	case f.From != "" && CompareVersions(v, f.From) < 0:
		return false
	case f.Through != "":
		return CompareVersions(v, f.Through) <= 0
	}
	return CompareVersions(v, f.Before) < 0
}

// upstream is a package version without its revision.
func upstream(version string) string {
	v, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(version), "v"), "-")
	return v
}

// CompareVersions orders package versions like 1.105.1-1 as Debian does: negative when a is the older. A text that is no
// version is older than any version.
func CompareVersions(a, b string) int {
	x, errX := debversion.NewVersion(a)
	y, errY := debversion.NewVersion(b)
	switch {
	case errX != nil && errY != nil:
		return strings.Compare(a, b)
	case errX != nil:
		return -1
	case errY != nil:
		return 1
	}
	return x.Compare(y)
}
