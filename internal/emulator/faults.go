package emulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Faults, by name.
const (
	FaultActivationExpired    = "activation-expired"
	FaultActivationInvalid    = "activation-invalid"
	FaultActivationUsedUp     = "activation-used-up"
	FaultAccessDenied         = "access-denied" // with an action
	FaultRegisterAccessDenied = "register-access-denied"
	FaultClusterMissing       = "cluster-missing"
	FaultClusterInactive      = "cluster-inactive"
	FaultInstanceLimit        = "instance-limit"
	FaultInstanceInactive     = "instance-inactive"
	FaultRegisterInactive     = "register-inactive"
	FaultNodeDeregistered     = "node-deregistered"
	FaultFingerprint          = "fingerprint-mismatch"
	FaultCredentialsExpired   = "credentials-expired"
	FaultClockSkew            = "clock-skew"
	FaultThrottled            = "throttled"
	FaultServerError          = "server-error"
	FaultConnectionReset      = "connection-reset"
	FaultSlow                 = "slow"
	FaultNoAttributeEcho      = "no-attribute-echo"
	FaultRoleTokenDenied      = "role-token-denied"
	FaultNodeOffline          = "node-offline"
	FaultAgentNeverConnects   = "agent-never-connects"
	FaultAgentExits1          = "agent-exits-1"
	FaultAgentExits5          = "agent-exits-5"
	FaultArtifactTruncated    = "artifact-truncated"
	FaultArtifactCorrupt      = "artifact-corrupt"
	FaultArtifactUnsigned     = "artifact-unsigned"
	FaultArtifactWrongKey     = "artifact-wrong-key"
	FaultArtifactExpiredKey   = "artifact-expired-key"
	FaultArtifactMissing      = "artifact-missing"
	FaultVersionMissing       = "version-missing"
	FaultTaskNeverStops       = "task-never-stops"
)

// FaultInfo is something that can go wrong.
type FaultInfo struct {
	Name        string `json:"name"`
	Argument    string `json:"argument"`    // what stands behind "="; empty when nothing does
	Explanation string `json:"explanation"` // what goes wrong
	// Moment: it happens when it is armed, and what it did to the account stays.
	Moment bool `json:"moment"`

	strike func(*Emulator) // with Moment; called with the lock held
}

// catalogue is every fault that there is, what belongs together side by side.
var catalogue = []FaultInfo{
	{Name: FaultActivationExpired, Explanation: "Systems Manager says that the activation has expired"},
	{Name: FaultActivationInvalid, Explanation: "Systems Manager does not know the activation"},
	{Name: FaultActivationUsedUp, Explanation: "Systems Manager says that the activation has no registration left"},
	{Name: FaultRoleTokenDenied, Explanation: "Systems Manager gives the node no credentials: its role cannot be assumed"},
	{Name: FaultFingerprint, Explanation: "Systems Manager says that the node's fingerprint is another machine's"},
	{Name: FaultNodeOffline, Explanation: "Systems Manager shows every node as ConnectionLost"},
	{Name: FaultNodeDeregistered, Explanation: "every managed node is deregistered at this moment, behind the host's back", Moment: true,
		strike: (*Emulator).loseNodes},
	{Name: FaultCredentialsExpired, Explanation: "AWS says that the node's credentials have expired"},
	{Name: FaultAccessDenied, Argument: "SERVICE:ACTION", Explanation: "nobody may call the action, like ecs:DeregisterContainerInstance"},
	{Name: FaultRegisterAccessDenied, Explanation: "the node's role may not call ecs:RegisterContainerInstance"},
	{Name: FaultClusterMissing, Explanation: "ECS does not find the cluster when an instance registers"},
	{Name: FaultClusterInactive, Explanation: "every cluster is INACTIVE from this moment on", Moment: true, strike: (*Emulator).loseClusters},
	{Name: FaultInstanceLimit, Explanation: "ECS says that the cluster has as many container instances as it can have"},
	{Name: FaultInstanceInactive, Explanation: "every container instance is deregistered at this moment, behind the host's back", Moment: true,
		strike: (*Emulator).loseInstances},
	{Name: FaultRegisterInactive, Explanation: "ECS registers the instance, and it is INACTIVE at once"},
	{Name: FaultNoAttributeEcho, Explanation: "ECS registers the instance and does not confirm its attributes"},
	{Name: FaultAgentNeverConnects, Explanation: "ECS refuses every connection of a registered agent with a server error"},
	{Name: FaultAgentExits1, Explanation: "ECS answers the registration with an error that the agent does not know: it ends with 1, again and again"},
	{Name: FaultAgentExits5, Explanation: "ECS calls the registration invalid: the agent ends with 5, for good"},
	{Name: FaultTaskNeverStops, Explanation: "a task that is to stop stays STOPPING"},
	{Name: FaultClockSkew, Explanation: "AWS refuses signatures because the host's clock is ten minutes behind"},
	{Name: FaultThrottled, Explanation: "every API call is answered with ThrottlingException"},
	{Name: FaultServerError, Explanation: "every API call is answered with an HTTP 500"},
	{Name: FaultConnectionReset, Explanation: "every connection is reset before it is answered"},
	{Name: FaultSlow, Explanation: "every answer is held back for five seconds"},
	{Name: FaultArtifactTruncated, Explanation: "downloads of packages break off in the middle"},
	{Name: FaultArtifactCorrupt, Explanation: "downloads of packages have a wrong byte"},
	{Name: FaultArtifactUnsigned, Explanation: "signatures of packages are missing from the buckets"},
	{Name: FaultArtifactWrongKey, Explanation: "packages are signed by a key that nobody knows"},
	{Name: FaultArtifactExpiredKey, Explanation: "packages are signed by a key after it has expired"},
	{Name: FaultVersionMissing, Explanation: "the buckets lack the packages that they announce"},
	{Name: FaultArtifactMissing, Explanation: "the buckets are empty"},
}

// Faults lists every fault there is.
func Faults() []FaultInfo { return slices.Clone(catalogue) }

const forever = -1

// ParseFault takes a fault apart as people write it: NAME, NAME=ARGUMENT, and either with *N for the next N requests
// alone. The error says what is wrong with it, and not which faults there are.
func ParseFault(text string) (name string, n int, err error) {
	n, name = forever, strings.TrimSpace(text)
	if before, count, counted := strings.Cut(name, "*"); counted {
		if n, err = strconv.Atoi(count); err != nil || n < 1 {
			return "", 0, fmt.Errorf("fault %q: behind * stands how many requests it hits", text)
		}
		name = before
	}
	word, argument, given := strings.Cut(name, "=")
	info, known := faultNamed(word)
	service, action, whole := strings.Cut(argument, ":")
	switch {
	case !known:
		return "", 0, fmt.Errorf("there is no fault %q", word)
	case info.Argument == "" && given:
		return "", 0, fmt.Errorf("the fault %s takes nothing behind =", word)
	case info.Argument != "" && (!whole || service == "" || action == ""):
		return "", 0, fmt.Errorf("the fault is %s=%s, like %[1]s=ecs:StopTask", word, info.Argument)
	case info.Moment && n != forever:
		return "", 0, fmt.Errorf("the fault %s happens at once: it hits no number of requests", word)
	}
	return name, n, nil
}

func faultNamed(name string) (FaultInfo, bool) {
	i := slices.IndexFunc(catalogue, func(f FaultInfo) bool { return f.Name == name })
	if i < 0 {
		return FaultInfo{}, false
	}
	return catalogue[i], true
}

// Fault arms a fault, written as [ParseFault] has it, until ClearFault.
func (e *Emulator) Fault(text string) error {
	name, n, err := ParseFault(text)
	if err != nil {
		return err
	}
	return e.FaultFor(name, n)
}

// FaultFor arms a fault for the next n requests that it applies to.
func (e *Emulator) FaultFor(text string, n int) error {
	name, _, err := ParseFault(text)
	if err != nil {
		return err
	}
	word, _, _ := strings.Cut(name, "=")
	info, _ := faultNamed(word)
	e.mu.Lock()
	defer e.mu.Unlock()
	if info.Moment {
		info.strike(e)
		return nil
	}
	e.armed[name] = n
	return nil
}

// ClearFault disarms a fault. What one of a moment did to the account stays.
func (e *Emulator) ClearFault(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.armed, name)
}

// ArmedFault is a fault that is in force.
type ArmedFault struct {
	Name string `json:"name"` // with its argument
	Left int    `json:"left"` // how many requests it still hits; -1 is all
}

// Armed are the faults in force, sorted.
func (e *Emulator) Armed() []ArmedFault {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []ArmedFault{}
	for name, left := range e.armed {
		all = append(all, ArmedFault{name, left})
	}
	slices.SortFunc(all, func(a, b ArmedFault) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (e *Emulator) loseInstances() {
	for _, c := range e.clusters {
		for _, i := range c.instances {
			e.deregister(i)
		}
	}
}

func (e *Emulator) loseNodes() {
	for _, n := range e.nodes {
		if !n.gone {
			n.goneAt = e.opts.Now()
			n.forget()
		}
	}
}

func (e *Emulator) loseClusters() {
	for _, c := range e.clusters {
		c.status = "INACTIVE"
	}
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
