package artifact

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// today is when the tests take place.
var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// newKey makes a key pair that is valid from created for life; zero is without end.
func newKey(t testing.TB, created time.Time, life time.Duration) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("Test Signer", "", "signer@example.com", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(life / time.Second),
		Time: func() time.Time { return created },
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// public is the armored public key.
func public(t testing.TB, key *openpgp.Entity) []byte {
	t.Helper()
	return armored(t, openpgp.PublicKeyType, func(w io.Writer) error { return key.Serialize(w) })
}

func armored(t testing.TB, kind string, write func(io.Writer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := armor.Encode(&out, kind, nil)
	if err == nil {
		err = write(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sign makes a detached signature of data by key's primary key, without asking whether that is allowed.
func sign(t testing.TB, key *openpgp.Entity, at time.Time, data []byte, change ...func(*packet.Signature)) []byte {
	t.Helper()
	sig := &packet.Signature{
		Version: key.PrimaryKey.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: key.PrimaryKey.PubKeyAlgo,
		Hash: crypto.SHA256, CreationTime: at,
		IssuerKeyId: &key.PrimaryKey.KeyId, IssuerFingerprint: key.PrimaryKey.Fingerprint,
	}
	for _, c := range change {
		c(sig)
	}
	config := &packet.Config{}
	h, err := sig.PrepareSign(config)
	if err != nil {
		t.Fatal(err)
	}
	h.Write(data)
	if err := sig.Sign(h, key.PrivateKey, config); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := sig.Serialize(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// asc puts signatures into one armored block.
func asc(t testing.TB, signatures ...[]byte) []byte {
	t.Helper()
	return armored(t, openpgp.SignatureType, func(w io.Writer) error {
		_, err := w.Write(bytes.Join(signatures, nil))
		return err
	})
}

// newRing makes a ring of keys for a product, or with an empty one for all.
func newRing(t testing.TB, keys map[Product][]*openpgp.Entity) *Keyring {
	t.Helper()
	ring := new(Keyring)
	for product, list := range keys {
		for _, key := range list {
			entries, err := parseKeys(public(t, key), product)
			if err != nil {
				t.Fatal(err)
			}
			ring.entries = append(ring.entries, entries...)
		}
	}
	return ring
}

// member is one of an ar archive.
type member struct {
	name string
	body []byte
}

func newArchive(members ...member) []byte {
	var out bytes.Buffer
	out.WriteString(arMagic)
	for _, m := range members {
		out.Write(memberHeader(m.name, int64(len(m.body))))
		out.Write(m.body)
		if len(m.body)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// memberHeader is what precedes a member of an ar archive.
func memberHeader(name string, size int64) []byte {
	return fmt.Appendf(nil, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", size)
}

func newTar(t testing.TB, headers []tar.Header, bodies ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i, h := range headers {
		var body []byte
		if i < len(bodies) {
			body = bodies[i]
		}
		h.Size = int64(len(body))
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// pack compresses as a member's suffix says.
func pack(t testing.TB, suffix string, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch suffix {
	case "":
		return plain
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.WriterConfig{BlockSize: 1 << 16}.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	default:
		t.Fatalf("no compressor for %q", suffix)
	}
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func controlText(name, version, arch string) []byte {
	return fmt.Appendf(nil, "Package: %s\nVersion: %s\nArchitecture: %s\nDescription: a test's\n Version: not this one\n",
		name, version, arch)
}

// newDeb makes a Debian package with one file of random bytes.
func newDeb(t testing.TB, name, version, arch string, size int) []byte {
	t.Helper()
	body := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(version))).Read(body)
	control := newTar(t, []tar.Header{{Name: "./control", Mode: 0o644}}, controlText(name, version, arch))
	return newArchive(
		member{"debian-binary", []byte("2.0\n")},
		member{"control.tar.gz", pack(t, ".gz", control)},
		member{"data.tar", newTar(t, []tar.Header{{Name: "./usr/bin/agent", Mode: 0o755}}, body)},
	)
}
