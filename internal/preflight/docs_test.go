package preflight

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/checks.md has one row for each check, in the order of All.
func TestDocumentHasEveryCheck(t *testing.T) {
	text, err := os.ReadFile("../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	var have, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|(.*)$").FindAllStringSubmatch(string(text), -1) {
		have = append(have, row[1])
		if cells := strings.Split(row[2], "|"); len(cells) != 4 || strings.TrimSpace(cells[0]) == "" {
			t.Errorf("the row of %s has not three cells behind the id: %q", row[1], row[2])
		}
	}
	for _, c := range All() {
		want = append(want, c.ID)
		if c.Title == "" || c.Run == nil {
			t.Errorf("%s has no title, or does nothing", c.ID)
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("docs/checks.md has %q; the checks are %q", have, want)
	}
}

func TestIDsAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range All() {
		if seen[c.ID] {
			t.Errorf("%s stands twice", c.ID)
		}
		seen[c.ID] = true
	}
}
