package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// OperationResult is the "result" of "operation show", "operation abandon" and rollback.
type OperationResult struct {
	Unfinished bool   `json:"unfinished"`
	Verb       string `json:"verb"`
	RunID      string `json:"runId"`
	StartedAt  string `json:"startedAt"` // RFC 3339, UTC
	Changes    int    `json:"changes"`   // recorded so far
	LastStep   string `json:"lastStep"`
	Undoable   bool   `json:"undoable"`
	Journal    string `json:"journal"` // where it is
}

// RollbackRequest is what "anywhere rollback" was asked for.
type RollbackRequest struct {
	LockTimeout time.Duration
	WaitTimeout time.Duration // as UpgradeRequest has them, for the way back from an upgrade
	WatchTime   time.Duration
}

// RollbackResult is the "result" of rollback's document.
type RollbackResult struct {
	OperationResult
	Owed []string `json:"owed"` // AWS calls still to be made, as command lines of the aws tool
}

func operationResult(op *engine.Operation) OperationResult {
	if op == nil {
		return OperationResult{}
	}
	return OperationResult{
		Unfinished: true, Verb: op.Verb, RunID: op.RunID, StartedAt: op.Started.UTC().Format(time.RFC3339),
		Changes: op.Changes, LastStep: op.LastStep, Undoable: !op.Committed, Journal: op.Path,
	}
}

// resumable is the open operation of this verb, or nil. Another verb's is refused here, before anything is said about a host
// that it has left half-way.
func resumable(ctx context.Context, e *engine.Engine, verb string) (*engine.Operation, error) {
	open, err := e.Open()
	if err != nil || open == nil || open.Verb == verb {
		return open, err
	}
	_, err = e.Observe(ctx, engine.Plan{Verb: verb}) // of no step: it only refuses
	return nil, err
}

// Rollback undoes the unfinished operation from its journal. Where none is, it goes back from the last upgrade. It needs no
// AWS; an activation that the operation made for
// itself is deleted if there are an operator's credentials, and told as owed if not.
func Rollback(ctx context.Context, d Deps, req RollbackRequest) (Report, error) {
	if err := asRoot(d, "rollback"); err != nil {
		return Report{Result: RollbackResult{Owed: []string{}}}, err
	}
	back := UpgradeRequest{LockTimeout: req.LockTimeout, WaitTimeout: req.WaitTimeout, WatchTime: req.WatchTime}
	if report, done, err := upgradeBack(ctx, d, back); done || err != nil {
		return report, err
	}
	report := Report{Result: RollbackResult{Owed: []string{}}}
	release, err := engine.Lock(ctx, d.Host, LockPath, d.RunID, req.LockTimeout)
	if err != nil {
		return report, err
	}
	defer release()
	e := d.engine()
	op, err := e.Open()
	if err != nil {
		return report, err
	}
	report.Result = RollbackResult{operationResult(op), []string{}}
	if op == nil {
		return report, failure.New(failure.NothingToRollBack, "there is no unfinished operation on this host, and no upgrade to go back from")
	}
	strays := strayRuns(op, d.Host.Reader)
	outcome, err := e.Rollback(ctx)
	report.Steps, report.Changed, report.RolledBack, report.Kept = outcome.Steps, outcome.Changed, outcome.RolledBack, outcome.Kept
	if failure.Is(err, failure.NothingToRollBack) { // a refusal: this command has left nothing half-way
		report.Changed, report.Kept = false, nil
		if op.Verb == verbMove {
			refused := *failure.Of(err)
			op.Committed = true // it may have been seen only now
			refused.Remedy = moveOn(op)
			return report, &refused
		}
		return report, err
	}
	if err != nil {
		return report, err
	}
	disarmed(ctx, d, &report)
	report.Changed = op.Changes > 0 // against what this command found; that is what its caller asks
	result := RollbackResult{operationResult(op), []string{}}
	result.Unfinished, result.Undoable = false, false
	aws := &remote{deps: d, region: op.Pins[pinRegion], account: op.Pins[pinAccount]}
	_, owed, warnings := aws.sweep(ctx, strays, op.Pins[pinRegion])
	result.Owed, report.Warnings = append(result.Owed, owed...), append(report.Warnings, warnings...)
	report.Result = result
	when := op.Started.UTC().Format(time.RFC3339)
	if !outcome.RolledBack {
		for _, kept := range outcome.Kept {
			report.Warnings = append(report.Warnings, "kept, for it was changed since: "+kept)
		}
		report.Kept = nil
		report.Message = fmt.Sprintf("undid the unfinished %s of %s, but for what was changed since", op.Verb, when)
		return report, nil
	}
	report.RolledBack = false // undoing is what was asked for, not what went wrong
	report.Message = fmt.Sprintf("undid the unfinished %s of %s", op.Verb, when)
	return report, nil
}

// asRoot refuses who may not change the host, before the lock: its folder is open to all, and a file there that is not
// root's would keep root out.
func asRoot(d Deps, command string) error {
	if d.Host.Self.EUID == 0 {
		return nil
	}
	return failure.New(failure.NotRoot, "%s changes the host, which only root may", command).WithRemedy("sudo anywhere %s", command)
}

// ShowOperation says what an unfinished operation has done.
func ShowOperation(_ context.Context, d Deps) (Report, error) {
	op, err := d.engine().Open()
	if err != nil {
		return Report{Result: OperationResult{}}, err
	}
	report := Report{Result: operationResult(op), Message: "no operation is unfinished"}
	if op != nil {
		report.Message = fmt.Sprintf("%s, begun at %s, is unfinished after %s; run it again to finish it", op.Verb, op.Started.UTC().Format(time.RFC3339), op.LastStep)
		if !op.Committed {
			report.Message += ", or anywhere rollback to undo it"
		}
	}
	return report, nil
}

// AbandonOperation moves the journal aside and leaves the host as it is. It works with a journal that cannot be read, or
// that a newer program wrote.
func AbandonOperation(ctx context.Context, d Deps, lockTimeout time.Duration) (Report, error) {
	report := Report{Result: OperationResult{}}
	if err := asRoot(d, "operation abandon"); err != nil {
		return report, err
	}
	release, err := engine.Lock(ctx, d.Host, LockPath, d.RunID, lockTimeout)
	if err != nil {
		return report, err
	}
	defer release()
	e := d.engine()
	op, err := e.Open()
	if err != nil && !failure.Is(err, failure.JournalUnreadable) && !failure.Is(err, failure.NewerRecord) {
		return report, err
	}
	if err == nil && op == nil {
		report.Message = "no operation is unfinished"
		return report, nil
	}
	result := operationResult(op)
	result.Journal, err = e.Abandon()
	if err != nil {
		return report, err
	}
	result.Unfinished, result.Undoable = false, false // a journal that was moved aside is nobody's any more
	report.Result = result
	disarmed(ctx, d, &report)
	report.Message = "moved the journal to " + result.Journal + "; the host is as it was"
	return report, nil
}
