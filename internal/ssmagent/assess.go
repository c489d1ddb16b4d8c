package ssmagent

import (
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Verdict is how far an identity can be relied upon.
type Verdict string

// Verdicts. Sound and unknown identities are never replaced unless the operator accepts the risk.
const (
	None         Verdict = "none"         // there is no identity, and none was lost
	Sound        Verdict = "sound"        // the service was seen to accept it, and nothing speaks against it since
	Unknown      Verdict = "unknown"      // it is whole, but nothing shows that the service still accepts it
	Broken       Verdict = "broken"       // there was one, and the agent cannot use what is left of it
	Deregistered Verdict = "deregistered" // the service says that it does not know the node
	Clone        Verdict = "clone"        // it is another machine's
)

// Assess judges an identity. machineID is the content of MachineIDPath, unit the agent's unit. The string says why, with
// the evidence.
func Assess(i Identity, machineID string, unit host.Unit, log Recent, now time.Time) (Verdict, string) {
	panic("not yet")
}
