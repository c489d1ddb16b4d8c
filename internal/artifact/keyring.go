package artifact

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Files of AWS's keys, as AWS publishes them; each holds one key, and pins says which.
//
//go:embed keys/*.asc
var keyFiles embed.FS

// pins are the keys whose signatures count, by the fingerprint of the primary key. Sources, read 2026-11-22:
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-install.html and
// https://docs.aws.amazon.com/systems-manager/latest/userguide/verify-agent-signature.html. AWS makes a new SSM key
// about every 18 months; older packages stay signed with older keys. ECS's signatures carry the subkey D64BB6F9….
var pins = []struct {
	product           Product
	file, fingerprint string
}{
	{ECSInit, "ecs-agent", "F34C3DDAE72926B079BEAEC6BCE9D9A42D51784F"},
	{SSMAgent, "ssm-agent", "1C5B395CBE5E74E2F1CA21592784DBF388D19D46"}, // 2026-06-04 to 2027-11-25
	{SSMAgent, "ssm-agent", "4855A9E6833216D6A77D8FE451A8E050D0052E5D"}, // 2025-01-22 to 2026-07-15
	{SSMAgent, "ssm-agent", "DE92C7DA3E56E92331D62A36BC1F495C97DD04ED"}, // 2023-08-28 to 2025-02-17
	{SSMAgent, "ssm-agent", "2BC7C7C267BBD505EAA491E6DD81A61756BAA549"}, // 2022-03-15 to 2023-09-05
	{SSMAgent, "ssm-agent", "8108A07A9EBE248E3F1C63F254F4F56E693ECA21"}, // 2020-10-06 to 2022-03-29
}

// maxKeyring bounds a file of keys.
const maxKeyring = 1 << 20

// Key is a public key whose signatures count.
type Key struct {
	Fingerprint string    // of the primary key, upper-case hex
	Product     Product   // what it may sign; empty, for a key that the operator added, is every product
	UserID      string    // "SSM Agent <ssm-agent-signer@amazon.com>"
	Created     time.Time // UTC
	Expires     time.Time // UTC; zero is never
}

// Keyring holds the keys whose signatures count. Once filled it may be used by several goroutines.
type Keyring struct {
	entries []entry
}

// entry is a key with its packets. They are parsed anew for each verification, because the library notes its verdicts
// in what it parsed.
type entry struct {
	Key
	packets []byte
}

// Embedded returns the keys that are pinned in the binary.
func Embedded() (*Keyring, error) {
	ring := new(Keyring)
	for _, pin := range pins {
		raw, err := keyFiles.ReadFile("keys/" + pin.file + "-" + pin.fingerprint + ".asc")
		if err != nil {
			return nil, failure.Wrap(failure.Internal, err, "read a pinned key")
		}
		entries, err := parseKeys(raw, pin.product)
		if err != nil {
			return nil, failure.Wrap(failure.Internal, err, "read the pinned key %s", pin.fingerprint)
		}
		if len(entries) != 1 || entries[0].Fingerprint != pin.fingerprint {
			return nil, failure.New(failure.Internal, "the file of the pinned key %s holds another key", pin.fingerprint)
		}
		ring.entries = append(ring.entries, entries...)
	}
	return ring, nil
}

// Add adds the operator's own keys, for every product: one or more armored blocks of public keys. It adds all or
// none; its errors are Usage, and do not name the file.
func (k *Keyring) Add(armored io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(armored, maxKeyring+1))
	if err != nil {
		return failure.Wrap(failure.Usage, err, "read the keys")
	}
	if len(raw) > maxKeyring {
		return failure.New(failure.Usage, "the file is larger than %d bytes", maxKeyring)
	}
	entries, err := parseKeys(raw, "")
	if err != nil {
		return failure.New(failure.Usage, "%v", err)
	}
	k.entries = append(k.entries, entries...)
	return nil
}

// List returns the keys, the pinned ones first.
func (k *Keyring) List() []Key {
	keys := make([]Key, len(k.entries))
	for i, e := range k.entries {
		keys[i] = e.Key
	}
	return keys
}

// parseKeys reads the public keys of one or more armored blocks. It refuses private ones, which are given by mistake.
func parseKeys(raw []byte, product Product) ([]entry, error) {
	var entries []entry
	const begin = "-----BEGIN "
	for block := range strings.SplitSeq(string(raw), begin) {
		if block = begin + block; !strings.Contains(block, "-----END ") {
			continue // text before, between or after the blocks
		}
		decoded, err := armor.Decode(strings.NewReader(block))
		if err != nil {
			return nil, fmt.Errorf("a block of the file is not whole: %w", err)
		}
		if decoded.Type != openpgp.PublicKeyType {
			return nil, fmt.Errorf("the file has a block of the type %q; expected %q", decoded.Type, openpgp.PublicKeyType)
		}
		entities, err := openpgp.ReadKeyRing(decoded.Body)
		if err != nil {
			return nil, fmt.Errorf("a block of the file is not a key: %w", err)
		}
		for _, entity := range entities {
			e, err := newEntry(entity, product)
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("the file has no armored public key (%s%s-----)", begin, openpgp.PublicKeyType)
	}
	return entries, nil
}

func newEntry(entity *openpgp.Entity, product Product) (entry, error) {
	fingerprint := fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint)
	if entity.PrivateKey != nil {
		return entry{}, fmt.Errorf("the file holds the private key of %s; give the public one", fingerprint)
	}
	self, err := entity.VerifyPrimaryKey(time.Time{}, nil) // at no time in particular: an expired key is a key
	if err != nil {
		return entry{}, fmt.Errorf("the key %s cannot be used: %w", fingerprint, err)
	}
	e := entry{Key: Key{Fingerprint: fingerprint, Product: product, Created: entity.PrimaryKey.CreationTime.UTC()}}
	if _, id := entity.PrimaryIdentity(time.Time{}, nil); id != nil {
		e.UserID = id.Name
	}
	if self.KeyLifetimeSecs != nil && *self.KeyLifetimeSecs > 0 {
		e.Expires = e.Created.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second)
	}
	var packets bytes.Buffer
	if err := entity.Serialize(&packets); err != nil {
		return entry{}, fmt.Errorf("the key %s cannot be kept: %w", fingerprint, err)
	}
	e.packets = packets.Bytes()
	return e, nil
}

// candidates are the keys that may sign a product and have the primary key or subkey id, parsed; the newest addition
// first.
func (k *Keyring) candidates(product Product, id uint64) (found []candidate, err error) {
	for _, e := range slices.Backward(k.entries) {
		if e.Product != "" && e.Product != product {
			continue
		}
		list, err := openpgp.ReadKeyRing(bytes.NewReader(e.packets))
		if err != nil {
			return nil, failure.Wrap(failure.Internal, err, "read the key %s", e.Fingerprint)
		}
		if len(list.EntitiesById(id)) > 0 {
			found = append(found, candidate{e.Key, list})
		}
	}
	return found, nil
}

// candidate is a key that may have made a signature.
type candidate struct {
	Key
	ring openpgp.EntityList
}
