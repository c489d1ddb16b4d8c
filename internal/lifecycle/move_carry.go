package lifecycle

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// settleCarried finds out what goes along: the attributes and tags that the old instance has in ECS. What the agent's
// configuration says of them goes along by itself; what was put there with the API only an operator can read.
func (m *moving) settleCarried(ctx context.Context) error {
	if op := m.resumed; op != nil {
		m.carried = control.Belongings{Attributes: valuesOf(op.Pins[pinAttributes]), Tags: valuesOf(op.Pins[pinTags])}
		return nil
	}
	if m.at.ID == "" || m.at.Cluster == m.to.cluster {
		return nil
	}
	err := within(ctx, lookTime, func(ctx context.Context) error {
		operator, err := m.to.remote.here(ctx)
		if err != nil {
			return err
		}
		seen, found, err := operator.Instance(ctx, m.at.Cluster, m.from.ContainerInstanceARN)
		if err != nil || !found {
			return err
		}
		m.status = seen.Status
		m.carried, _, err = operator.InstanceBelongings(ctx, m.at.Cluster, m.from.ContainerInstanceARN)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !failure.Is(err, failure.ClusterNotFound):
		m.warnings = append(m.warnings, fmt.Sprintf("attributes and tags that were put on %s with the API do not go along, because it could not be asked "+
			"which there are: %s; those of %s do", m.from.ContainerInstanceARN, failure.Of(err).Message, ecsagent.ConfigPath))
	}
	return nil
}

// carry puts on the new instance what the agent did not bring: tags, and attributes without a value. The host is registered
// by then, and what an operator may not put is told as owed rather than moving the host back.
func (m *moving) carry() engine.Step {
	return engine.Step{
		ID: "ecs.attributes", Title: "Carry attributes and tags over",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			arrived, err := m.arrived(reader)
			if err != nil || !arrived {
				return engine.Obs{State: engine.Unknown, Detail: m.luggage(m.carried)}, err
			}
			if len(m.owed) > 0 {
				return engine.Obs{State: engine.OK, Detail: "left to be done"}, nil
			}
			lacks, err := m.lacks(ctx)
			if err != nil { // Change tells
				return engine.Obs{State: engine.Pending, Detail: m.luggage(m.carried)}, nil //nolint:nilerr // it is owed, and no failure
			}
			if len(lacks.Attributes)+len(lacks.Tags) > 0 {
				return engine.Obs{State: engine.Pending, Detail: m.luggage(lacks)}, nil
			}
			return engine.Obs{State: engine.OK, Detail: m.luggage(m.carried)}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			lacks, err := m.lacks(ctx)
			if err != nil {
				m.owe(m.carried, err)
				return nil
			}
			err = within(ctx, lookTime, func(ctx context.Context) error {
				operator, err := m.to.remote.here(ctx)
				if err != nil {
					return err
				}
				tx.Note("puts %s on %s as %s", m.luggage(lacks), m.to.arnText, operator.ARN)
				if len(lacks.Attributes) > 0 {
					if err := operator.PutInstanceAttributes(ctx, m.to.cluster, m.to.arnText, lacks.Attributes); err != nil {
						return err
					}
					lacks.Attributes = nil
				}
				if len(lacks.Tags) > 0 {
					return operator.TagInstance(ctx, m.to.arnText, lacks.Tags)
				}
				return nil
			})
			if err != nil {
				m.owe(lacks, err)
			}
			return nil
		},
	}
}

// lacks is what the new instance has not.
func (m *moving) lacks(ctx context.Context) (control.Belongings, error) {
	lacks := control.Belongings{Attributes: map[string]string{}, Tags: map[string]string{}}
	if m.to.arnText == "" {
		if _, err := m.to.verified(ctx, m.deps.Host.Reader); err != nil {
			return lacks, err
		}
	}
	err := within(ctx, lookTime, func(ctx context.Context) error {
		operator, err := m.to.remote.here(ctx)
		if err != nil {
			return err
		}
		has, _, err := operator.InstanceBelongings(ctx, m.to.cluster, m.to.arnText)
		if err != nil {
			return err
		}
		for _, one := range []struct{ wanted, has, lacks map[string]string }{
			{m.carried.Attributes, has.Attributes, lacks.Attributes}, {m.carried.Tags, has.Tags, lacks.Tags},
		} {
			for key, value := range one.wanted {
				if is, known := one.has[key]; !known || is != value {
					one.lacks[key] = value
				}
			}
		}
		return nil
	})
	return lacks, err
}

// owe tells what is left to be put on the new instance.
func (m *moving) owe(left control.Belongings, why error) {
	m.warnings = append(m.warnings, fmt.Sprintf("%s could not be put on %s: %s", m.luggage(left), m.to.arnText, failure.Of(why).Message))
	if len(left.Attributes) > 0 {
		var words []string
		for _, p := range allPairs(left.Attributes) {
			words = append(words, quoted("name="+p.Key+",value="+p.Value+",targetType=container-instance,targetId="+m.to.arnText))
		}
		m.owed = append(m.owed, fmt.Sprintf("aws ecs put-attributes --region %s --cluster %s --attributes %s",
			m.to.region, m.to.cluster, strings.Join(words, " ")))
	}
	if len(left.Tags) > 0 {
		var words []string
		for _, p := range allPairs(left.Tags) {
			words = append(words, quoted("key="+p.Key+",value="+p.Value))
		}
		m.owed = append(m.owed, fmt.Sprintf("aws ecs tag-resource --region %s --resource-arn %s --tags %s",
			m.to.region, m.to.arnText, strings.Join(words, " ")))
	}
}

// quoted is a word of a shell's line.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// luggage names attributes and tags.
func (m *moving) luggage(b control.Belongings) string {
	var parts []string
	for _, one := range []struct {
		what string
		keys []string
	}{
		{"attributes ", slices.Sorted(maps.Keys(b.Attributes))}, {"tags ", slices.Sorted(maps.Keys(b.Tags))},
	} {
		if len(one.keys) > 0 {
			parts = append(parts, one.what+strings.Join(one.keys, ", "))
		}
	}
	return strings.Join(parts, "; ")
}
