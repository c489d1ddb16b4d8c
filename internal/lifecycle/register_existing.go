package lifecycle

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// pinOwed is the ARN of a container instance that the host gives up and that no agent will ever deregister.
const pinOwed = "owed-instance"

// givesUp reports whether this operation gives up the host's identity, and the ECS agent's state with it.
func (r *registration) givesUp(ctx context.Context, identity ssmagent.Identity) bool {
	return r.replaces(ctx, identity) || r.resumed != nil && r.resumed.Pins[pinStale] != ""
}

// settleIdentity refuses another Region than the managed node's, and another account where the record knows the node's.
func (r *registration) settleIdentity(ctx context.Context, identity ssmagent.Identity) error {
	if !identity.Registered() || r.givesUp(ctx, identity) {
		return nil
	}
	if identity.Region != r.region {
		return failure.New(failure.RegisteredElsewere, "this host is managed node %s in %s, not in %s",
			identity.InstanceID, identity.Region, r.region).
			WithEvidence("%s", ssmagent.KeyPath).
			WithRemedy("to change the Region: anywhere deregister, and then this command again; or, %s", r.giveUp())
	}
	record, err := readRecord(r.deps.Host.Reader)
	if err != nil {
		return err
	}
	known := record.accountOf(identity.InstanceID)
	if known == "" || r.account == "" || known == r.account {
		return nil
	}
	return failure.New(failure.RegisteredElsewere, "this host is managed node %s of account %s, not of %s",
		identity.InstanceID, known, r.account).
		WithEvidence("%s", recordPath).WithRemedy("%s", r.giveUp())
}

// settleBinding refuses another cluster than the one that the ECS agent's state is bound to. The state decides, not the
// configuration: the agent will not run with a configuration that says otherwise.
func (r *registration) settleBinding(ctx context.Context, identity ssmagent.Identity, config ecsagent.Config) error {
	reader := r.deps.Host.Reader
	if !ecsagent.Bound(reader) || r.givesUp(ctx, identity) {
		return nil
	}
	binding, err := ecsagent.ReadBinding(reader)
	if err != nil {
		return err
	}
	r.binding = binding
	configured := first(binding.Cluster, config.Cluster())
	if len(binding.Instances) == 0 {
		if configured == "" || ecsagent.SameCluster(configured, r.account, r.region, r.cluster) {
			return nil
		}
		return r.elsewhere(ecsagent.ClusterName(configured)).
			WithEvidence("ECS_CLUSTER is %s, state in %s", configured, ecsagent.StateDB)
	}
	for _, arn := range binding.Instances {
		if r.here(arn) && (arn.Cluster != "" || ecsagent.SameCluster(configured, r.account, r.region, r.cluster)) {
			r.bound = arn
			return nil
		}
	}
	arn := binding.Instances[0]
	if sameAccount := r.account == "" || arn.Account == r.account; sameAccount && arn.Region == r.region {
		return r.elsewhere(first(arn.Cluster, ecsagent.ClusterName(configured))).WithEvidence("%s in %s", arn, ecsagent.StateDB)
	}
	return failure.New(failure.RegisteredElsewere, "this host belongs to account %s in %s, not to %s in %s",
		arn.Account, arn.Region, first(r.account, "this account"), r.region).
		WithEvidence("%s in %s", arn, ecsagent.StateDB).WithRemedy("%s", r.giveUp())
}

// here reports whether a container instance is in the wanted place, as far as its ARN says.
func (r *registration) here(arn ecsagent.InstanceARN) bool {
	return arn.Region == r.region && (r.account == "" || arn.Account == r.account) &&
		(arn.Cluster == "" || arn.Cluster == r.cluster)
}

// elsewhere is the refusal of a host that belongs to another cluster.
func (r *registration) elsewhere(cluster string) *failure.Error {
	return failure.New(failure.RegisteredElsewere, "this host belongs to cluster %s, not to %s", cluster, r.cluster).
		WithRemedy("anywhere move --cluster %s; or, to stay where it is: anywhere register --cluster %s", r.cluster, cluster)
}

// giveUp says how a host comes away from a place that "move" does not lead out of.
func (r *registration) giveUp() string {
	if r.req.Activation != nil {
		return "leave the token out to keep it as it is; to give it up for the new one, the same command with " +
			"--accept-risk replace-identity"
	}
	return "to give it up for a new registration: anywhere register --token - --accept-risk replace-identity, " +
		"with a token made by anywhere activation create"
}

// warnOfLeftovers names what a replaced identity leaves in the account. What may be another machine's is not to be typed
// without a look; what the service knows no more needs nothing.
func (r *registration) warnOfLeftovers(
	ctx context.Context, identity ssmagent.Identity, verdict ssmagent.Verdict, pins map[string]string,
) error {
	instance, err := r.boundInstance()
	if err != nil {
		return err
	}
	gone, err := r.deregistered(ctx, r.deps.Host.Reader)
	if err != nil {
		return err
	}
	if gone != nil {
		instance = ""
	}
	known := verdict == ssmagent.Sound || verdict == ssmagent.Unknown
	if node := first(identity.InstanceID, identity.SideID); node != "" && (known || verdict == ssmagent.Broken) {
		line := fmt.Sprintf("managed node %[1]s is given up and stays in the account; unless another machine is %[1]s: "+
			"aws ssm deregister-managed-instance --region %[2]s --instance-id %[1]s", node, first(identity.Region, identity.SideRegion, r.region))
		if known && instance != "" {
			line += "; " + deregisterCall(instance)
		}
		r.warnings = append(r.warnings, line)
	}
	if !known && verdict != ssmagent.Clone && instance != "" { // of a clone, both are the other machine's
		pins[pinOwed] = instance
	}
	return nil
}

// boundInstance is the container instance that the state names; empty when it names none, or more than one.
func (r *registration) boundInstance() (string, error) {
	binding, err := ecsagent.ReadBinding(r.deps.Host.Reader)
	if err != nil || len(binding.Instances) != 1 {
		return "", err
	}
	return binding.Instances[0].String(), nil
}

// deregisterCall is the call that removes a container instance whose agent will not come back.
func deregisterCall(instance string) string {
	arn, err := ecsagent.ParseInstanceARN(instance)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("aws ecs deregister-container-instance --region %s --cluster %s --container-instance %s --force",
		arn.Region, first(arn.Cluster, "default"), instance)
}

// owedInstance is the call to AWS that is left to be made for a container instance that the host has given up.
func (r *registration) owedInstance() []string {
	calls := []string{}
	if instance := r.pins[pinOwed]; instance != "" && instance != r.arnText {
		calls = append(calls, deregisterCall(instance))
	}
	return calls
}

// saveIdentity keeps a copy of the identity store for good before it is replaced: it is all that could bring a node back.
func (r *registration) saveIdentity(ctx context.Context, tx *engine.Tx) error {
	identity, err := ssmagent.ReadIdentity(tx.Reader())
	if err != nil || identity.InstanceID == "" && identity.SideID == "" && len(identity.Damaged) == 0 {
		return err
	}
	for _, file := range ssmagent.StoreFiles() {
		content, err := tx.Reader().Files.ReadFile(file)
		if missing(err) {
			continue
		}
		if err != nil {
			return err
		}
		backup := fmt.Sprintf("%s/%s-%s", BackupDir, path.Base(file), r.deps.RunID)
		if err := tx.WriteFile(ctx, backup, bytes.NewReader(content), 0o600); err != nil {
			return err
		}
	}
	tx.Note("kept a copy of the SSM agent's identity store in %s", BackupDir)
	return nil
}

// ssmVault makes the SSM agent see an identity again that is whole, and to which its manifest does not lead any more.
func (r *registration) ssmVault() engine.Step {
	return engine.Step{
		ID: "ssm.vault", Title: "Mend the SSM agent's identity store",
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			identity, err := ssmagent.ReadIdentity(reader)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case identity.Hidden == "":
				return engine.Obs{State: engine.OK, Detail: ssmagent.ManifestPath}, nil
			}
			return engine.Obs{State: engine.Pending, Detail: "make " + ssmagent.ManifestPath + " lead to " + identity.Hidden}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			if err := r.saveIdentity(ctx, tx); err != nil {
				return err
			}
			text, err := ssmagent.MendManifest(tx.Reader())
			if err != nil {
				return err
			}
			return tx.WriteFile(ctx, ssmagent.ManifestPath, bytes.NewReader(text), 0o600)
		},
	}
}

// recordStep keeps what the record says of the registration true: a registration that was begun for one cluster and
// abandoned may have ended in another, and an identity that somebody else made is not anywhere's.
func (r *registration) recordStep() engine.Step {
	return engine.Step{
		ID: "record", Title: "Bring the record up to date",
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			record, err := readRecord(reader)
			if err != nil {
				return engine.Obs{}, err
			}
			want, err := r.truth(reader, record)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case !sameRecord(record, want):
				return engine.Obs{State: engine.Pending, Detail: "correct " + recordPath}, nil
			case record.Registration == nil && record.Adopted == nil:
				return engine.Obs{State: engine.OK, Detail: "the registration is not anywhere's"}, nil
			}
			return engine.Obs{State: engine.OK, Detail: recordPath}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			record, err := readRecord(tx.Reader())
			if err != nil {
				return err
			}
			want, err := r.truth(tx.Reader(), record)
			if err != nil {
				return err
			}
			return r.own(ctx, tx, func(record *Record) { record.Registration, record.Adopted = want.Registration, want.Adopted })
		},
	}
}

// truth is the record with what is so of the registration.
func (r *registration) truth(reader host.Reader, record Record) (Record, error) {
	var err error
	if record.Registration, err = r.ownRegistration(reader, record); err != nil {
		return record, err
	}
	record.Adopted, err = r.stillAdopted(reader, record)
	return record, err
}

// stillAdopted is what the record should say of a registration that was adopted; nil when the host has another one by now.
func (r *registration) stillAdopted(reader host.Reader, record Record) (*AdoptedRegistration, error) {
	if record.Adopted == nil {
		return nil, nil
	}
	identity, err := ssmagent.ReadIdentity(reader)
	if err != nil {
		return nil, err
	}
	is := *record.Adopted
	if !identity.Registered() { // nothing replaces it yet
		return &is, nil
	}
	if is.ManagedInstanceID != identity.InstanceID {
		return nil, nil
	}
	is.Cluster, is.ContainerInstanceARN = r.cluster, first(r.arnText, is.ContainerInstanceARN)
	return &is, nil
}

// unwritten is a registration of an earlier run of this operation that was killed before it was in the record. The key tells:
// nobody else makes one while an operation is open that has set about it.
func (r *registration) unwritten(record Record, identity ssmagent.Identity) (is OwnedRegistration, found bool) {
	op := r.resumed
	if op == nil || !slices.Contains(op.Begun, identityStepID) || !identity.Registered() || !identity.KeyCreated.After(op.Started) {
		return is, false
	}
	if own := record.Registration; own != nil && own.ManagedInstanceID == identity.InstanceID {
		return is, false
	}
	is.ManagedInstanceID = identity.InstanceID
	if token := r.given(); token != nil {
		is.ActivationID = token.ActivationID
	}
	return is, true
}

// ownRegistration is what the record should say; nil when the registration is not anywhere's.
func (r *registration) ownRegistration(reader host.Reader, record Record) (*OwnedRegistration, error) {
	if record.Registration == nil && r.resumed == nil {
		return nil, nil
	}
	identity, err := ssmagent.ReadIdentity(reader)
	if err != nil {
		return nil, err
	}
	is, found := r.unwritten(record, identity)
	if !found && record.Registration == nil {
		return nil, nil
	}
	if !found {
		is = *record.Registration
	}
	if !identity.Registered() { // nothing replaces it yet
		return &is, nil
	}
	if is.ManagedInstanceID != identity.InstanceID {
		return nil, nil
	}
	is.Region, is.Cluster, is.Account = identity.Region, r.cluster, first(r.account, r.arn.Account, is.Account)
	return &is, nil
}
