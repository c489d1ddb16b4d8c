package lifecycle

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// watchStep is the point of no return: before it everything is taken back, behind it the old version is given up.
const watchStep = "upgrade.watch"

// plan is the runbook of an upgrade. Nothing is stopped before both versions of each package, the new one and the one to
// go back to, are there and verified, and before somebody is sure to end what is begun.
func (u *upgrade) plan() engine.Plan {
	steps := []engine.Step{u.guard()}
	if u.resumed != nil {
		steps = append(steps, u.repairPackages())
	}
	if u.verb == verbUpgrade {
		steps = append(steps, u.adoptFirst())
	}
	if u.drain != nil {
		steps = append(steps, u.drain.step())
	}
	if u.ssm().in {
		steps = append(steps, u.replace(u.ssm(), "Replace the SSM agent"), u.ssmAgain())
	}
	if u.ecs().in {
		if u.hasExec() {
			steps = append(steps, u.execFiles())
		}
		steps = append(steps, u.loadImage(), u.replace(u.ecs(), "Replace the ECS agent"), u.ecsAgain())
	}
	steps = append(steps, u.watching(), u.holdAgain())
	if u.pins[pinDrained] != "" || u.resumedPin(pinDrained) != "" {
		steps = append(steps, u.activeAgain())
	}
	if u.ecs().in {
		steps = append(steps, u.oldImage(), u.dropExec())
	}
	steps = append(steps, u.remembered())
	return engine.Plan{
		Verb: u.verb, Key: u.key(), Pins: u.pins, Resolve: u.resolve, Steps: steps,
		Gate: steps[0].ID, Commit: watchStep,
	}
}

// adoptFirst writes into the record what somebody else has set up here, as "anywhere adopt" does, while it is as it was found.
func (u *upgrade) adoptFirst() engine.Step {
	foreign := func(record Record) bool { return record.accountOf(u.node) == "" && u.arnText != "" }
	return engine.Step{
		ID: "adopt", Title: "Record what is here",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			record, err := readRecord(r)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case u.due && foreign(record):
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("write %s: managed node %s and container instance %s are somebody else's work",
					recordPath, u.node, u.arnText)}, nil
			}
			return engine.Obs{State: engine.OK, Detail: recordPath}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			found := &adoption{registration: &registration{
				deps: u.deps, row: u.row, profile: u.profile, pins: map[string]string{},
				node: u.node, arn: u.arn, arnText: u.arnText, region: u.region, account: u.account, cluster: u.cluster,
			}}
			if err := found.settleRead(ctx); err != nil {
				return err
			}
			want, err := found.wanted(ctx, tx.Reader())
			if err != nil {
				return err
			}
			return u.own(ctx, tx, func(record *Record) { *record = want })
		},
	}
}

// resolve runs when something is pending: the checks, and what must be known of the host as it is before the upgrade.
func (u *upgrade) resolve(ctx context.Context, pins map[string]string) error {
	if u.resumed != nil { // what was begun is ended, in either direction
		return nil
	}
	if err := u.examine(ctx); err != nil {
		return err
	}
	var held []string
	for _, a := range u.both() {
		// Of what dpkg installs the hold is gone; rpm and snapd leave theirs alone.
		if a.in && a.action == actReplace && a.installed.Held && u.row.Family == platform.Deb && !a.installed.Snap {
			held = append(held, a.name)
		}
	}
	pins[pinHeld] = strings.Join(held, ",")
	if err := u.upgradePieces(ctx); err != nil {
		return err
	}
	if !u.ecs().in {
		return nil
	}
	reader := u.deps.Host.Reader
	image, _, err := docker.Image(ctx, reader, ecsagent.Image)
	if err != nil {
		return err
	}
	pins[pinOldImage] = image
	var plugins []string
	for _, name := range ecsagent.PluginUnits {
		if unit, err := reader.Units.Unit(ctx, name); err == nil && unit.Active == "active" {
			plugins = append(plugins, name)
		}
	}
	pins[pinPlugins] = strings.Join(plugins, ",")
	return nil
}

// upgradeChecks are those that can stop an upgrade: the host is registered and works, or is to be mended by it.
var upgradeChecks = []string{"privileges", "packages.manager", "disk.space", "docker.daemon", "docker.version", "cgroup.version", "apparmor"}

// examine runs the checks against the new versions, not those that are installed.
func (u *upgrade) examine(ctx context.Context) error {
	if err := u.writable(); err != nil {
		return err
	}
	subject := u.subject()
	only := slices.Clone(upgradeChecks)
	if !u.ecs().in || u.ecs().action == actNone {
		only = slices.DeleteFunc(only, func(id string) bool {
			return strings.HasPrefix(id, "docker.") || strings.HasPrefix(id, "cgroup.") || id == "apparmor"
		})
	} else {
		subject.ECSAgent = u.ecs().target
	}
	if u.ssm().in {
		subject.SSMAgent = u.ssm().target
	}
	u.checks = preflight.Run(ctx, preflight.All(), subject, preflight.Options{Only: only, Timeout: checkTime})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	u.warnings = append(u.warnings, preflight.Warnings(u.checks)...)
	return preflight.Verdict(u.checks, false)
}

// replace installs the other version of one package. Its fetch brings the one that is installed, too: without it there is
// no way back.
func (u *upgrade) replace(a *upgradedAgent, title string) engine.Step {
	never := func(string) (string, bool) { return "", false } // settleTarget has judged the version
	p := packageStep{name: a.name, pin: a.pin, product: a.product, bad: never, title: title}
	switch a.product {
	case artifact.SSMAgent:
		p.id, p.asked, p.units = "ssm.package", first(a.target, a.installed.Version), []string{ssmagent.UnitName}
	default:
		p.id, p.asked, p.units = "ecs.package", first(a.target, a.installed.Version), append([]string{u.ecsUnit()}, ecsagent.PluginUnits...)
	}
	step := u.packageStep(p)
	if a.product == artifact.SSMAgent {
		step = u.agentStep(p)
	}
	fetch, change := step.Fetch, step.Change
	step.Fetch = func(ctx context.Context) error {
		if err := fetch(ctx); err != nil {
			return err
		}
		return u.fetchFormer(ctx, a)
	}
	step.Change = func(ctx context.Context, tx *engine.Tx) error {
		before := u.keepIdentity
		if a.product == artifact.ECSInit {
			before = u.holdService
		}
		if err := before(ctx, tx); err != nil {
			return err
		}
		if slices.Contains(u.heldBefore(), a.name) {
			if err := tx.Effect(ctx, holdKind, heldPackage{a.name}, func(context.Context) error { return nil }); err != nil {
				return err
			}
		}
		u.packaging = u.deps.Host.Now()
		err := change(ctx, tx)
		if failure.Is(err, failure.PackageInstall) {
			u.blame(a, failure.Of(err))
		}
		if err != nil {
			return err
		}
		if a.product == artifact.ECSInit {
			return u.afterECS(ctx, tx)
		}
		return u.noteStart(ctx, tx)
	}
	return step
}

// fetchFormer brings the package that is installed now into the cache.
func (u *upgrade) fetchFormer(ctx context.Context, a *upgradedAgent) error {
	from := u.pins[a.from]
	if from == "" || sameVersion(from, a.target) || a.installed.Snap { // snapd keeps what it replaces
		return nil
	}
	_, err := u.fetchOnce(ctx, u.ref(a.product, from))
	switch {
	case err == nil:
		return nil
	case failure.Is(err, failure.ArtifactMissing), failure.Is(err, failure.ArtifactUnsigned), failure.Is(err, failure.ArtifactCorrupt),
		failure.Is(err, failure.ArtifactKey), failure.Is(err, failure.Usage):
	default:
		return err
	}
	f := failure.Of(err)
	if u.accepts(riskNoWayBack) {
		u.fetching.Lock()
		u.warnings = append(u.warnings, fmt.Sprintf("there is no way back to %s %s: %s", a.name, from, f.Message))
		u.fetching.Unlock()
		return nil
	}
	return noWayBack(a, from, f)
}

func noWayBack(a *upgradedAgent, from string, f *failure.Error) *failure.Error {
	return failure.New(failure.NoWayBack, "%s %s, which is installed, cannot be had, so there is no way back to it: %s", a.name, from, f.Message).
		WithEvidence("%s", f.Evidence)
}

// foreseeNoWayBack is what fetchFormer would say, for who only looks: nothing is downloaded. What the way to the packages
// says of itself is nothing against them.
func (u *upgrade) foreseeNoWayBack(ctx context.Context) *failure.Error {
	if u.resumed != nil || u.accepts(riskNoWayBack) {
		return nil
	}
	for _, a := range u.both() {
		from := u.pins[a.from]
		if !a.in || a.action != actReplace || a.installed.Snap || from == "" || sameVersion(from, a.target) {
			continue
		}
		missing, err := u.source.Missing(ctx, u.ref(a.product, from))
		if err == nil && len(missing) > 0 {
			return noWayBack(a, from, failure.New(failure.ArtifactMissing, "%s", missing[0]))
		}
	}
	return nil
}

// noteStart notes what the SSM agent has read at its start: its package has started it.
func (u *upgrade) noteStart(ctx context.Context, tx *engine.Tx) error {
	u.begin()
	name := u.ssmUnit()
	unit, err := tx.Reader().Units.Unit(ctx, name)
	if err != nil || !unit.Running() {
		return err
	}
	digest, err := u.ssmInputs(tx.Reader())
	if err != nil {
		return err
	}
	return u.own(ctx, tx, func(record *Record) {
		if _, known := record.Started[name]; known {
			record.Started[name] = digest
		}
	})
}

// ssmAgain starts the SSM agent where its package has not, and waits for what the ECS agent lives on.
func (u *upgrade) ssmAgain() engine.Step {
	step := u.ssmStart()
	observe, change := step.Observe, step.Change
	step.Observe = func(ctx context.Context, r host.Reader) (engine.Obs, error) {
		if u.pins[pinSSM] == "" || u.resumed != nil && u.resumed.Committed {
			return engine.Obs{State: engine.OK, Detail: "as it is"}, nil
		}
		if u.ssm().action == actRestart && u.started.IsZero() {
			return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("%s runs and %s is installed", u.ssm().running, u.ssm().installed.Version)}, nil
		}
		return observe(ctx, r)
	}
	step.Change = func(ctx context.Context, tx *engine.Tx) error {
		u.begin()
		err := change(ctx, tx)
		if failure.Is(err, failure.ServiceFailed) {
			u.blame(u.ssm(), failure.Of(err))
		}
		return err
	}
	return step
}

// begin notes when the first of the new agents was started.
func (u *upgrade) begin() {
	if u.started.IsZero() {
		u.started = u.deps.Host.Now()
	}
}

// hasExec reports whether ECS Exec's files are on the host: who left them out gets none.
func (u *upgrade) hasExec() bool {
	exec, err := ecsagent.ReadExec(u.deps.Host.Reader)
	return err == nil && len(exec.Complete) > 0
}

// execFiles brings ECS Exec's programs to the SSM agent's version, before the ECS agent is started anew: it looks only then,
// and takes the highest. The older stay, for containers that run have them mounted.
func (u *upgrade) execFiles() engine.Step {
	step := u.ecsExec()
	change := step.Change
	step.Observe = func(ctx context.Context, r host.Reader) (engine.Obs, error) {
		exec, err := ecsagent.ReadExec(r)
		if err != nil {
			return engine.Obs{}, err
		}
		wanted, surplus := u.pins[pinExec], u.surplusExec(ctx, r)
		switch {
		case u.pins[pinECS] == "", slices.Contains(exec.Complete, wanted) && surplus == "":
			return engine.Obs{State: engine.OK, Detail: "version " + strings.Join(exec.Complete, ", ")}, nil
		case surplus != "":
			return engine.Obs{State: engine.Pending, Detail: "put version " + surplus + " aside below " + ecsagent.ExecDir}, nil
		}
		return engine.Obs{State: engine.Pending, Detail: "install version " + wanted + " below " + ecsagent.ExecDir}, nil
	}
	step.Change = func(ctx context.Context, tx *engine.Tx) error {
		exec, err := ecsagent.ReadExec(tx.Reader())
		if err != nil {
			return err
		}
		if !slices.Contains(exec.Complete, u.pins[pinExec]) {
			if err := change(ctx, tx); err != nil {
				return err
			}
		}
		if surplus := u.surplusExec(ctx, tx.Reader()); surplus != "" {
			return tx.Rename(ctx, ecsagent.ExecFolder(surplus), ecsagent.ExecAside(surplus))
		}
		return nil
	}
	fetch := step.Fetch
	step.Fetch = func(ctx context.Context) error {
		if exec, err := ecsagent.ReadExec(u.deps.Host.Reader); err == nil && slices.Contains(exec.Complete, u.pins[pinExec]) {
			return nil // nothing is to be unpacked
		}
		return fetch(ctx)
	}
	return step
}

// surplusExec is the version of ECS Exec's programs that an upgrade brought and that is to go on the way back: the agent would
// take it, for it is the higher one. One that a container has mounted stays; "" is none.
func (u *upgrade) surplusExec(ctx context.Context, r host.Reader) string {
	from := ssmagent.Upstream(u.pins[pinFromSSM])
	if u.verb != verbUpgradeBack || from == "" || from == u.pins[pinExec] {
		return ""
	}
	if _, err := r.Files.Stat(ecsagent.ExecFolder(from)); err != nil {
		return ""
	}
	if mounted, err := docker.Mounted(ctx, r, ecsagent.ExecFolder(from)); err != nil || mounted {
		return ""
	}
	return from
}

// dropExec removes what was put aside.
func (u *upgrade) dropExec() engine.Step {
	aside := func() string { return ecsagent.ExecAside(first(u.pins[pinFromSSM], u.resumedPin(pinFromSSM), "none")) }
	return engine.Step{
		ID: "ecs.exec-old", Title: "Remove the programs of ECS Exec that were put aside",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			if _, err := r.Files.Lstat(aside()); missing(err) {
				return engine.Obs{State: engine.OK, Detail: "none"}, nil
			}
			return engine.Obs{State: engine.Pending, Detail: "remove " + aside()}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error { return tx.RemoveTree(ctx, aside()) },
	}
}

// loadImage loads the new image while the old agent still works: its start takes none of the time for that then. The image
// comes out of our own unpacking of the package, because the package's script stops the agent.
func (u *upgrade) loadImage() engine.Step {
	return engine.Step{
		ID: "ecs.load", Title: "Load the new ECS agent's image",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			if u.pins[pinECS] == "" || u.loaded != "" {
				return engine.Obs{State: engine.OK, Detail: "as it is"}, nil
			}
			p, err := r.Packages.Package(ecsagent.Package)
			if err != nil || p.Installed && sameVersion(p.Version, u.pins[pinECS]) { // its start loads it
				return engine.Obs{State: engine.OK, Detail: "as it is"}, err
			}
			return engine.Obs{State: engine.Pending, Detail: "load version " + ssmagent.Upstream(u.pins[pinECS])}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			pkg, err := u.fetchOnce(ctx, u.ref(artifact.ECSInit, u.pins[pinECS]))
			if err != nil {
				return err
			}
			err = tx.Effect(ctx, imageKind, replacedImage{Old: u.pins[pinOldImage]}, func(ctx context.Context) error {
				return artifact.Extract(ctx, tx.Reader().Files, pkg.Path, func(f artifact.File) error {
					if path.Dir("/"+f.Name) != ecsagent.CacheDir || path.Ext(f.Name) != ".tar" {
						return nil
					}
					if err := docker.Load(ctx, tx.Reader(), f.Body); err != nil {
						return err
					}
					return fs.SkipAll
				})
			})
			if err != nil {
				return err
			}
			u.loaded, _, err = docker.Image(ctx, tx.Reader(), ecsagent.Image)
			u.loaded = first(u.loaded, "nothing")
			return err
		},
	}
}

// policyPath is what Debian's package scripts ask before they start or stop a service (invoke-rc.d(8), deb-systemd-invoke(1p)).
const policyPath = "/usr/sbin/policy-rc.d"

// policy keeps the package's script from stopping the ECS agent: it works on while the files are unpacked.
const policy = `#!/bin/sh
# Written by anywhere while it installs the ECS agent, which it restarts itself afterwards; removed right after.
case "$1" in
ecs | ecs.service) exit 101 ;;
esac
exit 0
`

// holdService writes the policy, unless the host has one of its own. Should the script stop the agent all the same, the time
// without one is longer, and that is all.
func (u *upgrade) holdService(ctx context.Context, tx *engine.Tx) error {
	if _, err := tx.Reader().Files.Lstat(policyPath); !missing(err) || u.row.Family != platform.Deb {
		return nil
	}
	return tx.WriteFile(ctx, policyPath, strings.NewReader(policy), 0o755)
}

// held reports whether the policy is there, and ours.
func held(r host.Reader) bool {
	text, err := r.Files.ReadFile(policyPath)
	return err == nil && string(text) == policy
}

// releaseService takes the policy away.
func (u *upgrade) releaseService(ctx context.Context, tx *engine.Tx) error {
	if !held(tx.Reader()) {
		return nil
	}
	return tx.Remove(ctx, policyPath)
}

// afterECS takes the policy away, and tells ecs-init that the image is loaded.
func (u *upgrade) afterECS(ctx context.Context, tx *engine.Tx) error {
	if err := u.releaseService(ctx, tx); err != nil {
		return err
	}
	if unit, err := tx.Reader().Units.Unit(ctx, u.ecsUnit()); err == nil && !unit.Running() && u.gapFrom.IsZero() {
		u.gapFrom = u.packaging // the script has stopped it after all
	}
	if now, _, err := docker.Image(ctx, tx.Reader(), ecsagent.Image); err != nil || u.loaded == "" || now != u.loaded {
		return nil //nolint:nilerr // its start loads it then
	}
	return tx.WriteFile(ctx, ecsagent.CacheState, strings.NewReader(imageIsLoaded), 0o644)
}

// imageIsLoaded is ecs-init's own mark for it (see ecsagent.CacheState).
const imageIsLoaded = "1"

// flushTime bounds the wait for the disk before the old agent stops.
const flushTime = 30 * time.Second

// flush has the disk take what the package and the image have left to be written, while the old agent still runs: Docker
// writes the state of a container that stops or starts through to the disk, and would wait for all of that.
func (u *upgrade) flush(ctx context.Context, tx *engine.Tx) {
	paths := []string{ecsagent.DataDir, DataDir}
	if info, err := docker.Inspect(ctx, tx.Reader()); err == nil && info.Root != "" {
		paths = append(paths, info.Root)
	}
	tx.Flush(ctx, flushTime, paths...)
}

// betweenECS is done when the old agent has stopped and the new one has not started. It keeps what the new one could spoil:
// the agent's state, which is whole only now.
func (u *upgrade) betweenECS(ctx context.Context, tx *engine.Tx) error {
	binding, err := ecsagent.ReadBinding(tx.Reader())
	if err != nil {
		return err
	}
	var saved savedState
	for _, arn := range binding.Instances {
		saved.Instances = append(saved.Instances, arn.String())
	}
	for _, file := range []string{ecsagent.StateDB, ecsagent.LegacyState} {
		held, err := tx.Backup(file)
		if err != nil {
			return err
		}
		if held != "" {
			saved.Files = append(saved.Files, savedFile{file, held})
		}
	}
	if err := tx.Effect(ctx, stateKind, saved, func(context.Context) error { return nil }); err != nil {
		return err
	}
	u.ecsSince = u.deps.Host.Now()
	u.begin()
	if life, err := ecsagent.ReadLife(tx.Reader(), u.ecsSince); err == nil {
		u.oldDeaths = len(life.Deaths)
	}
	return nil
}

// startPlugins starts again what else of the package's ran, and its script has stopped.
func (u *upgrade) startPlugins(ctx context.Context, tx *engine.Tx) error {
	for name := range strings.SplitSeq(u.pins[pinPlugins], ",") {
		if name == "" {
			continue
		}
		if err := tx.Unit(ctx, name, engine.UnitWant{Start: true}); err != nil {
			return err
		}
	}
	return nil
}

// ecsAgain starts the ECS agent. Whether it is well is the watch's to say.
func (u *upgrade) ecsAgain() engine.Step {
	return engine.Step{
		ID: "ecs.start", Title: "Start the ECS agent",
		Observe: func(ctx context.Context, r host.Reader) (engine.Obs, error) {
			if u.pins[pinECS] == "" || u.seen || u.resumed != nil && u.resumed.Committed {
				return engine.Obs{State: engine.OK, Detail: "as it is"}, nil
			}
			if !u.ecsSince.IsZero() {
				return engine.Obs{State: engine.OK, Detail: "started at " + stamp(u.ecsSince)}, nil
			}
			if held(r) { // a run was killed right behind the package manager
				return engine.Obs{State: engine.Pending, Detail: "remove " + policyPath}, nil
			}
			if meta, err := ecsagent.Introspect(ctx, r); err == nil && meta.Version != ssmagent.Upstream(u.pins[pinECS]) {
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("%s runs and %s is to run", meta.Version, u.pins[pinECS])}, nil
			}
			return u.registration.started(ctx, r, u.ecsUnit(), u.ecsInputs)
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			if err := u.releaseService(ctx, tx); err != nil {
				return err
			}
			if err := tx.ReloadUnits(ctx); err != nil {
				return err
			}
			if err := u.startPlugins(ctx, tx); err != nil {
				return err
			}
			if err := u.awaitSilence(ctx, tx.Reader()); err != nil {
				return err
			}
			digest, err := u.toStart(ctx, tx, u.ecsUnit(), u.ecsInputs) // no agent is connected between the stop and the start
			if err != nil {
				return err
			}
			u.flush(ctx, tx)
			if u.gapFrom.IsZero() {
				u.gapFrom = u.deps.Host.Now()
			}
			err = u.restart(ctx, tx, u.ecsUnit(), digest, func(ctx context.Context) error { return u.betweenECS(ctx, tx) })
			if err == nil || u.ecsSince.IsZero() { // else the new one was started
				return err
			}
			err = u.registration.because(tx, waiting{since: u.ecsSince, ecs: true}, err)
			u.blame(u.ecs(), failure.Of(err))
			u.keepWords(tx.Reader())
			return err
		},
	}
}

// awaitSilence waits until what the old agent's log says of itself can be told from what the new one's will say: its times
// are whole seconds, and an old agent that has connected just now would be taken for the new one. It waits before the old
// agent is stopped, so that this costs no time without one.
func (u *upgrade) awaitSilence(ctx context.Context, r host.Reader) error {
	for {
		now := r.Now()
		life, err := ecsagent.ReadLife(r, now)
		if err != nil || len(life.Findings) == 0 && life.Connected.IsZero() && life.LostSince.IsZero() && life.Registered.IsZero() {
			return err
		}
		if err := sleep(ctx, time.Second-now.Sub(now.Truncate(time.Second))); err != nil {
			return err
		}
	}
}

// watching watches the new agents, and comes to a decision.
func (u *upgrade) watching() engine.Step {
	return engine.Step{
		ID: watchStep, Title: "Watch the new agents",
		Observe: func(context.Context, host.Reader) (engine.Obs, error) {
			switch {
			case u.seen, u.resumed != nil && u.resumed.Committed:
				return engine.Obs{State: engine.OK, Detail: "they are well"}, nil
			case !u.due:
				return engine.Obs{State: engine.OK, Detail: "nothing new to watch"}, nil
			}
			return engine.Obs{State: engine.Unknown, Detail: "go back unless they are well for " + u.steady().String()}, nil
		},
		Change: u.watch,
	}
}

// heldBefore are the packages that were held and are replaced.
func (u *upgrade) heldBefore() []string {
	if u.pins[pinHeld] == "" {
		return nil
	}
	return strings.Split(u.pins[pinHeld], ",")
}

// holdAgain holds what was held: the version was named over the hold, and the hold is the operator's.
func (u *upgrade) holdAgain() engine.Step {
	told := false
	return engine.Step{
		ID: "upgrade.hold", Title: "Hold the packages that were held",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			for _, name := range u.heldBefore() {
				if p, err := r.Packages.Package(name); err != nil || !p.Held && !told {
					return engine.Obs{State: engine.Pending, Detail: "hold " + name}, err
				}
			}
			return engine.Obs{State: engine.OK, Detail: first(u.pins[pinHeld], "none was held")}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			for _, name := range u.heldBefore() {
				err := tx.Effect(ctx, holdKind, heldPackage{name}, func(ctx context.Context) error {
					result, err := tx.Run(ctx, holdCommand(name))
					if err == nil && result.ExitCode != 0 {
						err = failure.New(failure.PackageInstall, "%s", strings.TrimSpace(result.Output))
					}
					return err
				})
				if err != nil && ctx.Err() == nil { // the upgrade is done all the same
					told = true
					u.warnings = append(u.warnings, fmt.Sprintf("%s was held, and is not any more: %s; apt-mark hold %[1]s", name, failure.Of(err).Message))
					continue
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// steady is how long the new agents must be well.
func (u *upgrade) steady() time.Duration {
	return first(u.asked.WatchTime, u.goal.Steady, UpgradeSteady)
}

// activeAgain makes the instance that was drained ACTIVE. Who cannot is warned: the upgrade is done all the same.
func (u *upgrade) activeAgain() engine.Step {
	return engine.Step{
		ID: "upgrade.active", Title: "Make the container instance ACTIVE again",
		Observe: func(context.Context, host.Reader) (engine.Obs, error) {
			if u.active {
				return engine.Obs{State: engine.OK, Detail: control.Active}, nil
			}
			return engine.Obs{State: engine.Unknown, Detail: "make it ACTIVE"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			u.active = true
			err := tx.Effect(ctx, activeKind, struct{}{}, func(ctx context.Context) error {
				return within(ctx, drainUndo, func(ctx context.Context) error {
					caller, err := u.remote.orNode(ctx)
					if err != nil {
						return err
					}
					return caller.SetInstanceStatus(ctx, u.cluster, u.pins[pinARN], control.Active)
				})
			})
			if err != nil && ctx.Err() == nil {
				u.warnings = append(u.warnings, "the container instance stays DRAINING: "+failure.Of(err).Message+"; anywhere activate makes it ACTIVE")
				return nil
			}
			return err
		},
	}
}

// oldImage removes the image that was replaced. One that somebody has given a name, or that a container is made of, stays.
func (u *upgrade) oldImage() engine.Step {
	return engine.Step{
		ID: "ecs.image", Title: "Remove the image that was replaced",
		Observe: func(ctx context.Context, r host.Reader) (engine.Obs, error) {
			old := u.pins[pinOldImage]
			if old == "" || u.kept {
				return engine.Obs{State: engine.OK, Detail: "none is to go"}, nil
			}
			now, _, err := docker.Image(ctx, r, ecsagent.Image)
			if err == nil && now != old {
				var unnamed bool
				if unnamed, err = docker.Unnamed(ctx, r, old); err == nil && unnamed {
					return engine.Obs{State: engine.Pending, Detail: "remove " + old}, nil
				}
			}
			if err != nil { // the upgrade is done; an image that stays is no reason to call it failed
				return engine.Obs{State: engine.OK, Detail: "Docker does not say: " + failure.Of(err).Message}, nil //nolint:nilerr // see above
			}
			return engine.Obs{State: engine.OK, Detail: "none is to go"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			err := tx.Effect(ctx, imageGoneKind, replacedImage{Old: u.pins[pinOldImage]}, func(ctx context.Context) error {
				return docker.RemoveImage(ctx, tx.Reader(), u.pins[pinOldImage], false)
			})
			if err != nil && ctx.Err() == nil {
				u.kept = true
				u.warnings = append(u.warnings, "the ECS agent's old image stays: "+failure.Of(err).Message)
				return nil
			}
			return err
		},
	}
}

// remembered writes into the record which version was replaced: what "anywhere rollback" goes back to. Who has gone back
// has nothing left to go back from.
func (u *upgrade) remembered() engine.Step {
	return engine.Step{
		ID: "upgrade.record", Title: "Remember the version that was replaced",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			record, err := readRecord(r)
			if err != nil {
				return engine.Obs{}, err
			}
			for _, a := range u.both() {
				changed, ok := u.changeOf(a)
				known, has := record.Upgrades[a.name]
				switch {
				case !ok:
				case u.verb == verbUpgradeBack && has:
					return engine.Obs{State: engine.Pending, Detail: "there is no upgrade of " + a.name + " to go back from any more"}, nil
				case u.verb == verbUpgrade && known != changed:
					return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("%s %s, before it %s", a.name, changed.To.Version, changed.From.Version)}, nil
				}
			}
			return engine.Obs{State: engine.OK, Detail: "as it is"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			return u.own(ctx, tx, func(record *Record) {
				for _, a := range u.both() {
					changed, ok := u.changeOf(a)
					switch {
					case !ok:
					case u.verb == verbUpgradeBack:
						delete(record.Upgrades, a.name)
					default:
						if record.Upgrades == nil {
							record.Upgrades = map[string]Upgraded{}
						}
						record.Upgrades[a.name] = changed
					}
				}
			})
		},
	}
}

// changeOf is what the operation has replaced of one agent; ok is false when it is none of its packages.
func (u *upgrade) changeOf(a *upgradedAgent) (changed Upgraded, ok bool) {
	from, to := u.pins[a.from], u.pins[a.pin]
	if from == "" || to == "" || sameVersion(from, to) {
		return Upgraded{}, false
	}
	return Upgraded{From: u.cachedPackage(a, from), To: u.cachedPackage(a, to)}, true
}

// cachedPackage is what the cache has of a package's version; only its version where it has none.
func (u *upgrade) cachedPackage(a *upgradedAgent, version string) OwnedPackage {
	if a.installed.Snap {
		return u.snapPackage(version)
	}
	if pkg, err := u.fetchedOnce(u.ref(a.product, version)); err == nil {
		return OwnedPackage{Version: version, SHA256: pkg.SHA256, Key: pkg.KeyFingerprint}
	}
	if known, ok := u.verifiedThen[packageKey(a, version)]; ok {
		return known
	}
	for _, known := range []OwnedPackage{u.record.Upgrades[a.name].From, u.record.Upgrades[a.name].To} {
		if known.Version == version {
			return known
		}
	}
	return OwnedPackage{Version: version}
}
