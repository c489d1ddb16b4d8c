package preflight

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// unitPath is where systemd looks for units, the strongest first: systemd.unit(5).
var unitPath = []string{
	"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
	"/lib/systemd/system",
}

// variable is a variable that a service gets, and the file that says so.
type variable struct{ value, file string }

// unitEnvironment is what systemd would give a service: the manager's DefaultEnvironment, then Environment= of the
// unit's file and its drop-ins, then EnvironmentFile=. The unit need not be loaded, so that a drop-in for an agent that
// is not installed yet counts.
func unitEnvironment(files host.Files, unit string) (map[string]variable, error) {
	all := map[string]variable{}
	manager, err := manyFiles(files, []string{"/etc/systemd", "/run/systemd", "/usr/lib/systemd"}, "system.conf")
	if err != nil {
		return nil, err
	}
	for _, f := range manager {
		for _, d := range directives(f.text, "Manager") {
			if d.key == "DefaultEnvironment" {
				assign(all, d.value, f.path)
			}
		}
	}
	own, err := manyFiles(files, unitPath, unit)
	if err != nil {
		return nil, err
	}
	direct, read := map[string]variable{}, []string{}
	for _, f := range own {
		for _, d := range directives(f.text, "Service") {
			switch {
			case d.key == "Environment" && d.value == "":
				direct = map[string]variable{}
			case d.key == "Environment":
				assign(direct, d.value, f.path)
			case d.key == "EnvironmentFile" && d.value == "":
				read = nil
			case d.key == "EnvironmentFile":
				read = append(read, strings.TrimPrefix(d.value, "-"))
			}
		}
	}
	maps.Copy(all, direct)
	for _, name := range read {
		text, err := files.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // what cannot be read is not told
			continue
		}
		if err != nil {
			return nil, err
		}
		for key, value := range ecsagent.ReadEnvironment(text) {
			all[key] = variable{value, name}
		}
	}
	return all, nil
}

type textFile struct{ path, text string }

// manyFiles reads a configuration file of systemd's in the strongest folder that has it, and behind it its drop-ins by
// name, of which the strongest folder's wins.
func manyFiles(files host.Files, dirs []string, name string) ([]textFile, error) {
	var found []textFile
	for _, dir := range dirs {
		text, err := files.ReadFile(path.Join(dir, name))
		if err == nil {
			found = append(found, textFile{path.Join(dir, name), string(text)})
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	at := map[string]string{}
	for _, dir := range dirs {
		dropIns := path.Join(dir, name+".d")
		entries, err := files.ReadDir(dropIns)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && at[e.Name()] == "" {
				at[e.Name()] = path.Join(dropIns, e.Name())
			}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(at)) {
		text, err := files.ReadFile(at[base])
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, textFile{at[base], string(text)})
	}
	return found, nil
}

type directive struct{ key, value string }

// directives are the lines of one section: systemd.syntax(7).
func directives(text, section string) []directive {
	var (
		all    []directive
		inside bool
		joined string
	)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue // also between the lines of a long one
		}
		if begun, goesOn := strings.CutSuffix(line, `\`); goesOn {
			joined += begun + " "
			continue
		}
		line, joined = joined+line, ""
		switch key, value, assigned := strings.Cut(line, "="); {
		case strings.HasPrefix(line, "["):
			inside = line == "["+section+"]"
		case inside && assigned:
			all = append(all, directive{strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return all
}

// assign reads the words of an Environment= line, like "A=1 2" B=3 'C=4'. Percent signs are doubled there, for a single
// one begins a specifier.
func assign(into map[string]variable, line, file string) {
	var (
		word  strings.Builder
		quote rune
		began bool
	)
	end := func() {
		if key, value, ok := strings.Cut(word.String(), "="); ok {
			into[key] = variable{strings.ReplaceAll(value, "%%", "%"), file}
		}
		word.Reset()
		began = false
	}
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped, began = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, began = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if began {
				end()
			}
		default:
			word.WriteRune(r)
			began = true
		}
	}
	if began {
		end()
	}
}
