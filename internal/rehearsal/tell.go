package rehearsal

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// teller writes a story for people. Between what it writes, the commands write their own.
type teller struct {
	to       io.Writer
	style    report.Style
	tty      bool
	at, last int // the number of the command that is played, and of the last one; 0 outside of a story
}

// ruleWidth is the width of a heading's line.
const ruleWidth = 78

// heading comes before a command.
func (t *teller) heading(title, line string) {
	fmt.Fprintln(t.to)
	if t.last > 0 {
		if title = strings.TrimSpace(fmt.Sprintf("%d/%d  %s", t.at, t.last, title)); t.tty {
			fmt.Fprintln(t.to, t.style.Rule(ruleWidth))
		}
		fmt.Fprintln(t.to, t.style.Strong(title))
	}
	fmt.Fprintln(t.to, t.style.Strong("$ "+line))
}

// after tells what came of a command.
func (t *teller) after(c Command) {
	took := (time.Duration(c.DurationMs) * time.Millisecond).Seconds()
	sign := byte('+')
	if c.RC != 0 {
		sign = '-'
	}
	fmt.Fprintf(t.to, "\n  %s after %.1f s\n", t.style.Change(sign, fmt.Sprintf("exit status %d", c.RC)), took)
	if c.still() {
		fmt.Fprintln(t.to, "  nothing changed on the host")
	}
	t.changes("packages", c.Packages)
	t.changes("services", c.Services)
	t.files(c)
	calls := []string{}
	for _, call := range c.Calls {
		calls = append(calls, fmt.Sprintf("%s %d", call.Operation, call.Count))
	}
	for i, line := range wrap(calls, 90) {
		fmt.Fprintf(t.to, "  %-9s %s\n", map[bool]string{true: "called"}[i == 0], t.style.Change(' ', line))
	}
}

// still: the host is as it was before.
func (c Command) still() bool { return len(c.Changed)+len(c.Packages)+len(c.Services) == 0 }

func (t *teller) changes(what string, all []Change) {
	for _, c := range all {
		var text string
		switch {
		case c.Before == "":
			text = "+ " + c.Name + ": " + c.After
		case c.After == "":
			text = "- " + c.Name + ": was " + c.Before
		case c.After == c.Before+anew:
			text = "~ " + c.Name + ": " + c.After
		default:
			text = "~ " + c.Name + ": " + c.After + ", was " + c.Before
		}
		fmt.Fprintf(t.to, "  %-9s %s\n", what, t.style.Change(text[0], text))
		what = ""
	}
}

// theirs are the folders of packages and agents, whose files are counted and not named.
var theirs = []string{
	"/var/lib/amazon/ssm", "/var/lib/ecs", "/var/cache/ecs", "/var/lib/dpkg", oldDatabase, newDatabase, "/lib/systemd/system", "/usr/lib/systemd/system", "/usr/bin", "/usr/libexec",
	"/var/lib/snapd", "/snap", strings.TrimSuffix(snapBase, "/"), lifecycle.DataDir,
}

// files tells of files, the configuration's as a diff.
func (t *teller) files(c Command) {
	what := "files"
	say := func(text string) {
		fmt.Fprintf(t.to, "  %-9s %s\n", what, t.style.Change(text[0], text))
		what = ""
	}
	counts := map[string]int{}
	var folders []string
	for _, name := range c.Changed {
		i := slices.IndexFunc(theirs, func(dir string) bool { return strings.HasPrefix(name[1:], dir+"/") })
		if i >= 0 {
			key := name[:1] + theirs[i]
			if counts[key]++; counts[key] == 1 {
				folders = append(folders, key)
			}
			continue
		}
		say(name[:1] + " " + name[1:])
		for _, d := range c.Diffs {
			if d.Path == name[1:] && name[0] != '-' { // what is gone is gone as a whole
				t.diff(d)
			}
		}
	}
	for _, key := range folders {
		n := counts[key]
		say(fmt.Sprintf("%s %d file%s in %s", key[:1], n, map[bool]string{true: "s"}[n > 1], path.Clean(key[1:])))
	}
}

// diffLines is how much of a diff is told; the document has all of it.
const diffLines = 12

func (t *teller) diff(d Diff) {
	for i, line := range d.Lines {
		if i == diffLines {
			fmt.Fprintf(t.to, "  %-9s     %d more lines\n", "", len(d.Lines)-i)
			return
		}
		fmt.Fprintf(t.to, "  %-9s     %s\n", "", t.style.Change(line[0], line))
	}
}

// end is the story in one table.
func (t *teller) end(commands []Command) {
	rows := [][]string{{"", "command", "exit", "time", "files", "calls"}}
	for i, c := range commands {
		calls := 0
		for _, call := range c.Calls {
			calls += call.Count
		}
		took := time.Duration(c.DurationMs) * time.Millisecond
		rows = append(rows, []string{
			fmt.Sprint(i + 1), c.Line, fmt.Sprint(c.RC), fmt.Sprintf("%.1f s", took.Seconds()), fmt.Sprint(len(c.Changed)), fmt.Sprint(calls),
		})
	}
	fmt.Fprintln(t.to)
	if t.tty {
		fmt.Fprintln(t.to, t.style.Rule(ruleWidth))
	}
	report.Table(t.to, t.style, rows)
	fmt.Fprintln(t.to)
}

// wrap puts words, with commas, into lines of a width.
func wrap(words []string, width int) (lines []string) {
	line := ""
	for i, word := range words {
		if i < len(words)-1 {
			word += ","
		}
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// counted are operations with how often they were asked for, in the order in which they came first.
func counted(requests []emulator.Request) []Call {
	all := []Call{}
	for _, r := range requests {
		i := slices.IndexFunc(all, func(c Call) bool { return c.Operation == r.Operation })
		if i < 0 {
			all = append(all, Call{Operation: r.Operation})
			i = len(all) - 1
		}
		all[i].Count++
	}
	return all
}
