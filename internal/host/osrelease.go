package host

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// OSRelease is what os-release(5) says of the system. Empty fields are those that the file leaves out, but ID, which is
// "linux" then, as that page wants it.
type OSRelease struct {
	ID              string   // debian, ubuntu, amzn, rhel, …
	IDLike          []string // the nearest relation first
	VersionID       string   // 12, 22.04, …; empty on rolling and unreleased systems
	VersionCodename string   // bookworm, noble, …
	Name            string   // tells CentOS Stream from CentOS
	PrettyName      string
	Fields          map[string]string // all of them, by the name in the file
}

// ReadOSRelease reads /etc/os-release, or /usr/lib/os-release where that is missing.
func ReadOSRelease(files Files) (OSRelease, error) {
	var data []byte
	var err error
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if data, err = files.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return OSRelease{}, failure.Wrap(failure.UnsupportedOS, err, "cannot tell which system this is").
			WithEvidence("neither /etc/os-release nor /usr/lib/os-release can be read")
	}
	return parseOSRelease(string(data)), nil
}

func parseOSRelease(text string) OSRelease {
	fields := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if !ok || !isVariable(name) {
			continue
		}
		fields[name] = unquote(value)
	}
	r := OSRelease{
		ID: fields["ID"], IDLike: strings.Fields(fields["ID_LIKE"]), VersionID: fields["VERSION_ID"],
		VersionCodename: fields["VERSION_CODENAME"], Name: fields["NAME"], PrettyName: fields["PRETTY_NAME"], Fields: fields,
	}
	if r.ID == "" {
		r.ID = "linux"
	}
	return r
}

func isVariable(name string) bool {
	for i, c := range name {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// unquote reads one word as a POSIX shell does: single quotes keep all, double quotes know \ before ", $, ` and \, and
// outside of quotes \ takes the next character as it is. The word ends at an unquoted blank. Nothing is expanded.
func unquote(s string) string {
	var out strings.Builder
	quote := rune(0)
	escaped := false
	for _, c := range s {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\"$`\\", c) {
				out.WriteRune('\\')
			}
			out.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && (c == ' ' || c == '\t' || c == '\r'):
			return out.String()
		default:
			out.WriteRune(c)
		}
	}
	return out.String()
}
