package ssmagent

import (
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Identity is what the host says about its managed node, from all the places that say something. The zero Identity is a
// host on which no agent ever ran.
type Identity struct {
	InstanceID string // mi-…, from the vault; empty when not registered
	Region     string // from the vault
	HasKey     bool   // a private key is there and can be used
	KeyCreated time.Time

	SideID     string // from the side file
	SideRegion string

	Fingerprint string // the UUID that the service knows the machine by
	MachineID   string // of the machine that was registered, without its line end
	Threshold   int    // percent of equal hardware below which the machine counts as another; -1 never

	Runtime Runtime
	Damaged []string // what could not be understood or contradicts itself, a sentence each
}

// Runtime is what the running agent last wrote about its identity and credentials (RuntimePath).
type Runtime struct {
	InstanceID             string
	IdentityType           string // OnPrem
	ShareFile              string // empty when the agent keeps the credentials to itself
	ShareProfile           string // empty is the default profile
	CredentialsExpiresAt   time.Time
	CredentialsRetrievedAt time.Time
	CredentialSource       string // SSM
}

// Registered reports whether the agent would take itself for registered: id, Region and key are all there.
func (i Identity) Registered() bool { return i.InstanceID != "" && i.Region != "" && i.HasKey }

// ReadIdentity reads the identity store. What is missing is left empty; what cannot be understood is named in Damaged; a
// file that may not be read is an error with the code failure.NotRoot. The private key never leaves the function.
func ReadIdentity(r host.Reader) (Identity, error) { panic("not yet") }
