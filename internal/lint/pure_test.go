package lint

import (
	"go/ast"
	"testing"
)

// clockReading finds uses of package time in the deterministic machine other than
// its units.
func clockReading(f *file) (messages []string) {
	if f.isTest() || f.dir() != "raftstore/state" || !f.imports("time") {
		return nil
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if of, ok := sel.X.(*ast.Ident); ok && of.Name == "time" {
			switch sel.Sel.Name {
			case "Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour":
			default:
				messages = append(messages, f.at(n)+": time."+sel.Sel.Name+
					": apply depends on entry and state alone: take shard time from the entry")
			}
		}
		return true
	})
	return messages
}

func TestMachineReadsNoClock(t *testing.T) {
	check(t, clockReading)
	checkSnippets(t, clockReading, []snippet{
		{"now", "raftstore/state/a.go", `package a; import "time"; var a = time.Now()`, 1},
		{"timer", "raftstore/state/a.go", `package a; import "time"; var a = time.After(time.Second)`, 1},
		{"unit", "raftstore/state/a.go", `package a; import "time"; const a = 10 * time.Minute`, 0},
		{"elsewhere", "raftstore/a.go", `package a; import "time"; var a = time.Now()`, 0},
	})
}

// goroutine finds what a deterministic machine and pure values must not have.
func goroutine(f *file) (messages []string) {
	if f.isTest() || f.dir() != "raftstore/state" && f.dir() != "shardmap" {
		return nil
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.GoStmt:
			messages = append(messages, f.at(n)+": a goroutine in "+f.dir()+": its caller decides what runs when")
		case *ast.SelectStmt, *ast.ChanType:
			messages = append(messages, f.at(n)+": a channel in "+f.dir()+": return a value or take a function")
		}
		return true
	})
	return messages
}

func TestNoGoroutinesInPureCode(t *testing.T) {
	check(t, goroutine)
	checkSnippets(t, goroutine, []snippet{
		{"go", "raftstore/state/a.go", `package a; func f() { go f() }`, 1},
		{"in a closure", "shardmap/a.go", `package a; func f() { func() { go f() }() }`, 1},
		{"channel", "shardmap/a.go", `package a; func f(c chan int) {}`, 1},
		{"elsewhere", "raftstore/a.go", `package a; func f() { go f() }`, 0},
		{"in a test", "shardmap/a_test.go", `package a; func f() { go f() }`, 0},
	})
}
