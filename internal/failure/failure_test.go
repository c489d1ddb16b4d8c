package failure

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/errors.md")

func TestTheFirstRoomThatKnewTheCauseIsRight(t *testing.T) {
	inner := New(DiskFull, "could not write /x").WithEvidence("statfs").WithRemedy("rm /y")
	outer := Wrap(Internal, fmt.Errorf("while copying: %w", inner), "install %s", "it")
	if outer.Code != DiskFull || outer.Evidence != "statfs" || outer.Advice() != "rm /y" {
		t.Errorf("wrapping lost the cause: %+v", outer)
	}
	if want := "install it: could not write /x"; outer.Error() != want {
		t.Errorf("message %q, want %q", outer.Error(), want)
	}
	if !errors.Is(outer, inner) {
		t.Error("the chain is broken")
	}
	if inner.Message != "could not write /x" {
		t.Error("wrapping changed the wrapped error")
	}
}

func TestOf(t *testing.T) {
	for _, test := range []struct {
		err  error
		code Code
		exit int
	}{
		{errors.New("boom"), Internal, 1},
		{fmt.Errorf("x: %w", context.Canceled), Interrupted, 130},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), Timeout, 130},
		{fmt.Errorf("x: %w", New(Locked, "busy")), Locked, 13},
		{New(Code("never heard of"), "x"), Code("never heard of"), 1},
	} {
		got := Of(test.err)
		if got.Code != test.code || got.Entry().Exit != test.exit {
			t.Errorf("Of(%v) = %s, exit %d; want %s, exit %d", test.err, got.Code, got.Entry().Exit, test.code, test.exit)
		}
	}
	if Of(nil) != nil {
		t.Error("no error became one")
	}
}

// codes are the constants of type Code in the source, so that none can be forgotten in the catalogue.
func codes(t *testing.T) []Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "catalogue.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, Code(text))
		}
		return true
	})
	return found
}

func TestEveryCodeHasARowThatHelps(t *testing.T) {
	known := codes(t)
	if len(known) < 40 {
		t.Fatalf("found only %d codes in the source", len(known))
	}
	seen := map[Code]bool{}
	for _, code := range known {
		row, ok := Catalogue[code]
		switch {
		case seen[code]:
			t.Errorf("%s stands twice", code)
		case !ok:
			t.Errorf("%s has no row", code)
		case row.Cause == "" || row.Remedy == "" || row.Exit == 0:
			t.Errorf("%s: the row is not whole: %+v", code, row)
		case row.Exit == ExitRolledBack || row.Exit == ExitKept:
			t.Errorf("%s: 7 and 8 say what became of a failure, not its cause", code)
		}
		seen[code] = true
	}
	for code := range Catalogue {
		if !seen[code] {
			t.Errorf("the catalogue has %s, which is no constant", code)
		}
	}
}

func TestDocumentHasEveryCode(t *testing.T) {
	const path = "../../docs/errors.md"
	var b bytes.Buffer
	b.WriteString(`# Error codes

What ` + "`error.code`" + ` of ` + "`-o json`" + ` can be, and what the text output says after ` + "`error:`" + `. Codes are stable. The exit status is the one
that a failure has when nothing was changed; once something was changed it is 7 (everything was undone) or 8 (what is
named in ` + "`error.kept`" + ` stays), and the code still names the cause. ` + "`error.remedy`" + ` is often more precise than the remedy here.

This page is made from ` + "`internal/failure/catalogue.go`" + `: ` + "`go test ./internal/failure -update`" + `.

| code | exit | retry | cause | remedy |
|---|---|---|---|---|
`)
	known := codes(t)
	slices.SortStableFunc(known, func(a, b Code) int { return Catalogue[a].Exit - Catalogue[b].Exit })
	for _, code := range known {
		row, retry := Catalogue[code], ""
		if row.Retryable {
			retry = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s | %s |\n", code, row.Exit, retry, row.Cause, strings.ReplaceAll(row.Remedy, "|", "\\|"))
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Error("docs/errors.md is not what the catalogue says: go test ./internal/failure -update")
	}
}
