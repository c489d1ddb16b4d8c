package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const verbMove = "move"

// Names of pins. What a run that goes on needs cannot be read from the host any more: the ECS agent's state is gone by then.
const (
	pinFromCluster = "from-cluster"  // name of the cluster that the host was in
	pinFromARN     = "from-instance" // its container instance there
	pinFromSetting = "from-setting"  // ECS_CLUSTER in the operator's file then, a name or an ARN; empty where it had none
	pinLeave       = "leave"         // every container instance that the host gives up, by ARN
	pinStatus      = "status"        // of the instance before: ACTIVE or DRAINING
	pinAttributes  = "attributes"    // custom ones, as a JSON object
	pinTags        = "tags"
)

// MoveRequest is what "anywhere move" was asked for.
type MoveRequest struct {
	Cluster string // name or ARN
	Region  string // --region of the command line, else empty: must be the host's

	NoDrain      bool
	DrainTimeout time.Duration
	OnTimeout    string
	Force        bool // although tasks run
	WaitTimeout  time.Duration
	AcceptRisk   []string

	// Confirm asks before anything is changed; nil is a yes that was given.
	Confirm func(ctx context.Context, steps []engine.StepReport) error

	DryRun           bool
	DetailedExitcode bool
	LockTimeout      time.Duration
}

// MoveResult is the "result" of move's document.
type MoveResult struct {
	RegisterResult
	From     MoveOrigin `json:"from"`     // where the host was before
	Returned bool       `json:"returned"` // the move failed, and the host is back in its old cluster as a new container instance
}

// MoveOrigin is where a host was.
type MoveOrigin struct {
	Cluster              string `json:"cluster"`
	ContainerInstanceARN string `json:"containerInstanceArn"`
}

// moving is one run of move. What the host is to become is a registration like any other: to. The way back after a
// failure is a moving too, with the clusters changed over.
type moving struct {
	deps   Deps
	req    MoveRequest
	engine *engine.Engine
	to     *registration
	ref    control.ClusterRef // of the cluster to go to

	resumed *engine.Operation // the unfinished move that this run goes on with
	back    bool              // this is the way back to the old cluster
	drain   *draining
	key     string
	rests   bool // the ECS agent is stopped, and does not start at boot
	begun   bool // everything was proven, and changes may have begun

	node    string               // mi-…
	at      ecsagent.InstanceARN // the container instance that the host is now; zero when it is none
	from    MoveOrigin
	noted   map[string]string // the pins of the move, as it began
	was     string            // ECS_CLUSTER in the operator's file before the move
	setting string            // how ECS_CLUSTER is to be written; empty: not at all
	leave   []string          // container instances to give up, by ARN
	status  string            // of the instance before
	gone    map[string]bool
	carried control.Belongings

	owed     []string
	warnings []string
}

// Move brings this host from the cluster that it is in to another one of the same account and Region, as the same
// managed node.
func Move(ctx context.Context, d Deps, req MoveRequest) (Report, error) {
	m := &moving{deps: d, req: req, engine: d.engine(), gone: map[string]bool{}}
	m.to = m.registration()
	if err := m.checkRequest(); err != nil {
		return m.report(ctx, engine.Outcome{}), err
	}
	if err := m.to.gates(ctx); err != nil {
		return m.report(ctx, engine.Outcome{}), err
	}
	if !req.DryRun {
		release, err := engine.Lock(ctx, d.Host, LockPath, d.RunID, req.LockTimeout)
		if err != nil {
			return m.report(ctx, engine.Outcome{}), err
		}
		defer release()
	}
	if err := m.to.refuseSnap(ctx); err != nil {
		return m.report(ctx, engine.Outcome{}), err
	}
	if err := m.settle(ctx); err != nil {
		return m.report(ctx, engine.Outcome{}), err
	}
	if req.DryRun {
		return m.dryRun(ctx)
	}
	if err := m.ask(ctx); err != nil {
		return m.report(ctx, engine.Outcome{}), err
	}
	outcome, err := m.engine.Apply(ctx, m.plan(), engine.Options{})
	if err != nil && m.returns(ctx, outcome) {
		return m.wayBack(ctx, outcome, err)
	}
	if failure.Is(err, failure.DrainTimeout) && len(outcome.Kept) == 0 { // nothing else was done, so that it is a refusal
		outcome.RolledBack, outcome.Changed = false, m.drain.changed()
	}
	if err != nil {
		return m.report(ctx, outcome), m.explain(err, outcome)
	}
	return m.finish(ctx, outcome)
}

// registration is what the shared steps of registering work on.
func (m *moving) registration() *registration {
	return &registration{
		deps: m.deps, engine: m.engine,
		req: RegisterRequest{WaitTimeout: m.req.WaitTimeout, AcceptRisk: m.req.AcceptRisk, LockTimeout: m.req.LockTimeout},
	}
}

// ask lets the operator see what would be done, where something would be, and say no.
func (m *moving) ask(ctx context.Context) error {
	if m.req.Confirm == nil {
		return nil
	}
	steps, err := m.engine.Observe(ctx, m.plan())
	if err != nil || !slices.ContainsFunc(steps, isPlanned) {
		return err
	}
	return m.req.Confirm(ctx, steps)
}

func isPlanned(s engine.StepReport) bool { return s.Status == "planned" }

// finish asks AWS whether it agrees, and tells.
func (m *moving) finish(ctx context.Context, outcome engine.Outcome) (Report, error) {
	rep := m.to.report(ctx, outcome)
	err := m.to.confirm(ctx, &rep)
	rep = m.complete(rep)
	if result := rep.Result.(MoveResult); m.back && err == nil {
		result.Returned = true
		rep.Result = result
	}
	if err == nil {
		rep.Message = m.success(rep)
	}
	return rep, err
}

// dryRun observes with the same steps that would apply, and proves what a move would prove.
func (m *moving) dryRun(ctx context.Context) (Report, error) {
	plan := m.plan()
	steps, err := m.engine.Observe(ctx, plan)
	if err != nil {
		return m.report(ctx, engine.Outcome{Steps: steps}), err
	}
	pending := len(slices.DeleteFunc(slices.Clone(steps), func(s engine.StepReport) bool { return !isPlanned(s) }))
	if pending == 0 {
		rep, err := m.finish(ctx, engine.Outcome{Steps: steps})
		if err == nil {
			rep.Message = "nothing to do: " + rep.Message
		}
		return rep, err
	}
	err = m.resolve(ctx, maps.Clone(plan.Pins))
	rep := m.report(ctx, engine.Outcome{Steps: steps})
	if err != nil {
		return rep, err
	}
	rep.Message = fmt.Sprintf("%d of %d steps would be done; nothing was changed", pending, len(steps))
	if m.req.DetailedExitcode {
		rep.Exit = failure.ExitPending
	}
	return rep, nil
}

// report tells what is so now, as register does, and where the host comes from.
func (m *moving) report(ctx context.Context, o engine.Outcome) Report {
	return m.complete(m.to.report(ctx, o))
}

func (m *moving) complete(rep Report) Report {
	result := rep.Result.(RegisterResult)
	result.Owed = append(result.Owed, m.owed...)
	rep.Result = MoveResult{RegisterResult: result, From: m.from}
	rep.Warnings = append(slices.Clone(m.warnings), rep.Warnings...)
	if m.drain != nil {
		rep.Warnings = append(rep.Warnings, m.drain.warnings...)
	}
	return rep
}

func (m *moving) success(rep Report) string {
	result := rep.Result.(MoveResult)
	if !rep.Changed || m.from.ContainerInstanceARN == result.ContainerInstanceARN {
		return fmt.Sprintf("already there: managed node %s is container instance %s in cluster %s, %s",
			result.ManagedInstanceID, m.to.arn.ID, result.Cluster, result.Region)
	}
	if m.back {
		return fmt.Sprintf("back in cluster %s: managed node %s is container instance %s there, in %s",
			result.Cluster, result.ManagedInstanceID, m.to.arn.ID, result.Region)
	}
	return fmt.Sprintf("moved from cluster %s to %s: managed node %s is container instance %s there, in %s",
		m.from.Cluster, result.Cluster, result.ManagedInstanceID, m.to.arn.ID, result.Region)
}

// checkRequest finds what is wrong with the request itself.
func (m *moving) checkRequest() error {
	ref, err := control.ParseCluster(m.req.Cluster)
	if err != nil {
		return err
	}
	m.ref, m.to.cluster = ref, ref.Name
	if ref.Region != "" && m.req.Region != "" && ref.Region != m.req.Region {
		return failure.New(failure.Usage, "--region is %s and --cluster is in %s", m.req.Region, ref.Region)
	}
	return nil
}

// settle makes the request definite: what the host is, what it is to become, and what it leaves behind. It reads and
// changes nothing.
func (m *moving) settle(ctx context.Context) error {
	reader := m.deps.Host.Reader
	open, err := m.engine.Open()
	if err != nil {
		return err
	}
	if open != nil && open.Verb == verbMove {
		m.resumed, m.noted = open, open.Pins
	}
	record, err := readRecord(reader)
	if err != nil {
		return err
	}
	release, err := host.ReadOSRelease(reader.Files)
	if err != nil {
		return err
	}
	m.to.row, _, _ = platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	config, err := ecsagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	if m.to.binding, err = ecsagent.ReadBinding(reader); err != nil {
		return err
	}
	identity, err := m.soundNode(ctx)
	if err != nil {
		return err
	}
	m.node, m.to.region = identity.InstanceID, identity.Region
	if m.at, err = m.instance(ctx, config); err != nil {
		return err
	}
	if err := m.settleOrigin(config, record); err != nil {
		return err
	}
	if err := m.staysInPlace(); err != nil {
		return err
	}
	m.to.remote = &remote{deps: m.deps, region: m.to.region, account: m.to.account}
	ssm, err := ssmagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	m.to.profile = preflight.AgentProfile("", ssm, config, true)
	m.settleKey()
	m.settleLeave()
	m.to.settled = true
	if err := m.settleCarried(ctx); err != nil {
		return err
	}
	m.noted = m.pins()
	return m.settleDrain(ctx)
}

// soundNode is the managed node that the host is. Its credentials are what the ECS agent will register with: where they do
// not work a move could only end badly.
func (m *moving) soundNode(ctx context.Context) (ssmagent.Identity, error) {
	reader := m.deps.Host.Reader
	identity, verdict, why, err := assess(ctx, reader)
	switch {
	case err != nil:
		return identity, err
	case verdict == ssmagent.None:
		return identity, failure.New(failure.NoInstance, "this host is not registered, so there is nothing to move").
			WithEvidence("%s", why).WithRemedy("anywhere register --cluster %s", m.ref.Name)
	case identity.Hidden != "" && !identity.Registered():
		return identity, failure.New(failure.IdentityUnknown, "the SSM agent does not see this host's registration as %s", identity.Hidden).
			WithEvidence("%s", strings.Join(identity.Damaged, "; ")).WithRemedy("anywhere register mends it; then the same command again")
	case verdict == ssmagent.Unknown:
		return identity, failure.New(failure.IdentityUnknown, "it cannot be shown that the registration as %s still works: %s",
			identity.InstanceID, why).
			WithRemedy("systemctl restart %s, and once it is connected the same command again", m.to.ssmUnit())
	case verdict != ssmagent.Sound:
		return identity, refuseIdentity(identity, verdict, why)
	}
	if ready, what := ssmagent.CredentialsReady(reader, identity, time.Time{}); !ready {
		return identity, failure.New(failure.IdentityUnknown, "%s has no credentials that the ECS agent could register with: %s",
			identity.InstanceID, what).
			WithRemedy("systemctl restart %s, and once it is connected the same command again", m.to.ssmUnit())
	}
	unit, err := reader.Units.Unit(ctx, m.to.ecsUnit())
	m.rests = unit.Active != "active" && !unit.IsEnabled()
	if err == nil && !unit.Loaded {
		err = failure.New(failure.NoInstance, "there is no ECS agent on this host, so there is nothing to move").
			WithEvidence("no unit %s", m.to.ecsUnit()).WithRemedy("anywhere register --cluster %s", m.ref.Name)
	}
	return identity, err
}

// instance is the container instance that this host is: as the agent says, else as its state has it. An agent that comes
// up just now says nothing for a moment, and is waited for.
func (m *moving) instance(ctx context.Context, config ecsagent.Config) (ecsagent.InstanceARN, error) {
	for begun := time.Now(); ; {
		meta, err := ecsagent.Introspect(ctx, m.deps.Host.Reader)
		if err == nil {
			if arn, err := ecsagent.ParseInstanceARN(meta.ContainerInstanceARN); err == nil {
				return inCluster(arn, meta.Cluster), nil
			}
		}
		if m.to.binding, err = ecsagent.ReadBinding(m.deps.Host.Reader); err != nil {
			return ecsagent.InstanceARN{}, err
		}
		if len(m.to.binding.Instances) > 0 || m.rests || time.Since(begun) >= comesUp {
			break
		}
		if err := sleep(ctx, longestPause); err != nil {
			return ecsagent.InstanceARN{}, err
		}
	}
	saved := m.to.binding.Instances
	switch len(saved) {
	case 0:
		return ecsagent.InstanceARN{}, nil
	case 1:
		return inCluster(saved[0], first(m.to.binding.Cluster, config.Cluster())), nil
	}
	return ecsagent.InstanceARN{}, failure.New(failure.IdentityUnknown,
		"the ECS agent is not up, and its state names %d container instances: this host is one of them", len(saved)).
		WithEvidence("%s: %s, %s", ecsagent.StateDB, saved[0], saved[1]).
		WithRemedy("systemctl start %s, and then the same command again", m.to.ecsUnit())
}

// comesUp is how long an agent may take to say which container instance it is, after its start.
const comesUp = 3 * time.Second

// inCluster is an ARN with the cluster's name, which those of the old form do not have.
func inCluster(arn ecsagent.InstanceARN, cluster string) ecsagent.InstanceARN {
	arn.Cluster = first(arn.Cluster, ecsagent.ClusterName(cluster))
	return arn
}

// settleOrigin decides where the host comes from: what the unfinished move has noted, else what the host is, else what it
// was last known to be.
func (m *moving) settleOrigin(config ecsagent.Config, record Record) error {
	if op := m.resumed; op != nil {
		m.from = MoveOrigin{op.Pins[pinFromCluster], op.Pins[pinFromARN]}
		m.to.account, m.status, m.was, m.setting = op.Pins[pinAccount], op.Pins[pinStatus], op.Pins[pinFromSetting], m.ref.Name
		if node := op.Pins[pinNode]; node != m.node {
			return failure.New(failure.IdentityUnknown, "the unfinished move is of managed node %s, and this host is %s now", node, m.node).
				WithEvidence("%s", op.Path).WithRemedy("anywhere operation abandon leaves the host as it is; then anywhere register --cluster %s", m.ref.Name)
		}
		return nil
	}
	m.setting = m.ref.Name
	m.was, _ = config.User.Get(ecsagent.KeyCluster)
	if m.at.ID != "" {
		m.from, m.to.account = MoveOrigin{m.at.Cluster, m.arnText(m.at)}, m.at.Account
		return nil
	}
	m.from.Cluster = ecsagent.ClusterName(config.Cluster())
	if own := record.Registration; own != nil && own.ManagedInstanceID == m.node {
		m.from.Cluster, m.to.account = first(own.Cluster, m.from.Cluster), own.Account
	}
	return nil
}

// arnText is an ARN as ECS gave it: one of the old form has no cluster.
func (m *moving) arnText(arn ecsagent.InstanceARN) string {
	for _, saved := range m.to.binding.Instances {
		if saved.ID == arn.ID {
			return saved.String()
		}
	}
	return arn.String()
}

// settleDrain finds out which tasks are to be moved away, and whether that is allowed.
func (m *moving) settleDrain(ctx context.Context) error {
	arn := m.drained()
	if arn == "" || m.req.NoDrain {
		return nil
	}
	cluster, instance := m.placeOf(arn)
	m.drain = &draining{
		deps: m.deps, remote: m.to.remote, cluster: cluster, instance: instance, local: true,
		timeout: m.req.DrainTimeout, onTimeout: m.req.OnTimeout,
	}
	err := m.drain.settle(ctx)
	if failure.Is(err, failure.ClusterNotFound) { // the instance went with its cluster
		m.drain, err = nil, nil
	}
	return err
}

// staysInPlace refuses what a move cannot do: the managed node, which it keeps, is one of an account and Region.
func (m *moving) staysInPlace() error {
	region := first(m.ref.Region, m.req.Region, m.to.region)
	account := first(m.ref.Account, m.to.account)
	if region == m.to.region && (account == m.to.account || m.to.account == "") {
		m.to.account = account
		return nil
	}
	what, want, is := "Region", region, m.to.region
	if region == m.to.region {
		what, want, is = "account", account, m.to.account
	}
	return failure.New(failure.RegisteredElsewere, "--cluster %s is in %s %s, and this host is managed node %s of %s: a move does not change the %s",
		m.ref.Name, what, want, m.node, is, what).
		WithRemedy("anywhere deregister, then anywhere register --cluster %s --region %s --token - with a token of there", m.ref.Name, region)
}

// settleKey decides what "the same command" is: the same target. Once the old container instance is given up, a move can be
// turned round as well: to the old cluster leads a way under the same journal.
func (m *moving) settleKey() {
	sum := sha256.Sum256([]byte(strings.Join([]string{m.to.region, m.ref.Name}, "\n")))
	m.key = hex.EncodeToString(sum[:8])
	op := m.resumed
	if op != nil && op.Committed && m.ref.Name == op.Pins[pinFromCluster] && m.ref.Name != op.Pins[pinCluster] {
		m.key, m.back, m.setting = op.Key, true, m.was
	}
}

// settleLeave finds the container instances that the host must not have when it has arrived: the one that it is, if that is
// in another cluster, and those that an interrupted run was to give up.
func (m *moving) settleLeave() {
	if m.resumed != nil && m.resumed.Pins[pinLeave] != "" {
		m.leave = strings.Split(m.resumed.Pins[pinLeave], ",")
	}
	if m.at.ID != "" && m.at.Cluster != m.to.cluster {
		m.leaves(m.arnText(m.at))
	}
}

func (m *moving) leaves(arn string) {
	if arn != "" && !slices.Contains(m.leave, arn) {
		m.leave = append(m.leave, arn)
	}
}

// returns reports whether a failure leads back to the old cluster: the old container instance is given up, the host is
// not registered in the new one, and nobody has asked to end. What was refused before anything was begun by this run is
// no reason: the same command with what was missing goes on.
func (m *moving) returns(ctx context.Context, o engine.Outcome) bool {
	if ctx.Err() != nil || len(o.Kept) == 0 || m.back || !m.begun {
		return false
	}
	op, err := m.engine.Open()
	if err != nil || op == nil || !op.Committed {
		return false
	}
	seen, err := m.verified(ctx, m.deps.Host.Reader)
	return err != nil || seen.State != engine.OK
}

// wayBack brings the host back to the cluster that it came from, as a new container instance: the old one is gone for
// good. It is a move of its own under the same journal, so that whoever goes on after a kill knows all that both have done.
func (m *moving) wayBack(ctx context.Context, failed engine.Outcome, cause error) (Report, error) {
	m.deps.tell(engine.Event{Kind: engine.Warned, Text: "the move failed: " + failure.Of(cause).Message +
		"; the host goes back to cluster " + m.from.Cluster})
	b := m.reversed()
	outcome, err := m.engine.Apply(ctx, b.plan(), engine.Options{})
	steps := slices.Concat(failed.Steps, outcome.Steps)
	f := *failure.Of(cause)
	f.Err = cause
	if err != nil {
		rep := b.report(ctx, engine.Outcome{Changed: true, Steps: steps, Kept: outcome.Kept})
		if ctx.Err() != nil {
			return rep, context.Cause(ctx)
		}
		if len(rep.Kept) == 0 {
			rep.Kept = failed.Kept
		}
		why := failure.Of(err)
		f.Message += fmt.Sprintf("; and the way back to cluster %s failed: %s", m.from.Cluster, why.Message)
		f.Evidence = strings.TrimPrefix(f.Evidence+"; "+why.Evidence, "; ")
		f.Remedy = advice(&f) + m.again()
		return rep, &f
	}
	for i := range steps {
		if steps[i].Status == "kept" {
			steps[i].Status = "undone"
		}
	}
	rep := b.report(ctx, engine.Outcome{Changed: true, Steps: steps, RolledBack: true})
	result := rep.Result.(MoveResult)
	result.Returned = true
	rep.Result = result
	f.Message += fmt.Sprintf("; the host is back in cluster %s, as container instance %s", result.Cluster, b.to.arn.ID)
	return rep, &f
}

// reversed is the way back.
func (m *moving) reversed() *moving {
	b := &moving{
		deps: m.deps, req: m.req, engine: m.engine, resumed: m.resumed, back: true, key: m.key, begun: true,
		ref: control.ClusterRef{Name: m.from.Cluster}, node: m.node, from: m.from, leave: slices.Clone(m.leave), status: m.status,
		gone: maps.Clone(m.gone), carried: m.carried, noted: m.noted, owed: m.owed, warnings: m.warnings,
	}
	if m.drain != nil {
		b.warnings = slices.Concat(m.warnings, m.drain.warnings)
	}
	b.to = b.registration()
	b.to.row, b.to.region, b.to.account, b.to.cluster = m.to.row, m.to.region, m.to.account, m.from.Cluster
	b.to.profile, b.to.remote, b.to.settled = m.to.profile, m.to.remote, true
	b.to.warnings = m.to.warnings
	b.was, b.setting = m.was, m.was
	if saved, err := ecsagent.ReadBinding(m.deps.Host.Reader); err == nil {
		for _, arn := range saved.Instances {
			if inCluster(arn, saved.Cluster).Cluster != m.from.Cluster {
				b.leaves(arn.String())
			}
		}
	}
	return b
}

// explain adds to a failure what only the verb knows.
func (m *moving) explain(err error, o engine.Outcome) error {
	if len(o.Kept) == 0 {
		return err
	}
	f := *failure.Of(err)
	f.Err = err
	f.Remedy = advice(&f) + m.again()
	return &f
}

// advice is a failure's own, as the first half of a sentence; nothing where it only says to do the same again.
func advice(f *failure.Error) string {
	text := strings.TrimSuffix(f.Advice(), ", then run the command again")
	if text == "" || strings.Contains(text, "same command again") || strings.Contains(text, "run the command again") {
		return ""
	}
	return text + "; then "
}

// again says how an unfinished move goes on.
func (m *moving) again() string {
	op, err := m.engine.Open()
	if err != nil || op == nil {
		return "run the same command again"
	}
	return moveOn(op)
}

// moveOn says what can be done about an unfinished move.
func moveOn(op *engine.Operation) string {
	if !op.Committed {
		return fmt.Sprintf("anywhere move --cluster %s finishes it; anywhere rollback undoes it", op.Pins[pinCluster])
	}
	return fmt.Sprintf("anywhere move --cluster %s finishes it; anywhere move --cluster %s goes back, as a new container instance",
		op.Pins[pinCluster], op.Pins[pinFromCluster])
}
