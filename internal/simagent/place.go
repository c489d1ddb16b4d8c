package simagent

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Clock is time as an agent sees it.
type Clock interface {
	Now() time.Time
	// Sleep waits for d or until ctx ends, whose error it then returns.
	Sleep(ctx context.Context, d time.Duration) error
}

// Place is where an agent runs: the machine as far as it can see it. The zero value is the real machine.
type Place struct {
	Root   string            // what the agent takes for "/"; empty means "/"
	Env    map[string]string // its environment, complete; nil is empty
	Docker string            // Docker's socket, a path outside Root; empty means /var/run/docker.sock
	Clock  Clock             // nil means SystemClock
	Pace   float64           // scales the agents' own waiting (retries, backoff, start-up); 0 means 1
	HTTP   *http.Client      // for calls to AWS; nil means one with Go's defaults
	Stdin  io.Reader         // nil is closed
	Stdout io.Writer         // nil discards
	Stderr io.Writer         // nil discards
}

// SystemClock is the machine's own.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// Sleep waits in real time.
func (SystemClock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// path is where a path of the agent's is on the machine that runs it.
func (p *Place) path(name string) string {
	root := p.Root
	if root == "" {
		root = "/"
	}
	return filepath.Join(root, name)
}

func (p *Place) clock() Clock {
	if p.Clock == nil {
		return SystemClock{}
	}
	return p.Clock
}

func (p *Place) now() time.Time { return p.clock().Now() }

// pause waits as long as the real agent would, at the place's pace.
func (p *Place) pause(ctx context.Context, d time.Duration) error {
	if p.Pace > 0 {
		d = time.Duration(float64(d) * p.Pace)
	}
	return p.clock().Sleep(ctx, d)
}

func (p *Place) client() *http.Client {
	if p.HTTP == nil {
		return &http.Client{Timeout: 60 * time.Second}
	}
	return p.HTTP
}

func (p *Place) socket() string {
	if p.Docker == "" {
		return "/var/run/docker.sock"
	}
	return p.Docker
}

func (p *Place) stdout() io.Writer { return orDiscard(p.Stdout) }

func (p *Place) stderr() io.Writer { return orDiscard(p.Stderr) }

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// writeFile replaces a file with a mode; the folders above it must be there.
func (p *Place) writeFile(name string, data []byte, mode os.FileMode) error {
	file := p.path(name)
	if err := os.WriteFile(file, data, mode); err != nil {
		return err
	}
	return os.Chmod(file, mode)
}
