package host

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestLeave(t *testing.T) {
	s, b := newSystemd(t)
	if err := s.Leave(t.Context(), "one.scope", "a test"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.scopes, []string{"one.scope"}) || !slices.Equal(b.moved, []uint32{uint32(os.Getpid())}) { //nolint:gosec // no pid is negative
		t.Errorf("systemd was asked for %v with %v", b.scopes, b.moved)
	}
	b.result = "failed"
	if err := s.Leave(t.Context(), "two.scope", "a test"); !failure.Is(err, failure.ServiceFailed) || !strings.Contains(err.Error(), "two.scope") {
		t.Errorf("a job that failed: %v", err)
	}
	b.refuse = errors.New("no")
	if err := s.Leave(t.Context(), "three.scope", "a test"); !failure.Is(err, failure.ServiceFailed) {
		t.Errorf("a refusal: %v", err)
	}
}
