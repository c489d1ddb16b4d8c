package ecsagent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

func TestUnitOf(t *testing.T) {
	const suse = "amazon-ecs.service"
	for _, test := range []struct {
		name  string
		files []string
		want  string
	}{
		{"", nil, Unit},
		{Unit, []string{"/usr/lib/systemd/system/" + suse}, Unit},
		{suse, nil, suse},
		{suse, []string{"/usr/lib/systemd/system/ecs.service"}, Unit},
		{suse, []string{"/usr/lib/systemd/system/" + suse}, suse},
		{suse, []string{"/usr/lib/systemd/system/" + suse, "/lib/systemd/system/ecs.service"}, suse},
	} {
		root := t.TempDir()
		for _, file := range test.files {
			if err := os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := UnitOf(host.NewDir(root), test.name); got != test.want {
			t.Errorf("%q with %v: %s, want %s", test.name, test.files, got, test.want)
		}
	}
}

// What people are told to type names the unit that is there.
func TestTyped(t *testing.T) {
	const suse = "amazon-ecs.service"
	for remedy, want := range map[string]string{
		"correct it; then systemctl restart ecs":                  "correct it; then systemctl restart " + suse,
		"systemctl enable --now ecs":                              "systemctl enable --now " + suse,
		"systemctl restart ecs.service; tasks run on":             "systemctl restart " + suse + "; tasks run on",
		"journalctl -u ecs -u amazon-ssm-agent -n 50 says why":    "journalctl -u " + suse + " -u amazon-ssm-agent -n 50 says why",
		"docker logs ecs-agent; tail -n 50 /var/log/ecs/init.log": "docker logs ecs-agent; tail -n 50 /var/log/ecs/init.log",
	} {
		if got := Typed(suse, remedy); got != want {
			t.Errorf("%q; want %q", got, want)
		}
		if got := Typed(Unit, remedy); got != remedy {
			t.Errorf("%q of %q, on a host with the usual unit", got, remedy)
		}
	}
}
