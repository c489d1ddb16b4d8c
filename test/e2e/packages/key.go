package packages

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Key is a signing key that exists only in memory.
type Key struct{ entity *openpgp.Entity }

// NewKey makes an RSA key, as AWS's are, for this user id.
func NewKey(name, email string) (*Key, error) {
	entity, err := openpgp.NewEntity(name, "", email, nil)
	return &Key{entity}, err
}

// Sign writes a detached signature of a file, armored or binary.
func (k *Key) Sign(file, signature string, armored bool) error {
	data, err := os.Open(file)
	if err != nil {
		return err
	}
	defer data.Close()
	sign := openpgp.DetachSign
	if armored {
		sign = openpgp.ArmoredDetachSign
	}
	var out bytes.Buffer
	if err := sign(&out, k.entity, data, nil); err != nil {
		return fmt.Errorf("sign %s: %w", file, err)
	}
	return os.WriteFile(signature, out.Bytes(), 0o644)
}

// Keyring is the public part of some keys, in one armored block.
func Keyring(keys ...*Key) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if err := k.entity.Serialize(w); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	_, err = io.WriteString(&out, "\n")
	return out.Bytes(), err
}
