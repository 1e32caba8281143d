package lint

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// raftTraps are names of hashicorp/raft v1.8.0 that must not be used, and why.
var raftTraps = map[string]string{
	"VerifyLeader":         "S4: it counts answers to requests sent before the call; use the confirm round (rules R1 to R3)",
	"Barrier":              "it waits for an apply that may never be reported; wait for the applied index instead",
	"RestoreCommittedLogs": "it replays what the state machine already holds; the applied index in the state says where to go on",
	"MonotonicLogStore":    "it makes raft delete the whole log when a snapshot is installed; the log store keeps a boundary (rule L1)",
	"IsMonotonic":          "it makes raft delete the whole log when a snapshot is installed; the log store keeps a boundary (rule L1)",
}

func raftTrap(f *file) (messages []string) {
	if f.isTest() || !f.imports(raft) {
		return nil
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && raftTraps[id.Name] != "" {
			messages = append(messages, f.at(n)+": "+id.Name+": "+raftTraps[id.Name])
		}
		return true
	})
	return messages
}

func TestRaftTraps(t *testing.T) {
	check(t, raftTrap)
	checkSnippets(t, raftTrap, []snippet{
		{"call", "raftstore/a.go", `package a; import "github.com/hashicorp/raft"; func f(r *raft.Raft) { r.VerifyLeader() }`, 1},
		{"barrier", "raftstore/a.go", `package a; import "github.com/hashicorp/raft"; func f(r *raft.Raft) { r.Barrier(0) }`, 1},
		{"field", "raftstore/a.go", `package a; import "github.com/hashicorp/raft"; var c = raft.Config{RestoreCommittedLogs: true}`, 1},
		{"interface", "raftstore/a.go", `package a; import "github.com/hashicorp/raft"; var _ raft.MonotonicLogStore = nil`, 1},
		{"method", "raftstore/a.go", `package a; import _ "github.com/hashicorp/raft"; type g int; func (g) IsMonotonic() bool { return true }`, 1},
		{"comment", "raftstore/a.go", "package a\nimport _ \"github.com/hashicorp/raft\"\n// VerifyLeader is not used.\n", 0},
		{"another Barrier", "client/a.go", `package a; func Barrier() { Barrier() }`, 0},
		{"in a test", "raftstore/a_test.go", `package a; import "github.com/hashicorp/raft"; func f(r *raft.Raft) { r.VerifyLeader() }`, 0},
	})
}

// textDecision finds decisions made on an error's text. Tests may look at texts:
// those are what they promise to people.
func textDecision(f *file) (messages []string) {
	if f.isTest() {
		return nil
	}
	report := func(n ast.Node) {
		messages = append(messages, f.at(n)+": a decision on an error's text: use errors.Is or errors.As, "+
			"with a kverr.Kind or a sentinel of your own")
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isErrorText(n.X) || isErrorText(n.Y)) && !isNil(n.X) && !isNil(n.Y) {
				report(n)
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && isErrorText(n.Tag) {
				report(n)
			}
		case *ast.CallExpr:
			if of, _ := callee(n); of != "strings" && of != "regexp" && of != "bytes" {
				return true
			}
			for _, arg := range n.Args {
				if isErrorText(arg) && decides(n) {
					report(n)
				}
			}
		}
		return true
	})
	return messages
}

// decides reports whether a call of package strings asks something, rather than
// making another text of it.
func decides(call *ast.CallExpr) bool {
	_, name := callee(call)
	for _, question := range []string{"Contains", "Has", "Equal", "Index", "LastIndex", "Compare", "Match", "Count", "Cut"} {
		if strings.HasPrefix(name, question) {
			return true
		}
	}
	return false
}

// callee returns the qualifier and name of a call such as strings.Contains(…).
func callee(call *ast.CallExpr) (qualifier, name string) {
	if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
		if id, ok := sel.X.(*ast.Ident); ok {
			return id.Name, sel.Sel.Name
		}
	}
	return "", ""
}

// isErrorText reports whether an expression is x.Error(), maybe inside another
// call such as strings.ToLower.
func isErrorText(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Error" && len(call.Args) == 0 {
		return true
	}
	if of, _ := callee(call); of == "strings" && len(call.Args) > 0 {
		return isErrorText(call.Args[0])
	}
	return false
}

// isNil excuses raft's futures, whose Error method returns an error, not a text.
func isNil(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "nil"
}

func TestNoDecisionOnErrorText(t *testing.T) {
	check(t, textDecision)
	body := func(s string) string {
		return `package a; import "strings"; func f(err error) bool { ` + s + `; return false }; var _ = strings.ToLower`
	}
	checkSnippets(t, textDecision, []snippet{
		{"equal", "a/a.go", body(`if err.Error() == "x" { return true }`), 1},
		{"unequal, right", "a/a.go", body(`if "x" != err.Error() { return true }`), 1},
		{"contains", "a/a.go", body(`if strings.Contains(err.Error(), "x") { return true }`), 1},
		{"prefix", "a/a.go", body(`if strings.HasPrefix(err.Error(), "x") { return true }`), 1},
		{"lower", "a/a.go", body(`if strings.Contains(strings.ToLower(err.Error()), "x") { return true }`), 1},
		{"fold", "a/a.go", body(`if strings.EqualFold(err.Error(), "x") { return true }`), 1},
		{"switch", "a/a.go", body(`switch err.Error() { case "x": return true }`), 1},
		{"a future", "a/a.go", `package a; func f(x interface{ Error() error }) bool { return x.Error() != nil }`, 0},
		{"making text", "a/a.go", body(`println(strings.ReplaceAll(err.Error(), "\n", " "))`), 0},
		{"printing", "a/a.go", body(`println("failed: " + err.Error())`), 0},
		{"in a test", "a/a_test.go", body(`if strings.Contains(err.Error(), "x") { return true }`), 0},
	})
}

// sleeper finds sleeping tests. In a bubble of testing/synctest sleeping is a way
// to let virtual time pass; so directories whose tests use bubbles are trusted to
// sleep inside of them. Elsewhere only a poll may sleep: as the last statement of
// a loop that looks first.
func sleeper(bubbles map[string]bool) rule {
	return func(f *file) (messages []string) {
		if !f.isTest() || bubbles[f.dir()] || f.imports("testing/synctest") {
			return nil
		}
		polls := map[ast.Stmt]bool{}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if loop, ok := n.(*ast.ForStmt); ok && len(loop.Body.List) > 1 {
				polls[loop.Body.List[len(loop.Body.List)-1]] = true
			}
			stmt, ok := n.(*ast.ExprStmt)
			if !ok || polls[stmt] {
				return true
			}
			if call, ok := stmt.X.(*ast.CallExpr); ok {
				if of, name := callee(call); of == "time" && name == "Sleep" {
					messages = append(messages, f.at(n)+": a test that sleeps to be right: "+
						"run it in a testing/synctest bubble, or wait for what it waits for")
				}
			}
			return true
		})
		return messages
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	bubbles := map[string]bool{}
	for _, f := range allFiles(t) {
		if f.isTest() && f.imports("testing/synctest") {
			bubbles[f.dir()] = true
		}
	}
	check(t, sleeper(bubbles))
	checkSnippets(t, sleeper(map[string]bool{"b": true}), []snippet{
		{"sleeps", "a/a_test.go", `package a; import "time"; func f() { time.Sleep(1) }`, 1},
		{"sleeps in a loop", "a/a_test.go", `package a; import "time"; func f() { for range 3 { time.Sleep(1) } }`, 1},
		{"polls", "a/a_test.go", `package a; import "time"; func f() { for { if f != nil { return }; time.Sleep(1) } }`, 0},
		{"in a bubble", "a/a_test.go", `package a; import ("time"; _ "testing/synctest"); func f() { time.Sleep(1) }`, 0},
		{"beside a bubble", "b/a_test.go", `package a; import "time"; func f() { time.Sleep(1) }`, 0},
		{"not a test", "a/a.go", `package a; import "time"; func f() { time.Sleep(1) }`, 0},
	})
}
