package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const identityStepID = "ssm.identity"

// ssmIdentity registers the managed node. It is the point of no return: the activation's slot is spent, and the node is
// AWS's to know from then on.
func (r *registration) ssmIdentity() engine.Step {
	return engine.Step{
		ID: identityStepID, Title: "Register the managed node",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			identity, verdict, why, err := assess(ctx, reader)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case r.mends && identity.Hidden != "":
				return engine.Obs{State: engine.Unknown, Detail: identity.Hidden + ", once the identity store is mended"}, nil
			case !identity.Registered():
				return engine.Obs{State: engine.Pending, Detail: "register with Systems Manager in " + r.region}, nil
			case r.replaces(ctx, identity):
				return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf("replace %s: %s", identity.InstanceID, why)}, nil
			case verdict == ssmagent.Sound, verdict == ssmagent.Unknown:
				return engine.Obs{State: engine.OK, Detail: identity.InstanceID}, nil
			}
			return engine.Obs{}, refuseIdentity(identity, verdict, why)
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			token := r.given()
			if err := r.ownStore(ctx, tx); err != nil {
				return err
			}
			if err := r.saveCredentials(ctx, tx); err != nil {
				return err
			}
			if err := r.saveIdentity(ctx, tx); err != nil {
				return err
			}
			id, err := ssmagent.Register(ctx, tx, ssmagent.Registration{ActivationID: token.ActivationID, Code: token.Code, Region: r.region})
			r.dropActivation(ctx) // used up or not, nobody else shall have it
			if err != nil {
				return err
			}
			return r.own(ctx, tx, func(record *Record) {
				record.Registration = &OwnedRegistration{
					ManagedInstanceID: id, ActivationID: token.ActivationID, Region: r.region, Account: r.account, Cluster: r.cluster,
				}
				if r.deleted {
					record.Registration.Deleted = r.deps.RunID
				}
			})
		},
	}
}

// ownStore notes the folders that registering makes. An agent that anywhere installs has made the most of them by then; one
// that was here before, as a snap is, may never have run.
func (r *registration) ownStore(ctx context.Context, tx *engine.Tx) error {
	data := []string{path.Dir(ssmagent.DataDir), ssmagent.DataDir}
	if err := r.own(ctx, tx, func(record *Record) {
		record.addFolders(tx.Reader(), append(data, path.Dir(ssmagent.CredentialsPath))...)
	}); err != nil {
		return err
	}
	return tx.Claim(ctx, data...)
}

// assess reads the identity and judges it.
func assess(ctx context.Context, reader host.Reader) (ssmagent.Identity, ssmagent.Verdict, string, error) {
	return ssmagent.Judge(ctx, reader)
}

// replaces reports whether this run gives up the identity that is there: the operator said so, there is an activation for
// a new one or one can be made, and the new one is not made yet. With an activation that was given it also gives up one
// that works as far as can be seen here, for a copy of a machine with the same machine-id cannot be told from the
// original. Without one only an identity that does not work is given up: the same command again must change nothing.
func (r *registration) replaces(ctx context.Context, identity ssmagent.Identity) bool {
	if !r.accepts("replace-identity") {
		return false
	}
	token := r.given()
	if token == nil {
		return identity.Hidden == "" && r.replacesBroken(ctx)
	}
	record, err := readRecord(r.deps.Host.Reader)
	made := err == nil && record.Registration != nil && record.Registration.ManagedInstanceID == identity.InstanceID &&
		record.Registration.ActivationID == token.ActivationID
	// Killed between the registration and its line in the record: the key tells.
	made = made || r.resumed != nil && identity.Registered() && identity.KeyCreated.After(r.resumed.Started)
	return !made
}

// replacesBroken is for a run that makes its own activation.
func (r *registration) replacesBroken(ctx context.Context) bool {
	_, verdict, _, err := assess(ctx, r.deps.Host.Reader)
	if err != nil || verdict == ssmagent.Sound || verdict == ssmagent.Unknown {
		return false
	}
	_, err = r.remote.connect(ctx)
	return err == nil
}

func refuseIdentity(identity ssmagent.Identity, verdict ssmagent.Verdict, why string) error {
	code := map[ssmagent.Verdict]failure.Code{
		ssmagent.Deregistered: failure.NodeUnknown, ssmagent.Clone: failure.FingerprintChanged,
	}[verdict]
	if code == "" {
		code = failure.IdentityUnknown
	}
	cause, line, logged := strings.Cut(why, ": ")
	f := failure.New(code, "this host's registration as %s does not work any more: %s", identity.InstanceID, cause).
		WithRemedy("to give it up and register anew: anywhere register --token - --accept-risk replace-identity, " +
			"with a token made by anywhere activation create")
	if logged {
		return f.WithEvidence("%s: %s", ssmagent.LogPath, line)
	}
	return f.WithEvidence("%s and %s", ssmagent.FingerprintPath, ssmagent.MachineIDPath)
}

// needActivation refuses to begin what could not be ended: a host without an identity needs an activation that is good,
// or an operator who can make one.
func (r *registration) needActivation(ctx context.Context, pins map[string]string) error {
	pins[pinActivation] = strings.Join(r.strays, ",")
	_, why, wanted, err := r.wantsIdentity(ctx, r.deps.Host.Reader)
	if err != nil || !wanted {
		return err
	}
	token := r.req.Activation
	switch {
	case token == nil:
		return r.needOperator(ctx, why, pins)
	case !token.Expires.IsZero() && r.deps.Host.Now().After(token.Expires):
		return failure.New(failure.ActivationExpired, "the token's activation expired at %s", token.Expires.Format(time.RFC3339)).
			WithEvidence("this machine's clock says %s", r.deps.Host.Now().UTC().Format(time.RFC3339))
	}
	return nil
}

// saveCredentials keeps a copy of a credentials file for good: SSM Agent is going to write into it.
func (r *registration) saveCredentials(ctx context.Context, tx *engine.Tx) error {
	text, err := tx.Reader().Files.ReadFile(ssmagent.CredentialsPath)
	if missing(err) || err == nil && len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	copies, err := savedCredentials(tx.Reader())
	if err != nil || slices.ContainsFunc(copies, func(c []byte) bool { return bytes.Equal(c, text) }) {
		return err
	}
	return tx.WriteFile(ctx, r.credentialsCopy(), bytes.NewReader(text), 0o600)
}

// savedCredentials are the copies that were made of the credentials file, the last first: their names have the time.
func savedCredentials(reader host.Reader) (copies [][]byte, err error) {
	entries, err := reader.Files.ReadDir(BackupDir)
	if err != nil && !missing(err) {
		return nil, failure.Wrap(failure.Internal, err, "cannot look into %s", BackupDir)
	}
	for _, e := range slices.Backward(entries) {
		if !strings.HasPrefix(e.Name(), credentialsCopies) || !e.Type().IsRegular() {
			continue
		}
		text, err := reader.Files.ReadFile(path.Join(BackupDir, e.Name()))
		if err != nil {
			return nil, failure.Wrap(failure.Internal, err, "cannot read the copy %s", e.Name())
		}
		copies = append(copies, text)
	}
	return copies, nil
}

// asSaved is a credentials file as it was before the SSM agent lined it up, where a copy says the same.
func asSaved(reader host.Reader, text []byte) ([]byte, error) {
	copies, err := savedCredentials(reader)
	for _, c := range copies {
		if ssmagent.SameCredentials(c, text) {
			return c, err
		}
	}
	return text, err
}

// saveOthersCredentials does so where the SSM agent is about to write a profile that it has not kept so far: on a host that
// was registered before, nobody has made a copy.
func (r *registration) saveOthersCredentials(ctx context.Context, tx *engine.Tx) error {
	credentials, err := ssmagent.ReadCredentials(tx.Reader(), r.profile)
	if err != nil || credentials.Ours {
		return err
	}
	if _, err := tx.Reader().Files.Lstat(r.credentialsCopy()); !missing(err) {
		return err // this run has registered the host, and made one then
	}
	return r.saveCredentials(ctx, tx)
}

// credentialsCopies begins the names of the copies of /root/.aws/credentials in BackupDir.
const credentialsCopies = "root-aws-credentials-"

func (r *registration) credentialsCopy() string {
	return BackupDir + "/" + credentialsCopies + r.deps.RunID
}

// ssmStart starts the SSM agent as the managed node and waits until it has written credentials: the ECS agent lives on
// them.
func (r *registration) ssmStart() engine.Step {
	return engine.Step{
		ID: "ssm.start", Title: "Start the SSM agent",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			seen, err := r.started(ctx, reader, r.ssmUnit(), r.ssmInputs)
			if err != nil || seen.State != engine.OK {
				return seen, err
			}
			identity, err := ssmagent.ReadIdentity(reader)
			if err != nil {
				return engine.Obs{}, err
			}
			if ready, what := ssmagent.CredentialsReady(reader, identity, time.Time{}); !ready {
				return engine.Obs{State: engine.Pending, Detail: what}, nil
			}
			return seen, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			begun := tx.Reader().Now()
			if err := r.saveOthersCredentials(ctx, tx); err != nil {
				return err
			}
			if err := r.start(ctx, tx, r.ssmUnit(), r.ssmInputs); err != nil {
				return err
			}
			identity, err := ssmagent.ReadIdentity(tx.Reader())
			if err != nil {
				return err
			}
			return r.wait(ctx, tx, waiting{
				code: failure.ConnectTimeout, what: "the SSM agent to get credentials for " + identity.InstanceID, since: begun,
				done: func(context.Context) (bool, string, error) {
					ready, what := ssmagent.CredentialsReady(tx.Reader(), identity, time.Time{})
					return ready, what, nil
				},
			})
		},
	}
}

// ecsStart starts the ECS agent. systemd calls it active long before it is registered: verify waits for that.
func (r *registration) ecsStart() engine.Step {
	return engine.Step{
		ID: "ecs.start", Title: "Start the ECS agent",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			seen, err := r.started(ctx, reader, r.ecsUnit(), r.ecsInputs)
			if err != nil || seen.State == engine.OK || r.ecsSince.IsZero() {
				return seen, err
			}
			// This run has started it: it came up for a moment and is down again, for a reason that its log has.
			return seen, r.hopeless(ctx, reader, waiting{since: r.ecsSince, ecs: true})
		},
		Change: r.startECS,
	}
}

func (r *registration) startECS(ctx context.Context, tx *engine.Tx) error {
	if err := awaitFreshLog(ctx, tx.Reader()); err != nil {
		return err
	}
	r.ecsSince = tx.Reader().Now()
	w := waiting{
		code: failure.ServiceFailed, what: r.ecsUnit() + " to come up", since: r.ecsSince, ecs: true,
		done: func(ctx context.Context) (bool, string, error) {
			seen, err := r.started(ctx, tx.Reader(), r.ecsUnit(), r.ecsInputs)
			return seen.State == engine.OK, seen.Detail, err
		},
	}
	if err := r.start(ctx, tx, r.ecsUnit(), r.ecsInputs); err != nil {
		return r.because(tx, w, err)
	}
	return r.wait(ctx, tx, w)
}

// awaitFreshLog waits until what the ECS agent's log says of its last life can be told from what it will say of the next:
// its times are whole seconds, and a run that follows at once would take the old failure for its own.
func awaitFreshLog(ctx context.Context, reader host.Reader) error {
	now := reader.Now()
	old, err := ecsagent.ReadLog(reader, now)
	if err != nil || len(old) == 0 {
		return err
	}
	return sleep(ctx, time.Second-now.Sub(now.Truncate(time.Second)))
}

const verifyStepID = "verify"

// verify waits until the ECS agent itself says that it is registered where it should be.
func (r *registration) verify() engine.Step {
	return engine.Step{
		ID: verifyStepID, Title: "Verify the registration",
		Observe: r.verified,
		Change: func(ctx context.Context, tx *engine.Tx) error {
			if r.ecsSince.IsZero() { // started by an earlier run
				if err := r.takeOver(ctx, tx); err != nil {
					return err
				}
			}
			return r.wait(ctx, tx, waiting{
				code: failure.ConnectTimeout, what: "the ECS agent to register in cluster " + r.cluster, since: r.ecsSince, ecs: true,
				done: func(ctx context.Context) (bool, string, error) {
					seen, err := r.verified(ctx, tx.Reader())
					return seen.State == engine.OK, seen.Detail, err
				},
			})
		},
	}
}

// takeOver decides from when on the log of an agent counts that an earlier run has started. One that is in trouble is
// started anew: what it complains of may be mended by now, and by itself it tries again only after minutes.
func (r *registration) takeOver(ctx context.Context, tx *engine.Tx) error {
	unit, err := tx.Reader().Units.Unit(ctx, r.ecsUnit())
	if err != nil {
		return err
	}
	findings, err := ecsagent.ReadLog(tx.Reader(), unit.ActiveSince)
	if err != nil {
		return err
	}
	if len(findings) == 0 {
		r.ecsSince = unit.ActiveSince
		return nil
	}
	tx.Note("starts the ECS agent anew: since its last start it has failed with %q", findings[0].Cause)
	return r.startECS(ctx, tx)
}

// verified asks the ECS agent. Its answer counts only with the wanted cluster, account and Region, and only while its log
// does not say that ECS has deregistered it since: the port keeps answering then.
func (r *registration) verified(ctx context.Context, reader host.Reader) (engine.Obs, error) {
	meta, err := ecsagent.Introspect(ctx, reader)
	if errors.Is(err, ecsagent.ErrClosed) {
		return engine.Obs{State: engine.Pending, Detail: "the ECS agent has not registered yet"}, nil
	}
	if err != nil {
		return engine.Obs{State: engine.Pending, Detail: "the ECS agent does not answer: " + err.Error()}, nil //nolint:nilerr // waiting may help
	}
	arn, err := ecsagent.ParseInstanceARN(meta.ContainerInstanceARN)
	if err != nil {
		return engine.Obs{State: engine.Pending, Detail: "the ECS agent has no container instance yet"}, nil //nolint:nilerr // waiting may help
	}
	if !ecsagent.SameCluster(meta.Cluster, first(r.account, arn.Account), r.region, r.cluster) || arn.Region != r.region ||
		r.account != "" && arn.Account != r.account || arn.Cluster != "" && arn.Cluster != r.cluster {
		return engine.Obs{}, r.contradicted(meta.ContainerInstanceARN, arn)
	}
	gone, err := r.deregistered(ctx, reader)
	if err != nil {
		return engine.Obs{}, err
	}
	if gone != nil {
		return engine.Obs{State: engine.Pending, Detail: "ECS has deregistered " + meta.ContainerInstanceARN}, nil
	}
	if stale, err := r.answersFromBefore(ctx, reader); err != nil || stale {
		return engine.Obs{State: engine.Pending, Detail: "the ECS agent that answers is not yet the one that was started"}, err
	}
	r.arn, r.arnText = arn, meta.ContainerInstanceARN
	return engine.Obs{State: engine.OK, Detail: meta.ContainerInstanceARN}, nil
}

// answersFromBefore reports whether the agent that answers is an older one than this run has started: ecs-init that is
// stopped while it makes its container leaves one behind for a moment.
func (r *registration) answersFromBefore(ctx context.Context, reader host.Reader) (bool, error) {
	if r.ecsSince.IsZero() {
		return false, nil
	}
	seen, err := docker.Glance(ctx, reader, ecsagent.Image, ecsagent.Container)
	if err != nil {
		return false, err
	}
	return !seen.Program.Exists || seen.Program.StartedAt.Before(r.ecsSince), nil
}

// contradicted is the refusal of a host whose ECS agent is registered somewhere else.
func (r *registration) contradicted(text string, arn ecsagent.InstanceARN) error {
	f := failure.New(failure.RegisteredElsewere, "the ECS agent is registered as %s, not in cluster %s of %s %s",
		text, r.cluster, first(r.account, "this account"), r.region)
	if arn.Region != r.region || r.account != "" && arn.Account != r.account {
		return f.WithRemedy("%s", r.giveUp())
	}
	return f.WithRemedy("anywhere move --cluster %s", r.cluster)
}

// starting stands in the record for a unit whose start was begun; no digest is like it.
const starting = ""

// start enables and restarts a unit, and records what it read when it started. A run that is killed in between leaves a
// unit that is started again: what it has read, nobody knows.
func (r *registration) start(ctx context.Context, tx *engine.Tx, unit string, inputs func(host.Reader) (string, error)) error {
	digest, err := r.toStart(ctx, tx, unit, inputs)
	if err != nil {
		return err
	}
	return r.restart(ctx, tx, unit, digest, nil)
}

// toStart is the first half of start: what the unit is going to read, and the record's word that it is about to.
func (r *registration) toStart(ctx context.Context, tx *engine.Tx, unit string, inputs func(host.Reader) (string, error)) (digest string, err error) {
	digest, err = inputs(tx.Reader())
	if err != nil {
		return "", err
	}
	return digest, r.own(ctx, tx, func(record *Record) { record.Started[unit] = starting })
}

// restart is the second half; atRest, if any, is done while the unit is stopped.
func (r *registration) restart(ctx context.Context, tx *engine.Tx, unit, digest string, atRest func(context.Context) error) error {
	if err := tx.Unit(ctx, unit, engine.UnitWant{Enable: true, Restart: true, AtRest: atRest}); err != nil {
		return err
	}
	return r.own(ctx, tx, func(record *Record) { record.Started[unit] = digest })
}

// started observes that a unit runs, comes up at boot, and has read what is on the disk now. Where nobody recorded what
// it read at its start, because anywhere did not start it, the times of the files tell.
func (r *registration) started(ctx context.Context, reader host.Reader, name string, inputs func(host.Reader) (string, error)) (engine.Obs, error) {
	unit, err := reader.Units.Unit(ctx, name)
	if err != nil {
		return engine.Obs{}, err
	}
	pending := func(format string, args ...any) (engine.Obs, error) {
		return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf(format, args...)}, nil
	}
	switch {
	case !unit.Loaded:
		return engine.Obs{State: engine.Unknown, Detail: "start " + name}, nil
	case !unit.Running():
		return pending("%s is %s", name, strings.TrimSpace(unit.Active+" "+unit.Sub))
	case !unit.IsEnabled():
		return pending("%s does not start at boot", name)
	}
	record, err := readRecord(reader)
	if err != nil {
		return engine.Obs{}, err
	}
	digest, err := inputs(reader)
	if err != nil {
		return engine.Obs{}, err
	}
	if recorded, known := record.Started[name]; known {
		if recorded != digest {
			return pending("%s was started before its configuration changed", name)
		}
	} else if newest, path := newestOf(reader, append(inputFiles(name), outwardInputs(reader, name)...)); newest.After(unit.ActiveSince) {
		return pending("%s was started before %s changed", name, path)
	}
	return engine.Obs{State: engine.OK, Detail: name + " runs"}, nil
}

// inputFiles are what a unit's program reads at its start. The drop-in is systemd's, which reads it when it is told to.
func inputFiles(unit string) []string {
	if ssmagent.IsUnit(unit) {
		return []string{ssmagent.ConfigPath, ssmagent.KeyPath, ssmagent.ManifestPath}
	}
	return []string{ecsagent.ConfigPath, ecsagent.InstanceConfigPath, ecsagent.JSONConfigPath}
}

func newestOf(reader host.Reader, paths []string) (newest time.Time, which string) {
	for _, p := range paths {
		if info, err := reader.Files.Stat(p); err == nil && info.ModTime().After(newest) {
			newest, which = info.ModTime(), p
		}
	}
	return newest, which
}

// ssmInputs digests what the SSM agent reads at its start: configuration, identity (it caches the id) and version.
func (r *registration) ssmInputs(reader host.Reader) (string, error) {
	identity, err := ssmagent.ReadIdentity(reader)
	if err != nil {
		return "", err
	}
	files := append([]string{ssmagent.ConfigPath}, outwardInputs(reader, ssmagent.UnitOf(reader))...)
	return digest(reader, files, ssmagent.Package, identity.InstanceID+identity.Region)
}

// ecsInputs digests what ecs-init and the agent read at their start: configuration, version, identity (credentials of
// another node are another caller) and the versions of ECS Exec.
func (r *registration) ecsInputs(reader host.Reader) (string, error) {
	identity, err := ssmagent.ReadIdentity(reader)
	if err != nil {
		return "", err
	}
	exec, err := ecsagent.ReadExec(reader)
	if err != nil {
		return "", err
	}
	files := append(inputFiles(r.ecsUnit()), outwardInputs(reader, r.ecsUnit())...)
	return digest(reader, files, ecsagent.Package, identity.InstanceID+strings.Join(exec.Complete, ","))
}

func digest(reader host.Reader, files []string, pkg, more string) (string, error) {
	sum := sha256.New()
	for _, path := range files {
		text, err := reader.Files.ReadFile(path)
		if err != nil && !missing(err) {
			return "", err
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n", path, len(text))
		_, _ = sum.Write(text)
	}
	installed, err := reader.Packages.Package(pkg)
	if err != nil {
		return "", err
	}
	version := installed.Version
	if installed.Snap { // snapd refreshes it by itself, and starts it anew each time
		version = ""
	}
	_, _ = io.WriteString(sum, version+"\n"+more)
	return hex.EncodeToString(sum.Sum(nil)[:12]), nil
}

// jsonObject is a map as the agent's settings have it: on one line, in the order that was given.
func jsonObject(pairs []Pair) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte(',')
		}
		k, _ := json.Marshal(p.Key) // strings always marshal
		v, _ := json.Marshal(p.Value)
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.String()
}
