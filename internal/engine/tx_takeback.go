package engine

import (
	"context"
	"encoding/json"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// TakeBack undoes an effect at once, by its kind's Undo, for a Change that fails and must not leave it standing even
// when nothing else is undone (Options.NoRollback). data is what Effect was given. The effect's record stays, so that
// an undo of the operation passes there again; it works although ctx has ended.
func (tx *Tx) TakeBack(ctx context.Context, kind string, data any) (kept []string, err error) {
	known := tx.journal.Kinds[kind]
	if known.Undo == nil {
		return nil, failure.New(failure.Internal, "no undo is known for a change of kind %q", kind)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "cannot take back a change of kind %s", kind)
	}
	if tx.effect(kind, raw) == nil { // it could not even be recorded, so it never began
		return nil, nil
	}
	return known.Undo(context.WithoutCancel(ctx), tx.host, raw)
}
