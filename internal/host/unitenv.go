package host

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// UnitVariable is a variable that a unit's files give to its processes.
type UnitVariable struct {
	Name, Value string
	At          string // the file that says so: the unit's own, a drop-in, or an EnvironmentFile
}

// unitDirs are where systemd looks for a unit's drop-ins, the strongest first (systemd.unit(5)).
var unitDirs = []string{
	"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
	"/lib/systemd/system",
}

// UnitEnvironment reads the variables that the files of a service set for its processes, as systemd.exec(5) has it:
// each name once, an EnvironmentFile before an Environment line, and that before the manager's DefaultEnvironment. Drop-ins of a unit that is not installed yet count:
// they wait for it. Specifiers are not resolved. A file that is missing is passed over; one that cannot be read is an
// error.
func UnitEnvironment(ctx context.Context, r Reader, name string) ([]UnitVariable, error) {
	unit, err := r.Units.Unit(ctx, name)
	if err != nil && !failure.Is(err, failure.NoSystemd) { // the files are there all the same
		return nil, err
	}
	files := slices.Clone(unit.DropIns)
	own := unit.FragmentAt
	if own == "" { // nobody answers, or it is not loaded
		own = strongest(r.Files, unitDirs, name)
	}
	if own != "" {
		files = append([]string{own}, files...)
	}
	waiting, err := dropIns(r.Files, unitDirs, name+".d")
	if err != nil {
		return nil, err
	}
	for _, file := range waiting { // of a unit that is not there, or before a daemon-reload
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	var e unitEnvironment
	if e.defaults, err = defaultEnvironment(r.Files); err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := r.Files.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e.read(string(text), file)
	}
	return e.all(r.Files)
}

// managerDirs are where systemd looks for its own configuration, the strongest first (systemd-system.conf(5)).
var managerDirs = []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"}

// defaultEnvironment is what the manager gives to every service.
func defaultEnvironment(files Files) ([]UnitVariable, error) {
	var read []string
	if own := strongest(files, managerDirs, "system.conf"); own != "" {
		read = append(read, own)
	}
	more, err := dropIns(files, managerDirs, "system.conf.d")
	if err != nil {
		return nil, err
	}
	var set []UnitVariable
	for _, file := range append(read, more...) {
		text, err := files.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		eachAssignment(string(text), "[Manager]", func(name, value string) {
			if name == "DefaultEnvironment" {
				set = assigned(set, value, file)
			}
		})
	}
	return set, nil
}

// strongest is the file of that name in the first folder that has one; empty when there is none.
func strongest(files Files, dirs []string, name string) string {
	for _, dir := range dirs {
		if _, err := files.Stat(path.Join(dir, name)); err == nil {
			return path.Join(dir, name)
		}
	}
	return ""
}

// dropIns are the *.conf of the folders of that name, in the order in which systemd reads them: by name, and of one
// name only the strongest folder's.
func dropIns(files Files, dirs []string, folder string) ([]string, error) {
	byName := map[string]string{}
	for _, dir := range dirs {
		entries, err := files.ReadDir(path.Join(dir, folder))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if name := entry.Name(); byName[name] == "" && strings.HasSuffix(name, ".conf") {
				byName[name] = path.Join(dir, folder, name)
			}
		}
	}
	var names, found []string
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		found = append(found, byName[name])
	}
	return found, nil
}

// unitEnvironment is what the lines seen so far amount to.
type unitEnvironment struct {
	defaults []UnitVariable
	set      []UnitVariable
	files    []string
	unset    []string
}

func (e *unitEnvironment) read(text, at string) {
	eachAssignment(text, "[Service]", func(name, value string) {
		switch name {
		case "Environment":
			if value == "" { // an empty assignment takes back what came before
				e.set = nil
			}
			e.set = assigned(e.set, value, at)
		case "EnvironmentFile":
			if value == "" {
				e.files = nil
			} else {
				e.files = append(e.files, strings.TrimPrefix(value, "-"))
			}
		case "UnsetEnvironment":
			e.unset = append(e.unset, unitWords(value)...)
		}
	})
}

// eachAssignment calls what for every NAME=VALUE of one section.
func eachAssignment(text, of string, what func(name, value string)) {
	section := ""
	for _, line := range unitLines(text) {
		if strings.HasPrefix(line, "[") {
			section = line
		} else if name, value, ok := strings.Cut(line, "="); ok && section == of {
			what(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
}

// assigned adds the variables of an Environment line.
func assigned(to []UnitVariable, value, at string) []UnitVariable {
	for _, word := range unitWords(value) {
		if variable, text, ok := strings.Cut(word, "="); ok && isVariable(variable) {
			to = append(to, UnitVariable{variable, text, at})
		}
	}
	return to
}

// all is each variable once, the last one that was said, in the order in which they were first named.
func (e *unitEnvironment) all(files Files) ([]UnitVariable, error) {
	said := slices.Concat(e.defaults, e.set)
	for _, name := range e.files {
		text, err := files.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, a := range ParseEnvironmentFile(string(text)) {
			said = append(said, UnitVariable{a.Key, a.Value, name})
		}
	}
	var out []UnitVariable
	for _, v := range said {
		at := slices.IndexFunc(out, func(o UnitVariable) bool { return o.Name == v.Name })
		switch {
		case slices.Contains(e.unset, v.Name), slices.Contains(e.unset, v.Name+"="+v.Value):
		case at >= 0:
			out[at] = v
		default:
			out = append(out, v)
		}
	}
	return out, nil
}

// unitLines are a unit file's lines without comments, those that end in a backslash joined with the next one
// (systemd.syntax(7)).
func unitLines(text string) []string {
	var lines []string
	joined := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue // also between the lines that are joined
		}
		if head, ok := strings.CutSuffix(line, `\`); ok {
			joined += head + " "
			continue
		}
		if line = strings.TrimSpace(joined + line); line != "" {
			lines = append(lines, line)
		}
		joined = ""
	}
	return lines
}

// unitWords splits a value as systemd.syntax(7) has it: at blanks, with quotes of both kinds around words or parts of
// them, and a backslash that takes the next character as it is. %% is a percent sign.
func unitWords(value string) []string {
	var words []string
	var word strings.Builder
	var quote rune
	begun, escaped := false, false
	for _, c := range value {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			begun, escaped = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			begun, quote = true, c
		case quote == 0 && (c == ' ' || c == '\t'):
			if begun {
				words = append(words, strings.ReplaceAll(word.String(), "%%", "%"))
			}
			word.Reset()
			begun = false
		default:
			begun = true
			word.WriteRune(c)
		}
	}
	if begun {
		words = append(words, strings.ReplaceAll(word.String(), "%%", "%"))
	}
	return words
}
