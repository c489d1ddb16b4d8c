package rehearsal

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
)

// Somebody's own files tell Docker and the agents of proxies with passwords in every form that works: without a scheme, with an @ or a slash that
// nobody encoded, encoded, in JSON, and have a registry's password. All verbs meet them, loudly; the passwords stay where they stood, and after the
// registration the files are as they were, modes included.
func TestNoVerbTellsTheSecretsThatItMeets(t *testing.T) {
	t.Parallel()
	env, _, said := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.anotherToken()
	theirs := map[string]string{
		"etc/ecs/ecs.config": "# ours\nECS_LOGLEVEL=info\nHTTPS_PROXY=squid:c4n4ry-a@proxy.example.com:3128\n",
		"etc/systemd/system/docker.service.d/http-proxy.conf":         "[Service]\nEnvironment=\"HTTPS_PROXY=http://squid:c4n4ry-b@b@proxy.example.com:3128\"\n",
		"etc/systemd/system/amazon-ssm-agent.service.d/10-proxy.conf": "[Service]\nEnvironment=https_proxy=squid:c4n4ry%%2Fc@proxy.example.com:3128\n",
		"etc/docker/daemon.json":                                      `{"proxies": {"http-proxy": "http://squid:c4n4ry/d@proxy.example.com:3128"}}`,
		"etc/systemd/system/ecs.service.d/20-someone.conf":            "[Service]\nEnvironment=HTTP_PROXY=http://c4n4ry-token@proxy.example.com:3128\n",
	}
	for name, text := range theirs {
		s.write(t, name, text)
		if err := os.Chmod(filepath.Join(s.machine.root, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const auth = `ECS_ENGINE_AUTH_DATA={"https://registry.example.com":{"username":"u","password":"c4n4ry-registry","email":"u@example.com"}}`
	register := []string{"--verbose", "--ecs-config", auth, "--ecs-config", "ECS_ENGINE_AUTH_TYPE=docker"}
	var told []byte
	run := func(changed bool, l line, flags ...string) {
		t.Helper()
		l.extra = true
		c, err := s.play(t.Context(), l, cli.RehearseRequest{Args: flags})
		told = append(append(told, c.Document...), strings.Join(append(append(c.Argv, c.Changed...), c.Line), "\n")...)
		for _, d := range c.Diffs {
			told = append(told, strings.Join(d.Lines, "\n")...)
		}
		var d struct{ Changed bool }
		if err != nil && changed || json.Unmarshal(c.Document, &d) != nil || d.Changed != changed {
			t.Errorf("%s: %v: %s", c.Line, err, c.Document)
		}
	}
	verb := func(words ...string) line { return line{args: words, operator: true} }
	run(false, verb("preflight", "--region", region), "-v")
	run(false, withToken, append(register, "--dry-run")...)
	run(true, withToken, register...)
	run(false, plain, register...)
	record := s.read(t, "var/lib/anywhere/record.json")
	if !strings.Contains(record, "ECS_ENGINE_AUTH_DATA") || !strings.Contains(record, "sha256:") {
		t.Errorf("the record does not know the setting again:\n%s", record)
	}
	if info, err := os.Stat(filepath.Join(s.machine.root, "etc/ecs/ecs.config")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of ecs.config is %v, %v: it has a registry's password", info.Mode(), err)
	}
	run(false, verb("config", "show"), "-v")
	run(false, verb("status"), "-v")
	run(false, verb("doctor"), "-v")
	run(false, verb("operation", "show"), "-v")
	run(false, verb("upgrade", "--check"), "-v")
	run(false, verb("move", "--cluster", target), "-v", "--dry-run")
	run(true, verb("move", "--cluster", target, "--yes"), "-v")
	run(false, verb("deregister", "--yes", "--dry-run"), "-v")

	holds := func() (names []string) {
		err := filepath.WalkDir(s.machine.root, func(at string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			if text, err := os.ReadFile(at); err != nil || bytes.Contains(text, []byte("c4n4ry")) {
				name, _ := filepath.Rel(s.machine.root, at)
				names = append(names, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	var want []string
	for name := range theirs {
		want = append(want, name)
	}
	slices.Sort(want)
	if got := holds(); !slices.Equal(got, want) {
		t.Errorf("registered, the passwords are in %q, want %q", got, want)
	}
	run(true, verb("deregister", "--yes"), "-v")
	if got := holds(); !slices.Equal(got, want) {
		t.Errorf("deregistered, the passwords are in %q, want %q", got, want)
	}
	told = append(told, said.Bytes()...)
	for rest := told; ; {
		at := bytes.Index(rest, []byte("c4n4ry"))
		if at < 0 {
			break
		}
		t.Errorf("it is told: …%s…", rest[max(0, at-200):min(len(rest), at+60)])
		rest = rest[at+6:]
	}
	for name, text := range theirs {
		info, err := os.Stat(filepath.Join(s.machine.root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if now := s.read(t, name); now != text || info.Mode().Perm() != 0o644 {
			t.Errorf("%s has mode %v and is now\n%s", name, info.Mode(), now)
		}
	}
}
