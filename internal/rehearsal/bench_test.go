package rehearsal

import (
	"context"
	"crypto/rand"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

var joining = line{args: []string{"register", "--token", "-"}, token: true}

func benchStage(b *testing.B) *stage {
	b.Helper()
	env, _, _ := world()
	env.Streams.Out, env.Streams.Err = io.Discard, io.Discard
	s, err := newStage(b.TempDir(), env, true)
	if err != nil {
		b.Fatal(err)
	}
	s.anotherToken()
	return s
}

// command runs a command line as play does, without looking at the host before and after.
func (s *stage) command(b *testing.B, l line, flags ...string) {
	b.Helper()
	args := append(s.args(l), flags...)
	if rc := cli.Main(context.Background(), s.env(l), args); rc != 0 {
		b.Fatalf("anywhere %s ended with exit status %d", strings.Join(args, " "), rc)
	}
}

// BenchmarkPreflight is the local preflight, from the command line to its last word.
func BenchmarkPreflight(b *testing.B) {
	s := benchStage(b)
	defer s.close()
	for b.Loop() {
		s.command(b, line{args: []string{"preflight", "--offline"}})
	}
}

// BenchmarkRegisterAgain is a register that finds everything as it should be.
func BenchmarkRegisterAgain(b *testing.B) {
	s := benchStage(b)
	defer s.close()
	s.command(b, joining)
	for b.Loop() {
		s.command(b, line{args: []string{"register"}})
	}
}

// BenchmarkRegisterBig registers a host with packages of 100 MB each, and reports the heap at its largest. That is more
// than the command's own: the simulated agents and AWS are in it too. The time has little to say: agents and steps wait
// for one another.
func BenchmarkRegisterBig(b *testing.B) {
	const size = 100 << 20
	buckets, keyring := bigPackages(b, size)
	server := httptest.NewServer(http.FileServer(http.Dir(buckets))) // the emulator holds what it serves in memory
	defer server.Close()
	most := uint64(0)
	for b.Loop() {
		b.StopTimer()
		s := benchStage(b)
		s.keyring = keyring
		runtime.GC()
		b.StartTimer()
		most = max(most, peakHeap(func() { s.command(b, joining, "--artifacts", server.URL) }))
		b.StopTimer()
		if info, err := s.machine.disk.Stat(bulkFile); err != nil || info.Size() != size {
			b.Fatalf("what was installed is not big: %v, %v", info, err)
		}
		s.close()
		b.StartTimer()
	}
	b.ReportMetric(float64(most)/1e6, "peak-heap-MB")
}

// peakHeap is the largest heap, in bytes and with its garbage, that was seen while work ran.
func peakHeap(work func()) (most uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	for tick := time.NewTicker(time.Millisecond); ; {
		metrics.Read(sample)
		most = max(most, sample[0].Value.Uint64())
		select {
		case <-tick.C:
		case <-done:
			tick.Stop()
			return most
		}
	}
}

const bulkFile = "/usr/share/bulk"

// bigPackages are the rehearsal's buckets, each package with a file of so many bytes more that cannot be compressed.
func bigPackages(b *testing.B, size int) (buckets, keyring string) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	key, err := newSigner()
	must(err)
	public, err := key.public()
	must(err)
	root := b.TempDir()
	buckets, keyring = filepath.Join(root, "s3"), filepath.Join(root, "key.asc")
	must(os.WriteFile(keyring, public, 0o600))
	must(os.Mkdir(buckets, 0o755))
	must(fillBuckets(host.NewDir(buckets), region, key))
	must(filepath.WalkDir(buckets, func(at string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(at, ".deb") {
			return err
		}
		data, err := grown(at, size)
		if err != nil {
			return err
		}
		signature, err := key.sign(data)
		if err != nil {
			return err
		}
		for _, suffix := range []string{".sig", ".asc"} {
			if _, err := os.Stat(at + suffix); err == nil {
				must(os.WriteFile(at+suffix, signature, 0o600))
			}
		}
		return os.WriteFile(at, data, 0o600)
	}))
	return buckets, keyring
}

// grown is the package at a path with one more file.
func grown(at string, size int) ([]byte, error) {
	bulk := make([]byte, size)
	if _, err := rand.Read(bulk); err != nil {
		return nil, err
	}
	contents := map[string]string{bulkFile: string(bulk)}
	err := artifact.Extract(context.Background(), host.NewDir("/"), at, func(f artifact.File) error {
		text, err := io.ReadAll(f.Body)
		contents["/"+f.Name] = string(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	name, version := ecsagent.Package, ecsVersion
	if strings.HasPrefix(filepath.Base(at), ssmagent.Package) {
		name, version = ssmagent.Package, ssmVersion+"-1"
	}
	return deb(name, version, goarch(), contents)
}

// BenchmarkStatus is the status of a registered host, from the command line to its last word.
func BenchmarkStatus(b *testing.B) {
	s := benchStage(b)
	defer s.close()
	s.command(b, joining)
	s.command(b, line{args: []string{"status"}}) // which waits for the connection that is being made
	for b.Loop() {
		s.command(b, line{args: []string{"status"}})
	}
}
