package ecsagent

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestFileSet(t *testing.T) {
	tests := []struct{ name, before, value, after string }{
		{"empty file", "", "new", "ECS_CLUSTER=new\n"},
		{"appended", "# mine\nA=1\n", "new", "# mine\nA=1\nECS_CLUSTER=new\n"},
		{"appended where the last newline is missing", "A=1", "new", "A=1\nECS_CLUSTER=new\n"},
		{"in place", "A=1\nECS_CLUSTER=old\n# b\nB=2\n", "new", "A=1\nECS_CLUSTER=new\n# b\nB=2\n"},
		{"duplicates go", "ECS_CLUSTER=a\nA=1\nECS_CLUSTER=b\nB=2\n", "new", "A=1\nECS_CLUSTER=new\nB=2\n"},
		{"what only systemd or a person takes for it goes", "export ECS_CLUSTER=a\nECS_CLUSTER =b\nA=1\n", "new", "ECS_CLUSTER=new\nA=1\n"},
		{"comments stay", "#ECS_CLUSTER=old\n; ECS_CLUSTER=x\n", "new", "#ECS_CLUSTER=old\n; ECS_CLUSTER=x\nECS_CLUSTER=new\n"},
		{"longer names stay", "ECS_CLUSTER_X=1\nXECS_CLUSTER=2\n", "new", "ECS_CLUSTER_X=1\nXECS_CLUSTER=2\nECS_CLUSTER=new\n"},
		{"empty value", "ECS_CLUSTER=a\n", "", "ECS_CLUSTER=\n"},
		{"the same again", "A=1\nECS_CLUSTER=new\n\n", "new", "A=1\nECS_CLUSTER=new\n\n"},
		{"JSON", "", `{"a":"x\"y"}`, "ECS_CLUSTER={\"a\":\"x\\\"y\"}\n"},
		{"carriage returns of others stay", "A=1\r\nB=2\r\n", "new", "A=1\r\nB=2\r\nECS_CLUSTER=new\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := Parse([]byte(tt.before))
			if err := f.Set("ECS_CLUSTER", tt.value); err != nil {
				t.Fatal(err)
			}
			if got := string(f.Bytes()); got != tt.after {
				t.Errorf("got %q, want %q", got, tt.after)
			}
		})
	}
}

func TestFileSetRefusesWhatIsNotOneLine(t *testing.T) {
	for _, pair := range [][2]string{
		{"A", "x\nB=1"}, {"A", "x\r"}, {"A", "x\x00"}, {"A", " x"}, {"A", "x "}, {"A", `x\`}, {"A", `"x`}, {"A", `'x`}, {"A", "\xff"},
		{"", "x"}, {"A B", "x"}, {"export A", "x"}, {"#A", "x"}, {"A=", "x"}, {"1A", "x"},
	} {
		f := Parse([]byte("A=1\n"))
		if err := f.Set(pair[0], pair[1]); !failure.Is(err, failure.InvalidConfig) {
			t.Errorf("Set(%q, %q) = %v", pair[0], pair[1], err)
		}
		if got := string(f.Bytes()); got != "A=1\n" {
			t.Errorf("Set(%q, %q) left %q", pair[0], pair[1], got)
		}
	}
}

func TestFileUnset(t *testing.T) {
	f := Parse([]byte("# c\nA=1\nexport B=2\nB=3\nC=4\n"))
	f.Unset("B")
	f.Unset("D")
	if got := string(f.Bytes()); got != "# c\nA=1\nC=4\n" {
		t.Errorf("got %q", got)
	}
	if _, ok := f.Get("B"); ok {
		t.Error("B is still there")
	}
}

func FuzzFile(f *testing.F) {
	f.Add("# c\nA=1\nECS_CLUSTER=x\n", "ECS_CLUSTER", "new")
	f.Add("A=\"open\n", "A", `{"a":"b"}`)
	f.Add("\r\n=\n", "_", `\`)
	f.Add(" ", "A", "0")
	f.Fuzz(func(t *testing.T, content, key, value string) {
		file := Parse([]byte(content))
		if got := string(file.Bytes()); got != content {
			t.Fatalf("Parse and Bytes made %q of %q", got, content)
		}
		if file.Set(key, value) != nil {
			if got := string(file.Bytes()); got != content {
				t.Fatalf("a refused Set made %q of %q", got, content)
			}
			return
		}
		if got, ok := file.Get(key); !ok || got != value {
			t.Fatalf("Get(%q) = %q, %v after Set(%q) in %q", key, got, ok, value, file.Bytes())
		}
		once := string(file.Bytes())
		if err := file.Set(key, value); err != nil || string(file.Bytes()) != once {
			t.Fatalf("the second Set made %q of %q, %v", file.Bytes(), once, err)
		}
		for _, line := range strings.Split(content, "\n") { // the lines of others are all there
			if meant(line) != key && !strings.Contains(once, line) {
				t.Fatalf("Set(%q) lost %q from %q", key, line, content)
			}
		}
		file.Unset(key)
		if got, ok := file.Get(key); ok {
			t.Fatalf("Unset(%q) left %q", key, got)
		}
		Config{Instance: file, User: Parse([]byte(content))}.Problems()
	})
}
