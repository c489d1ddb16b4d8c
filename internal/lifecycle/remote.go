package lifecycle

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// remote is AWS as an operator on this host sees it. It connects at the first question: a host without credentials of an
// operator makes no call. It is safe for concurrent use, for the checks run side by side.
type remote struct {
	deps    Deps
	region  string
	account string // where the host is, or is to be, registered; empty where nothing says

	mu       sync.Mutex
	operator *control.Operator
	failed   error
}

// connect returns the operator. Without credentials of one the error's chain has control.ErrNoOperator. How it ended is
// remembered, unless it was ctx that ended it.
func (a *remote) connect(ctx context.Context) (*control.Operator, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.operator != nil || a.failed != nil:
		return a.operator, a.failed
	case a.deps.HostOperator == nil:
		return nil, control.ErrNoOperator
	}
	key, err := ssmagent.NodeKey(a.deps.Host.Reader)
	if err != nil && !failure.Is(err, failure.NotRoot) { // who may not read the key is not given it either
		return nil, err
	}
	operator, err := a.deps.HostOperator(ctx, a.region, key)
	if ctx.Err() == nil {
		a.operator, a.failed = operator, err
	}
	return operator, err
}

// connected is the operator if a question was asked already.
func (a *remote) connected() *control.Operator {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.operator
}

// here is connect for questions about the host's account: in another one all things would be missing.
func (a *remote) here(ctx context.Context) (*control.Operator, error) {
	operator, err := a.connect(ctx)
	if err == nil && a.account != "" && operator.Account != a.account {
		return nil, otherAccount(operator, a.account)
	}
	return operator, err
}

func otherAccount(operator *control.Operator, account string) *failure.Error {
	return failure.New(failure.Usage, "the operator's credentials are of account %s, and the registration is in account %s",
		operator.Account, account).WithEvidence("%s", operator.ARN).
		WithRemedy("use a --profile of account %s", account)
}

// orNode is the operator, and where there is none the managed node itself: its role may drain its container instance and
// deregister it from ECS (Operator.NodeID says which of the two it is). It is for nothing else.
func (a *remote) orNode(ctx context.Context) (*control.Operator, error) {
	operator, noOperator := a.here(ctx)
	if !none(noOperator) || a.deps.NodeOperator == nil {
		return operator, noOperator
	}
	read := func() (control.Keys, error) {
		keys, err := ssmagent.NodeKeys(a.deps.Host.Reader)
		return control.Keys(keys), err
	}
	switch keys, err := read(); {
	case err != nil:
		return nil, err
	case keys.ID == "":
		return nil, noOperator
	}
	node, err := a.deps.NodeOperator(ctx, a.region, read)
	if err == nil && a.account != "" && node.Account != a.account {
		return nil, otherAccount(node, a.account)
	}
	return node, err
}

// ProveCluster is what the check cluster asks.
func (a *remote) ProveCluster(ctx context.Context, c control.ClusterRef) error {
	operator, err := a.here(ctx)
	if err != nil {
		return err
	}
	return operator.ProveCluster(ctx, c)
}

// Activation is what the check activation asks.
func (a *remote) Activation(ctx context.Context, id string) (control.Activation, bool, error) {
	operator, err := a.here(ctx)
	if err != nil {
		return control.Activation{}, false, err
	}
	return operator.Activation(ctx, id)
}

// InstancesOf is what the check existing.clone asks.
func (a *remote) InstancesOf(ctx context.Context, cluster, node string) ([]control.Instance, error) {
	operator, err := a.here(ctx)
	if err != nil {
		return nil, err
	}
	return operator.InstancesOf(ctx, cluster, node)
}

// Node is what the check existing.clone asks.
func (a *remote) Node(ctx context.Context, id string) (control.Node, bool, error) {
	operator, err := a.here(ctx)
	if err != nil {
		return control.Node{}, false, err
	}
	return operator.Node(ctx, id)
}

// lookTime bounds one look at AWS. It answers within a second; what hangs is a firewall, and silence then.
const lookTime = 10 * time.Second

// within gives ask a bounded time. That this is over is AWS's silence, and no interruption.
func within(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		f := failure.New(failure.Network, "AWS did not answer within %s", limit.Round(time.Second)).WithEvidence("%s", err)
		f.Err = err
		return f
	}
	return err
}

// silence reports whether AWS gave no answer, so that nothing is known: the SDK has tried several times by then.
func silence(err error) bool {
	switch failure.Of(err).Code {
	case failure.Network, failure.TLSUntrusted, failure.Throttled, failure.AWSUnavailable:
		return true
	}
	return false
}

// none reports whether there is no operator at all.
func none(err error) bool { return errors.Is(err, control.ErrNoOperator) }
