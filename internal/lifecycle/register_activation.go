package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// pinActivation has the ids of the runs of an operation whose activations may still be there, with commas between them.
const pinActivation = "activation-of"

// ownLife is how long an activation lives that a registration makes for itself.
const ownLife = time.Hour

// about describes the activation of a run: by it a later run finds what a killed one has left.
func about(run string) string { return "anywhere register: run " + run }

// activation makes one for this host alone, where none was given. It comes before everything else that is changed,
// because AWS tells by doing only whether an operator may create one and the role can be used. Its code is in memory
// alone: a run that goes on makes another, and deletes this one.
func (r *registration) activation() engine.Step {
	return engine.Step{
		ID: "activation", Title: "Create an activation for this host",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			switch identity, _, wanted, err := r.wantsIdentity(ctx, reader); {
			case err != nil:
				return engine.Obs{}, err
			case !wanted:
				return engine.Obs{State: engine.OK, Detail: "not needed: the host is " + identity.InstanceID}, nil
			case r.made != nil:
				return engine.Obs{State: engine.OK, Detail: fmt.Sprintf("%s, until %s", r.made.ActivationID, r.made.Expires.Format(time.RFC3339))}, nil
			}
			return engine.Obs{State: engine.Pending, Detail: "in " + r.region + ", for one hour, with an operator's credentials"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			operator, err := r.remote.connect(ctx)
			if err != nil {
				return err
			}
			order := r.req.order()
			order.About = about(r.deps.RunID)
			made, err := operator.CreateActivation(ctx, order, func(text string) { tx.Note("%s", text) })
			if err != nil {
				return err
			}
			if r.deps.Redactor != nil {
				r.deps.Redactor.Add(made.Code.Reveal())
			}
			r.made = &control.Token{ActivationID: made.ID, Code: made.Code, Expires: made.Expires}
			return nil
		},
	}
}

// settleActivation decides whether the plan makes an activation, and which ones an interrupted run may have left.
func (r *registration) settleActivation(ctx context.Context) error {
	r.strays = strayRuns(r.resumed, r.deps.Host.Reader)
	if r.req.Activation != nil {
		return nil
	}
	_, _, wanted, err := r.wantsIdentity(ctx, r.deps.Host.Reader)
	r.creates = wanted
	return err
}

// sweep deletes what an interrupted run of this operation has left.
func (r *registration) sweep(ctx context.Context) {
	var owed, warnings []string
	r.strays, owed, warnings = r.remote.sweep(ctx, r.strays, r.region)
	r.owed, r.warnings = append(r.owed, owed...), append(r.warnings, warnings...)
}

// order is the activation that a registration would make for itself.
func (req RegisterRequest) order() control.Order {
	return control.Order{Role: first(req.Role, DefaultRole), Limit: 1, Life: ownLife, Name: req.Name}
}

// wantsIdentity reports whether a managed node is still to be registered, and what is known of the one that is there.
func (r *registration) wantsIdentity(
	ctx context.Context, reader host.Reader,
) (identity ssmagent.Identity, why string, wanted bool, err error) {
	identity, verdict, why, err := assess(ctx, reader)
	if err != nil || r.mends {
		return identity, why, false, err
	}
	whole := identity.Registered() && (verdict == ssmagent.Sound || verdict == ssmagent.Unknown)
	return identity, why, !whole || r.replaces(ctx, identity), nil
}

// given is the activation that this run registers with: the one that was brought, or made. Nil when there is none yet.
func (r *registration) given() *control.Token {
	if r.req.Activation != nil {
		return r.req.Activation
	}
	return r.made
}

// needOperator refuses to begin what needs an activation where none was given and none can be made. It settles the
// account that the host is going to be in, and which runs' activations may be left.
func (r *registration) needOperator(ctx context.Context, why string, pins map[string]string) error {
	operator, err := r.remote.connect(ctx)
	if none(err) {
		f := failure.New(failure.Usage, "this host is not registered with Systems Manager, no activation was given, "+
			"and there are no operator's credentials to create one with").
			WithRemedy("give a join token: --token -; or --activation-id ID with --activation-code-file FILE; " +
				"or an operator's credentials: --profile, AWS_PROFILE or AWS_ACCESS_KEY_ID")
		if failure.Of(err).Code == failure.CredentialsInvalid {
			why += "; " + failure.Of(err).Message
		}
		f.Evidence = why
		return f
	}
	if err != nil {
		return err
	}
	if r.account != "" && operator.Account != r.account {
		return otherAccount(operator, r.account)
	}
	r.settleAccount(operator.Account)
	pins[pinAccount] = r.account
	pins[pinActivation] = strings.Join(append(slices.Clone(r.strays), r.deps.RunID), ",")
	return nil
}

func (r *registration) settleAccount(account string) {
	r.account = account
	r.remote.mu.Lock()
	defer r.remote.mu.Unlock()
	r.remote.account = account
}

// dropActivation deletes the activation that this run made, if it did. It is not cut off by an interruption, and a failure
// is no failure of the registration: what is left is told as owed, and expires within the hour.
func (r *registration) dropActivation(ctx context.Context) {
	operator := r.remote.connected()
	if r.made == nil || r.dropped || operator == nil {
		return
	}
	r.dropped = true
	if _, err := operator.DeleteActivation(context.WithoutCancel(ctx), r.made.ActivationID); err != nil {
		r.warnings = append(r.warnings, fmt.Sprintf("the activation %s could not be deleted; it is used up or expires within the hour: %s",
			r.made.ActivationID, failure.Of(err).Message))
		r.owed = append(r.owed, deleteActivation(r.region, r.made.ActivationID))
		return
	}
	r.deleted = true
}

func deleteActivation(region, id string) string {
	return fmt.Sprintf("aws ssm delete-activation --region %s --activation-id %s", region, id)
}

// sweep deletes the activations that killed runs of an operation have made and could not delete. It returns the runs
// whose activations may still be there, and the calls that are owed for them.
func (a *remote) sweep(ctx context.Context, runs []string, region string) (left, owed, warnings []string) {
	if len(runs) == 0 {
		return nil, nil, nil
	}
	err := within(ctx, lookTime, func(ctx context.Context) error {
		operator, err := a.here(ctx)
		if err != nil {
			return err
		}
		all, err := operator.Activations(ctx)
		for _, one := range all {
			if slices.ContainsFunc(runs, func(run string) bool { return one.Description == about(run) }) {
				if _, failed := operator.DeleteActivation(ctx, one.ID); failed != nil {
					return failed
				}
			}
		}
		return err
	})
	if err == nil {
		return nil, nil, nil
	}
	why := "there are no operator's credentials here"
	if !none(err) {
		why = failure.Of(err).Message
	}
	for _, run := range runs {
		warnings = append(warnings, fmt.Sprintf("the interrupted run %s may have left an activation, which expires within an hour: %s", run, why))
		owed = append(owed, deleteActivation(region, fmt.Sprintf(
			`"$(aws ssm describe-activations --region %s --query "ActivationList[?Description=='%s'].ActivationId" --output text)"`, region, about(run))))
	}
	return runs, owed, warnings
}

// strayRuns are the runs of an unfinished registration whose activation may be left. The record says of the last one
// that it was deleted, when the registration came so far.
func strayRuns(op *engine.Operation, reader host.Reader) []string {
	if op == nil || op.Pins[pinActivation] == "" {
		return nil
	}
	runs := strings.Split(op.Pins[pinActivation], ",")
	record, err := readRecord(reader)
	if err == nil && record.Registration != nil && record.Registration.Deleted != "" {
		runs = slices.DeleteFunc(runs, func(run string) bool { return run == record.Registration.Deleted })
	}
	return runs
}
