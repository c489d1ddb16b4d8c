package artifact

import (
	"context"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func noWait(int) time.Duration { return 0 }

// ready gives the story's source another base and client, and no waiting.
func (s *story) ready(base string, client *http.Client) {
	s.source.Base, s.source.HTTP, s.source.Backoff = base, client, noWait
	s.prefix = ""
}

func TestUntrustedCertificate(t *testing.T) {
	for _, ref := range []Ref{ecsRef, ssmRef} {
		s := newStory(t, ref)
		server := httptest.NewUnstartedServer(s.shelf)
		server.Config.ErrorLog = quiet(t)
		server.StartTLS()
		defer server.Close()
		s.ready(server.URL, &http.Client{Transport: &http.Transport{}})
		s.expect(failure.TLSUntrusted)
		s.ready(server.URL, server.Client())
		s.expect("")
	}
}

// A mirror may redirect, but never out of https.
func TestRedirect(t *testing.T) {
	for _, ref := range []Ref{ecsRef, ssmRef} {
		for _, on := range []string{"package", "signature"} {
			t.Run(string(ref.Product)+"/"+on, func(t *testing.T) {
				s := newStory(t, ref)
				plain := httptest.NewServer(s.shelf)
				defer plain.Close()
				secure := httptest.NewTLSServer(s.shelf)
				defer secure.Close()
				key, want := s.key, failure.ArtifactMissing
				if on == "signature" {
					key, want = s.signature, failure.ArtifactUnsigned
				}
				s.faults[key] = func(w http.ResponseWriter, r *http.Request, _ int, _ []byte) bool {
					if strings.HasPrefix(r.URL.Path, "/elsewhere/") {
						return false
					}
					http.Redirect(w, r, plain.URL+"/elsewhere/"+key, http.StatusFound)
					return true
				}
				s.ready(secure.URL, secure.Client())
				if err := s.expect(want); !strings.Contains(err.Error(), "not https") {
					t.Errorf("got %q", err)
				}
				if got := s.of("elsewhere/" + key); len(got) > 0 {
					t.Errorf("the other place was asked: %v", got)
				}
				s.objects["elsewhere/"+key] = s.objects[key]
				s.faults[key] = func(w http.ResponseWriter, r *http.Request, _ int, _ []byte) bool {
					http.Redirect(w, r, "/elsewhere/"+key, http.StatusFound)
					return true
				}
				s.expect("")
			})
		}
	}
}

// A reset on a real connection is gone on from.
func TestReset(t *testing.T) {
	for _, ref := range []Ref{ecsRef, ssmRef} {
		s := newStory(t, ref)
		server := httptest.NewServer(s.shelf)
		defer server.Close()
		s.ready(server.URL, server.Client())
		reached := make(chan struct{})
		reach := sync.OnceFunc(func() { close(reached) })
		s.faults[s.key] = first(1, func(w http.ResponseWriter, _ *http.Request, _ int, object []byte) bool {
			w.Header().Set("ETag", tag(object))
			w.Header().Set("Content-Length", strconv.Itoa(len(object)))
			w.Write(object[:len(object)/2])
			control := http.NewResponseController(w)
			control.Flush()
			<-reached
			conn, _, err := control.Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			return true
		})
		half := int64(len(s.deb()) / 2)
		ctx := WithProgress(t.Context(), func(done, _ int64) {
			if done == half {
				reach()
			}
		})
		pkg, err := s.source.Fetch(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		s.whole(pkg)
		if got := s.of(s.key); len(got) != 2 || got[1].rangeOf != "bytes="+strconv.FormatInt(half, 10)+"-" {
			t.Errorf("requests %v; want the second from %d on", got, half)
		}
	}
}

func TestUnreachable(t *testing.T) {
	lookups := 0
	missing := func(context.Context, string, string) (net.Conn, error) {
		lookups++
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "mirror.test", IsNotFound: true}}
	}
	closed := func(ctx context.Context, network, address string) (net.Conn, error) {
		lookups++
		return nil, &net.OpError{Op: "dial", Net: network, Err: context.DeadlineExceeded}
	}
	for _, row := range []struct {
		name  string
		dial  func(context.Context, string, string) (net.Conn, error)
		tries int
	}{{"no such host", missing, maxLookups}, {"no answer", closed, maxTries}} {
		t.Run(row.name, func(t *testing.T) {
			lookups = 0
			s := newStory(t, ecsRef)
			s.ready("https://mirror.test", &http.Client{Transport: &http.Transport{DialContext: row.dial}})
			err := s.expect(failure.Network)
			if !strings.Contains(err.Error(), "mirror.test") || lookups != row.tries {
				t.Errorf("after %d tries: %v", lookups, err)
			}
		})
	}
}

func TestBase(t *testing.T) {
	for _, row := range []struct {
		base, want string
		code       failure.Code
	}{
		{"", "https://s3.eu-central-1.amazonaws.com/k", ""},
		{"https://mirror.test/a/", "https://mirror.test/a/k", ""},
		{"http://user:word@mirror.test", "http://user:xxxxx@mirror.test/k", ""},
		{"/srv/mirror", "/srv/mirror/k", ""},
		{"mirror", "", failure.Usage},
		{"ftp://mirror.test", "", failure.Usage},
		{"https://", "", failure.Usage},
		{"https://mirror.test/?a=b", "", failure.Usage},
	} {
		from, err := (&Source{Base: row.base}).origin(region)
		if row.code != "" {
			if !failure.Is(err, row.code) {
				t.Errorf("%q: %v", row.base, err)
			}
			continue
		}
		if err != nil || from.name("k") != row.want {
			t.Errorf("%q: %v, %v; want %s", row.base, from, err, row.want)
		}
	}
}

func TestContentRange(t *testing.T) {
	for value, want := range map[string][2]int64{
		"bytes 10-19/20": {10, 20}, "bytes 0-9/*": {0, 0}, "bytes 5-5/6": {5, 6},
	} {
		if from, total, ok := contentRange(value); !ok || from != want[0] || total != want[1] {
			t.Errorf("%q: %d, %d, %v", value, from, total, ok)
		}
	}
	for _, value := range []string{
		"", "bytes", "bytes */20", "lines 1-2/3", "bytes -1-2/3", "bytes 9-9/9", "bytes 1-2/x", "bytes 1-2",
	} {
		if from, total, ok := contentRange(value); ok {
			t.Errorf("%q is taken as from %d of %d", value, from, total)
		}
	}
}

func TestBackoff(t *testing.T) {
	for attempt := range 100 {
		if got := Backoff(attempt); got < firstBackoff/2 || got > longestBackoff {
			t.Errorf("attempt %d waits %s", attempt, got)
		}
	}
	if Backoff(5) < Backoff(1)*2 {
		t.Error("the waits do not grow")
	}
}

// quiet sends a server's complaints about its clients into the test's log.
func quiet(t *testing.T) *log.Logger { return log.New(t.Output(), "", 0) }
