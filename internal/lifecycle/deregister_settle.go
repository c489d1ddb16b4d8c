package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const taskLabel = ecsagent.TaskLabel

// Pins of a deregistration: what the host cannot say any more once its identity and the ECS agent's state are gone.
const (
	pinInstance = "instance"
	pinNodeGoes = "node-goes"
	pinGoes     = "goes" // the things that the operation removes, as JSON
)

// farewell is one run of deregister on its host.
type farewell struct {
	deps   Deps
	req    DeregisterRequest
	engine *engine.Engine

	settled bool
	ended   bool              // all is done, or in a dry run told
	resumed *engine.Operation // the unfinished deregistration that this run goes on with
	blind   bool              // the journal of an unfinished operation cannot be read, and is moved aside

	record  Record
	foreign bool // there is no record, or none that can be read: nothing here is known to be anywhere's
	ruined  bool // there is a record that cannot be read

	identity ssmagent.Identity
	verdict  ssmagent.Verdict
	why      string

	region, account, cluster string
	node                     string
	instance                 string   // ARN of the host's own container instance
	others                   []string // ARNs that the ECS agent's state may mean as well
	ecsUnit, ssmUnit         string
	ssm                      bool // the managed node goes

	pins     map[string]string
	gone     map[string]bool // ARNs and nodes that AWS has said are gone
	remote   *remote
	away     away
	warnings []string
	checks   []preflight.Result
}

// settle finds out what there is and what of it goes, and refuses what must not be done. It changes nothing.
func (f *farewell) settle(ctx context.Context) error {
	f.pins = map[string]string{}
	if err := f.settleOperation(ctx); err != nil {
		return err
	}
	if err := f.settleRecord(); err != nil {
		return err
	}
	if err := f.settlePlace(ctx); err != nil {
		return err
	}
	if err := f.settleNode(); err != nil {
		return err
	}
	if err := f.settleSession(); err != nil {
		return err
	}
	if err := f.settlePaths(); err != nil {
		return err
	}
	if err := f.settleContainers(ctx); err != nil {
		return err
	}
	f.doneBefore()
	if !f.req.LocalOnly {
		if err := f.settleAWS(ctx); err != nil {
			return err
		}
	}
	f.pins[pinRegion], f.pins[pinAccount], f.pins[pinCluster] = f.region, f.account, f.cluster
	f.pins[pinNode], f.pins[pinInstance] = f.node, f.instance
	f.settled = true
	return f.pinGoes()
}

// settleOperation finds an unfinished deregistration, and refuses another operation that is. One whose journal cannot be
// read keeps nobody from cleaning a host without AWS.
func (f *farewell) settleOperation(ctx context.Context) error {
	open, err := f.engine.Open()
	if failure.Is(err, failure.JournalUnreadable) && f.req.LocalOnly {
		f.blind = true
		f.warnings = append(f.warnings, "an unfinished operation's journal cannot be read and is moved aside; what it had changed is not known: "+failure.Of(err).Message)
		return nil
	}
	if err != nil {
		return err
	}
	if open != nil && open.Verb == verbDeregister {
		f.resumed = open
	}
	_, err = f.engine.Observe(ctx, engine.Plan{Verb: verbDeregister, Key: f.key()}) // of no step: it only refuses
	return err
}

// clearWay moves a journal aside that cannot be read.
func (f *farewell) clearWay() error {
	if !f.blind {
		return nil
	}
	at, err := f.engine.Abandon()
	if err == nil {
		f.warnings = append(f.warnings, "the unreadable journal is "+at+" now")
	}
	return err
}

// key makes "the same command": what decides what is removed. How long the drain may take, and what it may cost, does not.
func (f *farewell) key() string {
	text, err := json.Marshal(struct{ KeepSSM, RemoveSSM, KeepPackages, Purge, RemoteOnly, StopTasks bool }{
		f.req.KeepSSM, f.req.RemoveSSM, f.req.KeepPackages, f.req.Purge, f.req.RemoteOnly, f.req.StopTasks,
	})
	if err != nil { // booleans always marshal
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// settleRecord reads what is anywhere's own here. Without AWS an unreadable record does not hinder: then nothing is known
// to be ours, and what is not ours stays.
func (f *farewell) settleRecord() error {
	reader := f.deps.Host.Reader
	record, err := readRecord(reader)
	f.record = record
	if failure.Is(err, failure.RecordUnreadable) && f.req.LocalOnly {
		f.ruined, f.foreign = true, true
		f.warnings = append(f.warnings, failure.Of(err).Message+": packages and files that anywhere installed are not known, and stay unless --purge is given")
		return nil
	}
	if err != nil {
		return err
	}
	_, err = reader.Files.Lstat(recordPath)
	f.foreign = missing(err)
	return nil
}

// settlePlace finds out who the host is and where it belongs: from an unfinished deregistration, else from the identity
// store and the ECS agent's own words and state, else from the record and the configuration. Never from an IP address.
func (f *farewell) settlePlace(ctx context.Context) error {
	reader := f.deps.Host.Reader
	var before map[string]string
	if f.resumed != nil {
		before = f.resumed.Pins
	}
	var err error
	if f.identity, f.verdict, f.why, err = assess(ctx, reader); err != nil {
		return err
	}
	arn, err := f.ownInstance(ctx, before[pinInstance])
	if err != nil {
		return err
	}
	config, err := ecsagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	owned := first(f.record.Registration, &OwnedRegistration{})
	f.node = first(before[pinNode], f.identity.InstanceID, f.identity.Hidden, owned.ManagedInstanceID)
	f.region = first(before[pinRegion], f.identity.Region, arn.Region, owned.Region, f.identity.SideRegion)
	f.account = first(before[pinAccount], arn.Account, owned.Account)
	f.cluster = first(before[pinCluster], arn.Cluster, owned.Cluster)
	if f.cluster == "" && (f.instance != "" || f.node != "") {
		f.cluster = ecsagent.ClusterName(config.Cluster())
	}
	f.ecsUnit, f.ssmUnit = ecsUnitOf(reader), ssmagent.UnitName
	if snap, err := reader.Units.Unit(ctx, ssmagent.SnapUnit); err == nil && snap.Loaded {
		f.ssmUnit = ssmagent.SnapUnit
	}
	return f.agrees()
}

// ownInstance is the ARN of the host's container instance: of the agent that runs, else of its state. BoltDB keeps what it
// freed, so the state may name several; then ECS decides which are the host's.
func (f *farewell) ownInstance(ctx context.Context, pinned string) (ecsagent.InstanceARN, error) {
	if pinned != "" {
		f.instance = pinned
		return ecsagent.ParseInstanceARN(pinned)
	}
	binding, err := ecsagent.ReadBinding(f.deps.Host.Reader)
	if err != nil {
		return ecsagent.InstanceARN{}, err
	}
	var own ecsagent.InstanceARN
	if said, err := ecsagent.Introspect(ctx, f.deps.Host.Reader); err == nil {
		if own, err = ecsagent.ParseInstanceARN(said.ContainerInstanceARN); err == nil {
			f.instance = said.ContainerInstanceARN
		}
	}
	for _, arn := range binding.Instances {
		switch {
		case f.instance == "" && len(binding.Instances) == 1:
			own, f.instance = arn, arn.String()
		case arn.String() != f.instance:
			f.others = append(f.others, arn.String())
			own = first(own, arn) // they share their place
		}
	}
	if own.Cluster == "" && binding.Cluster != "" {
		own.Cluster = ecsagent.ClusterName(binding.Cluster)
	}
	return own, nil
}

// agrees refuses flags that mean another host than this one.
func (f *farewell) agrees() error {
	if f.req.Region != "" && f.region != "" && f.req.Region != f.region {
		return failure.New(failure.Usage, "--region is %s and this host is registered in %s", f.req.Region, f.region).
			WithRemedy("leave --region out")
	}
	f.region = first(f.region, f.req.Region)
	if f.req.Cluster == "" {
		return nil
	}
	ref, err := control.ParseCluster(f.req.Cluster)
	if err != nil {
		return err
	}
	if f.cluster != "" && ref.Name != f.cluster || ref.Region != "" && f.region != "" && ref.Region != f.region ||
		ref.Account != "" && f.account != "" && ref.Account != f.account {
		return failure.New(failure.Usage, "--cluster is %s, and this host belongs to cluster %s of %s %s", f.req.Cluster,
			first(f.cluster, "unknown"), first(f.account, "an unknown account"), f.region).WithRemedy("leave --cluster out")
	}
	f.cluster = ref.Name
	return nil
}

// settleNode decides whether the managed node goes, and refuses a copy of another machine.
func (f *farewell) settleNode() error {
	ours := f.record.Registration != nil && f.record.Registration.ManagedInstanceID == f.node
	switch {
	case f.resumed != nil: // the record may be gone by now
		f.ssm = f.resumed.Pins[pinNodeGoes] != ""
	case f.node == "": // an agent that is no managed node is somebody's, unless anywhere was here
		f.ssm = !f.req.KeepSSM && (!f.foreign || f.req.RemoveSSM || f.req.Purge)
	default:
		f.ssm = !f.req.KeepSSM && (ours || f.req.RemoveSSM)
	}
	if f.ssm {
		f.pins[pinNodeGoes] = "yes"
	}
	if f.verdict != ssmagent.Clone {
		return nil
	}
	if !f.req.LocalOnly {
		return failure.New(failure.FingerprintChanged, "this machine is a copy of another one, and what AWS knows as %s is the other: %s", f.node, f.why).
			WithEvidence("%s and %s", ssmagent.FingerprintPath, ssmagent.MachineIDPath).
			WithRemedy("clean only this machine: anywhere deregister --local-only --remove-ssm")
	}
	f.warnings = append(f.warnings, fmt.Sprintf("this machine is a copy of another one: %s; nothing of %s is owed to AWS, for it is the other's", f.why, f.node))
	return nil
}

// ssmStays reports whether the host stays a managed node.
func (f *farewell) ssmStays() bool { return f.node != "" && !f.ssm }

// settleSession refuses to cut off the branch that it sits on.
func (f *farewell) settleSession() error {
	if !f.ssm || f.node == "" || f.accepts(riskSession) {
		return nil
	}
	process := ssmagent.Session(f.deps.Host.Reader)
	if process == "" {
		return nil
	}
	return failure.New(failure.SSMSession, "this command runs below the SSM agent: with the managed node %s the session ends, and its output with it", f.node).
		WithEvidence("its parent %s", process).
		WithRemedy("run it from another shell; or keep the node with --keep-ssm; or accept it: --accept-risk %s", riskSession)
}

// settlePaths refuses, before anything is done, what the removal itself would refuse half-way.
func (f *farewell) settlePaths() error {
	if f.req.RemoteOnly {
		return nil
	}
	for _, p := range slices.Concat(f.files(), f.trees()) {
		if err := f.deps.Host.Disk.Removable(p); err != nil {
			return err
		}
	}
	return nil
}

// containers are those of tasks that are here, or why they cannot be listed.
func (f *farewell) containers(ctx context.Context) (found []docker.Container, why string) {
	found, err := docker.Containers(ctx, f.deps.Host.Reader, taskLabel)
	if err == nil {
		return found, ""
	}
	if info, ferr := docker.Find(ctx, f.deps.Host.Reader); ferr == nil && !info.Present {
		return nil, "" // without Docker there are none
	}
	return nil, failure.Of(err).Message
}

// leftover names a container for people, and for docker rm.
func leftover(c docker.Container) string {
	return fmt.Sprintf("%s %s (%s, %s)", c.ID[:min(12, len(c.ID))], strings.Join(c.Names, ","), c.State, c.Labels[taskLabel])
}

// settleContainers refuses to orphan running tasks where no drain comes before: without AWS nobody can drain.
func (f *farewell) settleContainers(ctx context.Context) error {
	_, why := f.containers(ctx)
	if f.req.StopTasks && why != "" {
		return failure.New(failure.DockerDown, "--stop-tasks: the containers of tasks cannot be listed: %s", why).
			WithRemedy("systemctl start docker, or leave --stop-tasks out")
	}
	running := f.runningHere(ctx)
	orphans := f.req.LocalOnly && (f.resumed == nil || !f.resumed.Committed)
	if len(running) == 0 || !orphans && !f.req.StopTasks {
		return nil
	}
	refused := failure.New(failure.TasksRunning, "%d %s on this host",
		len(running), plural(len(running), "container of a task runs", "containers of tasks run")).
		WithEvidence("%s", strings.Join(running, "; "))
	switch {
	case orphans && !f.req.Force && !f.req.StopTasks:
		return refused.WithRemedy("stop them first: anywhere drain; or leave them running without an agent: --force --accept-risk %[1]s; "+
			"or end them: --stop-tasks --accept-risk %[1]s", riskTasks)
	case !f.accepts(riskTasks):
		return refused.WithRemedy("--accept-risk %s accepts what becomes of them", riskTasks)
	}
	return nil
}

// pinGoes fixes what the operation removes, so that its last run can tell what all of them have done.
func (f *farewell) pinGoes() error {
	goes := f.before()
	for _, t := range f.awayGoes() {
		if !slices.Contains(goes, t) {
			goes = append(goes, t)
		}
	}
	reader := f.deps.Host.Reader
	if f.resumed != nil {
		text, err := json.Marshal(goes)
		f.pins[pinGoes] = string(text)
		return err
	}
	if !f.req.RemoteOnly {
		for _, p := range f.packages() {
			goes = append(goes, thing{thingPackage, p})
		}
		files := slices.Concat(f.files(), f.trees())
		if rest, found, err := ssmagent.OwnCredentials(reader); f.ssm && err == nil && found && rest == nil {
			files = append(files, ssmagent.CredentialsPath)
		}
		for _, p := range files {
			if at, err := reader.Files.Lstat(p); err == nil && (p != ssmagent.CredentialsPath || at.Mode().IsRegular()) {
				goes = append(goes, thing{thingPath, p})
			}
		}
	}
	text, err := json.Marshal(goes)
	f.pins[pinGoes] = string(text)
	return err
}

// goes are the things that the operation removes.
func (f *farewell) goes() (all []thing) {
	if json.Unmarshal([]byte(f.pins[pinGoes]), &all) != nil { // of a journal that somebody edited
		return nil
	}
	return all
}

// ours reports whether a package is anywhere's own; without any record --purge takes the agents' packages whoever
// installed them.
func (f *farewell) ours(name string) bool {
	_, owned := f.record.Packages[name]
	if p, err := f.deps.Host.Packages.Package(name); err == nil && p.Snap { // the system's image brings it, never anywhere
		return false
	}
	return owned || f.foreign && f.req.Purge
}

// packages are those that go, in order.
func (f *farewell) packages() (names []string) {
	if f.req.KeepPackages || f.req.RemoteOnly {
		return nil
	}
	for _, name := range []string{ecsagent.Package, ssmagent.Package} {
		p, err := f.deps.Host.Packages.Package(name)
		if err == nil && (p.Installed || p.Partial || p.Residual) && f.ours(name) && (name != ssmagent.Package || f.ssm) {
			names = append(names, name)
		}
	}
	return names
}

// files are the single files that go, whether or not they are there: those that bind the host to a registration, and
// those that the record says anywhere has made.
func (f *farewell) files() []string {
	all := []string{ecsagent.StateDB, ecsagent.LegacyState}
	if f.ssm {
		all = append(all, ssmagent.IdentityFiles()...)
	}
	for _, file := range f.record.Files {
		if file != ecsagent.ExecDir && (f.ssm || !ssmNeeds(file)) {
			all = append(all, file)
		}
	}
	return append(all, FactsPath)
}

// ssmNeeds reports whether a file of anywhere's is the SSM agent's to read: it stays with the managed node.
func ssmNeeds(file string) bool {
	return slices.Contains([]string{ssmagent.ConfigPath, preflight.ProxyEnv, preflight.ProxyDropIn(ssmagent.UnitName),
		preflight.ProxyDropIn(ssmagent.SnapUnit)}, file)
}

// trees are what goes with all that is below it, and for good: what the agents made in folders that are theirs alone.
// Never the ECS agent's data folder as a whole, unless that was asked for: other programs keep files there.
func (f *farewell) trees() (all []string) {
	add := func(goes bool, paths ...string) {
		for _, p := range paths {
			if goes && p != "" && !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	purge, packages := f.req.Purge, !f.req.KeepPackages
	made := func(folder, by string) bool {
		return packages && f.ours(by) && slices.Contains(f.record.Folders, folder)
	}
	add(slices.Contains(f.record.Files, ecsagent.ExecDir), ecsagent.ExecDir)
	add(made(ecsagent.CacheDir, ecsagent.Package) || purge && f.ours(ecsagent.Package), ecsagent.CacheDir)
	add(purge, path.Dir(ecsagent.DataDir), path.Dir(ecsagent.ConfigPath), ecsagent.LogDir)
	if f.ssm {
		add(true, ssmagent.NodeDir(f.node))
		add(purge || made(ssmagent.DataDir, ssmagent.Package), ssmagent.DataDir)
		add(purge, ssmagent.LogDir)
		add(purge && f.ours(ssmagent.Package), path.Dir(ssmagent.ConfigPath))
	}
	return all
}

// folders are those that go once nothing is in them, the inner ones first.
func (f *farewell) folders() (all []string) {
	if f.req.KeepPackages {
		return nil
	}
	if f.ssmStays() && f.record.Registration == nil { // the rest is its node's
		if folder := path.Dir(dropInOf(f.ecsUnit)); slices.Contains(f.record.Folders, folder) {
			all = append(all, folder)
		}
		return all
	}
	if f.ssm {
		all = append(all, ssmagent.IdentityFolders()...)
	}
	for _, folder := range slices.Backward(f.record.Folders) {
		if !slices.Contains(all, folder) {
			all = append(all, folder)
		}
	}
	if f.req.Purge && f.ssm && f.ours(ssmagent.Package) { // whoever made them
		for _, folder := range []string{ssmagent.ConfigPath, ssmagent.DataDir + "/", ssmagent.LogDir + "/"} {
			if folder = path.Dir(path.Dir(folder)); !slices.Contains(all, folder) {
				all = append(all, folder)
			}
		}
	}
	return all
}

// empties are the folders that are empty now, or would be once those in them are gone.
func (f *farewell) empties(r host.Reader) (all []string) {
	for _, folder := range f.folders() {
		entries, err := r.Files.ReadDir(folder)
		if err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !slices.Contains(all, path.Join(folder, e.Name())) }) {
			all = append(all, folder)
		}
	}
	return all
}

// cached is the file that a package of ours was installed from, as long as it is what was verified then: an undo needs it.
func (f *farewell) cached(name string) string {
	owned, reader := f.record.Packages[name], f.deps.Host.Reader
	entries, err := reader.Files.ReadDir(PackageDir)
	if err != nil || owned.SHA256 == "" {
		return ""
	}
	for _, e := range entries {
		at := path.Join(PackageDir, e.Name())
		if !strings.HasPrefix(e.Name(), name) || !e.Type().IsRegular() {
			continue
		}
		file, err := reader.Files.Open(at)
		if err != nil {
			continue
		}
		sum := sha256.New()
		_, err = io.Copy(sum, file)
		_ = file.Close() // it was read
		if err == nil && hex.EncodeToString(sum.Sum(nil)) == owned.SHA256 {
			return at
		}
	}
	return ""
}

// stays are the things that stay on purpose, with the reason.
func (f *farewell) stays(r host.Reader) (kept []string) {
	if f.ssmStays() {
		why := "not registered by anywhere; --remove-ssm removes it"
		if f.req.KeepSSM {
			why = "--keep-ssm"
		}
		kept = append(kept, fmt.Sprintf("managed node %s (%s)", f.node, why))
	}
	if f.req.RemoteOnly {
		return append(kept, "everything on this host (--remote-only)")
	}
	for _, name := range []string{ecsagent.Package, ssmagent.Package} {
		p, err := r.Packages.Package(name)
		if err != nil || !p.Installed {
			continue
		}
		switch {
		case p.Snap && f.ssmStays():
			kept = append(kept, "snap "+name+" (the managed node needs it)")
		case p.Snap:
			kept = append(kept, "snap "+name+" (not installed by anywhere; snap remove "+name+" removes it)")
		case f.req.KeepPackages:
			kept = append(kept, "package "+name+" (--keep-packages)")
		case name == ssmagent.Package && f.ssmStays():
			kept = append(kept, "package "+name+" (the managed node needs it)")
		case !f.ours(name) || name == ssmagent.Package && !f.ssm:
			kept = append(kept, "package "+name+" (not installed by anywhere)")
		}
	}
	for _, p := range []struct{ path, why string }{
		{ecsagent.ConfigPath, "not made by anywhere; --purge removes it"},
		{ssmagent.ConfigPath, "not made by anywhere; --purge removes it"},
		{ecsagent.DataDir, "what other programs keep there; --purge removes it"},
		{ecsagent.LogDir, "logs; --purge removes them"}, {ssmagent.LogDir, "logs; --purge removes them"},
		{ssmagent.CredentialsPath, "what is not the SSM agent's in it"},
	} {
		if _, err := r.Files.Lstat(p.path); err != nil || slices.ContainsFunc(f.goes(), func(t thing) bool { return t.Name == p.path || inFolder(p.path, t.Name) }) {
			continue
		}
		if f.ssmStays() && (strings.HasPrefix(p.path, "/etc/amazon/") || strings.HasPrefix(p.path, "/var/log/amazon/") || p.path == ssmagent.CredentialsPath) {
			continue // the managed node's, which stays
		}
		kept = append(kept, p.path+" ("+p.why+")")
	}
	if slices.Contains(f.record.Files, preflight.ProxyDropIn(dockerUnit)) {
		kept = append(kept, "the proxy in the environment of the Docker that runs (systemctl restart docker, which ends containers, drops it)")
	}
	if f.record.Docker != nil {
		kept = append(kept, "Docker (it is never removed with a registration)")
	}
	return kept
}

// inFolder reports whether name is dir or lies below it.
func inFolder(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// ownData is what anywhere keeps for itself, but for what still says something: the record of what stays, and copies of
// somebody's credentials.
func (f *farewell) ownData() (paths, copies []string) {
	reader := f.deps.Host.Reader
	entries, err := reader.Files.ReadDir(BackupDir)
	if err != nil && !missing(err) {
		return nil, nil
	}
	for _, e := range entries {
		at := path.Join(BackupDir, e.Name())
		if strings.HasPrefix(e.Name(), credentialsCopies) {
			copies = append(copies, at)
		} else {
			paths = append(paths, at)
		}
	}
	if _, err := reader.Files.Lstat(recordPath); missing(err) && len(copies) == 0 {
		return []string{DataDir}, nil
	}
	return append(paths, PackageDir, DataDir+"/journal"), copies
}
