package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// operatorChecks ask AWS with an operator's credentials, where there are any.
func operatorChecks() []Check {
	return []Check{
		{ID: "activation", Title: "Activation", Network: true, Run: activation},
		{ID: "cluster", Title: "ECS cluster", Network: true, Run: clusterThere},
	}
}

const needsOperator = "needs an operator's credentials: --profile, AWS_PROFILE or AWS_ACCESS_KEY_ID"

// unasked is the result of a check whose question AWS did not answer: that nothing is known is no failure of the host's.
func unasked(err error) Result {
	f := failure.Of(err)
	switch {
	case errors.Is(err, control.ErrNoOperator):
		return skip(needsOperator)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Result{}
	}
	return warn("AWS could not be asked: "+f.Message, f.Advice()).with("asked", f.Evidence)
}

// refusedByAWS is a failure that AWS itself has named: a verb ends with its exit status.
func refusedByAWS(code failure.Code, detail, remedy string) Result {
	r := fail(code, detail, remedy)
	r.Refused = true
	return r
}

func activation(ctx context.Context, s Subject) Result {
	switch {
	case s.ActivationID == "":
		return skip("no activation is given (--activation-id, or register's --token)")
	case s.Remote == nil:
		return skip(needsOperator)
	}
	a, found, err := s.Remote.Activation(ctx, s.ActivationID)
	if err != nil {
		return unasked(err)
	}
	anew := "make a new one: anywhere activation create --cluster " + orElse(s.Cluster, "CLUSTER") + " --token"
	var r Result
	switch {
	case !found:
		return refusedByAWS(failure.ActivationInvalid, "there is no activation "+s.ActivationID+" in "+s.Region+
			": it was deleted, or is another Region's or account's", anew).with("region", s.Region)
	case a.Expired:
		r = refusedByAWS(failure.ActivationExpired, "it expired at "+a.Expires.Format(stampForm), anew)
	case a.Left() == 0:
		r = refusedByAWS(failure.ActivationUsedUp, fmt.Sprintf("all %d registrations of it are used up", a.Limit), anew)
	default:
		r = pass("%d of %d registrations left, until %s, for the role %s", a.Left(), a.Limit, a.Expires.Format(stampForm), a.Role)
	}
	return r.with("role", a.Role).with("limit", a.Limit).with("used", a.Used).with("expires", a.Expires.Format(stampForm))
}

// stampForm is how times are shown.
const stampForm = time.RFC3339

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func clusterThere(ctx context.Context, s Subject) Result {
	switch {
	case s.Cluster == "":
		return skip("no cluster is named (--cluster)")
	case s.Remote == nil:
		return skip(needsOperator)
	}
	ref, err := control.ParseCluster(s.Cluster)
	if err != nil {
		return broken(err)
	}
	err = s.Remote.ProveCluster(ctx, ref)
	if f := failure.Of(err); failure.Is(err, failure.ClusterNotFound) {
		return refusedByAWS(f.Code, f.Message, f.Advice()).with("cluster", ref.Name).with("region", s.Region)
	}
	if err != nil {
		return unasked(err)
	}
	return pass("%s is ACTIVE", ref.Name).with("cluster", ref.Name).with("region", s.Region)
}
