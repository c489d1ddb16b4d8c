package platform

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite docs/tested.md")

const document = "../../docs/tested.md"

// docs/tested.md is what the data say.
func TestDocumentOfWhatWasTested(t *testing.T) {
	want := []byte(writtenDocument())
	if *update {
		if err := os.WriteFile(document, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(document); err != nil || string(got) != string(want) {
		t.Errorf("docs/tested.md is not what the data say (%v): go test ./internal/platform -run Document -update writes it", err)
	}
}

func writtenDocument() string {
	var b strings.Builder
	b.WriteString("# What was tested, and where\n\n" +
		"Made from `internal/platform/tested.go`; `anywhere platforms` tells the same. AWS is the emulator everywhere: nothing here was tried\n" +
		"against AWS itself, and the agents are `internal/simagent`'s unless a row says otherwise. Hosts share the kernel of the machine\n" +
		"that tests unless a row names its own. **Ran** is a booted host of that very system; **simulated** is something that stands in\n" +
		"for it; what is in neither table **never ran**: its row is tested by tables alone.\n\n" +
		"| system | architecture | how | package manager | systemd | cgroup | what | again by | last looked at |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, trial := range Trials() {
		again := "`make e2e`: "
		if trial.Slow {
			again = "`make e2e-slow`: "
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", strings.Join(trial.Systems, ", "), trial.Arch, trial.How, trial.Manager,
			or(trial.Systemd), or(trial.Cgroup), trial.What, again+strings.Join(trial.Tests, ", "), trial.Date)
	}
	b.WriteString("\n## Every row of the table of systems\n\n| system | AWS | anywhere | tested |\n|---|---|---|---|\n")
	for _, row := range Table() {
		works := "not yet"
		switch {
		case row.Broken:
			works = "refuses"
		case row.Built:
			works = "registers"
		}
		how, _ := row.TestedAs()
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.TrimSpace(row.System+" "+strings.Join(row.Versions, ", ")),
			strings.ReplaceAll(string(row.AWS.State), "-", " "), works, map[How]string{Ran: "ran", Simulated: "simulated", NeverRan: "never ran"}[how])
	}
	return b.String()
}

func or(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// Each trial is of a system of the table, can be done again, and says all that the document shows.
func TestTrialsAreWhole(t *testing.T) {
	functions := map[string]bool{}
	found := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, dir := range []string{"../../test/e2e", "../rehearsal"} {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := os.ReadFile(name)
			for _, match := range found.FindAllStringSubmatch(string(text), -1) {
				functions[match[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, trial := range Trials() {
		name := strings.Join(trial.Systems, ", ") + " on " + trial.Arch
		for _, system := range trial.Systems {
			if !slices.ContainsFunc(Table(), func(r Row) bool { return r.named(system) }) {
				t.Errorf("%s: %s is not in the table", name, system)
			}
		}
		for _, test := range trial.Tests {
			if !functions[test] {
				t.Errorf("%s: there is no %s", name, test)
			}
		}
		if _, err := time.Parse(time.DateOnly, trial.Date); err != nil || len(trial.Systems) == 0 || len(trial.Tests) == 0 || trial.What == "" || trial.Manager == "" {
			t.Errorf("%s: something is missing (%v)", name, err)
		}
		if !slices.Contains([]How{Ran, Simulated}, trial.How) || trial.How == Ran && (trial.Systemd == "" || trial.Cgroup == "") {
			t.Errorf("%s: %s without a systemd or a cgroup", name, trial.How)
		}
		if _, _, err := Arch(trial.Arch); err != nil {
			t.Error(name, err)
		}
	}
}

func TestTestedAs(t *testing.T) {
	for name, want := range map[string]How{"debian 12": Ran, "debian 11": Ran, "debian 13": Ran, "fedora 42": Simulated, "debian 10": NeverRan, "windows 2022": NeverRan} {
		id, version, _ := strings.Cut(name, " ")
		row, _, ok := Find(id, version, "", nil)
		if how, _ := row.TestedAs(); !ok || how != want {
			t.Errorf("%s: %s, want %s", name, how, want)
		}
	}
}
