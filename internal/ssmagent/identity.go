package ssmagent

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Identity is what the host says about its managed node, from all the places that say something. The zero Identity is
// a host on which no agent ever ran.
type Identity struct {
	InstanceID string    // mi-…, from the vault; empty when not registered
	Region     string    // from the vault
	HasKey     bool      // a private key is there and can be used
	KeyCreated time.Time // when that key was made: at the registration, or by a rotation since

	// Hidden is the id of a whole identity that the agent does not see, for the vault's manifest does not lead to it; the
	// fields above are empty then. MendManifest makes it visible.
	Hidden string

	SideID     string // from the side file (RegistrationPath)
	SideRegion string

	Fingerprint string // the UUID that the service knows the machine by
	MachineID   string // of the machine that was registered, without its line end
	Threshold   int    // percent of equal hardware below which the machine counts as another; -1 never

	Runtime Runtime
	Damaged []string // what could not be understood or contradicts itself, a sentence each
}

// Runtime is what the running agent last wrote about its identity and credentials (RuntimePath).
type Runtime struct {
	InstanceID             string `json:"InstanceId"`
	IdentityType           string // OnPrem
	ShareFile              string // empty when the agent keeps the credentials to itself
	ShareProfile           string // empty is the default profile
	CredentialsExpiresAt   time.Time
	CredentialsRetrievedAt time.Time
	CredentialSource       string // SSM
}

// Registered reports whether the agent can act as a managed node: id, Region and key are all there.
func (i Identity) Registered() bool { return i.InstanceID != "" && i.Region != "" && i.HasKey }

// The vault's names for its values.
const (
	keyEntry         = "RegistrationKey"
	fingerprintEntry = "InstanceFingerprint"
)

// ReadIdentity reads the identity store. What is missing is left empty; what cannot be understood is named in
// Damaged; a file that may not be read is an error with the code failure.NotRoot. The private key never leaves the
// function.
func ReadIdentity(r host.Reader) (Identity, error) {
	s := store{files: r.Files}
	var i Identity

	var side struct{ ManagedInstanceID, Region string }
	s.load(RegistrationPath, &side)
	i.SideID, i.SideRegion = side.ManagedInstanceID, side.Region
	s.load(RuntimePath, &i.Runtime)

	manifest := map[string]string{}
	s.load(ManifestPath, &manifest)
	s.loadKey(&i, manifest)
	s.loadFingerprint(&i, manifest)

	if s.err != nil {
		return Identity{}, s.err
	}
	i.Damaged = s.damaged
	return i, nil
}

// registrationKey is the file at KeyPath.
type registrationKey struct {
	InstanceID            string `json:"instanceID"`
	Region                string `json:"region"`
	PrivateKey            string `json:"privateKey"`
	PrivateKeyCreatedDate string `json:"privateKeyCreatedDate"`
}

// blank is how "-register -clear" leaves the file. A registration that failed leaves a key in it.
func (k registrationKey) blank() bool {
	return k.InstanceID == "" && k.Region == "" && k.PrivateKey == ""
}

func (s *store) loadKey(i *Identity, manifest map[string]string) {
	former := i.SideID // what the host was registered as, if the vault has forgotten it
	if former == "" && strings.HasPrefix(i.Runtime.InstanceID, "mi-") {
		former = i.Runtime.InstanceID
	}
	var key registrationKey
	path, listed := s.find(manifest, keyEntry, KeyPath)
	found := s.load(path, &key)
	switch {
	case found && !listed && key.InstanceID != "":
		if key.Region != "" && usable(key.PrivateKey) {
			i.Hidden = key.InstanceID
		}
		s.damage("%s holds %s, but the agent does not see it: %s does not lead there", path, key.InstanceID, ManifestPath)
	case !found && former != "" && !s.exists(path):
		s.damage("%s is missing; the host was registered as %s", path, former)
	case !found && listed && !s.exists(path):
		s.damage("%s leads to %s, which is missing", ManifestPath, path)
	}
	if !found || !listed {
		return
	}

	i.InstanceID, i.Region = key.InstanceID, key.Region
	i.HasKey = usable(key.PrivateKey)
	i.KeyCreated = parseCreated(key.PrivateKeyCreatedDate)
	switch {
	case key.blank():
		// Cleared on purpose: the side file still names the former node, and that is how it always is.
	case key.InstanceID == "" && former == "":
		// A first registration that failed: nothing was lost.
	case key.InstanceID == "":
		s.damage("%s is blanked, as a failed registration leaves it; the host was registered as %s", path, former)
	case key.PrivateKey == "":
		s.damage("%s has no private key", path)
	case !i.HasKey:
		s.damage("the private key in %s is not an RSA key", path)
	case key.Region == "":
		s.damage("%s has no Region", path)
	case !s.exists(RegistrationPath):
		s.damage("%s is missing; the vault says %s", RegistrationPath, i.InstanceID)
	case i.SideID != "" && (i.SideID != i.InstanceID || i.SideRegion != i.Region):
		s.damage("%s says %s in %s, the vault says %s in %s",
			RegistrationPath, i.SideID, i.SideRegion, i.InstanceID, i.Region)
	}
}

func (s *store) loadFingerprint(i *Identity, manifest map[string]string) {
	var stored struct {
		Fingerprint         string            `json:"fingerprint"`
		HardwareHash        map[string]string `json:"hardwareHash"`
		SimilarityThreshold int               `json:"similarityThreshold"`
	}
	path, listed := s.find(manifest, fingerprintEntry, FingerprintPath)
	found := s.load(path, &stored)
	switch {
	case i.InstanceID == "": // nothing depends on it
	case !s.exists(path):
		s.damage("%s is missing: the service knows the machine by it", path)
	case !listed:
		s.damage("the agent does not see %s: %s does not lead there", path, ManifestPath)
	}
	if !found || !listed {
		return
	}
	i.Fingerprint, i.Threshold = stored.Fingerprint, stored.SimilarityThreshold
	i.MachineID = strings.TrimSpace(stored.HardwareHash["machine-id"])
}

// usable reports whether the text is what the agent stores as private key: an RSA key, PKCS#1 DER in base64.
func usable(text string) bool {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	_, err = x509.ParsePKCS1PrivateKey(der)
	return err == nil
}

// parseCreated reads the form that Go's time.Time prints itself in; anything else is the zero time.
func parseCreated(text string) time.Time {
	text, _, _ = strings.Cut(text, " m=")
	created, err := time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", text)
	if err != nil {
		return time.Time{}
	}
	return created
}

// loadRuntime reads RuntimePath alone.
func loadRuntime(files host.Files) (Runtime, error) {
	s := store{files: files}
	var run Runtime
	s.load(RuntimePath, &run)
	if s.err == nil && s.damaged != nil {
		return Runtime{}, fmt.Errorf("%s", s.damaged[0])
	}
	return run, s.err
}
