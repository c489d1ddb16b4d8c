package ssmagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
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
	Clone        Verdict = "clone"        // it is another machine's, or this machine has changed beyond recognition
)

// tokenLifetime is how long a role token lives; the agent fetches a new one at half of it. Source: agent 3.3.987.0 run
// against a server, 2026-11-22; AWS documents one hour.
const tokenLifetime = time.Hour

// Judge reads the host's identity, and what else Assess looks at, and judges it.
func Judge(ctx context.Context, r host.Reader) (Identity, Verdict, string, error) {
	identity, err := ReadIdentity(r)
	if err != nil {
		return identity, "", "", err
	}
	machine, err := r.Files.ReadFile(MachineIDPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return identity, "", "", err
	}
	unit, err := r.Units.Unit(ctx, UnitName)
	if err != nil && !failure.Is(err, failure.NoSystemd) { // nothing runs the agent then
		return identity, "", "", err
	}
	recent, err := ReadRecent(r, identity.InstanceID)
	if err != nil {
		return identity, "", "", err
	}
	verdict, why := Assess(identity, string(machine), unit, recent, r.Now())
	return identity, verdict, why, nil
}

// Assess judges an identity. machineID is the content of MachineIDPath, unit the agent's unit, log what ReadRecent
// found. The string says why, with the evidence.
//
// A copy of a machine that also has its machine-id cannot be told from the original here: the agent itself takes it
// for the same machine.
func Assess(i Identity, machineID string, unit host.Unit, log Recent, now time.Time) (Verdict, string) {
	machineID = strings.TrimSpace(machineID)
	accepted := lastAccepted(i, log)
	against := func(refusal Finding) bool {
		// A refusal from before the key was made was of another identity.
		return refusal.Time.After(accepted) && refusal.Time.After(i.KeyCreated)
	}
	switch {
	case !i.Registered() && len(i.Damaged) > 0:
		return Broken, strings.Join(i.Damaged, "; ")
	case !i.Registered() && i.SideID != "":
		return None, fmt.Sprintf("the registration was cleared; %s still names %s", RegistrationPath, i.SideID)
	case !i.Registered():
		return None, "the host is not registered with Systems Manager"
	case machineID != "" && i.MachineID != "" && machineID != i.MachineID && i.Threshold >= 0:
		return Clone, fmt.Sprintf("%s was registered on a machine with the machine-id %s; this one's is %s",
			i.InstanceID, i.MachineID, machineID)
	case against(log.Fingerprint):
		return Clone, fmt.Sprintf("Systems Manager does not recognise the machine of %s: %s",
			i.InstanceID, log.Fingerprint.Line)
	case against(log.Deregistered):
		return Deregistered, fmt.Sprintf("Systems Manager does not know %s: %s", i.InstanceID, log.Deregistered.Line)
	case i.Fingerprint == "":
		return Unknown, fmt.Sprintf("%s has lost its fingerprint: %s", i.InstanceID, strings.Join(i.Damaged, "; "))
	}
	return judgeCredentials(i, unit, accepted, now)
}

// lastAccepted is when the service last gave this identity what it asked for.
func lastAccepted(i Identity, log Recent) time.Time {
	if run := i.Runtime; run.InstanceID == i.InstanceID && run.CredentialsRetrievedAt.After(log.Success) {
		return run.CredentialsRetrievedAt
	}
	return log.Success
}

func judgeCredentials(i Identity, unit host.Unit, accepted, now time.Time) (Verdict, string) {
	expires := i.Runtime.CredentialsExpiresAt
	if i.Runtime.InstanceID != i.InstanceID { // written for another identity, or never
		expires = time.Time{}
	}
	if expires.IsZero() && !accepted.IsZero() {
		expires = accepted.Add(tokenLifetime)
	}
	hint := ""
	if !unit.Running() {
		hint = "; the agent is not running: systemctl start " + UnitName
	}
	switch {
	case expires.After(now):
		return Sound, fmt.Sprintf("%s in %s, credentials good until %s", i.InstanceID, i.Region, stamp(expires))
	case expires.IsZero():
		return Unknown, fmt.Sprintf("%s was never seen to get credentials%s", i.InstanceID, hint)
	}
	return Unknown, fmt.Sprintf("the credentials of %s expired at %s and were not renewed%s",
		i.InstanceID, stamp(expires), hint)
}

// stamp is a time as messages show it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
