package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// foresee says of every task that will not leave by itself why, and warns of it: better before the wait than after.
// Nothing here is needed to drain, so what the caller may not see is only told.
func (g *draining) foresee(ctx context.Context) {
	if g.source == countedByAgent {
		if len(g.left()) > 0 {
			g.warnings = append(g.warnings, "which tasks belong to a service is not known here: one that does not never leaves by itself")
		}
		return
	}
	var standalone, names []string
	for i, t := range g.tasks {
		switch {
		case t.DesiredStatus == taskStopped:
		case t.Standalone:
			g.tasks[i].NeverMoves = "it belongs to no service, so ECS leaves it alone: it ends by itself or has to be stopped"
			standalone = append(standalone, t.String())
		case !slices.Contains(names, t.service()):
			names = append(names, t.service())
		}
	}
	if len(standalone) > 0 {
		n := len(standalone)
		g.warnings = append(g.warnings, fmt.Sprintf("%s %s to no service and %s only by ending or being stopped: %s", count(n, "task"),
			plural(n, "belongs", "belong"), plural(n, "leaves", "leave"), strings.Join(standalone, "; ")))
		if len(standalone) == len(g.left()) {
			g.warnings = append(g.warnings, "no task of a service is here: waiting helps only if what is here ends by itself")
		}
	}
	if err := g.foreseeServices(ctx, names); err != nil {
		g.warnings = append(g.warnings, "whether the services can move their tasks is not known: "+failure.Of(err).Message)
	}
}

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

func (g *draining) foreseeServices(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	services, err := g.caller.SeeServices(ctx, g.cluster, names)
	if err != nil {
		return err
	}
	elsewhere, err := g.caller.Elsewhere(ctx, g.cluster, g.instance)
	if err != nil {
		return err
	}
	for _, s := range services {
		never, warning, err := g.outlook(ctx, s, elsewhere)
		if err != nil {
			warning = "whether its host ports are free elsewhere is not known: " + failure.Of(err).Message
		}
		for i, t := range g.tasks {
			if t.service() == s.Name && t.DesiredStatus != taskStopped {
				g.tasks[i].NeverMoves = never
			}
		}
		if text := first(warning, never); text != "" {
			g.warnings = append(g.warnings, fmt.Sprintf("service %s: %s", s.Name, text))
		}
	}
	return nil
}

// outlook is what becomes of a service's tasks here: why they never leave, else what is worth knowing of how they do.
// How ECS rounds is from the API reference, DeploymentConfiguration, read 2026-11-25: the minimum up, the maximum down.
func (g *draining) outlook(ctx context.Context, s control.ServiceSight, elsewhere []string) (never, warning string, err error) {
	if s.Daemon {
		return "", "a DAEMON starts nowhere else: ECS stops its task here last, after those of other services", nil
	}
	keeps, most := (s.Desired*s.Minimum+99)/100, s.Desired*s.Maximum/100
	if s.Running-1 >= keeps { // ECS stops first, and looks for another place then
		if len(elsewhere) == 0 {
			return "", "its task is stopped here, and no other container instance is ACTIVE and connected to start it on", nil
		}
		return "", "", nil
	}
	switch {
	case most <= s.Desired && keeps >= s.Desired:
		return fmt.Sprintf("of %d wanted it keeps at least %d and runs at most %d (minimumHealthyPercent %d, maximumPercent %d), so that ECS "+
			"can neither stop its task here nor start another one first", s.Desired, keeps, most, s.Minimum, s.Maximum), "", nil
	case len(elsewhere) == 0:
		return "its task stays until another one runs, and no other container instance of the cluster is ACTIVE and connected", "", nil
	}
	ports, err := g.caller.HostPorts(ctx, s.Definition)
	if err != nil || len(ports) == 0 {
		return "", "", err
	}
	taken, err := g.caller.InstancesOfService(ctx, g.cluster, s.Name)
	if err != nil {
		return "", "", err
	}
	if !slices.ContainsFunc(elsewhere, func(arn string) bool { return !slices.Contains(taken, arn) }) {
		return fmt.Sprintf("its task stays until another one runs, and on every other container instance one has its host ports already (%s)",
			strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ports)), ", "), "[]")), "", nil
	}
	return "", "", nil
}
