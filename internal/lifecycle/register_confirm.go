package lifecycle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// How long AWS is given to agree. A registration takes some seconds to be seen by all of AWS; on a host that nothing was
// changed on, everything has long been so, and only an agent that is just connecting anew is waited for.
const (
	agreeAtLeast = 10 * time.Second // whatever --wait-timeout has left
	agreeAgain   = 10 * time.Second // on a host that nothing was changed on
	appearing    = 15 * time.Second // within which a new instance or node may be missing
)

const confirmStep, confirmTitle = "verify.aws", "Ask ECS and Systems Manager"

// confirm raises a registration that is proven on this host to one that ECS and Systems Manager agree with. It is no step
// of the plan: what it asks was done by others, and whatever they answer, nothing on this host is half-way. So the
// journal is closed by then, and AWS's silence undoes and keeps nothing.
//
// Access denied, or credentials that do not work, are a warning: the local proof decides. A contradiction is a failure.
func (r *registration) confirm(ctx context.Context, report *Report) error {
	result := report.Result.(RegisterResult)
	if result.Verified != VerifiedLocal {
		return nil
	}
	defer func() { report.Warnings = append(report.Warnings, r.gpuDoubts(ctx)...) }()
	began := r.deps.Host.Now()
	var operator *control.Operator
	err := within(ctx, lookTime, func(ctx context.Context) (err error) {
		operator, err = r.remote.connect(ctx)
		return err
	})
	if none(err) {
		return nil
	}
	r.deps.tell(engine.Event{Kind: engine.Noted, Step: confirmStep, Text: "asks ECS and Systems Manager"})
	detail := ""
	if err == nil {
		detail, err = r.agree(ctx, operator, report.Changed)
	}
	step := engine.StepReport{ID: confirmStep, Title: confirmTitle, Detail: detail, Duration: r.deps.Host.Now().Sub(began)}
	event := engine.Event{Step: confirmStep, Title: confirmTitle, Text: detail, Took: step.Duration}
	why := failure.Of(err)
	switch {
	case err == nil && detail == "":
		step.Status, event.Kind = "unchanged", engine.Unchanged
		if report.Changed {
			step.Status, event.Kind = "done", engine.Finished
		}
		step.Detail = "ECS says ACTIVE and connected, Systems Manager says Online"
		event.Text = step.Detail
		result.Verified = VerifiedAWS
		report.Result = result
	case err == nil:
		step.Status, event.Kind = "skipped", engine.Unchanged
		report.Warnings = append(report.Warnings, detail)
	case decided(err):
		step.Status, step.Detail, event.Kind, event.Text, event.Err = "failed", why.Message, engine.Failed, why.Message, err
	default:
		step.Status, step.Detail, event.Kind, event.Text = "skipped", why.Message, engine.Unchanged, why.Message
		report.Warnings = append(report.Warnings, "the registration is proven on this host only; AWS could not be asked: "+why.Message)
		err = nil
	}
	report.Steps = append(report.Steps, step)
	r.deps.tell(event)
	if err != nil && report.Changed && !silence(err) && why.Code != failure.NotConfirmed && ctx.Err() == nil {
		report.Kept = []string{"managed node " + result.ManagedInstanceID, "container instance " + result.ContainerInstanceARN}
	}
	return err
}

// decided reports whether an error of the remote view counts: a contradiction, silence, or the caller's own end. What is
// left is that this operator cannot look.
func decided(err error) bool {
	if silence(err) {
		return true
	}
	switch failure.Of(err).Code {
	case failure.AccessDenied, failure.CredentialsInvalid, failure.CredentialsExpired, failure.ClockSkew, failure.Usage, failure.Internal:
		return false
	}
	return true
}

// agree waits until ECS and Systems Manager see what the host sees. doubt is what speaks against it without being a
// contradiction.
func (r *registration) agree(ctx context.Context, operator *control.Operator, changed bool) (doubt string, err error) {
	switch {
	case operator.Account == r.arn.Account:
	case r.account != "": // the host was meant to be there, and the operator is another account's
		return "", otherAccount(operator, r.arn.Account)
	default:
		return "", failure.New(failure.RegisteredElsewere, "this host is registered in account %s, and the operator's credentials are of account %s",
			r.arn.Account, operator.Account).WithEvidence("%s; %s", r.arnText, operator.ARN).
			WithRemedy("use a --profile of account %s, if that is where the host belongs; else take it out of there first: anywhere deregister", r.arn.Account)
	}
	begun, grace := time.Now(), time.Duration(0)
	limit := min(first(r.req.WaitTimeout, defaultWait), agreeAgain)
	if changed {
		grace, limit = appearing, max(limit, agreeAtLeast)
		if !r.deadline.IsZero() {
			limit = max(limit, time.Until(r.deadline))
		}
	}
	for pause := longestPause; ; pause = min(2*pause, 2*time.Second) {
		var seen view
		err := within(ctx, lookTime, func(ctx context.Context) error { seen = r.look(ctx, operator); return seen.err() })
		waited := time.Since(begun)
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case err != nil:
			return "", err
		case seen.contradiction != nil && (!seen.missing || waited >= grace):
			return "", seen.contradiction
		case seen.contradiction == nil && seen.waits == "":
			return seen.doubt, nil
		case waited >= limit:
			return "", failure.New(failure.NotConfirmed, "gave up waiting after %s for AWS to confirm the registration: %s",
				waited.Round(time.Second), seen.waits).WithEvidence("%s, %s in %s", r.arnText, r.node, r.region)
		}
		if err := sleep(ctx, pause); err != nil {
			return "", err
		}
	}
}

// view is what ECS and Systems Manager say at one moment.
type view struct {
	contradiction error
	missing       bool   // the contradiction is that something is not there, which is so for a moment after it is made
	waits         string // what is not so yet
	doubt         string // what is not as it should be, and no contradiction
	errs          [2]error
}

// err is the error that counts: one that says that nothing is known before one that says that this operator may not look.
func (v view) err() error {
	if v.contradiction != nil && !v.missing {
		return nil
	}
	for _, err := range v.errs {
		if err != nil && decided(err) {
			return err
		}
	}
	if v.errs[0] != nil {
		return v.errs[0]
	}
	return v.errs[1]
}

// look asks both at once.
func (r *registration) look(ctx context.Context, operator *control.Operator) view {
	var (
		both        sync.WaitGroup
		v           view
		instance    control.Instance
		node        control.Node
		there, here bool
	)
	both.Go(func() { instance, there, v.errs[0] = operator.Instance(ctx, r.cluster, r.arnText) })
	both.Go(func() { node, here, v.errs[1] = operator.Node(ctx, r.node) })
	both.Wait()
	if failure.Is(v.errs[0], failure.ClusterNotFound) {
		v.contradiction, v.errs[0] = v.errs[0], nil
	}
	if v.errs[0] == nil && v.contradiction == nil {
		r.judgeInstance(&v, instance, there)
	}
	if v.errs[1] == nil && v.contradiction == nil {
		r.judgeNode(&v, node, here)
	}
	return v
}

func (r *registration) judgeInstance(v *view, i control.Instance, found bool) {
	r.instanceGPUs = i.GPUs
	const remedy = "systemctl restart %s, so that the agent hears of it; then the same command registers a new container instance"
	switch {
	case !found:
		v.missing, v.waits = true, "ECS does not show the container instance yet"
		v.contradiction = failure.New(failure.InstanceInactive, "the ECS agent says that it is registered as %s, and ECS knows no such instance in cluster %s",
			r.arnText, r.cluster).WithEvidence("ecs:DescribeContainerInstances: MISSING").WithRemedy(remedy, r.ecsUnit())
	case i.Status == "INACTIVE" || i.Status == "DEREGISTERING":
		v.contradiction = failure.New(failure.InstanceInactive, "the ECS agent says that it is registered as %s, and ECS has deregistered that instance",
			r.arnText).WithEvidence("ecs:DescribeContainerInstances: status %s %s", i.Status, i.Reason).WithRemedy(remedy, r.ecsUnit())
	case i.Status == "REGISTRATION_FAILED":
		v.contradiction = failure.New(failure.RegistrationDenied, "ECS says that the registration of %s failed: %s", r.arnText, i.Reason).
			WithEvidence("ecs:DescribeContainerInstances: status %s %s", i.Status, i.Reason)
	case i.Node != "" && i.Node != r.node:
		v.contradiction = failure.New(failure.InstanceInactive, "the ECS agent's container instance belongs to %s, and this host is %s", i.Node, r.node).
			WithEvidence("ecs:DescribeContainerInstances: %s: ec2InstanceId %s", i.ARN, i.Node).
			WithRemedy("stop %s, move /var/lib/ecs/data/agent.db away, then run the command again", r.ecsUnit())
	case i.Status == "REGISTERING":
		v.waits = "ECS says " + i.Status
	case !i.Connected:
		v.waits = "ECS says " + i.Status + ", and that the agent is not connected"
	case i.Status != "ACTIVE":
		v.doubt = fmt.Sprintf("ECS says that the container instance is %s: it places no tasks here until somebody makes it ACTIVE again", i.Status)
	}
}

func (r *registration) judgeNode(v *view, n control.Node, found bool) {
	switch {
	case !found:
		v.missing, v.waits = true, "Systems Manager does not show the managed node yet"
		v.contradiction = failure.New(failure.NodeUnknown, "this host is registered as %s, and Systems Manager knows no such node in %s", r.node, r.region).
			WithEvidence("ssm:DescribeInstanceInformation: no %s", r.node)
	case n.Ping != control.Online:
		if v.waits == "" {
			v.waits = fmt.Sprintf("Systems Manager says that %s is %s", r.node, n.Ping)
		}
	}
}
