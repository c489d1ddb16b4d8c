package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
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

const (
	verbUpgrade = "upgrade"
	// verbUpgradeBack is the operation of "anywhere rollback" that goes back from an upgrade which is done.
	verbUpgradeBack = "rollback"
)

// Agents that --only names.
const (
	OnlyECS = "ecs"
	OnlySSM = "ssm"
)

const (
	riskNoWayBack = "no-way-back"
	pinDrained    = "drained" // the instance is made ACTIVE again at the end
	pinARN        = "arn"
	pinOldImage   = "old-image"
	pinPlugins    = "plugins" // units of the volume plugin that ran
	pinHeld       = "held"    // packages that the package manager was told to keep, and that are replaced all the same
	pinFromECS    = "from-ecs-init"
	pinFromSSM    = "from-ssm-agent"
)

// UpgradeRequest is what "anywhere upgrade" was asked for.
type UpgradeRequest struct {
	ECSAgentVersion string // like 1.105.1; "" and latest are the newest
	SSMAgentVersion string
	Only            string // ecs or ssm; "" is both
	AllowDowngrade  bool

	Artifacts string // --artifacts: URL or absolute folder
	Keyring   string // --keyring: file with further public keys

	Drain        bool          // move the tasks away first, and make the instance ACTIVE again
	DrainTimeout time.Duration // for that; 0 is DefaultDrain

	Check            bool          // look, and change nothing
	WaitTimeout      time.Duration // for a new agent to connect; 0 is UpgradePatience
	WatchTime        time.Duration // for which the new agents must be well; 0 is UpgradeSteady
	AcceptRisk       []string
	DryRun           bool
	DetailedExitcode bool
	LockTimeout      time.Duration
}

// UpgradeResult is the "result" of upgrade's document.
type UpgradeResult struct {
	Cluster              string          `json:"cluster"`
	Region               string          `json:"region"`
	ManagedInstanceID    string          `json:"managedInstanceId"`
	ContainerInstanceARN string          `json:"containerInstanceArn"`
	ECSAgent             UpgradeAgent    `json:"ecsAgent"`       // the ECS agent
	SSMAgent             UpgradeAgent    `json:"ssmAgent"`       // the SSM agent
	RunningTasks         int             `json:"runningTasks"`   // containers of tasks that run, which an upgrade does not touch
	DisconnectedMs       int64           `json:"disconnectedMs"` // how long no ECS agent was connected; 0 is none, or not measured
	Failed               []FailedUpgrade `json:"failed"`         // upgrades that were taken back on this host
	Owed                 []string        `json:"owed"`           // AWS calls still to be made, as command lines of the aws tool
}

// UpgradeAgent is one agent in its versions, and what becomes of it.
type UpgradeAgent struct {
	Installed    string `json:"installed"`    // the package's version
	Loaded       string `json:"loaded"`       // of the ECS agent, the version of the image that came with the package; of the SSM agent empty
	LoadedImage  string `json:"loadedImage"`  // id of the image that Docker has loaded and that the next start takes
	Running      string `json:"running"`      // version of the agent that runs, by its own word; empty when that is not known
	Newest       string `json:"newest"`       // the newest that can be had; empty when nobody asked
	Wanted       string `json:"wanted"`       // the version that it is to have
	Before       string `json:"before"`       // the version that this run replaced; empty when it replaced none
	Held         bool   `json:"held"`         // the package manager was told to keep it as it is
	Channel      string `json:"channel"`      // of a snap, the channel that it follows and is refreshed from; else, and where nobody asked, empty
	KnownBad     string `json:"knownBad"`     // why the installed version is known to be bad; empty when it is not
	FailedBefore bool   `json:"failedBefore"` // the newest version was taken back here once, and is not tried unless it is named
	Due          bool   `json:"due"`          // an upgrade would change it
	Action       string `json:"action"`       // what would be done, or was: none, replace, restart
}

// What becomes of an agent.
const (
	actNone    = "none"
	actReplace = "replace"
	actRestart = "restart"
)

// upgrade is one run of it.
type upgrade struct {
	*registration
	asked        UpgradeRequest
	verb         string
	trusts       map[string]Upgraded     // whose packages in the cache are taken by the record's sums; nil is none
	verifiedThen map[string]OwnedPackage // by the run that this one goes on with
	named        string                  // the key of the operation that a tender goes on with; "" is this request's own

	agents map[artifact.Product]*upgradedAgent
	record Record
	failed []FailedUpgrade
	due    bool // something is to be done
	node   string
	goal   watchGoal
	seen   bool      // the watch of this run came to a commit
	drain  *draining // nil where no task is to be moved away
	active bool      // the instance was made ACTIVE again
	kept   bool      // the replaced image could not be removed

	loaded    string    // the id of the image that this run has loaded
	packaging time.Time // when this run began to install the last package
	started   time.Time // when this run began to start the agents anew
	oldDeaths int       // in the second in which the new agent was started
	gapFrom   time.Time // when it stopped the ECS agent
	gap       time.Duration
	guilty    *FailedUpgrade // the version that this run takes back
	words     map[string][]byte
}

// upgradedAgent is what an upgrade has to know of one agent.
type upgradedAgent struct {
	product         artifact.Product
	name, pin, from string
	flag, asked     string
	refused         func(string) (string, bool)
	bad             func(string) (string, bool)
	compare         func(a, b string) int

	in        bool // --only does not leave it out
	installed host.Package
	snap      engine.SnapWant // how a snap comes to the version
	back      Upgraded        // that is gone back from
	running   string
	newest    string
	target    string // the version that it is to have
	action    string
	again     bool // the newest was taken back here once
}

func newUpgrade(d Deps, req UpgradeRequest, verb string) *upgrade {
	u := &upgrade{
		registration: &registration{
			deps: d, engine: d.engine(), fetched: map[artifact.Ref]*fetch{},
			req: RegisterRequest{Artifacts: req.Artifacts, Keyring: req.Keyring, AcceptRisk: req.AcceptRisk, WaitTimeout: req.WaitTimeout},
		},
		asked: req, verb: verb, words: map[string][]byte{},
	}
	u.agents = map[artifact.Product]*upgradedAgent{
		artifact.SSMAgent: {
			product: artifact.SSMAgent, name: ssmagent.Package, pin: pinSSM, from: pinFromSSM, flag: "--ssm-agent-version", asked: req.SSMAgentVersion,
			refused: ssmagent.KnownBad, bad: ssmagent.KnownBad, compare: ssmagent.CompareVersions, in: req.Only != OnlyECS, action: actNone,
		},
		artifact.ECSInit: {
			product: artifact.ECSInit, name: ecsagent.Package, pin: pinECS, from: pinFromECS, flag: "--ecs-agent-version", asked: req.ECSAgentVersion,
			refused: ecsagent.NotToInstall, bad: ecsagent.KnownBad, compare: ecsagent.CompareVersions, in: req.Only != OnlySSM, action: actNone,
		},
	}
	return u
}

// both are the agents in the order in which they are upgraded: the ECS agent lives on what the SSM agent keeps.
func (u *upgrade) both() []*upgradedAgent {
	return []*upgradedAgent{u.agents[artifact.SSMAgent], u.agents[artifact.ECSInit]}
}

func (u *upgrade) ecs() *upgradedAgent { return u.agents[artifact.ECSInit] }
func (u *upgrade) ssm() *upgradedAgent { return u.agents[artifact.SSMAgent] }

// Validate refuses what contradicts itself, before the host is looked at.
func (req UpgradeRequest) Validate() error {
	if err := checkVersions([]string{req.ECSAgentVersion}, []string{req.SSMAgentVersion}); err != nil {
		return err
	}
	for _, c := range []struct{ only, flag, version string }{
		{OnlySSM, "--ecs-agent-version", req.ECSAgentVersion}, {OnlyECS, "--ssm-agent-version", req.SSMAgentVersion},
	} {
		if req.Only == c.only && c.version != "" {
			return failure.New(failure.Usage, "--only %s excludes %s", c.only, c.flag).WithRemedy("leave one of the two out")
		}
	}
	if req.Drain && req.Only == OnlySSM {
		return failure.New(failure.Usage, "--drain excludes --only ssm: the SSM agent has nothing to do with tasks").WithRemedy("leave one of the two out")
	}
	if req.Check && req.DryRun {
		return failure.New(failure.Usage, "--check excludes --dry-run").
			WithRemedy("--check says what could be upgraded; --dry-run goes through the steps as root")
	}
	return nil
}

// Upgrade replaces the agents' versions, in place and as a whole: it ends with the new ones at work, or with the old.
func Upgrade(ctx context.Context, d Deps, req UpgradeRequest) (Report, error) {
	u := newUpgrade(d, req, verbUpgrade)
	if err := req.Validate(); err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	if req.Check {
		return u.look(ctx)
	}
	return u.run(ctx)
}

// run is an upgrade, or the way back from one.
func (u *upgrade) run(ctx context.Context) (Report, error) {
	if err := u.gates(ctx); err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	if err := u.settleSource(); err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	if !u.asked.DryRun {
		release, err := engine.Lock(ctx, u.deps.Host, LockPath, u.deps.RunID, u.asked.LockTimeout)
		if err != nil {
			return u.report(ctx, engine.Outcome{}), err
		}
		defer release()
		if err := disarm(ctx, u.deps); err != nil { // of one that was killed at its very end
			return u.report(ctx, engine.Outcome{}), err
		}
	}
	if err := u.refuseSnap(ctx); err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	if err := u.settle(ctx); err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	if u.asked.DryRun {
		return u.dryRun(ctx)
	}
	return u.apply(ctx)
}

// apply carries the plan out and closes what belongs to it.
func (u *upgrade) apply(ctx context.Context) (Report, error) {
	outcome, err := u.engine.Apply(ctx, u.plan(), engine.Options{})
	if err != nil {
		u.remember(&outcome)
		if outcome.RolledBack {
			u.awaitOld(ctx)
		}
		report := u.report(ctx, outcome)
		disarmed(ctx, u.deps, &report)
		return report, u.explain(err, outcome)
	}
	u.prune()
	report := u.report(ctx, outcome)
	disarmed(ctx, u.deps, &report)
	report.Message = u.success(outcome)
	return report, nil
}

// oldTime is how long the old agent is waited for after it came back.
const oldTime = time.Minute

// awaitOld waits until the old ECS agent is at work again, so that who is told that it is back finds it so. Who does not
// want to wait, as after Ctrl-C, does not.
func (u *upgrade) awaitOld(ctx context.Context) {
	if u.pins[pinECS] == "" || !u.goal.ECS {
		return
	}
	reader, begun := u.deps.Host.Reader, u.deps.Host.Now()
	for ctx.Err() == nil && reader.Now().Sub(begun) < oldTime {
		unit, err := reader.Units.Unit(ctx, u.ecsUnit())
		if err == nil && unit.Running() {
			meta, err := ecsagent.Introspect(ctx, reader)
			life, lifeErr := ecsagent.ReadLife(reader, unit.ActiveSince)
			if err == nil && lifeErr == nil && meta.ContainerInstanceARN == u.goal.ARN && (!life.Connected.IsZero() || !u.goal.Connected) {
				return
			}
		}
		if sleep(ctx, pause(reader.Now().Sub(begun))) != nil {
			return
		}
	}
	if ctx.Err() == nil {
		u.warnings = append(u.warnings, "the old ECS agent is back and has not connected within "+oldTime.String()+
			": anywhere status says why")
	}
}

// dryRun observes with the same steps that would apply, and runs the checks that would stop it.
func (u *upgrade) dryRun(ctx context.Context) (Report, error) {
	steps, err := u.engine.Observe(ctx, u.plan())
	report := u.report(ctx, engine.Outcome{Steps: steps})
	if err != nil {
		return report, err
	}
	if !u.due {
		report.Message = u.success(engine.Outcome{})
		return report, nil
	}
	err = u.examine(ctx)
	report.Checks, report.Warnings = u.checks, slices.Clone(u.warnings)
	if err == nil && u.resumed == nil {
		err = u.foresee(ctx)
	}
	if err != nil {
		return report, err
	}
	report.Message = "would " + u.intent() + "; nothing was changed"
	if u.asked.DetailedExitcode {
		report.Exit = failure.ExitPending
	}
	return report, nil
}

// foresee refuses what an upgrade would find out when it fetches its packages.
func (u *upgrade) foresee(ctx context.Context) error {
	if err := u.namedPieces(ctx); err != nil {
		return err
	}
	if err := u.upgradePieces(ctx); err != nil {
		return err
	}
	if f := u.foreseeNoWayBack(ctx); f != nil {
		return f
	}
	return nil
}

// settle makes the request definite: where the host belongs, which versions there are, which it is to have.
func (u *upgrade) settle(ctx context.Context) error {
	// Another operation that is unfinished is refused before anybody is asked anything.
	if _, err := u.engine.Observe(ctx, engine.Plan{Verb: u.verb, Key: u.key()}); err != nil {
		return err
	}
	var err error
	if u.resumed, err = u.engine.Open(); err != nil {
		return err
	}
	if u.resumed != nil {
		d, err := readDeadline(u.deps.Host.Reader)
		if err != nil {
			return err
		}
		if d != nil {
			u.goal, u.verifiedThen = d.Goal, d.Packages
		}
	}
	if err := u.settleHost(ctx); err != nil {
		return err
	}
	if err := u.settleTargets(ctx); err != nil {
		return err
	}
	if err := u.trust(); err != nil {
		return err
	}
	u.pins[pinExec] = ssmagent.Upstream(first(u.ssm().target, u.ssm().installed.Version))
	if err := u.settleDrain(ctx); err != nil {
		return err
	}
	return u.settleSession()
}

// settleDrain finds out whether the tasks can be moved away, before anything is changed.
func (u *upgrade) settleDrain(ctx context.Context) error {
	if !u.asked.Drain || u.pins[pinECS] == "" || u.resumed != nil && u.resumed.Committed {
		return nil
	}
	if u.arnText == "" {
		return failure.New(failure.NotVerified, "--drain: the ECS agent does not tell its container instance, "+
			"so nobody knows what to drain").
			WithRemedy("anywhere status says what is wrong; or leave --drain out")
	}
	u.drain = &draining{
		deps: u.deps, remote: u.remote, cluster: u.cluster, instance: u.arnText, local: true, timeout: first(u.asked.DrainTimeout, DefaultDrain),
	}
	u.remote.account = u.account
	err := u.drain.settle(ctx)
	u.warnings = append(u.warnings, u.drain.warnings...)
	if err == nil && !u.drain.gone && u.drain.before != control.Draining {
		u.pins[pinDrained] = "yes"
	}
	return err
}

// settleHost reads what the host is. One that is no external instance is refused.
func (u *upgrade) settleHost(ctx context.Context) error {
	reader := u.deps.Host.Reader
	release, err := host.ReadOSRelease(reader.Files)
	if err != nil {
		return err
	}
	u.row, _, _ = platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	if u.record, err = readRecord(reader); err != nil {
		return err
	}
	if u.failed, err = readFailed(reader); err != nil {
		return err
	}
	identity, err := ssmagent.ReadIdentity(reader)
	if err != nil {
		return err
	}
	if !identity.Registered() {
		return noInstance("this host is not registered with Systems Manager").WithEvidence("%s", ssmagent.KeyPath)
	}
	for _, a := range u.both() {
		if a.installed, err = reader.Packages.Package(a.name); err != nil {
			return err
		}
		if a.in && !a.installed.Installed && !a.installed.Partial {
			return noInstance("the package %s is not installed", a.name)
		}
	}
	config, err := ecsagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	ssm, err := ssmagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	u.profile = preflight.AgentProfile("", ssm, config, true)
	u.node, u.region = identity.InstanceID, identity.Region
	u.cluster = ecsagent.ClusterName(first(config.Cluster(), "default"))
	u.remote = &remote{deps: u.deps, region: u.region}
	if u.record.Registration != nil && u.record.Registration.ManagedInstanceID == u.node {
		u.account = u.record.Registration.Account
	}
	u.settleRunning(ctx)
	u.pins = map[string]string{pinRegion: u.region, pinCluster: u.cluster, pinAccount: u.account, pinARN: u.arnText}
	u.settled = true
	return nil
}

func noInstance(format string, args ...any) *failure.Error {
	return failure.New(failure.NoInstance, format, args...)
}

// settleRunning asks the agents that run for their versions. What cannot be seen is not known.
func (u *upgrade) settleRunning(ctx context.Context) {
	reader := u.deps.Host.Reader
	if meta, err := ecsagent.Introspect(ctx, reader); err == nil {
		u.ecs().running, u.arnText = meta.Version, meta.ContainerInstanceARN
	} else if binding, err := ecsagent.ReadBinding(reader); err == nil && len(binding.Instances) == 1 {
		u.arnText = binding.Instances[0].String()
	}
	if arn, err := ecsagent.ParseInstanceARN(u.arnText); err == nil {
		u.arn, u.account = arn, first(u.account, arn.Account)
	}
	if unit, err := reader.Units.Unit(ctx, u.ssmUnit()); err == nil && unit.Running() {
		if process, err := ssmagent.ReadProcess(reader, unit.MainPID); err == nil {
			u.ssm().running = process.Version
		}
	}
}

// settleTargets decides which version each agent is to have. The newest is asked for side by side.
func (u *upgrade) settleTargets(ctx context.Context) error {
	var asking sync.WaitGroup
	errs := map[*upgradedAgent]error{}
	var mu sync.Mutex
	for _, a := range u.both() {
		if !a.in || u.resumed != nil { // what was begun has decided already, and needs nobody
			a.target = u.pinned(a)
			continue
		}
		asking.Go(func() {
			version, err := u.resolveAgent(ctx, a)
			mu.Lock()
			defer mu.Unlock()
			if a.target = version; explicit(a.asked) == "" {
				a.newest = version
			}
			errs[a] = err
		})
	}
	asking.Wait()
	if ssm := u.ssm(); !ssm.in && u.resumed == nil {
		if why, bad := ssm.bad(ssm.installed.Version); bad {
			u.warnings = append(u.warnings, fmt.Sprintf("%s %s: %s; it goes first where --only ecs is left out", ssm.name, ssm.installed.Version, why))
		}
	}
	if errs[u.ssm()] != nil || errs[u.ecs()] != nil {
		var named []artifact.Ref // what is asked for by name, and is looked for with the rest
		for _, a := range u.both() {
			if a.in && explicit(a.asked) != "" && !a.installed.Snap { // no package can take a snap's place
				named = append(named, u.ref(a.product, a.asked))
			}
		}
		return u.pieces(ctx, named, errs[u.ssm()], errs[u.ecs()])
	}
	for _, a := range u.both() {
		if err := u.settleTarget(a); err != nil {
			return err
		}
		if a.action != actNone || u.pinned(a) != "" {
			u.due = true
			u.pins[a.pin], u.pins[a.from] = a.target, first(u.resumedPin(a.from), a.installed.Version)
			if err := u.pinSnap(a); err != nil {
				return err
			}
		}
	}
	u.due = u.due || u.resumed != nil
	return nil
}

// pinned is the version that the operation which this run goes on with has decided on.
func (u *upgrade) pinned(a *upgradedAgent) string { return u.resumedPin(a.pin) }

func (u *upgrade) resumedPin(name string) string {
	if u.resumed == nil {
		return ""
	}
	return u.resumed.Pins[name]
}

// settleTarget compares the version that one agent is to have with the one that it has.
func (u *upgrade) settleTarget(a *upgradedAgent) error {
	have := a.installed.Version
	switch {
	case u.resumed != nil:
		a.in = u.pinned(a) != ""
		if a.in {
			a.action = actReplace
		}
		return nil
	case !a.in:
		return nil
	}
	why, refused := a.refused(a.target)
	same := sameVersion(have, a.target) || a.compare(have, a.target) == 0
	switch order := a.compare(a.target, have); {
	case a.installed.Partial:
		a.action = actReplace
	case same:
		a.target = have
		if u.startPending(a) {
			a.action = actRestart
		}
		return nil
	case order < 0 && a.product == artifact.ECSInit && a.compare(a.target, ecsagent.StateFloor) < 0:
		return failure.New(failure.DowngradeRefused, "%s %s does not survive the way back from %s: agents before %s do not read %s, "+
			"and lose the container instance and its tasks", a.name, a.target, have, ecsagent.StateFloor, ecsagent.StateDB).
			WithRemedy("name a newer one with %s", a.flag)
	case refused && u.verb == verbUpgradeBack: // it ran here, and its end was the operator's own wish
		u.warnings = append(u.warnings, fmt.Sprintf("%s %s: %s", a.name, a.target, why))
	case refused && u.asked.Check && explicit(a.asked) == "": // here it is an answer, not a refusal
		u.warnings = append(u.warnings, fmt.Sprintf("%s %s is the newest that can be had, and is known to be bad: %s", a.name, a.target, why))
		a.target = have
		return nil
	case refused:
		return failure.New(failure.KnownBadVersion, "%s %s: %s", a.name, a.target, why).
			WithRemedy("name a better one with %s", a.flag)
	case order < 0 && explicit(a.asked) == "":
		where := ""
		if a.installed.Snap {
			where = " in the channel that the snap follows, " + a.snap.Follows
		}
		u.warnings = append(u.warnings, fmt.Sprintf("%s %s is installed, and the newest that can be had%s is %s", a.name, have, where, a.target))
		a.target = have
		return nil
	case order < 0 && !u.asked.AllowDowngrade:
		return failure.New(failure.DowngradeRefused, "%s %s is installed, and %s %s is older", a.name, have, a.flag, a.target).
			WithEvidence("what a newer agent has written into its state, an older one may lose")
	case explicit(a.asked) == "" && u.failedBefore(a):
		a.again, a.target = true, have
		return nil
	}
	if a.installed.Held && explicit(a.asked) == "" {
		if u.asked.Check { // here it is an answer, not a refusal
			u.warnings = append(u.warnings, fmt.Sprintf("%s is held at %s: an upgrade to %s is refused before %s",
				a.name, have, a.target, u.unhold(a)))
			return nil
		}
		return failure.New(failure.PackageHeld, "%s is held at %s, and %s is to be installed", a.name, have, a.target).
			WithRemedy("%s; or leave it out with --only; or name the version, over the hold: %s %s", u.unhold(a), a.flag, a.target)
	}
	if order := a.compare(a.target, have); order < 0 && u.verb == verbUpgrade && a.product == artifact.ECSInit {
		u.warnings = append(u.warnings, fmt.Sprintf("%s %s is older than %s: it does not know, and loses, what the newer one has written into %s of "+
			"its tasks; --drain moves them away first", a.name, a.target, have, ecsagent.StateDB))
	}
	a.action = actReplace
	return nil
}

// startPending reports whether another version runs than is installed: somebody replaced the package and left the agent.
func (u *upgrade) startPending(a *upgradedAgent) bool {
	return a.running != "" && a.running != ssmagent.Upstream(a.installed.Version)
}

// failedBefore reports whether the version was taken back on this host, and warns of it.
func (u *upgrade) failedBefore(a *upgradedAgent) bool {
	for _, f := range u.failed {
		if f.Package == a.name && a.compare(f.Version, a.target) == 0 {
			u.warnings = append(u.warnings, fmt.Sprintf("%s %s was taken back here at %s (%s) and is not tried again; "+
				"to try it: anywhere upgrade %s %s",
				a.name, a.target, f.At, f.Reason, a.flag, a.target))
			return true
		}
	}
	return false
}

// settleSession refuses to replace the SSM agent below the very session that the command runs in, which ends with it.
func (u *upgrade) settleSession() error {
	if u.ssm().action == actNone || u.resumed != nil {
		return nil
	}
	session := ssmagent.Session(u.deps.Host.Reader)
	switch {
	case session == "":
		return nil
	case u.accepts(riskSession):
		u.warnings = append(u.warnings, "this session of Systems Manager may end with the old SSM agent; the upgrade goes on without it, as process "+
			FollowUpgrade(os.Getpid()))
		return nil
	}
	return failure.New(failure.SSMSession, "this command runs in a session of Systems Manager, below %s, "+
		"which ends when the SSM agent is replaced", session).
		WithRemedy("run it from another shell; or leave the SSM agent out: --only ecs; "+
			"or accept it, and the upgrade goes on without the session: --accept-risk %s", riskSession)
}

// UpgradeSession is the SSM agent's process below which this one runs, where an upgrade may end it; "" where there is none,
// or nobody has accepted that it ends.
func UpgradeSession(r host.Reader, accepted []string) string {
	if r.Self.EUID != 0 || !slices.Contains(accepted, riskSession) {
		return ""
	}
	return ssmagent.Session(r)
}

// UpgradeScope is the unit in which an upgrade goes on that has left the session that it was typed in.
func UpgradeScope(run string) string { return deadlineUnit + "-" + run + ".scope" }

// FollowUpgrade says how an upgrade is followed whose session has ended.
func FollowUpgrade(pid int) string {
	return fmt.Sprintf("%d; to follow it from another session: anywhere status; anywhere operation show; tail -f %s", pid, defaultLog)
}

// key is the digest that makes "the same command".
func (u *upgrade) key() string {
	if u.named != "" {
		return u.named
	}
	text, err := json.Marshal(struct {
		ECS, SSM, Only string
		Drain          bool
	}{u.asked.ECSAgentVersion, u.asked.SSMAgentVersion, u.asked.Only, u.asked.Drain})
	if err != nil { // strings always marshal
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// intent is what is to be done, in words.
func (u *upgrade) intent() string {
	var parts []string
	for _, a := range u.both() {
		switch a.action {
		case actReplace:
			line := fmt.Sprintf("replace %s %s by %s", a.name, first(u.pins[a.from], a.installed.Version), a.target)
			if a.installed.Snap {
				line = fmt.Sprintf("have snapd bring the snap %s from %s to %s", a.name, first(u.pins[a.from], a.installed.Version), a.target)
			}
			parts = append(parts, line)
		case actRestart:
			parts = append(parts, fmt.Sprintf("restart %s, which runs as %s and is installed as %s", a.name, a.running, a.installed.Version))
		}
	}
	return strings.Join(parts, " and ")
}

// success is the sentence for agents that are as they were wanted.
func (u *upgrade) success(o engine.Outcome) string {
	var have []string
	for _, a := range u.both() {
		if p, err := u.deps.Host.Packages.Package(a.name); err == nil && p.Installed {
			have = append(have, a.name+" "+p.Version)
		}
	}
	what := strings.Join(have, " and ")
	if !o.Changed {
		return "nothing to do: " + what
	}
	text := "upgraded"
	if u.verb == verbUpgradeBack {
		text = "went back"
	}
	text += ": " + what + " are at work"
	if len(have) == 1 {
		text = strings.TrimSuffix(text, "are at work") + "is at work"
	}
	if u.gap > 0 {
		text += fmt.Sprintf("; no ECS agent was connected for %s", u.gap.Round(100*time.Millisecond))
	}
	return text
}

// report tells what is so now.
func (u *upgrade) report(ctx context.Context, o engine.Outcome) Report {
	if ctx.Err() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	reader := u.deps.Host.Reader
	result := UpgradeResult{
		Cluster: u.cluster, Region: u.region, ManagedInstanceID: u.node, ContainerInstanceARN: u.arnText,
		DisconnectedMs: u.gap.Milliseconds(), Failed: append([]FailedUpgrade{}, u.failed...),
		Owed: append([]string{}, u.owed...),
	}
	for _, a := range u.both() {
		if p, err := reader.Packages.Package(a.name); err == nil {
			a.installed.Version = p.Version
			if !p.Snap { // of a snap its files do not tell
				a.installed.Held = p.Held
			}
		}
	}
	if u.settled {
		u.settleRunning(ctx)
	}
	result.ECSAgent, result.SSMAgent = u.ecs().result(u, o), u.ssm().result(u, o)
	result.ECSAgent.Loaded = ecsagent.CachedVersion(reader)
	result.ECSAgent.LoadedImage, _, _ = docker.Image(ctx, reader, ecsagent.Image) // empty where Docker does not tell
	result.RunningTasks = len(taskContainers(ctx, reader))
	return Report{
		Changed: o.Changed, Steps: o.Steps, Warnings: slices.Clone(u.warnings), Checks: u.checks, Result: result,
		RolledBack: o.RolledBack, Kept: o.Kept,
	}
}

func (a *upgradedAgent) result(u *upgrade, o engine.Outcome) UpgradeAgent {
	r := UpgradeAgent{
		Installed: a.installed.Version, Running: a.running, Newest: a.newest, Wanted: a.target, Held: a.installed.Held,
		FailedBefore: a.again, Due: a.action != actNone && !o.Changed, Action: a.action, Channel: a.snap.Follows,
	}
	if a.snap.Channel != "" && o.Changed {
		r.Channel = a.snap.Channel
	}
	r.KnownBad, _ = a.bad(a.installed.Version)
	if before := u.pins[a.from]; o.Changed && before != r.Installed {
		r.Before = before
	}
	return r
}

// explain adds to a failure what only the verb knows.
func (u *upgrade) explain(err error, o engine.Outcome) error {
	f := failure.Of(err)
	out := *f
	out.Err = err
	switch {
	case len(o.Kept) > 0:
		again := "the host goes on with it by itself within a minute (systemctl status " + deadlineUnit + ".timer); " +
			"anywhere operation show says what is left"
		out.Remedy = strings.TrimPrefix(f.Advice()+"; "+again, "; ")
	case o.RolledBack && u.guilty != nil:
		out.Remedy = fmt.Sprintf("the old version is back; the new one's log is kept in %s; to try it again: anywhere upgrade %s %s",
			u.guilty.Logs, u.flagOf(u.guilty.Package), u.guilty.Version)
	default:
		return err
	}
	return &out
}

func (u *upgrade) flagOf(name string) string {
	for _, a := range u.both() {
		if a.name == name {
			return a.flag
		}
	}
	return ""
}

// look is "anywhere upgrade --check": as much as can be seen without root, and nothing is changed.
func (u *upgrade) look(ctx context.Context) (Report, error) {
	if err := u.settleSource(); err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	s := lookAt(ctx, u.deps)
	if ctx.Err() != nil {
		return u.report(ctx, engine.Outcome{}), context.Cause(ctx)
	}
	if s.packages.err != nil {
		return u.report(ctx, engine.Outcome{}), s.packages.err
	}
	reader := u.deps.Host.Reader
	release, err := host.ReadOSRelease(reader.Files)
	if err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	u.row, _, _ = platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	if err := ssmagent.RefuseSnap(ctx, reader); err != nil {
		return u.report(ctx, engine.Outcome{}), err
	}
	u.ecs().installed, u.ssm().installed = s.packages.value.ecs, s.packages.value.ssm
	u.ecs().running, u.ssm().running = s.agent.value.Version, s.process.value.Version
	u.node, u.arnText, u.cluster = s.node.value.identity.InstanceID, s.agent.value.ContainerInstanceARN, ecsagent.ClusterName(s.agent.value.Cluster)
	u.region = first(s.node.value.identity.Region, s.arn.Region, hostRegion(reader))
	u.pins = map[string]string{}
	for _, a := range u.both() {
		if a.in && !a.installed.Installed && !a.installed.Partial {
			return u.report(ctx, engine.Outcome{}), noInstance("the package %s is not installed", a.name)
		}
	}
	if u.region == "" {
		return u.report(ctx, engine.Outcome{}), noInstance("this host is not registered with Systems Manager")
	}
	if s.node.err == nil && !s.node.value.identity.Registered() {
		return u.report(ctx, engine.Outcome{}), noInstance("this host is not registered with Systems Manager").WithEvidence("%s", ssmagent.KeyPath)
	}
	if u.failed, err = readFailed(reader); err != nil && !failure.Is(err, failure.NotRoot) {
		return u.report(ctx, engine.Outcome{}), err
	}
	if err = u.settleTargets(ctx); err == nil {
		err = u.namedPieces(ctx)
	}
	if err == nil && u.deps.Host.Self.EUID == 0 { // others do not see what this host keeps
		if f := u.foreseeNoWayBack(ctx); f != nil {
			u.warnings = append(u.warnings, f.Message+": it is refused without --accept-risk "+riskNoWayBack)
		}
	}
	report := u.report(ctx, engine.Outcome{})
	if err != nil {
		return report, err
	}
	if op := s.open.value; op != nil && s.atWork == "" {
		report.Warnings = append(report.Warnings, op.Verb+" was begun here and is not finished: anywhere operation show")
	}
	report.Message = "nothing to do: " + strings.TrimPrefix(u.success(engine.Outcome{}), "nothing to do: ")
	if u.due {
		report.Message = "anywhere upgrade would " + u.intent()
		if u.asked.DetailedExitcode {
			report.Exit = failure.ExitPending
		}
	}
	return report, nil
}

// unhold is the command that ends a hold on a package.
func (u *upgrade) unhold(a *upgradedAgent) string {
	if a.installed.Snap {
		return "snap refresh --unhold " + a.name
	}
	return host.ManagerState{Family: string(u.row.Family), Manager: u.row.Manager}.UnholdCommand(a.name)
}
