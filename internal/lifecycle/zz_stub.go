package lifecycle

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

func (m *moving) drain(arn string) engine.Step {
	return engine.Step{ID: "drain", Title: "Drain", Observe: func(context.Context, host.Reader) (engine.Obs, error) { return engine.Obs{}, nil },
		Change: func(context.Context, *engine.Tx) error { return nil }}
}
