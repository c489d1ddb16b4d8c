package lifecycle

import "github.com/anywhere-ecs/anywhere/internal/ssmagent"

// IPModes are the choices of --ip-mode. The first lets the routes decide.
var IPModes = []string{"auto", "ipv4", "ipv6"}

// explicitIPMode is what --ip-mode says that the routes do not; empty leaves it to them.
func (r *registration) explicitIPMode() string {
	if r.req.IPMode == IPModes[0] {
		return ""
	}
	return r.req.IPMode
}

// dualStack is what the SSM agent is told of names with IPv6; empty leaves its configuration alone. It has no way to find
// out by itself (facts: ssm-agent section 4).
func (r *registration) dualStack(now ssmagent.Config) string {
	switch {
	case r.ipv6:
		return "true"
	case now.DualStack && r.explicitIPMode() == "ipv4":
		return "false"
	}
	return ""
}
