package contract

import (
	"os"
	"strings"
	"testing"
)

func TestEverySchemaCompiles(t *testing.T) {
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 10 {
		t.Fatalf("%d schemas in %s: %v", len(entries), dir, err)
	}
	for _, entry := range entries {
		if _, err := compile(entry.Name()); err != nil {
			t.Error(err)
		}
	}
}

// What is no document at all is refused with words that help.
func TestCheckRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "not one JSON object",
		"[]":                              "not one JSON object",
		`{"command":"version"}{}`:         "not one JSON object",
		`{"schema":"anywhere/v1"}`:        "names no command",
		`{"command":"enlist"}`:            "no docs/schema/enlist.json",
		`{"command":"operation show"}`:    "docs/schema/operation-show.json",
		`{"command":"","schema":"other"}`: "docs/schema/anywhere.json",
	} {
		if err := Check([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
