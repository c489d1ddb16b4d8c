package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// The program for arm64 runs, by user-mode emulation: what it says of the machine, what it takes for it, and a whole
// registration in a rehearsal with packages for arm64.
func TestARM64(t *testing.T) {
	t.Parallel()
	run := func(args ...string) (said []byte, rc int) {
		t.Helper()
		cmd := exec.Command("qemu-aarch64-static", append([]string{lab.Shared("anywhere-arm64")}, args...)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		said, err := cmd.Output()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if !json.Valid(said) {
			t.Fatalf("%v: %s\n%s", args, said, errs.String())
		}
		if err := contract.Check(said); err != nil {
			t.Error(err)
		}
		return said, cmd.ProcessState.ExitCode()
	}

	if said, rc := run("version", "-o", "json"); rc != 0 || !strings.Contains(string(said), `"command":"version"`) {
		t.Errorf("version: %d, %s", rc, said)
	}
	said, _ := run("preflight", "--offline", "--only", "os.arch", "-o", "json")
	var c checks
	must(t, json.Unmarshal(said, &c))
	if status, detail, _ := c.find(t, "os.arch"); status != "pass" || detail != "arm64" {
		t.Errorf("os.arch: %s, %s", status, detail)
	}

	s := newSite(t, packages.Options{Arch: "arm64"}, packages.Options{Arch: "arm64"})
	keys := filepath.Join(t.TempDir(), "keys.asc")
	must(t, os.WriteFile(keys, s.mirror.Keyring(), 0o644))
	dir := filepath.Join(t.TempDir(), "mirror")
	said, rc := run("mirror", dir, "--region", region, "--platform", "ubuntu-24.04/arm64", "--artifacts", s.url, "--keyring", keys, "-o", "json")
	var d mirrored
	if err := json.Unmarshal(said, &d); err != nil || rc != 0 || len(d.Result.Packages) != 2 || d.Result.Packages[0].Arch != "arm64" {
		t.Errorf("mirror: %d, %v, %s", rc, err, said)
	}

	said, rc = run("rehearse", "register", "-o", "json")
	if rc != 0 || !strings.Contains(string(said), "ACTIVE and connected") {
		t.Errorf("rehearse register: %d, %s", rc, said)
	}
}
