package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// plan is the runbook of a registration. The activation's slot is spent as late as can be: what can fail without it has
// been done by then. What comes behind it only goes forward.
func (r *registration) plan() engine.Plan {
	steps := []engine.Step{
		r.ssmConfig(),
		r.ssmPackage(),
		r.ecsPackage(),
		r.ssmIdentity(),
		r.ecsState(),
		r.ecsExec(),
		r.ecsConfig(),
		r.ecsDropIn(),
	}
	if r.req.EnableGPU {
		steps = append(steps, r.ecsGPU())
	}
	if r.imageless {
		at := 1 + slices.IndexFunc(steps, func(s engine.Step) bool { return s.ID == "ecs.package" })
		steps = slices.Insert(steps, at, r.ecsImage())
	}
	gate := "ssm.config"
	if len(r.docker.sources) > 0 {
		steps, gate = append([]engine.Step{r.dockerPackage()}, steps...), dockerStepID
	}
	if r.needsAgentCA() {
		steps = slices.Insert(steps, slices.IndexFunc(steps, func(s engine.Step) bool { return s.ID == "ecs.config" }), r.agentCA())
	}
	if r.req.Proxy.Set() || len(r.req.Authorities) > 0 {
		steps, gate = append([]engine.Step{r.proxyStep()}, steps...), proxyStepID
	}
	if len(r.req.Authorities) > 0 {
		steps, gate = append([]engine.Step{r.caStep()}, steps...), caStepID
	}
	if r.creates {
		steps, gate = append([]engine.Step{r.activation()}, steps...), "activation"
	}
	if r.resumed != nil {
		at := 0
		if r.docker.due { // what was half installed for Docker only Docker's other packages can mend
			at = 1 + slices.IndexFunc(steps, func(s engine.Step) bool { return s.ID == dockerStepID })
		}
		steps = slices.Insert(steps, at, r.repairPackages())
	}
	if r.mends {
		at := slices.IndexFunc(steps, func(s engine.Step) bool { return s.ID == "ssm.identity" })
		steps = slices.Insert(steps, at, r.ssmVault())
	}
	if r.req.NoExec {
		steps = without(steps, "ecs.exec")
	}
	if !r.req.NoStart {
		steps = append(steps, r.ssmStart(), r.ecsStart(), r.verify())
	}
	steps = append(steps, r.ecsAttributes()...)
	steps = append(steps, r.recordStep())
	return engine.Plan{
		Verb: verbRegister, Key: r.key(), Pins: r.pins, Resolve: r.resolve, Steps: steps,
		Gate: gate, Commit: "ssm.identity",
	}
}

func without(steps []engine.Step, id string) []engine.Step {
	var kept []engine.Step
	for _, s := range steps {
		if s.ID != id {
			kept = append(kept, s)
		}
	}
	return kept
}

// resolve runs when something is pending, and pays for what only a change needs: the checks, and which versions are the
// latest.
func (r *registration) resolve(ctx context.Context, pins map[string]string) error {
	if err := r.writable(); err != nil {
		return err
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	if err := r.needActivation(ctx, pins); err != nil {
		return err
	}
	if err := r.resolveState(ctx, pins); err != nil {
		return err
	}
	noDocker := r.resolveDocker(ctx, pins)
	if noDocker != nil && !failure.Is(noDocker, failure.ArtifactMissing) {
		return noDocker
	}
	unresolved := r.resolveVersions(ctx, pins)
	pins[pinExec] = first(pins[pinExec], strings.TrimSuffix(pins[pinSSM], "-1"))
	if !slices.ContainsFunc(unresolved, func(err error) bool { return err != nil }) {
		if err := r.resolveSnap(ctx, pins); err != nil {
			return err
		}
	}
	refs, err := r.needs(pins)
	if err != nil {
		return err
	}
	return r.pieces(ctx, refs, append(unresolved, noDocker)...)
}

// resolveVersions pins the versions that are not yet: both together, for each may be a question to AWS.
func (r *registration) resolveVersions(ctx context.Context, pins map[string]string) (errs []error) {
	products := []struct {
		pin, name, asked string
		product          artifact.Product
		bad, refused     func(string) (string, bool)
	}{
		{pinSSM, ssmagent.Package, r.req.SSMAgentVersion, artifact.SSMAgent, ssmagent.KnownBad, ssmagent.KnownBad},
		{pinECS, ecsagent.Package, r.req.ECSAgentVersion, artifact.ECSInit, ecsagent.KnownBad, ecsagent.NotToInstall},
	}
	versions := make([]string, len(products))
	errs = make([]error, len(products))
	var asking sync.WaitGroup
	for i, p := range products {
		if versions[i] = pins[p.pin]; versions[i] == "" {
			asking.Go(func() { versions[i], errs[i] = r.version(ctx, p.product, p.name, p.asked, p.bad, p.refused) })
		}
	}
	asking.Wait()
	for i, p := range products {
		if errs[i] != nil {
			continue
		}
		if r.ipv6 && p.pin == pinECS && ecsagent.CompareVersions(versions[i], ecsagent.IPv6Floor) < 0 {
			errs[i] = failure.New(failure.KnownBadVersion, "ECS agent %s does not work over IPv6 alone; %s is the first that does",
				versions[i], ecsagent.IPv6Floor).WithRemedy("--ecs-agent-version latest, or --ip-mode ipv4 where there is IPv4 too")
			continue
		}
		pins[p.pin] = versions[i]
	}
	return errs
}

// written are the folders that a registration writes to, itself or through the package manager and the agents.
var written = []string{
	"/etc/amazon", "/etc/ecs", "/etc/systemd/system", "/root", "/usr/bin", "/usr/lib/systemd", "/usr/libexec", "/var/cache/ecs",
	"/var/lib/amazon", "/var/lib/anywhere", "/var/lib/dpkg", "/var/lib/ecs", "/var/lib/rpm", "/var/log",
	"/usr/lib/sysimage/rpm", // where rpm's database is on Fedora from 36 on, and on SUSE
}

// writable refuses to begin where a folder cannot be written: the step that needs it may be the one behind the point of
// no return. It is not a check of preflight, because nobody could go on without it.
func (r *registration) writable() error {
	dirs := written
	if state, err := r.deps.Host.Packages.State(); err == nil { // what is wrong with it, the checks say
		dirs = slices.Concat(written, state.Databases)
	}
	for _, dir := range dirs {
		if _, err := r.deps.Host.Files.Space(dir); failure.Is(err, failure.ReadOnly) {
			return err
		}
	}
	return nil
}

// version decides which version of a package this run works with: what is asked for, else what is installed unless it is
// known to be bad, else the latest.
func (r *registration) version(
	ctx context.Context, product artifact.Product, name, asked string, bad, refused func(string) (string, bool),
) (string, error) {
	if asked != "" && asked != artifact.Latest {
		return asked, nil
	}
	installed, err := r.deps.Host.Packages.Package(name)
	if err != nil {
		return "", err
	}
	if _, isBad := bad(installed.Version); installed.Installed && !isBad {
		return installed.Version, nil
	}
	latest, err := r.latest(ctx, product)
	if err != nil {
		return "", err
	}
	if why, isBad := refused(latest); isBad {
		f := failure.New(failure.KnownBadVersion, "the latest %s is %s: %s", name, latest, why)
		if installed.Snap {
			f = f.WithRemedy("the channel that the snap follows is behind: snap info %s shows the others, and --ssm-agent-version takes a version "+
				"from whichever has it", name)
		}
		return "", f
	}
	return latest, nil
}

func (r *registration) ref(product artifact.Product, version string) artifact.Ref {
	ref := artifact.Ref{Product: product, Version: version, Family: string(r.row.Family), Arch: r.deps.Host.Self.GOARCH, Region: r.region}
	return ref.Canonical()
}

// fetch is one package on its way; two steps may need the same one.
type fetch struct {
	done chan struct{}
	pkg  artifact.Package
	err  error
}

// fetchOnce downloads and verifies a package, once in a run.
func (r *registration) fetchOnce(ctx context.Context, ref artifact.Ref) (artifact.Package, error) {
	r.fetching.Lock()
	f, begun := r.fetched[ref]
	if !begun {
		f = &fetch{done: make(chan struct{})}
		r.fetched[ref] = f
	}
	r.fetching.Unlock()
	if !begun {
		ctx := artifact.WithProgress(ctx, func(done, total int64) { engine.Progress(ctx, done, total) })
		f.pkg, f.err = r.source.Fetch(ctx, ref)
		close(f.done)
	}
	<-f.done
	return f.pkg, f.err
}

var errNotFetched = errors.New("this run has not fetched it")

// fetchedOnce is what this run has fetched and verified.
func (r *registration) fetchedOnce(ref artifact.Ref) (artifact.Package, error) {
	r.fetching.Lock()
	f := r.fetched[ref]
	r.fetching.Unlock()
	if f == nil {
		return artifact.Package{}, errNotFetched
	}
	<-f.done
	return f.pkg, f.err
}

// ssmConfig keeps the SSM agent from taking the host for an EC2 instance, from its very first start on: its package
// starts it at once, unregistered. A registered host's file is left alone unless endpoints or a profile are asked for.
func (r *registration) ssmConfig() engine.Step {
	settings := ssmagent.Settings{
		SSMEndpoint: r.endpoint.SSM, MDSEndpoint: r.endpoint.EC2Messages, MGSEndpoint: r.endpoint.SSMMessages, ShareProfile: r.profile,
	}
	return r.fileStep(fileStep{
		id: "ssm.config", title: "Configure the SSM agent", path: ssmagent.ConfigPath, mode: 0o600,
		claims: []string{"/etc/amazon", "/etc/amazon/ssm"},
		wanted: func(reader host.Reader, old []byte) ([]byte, error) {
			config, err := ssmagent.ReadConfig(reader)
			if err != nil {
				return nil, err
			}
			settings := settings // each look has its own
			settings.DualStack = r.dualStack(config)
			identity, err := ssmagent.ReadIdentity(reader)
			if err != nil || identity.Registered() && settings == (ssmagent.Settings{ShareProfile: r.profile}) && r.req.SSMProfile == "" {
				return old, err
			}
			return ssmagent.SetConfig(old, settings)
		},
	})
}

// fileStep is what the steps that keep one file as it should be differ in.
type fileStep struct {
	id, title, path string
	mode            fs.FileMode // of a new file
	claims          []string
	settings        bool // it is a file of the ECS agent's settings, which may be somebody's
	wanted          func(reader host.Reader, old []byte) ([]byte, error)
	before, after   func(ctx context.Context, tx *engine.Tx) error // optional
	// due, optional, reports whether one of these is still to be done although the file is as it should be.
	due func(ctx context.Context, reader host.Reader) (bool, error)
}

func (r *registration) fileStep(f fileStep) engine.Step {
	look := func(reader host.Reader) (old, text []byte, err error) {
		old, err = reader.Files.ReadFile(f.path)
		if err != nil && !missing(err) {
			return nil, nil, err
		}
		text, err = f.wanted(reader, old)
		return old, text, err
	}
	return engine.Step{
		ID: f.id, Title: f.title,
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			old, text, err := look(reader)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case !bytes.Equal(old, text):
				return engine.Obs{State: engine.Pending, Detail: "write " + f.path}, nil
			case f.due == nil:
				return engine.Obs{State: engine.OK, Detail: f.path}, nil
			}
			if due, err := f.due(ctx, reader); err != nil || due {
				return engine.Obs{State: engine.Pending, Detail: "make " + f.path + " count"}, err
			}
			return engine.Obs{State: engine.OK, Detail: f.path}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			old, text, err := look(tx.Reader())
			if err != nil {
				return err
			}
			if err := tx.Claim(ctx, f.claims...); err != nil {
				return err
			}
			if err := r.own(ctx, tx, func(record *Record) {
				record.addFile(f.path, tx.Reader())
				if f.settings {
					record.addSettings(f.path, old, text)
				}
				record.addFolders(tx.Reader(), append(slices.Clone(f.claims), path.Dir(f.path))...)
			}); err != nil {
				return err
			}
			if f.before != nil {
				if err := f.before(ctx, tx); err != nil {
					return err
				}
			}
			if err := tx.WriteFile(ctx, f.path, bytes.NewReader(text), f.mode); err != nil || f.after == nil {
				return err
			}
			return f.after(ctx, tx)
		},
	}
}

func (r *registration) ssmPackage() engine.Step {
	return r.agentStep(packageStep{
		id: "ssm.package", title: "Install the SSM agent", name: ssmagent.Package, pin: pinSSM, product: artifact.SSMAgent,
		asked: r.req.SSMAgentVersion, bad: ssmagent.KnownBad, units: []string{ssmagent.UnitName},
		claims: []string{"/var/lib/amazon", ssmagent.DataDir, "/var/log/amazon", ssmagent.LogDir, "/etc/amazon", "/etc/amazon/ssm"},
		later:  []string{path.Dir(ssmagent.CredentialsPath)},
	})
}

func (r *registration) ecsPackage() engine.Step {
	return r.packageStep(packageStep{
		id: "ecs.package", title: "Install the ECS agent", name: ecsagent.Package, pin: pinECS, product: artifact.ECSInit,
		asked: r.req.ECSAgentVersion, bad: ecsagent.KnownBad, units: r.ecsUnits(),
		claims: []string{"/etc/ecs", "/var/lib/ecs", ecsagent.DataDir, ecsagent.LogDir, ecsagent.CacheDir},
	})
}

// ecsUnit is asked for when it is needed: on some systems only the package tells it.
func (r *registration) ecsUnit() string { return ecsagent.UnitOf(r.deps.Host.Files, r.row.ECSUnit) }

// ecsUnits are the names that the unit can have.
func (r *registration) ecsUnits() []string {
	names := []string{first(r.row.ECSUnit, ecsagent.Unit)}
	if names[0] != ecsagent.Unit {
		names = append(names, ecsagent.Unit)
	}
	return names
}

// packageStep is what the two packages differ in.
type packageStep struct {
	id, title, name, pin, asked string
	product                     artifact.Product
	bad                         func(string) (string, bool)
	units, claims               []string
	later                       []string // folders that the agent makes once it is registered
}

func (r *registration) packageStep(p packageStep) engine.Step {
	return engine.Step{
		ID: p.id, Title: p.title,
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			installed, err := reader.Packages.Package(p.name)
			if err != nil {
				return engine.Obs{}, err
			}
			why, isBad := p.bad(installed.Version)
			wanted := first(r.pins[p.pin], p.asked, artifact.Latest)
			switch {
			case installed.Partial:
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("%s %s is half installed", p.name, installed.Version)}, nil
			case !installed.Installed:
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("install %s %s", p.name, wanted)}, nil
			case wanted != artifact.Latest && !sameVersion(installed.Version, wanted):
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("replace %s %s by %s", p.name, installed.Version, wanted)}, nil
			case isBad:
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("replace %s %s: %s", p.name, installed.Version, why)}, nil
			}
			return engine.Obs{State: engine.OK, Detail: p.name + " " + installed.Version}, nil
		},
		Fetch: func(ctx context.Context) error {
			_, err := r.fetchOnce(ctx, r.ref(p.product, r.pins[p.pin]))
			return err
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			pkg, err := r.fetchOnce(ctx, r.ref(p.product, r.pins[p.pin])) // fetched before the gate; verified again on a resume
			if err != nil {
				return err
			}
			before, err := tx.Reader().Packages.Package(p.name)
			if err != nil {
				return err
			}
			if err := r.own(ctx, tx, func(record *Record) {
				record.addFolders(tx.Reader(), append(slices.Clone(p.claims), p.later...)...)
				if _, ours := record.Packages[p.name]; ours || !before.Installed {
					record.Packages[p.name] = OwnedPackage{Version: pkg.Version, SHA256: pkg.SHA256, Key: pkg.KeyFingerprint}
				}
			}); err != nil {
				return err
			}
			if err := tx.Claim(ctx, p.claims...); err != nil {
				return err
			}
			if p.name == ssmagent.Package {
				if err := restSSMAgent(ctx, tx); err != nil {
					return err
				}
			}
			return tx.Install(ctx, p.name, pkg.Path, r.former(ctx, p.product, before), p.units...)
		},
	}
}

// restSSMAgent stops an SSM agent that is not registered. It ends by itself within a second, and systemd starts it anew 90
// seconds later: a package's script that starts it in between waits as long, for systemd (252) queues such a job.
func restSSMAgent(ctx context.Context, tx *engine.Tx) error {
	identity, err := ssmagent.ReadIdentity(tx.Reader())
	if err != nil || identity.Registered() {
		return err
	}
	return tx.Unit(ctx, ssmagent.UnitOf(tx.Reader()), engine.UnitWant{Stop: true})
}

// former is the cached file of the version that is installed now, which an undo would go back to; "" when there is none.
func (r *registration) former(ctx context.Context, product artifact.Product, before host.Package) string {
	if !before.Installed {
		return ""
	}
	if pkg, err := r.fetchedOnce(r.ref(product, before.Version)); err == nil {
		return pkg.Path
	}
	pkg, ok := r.source.Cached(ctx, r.ref(product, before.Version))
	if !ok {
		return ""
	}
	return pkg.Path
}

// ecsExec puts ECS Exec's programs where the agent looks for them: the three of the verified SSM package.
func (r *registration) ecsExec() engine.Step {
	ref := func() artifact.Ref { return r.ref(artifact.SSMAgent, r.pins[pinExec]) }
	return engine.Step{
		ID: "ecs.exec", Title: "Install ECS Exec's files",
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			exec, err := ecsagent.ReadExec(reader)
			if err != nil {
				return engine.Obs{}, err
			}
			if len(exec.Complete) == 0 || !exec.Certs || !exec.ConfigDir { // a half version beside a whole one does no harm
				return engine.Obs{State: engine.Pending, Detail: "install below " + ecsagent.ExecDir}, nil
			}
			return engine.Obs{State: engine.OK, Detail: "version " + exec.Complete[len(exec.Complete)-1]}, nil
		},
		Fetch: func(ctx context.Context) error {
			if snap, err := snapPrograms(r.deps.Host.Reader); err != nil || snap.Whole() {
				return err
			}
			_, err := r.fetchOnce(ctx, ref())
			return err
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			snap, err := snapPrograms(tx.Reader())
			if err != nil {
				return err
			}
			var pkg artifact.Package
			if !snap.Whole() {
				if pkg, err = r.fetchOnce(ctx, ref()); err != nil {
					return err
				}
			}
			if err := r.own(ctx, tx, func(record *Record) {
				record.addFolders(tx.Reader(), path.Dir(ecsagent.ExecDir))
				record.addFile(ecsagent.ExecDir, tx.Reader())
			}); err != nil {
				return err
			}
			if snap.Whole() {
				return ecsagent.InstallExecOf(ctx, tx, snap.Version, snap.Dir)
			}
			return ecsagent.InstallExec(ctx, tx, pkg, tx.Reader().Files)
		},
	}
}

// ecsConfig writes the agent's settings, in place, where they win in both parsers and with every package.
func (r *registration) ecsConfig() engine.Step {
	return r.fileStep(fileStep{
		id: "ecs.config", title: "Configure the ECS agent", path: ecsagent.ConfigPath, mode: 0o600, settings: true,
		wanted: func(reader host.Reader, _ []byte) ([]byte, error) {
			config, err := ecsagent.ReadConfig(reader)
			if err != nil {
				return nil, err
			}
			if value, ok := config.User.Get(ecsagent.KeyGPU); ok && r.req.EnableGPU && value != "true" {
				config.User.Unset(ecsagent.KeyGPU) // it would win over the line that waits for the devices: ecsGPU
			}
			for _, s := range r.settings(config) {
				if config.Agent(s.Key) == s.Value && config.Init(s.Key) == s.Value {
					continue // it is so already, in whichever file
				}
				if err := config.User.Set(s.Key, s.Value); err != nil {
					return nil, err
				}
			}
			return config.User.Bytes(), nil
		},
		due: func(_ context.Context, reader host.Reader) (bool, error) {
			return r.openSecret(reader, ecsagent.ConfigPath)
		},
		before: func(ctx context.Context, tx *engine.Tx) error { return r.closeSecret(ctx, tx, ecsagent.ConfigPath) },
	})
}

// settings are the agent's settings that this registration wants, in the order they are written.
func (r *registration) settings(config ecsagent.Config) []Pair {
	cluster := r.cluster
	for _, known := range []string{config.Cluster(), r.binding.Cluster} {
		if known != "" && ecsagent.SameCluster(known, r.account, r.region, r.cluster) {
			cluster = known // the agent compares it as a raw string with its state: the same cluster is never rewritten
		}
	}
	settings := []Pair{
		{ecsagent.KeyCluster, cluster},
		{ecsagent.KeyRegion, r.region},
		{ecsagent.KeyExternal, "true"},
		// An EC2 role must never win over the credentials that SSM Agent maintains, whatever answers as metadata service.
		{ecsagent.KeyNoMetadata, "true"},
	}
	if r.profile != "" {
		settings = append(settings, Pair{ecsagent.KeyProfile, r.profile})
	}
	if r.endpoint.ECS != "" {
		settings = append(settings, Pair{ecsagent.KeyEndpoint, r.endpoint.ECS})
	}
	if len(r.req.Attributes) > 0 && r.attributes == nil {
		settings = append(settings, Pair{ecsagent.KeyAttributes, withPairs(config.Agent(ecsagent.KeyAttributes), r.req.Attributes)})
	}
	if r.needsAgentCA() {
		settings = append(settings, Pair{"SSL_CERT_FILE", agentAuthorities})
	}
	if mode := r.explicitIPMode(); mode != "" {
		settings = append(settings, Pair{ecsagent.KeyIPMode, mode})
	}
	if len(r.req.Tags) > 0 {
		settings = append(settings, Pair{ecsagent.KeyTags, jsonObject(r.req.Tags)})
	}
	return append(append(settings, r.proxySettings()...), r.req.Settings...)
}

// ecsGPU turns the agent's GPU support on in the file of which ecs-init waits for the devices, up to 30 seconds, and without
// them starts the agent without GPUs; from the operator's file it would take the setting as it is (facts: ecs-agent section
// 6.1). A line in that one that says true already is its author's choice.
func (r *registration) ecsGPU() engine.Step {
	return r.fileStep(fileStep{
		id: "ecs.gpu", title: "Turn on GPUs for tasks", path: ecsagent.InstanceConfigPath, mode: 0o600, settings: true,
		wanted: func(reader host.Reader, old []byte) ([]byte, error) {
			config, err := ecsagent.ReadConfig(reader)
			if err != nil || config.Agent(ecsagent.KeyGPU) == "true" {
				return old, err
			}
			if err := config.Instance.Set(ecsagent.KeyGPU, "true"); err != nil {
				return nil, err
			}
			return config.Instance.Bytes(), nil
		},
	})
}

// ecsDropIn keeps systemd from restarting an agent that ended for good: the deb's unit would, every ten seconds.
func (r *registration) ecsDropIn() engine.Step {
	step := func() engine.Step { // anew each time, for the package that comes before it may tell another name of the unit
		dropIn := dropInOf(r.ecsUnit())
		return r.fileStep(fileStep{
			id: "ecs.dropin", title: "Keep a refused ECS agent from restarting", mode: 0o644, path: dropIn,
			wanted: func(host.Reader, []byte) ([]byte, error) { return ecsagent.DropIn(), nil },
			after:  func(ctx context.Context, tx *engine.Tx) error { return tx.ReloadUnits(ctx) },
			due: func(ctx context.Context, reader host.Reader) (bool, error) { // written, and the run killed before systemd read it
				unit, err := reader.Units.Unit(ctx, r.ecsUnit())
				return unit.Loaded && !slices.Contains(unit.DropIns, dropIn), err
			},
		})
	}
	made := step()
	made.Observe = func(ctx context.Context, reader host.Reader) (engine.Obs, error) { return step().Observe(ctx, reader) }
	made.Change = func(ctx context.Context, tx *engine.Tx) error { return step().Change(ctx, tx) }
	return made
}

const repairKind = "packages.repair"

// repair cannot be taken back, and need not be: the package manager is whole afterwards.
func repair() engine.Kind {
	return engine.Kind{Undo: func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil }}
}

// repairPackages finishes what an interruption of this very operation left half done. Somebody else's half-done work is
// theirs: the check packages.manager stops the run before it comes here.
func (r *registration) repairPackages() engine.Step {
	return engine.Step{
		ID: "packages.repair", Title: "Finish what the package manager was interrupted in",
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			state, err := reader.Packages.State()
			switch {
			case err != nil:
				return engine.Obs{}, err
			case !configurable(state): // what must be installed anew is the package steps' to do
				return engine.Obs{State: engine.OK, Detail: "nothing interrupted"}, nil
			}
			return engine.Obs{State: engine.Pending, Detail: "the package manager was interrupted"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			if err := restSSMAgent(ctx, tx); err != nil {
				return err
			}
			return tx.Effect(ctx, repairKind, struct{}{}, func(ctx context.Context) error {
				return r.deps.Host.Packager.Repair(ctx)
			})
		},
	}
}

// configurable reports whether an interrupted package manager has more to finish than packages to install anew.
func configurable(state host.ManagerState) bool {
	left := slices.ContainsFunc(state.Unfinished, func(p host.UnfinishedPackage) bool { return !p.Reinstall })
	return state.Interrupted && (left || len(state.Unfinished) == 0)
}

// own updates the record before a change is made.
func (r *registration) own(ctx context.Context, tx *engine.Tx, change func(*Record)) error {
	return updateRecord(ctx, tx, r.deps.Version, change)
}

// addFile claims a file or folder that is about to be made. One that is there already is somebody's.
func (record *Record) addFile(path string, reader host.Reader) {
	if _, err := reader.Files.Lstat(path); !missing(err) {
		return
	}
	for _, known := range record.Files {
		if known == path {
			return
		}
	}
	record.Files = append(record.Files, path)
}

// addFolders notes the folders that are not there yet and are about to be made.
func (record *Record) addFolders(reader host.Reader, folders ...string) {
	for _, folder := range folders {
		if _, err := reader.Files.Lstat(folder); missing(err) && !slices.Contains(record.Folders, folder) {
			record.Folders = append(record.Folders, folder)
		}
	}
}

// addSettings notes what is about to be added to a file of the ECS agent's settings that is somebody's. A setting that they
// had, and that is changed, is theirs.
func (record *Record) addSettings(file string, old, text []byte) {
	if slices.Contains(record.Files, file) {
		return
	}
	before, after := ecsagent.Parse(old), ecsagent.Parse(text)
	for line := range strings.Lines(string(text)) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		value, is := after.Get(key)
		was, had := before.Get(key)
		if _, ours := record.Settings[file][key]; !is || had && (!ours || was == value) {
			continue
		}
		if record.Settings == nil {
			record.Settings = map[string]map[string]string{}
		}
		if record.Settings[file] == nil {
			record.Settings[file] = map[string]string{}
		}
		record.Settings[file][key] = remembered(value)
	}
}

// remembered is a setting as the record keeps it: one with a proxy's credentials as a digest, by which it is known again.
func remembered(value string) string {
	if u, err := url.Parse(value); err != nil || u.User == nil {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return "sha256:" + hex.EncodeToString(sum[:])
}
