package preflight

import (
	"context"
	"slices"
	"strings"
)

// ReachECS tries the Region's ECS endpoint as the ECS agent would: name, proxy, connection, TLS, one request. It is nil
// when something answers there, whatever it says.
func ReachECS(ctx context.Context, s Subject) error {
	all, err := readProxies(ctx, s)
	if err != nil {
		return err
	}
	for _, t := range targets(s) {
		if !slices.Contains(strings.Split(t.service, ", "), "ecs") { // targets at one address are one
			continue
		}
		if r := try(ctx, s.Host, all, t); r.trouble != fine {
			return &unreached{r}
		}
		return nil
	}
	return nil
}

// unreached is why an endpoint cannot be used.
type unreached struct{ row row }

func (e *unreached) Error() string {
	text := e.row.name() + ": " + string(e.row.trouble)
	if e.row.err != nil {
		text += " (" + e.row.err.Error() + ")"
	}
	return text
}

func (e *unreached) Unwrap() error { return e.row.err }
