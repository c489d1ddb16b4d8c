package lifecycle

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

var updateDocs = flag.Bool("update", false, "rewrite the tables of docs/doctor.md and docs/limits.md")

// The documents' tables are the program's own.
func TestTablesOfDoctorsDocuments(t *testing.T) {
	for _, table := range []struct{ page, head, text string }{
		{"doctor.md", "| id | what it does | why that is safe |\n|---|---|---|\n", FixesText()},
		{"doctor.md", "| where | pattern | code | cause | remedy | versions | source |\n|---|---|---|---|---|---|---|\n", KnownFailuresText()},
		{"limits.md", "| id | what external instances cannot do | what to use instead | source |\n|---|---|---|---|\n", LimitsText()},
	} {
		page := "../../docs/" + table.page
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		before, after, found := strings.Cut(string(text), table.head)
		if !found {
			t.Errorf("%s has no table that begins %q", page, table.head)
			continue
		}
		for strings.HasPrefix(after, "|") {
			_, after, _ = strings.Cut(after, "\n")
		}
		whole := before + table.head + table.text + after
		switch {
		case whole == string(text):
		case *updateDocs:
			if err := os.WriteFile(page, []byte(whole), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s does not have the table as it is now; go test ./internal/lifecycle -run Tables -update writes it", page)
		}
	}
}

// Every kind of finding is explained.
func TestDoctorsPageNamesEveryKind(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range FindingKinds {
		if !strings.Contains(string(text), "| `"+string(kind)+"` |") {
			t.Errorf("%s is not explained", kind)
		}
	}
}

var rowVersion = regexp.MustCompile(`^\d+\.\d+\.\d+(\.\d+)?$`)

// Every row says all that doctor needs, and its sample is recognised as that row and no other.
func TestKnownFailuresAreWhole(t *testing.T) {
	all := KnownFailures()
	if want := len(ecsagent.Failures) + len(ssmagent.Failures) + len(journalFailures); len(all) != want || want < 100 {
		t.Errorf("%d rows, of %d", len(all), want)
	}
	for _, f := range all {
		if _, known := failure.Catalogue[f.Code]; !known || f.Where == "" || f.Pattern == "" || f.Cause == "" || f.Remedy == "" || f.Source == "" || f.Sample == "" {
			t.Errorf("a row that is not whole: %+v", f)
		}
		for _, v := range []string{f.Since, f.Until} {
			if v != "" && !rowVersion.MatchString(v) {
				t.Errorf("%s: %q is no version", f.Pattern, v)
			}
		}
		if f.Fix != "" && !slices.ContainsFunc(Fixes, func(x Fix) bool { return x.ID == f.Fix }) {
			t.Errorf("%s: there is no safe remedy %s", f.Pattern, f.Fix)
		}
	}
	for i, f := range journalFailures {
		for _, unit := range f.Units {
			if got := recogniseJournal(unit, f.Sample); got != i {
				t.Errorf("%s, %q is recognised as row %d, not %d", unit, f.Sample, got, i)
			}
		}
	}
}

func TestFixesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Fixes {
		if f.ID == "" || seen[f.ID] || f.Title == "" || f.Words == "" || f.due == nil || f.do == nil || f.remedy == "" || failure.Catalogue[f.code].Cause == "" {
			t.Errorf("%+v", f)
		}
		seen[f.ID] = true
		for _, rule := range f.rules {
			if !slices.ContainsFunc(Rules, func(r Rule) bool { return r.ID == rule }) {
				t.Errorf("%s: there is no rule %s", f.ID, rule)
			}
		}
	}
}

func TestLimitsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range Limits {
		if l.ID == "" || seen[l.ID] || l.What == "" || l.Instead == "" || l.Source == "" || strings.Contains(l.What+l.Instead, "|") {
			t.Errorf("%+v", l)
		}
		seen[l.ID] = true
	}
	for _, needed := range []string{"launch-type", "network-mode", "efs", "load-balancer", "service-discovery", "app-mesh", "capacity-provider"} {
		if !seen[needed] {
			t.Errorf("there is no limit %s", needed)
		}
	}
}
