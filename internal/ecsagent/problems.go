package ecsagent

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Problems are the lines that do not do what their author had in mind, in file order: those of Instance, User, JSON.
func (c Config) Problems() []Problem {
	var all []Problem
	for _, f := range []struct {
		path string
		file *File
	}{{InstanceConfigPath, c.Instance}, {ConfigPath, c.User}} {
		all = append(all, f.file.problems(f.path)...)
	}
	var any map[string]any
	if trimmed := strings.TrimSpace(string(c.JSON)); trimmed != "" {
		if err := json.Unmarshal([]byte(trimmed), &any); err != nil {
			all = append(all, Problem{File: JSONConfigPath, Wrong: "is not a JSON object, so the agent does not start",
				Remedy: "correct " + JSONConfigPath + ", or move it away", Fatal: true})
		}
	}
	return all
}

func (f *File) problems(path string) []Problem {
	var all []Problem
	content := string(f.Bytes())
	starts := map[int]host.Assignment{} // what systemd reads, by line
	for _, a := range host.ParseEnvironmentFile(content) {
		starts[a.Line] = a
	}
	if content != "" && strings.ToValidUTF8(content, "") != content {
		all = append(all, Problem{File: path, Wrong: "is not UTF-8, so systemd gives ecs-init nothing of it",
			Remedy: "save " + path + " as UTF-8", Fatal: true})
	}
	for i, line := range f.lines {
		found, ok := lineProblem(line, starts[i+1])
		if ok {
			found.File, found.Line = path, i+1
			all = append(all, found)
		}
	}
	return all
}

// lineProblem looks at one line; systemd is what systemd reads on it, if anything.
func lineProblem(line string, systemd host.Assignment) (Problem, bool) {
	trimmed := strings.TrimSpace(line)
	key, value, assigns := initAssignment(line)
	switch {
	case trimmed == "":
		return Problem{}, false
	case strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";"):
		return commentProblem(trimmed, key, assigns)
	case strings.HasPrefix(line, byteOrderMark):
		return Problem{Key: meant(line),
			Wrong:  "begins with a byte order mark, which both readers take for a part of the name",
			Remedy: "save the file as UTF-8 without a byte order mark", Fatal: true}, true
	case !assigns:
		return Problem{Wrong: "is no KEY=VALUE, so nobody reads it", Remedy: "write KEY=VALUE, or put a # in front"}, true
	case key != meant(line):
		return shapeProblem(key, meant(line))
	}
	return valueProblem(key, value, systemd)
}

func commentProblem(line, key string, assigns bool) (Problem, bool) {
	switch {
	case strings.HasSuffix(line, `\`):
		return Problem{
			Wrong:  "is a comment that ends in a backslash: systemd before 254 takes the next line for a part of it",
			Remedy: "take the backslash away", Fatal: true}, true
	case assigns:
		return Problem{Key: key,
			Wrong:  "is a comment for systemd only: ecs-init knows none and makes it a variable named " + key,
			Remedy: "nothing breaks; remove the line, or its equals sign, to be rid of the variable"}, true
	}
	return Problem{}, false
}

// shapeProblem is a line whose name one of the readers does not see.
func shapeProblem(key, name string) (Problem, bool) {
	s, _ := known(name)
	p := Problem{Key: name, Remedy: "write " + name + "=VALUE, without blanks and export",
		Fatal: s.Fatal || s.Name == KeyCluster}
	if strings.HasPrefix(key, "export") && key != name {
		p.Wrong = "has an export, which neither systemd nor ecs-init understands, so the setting has no effect"
		return p, true
	}
	p.Wrong = "has a blank in front of the equals sign: systemd drops it, ecs-init keeps it, " +
		"so the agent does not see the setting"
	return p, true
}

// valueProblem is a line with a proper name.
func valueProblem(key, value string, systemd host.Assignment) (Problem, bool) {
	s, isKnown := known(key)
	p := Problem{Key: key, Fatal: s.Fatal || key == KeyCluster || key == KeyEndpoint}
	at := func(wrong, remedy string) (Problem, bool) {
		p.Wrong, p.Remedy = wrong, remedy
		return p, true
	}
	switch {
	case !variableName.MatchString(key):
		return at("has no proper name, so systemd drops it", "write KEY=VALUE")
	case systemd.Key != key:
		return at("is not seen by systemd: a quote or backslash further up swallows it",
			"close the quote, or remove the backslash, above this line")
	case strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t"):
		return at("has a blank behind the equals sign: systemd drops it, ecs-init gives it to the agent",
			"write "+key+"=VALUE without blanks")
	case strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "'"):
		return at("has a quoted value: systemd takes the quotes away, ecs-init gives them to the agent",
			"take the quotes away")
	case key == KeyExternal:
		return externalProblem(at, value)
	case s.Refused != "" && s.wrong(value) != "" && s.Kind == choice, s.Secret && s.Refused != "":
		p.Fatal = true
		return at(s.Refused, "remove the line")
	case systemd.Value != value && (s.Init || !isKnown || s.Kind == text):
		return at("has a backslash that systemd takes away and ecs-init keeps", "write the value without backslashes")
	case isKnown && value != "":
		if wrong := s.wrong(value); wrong != "" {
			p.Fatal = s.Fatal
			return at(wrong, "correct the value")
		}
	}
	return Problem{}, false
}

// externalProblem: ecs-init takes only the exact word (ecs-init/config/common.go), the agent all that strconv.ParseBool
// does (agent/config/parse.go), both of 1.105.1.
func externalProblem(at func(wrong, remedy string) (Problem, bool), value string) (Problem, bool) {
	remedy := fmt.Sprintf("write %s=true", KeyExternal)
	if value == "true" {
		return Problem{}, false
	}
	switch yes, err := strconv.ParseBool(strings.TrimSpace(value)); {
	case err != nil:
		return at("is not true: the agent takes this machine for an EC2 instance", remedy)
	case yes:
		return at("means true for the agent only: ecs-init does not give it the credentials of Systems Manager", remedy)
	}
	return at("says that this is an EC2 instance", remedy)
}
