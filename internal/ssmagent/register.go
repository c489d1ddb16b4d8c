package ssmagent

import (
	"context"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// RegisterKind is the kind of effect that a registration is in the engine's undo table.
const RegisterKind = "ssm.registration"

// Registration is what a host registers with.
type Registration struct {
	ActivationID string
	Code         secret.Text
	Region       string
	Env          []string // NAME=value: proxy variables, SSL_CERT_FILE
}

// Kind says how a registration is taken back.
func Kind() engine.Kind { panic("not yet") }

// Register registers the host as a managed node and returns the node's id.
func Register(ctx context.Context, tx *engine.Tx, reg Registration) (instanceID string, err error) {
	panic("not yet")
}
