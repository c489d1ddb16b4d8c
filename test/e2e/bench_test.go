package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// The line between the host and AWS in the benchmark, and what makes the packages as large as AWS's: that is what AWS's
// install script was measured with (docs/benchmarks.md).
const (
	lineRate  = 20e6 // bytes a second, of all downloads together
	lineDelay = 40 * time.Millisecond
	// lineBuffer is what it keeps ready while this process wakes up late, as every router does.
	lineBuffer = 10 * time.Millisecond

	ssmBallast = 78 << 20 // a package of 32 MB
	ecsBallast = 71 << 20 // an image of 84 MB, in a package of 21 MB
)

// BenchmarkRegister is register on a host that has Docker and nothing else, from the command line to its last word. It
// reports the whole (total) and each step, as the median of the runs. The time before the first step is in two parts:
// looking at the host, checking it and settling versions (check); and the downloads with their verification (download).
// Beside it, on the same host: the local preflight before (preflight), and the same register once more (again).
func BenchmarkRegister(b *testing.B) {
	s := newSite(b, packages.Options{Ballast: ssmBallast, Compression: "gzip"}, packages.Options{Ballast: ecsBallast})
	s.url = longLine(b, s)
	for _, deb := range []string{
		"amazon-ssm-" + region + "/latest/debian_amd64/amazon-ssm-agent.deb",
		"amazon-ecs-agent-" + region + "/amazon-ecs-init-latest.amd64.deb",
	} {
		info, err := os.Stat(filepath.Join(s.mirror.Dir, deb))
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%s has %.1f MB", deb, float64(info.Size())/1e6)
	}
	var t times
	for b.Loop() {
		b.StopTimer()
		h := s.host(lab.Host{Synced: true})
		command := s.register(s.token(1))
		checked := s.read(h.Run(lab.Cmd{Args: []string{"anywhere", "preflight", "--offline", "-o", "json"}}))
		if checked.Error != nil && checked.Error.Code != "preflight_failed" { // the lab has no AWS to find
			b.Fatalf("preflight: %+v", *checked.Error)
		}
		b.StartTimer()
		begun := time.Now()
		res := h.Run(command)
		whole := time.Since(begun)
		b.StopTimer()
		d := s.read(res)
		if res.Exit != 0 || d.Result.Verified != "local" {
			b.Fatalf("register: %v", res)
		}
		log := readLog(b, h)
		t.note("check", log.at("fetching", false).Sub(log[0].Time))
		t.note("download", log.at("fetched", true).Sub(log.at("fetching", false)))
		for _, step := range d.Steps {
			t.note(step.ID, time.Duration(step.DurationMs)*time.Millisecond)
		}
		t.note("total", whole)
		again := s.mustRegister(h, s.register(""))
		t.note("again", time.Duration(again.DurationMs)*time.Millisecond)
		t.note("preflight", time.Duration(checked.DurationMs)*time.Millisecond)
		b.Logf("total %v\n%s", whole.Round(time.Millisecond), log)
		h.Kill()
		b.StartTimer()
	}
	t.report(b)
}

// times are how long each part took, in the order in which they were first seen.
type times struct {
	order []string
	took  map[string][]time.Duration
}

func (t *times) note(what string, took time.Duration) {
	if t.took == nil {
		t.took = map[string][]time.Duration{}
	}
	if t.took[what] == nil {
		t.order = append(t.order, what)
	}
	t.took[what] = append(t.took[what], took)
}

func (t *times) report(b *testing.B) {
	b.Helper()
	var table strings.Builder
	fmt.Fprintf(&table, "%-14s %6s %6s %6s\n", "", "median", "least", "most")
	for _, what := range t.order {
		all := slices.Sorted(slices.Values(t.took[what]))
		middle, least, most := all[len(all)/2].Seconds(), all[0].Seconds(), all[len(all)-1].Seconds()
		b.ReportMetric(middle, what+"-s")
		fmt.Fprintf(&table, "%-14s %6.2f %6.2f %6.2f\n", what, middle, least, most)
	}
	b.Logf("register, %d runs, seconds:\n%s", len(t.took["total"]), &table)
}

// runEvents is the run's own log.
type runEvents []struct {
	Time                         time.Time
	Msg, Event, Step, Text, Argv string
	Request                      string
	TookMs                       int64
}

func readLog(b *testing.B, h *lab.Machine) runEvents {
	b.Helper()
	text, err := h.ReadFile(runLog)
	if err != nil {
		b.Fatal(err)
	}
	var log runEvents
	for line := range bytes.Lines(text) {
		log = append(log, runEvents{{}}...)
		if err := json.Unmarshal(line, &log[len(log)-1]); err != nil {
			b.Fatal(err)
		}
	}
	return log
}

// at is when an event was there first, or last.
func (l runEvents) at(event string, last bool) (at time.Time) {
	for _, e := range l {
		if e.Event == event {
			if at = e.Time; !last {
				break
			}
		}
	}
	return at
}

func (l runEvents) String() string {
	var s strings.Builder
	for _, e := range l {
		what := strings.Fields(strings.Join([]string{e.Event, e.Step, e.Text, e.Argv, e.Request}, " "))
		fmt.Fprintf(&s, "%6.3f %-7s %s\n", e.Time.Sub(l[0].Time).Seconds(), e.Msg, strings.Join(what, " "))
	}
	return s.String()
}

// longLine serves the site's AWS and its buckets over a line of lineRate and lineDelay, and returns its URL.
func longLine(b *testing.B, s *site) string {
	b.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(lab.Address, "0"))
	if err != nil {
		b.Fatal(err)
	}
	buckets := http.FileServer(http.Dir(s.mirror.Dir)) // the emulator would sum up each object at each request
	var shared rate
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(lineDelay)
			if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/amazon-") {
				buckets.ServeHTTP(&slowWriter{w, &shared}, r)
				return
			}
			s.aws.ServeHTTP(w, r)
		})}
	go func() { _ = server.Serve(listener) }() // it ends with ErrServerClosed
	b.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

// rate lets so many bytes pass a second, whoever they are from.
type rate struct {
	mu   sync.Mutex
	free time.Time // when the line has sent all that it was given
}

// send returns when n bytes have gone over the line.
func (r *rate) send(n int) {
	r.mu.Lock()
	if earliest := time.Now().Add(-lineBuffer); r.free.Before(earliest) {
		r.free = earliest
	}
	r.free = r.free.Add(time.Duration(float64(n) / lineRate * float64(time.Second)))
	until := r.free
	r.mu.Unlock()
	time.Sleep(time.Until(until))
}

// slowWriter is an answer that shares the line with others.
type slowWriter struct {
	http.ResponseWriter
	line *rate
}

func (w *slowWriter) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, 16<<10) {
		w.line.send(len(part))
		written, err := w.ResponseWriter.Write(part)
		n += written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
