package ssmagent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

func TestSession(t *testing.T) {
	for _, test := range []struct {
		name, want string
		stats      map[string]string
	}{
		{"a shell by SSH", "", map[string]string{"self": "9 (anywhere) S 8 9", "8": "8 (bash) S 7 8", "7": "7 (sshd) S 1 7"}},
		{"Session Manager", "ssm-session-wor (pid 6)", map[string]string{
			"self": "9 (anywhere) S 8 9", "8": "8 (sudo) S 7 8", "7": "7 (sh) S 6 7", "6": "6 (ssm-session-wor) S 5 6",
		}},
		{"Run Command", "ssm-document-wo (pid 7)", map[string]string{
			"self": "9 (anywhere) S 8 9", "8": "8 (sh) S 7 8", "7": "7 (ssm-document-wo) S 1 7",
		}},
		{"a name that looks like the end of one", "", map[string]string{"self": "9 (x) S 1 (ssm-session-wor) S 8 9", "8": "8 (a) S 1 8"}},
		{"a parent that has ended", "", map[string]string{"self": "9 (anywhere) S 8 9"}},
		{"a circle", "", map[string]string{"self": "9 (anywhere) S 8 9", "8": "8 (a) S 8 8"}},
		{"no /proc", "", nil},
		{"not what it should be", "", map[string]string{"self": "nonsense"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for pid, text := range test.stats {
				dir := filepath.Join(root, "proc", pid)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := Session(host.Reader{Files: host.NewDir(root)}); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
