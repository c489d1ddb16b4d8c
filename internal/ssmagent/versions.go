package ssmagent

import (
	"fmt"
	"strconv"
	"strings"
)

// lastTooOld is the last version whose agents do not write RuntimePath, by which anywhere tells whether the
// credentials are fresh; they also lack the choice of identity (before 3.0.1295). Source: the agent's
// RELEASENOTES.md, read 2026-11-22.
const lastTooOld = "3.1.282.0"

// badVersions are agents that must not be registered with.
var badVersions = []struct{ version, reason, source string }{
	{
		"3.2.183.0", "it can lose the registration from its vault's manifest; 3.2.286.0 has the correction",
		"https://github.com/aws/amazon-ssm-agent/issues/484",
	},
}

// KnownBad reports whether an agent of this version must be replaced before it registers, and why. A version that is
// not four numbers is not known to be bad.
func KnownBad(version string) (reason string, bad bool) {
	if _, ok := parseVersion(version); !ok {
		return "", false
	}
	if CompareVersions(version, lastTooOld) <= 0 {
		return fmt.Sprintf("agents up to %s do not tell where their credentials are and when they expire", lastTooOld), true
	}
	for _, row := range badVersions {
		if CompareVersions(version, row.version) == 0 {
			return fmt.Sprintf("%s (%s)", row.reason, row.source), true
		}
	}
	return "", false
}

// CompareVersions compares two versions of the agent, which have four parts: -1 when a is older than b, 0 when they
// are equal, 1 when it is newer. A package's revision ("-1") does not count; what is not a version is older than any.
func CompareVersions(a, b string) int {
	left, leftOK := parseVersion(a)
	right, rightOK := parseVersion(b)
	switch {
	case leftOK != rightOK && rightOK:
		return -1
	case leftOK != rightOK:
		return 1
	}
	for n := range left {
		switch {
		case left[n] < right[n]:
			return -1
		case left[n] > right[n]:
			return 1
		}
	}
	return 0
}

// parseVersion reads a.b.c.d with an optional revision behind a dash.
func parseVersion(text string) (parts [4]uint64, ok bool) {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "-")
	fields := strings.Split(text, ".")
	if len(fields) != len(parts) {
		return parts, false
	}
	for n, field := range fields {
		value, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			return [4]uint64{}, false
		}
		parts[n] = value
	}
	return parts, true
}
