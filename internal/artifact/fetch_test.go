package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

const region = "eu-central-1"

var (
	ecsRef = Ref{Product: ECSInit, Version: "1.105.1-1", Family: Deb, Arch: "amd64", Region: region}
	ssmRef = Ref{Product: SSMAgent, Version: "3.3.4108.0", Family: Deb, Arch: "arm64", Region: region}
)

// inside is the version that the package's own control file has.
func inside(ref Ref) string {
	if ref.Product == SSMAgent {
		return ref.Version + "-1"
	}
	return ref.Version
}

// story is a shelf with one good package, and all that can be wrong with it.
type story struct {
	*shelf
	t         *testing.T
	ref       Ref
	key       string          // of the package
	signature string          // key of its signature
	signer    *openpgp.Entity // in the ring for this product
	expired   *openpgp.Entity // in the ring; valid from 800 to 400 days ago
	other     *openpgp.Entity // in the ring for the other product
	source    *Source
}

const packageSize = 300 << 10

func newStory(t *testing.T, ref Ref) *story {
	t.Helper()
	s := &story{
		shelf: &shelf{objects: map[string][]byte{}, faults: map[string]fault{}},
		t:     t, ref: ref, key: ref.key(ref.Version),
		signer: newKey(t, today.Add(-100*day), 300*day), expired: newKey(t, today.Add(-800*day), 400*day),
		other: newKey(t, today.Add(-100*day), 0),
	}
	s.signature = s.key + ref.signature()
	rival := SSMAgent
	if ref.Product == SSMAgent {
		rival = ECSInit
	}
	s.offer(newDeb(t, string(ref.Product), inside(ref), ref.Arch, packageSize))
	ring := newRing(t, map[Product][]*openpgp.Entity{ref.Product: {s.expired, s.signer}, rival: {s.other}})
	s.source = newSource(t, "http://mirror.test/packages/", s.serve(t), ring)
	s.shelf.prefix = "packages/"
	return s
}

// offer puts a package and a good signature on the shelf.
func (s *story) offer(deb []byte) {
	s.objects[s.key] = deb
	s.sign(sign(s.t, s.signer, today.Add(-day), deb))
}

func (s *story) sign(signatures ...[]byte) { s.objects[s.signature] = asc(s.t, signatures...) }

// bySubkey has the package signed, two days ago, by a subkey of a new key: ten days old and valid for life.
func (s *story) bySubkey(life time.Duration) {
	s.t.Helper()
	key := newKey(s.t, today.Add(-20*day), 0)
	at := func(ago time.Duration, life time.Duration) *packet.Config {
		return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(life / time.Second),
			Time: func() time.Time { return today.Add(-ago) }}
	}
	if err := key.AddSigningSubkey(at(10*day, life)); err != nil {
		s.t.Fatal(err)
	}
	sub := key.Subkeys[len(key.Subkeys)-1]
	s.pin(key)
	s.sign(sign(s.t, &openpgp.Entity{PrimaryKey: sub.PublicKey, PrivateKey: sub.PrivateKey}, today.Add(-2*day), s.deb()))
}

// pin adds a key to the ring.
func (s *story) pin(key *openpgp.Entity) {
	s.t.Helper()
	ring := newRing(s.t, map[Product][]*openpgp.Entity{s.ref.Product: {key}})
	s.source.Keys.entries = append(s.source.Keys.entries, ring.entries...)
}

func (s *story) deb() []byte { return s.objects[s.key] }

// whole checks a fetched package against what is on the shelf, and that the cache has nothing else.
func (s *story) whole(pkg Package) {
	s.t.Helper()
	got, err := s.source.Files.ReadFile(pkg.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Equal(got, s.deb()) {
		s.t.Errorf("the fetched package has %d bytes that are not those of the source", len(got))
	}
	sum := sha256.Sum256(s.deb())
	if pkg.SHA256 != hex.EncodeToString(sum[:]) || pkg.Size != int64(len(s.deb())) {
		s.t.Errorf("size %d, sum %s do not fit the package", pkg.Size, pkg.SHA256)
	}
	if left := s.cache(); len(left) != 2 {
		s.t.Errorf("the cache holds %v; want the package and its signature", left)
	}
}

func (s *story) cache() (names []string) {
	entries, err := s.source.Files.ReadDir(s.source.CacheDir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// halfway sends the head of the whole answer and half of what is left, then cuts the line.
func halfway(w http.ResponseWriter, r *http.Request, _ int, object []byte) bool {
	from := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(object)-1, len(object)))
	}
	w.Header().Set("ETag", tag(object))
	w.Header().Set("Content-Length", strconv.Itoa(len(object)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(object[from : from+(len(object)-from)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func first(n int, bad fault) fault {
	return func(w http.ResponseWriter, r *http.Request, nth int, object []byte) bool {
		return nth <= n && bad(w, r, nth, object)
	}
}

func status(code int) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ int, _ []byte) bool {
		denied(w, code)
		return true
	}
}

func stall(w http.ResponseWriter, r *http.Request, _ int, object []byte) bool {
	w.Header().Set("Content-Length", strconv.Itoa(len(object)))
	w.Write(object[:len(object)/2])
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
	return true
}

func silent(_ http.ResponseWriter, r *http.Request, _ int, _ []byte) bool {
	<-r.Context().Done()
	return true
}

// under serves the object with another one's validator.
func under(validator string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, object []byte) bool {
		w.Header().Set("ETag", validator)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(object))
		return true
	}
}

// trickle sends the object in ten pieces, each almost a stall after the one before.
func trickle(w http.ResponseWriter, _ *http.Request, _ int, object []byte) bool {
	w.Header().Set("Content-Length", strconv.Itoa(len(object)))
	for i := range 10 {
		time.Sleep(DefaultStall - time.Second)
		w.Write(object[i*len(object)/10 : (i+1)*len(object)/10])
		http.NewResponseController(w).Flush()
	}
	return true
}

// flip changes one bit near the end.
func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1-len(b)/100] ^= 1
	return b
}

// TestBadServers is the table of everything that a server, a proxy or a line can do to a package or its signature.
// Each row is played for both products, once with the package and once with the signature.
func TestBadServers(t *testing.T) {
	rows := []struct {
		name string
		do   func(s *story, key string)
		// What becomes of it when it is done to the package and to the signature; empty is fetched all the same.
		onPackage, onSignature failure.Code
	}{
		{"nothing wrong", func(*story, string) {}, "", ""},
		{"cut at half, always", func(s *story, key string) { s.faults[key] = halfway },
			failure.ArtifactDownload, failure.ArtifactDownload},
		{"cut at half, once", func(s *story, key string) { s.faults[key] = first(1, halfway) }, "", ""},
		{"cut at half, four times", func(s *story, key string) { s.faults[key] = first(4, halfway) }, "", ""},
		{"stored cut", func(s *story, key string) { s.objects[key] = s.objects[key][:len(s.objects[key])/2] },
			failure.ArtifactCorrupt, failure.ArtifactUnsigned},
		{"not there", func(s *story, key string) { delete(s.objects, key) },
			failure.ArtifactMissing, failure.ArtifactUnsigned},
		{"404", func(s *story, key string) { s.faults[key] = status(404) },
			failure.ArtifactMissing, failure.ArtifactUnsigned},
		{"error page with status 200", func(s *story, key string) { s.faults[key] = status(200) },
			failure.ArtifactCorrupt, failure.ArtifactUnsigned},
		{"empty", func(s *story, key string) { s.objects[key] = nil },
			failure.ArtifactCorrupt, failure.ArtifactUnsigned},
		{"503 for ever", func(s *story, key string) { s.faults[key] = status(503) },
			failure.ArtifactDownload, failure.ArtifactDownload},
		{"503 four times", func(s *story, key string) { s.faults[key] = first(4, status(503)) }, "", ""},
		{"429 once", func(s *story, key string) { s.faults[key] = first(1, status(429)) }, "", ""},
		{"stalls for ever", func(s *story, key string) { s.faults[key] = stall },
			failure.ArtifactDownload, failure.ArtifactDownload},
		{"stalls once", func(s *story, key string) { s.faults[key] = first(1, stall) }, "", ""},
		{"no answer once", func(s *story, key string) { s.faults[key] = first(1, silent) }, "", ""},
		{"slow", func(s *story, key string) { s.faults[key] = trickle }, "", ""},
		{"one bit changed", func(s *story, key string) {
			if key == s.key {
				s.objects[key] = flip(s.objects[key])
			} else {
				s.sign(flip(sign(s.t, s.signer, today, s.deb())))
			}
		}, failure.ArtifactCorrupt, failure.ArtifactCorrupt},
	}
	for _, row := range rows {
		for _, ref := range []Ref{ecsRef, ssmRef} {
			for _, on := range []string{"package", "signature"} {
				t.Run(fmt.Sprintf("%s/%s/%s", row.name, ref.Product, on), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := newStory(t, ref)
						key, want := s.key, row.onPackage
						if on == "signature" {
							key, want = s.signature, row.onSignature
						}
						row.do(s, key)
						s.expect(want)
					})
				})
			}
		}
	}
}

// TestBadSignatures is the table of signatures that are whole and may yet prove nothing.
func TestBadSignatures(t *testing.T) {
	rows := []struct {
		name string
		do   func(s *story)
		want failure.Code
		says string // what the message must hold
	}{
		{"not armored", func(s *story) { s.objects[s.signature] = sign(s.t, s.signer, today, s.deb()) }, "", ""},
		{"by a subkey", func(s *story) { s.bySubkey(0) }, "", ""},
		{"by a subkey that had expired", func(s *story) { s.bySubkey(day) }, failure.ArtifactKey, "by the subkey"},
		{"by a key that has expired since", func(s *story) {
			s.sign(sign(s.t, s.expired, today.Add(-500*day), s.deb()))
		}, "", ""},
		{"by a key that had expired", func(s *story) { s.sign(sign(s.t, s.expired, today.Add(-399*day), s.deb())) },
			failure.ArtifactKey, "valid from 2024-09-13 to 2025-10-18"},
		{"by a key that was not made yet", func(s *story) { s.sign(sign(s.t, s.signer, today.Add(-101*day), s.deb())) },
			failure.ArtifactKey, "signed on 2026-08-13"},
		{"by the other product's key", func(s *story) {
			s.sign(sign(s.t, s.other, today, s.deb()))
		}, failure.ArtifactKey, "is not one for"},
		{"by an unknown key", func(s *story) {
			stranger := newKey(s.t, today.Add(-day), 0)
			s.sign(sign(s.t, stranger, today, s.deb()))
		}, failure.ArtifactKey, "is not one for"},
		{"by an unknown key, and by ours", func(s *story) {
			stranger := newKey(s.t, today.Add(-day), 0)
			s.sign(sign(s.t, stranger, today, s.deb()), sign(s.t, s.signer, today, s.deb()))
		}, "", ""},
		{"by a revoked key", func(s *story) {
			revoked := newKey(s.t, today.Add(-50*day), 0)
			s.pin(revoked)
			config := &packet.Config{Time: func() time.Time { return today }}
			if err := revoked.Revoke(packet.KeyCompromised, "lost", config); err != nil {
				s.t.Fatal(err)
			}
			if err := new(Keyring).Add(bytes.NewReader(public(s.t, revoked))); err == nil {
				s.t.Error("a revoked key is taken into the ring")
			}
			var packets bytes.Buffer
			if err := revoked.Serialize(&packets); err != nil {
				s.t.Fatal(err)
			}
			s.source.Keys.entries[len(s.source.Keys.entries)-1].packets = packets.Bytes()
			s.sign(sign(s.t, revoked, today.Add(-day), s.deb()))
		}, failure.ArtifactKey, "revoked"},
		{"in the future", func(s *story) { s.sign(sign(s.t, s.signer, today.Add(25*time.Hour), s.deb())) },
			failure.ArtifactKey, "here it is 2026-11-22T12:00:00Z"},
		{"a little in the future", func(s *story) { s.sign(sign(s.t, s.signer, today.Add(23*time.Hour), s.deb())) }, "", ""},
		{"of other bytes", func(s *story) {
			s.sign(sign(s.t, s.signer, today, flip(s.deb())))
		}, failure.ArtifactCorrupt, "is not what the key"},
		{"of text", func(s *story) {
			s.sign(sign(s.t, s.signer, today, s.deb(), func(sig *packet.Signature) { sig.SigType = packet.SigTypeText }))
		}, failure.ArtifactUnsigned, "is not one"},
		{"with a hash that proves nothing", func(s *story) {
			const hashAt, sha1 = 5, 2 // in the packet; RFC 9580, sections 5.2.3 and 9.5
			sig := sign(s.t, s.signer, today, s.deb())
			sig[hashAt] = sha1
			s.sign(sig)
		}, failure.ArtifactUnsigned, "SHA-1"},
		{"expired itself", func(s *story) {
			life := uint32(time.Hour / time.Second)
			s.sign(sign(s.t, s.signer, today.Add(-day), s.deb(), func(sig *packet.Signature) { sig.SigLifetimeSecs = &life }))
		}, failure.ArtifactUnsigned, "has expired"},
		{"a public key in its place", func(s *story) {
			s.objects[s.signature] = public(s.t, s.signer)
		}, failure.ArtifactUnsigned, "is not one"},
		{"blank", func(s *story) { s.objects[s.signature] = []byte(" \n") }, failure.ArtifactUnsigned, "empty"},
		{"another version, well signed", func(s *story) {
			s.offer(newDeb(s.t, string(s.ref.Product), "1.0.0-1", s.ref.Arch, 1000))
		}, failure.ArtifactCorrupt, "1.0.0-1"},
		{"another architecture, well signed", func(s *story) {
			s.offer(newDeb(s.t, string(s.ref.Product), inside(s.ref), "riscv64", 1000))
		}, failure.ArtifactCorrupt, "riscv64"},
		{"another package, well signed", func(s *story) {
			s.offer(newDeb(s.t, "coreutils", inside(s.ref), s.ref.Arch, 1000))
		}, failure.ArtifactCorrupt, "coreutils"},
	}
	for _, row := range rows {
		for _, ref := range []Ref{ecsRef, ssmRef} {
			t.Run(fmt.Sprintf("%s/%s", row.name, ref.Product), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newStory(t, ref)
					row.do(s)
					if err := s.expect(row.want); err != nil && !strings.Contains(err.Error(), row.says) {
						t.Errorf("%q does not say %q", err, row.says)
					}
				})
			})
		}
	}
}

// expect fetches and holds the end to a code; empty is a good package, which then comes out of the cache without a
// request.
func (s *story) expect(want failure.Code) error {
	s.t.Helper()
	pkg, err := s.source.Fetch(s.t.Context(), s.ref)
	if want != "" {
		if !failure.Is(err, want) {
			s.t.Fatalf("got %+v, %v; want %s", pkg, err, want)
		}
		if _, ok := s.source.Cached(s.t.Context(), s.ref); ok {
			s.t.Error("the cache holds what could not be verified")
		}
		for _, name := range s.cache() {
			if name == s.ref.file() {
				s.t.Error("a file with the package's name is in the cache")
			}
		}
		return err
	}
	if err != nil {
		s.t.Fatalf("%v: %s", err, failure.Of(err).Evidence)
	}
	s.whole(pkg)
	asked := len(s.asked)
	again, err := s.source.Fetch(s.t.Context(), s.ref)
	if err != nil || again != pkg {
		s.t.Errorf("a second time: %+v, %v; want %+v", again, err, pkg)
	}
	if len(s.asked) != asked {
		s.t.Errorf("a second time asked for %v", s.asked[asked:])
	}
	return nil
}

// A connection that breaks is gone on with where it broke: no byte is downloaded twice.
func TestResume(t *testing.T) {
	for _, ref := range []Ref{ecsRef, ssmRef} {
		t.Run(string(ref.Product), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStory(t, ref)
				s.faults[s.key] = first(2, halfway)
				s.expect("")
				size, half := len(s.deb()), len(s.deb())/2
				want := []ask{
					{s.key, "", "", int64(half)},
					{s.key, fmt.Sprintf("bytes=%d-", half), tag(s.deb()), int64((size - half) / 2)},
					{s.key, fmt.Sprintf("bytes=%d-", half+(size-half)/2), tag(s.deb()), int64(size - half - (size-half)/2)},
				}
				if got := s.of(s.key); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("requests\n%v, want\n%v", got, want)
				}
			})
		})
	}
}

// A run that was given up leaves its part to the next one.
func TestResumeInTheNextRun(t *testing.T) {
	rows := []struct {
		name   string
		change func(s *story)
		again  []string // the Range headers of the second run
	}{
		{"same object", func(s *story) {}, []string{"bytes=HALF-"}},
		{"changed object", func(s *story) {
			s.offer(newDeb(s.t, string(s.ref.Product), inside(s.ref), s.ref.Arch, packageSize/3))
		}, []string{"bytes=HALF-"}}, // answered with the whole of the new one
		{"changed object, and a server that does not know If-Range", func(s *story) {
			s.offer(newDeb(s.t, string(s.ref.Product), inside(s.ref), s.ref.Arch, packageSize*2))
			s.faults[s.key] = func(_ http.ResponseWriter, r *http.Request, _ int, _ []byte) bool {
				r.Header.Del("If-Range")
				return false
			}
		}, []string{"bytes=HALF-", ""}},
		{"changed object under the old validator", func(s *story) {
			s.faults[s.key] = under(tag(s.deb()))
			early := bytes.Clone(s.deb())
			early[len(early)/4] ^= 1
			s.offer(early)
		}, []string{"bytes=HALF-", ""}}, // fails to verify, begun anew
		{"changed object of another size under the old validator", func(s *story) {
			s.faults[s.key] = under(tag(s.deb()))
			s.offer(newDeb(s.t, string(s.ref.Product), inside(s.ref), s.ref.Arch, packageSize*2))
		}, []string{"bytes=HALF-", ""}},
		{"a part that was changed on the disk", func(s *story) {
			file, err := s.source.Disk.Append(s.source.path(s.ref) + ".part")
			if err != nil {
				s.t.Fatal(err)
			}
			file.Write([]byte("x"))
			file.Close()
		}, []string{"bytes=MORE-", ""}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStory(t, ecsRef)
				half := len(s.deb()) / 2
				s.faults[s.key] = func(w http.ResponseWriter, r *http.Request, nth int, object []byte) bool {
					if nth > 1 {
						return status(503)(w, r, nth, object)
					}
					return halfway(w, r, nth, object)
				}
				s.expect(failure.ArtifactDownload)
				before := len(s.of(s.key))
				delete(s.faults, s.key)
				row.change(s)
				s.expect("")
				var got []string
				for _, a := range s.of(s.key)[before:] {
					got = append(got, a.rangeOf)
				}
				places := strings.NewReplacer("HALF", strconv.Itoa(half), "MORE", strconv.Itoa(half+1))
				want := places.Replace(fmt.Sprintf("%q", row.again))
				if fmt.Sprintf("%q", got) != want {
					t.Errorf("asked for %q, want %s", got, want)
				}
			})
		})
	}
}

// A server that gives nothing to know the object by again is asked from the start.
func TestNoValidatorNoResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, ecsRef)
		s.faults[s.key] = func(w http.ResponseWriter, r *http.Request, nth int, object []byte) bool {
			w.Header().Set("Content-Length", strconv.Itoa(len(object)))
			if nth == 1 {
				object = object[:len(object)/2]
			}
			w.Write(object)
			return true
		}
		s.expect("")
		for _, a := range s.of(s.key) {
			if a.rangeOf != "" {
				t.Errorf("asked for the range %s", a.rangeOf)
			}
		}
	})
}

// What stalls is told from what is slow, and said.
func TestStallSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, ecsRef)
		s.faults[s.key] = stall
		begun := time.Now()
		err := s.expect(failure.ArtifactDownload)
		if !strings.Contains(err.Error(), "no byte came for 30s") {
			t.Errorf("got %q", err)
		}
		if took := time.Since(begun); took < 5*DefaultStall || took > 10*DefaultStall {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, ecsRef)
		s.faults[s.key] = first(1, halfway)
		var last, highest int64
		ctx := WithProgress(t.Context(), func(done, total int64) {
			if done < last || total != int64(len(s.deb())) {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last, highest = done, max(highest, done)
		})
		if _, err := s.source.Fetch(ctx, s.ref); err != nil {
			t.Fatal(err)
		}
		if highest != int64(len(s.deb())) {
			t.Errorf("the last progress was %d", highest)
		}
	})
}

// An interruption is an interruption, whatever it interrupts, and the part stays.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, ecsRef)
		s.faults[s.key] = stall
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.source.Fetch(ctx, s.ref)
		if !failure.Is(failure.Of(err), failure.Timeout) {
			t.Errorf("got %v (%s)", err, failure.Of(err).Code)
		}
		info, err := s.source.Files.Stat(s.source.path(s.ref) + ".part")
		if err != nil || info.Size() != int64(len(s.deb())/2) {
			t.Errorf("the part: %v, %v", info, err)
		}
	})
}

// A version that AWS has not under its own name any more, or not yet, may be the one under the alias.
func TestLatestAlias(t *testing.T) {
	for _, ref := range []Ref{ecsRef, ssmRef} {
		t.Run(string(ref.Product), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStory(t, ref)
				alias := ref.key(Latest)
				s.objects[alias], s.objects[alias+ref.signature()] = s.deb(), s.objects[s.signature]
				deb := s.deb()
				delete(s.objects, s.key)
				delete(s.objects, s.signature)
				pkg, err := s.source.Fetch(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				s.objects[s.key] = deb
				s.whole(pkg)
			})
		})
		t.Run(string(ref.Product)+"/is another", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStory(t, ref)
				alias := ref.key(Latest)
				s.objects[alias] = newDeb(t, string(ref.Product), "9.9.9-1", ref.Arch, packageSize)
				delete(s.objects, s.key)
				err := s.expect(failure.ArtifactMissing)
				for _, part := range []string{"http://mirror.test/packages/" + s.key, ref.Version} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not name %s", err, part)
					}
				}
				if got := s.of(alias); len(got) != 1 || got[0].sent > maxSmall {
					t.Errorf("the alias was read more than looked at: %v", got)
				}
			})
		})
	}
}

// What is in the cache is verified each time.
func TestCacheIsNotTrusted(t *testing.T) {
	rows := []struct {
		name string
		do   func(s *story, path string) error
	}{
		{"package changed", func(s *story, path string) error {
			return s.source.Disk.WriteFile(path, bytes.NewReader(flip(s.deb())), 0o600, ownerZero)
		}},
		{"signature gone", func(s *story, path string) error { return s.source.Disk.Remove(path + s.ref.signature()) }},
		{"package gone", func(s *story, path string) error { return s.source.Disk.Remove(path) }},
		{"signature of another", func(s *story, path string) error {
			sig := asc(s.t, sign(s.t, s.signer, today, []byte("another")))
			return s.source.Disk.WriteFile(path+s.ref.signature(), bytes.NewReader(sig), 0o600, ownerZero)
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStory(t, ssmRef)
				s.expect("")
				if err := row.do(s, s.source.path(s.ref)); err != nil {
					t.Fatal(err)
				}
				if _, ok := s.source.Cached(t.Context(), s.ref); ok {
					t.Error("the cache was trusted")
				}
				s.expect("")
			})
		})
	}
}

func TestCacheModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, ecsRef)
		s.expect("")
		for path, want := range map[string]string{
			"/var/lib/anywhere": "drwx------", s.source.CacheDir: "drwx------",
			s.source.path(s.ref): "-rw-------", s.source.path(s.ref) + ".asc": "-rw-------",
		} {
			info, err := s.source.Files.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().String() != want {
				t.Errorf("%s is %s, want %s", path, info.Mode(), want)
			}
		}
	})
}

func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, ecsRef)
		s.source.Files = crammed{s.source.Files}
		_, err := s.source.Fetch(t.Context(), s.ref)
		if !failure.Is(err, failure.DiskFull) || !strings.Contains(err.Error(), s.source.CacheDir) {
			t.Errorf("got %v", err)
		}
	})
}

// A mirror in a folder of the host is held to the same rules.
func TestFolder(t *testing.T) {
	s := newStory(t, ecsRef)
	s.source.Base, s.source.HTTP = "/mnt/mirror", &http.Client{Transport: nowhere{}}
	put := func(key string) {
		t.Helper()
		err := s.source.Disk.WriteFile("/mnt/mirror/"+key, bytes.NewReader(s.objects[key]), 0o644, ownerZero)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.source.Fetch(t.Context(), s.ref); !failure.Is(err, failure.ArtifactMissing) {
		t.Fatalf("from an empty folder: %v", err)
	}
	put(s.key)
	if _, err := s.source.Fetch(t.Context(), s.ref); !failure.Is(err, failure.ArtifactUnsigned) {
		t.Fatalf("without a signature: %v", err)
	}
	put(s.signature)
	pkg, err := s.source.Fetch(t.Context(), s.ref)
	if err != nil {
		t.Fatal(err)
	}
	s.whole(pkg)
	s.objects[s.ref.key(Latest)] = s.deb()
	put(s.ref.key(Latest))
	newest := s.ref
	newest.Version = Latest
	if version, err := s.source.Resolve(t.Context(), newest); version != s.ref.Version {
		t.Errorf("the newest is %q, %v", version, err)
	}
}

// nowhere is a network that must not be asked.
type nowhere struct{}

func (nowhere) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, io.ErrClosedPipe
}

// The signature is there when the package is: it was asked for once the package had begun to come.
func TestSignatureComesBesideThePackage(t *testing.T) {
	for _, ref := range []Ref{ecsRef, ssmRef} {
		synctest.Test(t, func(t *testing.T) {
			s := newStory(t, ref)
			asked := make(chan struct{})
			s.faults[s.signature] = func(http.ResponseWriter, *http.Request, int, []byte) bool {
				close(asked)
				return false
			}
			s.faults[s.key] = func(w http.ResponseWriter, r *http.Request, _ int, object []byte) bool {
				w.Header().Set("Content-Length", strconv.Itoa(len(object)))
				w.Write(object[:len(object)/2])
				http.NewResponseController(w).Flush()
				select {
				case <-asked:
				case <-r.Context().Done(): // the client has given up: no byte came
					t.Errorf("%s: the signature was not asked for while the package came", ref.Product)
				}
				w.Write(object[len(object)/2:])
				return true
			}
			pkg, err := s.source.Fetch(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			s.whole(pkg)
		})
	}
}

// Where there is no package there is no reason to look for a signature.
func TestNoSignatureWithoutPackage(t *testing.T) {
	s := newStory(t, ecsRef)
	delete(s.objects, s.key)
	s.expect(failure.ArtifactMissing)
	if asked := s.of(s.signature); len(asked) != 0 {
		t.Errorf("asked for the signature: %v", asked)
	}
}
