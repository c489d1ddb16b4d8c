package artifact

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

func TestPrune(t *testing.T) {
	root := t.TempDir()
	dir := host.NewDir(root)
	s := &Source{Disk: dir, Files: dir, CacheDir: "/cache"}
	ref := func(version string) Ref {
		return Ref{Product: SSMAgent, Version: version, Family: Deb, Arch: "amd64", Region: "eu-central-1"}
	}
	if err := s.Prune(ref("3.3.2.0")); err != nil {
		t.Errorf("without a cache: %v", err)
	}
	for _, name := range []string{
		"amazon-ssm-agent_3.3.1.0_amd64.deb", "amazon-ssm-agent_3.3.1.0_amd64.deb.sig", "amazon-ssm-agent_3.3.2.0_amd64.deb",
		"amazon-ssm-agent_3.3.2.0_amd64.deb.sig", "amazon-ssm-agent_3.3.3.0_amd64.deb.part", "amazon-ecs-init_1.105.1-1_amd64.deb", "notes",
	} {
		if err := dir.WriteFile("/cache/"+name, strings.NewReader("x"), 0o600, host.Owner{UID: os.Getuid(), GID: os.Getgid()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "cache", "amazon-ssm-agent_folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(); err != nil {
		t.Error(err)
	}
	if err := s.Prune(ref("3.3.2.0-1")); err != nil { // as dpkg calls it
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Join(root, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{"amazon-ecs-init_1.105.1-1_amd64.deb", "amazon-ssm-agent_3.3.2.0_amd64.deb", "amazon-ssm-agent_3.3.2.0_amd64.deb.sig", "amazon-ssm-agent_folder", "notes"}
	if !slices.Equal(left, want) {
		t.Errorf("left are %q", left)
	}
	if ref("3.3.2.0-1").Canonical() != ref("3.3.2.0") || ref("").Canonical() != ref("") || s.File(ref("3.3.2.0-1")) != "/cache/amazon-ssm-agent_3.3.2.0_amd64.deb" {
		t.Error("two names of one package differ")
	}
}
