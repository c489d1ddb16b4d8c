package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

func TestLast(t *testing.T) {
	m := testMachine(t)
	if p, err := newEngine(m, "look").Last(); p != nil || err != nil {
		t.Fatalf("of a new host: %+v, %v", p, err)
	}
	if _, err := newEngine(m, "one").Apply(t.Context(), planOf(writing...), Options{}); err != nil {
		t.Fatal(err)
	}
	p, err := newEngine(m, "look").Last()
	if err != nil || p == nil || p.Verb != planOf().Verb || p.RunID != "one" || p.How != endDone || p.Started.IsZero() || p.Ended.Before(p.Started) {
		t.Fatalf("%+v, %v", p, err)
	}
	halfway(t, m, removing...)
	if _, err := newEngine(m, "undo").Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, err = newEngine(m, "look").Last(); err != nil || p.How != endUndone {
		t.Errorf("%+v, %v", p, err)
	}
	m.put(journalFile, "garbage")
	if _, err := newEngine(m, "look").Abandon(); err != nil {
		t.Fatal(err)
	}
	if p, err = newEngine(m, "look").Last(); err != nil || p.How != endAbandoned || p.Ended.IsZero() {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestAtWork(t *testing.T) {
	const name, said = "/run/lock/x.lock", "pid 4711, run run-9"
	list := func(kind, pid string) string {
		return "1: POSIX  ADVISORY  WRITE 4711 00:1a:9 0 EOF\n2: " + kind + "  ADVISORY  WRITE " + pid + " 00:1a:123 0 EOF\n"
	}
	for what, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"never locked":             {nil, ""},
		"free":                     {map[string]string{name: ""}, ""},
		"held":                     {map[string]string{name: said + "\n", "/proc/locks": list("FLOCK", "4711")}, said},
		"its holder was killed":    {map[string]string{name: said, "/proc/locks": list("FLOCK", "1")}, ""},
		"its pid is another's":     {map[string]string{name: said, "/proc/locks": list("POSIX", "4711")}, ""},
		"no list, a process":       {map[string]string{name: said, "/proc/4711/stat": ""}, said},
		"no list, no process":      {map[string]string{name: said}, ""},
		"a file of somebody else":  {map[string]string{name: "hello", "/proc/locks": list("FLOCK", "4711")}, ""},
		"a pid that cannot be one": {map[string]string{name: "pid -1, run x", "/proc/locks": list("FLOCK", "-1")}, ""},
	} {
		root := t.TempDir()
		for file, text := range test.files {
			local := filepath.Join(root, file)
			must(os.MkdirAll(filepath.Dir(local), 0o755))
			must(os.WriteFile(local, []byte(text), 0o600))
		}
		if got := AtWork(host.Reader{Files: host.NewDir(root)}, name); got != test.want {
			t.Errorf("%s: %q, want %q", what, got, test.want)
		}
	}
}

// What Lock writes is what AtWork reads, in the kernel's list too.
func TestAtWorkSeesALock(t *testing.T) {
	root := t.TempDir()
	dir := host.NewDir(root, "/proc")
	h := host.Host{Reader: host.Reader{Files: dir}, Disk: dir}
	release, err := Lock(t.Context(), h, "/run/lock/x.lock", "run-1", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := AtWork(h.Reader, "/run/lock/x.lock"); got == "" {
		t.Error("held, and not seen")
	}
	release()
	if got := AtWork(h.Reader, "/run/lock/x.lock"); got != "" {
		t.Errorf("free, and said to be held by %s", got)
	}
}
