package lifecycle

import (
	"context"
	"net/http"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Where anywhere keeps its own things on a host.
const (
	DataDir    = "/var/lib/anywhere"
	PackageDir = DataDir + "/packages"
	BackupDir  = DataDir + "/backup"
	LockPath   = "/run/lock/anywhere.lock"
)

// Deps is what every verb works with.
type Deps struct {
	Host     host.Host
	HTTP     *http.Client // for artifacts and checks; AWS's API goes through Operator
	Redactor *secret.Redactor
	Listen   func(engine.Event)
	RunID    string
	Version  string                   // of the program
	Getenv   func(name string) string // the caller's environment: proxies
	// Operator connects with an operator's credentials to a Region, or, when that is empty, to the one that was configured.
	Operator func(ctx context.Context, region string) (*control.Operator, error)
	// HostOperator is Operator for a verb that works on a host. It makes no call where there are no credentials of an
	// operator: nodeKey, the access key id that SSM Agent keeps here, and the machine's own role are none. Then the error's
	// chain has control.ErrNoOperator. Nil is a host without any.
	HostOperator func(ctx context.Context, region, nodeKey string) (*control.Operator, error)
	// NodeOperator connects with the role of the managed node that this host is, whose keys read finds. Nil is a host that
	// cannot.
	NodeOperator func(ctx context.Context, region string, read func() (control.Keys, error)) (*control.Operator, error)
}

// engine returns the engine with every kind of effect that a journal of ours can hold.
func (d Deps) engine() *engine.Engine {
	return &engine.Engine{
		Host: d.Host, Dir: DataDir, RunID: d.RunID, Version: d.Version, Listen: d.Listen,
		Kinds: map[string]engine.Kind{
			ssmagent.RegisterKind: ssmagent.Kind(),
			repairKind:            repair(),
			dockerKind:            dockerInstalled(),
			leaveKind:             d.left(),
			deadlineKind:          deadlineArmed(),
			stateKind:             stateKept(),
			identityKind:          identityKept(),
			imageKind:             imageReplaced(),
			imageGoneKind:         behindCommit(),
			activeKind:            behindCommit(),
			holdKind:              heldAgain(),
			containersKind:        containersRemoved(),
			awayKind:              deregistered(),
			drainKind:             d.drains(),
			modeKind:              modes(),
		},
	}
}

// Report is what a verb gives back, with or without an error.
type Report struct {
	Changed    bool
	Steps      []engine.StepReport
	Warnings   []string
	Checks     []preflight.Result // of the preflight that ran, if one did
	Result     any                // the verb's own result, as the JSON document shows it; never nil
	RolledBack bool
	Kept       []string
	Message    string // one sentence: what is so now
	Exit       int    // 0, 10, 11 or 14 when there is no error
}
