package preflight

import (
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestAFailureBringsWhatTheCheckSaw(t *testing.T) {
	full := fail(failure.DiskFull, "no room", "free some").with("/var", 7).with("/etc", 9)
	full.ID = "disk.space"
	if got, want := failure.Of(Verdict([]Result{full}, false)).Evidence, `{"/etc":9,"/var":7}`; got != want {
		t.Errorf("evidence of one failure: %q, want %q", got, want)
	}
	bare := fail(failure.DockerAbsent, "none", "install it")
	bare.ID = "docker.presence"
	if got := failure.Of(Verdict([]Result{bare}, false)).Evidence; got != "" {
		t.Errorf("evidence of a check that has none: %q", got)
	}
	if got, want := failure.Of(Verdict([]Result{full, bare}, false)).Evidence, `disk.space: {"/etc":9,"/var":7}`; got != want {
		t.Errorf("evidence of two failures: %q, want %q", got, want)
	}
}
