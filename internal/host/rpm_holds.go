package host

import (
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// held reports whether one of the front end's lists keeps a package from changing.
func (r *Rpm) held(name string) (bool, error) {
	f := r.frontend()
	for _, file := range f.locks {
		text, err := r.files.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return false, failure.Wrap(failure.PackagesBroken, err, "cannot read %s", file)
		}
		if f.holds(string(text), name) {
			return true, nil
		}
	}
	return false, nil
}

// holdsVersion reads yum's and dnf's list. A line is a package in one of rpm's notations, any part of it a pattern; yum puts
// the epoch first. One with a ! before it only excludes a version. Sources: versionlock.py of yum-utils 1.1.31 and of
// dnf-plugins-core 4.3, whose "forms" are these.
//
//	0:amazon-ssm-agent-3.3.4108.0-1.*       yum's
//	amazon-ssm-agent-0:3.3.4108.0-1.*       dnf's
//	amazon-ssm-agent.x86_64
//	amazon-ssm-agent
func holdsVersion(list, name string) bool {
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsAny(line[:1], "#!") {
			continue
		}
		if slices.ContainsFunc(namesIn(epochFirst.ReplaceAllString(line, "")), func(pattern string) bool { return fits(pattern, name) }) {
			return true
		}
	}
	return false
}

var (
	epochFirst = regexp.MustCompile(`^\d+:`)
	// versionLike tells a version, or a pattern for one, from a part of a name.
	versionLike = regexp.MustCompile(`^(?:\d+:)?[\d*?\[]`)
	archLast    = regexp.MustCompile(`\.(?:noarch|x86_64|aarch64|i[3-6]86|\*)$`)
)

// namesIn are the names that a line may mean: only the list of all packages could tell where its name ends.
func namesIn(line string) []string {
	names := []string{line}
	for _, whole := range []string{line, archLast.ReplaceAllString(line, "")} {
		names = append(names, whole)
		dash := strings.LastIndex(whole, "-")
		if dash < 0 {
			continue
		}
		before, last := whole[:dash], whole[dash+1:]
		if versionLike.MatchString(last) {
			names = append(names, before)
		}
		if dash = strings.LastIndex(before, "-"); dash >= 0 && versionLike.MatchString(before[dash+1:]) {
			names = append(names, before[:dash])
		}
	}
	return names
}

// fits reports whether a name is a pattern's.
func fits(pattern, name string) bool {
	fits, err := path.Match(pattern, name)
	return pattern == name || err == nil && fits
}

// A line of dnf5's list, as far as it matters, with either kind of quotes.
var (
	tomlName       = regexp.MustCompile(`(?m)^[ \t]*name[ \t]*=[ \t]*["']([^"'\n]+)["']`)
	tomlComparator = regexp.MustCompile(`(?m)^[ \t]*comparator[ \t]*=[ \t]*["']([^"'\n]+)["']`)
)

// holdsTOML reads dnf5's list: one table for each package, with its conditions below. One that only excludes versions holds
// nothing. Source: the manual dnf5-versionlock(8) of dnf5 5.2.
func holdsTOML(list, name string) bool {
	for _, table := range strings.Split(list, "[[packages]]")[1:] {
		named := tomlName.FindStringSubmatch(table)
		if named == nil || !fits(named[1], name) {
			continue
		}
		conditions := tomlComparator.FindAllStringSubmatch(table, -1)
		if len(conditions) == 0 || slices.ContainsFunc(conditions, func(c []string) bool { return c[1] != "!=" }) {
			return true
		}
	}
	return false
}

// holdsZypp reads zypper's list: paragraphs of what a query of packages is made of. Source: libzypp 17, zypp/PoolQuery.cc.
func holdsZypp(list, name string) bool {
	for paragraph := range strings.SplitSeq(list, "\n\n") {
		fields := map[string][]string{}
		for line := range strings.Lines(paragraph) {
			if key, value, found := strings.Cut(strings.TrimSpace(line), ":"); found && !strings.HasPrefix(key, "#") {
				key = strings.TrimSpace(key)
				fields[key] = append(fields[key], strings.TrimSpace(value))
			}
		}
		if len(fields["type"]) > 0 && !slices.Contains(fields["type"], "package") {
			continue
		}
		same := fits
		switch strings.Join(fields["match_type"], "") {
		case "substring":
			same = func(part, name string) bool { return strings.Contains(name, part) }
		case "regex":
			same = func(pattern, name string) bool {
				re, err := regexp.Compile(pattern)
				return err == nil && re.MatchString(name)
			}
		}
		insensitive := slices.Contains(fields["case_sensitive"], "off")
		for _, pattern := range fields["solvable_name"] {
			if same(pattern, name) || insensitive && same(strings.ToLower(pattern), strings.ToLower(name)) {
				return true
			}
		}
	}
	return false
}
