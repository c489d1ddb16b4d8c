package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// shelf is a web server with a bucket's objects. Each may have a fault.
type shelf struct {
	prefix  string            // of all paths, like "packages/"
	objects map[string][]byte // by path without the leading slash and the prefix
	faults  map[string]fault

	mu    sync.Mutex
	asked []ask
}

// ask is a request as the shelf saw it.
type ask struct {
	key, rangeOf, ifRange string
	sent                  int64 // bytes of bodies
}

// fault answers the nth request, counted from 1, of an object in its own way; false leaves it to the shelf.
type fault func(w http.ResponseWriter, r *http.Request, nth int, object []byte) bool

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path[1:], s.prefix)
	s.mu.Lock()
	nth := 1
	for _, a := range s.asked {
		if a.key == key {
			nth++
		}
	}
	s.asked = append(s.asked, ask{key, r.Header.Get("Range"), r.Header.Get("If-Range"), 0})
	index := len(s.asked) - 1
	object, ok := s.objects[key]
	fault := s.faults[key]
	s.mu.Unlock()
	counted := &countingWriter{ResponseWriter: w}
	defer func() {
		s.mu.Lock()
		s.asked[index].sent = counted.n
		s.mu.Unlock()
	}()
	if fault != nil && fault(counted, r, nth, object) {
		return
	}
	if !ok {
		denied(counted, http.StatusForbidden)
		return
	}
	w.Header().Set("ETag", tag(object))
	http.ServeContent(counted, r, "", time.Time{}, bytes.NewReader(object))
}

// of are the requests of one object.
func (s *shelf) of(key string) (asked []ask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if a.key == key {
			asked = append(asked, a)
		}
	}
	return asked
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// denied is S3's answer for an object that is not there.
func denied(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<Error><Code>AccessDenied</Code></Error>")
}

// pipes is a listener without a network: inside a synctest bubble its time is the bubble's.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { close(p); return nil } // the server calls it once
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve starts the shelf and returns a client that reaches nothing else.
func (s *shelf) serve(t testing.TB) *http.Client {
	t.Helper()
	listener := make(pipes)
	server := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	transport := &http.Transport{DialContext: listener.dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		<-done
	})
	return &http.Client{Transport: transport}
}

// newSource is a Source whose host is a folder of the test.
func newSource(t testing.TB, base string, client *http.Client, keys *Keyring) *Source {
	t.Helper()
	disk := host.NewDir(t.TempDir())
	return &Source{
		Base: base, HTTP: client, Keys: keys, Disk: disk, Files: disk, CacheDir: "/var/lib/anywhere/packages",
		Now: func() time.Time { return today },
	}
}

func tag(object []byte) string { return fmt.Sprintf(`"%x"`, sha256.Sum256(object)) }

var ownerZero host.Owner

// crammed is a disk with next to no room.
type crammed struct{ host.Files }

func (crammed) Space(string) (uint64, error) { return spareDisk + packageSize, nil }
