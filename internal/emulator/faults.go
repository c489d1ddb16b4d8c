package emulator

import (
	"fmt"
	"sort"
)

// Faults, by name.
const (
	FaultActivationExpired    = "activation-expired"
	FaultActivationInvalid    = "activation-invalid"
	FaultActivationUsedUp     = "activation-used-up"
	FaultRegisterAccessDenied = "register-access-denied"
	FaultClusterMissing       = "cluster-missing"
	FaultInstanceInactive     = "instance-inactive"
	FaultCredentialsExpired   = "credentials-expired"
	FaultClockSkew            = "clock-skew"
	FaultThrottled            = "throttled"
	FaultServerError          = "server-error"
	FaultNoAttributeEcho      = "no-attribute-echo"
	FaultRoleTokenDenied      = "role-token-denied"
	FaultNodeOffline          = "node-offline"
	FaultArtifactTruncated    = "artifact-truncated"
	FaultArtifactCorrupt      = "artifact-corrupt"
	FaultArtifactUnsigned     = "artifact-unsigned"
	FaultArtifactMissing      = "artifact-missing"
	FaultSlow                 = "slow"
	FaultTaskNeverStops       = "task-never-stops"
)

// FaultInfo names a fault and says what it does.
type FaultInfo struct{ Name, Explanation string }

// Faults lists every fault there is, sorted by name.
func Faults() []FaultInfo {
	all := []FaultInfo{
		{FaultActivationExpired, "Systems Manager says that the activation has expired"},
		{FaultActivationInvalid, "Systems Manager does not know the activation"},
		{FaultActivationUsedUp, "Systems Manager says that the activation has no registration left"},
		{FaultRegisterAccessDenied, "the node's role may not call ecs:RegisterContainerInstance"},
		{FaultClusterMissing, "ECS does not find the cluster when an instance registers"},
		{FaultInstanceInactive, "every container instance is deregistered at this moment, behind the host's back"},
		{FaultCredentialsExpired, "AWS says that the node's credentials have expired"},
		{FaultClockSkew, "AWS refuses signatures because the host's clock is ten minutes behind"},
		{FaultThrottled, "every API call is answered with ThrottlingException"},
		{FaultServerError, "every API call is answered with an HTTP 500"},
		{FaultNoAttributeEcho, "ECS registers the instance and does not confirm its attributes"},
		{FaultRoleTokenDenied, "Systems Manager gives the node no credentials: its role cannot be assumed"},
		{FaultNodeOffline, "Systems Manager shows every node as ConnectionLost"},
		{FaultArtifactTruncated, "downloads of packages break off in the middle"},
		{FaultArtifactCorrupt, "downloads of packages have a wrong byte"},
		{FaultArtifactUnsigned, "signatures of packages are missing from the buckets"},
		{FaultArtifactMissing, "the buckets are empty"},
		{FaultSlow, "every answer is held back"},
		{FaultTaskNeverStops, "a task that is to stop stays STOPPING"},
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

const forever = -1

// Fault arms a fault until ClearFault. An unknown name is an error that lists nothing: Faults does.
func (e *Emulator) Fault(name string) error { return e.FaultFor(name, forever) }

// FaultFor arms a fault for the next n requests that it applies to.
func (e *Emulator) FaultFor(name string, n int) error {
	known := false
	for _, f := range Faults() {
		known = known || f.Name == name
	}
	if !known {
		return fmt.Errorf("there is no fault %q", name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.armed[name] = n
	if name == FaultInstanceInactive {
		for _, c := range e.clusters {
			for _, i := range c.instances {
				e.deregister(i)
			}
		}
	}
	return nil
}

// ClearFault disarms a fault. What it did to the state (instance-inactive) stays.
func (e *Emulator) ClearFault(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.armed, name)
}

// isArmed reports whether a fault is armed that lasts and is not counted.
func (e *Emulator) isArmed(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.armed[name]
	return ok
}

// faulty reports whether a fault is armed, and uses up one of its counted requests.
func (e *Emulator) faulty(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	left, ok := e.armed[name]
	if !ok {
		return false
	}
	if left != forever {
		if left--; left <= 0 {
			delete(e.armed, name)
		} else {
			e.armed[name] = left
		}
	}
	return true
}
