// Package internal holds no code of its own: only the test of which room may import which.
package internal

import (
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// floors is docs/architecture.md's list, top to bottom. A room imports only rooms of floors below its own.
var floors = [][]string{
	{"rehearsal"},
	{"cli"},
	{"report"},
	{"lifecycle", "fleet"},
	{"preflight"},
	{"ecsagent", "ssmagent", "docker"},
	{"engine", "control", "artifact"},
	{"host", "platform", "partition", "transport"},
	{"failure", "secret"},
}

// apart stands beside the house: these rooms pose as AWS, so they share nothing with the rooms that talk to AWS, and
// only the rehearsal imports them (tests may: their imports are not looked at). The contract is for tests alone.
var apart = map[string][]string{
	"emulator": {"failure", "secret", "partition"},
	"simagent": {"failure", "secret", "partition"},
	"contract": {},
}

const prefix = "github.com/anywhere-ecs/anywhere/internal/"

// room is the folder below internal/ that a package belongs to; empty for packages from elsewhere.
func room(importPath string) string {
	rest, ok := strings.CutPrefix(importPath, prefix)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// floor numbers the floors from the top; -1 is a room that is not in the house.
func floor(room string) int {
	return slices.IndexFunc(floors, func(rooms []string) bool { return slices.Contains(rooms, room) })
}

// mayImport tells whether a file in one room may import from another.
func mayImport(from, to string) bool {
	switch allowed, isApart := apart[from]; {
	case from == to:
		return true
	case isApart:
		return slices.Contains(allowed, to)
	case apart[to] != nil:
		return from == "rehearsal" && to != "contract"
	}
	return floor(from) >= 0 && floor(to) > floor(from)
}

func TestRoomsImportOnlyFromFloorsBelow(t *testing.T) {
	seen := map[string]bool{}
	for _, goos := range []string{"linux", "windows"} { // each has files that the other does not see
		ctx := build.Default
		ctx.GOOS, ctx.CgoEnabled = goos, false
		err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			if d.Name() == "testdata" {
				return fs.SkipDir
			}
			pkg, err := ctx.ImportDir(dir, 0)
			if err != nil {
				return nil // no Go files here for this system
			}
			from := room(prefix + filepath.ToSlash(dir))
			if dir == "." {
				return nil
			}
			seen[from] = true
			if floor(from) < 0 && apart[from] == nil {
				t.Errorf("internal/%s is on no floor: give it one here and in docs/architecture.md", from)
			}
			for _, imported := range pkg.Imports {
				if to := room(imported); to != "" && !mayImport(from, to) {
					t.Errorf("%s: internal/%s must not import internal/%s", goos, filepath.ToSlash(dir), strings.TrimPrefix(imported, prefix))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < 10 {
		t.Errorf("found only the rooms %v: does this test still look in the right place?", seen)
	}
}

func TestFloorsRefuse(t *testing.T) {
	for _, c := range []struct {
		from, to string
		may      bool
	}{
		{"lifecycle", "engine", true},
		{"engine", "lifecycle", false},
		{"lifecycle", "fleet", false}, // the same floor
		{"engine", "engine", true},    // a package below the same room
		{"rehearsal", "emulator", true},
		{"cli", "emulator", false},
		{"rehearsal", "contract", false},
		{"contract", "cli", false},
		{"emulator", "partition", true},
		{"emulator", "control", false},
		{"host", "stranger", false},
		{"stranger", "failure", false},
	} {
		if got := mayImport(c.from, c.to); got != c.may {
			t.Errorf("%s imports %s: %v, want %v", c.from, c.to, got, c.may)
		}
	}
}
