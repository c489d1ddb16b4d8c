package emulator

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// keyLife is how long the keys are valid that sign what nobody should believe.
const keyLife = 365 * 24 * time.Hour

// forgers are those keys. One is valid and unknown; the other was made so long ago that it is known and has expired.
type forgers struct {
	once           sync.Once
	wrong, expired *openpgp.Entity
	err            error
}

func (f *forgers) make(now time.Time) error {
	f.once.Do(func() {
		entity := func(created time.Time) *openpgp.Entity {
			key, err := openpgp.NewEntity("Anywhere Emulator", "", "emulator@example.com", &packet.Config{
				Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(keyLife / time.Second),
				Time: func() time.Time { return created },
			})
			if err != nil && f.err == nil {
				f.err = fmt.Errorf("making a key for wrong signatures: %w", err)
			}
			return key
		}
		f.wrong, f.expired = entity(now.Add(-time.Hour)), entity(now.Add(-2*keyLife))
	})
	return f.err
}

// ExpiredKey is the armored public key with which the fault artifact-expired-key signs. Whoever does not know it takes the
// packages for signed by a stranger.
func (e *Emulator) ExpiredKey() ([]byte, error) {
	if err := e.forgers.make(e.opts.Now()); err != nil {
		return nil, err
	}
	return armored(openpgp.PublicKeyType, e.forgers.expired.Serialize)
}

// forged is a signature as the faults have it: over the same package, by somebody else. Without such a fault it is the one
// that the bucket holds.
func (e *Emulator) forged(name string, honest []byte) []byte {
	wrong, expired := e.faulty(FaultArtifactWrongKey), e.faulty(FaultArtifactExpiredKey)
	if !wrong && !expired || e.forgers.make(e.opts.Now()) != nil {
		return honest
	}
	key := e.forgers.wrong
	if expired {
		key = e.forgers.expired
	}
	data, _, ok := e.object(strings.TrimSuffix(name, path.Ext(name)))
	if !ok {
		return honest
	}
	forged, err := signWith(key, e.opts.Now(), data)
	if err == nil && bytes.HasPrefix(honest, []byte("-----BEGIN")) {
		forged, err = armored(openpgp.SignatureType, func(w io.Writer) error {
			_, err := w.Write(forged)
			return err
		})
	}
	if err != nil {
		return honest
	}
	return forged
}

// signWith signs by a key's primary key, whether or not that may sign at the time.
func signWith(key *openpgp.Entity, at time.Time, data []byte) ([]byte, error) {
	sig := &packet.Signature{
		Version: key.PrimaryKey.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: key.PrimaryKey.PubKeyAlgo,
		Hash: crypto.SHA256, CreationTime: at,
		IssuerKeyId: &key.PrimaryKey.KeyId, IssuerFingerprint: key.PrimaryKey.Fingerprint,
	}
	config := &packet.Config{}
	h, err := sig.PrepareSign(config)
	if err != nil {
		return nil, err
	}
	h.Write(data)
	if err := sig.Sign(h, key.PrivateKey, config); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = sig.Serialize(&out)
	return out.Bytes(), err
}

func armored(kind string, write func(io.Writer) error) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, kind, nil)
	if err != nil {
		return nil, err
	}
	if err := write(w); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}
