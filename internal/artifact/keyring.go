package artifact

import (
	"io"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Key is a public key whose signatures count.
type Key struct {
	Fingerprint string    // of the primary key, upper-case hex
	Product     Product   // what it may sign; empty, for a key that the operator added, is every product
	UserID      string    // "SSM Agent <ssm-agent-signer@amazon.com>"
	Created     time.Time // UTC
	Expires     time.Time // UTC; zero is never
}

// Keyring holds the keys whose signatures count.
type Keyring struct{}

// Embedded returns the keys that are pinned in the binary.
func Embedded() (*Keyring, error) { return nil, failure.New(failure.NotBuilt, "embedded") }

// Add adds the operator's own keys, for every product.
func (k *Keyring) Add(armored io.Reader) error { return failure.New(failure.NotBuilt, "add") }

// List returns the keys.
func (k *Keyring) List() []Key { return nil }
