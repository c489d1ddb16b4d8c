package cli_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// comments reads what the source says of types.
type comments struct {
	t     *testing.T
	files map[string][]*ast.File // by the package's import path
}

const modulePath = "github.com/anywhere-ecs/anywhere/"

// source is a package's files, with their comments.
func (c *comments) source(importPath string) []*ast.File {
	c.t.Helper()
	if files := c.files[importPath]; files != nil {
		return files
	}
	dir := filepath.Join("..", "..", strings.TrimPrefix(importPath, modulePath))
	entries, err := os.ReadDir(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	var files []*ast.File
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments)
			if err != nil {
				c.t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	if c.files == nil {
		c.files = map[string][]*ast.File{}
	}
	c.files[importPath] = files
	return files
}

// of is what the source says of a struct's fields, by their names; "" is the struct itself.
func (c *comments) of(kind reflect.Type) map[string]string {
	c.t.Helper()
	described := map[string]string{}
	for _, file := range c.source(kind.PkgPath()) {
		for _, decl := range file.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				named, ok := spec.(*ast.TypeSpec)
				if !ok || named.Name.Name != kind.Name() {
					continue
				}
				described[""] = oneLine(first(named.Doc, general.Doc))
				body, ok := named.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, field := range body.Fields.List {
					for _, name := range field.Names {
						described[name.Name] = oneLine(first(field.Comment, field.Doc))
					}
				}
			}
		}
	}
	return described
}

// constants are the values of a named string type's constants, in the order of the source; none of a plain string.
func (c *comments) constants(kind reflect.Type) (words []string) {
	c.t.Helper()
	if kind.PkgPath() == "" {
		return nil
	}
	for _, file := range c.source(kind.PkgPath()) {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == kind.Name() {
				for _, value := range spec.Values {
					word, err := strconv.Unquote(value.(*ast.BasicLit).Value)
					if err != nil {
						c.t.Fatal(err)
					}
					words = append(words, word)
				}
			}
			return true
		})
	}
	return words
}

func first(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if g != nil {
			return g.Text()
		}
	}
	return ""
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
