package artifact

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// The pinned keys, as AWS's pages list them (sources at pins). A file that is swapped, or a pin without its file,
// fails here.
func TestEmbedded(t *testing.T) {
	want := []Key{
		{"F34C3DDAE72926B079BEAEC6BCE9D9A42D51784F", ECSInit, ecsSigner, date("2018-03-23"), time.Time{}},
		{"1C5B395CBE5E74E2F1CA21592784DBF388D19D46", SSMAgent, ssmSigner, date("2026-06-04"), date("2027-11-25")},
		{"4855A9E6833216D6A77D8FE451A8E050D0052E5D", SSMAgent, ssmSigner, date("2025-01-22"), date("2026-07-15")},
		{"DE92C7DA3E56E92331D62A36BC1F495C97DD04ED", SSMAgent, ssmSigner, date("2023-08-28"), date("2025-02-17")},
		{"2BC7C7C267BBD505EAA491E6DD81A61756BAA549", SSMAgent, ssmSigner, date("2022-03-15"), date("2023-09-05")},
		{"8108A07A9EBE248E3F1C63F254F4F56E693ECA21", SSMAgent, ssmSigner, date("2020-10-06"), date("2022-03-29")},
	}
	ring, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	got := ring.List()
	for i := range got {
		got[i].Created, got[i].Expires = got[i].Created.Truncate(day), got[i].Expires.Truncate(day)
	}
	if len(got) != len(want) {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("key %d is\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
	files, err := keyFiles.ReadDir("keys")
	if err != nil || len(files) != len(pins) {
		t.Errorf("%d files of keys and %d pins, %v", len(files), len(pins), err)
	}
}

const (
	ecsSigner = "Amazon ECS <ecs-security@amazon.com>"
	ssmSigner = "SSM Agent <ssm-agent-signer@amazon.com>"
)

func date(s string) time.Time {
	at, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return at
}

// ECS's packages are signed by a subkey, and its key says nothing of SSM's packages.
func TestEmbeddedSubkey(t *testing.T) {
	ring, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	const subkey = 0x50DECCC4710E61AF
	found, err := ring.candidates(ECSInit, subkey)
	if err != nil || len(found) != 1 || found[0].Fingerprint != "F34C3DDAE72926B079BEAEC6BCE9D9A42D51784F" {
		t.Fatalf("the subkey %X leads to %v, %v", subkey, found, err)
	}
	// The library must take this subkey as one that may sign, on a day when it did: its key's own signatures are of SHA-1.
	if _, ok := found[0].ring[0].SigningKeyById(date("2026-06-01"), subkey, nil); !ok {
		t.Error("the subkey may not sign")
	}
	if found, err = ring.candidates(SSMAgent, subkey); err != nil || len(found) != 0 {
		t.Errorf("ECS's subkey may sign SSM's packages: %v, %v", found, err)
	}
	for _, k := range ring.List()[1:] {
		found, err := ring.candidates(SSMAgent, keyID(t, k.Fingerprint))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", k.Fingerprint, found, err)
		}
		if _, ok := found[0].ring[0].SigningKeyById(k.Created.Add(day), 0, nil); !ok {
			t.Errorf("%s may not sign the day after it was made", k.Fingerprint)
		}
	}
}

func TestAdd(t *testing.T) {
	one, two := newKey(t, today.Add(-day), 0), newKey(t, today.Add(-day), 30*day)
	private := armored(t, openpgp.PrivateKeyType, func(w io.Writer) error { return one.SerializePrivate(w, nil) })
	mislabelled := armored(t, openpgp.PublicKeyType, func(w io.Writer) error { return one.SerializePrivate(w, nil) })
	broken := bytes.Replace(public(t, two), []byte("\n\n"), []byte("\n\nAAAA"), 1)
	rows := []struct {
		name  string
		file  []byte
		added int
		says  string
	}{
		{"one", public(t, one), 1, ""},
		{"two blocks with text around", slicesOf("keys:\n", public(t, one), "\nand\n", public(t, two), "end\n"), 2, ""},
		{"empty", nil, 0, "no armored public key"},
		{"a page", []byte("<html>"), 0, "no armored public key"},
		{"cut", public(t, one)[:200], 0, "no armored public key"},
		{"private", private, 0, "PRIVATE KEY"},
		{"private, called public", mislabelled, 0, "private key of"},
		{"one good, one broken", slicesOf(public(t, one), broken), 0, "a block of the file"},
		{"huge", bytes.Repeat([]byte("x"), maxKeyring+1), 0, "larger than"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			ring := new(Keyring)
			err := ring.Add(bytes.NewReader(row.file))
			if len(ring.List()) != row.added {
				t.Errorf("%d keys were added, want %d (%v)", len(ring.List()), row.added, err)
			}
			if row.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v, want a usage error that says %q", err, row.says)
			}
		})
	}
}

// A key that the operator adds counts for both products.
func TestAddedKeySigns(t *testing.T) {
	data := []byte("a package")
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	ring, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, today.Add(-10*day), 0)
	if err := ring.Add(bytes.NewReader(public(t, key))); err != nil {
		t.Fatal(err)
	}
	for _, product := range []Product{ECSInit, SSMAgent} {
		proof, err := ring.verify(product, "it", open, asc(t, sign(t, key, today, data)), today)
		if err != nil || proof.size != int64(len(data)) || !proof.at.Equal(today) {
			t.Errorf("%s: %+v, %v", product, proof, err)
		}
	}
}

// A key whose life is prolonged, and which the operator adds beside its pinned older form, vouches for what it signed
// before and after.
func TestProlongedKey(t *testing.T) {
	data := []byte("a package")
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	key := newKey(t, today.Add(-100*day), 50*day)
	ring := newRing(t, map[Product][]*openpgp.Entity{SSMAgent: {key}})
	early := asc(t, sign(t, key, today.Add(-90*day), data))
	late := asc(t, sign(t, key, today.Add(-10*day), data))
	if _, err := ring.verify(SSMAgent, "it", open, late, today); !failure.Is(err, failure.ArtifactKey) {
		t.Errorf("signed after the key's end: %v", err)
	}
	life := uint32(200 * day / time.Second)
	for name, id := range key.Identities {
		self := id.SelfCertifications[0].Packet
		self.CreationTime, self.KeyLifetimeSecs = today.Add(-20*day), &life
		if err := self.SignUserId(name, key.PrimaryKey, key.PrivateKey, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := ring.Add(bytes.NewReader(public(t, key))); err != nil {
		t.Fatal(err)
	}
	for when, signature := range map[string][]byte{"before": early, "after": late} {
		if _, err := ring.verify(SSMAgent, "it", open, signature, today); err != nil {
			t.Errorf("signed %s it was prolonged: %v", when, err)
		}
	}
}

func slicesOf(parts ...any) (out []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, p...)
		case []byte:
			out = append(out, p...)
		}
	}
	return out
}

func keyID(t *testing.T, fingerprint string) (id uint64) {
	t.Helper()
	for _, c := range fingerprint[len(fingerprint)-16:] {
		id = id<<4 | uint64(strings.IndexRune("0123456789ABCDEF", c))
	}
	return id
}
