package simagent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// quick is a clock on which waiting takes no time, up to a bound: what the agents wait for longer than that is for
// ever. It keeps what was waited for.
type quick struct {
	mu    sync.Mutex
	slept []time.Duration
}

const longest = time.Minute

func (q *quick) Now() time.Time { return time.Now() }

func (q *quick) Sleep(ctx context.Context, d time.Duration) error {
	q.mu.Lock()
	q.slept = append(q.slept, d)
	q.mu.Unlock()
	if d > longest {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Millisecond): // lets others run
		return nil
	}
}

// pauses are the waits so far.
func (q *quick) pauses() []time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]time.Duration(nil), q.slept...)
}

// host is a throw-away root with the emulator to register with.
type host struct {
	t     *testing.T
	root  string
	cloud *emulator.Emulator
	url   string
	clock *quick
	out   safeBuffer
}

// safeBuffer is standard output of programs that run while the test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, root: t.TempDir(), cloud: emulator.New(emulator.Options{}), clock: &quick{}}
	server := httptest.NewServer(h.cloud)
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = h.cloud.Close() })
	h.url = server.URL
	h.cloud.AddCluster("demo")
	h.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	h.write("/etc/hostname", "vm\n")
	h.write("/etc/os-release", "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12\"\n")
	h.write("/etc/amazon/ssm/amazon-ssm-agent.json", `{"Ssm":{"Endpoint":"`+h.url+
		`"},"Identity":{"ConsumptionOrder":["OnPrem"]}}`)
	return h
}

func (h *host) place() simagent.Place {
	return simagent.Place{Root: h.root, Env: map[string]string{}, Clock: h.clock, Stdout: &h.out, Stderr: &h.out}
}

func (h *host) ssm() *simagent.SSM { return &simagent.SSM{Place: h.place()} }

func (h *host) write(name, text string) {
	h.t.Helper()
	file := filepath.Join(h.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) read(name string) string {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.root, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

func (h *host) mode(name string) os.FileMode {
	h.t.Helper()
	info, err := os.Stat(filepath.Join(h.root, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return info.Mode().Perm()
}

// identity is the vault's RegistrationKey.
func (h *host) identity() map[string]string {
	h.t.Helper()
	var k map[string]string
	if err := json.Unmarshal([]byte(h.read("/var/lib/amazon/ssm/Vault/Store/RegistrationKey")), &k); err != nil {
		h.t.Fatal(err)
	}
	return k
}

// register runs amazon-ssm-agent -register.
func (h *host) register(id, code string, more ...string) int {
	args := append([]string{"-register", "-id", id, "-code", code, "-region", "us-east-1"}, more...)
	return h.ssm().Main(context.Background(), args)
}

// registered registers with a new activation and returns the mi- id.
func (h *host) registered() string {
	h.t.Helper()
	if code := h.register(h.cloud.AddActivation(1, time.Now().Add(time.Hour))); code != 0 {
		h.t.Fatalf("registration ended with %d: %s", code, h.out.String())
	}
	return h.identity()["instanceID"]
}

// serve runs the service until the test's end or the call of stop, which returns the exit status.
func (h *host) serve() (stop func() int) {
	return h.background(h.ssm().Serve)
}

func (h *host) background(run func(context.Context) int) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	done, code := make(chan struct{}), 0
	go func() {
		defer close(done)
		code = run(ctx)
	}()
	stop = func() int {
		cancel()
		<-done
		return code
	}
	h.t.Cleanup(func() { stop() })
	return stop
}

// until waits for a condition; the agents are other goroutines.
func (h *host) until(what string, condition func() bool) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return
		}
	}
	h.t.Fatalf("%s did not come true; the log is\n%s", what, h.out.String())
}

func (h *host) says(text string) bool { return strings.Contains(h.out.String(), text) }

func (h *host) wants(texts ...string) {
	h.t.Helper()
	for _, text := range texts {
		if !h.says(text) {
			h.t.Errorf("the log lacks %q:\n%s", text, h.out.String())
		}
	}
}

// loopback opens a port and tells its address.
func loopback() (func() (net.Listener, error), func() string) {
	var mu sync.Mutex
	address := ""
	return func() (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				mu.Lock()
				address = l.Addr().String()
				mu.Unlock()
			}
			return l, err
		}, func() string {
			mu.Lock()
			defer mu.Unlock()
			return address
		}
}
