package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestParseOSRelease(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       OSRelease
	}{
		{"debian", `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION_CODENAME=bookworm
ID=debian
`, OSRelease{ID: "debian", VersionID: "12", VersionCodename: "bookworm", Name: "Debian GNU/Linux",
			PrettyName: "Debian GNU/Linux 12 (bookworm)"}},
		{"rocky", "NAME=\"Rocky Linux\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n",
			OSRelease{ID: "rocky", IDLike: []string{"rhel", "centos", "fedora"}, VersionID: "9.4", Name: "Rocky Linux"}},
		{"carriage returns, comments, blanks, no last newline", "# ID=no\r\n\r\n  ID=ubuntu\r\n;x\nNAME='Ubuntu'",
			OSRelease{ID: "ubuntu", Name: "Ubuntu"}},
		{"escapes in double quotes", `NAME="a \"b\" \$c \\ \` + "`" + ` \n"`, OSRelease{ID: "linux", Name: `a "b" $c \ ` + "`" + ` \n`}},
		{"single quotes take all", `NAME='a \" $b'`, OSRelease{ID: "linux", Name: `a \" $b`}},
		{"pieces", `NAME=a"b c"'d'\ e f`, OSRelease{ID: "linux", Name: "ab cd e"}},
		{"the last one counts", "ID=a\nID=b\n", OSRelease{ID: "b"}},
		{"not variables", "1ID=a\nexport ID=b\n=c\nID\n", OSRelease{ID: "linux"}},
		{"empty", "", OSRelease{ID: "linux"}},
		{"nothing is expanded", `NAME="$(id) $HOME"`, OSRelease{ID: "linux", Name: "$(id) $HOME"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := parseOSRelease(test.text)
			if got.ID != test.want.ID || got.VersionID != test.want.VersionID || got.Name != test.want.Name ||
				got.VersionCodename != test.want.VersionCodename || got.PrettyName != test.want.PrettyName ||
				!slices.Equal(got.IDLike, test.want.IDLike) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestReadOSReleaseFallsBack(t *testing.T) {
	d, root := newDir(t)
	if _, err := ReadOSRelease(d); !failure.Is(err, failure.UnsupportedOS) {
		t.Errorf("without a file: %v", err)
	}
	put(t, filepath.Join(root, "usr/lib/os-release"), "ID=debian\n")
	if r, err := ReadOSRelease(d); err != nil || r.ID != "debian" {
		t.Errorf("%+v, %v", r, err)
	}
	put(t, filepath.Join(root, "etc/os-release"), "ID=ubuntu\n")
	if r, err := ReadOSRelease(d); err != nil || r.ID != "ubuntu" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.Remove(filepath.Join(root, "etc/os-release")); err != nil {
		t.Fatal(err)
	}
	link(t, "../usr/lib/os-release", filepath.Join(root, "etc/os-release"))
	if r, err := ReadOSRelease(d); err != nil || r.ID != "debian" {
		t.Errorf("through the link: %+v, %v", r, err)
	}
}

func FuzzParseOSRelease(f *testing.F) {
	f.Add("ID=debian\nNAME=\"a \\\"b\\\"\"\n")
	f.Add("ID='x\nNAME=\\")
	f.Add("ID_LIKE=\" a  b \"\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := parseOSRelease(text)
		if r.ID == "" {
			t.Error("no ID")
		}
		for name, value := range r.Fields {
			if !isVariable(name) {
				t.Errorf("%q is no variable", name)
			}
			if utf8.ValidString(text) && !utf8.ValidString(value) {
				t.Errorf("%q is broken", value)
			}
		}
	})
}

func TestUnquoteReadsWhatWasQuoted(t *testing.T) {
	for _, s := range []string{"", "x", `a "b" $c \d ` + "`e`", "ü — …", `\`, `\\`, "'"} {
		quoted := `"`
		for _, c := range s {
			switch c {
			case '"', '\\', '$', '`':
				quoted += `\`
			}
			quoted += string(c)
		}
		check(t, quoted, unquote(quoted+`"`), s)
	}
}
