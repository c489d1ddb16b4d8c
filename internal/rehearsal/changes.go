package rehearsal

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// sight is what the throw-away host looks like at a moment, and how much AWS was asked until then.
type sight struct {
	files    map[string]string // digests
	texts    map[string]string // of the configuration
	packages map[string]string // versions
	services map[string]state
	calls    int
}

// state is a service's state.
type state struct {
	text  string // for people; empty when there is no such unit
	since time.Time
}

// anew is said of a service that is as it was, and was started meanwhile.
const anew = ", started anew"

// watched are the units that a story can change.
var watched = []string{ecsagent.Unit, suseUnit, ssmagent.UnitName, ssmagent.SnapUnit}

func (s *stage) behold(ctx context.Context) (now sight, err error) {
	now = sight{texts: map[string]string{}, packages: map[string]string{}, services: map[string]state{}, calls: len(s.aws.Requests())}
	if now.files, err = s.tree(); err != nil {
		return now, err
	}
	for name := range now.files {
		if !strings.HasPrefix(name, "/etc/") {
			continue
		}
		if text, err := s.machine.disk.ReadFile(name); err == nil { // else it has gone meanwhile
			now.texts[name] = string(text)
		}
	}
	h := s.machine.host()
	for _, name := range []string{ecsagent.Package, ssmagent.Package} {
		if p, err := h.Packages.Package(name); err == nil && p.Installed {
			now.packages[name] = p.Version
		}
	}
	for _, name := range watched {
		unit, err := h.Units.Unit(ctx, name)
		if err != nil || !unit.Loaded {
			continue
		}
		now.services[name] = state{unit.Active + ", " + unit.Enabled, unit.ActiveSince}
	}
	return now, nil
}

// tree is a digest of every file of the throw-away host but logs and locks, which grow by themselves.
func (s *stage) tree() (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(s.machine.root, func(at string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an agent's temporary file
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(at, s.machine.root)
		if entry.IsDir() {
			if name == "/var/log" || name == "/run" {
				return filepath.SkipDir
			}
			return nil
		}
		if target, err := os.Readlink(at); err == nil && name == snapBase+"current" { // it leads to a folder
			files[name] = target
			return nil
		}
		text, err := os.ReadFile(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		files[name] = fmt.Sprintf("%x", sha256.Sum256(text))
		return nil
	})
	return files, err
}

// differences names what is new (+), other (~) or gone (-), leaving out anywhere's own journal and cache.
func differences(before, after map[string]string) []string {
	var changed []string
	for name, digest := range after {
		switch old, was := before[name]; {
		case strings.HasPrefix(name, lifecycle.DataDir+"/journal"), strings.HasPrefix(name, lifecycle.PackageDir):
		case !was:
			changed = append(changed, "+"+name)
		case old != digest:
			changed = append(changed, "~"+name)
		}
	}
	for name := range before {
		if _, is := after[name]; !is {
			changed = append(changed, "-"+name)
		}
	}
	slices.SortFunc(changed, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	return append([]string{}, changed...)
}

// compare puts into c what a command has changed, and what AWS was asked for meanwhile.
func (s *stage) compare(c *Command, before, after sight) {
	c.Changed = differences(before.files, after.files)
	c.Diffs = []Diff{}
	for _, change := range c.Changed {
		name := change[1:]
		if lines := diff(before.texts[name], after.texts[name]); len(lines) > 0 {
			c.Diffs = append(c.Diffs, Diff{name, lines})
		}
	}
	c.Packages = changes(before.packages, after.packages)
	was, is := map[string]string{}, map[string]string{}
	for name, s := range before.services {
		was[name] = s.text
	}
	for name, s := range after.services {
		is[name] = s.text
		if old := before.services[name]; old.text == s.text && !old.since.Equal(s.since) {
			is[name] += anew
		}
	}
	c.Services = changes(was, is)
	requests := s.aws.Requests() // a very long log has lost its beginning
	c.Calls = counted(requests[min(before.calls, len(requests)):min(after.calls, len(requests))])
}

// changes are the names whose values differ, sorted.
func changes(before, after map[string]string) []Change {
	all := []Change{}
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if before[name] != after[name] {
			all = append(all, Change{name, before[name], after[name]})
		}
	}
	return all
}

// longest is how many lines of a file are compared: the configuration of a host is shorter.
const longest = 400

// diff is what differs between two texts, line by line, without the values of secrets.
func diff(before, after string) []string {
	if before == after {
		return nil
	}
	a, b := textLines(before), textLines(after)
	if len(a) > longest || len(b) > longest {
		return nil
	}
	common := make([][]int, len(a)+1) // lengths of the longest common rest
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var all []string
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			all, i = append(all, "-"+withoutValue(a[i])), i+1
		default:
			all, j = append(all, "+"+withoutValue(b[j])), j+1
		}
	}
	return all
}

func textLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// withoutValue is a line of configuration without a secret's value. Agents read variables with or without export or
// quotes, units behind Environment=.
func withoutValue(line string) string {
	for i := range len(line) {
		if line[i] != '=' {
			continue
		}
		name := line[:i]
		if at := strings.LastIndexAny(name, " \t\"'#="); at >= 0 {
			name = name[at+1:]
		}
		if ecsagent.IsSecret(name) {
			return line[:i+1] + secret.Mask
		}
	}
	return line
}
