package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// plan is the runbook of a deregistration.
//
// AWS comes first, ECS before Systems Manager: as long as its calls can fail, the host's half still works, and ECS's half
// may need the node's own credentials. The first of them that AWS has carried out, or may have, is the point of no return.
// Then the agents are stopped before anything of theirs is touched: one that runs writes its keys and identity anew, and
// the ECS agent without its state registers a new instance. Without AWS everything can be undone until the first thing
// goes for good, so what goes for good stands last, and the record, by which the next run knows what is ours, very last.
func (f *farewell) plan() engine.Plan {
	steps := f.awaySteps()
	if !f.req.RemoteOnly {
		steps = append(steps, f.stopECS(), f.stopSSM(), f.ssmCredentials(), f.boundFiles())
		for _, name := range []string{ecsagent.Package, ssmagent.Package} {
			steps = append(steps, f.removePackage(name))
		}
		steps = append(steps, f.ownSettings(), f.authorities(), f.ownFiles(), f.taskContainers(), f.data(), f.forget())
	}
	return engine.Plan{Verb: verbDeregister, Key: f.key(), Pins: f.pins, Resolve: f.resolve, Steps: steps}
}

// resolve runs when something is to be changed, before it is.
func (f *farewell) resolve(ctx context.Context, _ map[string]string) error {
	if err := f.ready(ctx); err != nil || f.req.Confirm == nil {
		return err
	}
	what := Farewell{Cluster: f.cluster, Node: f.node, Instance: f.instance, Facts: f.away.facts}
	for _, t := range f.goes() {
		what.Goes = append(what.Goes, t.String())
	}
	return f.req.Confirm(ctx, what)
}

// ready is what has to be so before the first change and can be mended: a package manager that works, and every right.
func (f *farewell) ready(ctx context.Context) error {
	if len(f.packages()) > 0 {
		subject := preflight.Subject{Host: f.deps.Host.Reader, Mutating: true, Resuming: f.resumed != nil, Getenv: f.deps.Getenv}
		checks := preflight.Run(ctx, preflight.All(), subject, preflight.Options{Only: []string{"packages.manager"}, Timeout: checkTime})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.checks = append(f.checks, checks...)
		if err := preflight.Verdict(checks, false); err != nil {
			return err
		}
	}
	return f.rights(ctx)
}

// stopECS brings the ECS agent to rest for good. Task containers are Docker's, and run on.
func (f *farewell) stopECS() engine.Step {
	return restStep("ecs.stop", "Stop and disable the ECS agent", f.ecsUnit, ecsagent.VolumePlugin, ecsagent.VolumePluginSocket)
}

// stopSSM does so with the SSM agent, if its node goes. One of somebody's that is no managed node is left alone.
func (f *farewell) stopSSM() engine.Step {
	if _, owned := f.record.Packages[ssmagent.Package]; !f.ssm || f.node == "" && !owned {
		return restStep("ssm.stop", "Leave the SSM agent alone")
	}
	return restStep("ssm.stop", "Stop and disable the SSM agent", ssmagent.UnitName, ssmagent.SnapUnit)
}

// restStep stops units and keeps them from starting at boot.
func restStep(id, title string, units ...string) engine.Step {
	return engine.Step{
		ID: id, Title: title,
		Observe: func(ctx context.Context, r host.Reader) (engine.Obs, error) {
			var due []string
			for _, name := range units {
				unit, err := r.Units.Unit(ctx, name)
				if err != nil {
					return engine.Obs{}, err
				}
				if unit.Active == "active" || unit.Active == "activating" || unit.Active == "reloading" || unit.Loaded && unit.IsEnabled() {
					due = append(due, name)
				}
			}
			if len(due) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "stop and disable " + strings.Join(due, ", ")}, nil
			}
			return engine.Obs{State: engine.OK, Detail: "at rest"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			for _, name := range units {
				if err := tx.Unit(ctx, name, engine.UnitWant{Stop: true, Disable: true}); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// ssmCredentials takes the SSM agent's keys out of the shared credentials. Everything else in the file stays, and its mode:
// to the letter of the copy that register has made, or as the agent has lined it up where somebody has edited it since. The
// file goes only with nothing else in it. It comes before the identity goes: that says whose they are.
func (f *farewell) ssmCredentials() engine.Step {
	return engine.Step{
		ID: "ssm.credentials", Title: "Take the SSM agent's keys out of " + ssmagent.CredentialsPath,
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			if !f.ssm {
				return engine.Obs{State: engine.OK, Detail: "the managed node needs them"}, nil
			}
			rest, found, err := ssmagent.OwnCredentials(r)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case found && rest == nil:
				return engine.Obs{State: engine.Pending, Detail: "remove " + ssmagent.CredentialsPath + ", which holds nothing else"}, nil
			case found:
				return engine.Obs{State: engine.Pending, Detail: "other profiles stay"}, nil
			}
			return engine.Obs{State: engine.OK, Detail: "none of the SSM agent's"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			rest, _, err := ssmagent.OwnCredentials(tx.Reader())
			if err != nil {
				return err
			}
			at, err := tx.Reader().Files.Lstat(ssmagent.CredentialsPath)
			if err == nil && rest == nil && at.Mode().IsRegular() { // a link is somebody's, and stays with what it leads to
				return tx.Remove(ctx, ssmagent.CredentialsPath)
			}
			if rest, err = asSaved(tx.Reader(), rest); err != nil {
				return err
			}
			return tx.WriteFile(ctx, ssmagent.CredentialsPath, bytes.NewReader(rest), 0o600)
		},
	}
}

// boundFiles removes what binds the host to its registration: the ECS agent's state, and the SSM agent's identity if it goes.
func (f *farewell) boundFiles() engine.Step {
	files := []string{ecsagent.StateDB, ecsagent.LegacyState}
	if f.ssm {
		files = append(files, ssmagent.IdentityFiles()...)
	}
	return filesStep("identity", "Remove what binds this host to its registration", files, nil)
}

// ownSettings takes what anywhere has added out of files that are somebody's. What they have changed since is theirs.
func (f *farewell) ownSettings() engine.Step {
	look := func(r host.Reader) (changed map[string][]byte, err error) {
		changed = map[string][]byte{}
		for file, settings := range f.record.Settings {
			text, err := r.Files.ReadFile(file)
			if missing(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			rest := ecsagent.Parse(text)
			for key, value := range settings {
				if now, ok := rest.Get(key); ok && (now == value || remembered(key, now) == value) {
					rest.Unset(key)
				}
			}
			if !bytes.Equal(rest.Bytes(), text) {
				changed[file] = rest.Bytes()
			}
		}
		return changed, nil
	}
	// A file that has secrets no more gets the mode back that anywhere has taken from it, unless somebody has chosen another since.
	closed := func(r host.Reader) (files []string, err error) {
		for _, file := range slices.Sorted(maps.Keys(f.record.Modes)) {
			info, err := r.Files.Stat(file)
			if missing(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if info.Mode().Perm() == secretMode && f.record.Modes[file] != secretMode {
				files = append(files, file)
			}
		}
		return files, nil
	}
	return engine.Step{
		ID: "ecs.config", Title: "Take anywhere's settings out of files that were there before",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			changed, err := look(r)
			if err != nil || len(changed) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "edit " + strings.Join(slices.Sorted(maps.Keys(changed)), ", ")}, err
			}
			files, err := closed(r)
			if err != nil || len(files) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "give back the mode of " + strings.Join(files, ", ")}, err
			}
			return engine.Obs{State: engine.OK, Detail: "none is in them"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			changed, err := look(tx.Reader())
			if err != nil {
				return err
			}
			for _, file := range slices.Sorted(maps.Keys(changed)) {
				if err := tx.WriteFile(ctx, file, bytes.NewReader(changed[file]), secretMode); err != nil {
					return err
				}
			}
			files, err := closed(tx.Reader())
			if err != nil {
				return err
			}
			for _, file := range files {
				if err := changeMode(ctx, tx, f.deps.Host, file, f.record.Modes[file]); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// ownFiles removes the files that anywhere has made.
func (f *farewell) ownFiles() engine.Step {
	var files []string
	for _, file := range f.files() {
		if !slices.Contains(ssmagent.IdentityFiles(), file) && file != ecsagent.StateDB && file != ecsagent.LegacyState {
			files = append(files, file)
		}
	}
	return filesStep("files", "Remove the files that anywhere has made", files, func(ctx context.Context, tx *engine.Tx) error {
		return tx.ReloadUnits(ctx) // one of them is a drop-in
	})
}

// filesStep removes single files.
func filesStep(id, title string, files []string, after func(context.Context, *engine.Tx) error) engine.Step {
	return engine.Step{
		ID: id, Title: title,
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			there, err := existing(r, files)
			if err != nil || len(there) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "remove " + strings.Join(there, ", ")}, err
			}
			return engine.Obs{State: engine.OK, Detail: "none is there"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			for _, file := range files {
				if err := tx.Remove(ctx, file); err != nil {
					return err
				}
			}
			if after == nil {
				return nil
			}
			return after(ctx, tx)
		},
	}
}

// existing are those of the paths that are there.
func existing(r host.Reader, paths []string) (there []string, err error) {
	for _, p := range paths {
		_, err := r.Files.Lstat(p)
		switch {
		case err == nil:
			there = append(there, p)
		case !missing(err):
			return nil, failure.Wrap(failure.Internal, err, "cannot look at %s", p)
		}
	}
	return there, nil
}

// removePackage removes a package that is anywhere's own.
func (f *farewell) removePackage(name string) engine.Step {
	units := map[string][]string{ecsagent.Package: {f.ecsUnit}, ssmagent.Package: {ssmagent.UnitName}}[name]
	return engine.Step{
		ID:    map[string]string{ecsagent.Package: "ecs.package", ssmagent.Package: "ssm.package"}[name],
		Title: "Remove the package " + name,
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			p, err := r.Packages.Package(name)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case !p.Installed && !p.Partial && !p.Residual:
				return engine.Obs{State: engine.OK, Detail: "not installed"}, nil
			case !slices.Contains(f.packages(), name):
				return engine.Obs{State: engine.OK, Detail: "stays"}, nil
			}
			return engine.Obs{State: engine.Pending, Detail: "remove " + name + " " + p.Version}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			return tx.RemovePackage(ctx, name, true, f.cached(name), units...)
		},
	}
}

const containersKind = "docker.containers"

// containersRemoved cannot be taken back.
func containersRemoved() engine.Kind {
	return engine.Kind{
		Undo: func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil },
		Committed: func(_ context.Context, _ host.Reader, data []byte) (string, bool) {
			var ids []string
			err := json.Unmarshal(data, &ids)
			return "the removal of " + count(len(ids), "container") + " of tasks", err == nil && len(ids) > 0
		},
	}
}

// taskContainers ends and removes the containers of tasks that are left, only where that was asked for, and only those
// that carry ECS's own label.
func (f *farewell) taskContainers() engine.Step {
	return engine.Step{
		ID: "ecs.tasks", Title: "Remove containers of tasks",
		Observe: func(ctx context.Context, r host.Reader) (engine.Obs, error) {
			if !f.req.StopTasks {
				return engine.Obs{State: engine.OK, Detail: "they are left alone"}, nil
			}
			found, err := docker.Containers(ctx, r, taskLabel)
			if err != nil || len(found) > 0 {
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("remove %d containers", len(found))}, err
			}
			return engine.Obs{State: engine.OK, Detail: "none is there"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			found, err := docker.Containers(ctx, tx.Reader(), taskLabel)
			if err != nil {
				return err
			}
			var ids []string
			for _, c := range found {
				if c.Labels[taskLabel] == "" { // the daemon was asked for those only; this is no place to rely on it
					return failure.New(failure.Internal, "Docker gave a container without the label %s", taskLabel).WithEvidence("%s", leftover(c))
				}
				ids = append(ids, c.ID)
			}
			return tx.Effect(ctx, containersKind, ids, func(ctx context.Context) error {
				for i, id := range ids {
					tx.Note("ends and removes %s", leftover(found[i]))
					if err := docker.RemoveContainer(ctx, tx.Reader(), id); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// data removes what goes for good: folders that are the agents' alone, and then those that anywhere made and in which
// nothing is any more.
func (f *farewell) data() engine.Step {
	trees := f.trees()
	return engine.Step{
		ID: "data", Title: "Remove the agents' own folders",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			there, err := existing(r, trees)
			if there = append(there, f.empties(r)...); err != nil || len(there) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "remove " + strings.Join(there, ", ")}, err
			}
			return engine.Obs{State: engine.OK, Detail: "nothing is left of them"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			for _, tree := range trees {
				if err := tx.RemoveTree(ctx, tree); err != nil {
					return err
				}
			}
			for _, folder := range f.empties(tx.Reader()) {
				if err := tx.Remove(ctx, folder); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// forget brings the record to what is still anywhere's, and removes it when that is nothing.
func (f *farewell) forget() engine.Step {
	left := f.leftRecord()
	return engine.Step{
		ID: "record", Title: "Forget the registration",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			_, err := r.Files.Lstat(recordPath)
			if missing(err) {
				return engine.Obs{State: engine.OK, Detail: "there is no record"}, nil
			}
			if f.ruined {
				return engine.Obs{State: engine.Pending, Detail: "move " + recordPath + " aside"}, nil
			}
			now, err := readRecord(r)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case left == nil:
				return engine.Obs{State: engine.Pending, Detail: "remove " + recordPath}, nil
			case !sameRecord(now, *left):
				return engine.Obs{State: engine.Pending, Detail: "what stays is still anywhere's"}, nil
			}
			return engine.Obs{State: engine.OK, Detail: recordPath}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			switch {
			case f.ruined:
				return tx.Rename(ctx, recordPath, path.Join(BackupDir, "record.json-"+f.deps.RunID))
			case left == nil:
				return tx.Remove(ctx, recordPath)
			}
			return updateRecord(ctx, tx, f.deps.Version, func(record *Record) { *record = *left })
		},
	}
}

// leftRecord is what the record says in the end; nil when there is nothing left to say.
func (f *farewell) leftRecord() *Record {
	left := Record{Packages: map[string]OwnedPackage{}, Files: []string{}, Started: map[string]string{}}
	for name, owned := range f.record.Packages {
		if f.req.KeepPackages || name == ssmagent.Package && !f.ssm {
			left.Packages[name] = owned
		}
	}
	if f.req.KeepPackages {
		left.Folders = f.record.Folders
	}
	if !f.ssm {
		if f.record.Registration != nil {
			node := *f.record.Registration
			node.Cluster = ""
			left.Registration = &node
		}
		for _, file := range f.record.Files {
			if ssmNeeds(file) {
				left.Files = append(left.Files, file)
			}
		}
		if digest, known := f.record.Started[f.ssmUnit]; known {
			left.Started[f.ssmUnit] = digest
		}
		left.Folders = f.record.Folders
	}
	if !f.ssm {
		left.Authorities = f.record.Authorities
	}
	if left.Authorities == nil && len(left.Packages) == 0 && left.Registration == nil && len(left.Files) == 0 {
		return nil
	}
	left.Docker = f.record.Docker
	return &left
}

// sameRecord compares records but for which program wrote them.
func sameRecord(a, b Record) bool {
	a.Schema, a.Program, b.Schema, b.Program = 0, "", 0, ""
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}
