package host

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// oneUnit is a service manager that knows one unit.
type oneUnit struct{ unit Unit }

func (o oneUnit) Unit(_ context.Context, name string) (Unit, error) {
	if name != o.unit.Name {
		return Unit{Name: name}, nil
	}
	return o.unit, nil
}
func (oneUnit) Available(context.Context) error { return nil }

func TestUnitEnvironment(t *testing.T) {
	const name = "a.service"
	const (
		at   = "/lib/systemd/system/a.service"
		low  = "/etc/systemd/system/a.service.d/10.conf"
		high = "/etc/systemd/system/a.service.d/90.conf"
		odd  = "/etc/systemd/system/a.service.d/x"
		weak = "/run/systemd/system/a.service.d/10.conf"
	)
	for _, c := range []struct {
		name  string
		files map[string]string
		gone  bool // the unit is not installed
		want  []UnitVariable
	}{
		{"nothing", map[string]string{at: "[Service]\nExecStart=/bin/true\n"}, false, nil},
		{"words and quotes", map[string]string{at: "[Service]\nEnvironment=A=1 \"B=2 3\" C='4' D=\"5\"6 E=%%h\n"}, false,
			[]UnitVariable{{"A", "1", at}, {"B", "2 3", at}, {"C", "4", at}, {"D", "56", at}, {"E", "%h", at}}},
		{"another section", map[string]string{at: "[Unit]\nEnvironment=A=1\n[Service]\n"}, false, nil},
		{"a drop-in beats the unit", map[string]string{at: "[Service]\nEnvironment=A=1 B=2\n", low: "[Service]\nEnvironment=A=3\n"},
			false, []UnitVariable{{"A", "3", low}, {"B", "2", at}}},
		{"an empty line takes all back", map[string]string{
			at: "[Service]\nEnvironment=A=1\n", low: "[Service]\nEnvironment=\nEnvironment=B=2\n"},
			false, []UnitVariable{{"B", "2", low}}},
		{"a file beats a line", map[string]string{
			low: "[Service]\nEnvironmentFile=-/etc/default/a\nEnvironmentFile=/gone\n", high: "[Service]\nEnvironment=A=1\n",
			"/etc/default/a": "A=\"2\"\n# B=3\n"}, false, []UnitVariable{{"A", "2", "/etc/default/a"}}},
		{"files taken back", map[string]string{
			low: "[Service]\nEnvironmentFile=/etc/default/a\n", high: "[Service]\nEnvironmentFile=\n", "/etc/default/a": "A=2\n"},
			false, nil},
		{"unset", map[string]string{low: "[Service]\nEnvironment=A=1 B=2 C=3\nUnsetEnvironment=A B=2 C=4\n"}, false,
			[]UnitVariable{{"C", "3", low}}},
		{"joined lines and comments", map[string]string{
			low: "[Service]\n# Environment=A=1\nEnvironment=B=2 \\\n# between\n C=3\n"}, false, []UnitVariable{{"B", "2", low}, {"C", "3", low}}},
		{"what the manager gives to all is the weakest", map[string]string{
			"/etc/systemd/system.conf": "[Manager]\nDefaultEnvironment=A=1 B=2\n[Service]\nDefaultEnvironment=C=3\n",
			at:                         "[Service]\nEnvironment=A=4\n", low: "[Service]\nEnvironment=\n"},
			false, []UnitVariable{{"A", "1", "/etc/systemd/system.conf"}, {"B", "2", "/etc/systemd/system.conf"}}},
		{"drop-ins that wait for the unit", map[string]string{
			low: "[Service]\nEnvironment=A=1\n", odd: "[Service]\nEnvironment=B=1\n"},
			true, []UnitVariable{{"A", "1", low}}},
		{"of one name only the strongest", map[string]string{
			low: "[Service]\nEnvironment=A=1\n", weak: "[Service]\nEnvironment=A=2 B=2\n"},
			true, []UnitVariable{{"A", "1", low}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range c.files {
				local := filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(local, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			unit := Unit{Name: name, Loaded: true, FragmentAt: at, DropIns: []string{low}}
			if c.gone {
				unit = Unit{Name: "another.service"}
			}
			got, err := UnitEnvironment(t.Context(), Reader{Files: NewDir(root), Units: oneUnit{unit}}, name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzUnitEnvironment(f *testing.F) {
	f.Add("[Service]\nEnvironment=A=1 \"B=2\\\n")
	f.Fuzz(func(_ *testing.T, text string) {
		var e unitEnvironment
		e.read(text, "x")
	})
}
