package lifecycle

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// pinStale says that the ECS agent's state belongs to a managed node that this operation replaces.
const pinStale = "stale-state"

// ecsState sets the ECS agent's state aside when it can only keep the agent from registering: its container instance was
// deregistered, which is final, or it belongs to a managed node that this host is no more. Only the state is touched;
// other programs keep files beside it. A copy stays in BackupDir for good.
func (r *registration) ecsState() engine.Step {
	return engine.Step{
		ID: "ecs.state", Title: "Set the ECS agent's old state aside",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			why, err := r.staleState(ctx, reader)
			if err != nil {
				return engine.Obs{}, err
			}
			if why != "" {
				return engine.Obs{State: engine.Pending, Detail: "move " + ecsagent.StateDB + " away: " + why}, nil
			}
			return engine.Obs{State: engine.OK, Detail: "nothing stale"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			if err := tx.Unit(ctx, r.ecsUnit(), engine.UnitWant{Stop: true}); err != nil {
				return err
			}
			for _, file := range []string{ecsagent.StateDB, ecsagent.LegacyState} {
				if err := r.setAside(ctx, tx, file); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// setAside copies a file to BackupDir and removes it.
func (r *registration) setAside(ctx context.Context, tx *engine.Tx, file string) error {
	content, err := tx.Reader().Files.ReadFile(file)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	backup := fmt.Sprintf("%s/%s-%s", BackupDir, path.Base(file), r.deps.RunID)
	for { // a run that goes there and back sets two aside
		if _, err := tx.Reader().Files.Lstat(backup); err != nil {
			break
		}
		backup += "+"
	}
	if err := tx.WriteFile(ctx, backup, bytes.NewReader(content), 0o600); err != nil {
		return err
	}
	tx.Note("kept a copy of %s as %s", file, backup)
	return tx.Remove(ctx, file)
}

// staleState says why the state on the disk cannot be used any more; "" when it can, or when there is none.
func (r *registration) staleState(ctx context.Context, reader host.Reader) (string, error) {
	state, err := ecsagent.ReadState(reader)
	if err != nil || !state.Any() {
		return "", err
	}
	if r.pins[pinStale] != "" {
		identity, err := ssmagent.ReadIdentity(reader)
		if err != nil {
			return "", err
		}
		if !identity.Registered() || state.ModTime.Before(identity.KeyCreated) {
			return "it belongs to a managed node that this host is no more", nil
		}
	}
	gone, err := r.deregistered(ctx, reader)
	if err != nil || gone == nil {
		return "", err
	}
	return "ECS has deregistered its container instance", nil
}

// deregistered is the ECS agent's own word, from its present or last life, that its container instance is gone.
func (r *registration) deregistered(ctx context.Context, reader host.Reader) (*ecsagent.Finding, error) {
	unit, err := reader.Units.Unit(ctx, r.ecsUnit())
	if err != nil {
		return nil, err
	}
	findings, err := ecsagent.ReadLog(reader, unit.ActiveSince)
	if err != nil {
		return nil, err
	}
	for _, f := range findings {
		if f.Code == failure.InstanceInactive {
			return &f, nil
		}
	}
	return nil, nil
}

// resolveState decides what becomes of the ECS agent's state, and refuses to orphan running tasks unless that was accepted:
// their containers go on, and no agent looks after them any more.
func (r *registration) resolveState(ctx context.Context, pins map[string]string) error {
	reader := r.deps.Host.Reader
	identity, verdict, _, err := assess(ctx, reader)
	if err != nil {
		return err
	}
	works := identity.Registered() && (verdict == ssmagent.Sound || verdict == ssmagent.Unknown)
	replaced := r.replaces(ctx, identity) || !works && !r.mends
	if replaced {
		if err := r.warnOfLeftovers(ctx, identity, verdict, pins); err != nil {
			return err
		}
	}
	state, err := ecsagent.ReadState(reader)
	if err != nil || !state.Any() {
		return err
	}
	if replaced { // the state goes with the identity, and is stale once the new one is there
		pins[pinStale] = "yes"
	} else if why, err := r.staleState(ctx, reader); err != nil || why == "" {
		return err
	}
	running, err := runningTasks(ctx, reader)
	if err != nil || len(running) == 0 {
		return err
	}
	if !r.accepts("running-tasks") {
		return failure.New(failure.TasksRunning, "%d containers of tasks run here that a new registration would no longer know", len(running)).
			WithEvidence("%s", strings.Join(running, "; ")).
			WithRemedy("stop them, or leave them running without an agent: --accept-risk running-tasks")
	}
	r.warnings = append(r.warnings, fmt.Sprintf("%d containers of tasks run on and no agent looks after them: %s", len(running), strings.Join(running, "; ")))
	return nil
}

// runningTasks names the containers of tasks that run here.
func runningTasks(ctx context.Context, reader host.Reader) ([]string, error) {
	containers, err := docker.Containers(ctx, reader, ecsagent.TaskLabel)
	if err != nil {
		return nil, err
	}
	var running []string
	for _, c := range containers {
		if c.State == "running" {
			running = append(running, strings.Join(c.Names, ",")+" ("+c.Labels[ecsagent.TaskLabel]+")")
		}
	}
	return running, nil
}
