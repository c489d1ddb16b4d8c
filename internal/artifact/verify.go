package artifact

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// ahead is how far a signature may be in the future: clocks differ, and a host's may be wrong until its first NTP
// answer.
const ahead = 24 * time.Hour

// weak are hashes for which other data with the same sum can be made.
var weak = map[crypto.Hash]bool{crypto.MD5: true, crypto.SHA1: true, crypto.RIPEMD160: true}

// proof is what a good signature says.
type proof struct {
	fingerprint string // of the primary key
	at          time.Time
	size        int64
	sum         []byte // SHA-256
}

// verify holds what open gives to a detached signature, armored or not. A signature counts when a key of the ring
// that may sign the product made it while the key was valid; a key that has expired since is fine. name is the file's
// in messages.
func (k *Keyring) verify(
	product Product, name string, open func() (io.ReadCloser, error), raw []byte, now time.Time,
) (proof, error) {
	raw, made, err := readSignature(name, raw)
	if err != nil {
		return proof{}, err
	}
	// More than one signature is how a key rotation is made smooth: one good one is enough. The first error is told.
	var first error
	for _, sig := range made {
		p, err := k.verifyOne(product, name, open, raw, sig, now)
		if err == nil {
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return proof{}, first
}

// readSignature takes a signature file apart: its packets without armor, and the parsed ones.
func readSignature(name string, raw []byte) (packets []byte, made []*packet.Signature, err error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil, failure.New(failure.ArtifactUnsigned, "the signature of %s is empty", name)
	}
	no := failure.New(failure.ArtifactUnsigned, "what stands in for the signature of %s is not one", name).
		WithEvidence("it begins with %.60q", raw)
	packets = raw
	if raw[0]&0x80 == 0 { // every OpenPGP packet begins with this bit, and no text does
		block, err := armor.Decode(bytes.NewReader(raw))
		if err != nil || block.Type != openpgp.SignatureType {
			return nil, nil, no
		}
		if packets, err = io.ReadAll(block.Body); err != nil {
			return nil, nil, no
		}
	}
	for reader := packet.NewReader(bytes.NewReader(packets)); ; {
		p, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, no
		}
		// A text signature holds for other bytes too, those with other line ends; AWS makes none.
		if sig, ok := p.(*packet.Signature); ok && sig.SigType == packet.SigTypeBinary && sig.IssuerKeyId != nil {
			made = append(made, sig)
		}
	}
	if len(made) == 0 {
		return nil, nil, no
	}
	return packets, made, nil
}

// verifyOne verifies one of the signatures in raw.
func (k *Keyring) verifyOne(
	product Product, name string, open func() (io.ReadCloser, error), raw []byte, sig *packet.Signature, now time.Time,
) (proof, error) {
	at := sig.CreationTime.UTC()
	if weak[sig.Hash] {
		return proof{}, failure.New(failure.ArtifactUnsigned,
			"the signature of %s is of %s, which proves nothing", name, sig.Hash)
	}
	if at.After(now.Add(ahead)) {
		return proof{}, failure.New(failure.ArtifactKey, "the signature of %s was made on %s, and here it is %s",
			name, at.Format(time.RFC3339), now.UTC().Format(time.RFC3339)).
			WithRemedy("set this machine's clock: timedatectl set-ntp true")
	}
	candidates, err := k.candidates(product, *sig.IssuerKeyId)
	if err != nil {
		return proof{}, err
	}
	err = failure.New(failure.ArtifactKey, "%s is signed by the key %s, which is not one for %s",
		name, issuer(sig), product).
		WithEvidence("the signature was made on %s; anywhere version -o json has the keys that are trusted", at.Format(time.DateOnly))
	for _, c := range candidates {
		var p proof
		if p, err = c.verify(name, open, raw, sig, now); err == nil {
			return p, nil
		}
	}
	return proof{}, err
}

// issuer names the key that a signature says it is from: by fingerprint if it has one.
func issuer(sig *packet.Signature) string {
	if len(sig.IssuerFingerprint) > 0 {
		return fmt.Sprintf("%X", sig.IssuerFingerprint)
	}
	return fmt.Sprintf("%016X", *sig.IssuerKeyId)
}

// verify verifies the signature sig, one of those in raw, against this key alone.
func (c candidate) verify(
	name string, open func() (io.ReadCloser, error), raw []byte, sig *packet.Signature, now time.Time,
) (proof, error) {
	file, err := open()
	if err != nil {
		return proof{}, err
	}
	defer file.Close()
	in := &tally{Reader: file}
	sum := sha256.New()
	// The library asks whether the key was valid when the signature was made, which is the rule here too. Its own clock is
	// only for the signature's lifetime, and for one from the future, which verifyOne has looked at.
	config := &packet.Config{
		Time:                        func() time.Time { return now.Add(ahead) },
		RejectMessageHashAlgorithms: weak,
	}
	details, err := openpgp.VerifyDetachedSignatureReader(c.ring, io.TeeReader(in, sum), bytes.NewReader(raw), config)
	if err != nil {
		return proof{}, failure.Wrap(failure.ArtifactUnsigned, err, "read the signature of %s", name)
	}
	if _, err := io.Copy(io.Discard, details.UnverifiedBody); err != nil {
		if in.err != nil {
			return proof{}, failure.Wrap(failure.ReadOnly, in.err, "read %s", name)
		}
		return proof{}, failure.Wrap(failure.ArtifactCorrupt, err, "verify %s", name)
	}
	for _, one := range details.SignatureCandidates {
		if one.CorrespondingSig == nil || !same(one.CorrespondingSig, sig) {
			continue
		}
		if one.SignatureError != nil {
			return proof{}, c.refusal(name, sig, one.SignatureError, one.SignedBy != nil)
		}
		if one.SignedBy == nil {
			break
		}
		return proof{c.Fingerprint, sig.CreationTime.UTC(), in.n, sum.Sum(nil)}, nil
	}
	return proof{}, failure.New(failure.ArtifactCorrupt, "the signature of %s could not be verified", name)
}

// same reports whether two parsed signatures are of the same packet.
func same(a, b *packet.Signature) bool {
	return a.SigType == b.SigType && a.Hash == b.Hash && a.HashTag == b.HashTag && bytes.Equal(a.HashSuffix, b.HashSuffix)
}

// refusal says why a signature by this key does not count. usable tells that the key could sign at that time.
func (c candidate) refusal(name string, sig *packet.Signature, err error, usable bool) error {
	at := sig.CreationTime.UTC()
	const day = time.DateOnly
	weakKey, unknown := pgperrors.WeakAlgorithmError(""), pgperrors.UnsupportedError("")
	switch {
	case errors.As(err, &unknown):
		return failure.Wrap(failure.ArtifactUnsigned, err, "the signature of %s is of a kind that is not known", name)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return failure.New(failure.ArtifactKey, "%s is signed by the key %s, which is revoked", name, c.Fingerprint)
	case at.Before(c.Created) || (!c.Expires.IsZero() && at.After(c.Expires)):
		until := "without end"
		if !c.Expires.IsZero() {
			until = "to " + c.Expires.Format(day)
		}
		return failure.New(failure.ArtifactKey, "%s was signed on %s by the key %s, which is valid from %s %s",
			name, at.Format(day), c.Fingerprint, c.Created.Format(day), until)
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return failure.New(failure.ArtifactUnsigned, "the signature of %s has expired", name)
	case errors.As(err, &weakKey):
		return failure.Wrap(failure.ArtifactKey, err, "the key %s of %s is too weak", c.Fingerprint, name)
	case !usable || errors.Is(err, pgperrors.ErrSignatureOlderThanKey): // a subkey with dates of its own
		return failure.New(failure.ArtifactKey,
			"%s was signed on %s by the subkey %s of %s, which may not sign or could not then",
			name, at.Format(day), issuer(sig), c.Fingerprint).WithEvidence("%s", err)
	}
	return failure.New(failure.ArtifactCorrupt, "%s is not what the key %s signed", name, c.Fingerprint).
		WithEvidence("%s", err)
}

// tally counts what it reads and remembers how that ended.
type tally struct {
	io.Reader
	n   int64
	err error
}

func (t *tally) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.n += int64(n)
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}
