package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTextsNameCommandsThatExist reads every string of the product: who is told to type a command must find it.
func TestTextsNameCommandsThatExist(t *testing.T) {
	known := map[string]bool{}
	root := newRoot(newApp(Env{}))
	for _, c := range root.Commands() {
		known[c.Name()] = true
		for _, alias := range c.Aliases {
			known[alias] = true
		}
	}
	known["rehearse"], known["emulator"] = true, true       // brought by main
	known["help"] = true                                    // and by the library
	for _, word := range []string{"cannot", "does", "on"} { // "anywhere" as a name in a sentence
		known[word] = true
	}
	named := regexp.MustCompile(`(?:^|[:;(,"] ?|sudo |run |see |again, or )anywhere ([a-z]+)(?: [a-z-]|[;:,")]|$)`)
	found := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range named.FindAllStringSubmatch(text, -1) {
				found++
				if !known[m[1]] {
					t.Errorf("%s: %q names the command %q, which is not there", files.Position(literal.Pos()), text, m[1])
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 20 {
		t.Errorf("found only %d commands in texts: the search does not search", found)
	}
}
