package artifact

import (
	"archive/tar"
	"bytes"
	"crypto"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// bulk is a package of any size that nobody holds in memory: a head, then zeros.
type bulk struct {
	head []byte
	size int64
}

func newBulk(t testing.TB, ref Ref, size int64) bulk {
	control := newTar(t, []tar.Header{{Name: "control"}}, controlText(string(ref.Product), inside(ref), ref.Arch))
	head := newArchive(member{"debian-binary", []byte("2.0\n")}, member{"control.tar", control})
	head = append(head, memberHeader("data.tar", size)...)
	return bulk{head, int64(len(head)) + size}
}

func (b bulk) reader() io.Reader {
	return io.MultiReader(bytes.NewReader(b.head), io.LimitReader(zeros{}, b.size-int64(len(b.head))))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// serveBulk starts a server with the package and its signature.
func serveBulk(t testing.TB, ref Ref, b bulk, signer *openpgp.Entity) *httptest.Server {
	sig := &packet.Signature{
		Version: signer.PrimaryKey.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: signer.PrimaryKey.PubKeyAlgo,
		Hash: crypto.SHA256, CreationTime: today, IssuerKeyId: &signer.PrimaryKey.KeyId,
	}
	h, err := sig.PrepareSign(nil)
	if err == nil {
		_, err = io.Copy(h, b.reader())
	}
	if err == nil {
		err = sig.Sign(h, signer.PrivateKey, nil)
	}
	var signature bytes.Buffer
	if err == nil {
		err = sig.Serialize(&signature)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/" + ref.key(ref.Version):
			w.Header().Set("Content-Length", strconv.FormatInt(b.size, 10))
			io.Copy(w, b.reader())
		case "/" + ref.key(ref.Version) + ref.signature():
			w.Write(signature.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// A package is never in memory: fetching 100 MB allocates, all in all, less than a tenth of it.
func TestBoundedMemory(t *testing.T) {
	const size, most = 100 << 20, 10 << 20
	signer := newKey(t, today.Add(-day), 0)
	b := newBulk(t, ssmRef, size)
	server := serveBulk(t, ssmRef, b, signer)
	source := newSource(t, server.URL, server.Client(), newRing(t, map[Product][]*openpgp.Entity{SSMAgent: {signer}}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pkg, err := source.Fetch(t.Context(), ssmRef)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if pkg.Size != b.size {
		t.Errorf("fetched %d bytes, want %d", pkg.Size, b.size)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > most {
		t.Errorf("fetching %d MB allocated %d MB", size>>20, grown>>20)
	}
}

func BenchmarkFetch(b *testing.B) {
	const size = 32 << 20 // about an SSM agent
	signer := newKey(b, today.Add(-day), 0)
	stuff := newBulk(b, ssmRef, size)
	server := serveBulk(b, ssmRef, stuff, signer)
	ring := newRing(b, map[Product][]*openpgp.Entity{SSMAgent: {signer}})
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		source := newSource(b, server.URL, server.Client(), ring)
		if _, err := source.Fetch(b.Context(), ssmRef); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	const size = 32 << 20
	signer := newKey(b, today.Add(-day), 0)
	server := serveBulk(b, ssmRef, newBulk(b, ssmRef, size), signer)
	source := newSource(b, server.URL, server.Client(), newRing(b, map[Product][]*openpgp.Entity{SSMAgent: {signer}}))
	if _, err := source.Fetch(b.Context(), ssmRef); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		if _, ok := source.Cached(b.Context(), ssmRef); !ok {
			b.Fatal("not in the cache")
		}
	}
}
