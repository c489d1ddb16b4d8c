package ssmagent

// KnownBad reports whether an agent of this version must be replaced before it registers, and why.
func KnownBad(version string) (reason string, bad bool) { panic("not yet") }

// CompareVersions compares two versions of the agent, which have four parts: -1 when a is older than b, 0 when they are
// equal, 1 when it is newer. A package's revision ("-1") does not count.
func CompareVersions(a, b string) int { panic("not yet") }
