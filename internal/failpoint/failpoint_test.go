package failpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

func TestSetCountsAndCalls(t *testing.T) {
	var off *Set
	off.Hit(LogCut) // as in production
	s := new(Set)
	s.Hit(LogCut)
	var seen []Name
	s.Hook(func(n Name) { seen = append(seen, n) })
	s.Hit(IngestDone)
	s.Hook(nil)
	s.Hit(IngestDone)
	if hits := s.Hits(); hits[LogCut] != 1 || hits[IngestDone] != 2 {
		t.Errorf("hits: %v", hits)
	}
	if len(seen) != 1 || seen[0] != IngestDone {
		t.Errorf("hook saw %v", seen)
	}
}

// Every constant is listed once, or a place could stay unvisited unseen.
func TestAllIsComplete(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "failpoint.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
			names += len(g.Specs)
		}
	}
	seen := make(map[Name]bool)
	for _, n := range All() {
		if seen[n] {
			t.Errorf("%s is listed twice", n)
		}
		seen[n] = true
	}
	if len(seen) != names {
		t.Errorf("%d constants, %d listed", names, len(seen))
	}
}
