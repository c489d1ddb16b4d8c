package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// attributeChange is what an operator is to change of the attributes of an instance that is registered.
type attributeChange struct {
	operator *control.Operator
	instance string // ARN
}

// settleAttributes finds out who changes attributes. The ECS agent sends those of its configuration with the first
// registration only (facts: ecs-agent section 4.2); on a registered host it takes an operator, who is asked for here,
// before anything is changed. What the configuration says already was sent then.
func (r *registration) settleAttributes(ctx context.Context, identity ssmagent.Identity, config ecsagent.Config) error {
	if holds(config.Agent(ecsagent.KeyAttributes), r.req.Attributes) || r.bound.ID == "" ||
		!identity.Registered() && identity.Hidden == "" {
		return nil
	}
	gone, err := r.deregistered(ctx, r.deps.Host.Reader)
	if err != nil || gone != nil { // it registers anew, with all its attributes
		return err
	}
	operator, err := r.operatorFor(ctx)
	if err != nil {
		return err
	}
	if operator.Account != r.bound.Account {
		return failure.New(failure.CredentialsInvalid, "--attribute: the instance is in account %s, and the credentials are of account %s",
			r.bound.Account, operator.Account).
			WithEvidence("%s", operator.ARN).WithRemedy("name a profile of account %s with --profile", r.bound.Account)
	}
	r.attributes = &attributeChange{operator: operator, instance: r.bound.String()}
	return nil
}

// operatorFor connects with the operator's credentials, or says what to type where there are none.
func (r *registration) operatorFor(ctx context.Context) (*control.Operator, error) {
	calls := make([]string, 0, len(r.req.Attributes))
	for _, p := range r.req.Attributes {
		calls = append(calls, "'"+strings.ReplaceAll(fmt.Sprintf(
			"name=%s,value=%s,targetType=container-instance,targetId=%s", p.Key, p.Value, r.bound), "'", `'\''`)+"'")
	}
	byHand := fmt.Sprintf("name an operator's profile with --profile; or leave --attribute out, and where there are such credentials: "+
		"aws ecs put-attributes --region %s --cluster %s --attributes %s", r.region, r.cluster, strings.Join(calls, " "))
	const why = "--attribute: this host is registered, and its attributes can only be changed with an operator's credentials"
	operator, err := r.remote.connect(ctx)
	switch {
	case err == nil:
		return operator, nil
	case none(err):
		return nil, failure.New(failure.CredentialsInvalid, why).WithEvidence("%s", err).WithRemedy("%s", byHand)
	}
	f := *failure.Of(err)
	f.Message, f.Err = why+": "+f.Message, err
	if f.Code == failure.CredentialsInvalid || f.Code == failure.CredentialsExpired {
		f.Remedy = byHand
	}
	return nil, &f
}

// ecsAttributes sets the attributes of an instance that is registered, in ECS and then in the agent's configuration: a
// registration that is made anew one day sends those. A run that is cut short in between is seen to be unfinished.
func (r *registration) ecsAttributes() []engine.Step {
	change := r.attributes
	if change == nil {
		return nil
	}
	return []engine.Step{{
		ID: "ecs.attributes", Title: "Set the attributes of the container instance",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			has, err := change.operator.InstanceAttributes(ctx, r.cluster, change.instance)
			if err != nil {
				return engine.Obs{}, err
			}
			var differ []string
			for _, p := range r.req.Attributes {
				if is, known := has[p.Key]; !known || is != p.Value {
					differ = append(differ, p.Key+"="+p.Value)
				}
			}
			config, err := ecsagent.ReadConfig(reader)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case len(differ) > 0:
				return engine.Obs{State: engine.Pending, Detail: "set " + strings.Join(differ, ", ")}, nil
			case !holds(config.Agent(ecsagent.KeyAttributes), r.req.Attributes):
				return engine.Obs{State: engine.Pending, Detail: "write them to " + ecsagent.ConfigPath}, nil
			}
			return engine.Obs{State: engine.OK, Detail: change.instance}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			wanted := map[string]string{}
			for _, p := range r.req.Attributes {
				wanted[p.Key] = p.Value
			}
			tx.Note("sets attributes of %s as %s", change.instance, change.operator.ARN)
			if err := change.operator.PutInstanceAttributes(ctx, r.cluster, change.instance, wanted); err != nil {
				return err
			}
			return r.configureAttributes(ctx, tx)
		},
	}}
}

// configureAttributes writes the attributes to the agent's configuration. The agent that runs does not read them, and is not
// started anew for them.
func (r *registration) configureAttributes(ctx context.Context, tx *engine.Tx) error {
	config, err := ecsagent.ReadConfig(tx.Reader())
	if err != nil {
		return err
	}
	before, err := r.ecsInputs(tx.Reader())
	if err != nil {
		return err
	}
	value := withPairs(config.Agent(ecsagent.KeyAttributes), r.req.Attributes)
	if err := config.User.Set(ecsagent.KeyAttributes, value); err != nil {
		return err
	}
	if err := tx.WriteFile(ctx, ecsagent.ConfigPath, bytes.NewReader(config.User.Bytes()), 0o600); err != nil {
		return err
	}
	after, err := r.ecsInputs(tx.Reader())
	if err != nil {
		return err
	}
	return r.own(ctx, tx, func(record *Record) {
		if record.Started[r.ecsUnit()] == before {
			record.Started[r.ecsUnit()] = after
		}
	})
}

// holds reports whether a JSON object of strings has all of the pairs.
func holds(object string, pairs []Pair) bool {
	has := map[string]string{}
	for _, p := range pairsOf(object) {
		has[p.Key] = p.Value
	}
	for _, p := range pairs {
		if is, known := has[p.Key]; !known || is != p.Value {
			return false
		}
	}
	return true
}

// withPairs is a JSON object of strings with the pairs in it, the rest as it was.
func withPairs(object string, pairs []Pair) string {
	all := pairsOf(object)
	for _, p := range pairs {
		at := -1
		for i := range all {
			if all[i].Key == p.Key {
				at = i
			}
		}
		if at < 0 {
			all = append(all, p)
			continue
		}
		all[at] = p
	}
	return jsonObject(all)
}

// pairsOf are the pairs of a JSON object of strings in its own order; what is none has no pairs.
func pairsOf(object string) []Pair {
	values := map[string]string{}
	if json.Unmarshal([]byte(object), &values) != nil {
		return nil
	}
	decoder := json.NewDecoder(strings.NewReader(object))
	var tokens []string
	for {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		if text, ok := token.(string); ok {
			tokens = append(tokens, text)
		}
	}
	var pairs []Pair
	for i := 0; i+1 < len(tokens); i += 2 {
		pairs = append(pairs, Pair{tokens[i], tokens[i+1]})
	}
	return pairs
}
