package lint

import (
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

const consistency = "docs/consistency.md"

// named is a test as docs/consistency.md names it: the directory of its package and
// its function.
var named = regexp.MustCompile("`(?:([a-z0-9/]+)\\.)?(Test[A-Z]\\w*)`")

// unproven finds promises in a page that name no test, and tests that there are not.
// Promises are the rows of tables with a column called test. has reports whether a
// directory has a test function.
func unproven(page string, has func(dir, test string) bool) (messages []string) {
	for line, columns := range tableRows(page) {
		tests := named.FindAllStringSubmatch(columns[len(columns)-1], -1)
		if len(tests) == 0 {
			messages = append(messages, fmt.Sprintf("%s:%d: promises %q and names no test that shows it", consistency, line, strings.TrimSpace(columns[0])))
		}
	}
	for i, line := range strings.Split(page, "\n") {
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			switch {
			case m[1] == "":
				messages = append(messages, fmt.Sprintf("%s:%d: %s: say in which directory, as in `client.%s`", consistency, i+1, m[2], m[2]))
			case !has(m[1], m[2]):
				messages = append(messages, fmt.Sprintf("%s:%d: %s has no test %s: name the one that shows the promise now", consistency, i+1, m[1], m[2]))
			}
		}
	}
	return messages
}

// tableRows is the rows of the tables whose last column is called test, by line.
func tableRows(page string) map[int][]string {
	rows := map[int][]string{}
	inside := false
	for i, line := range strings.Split(page, "\n") {
		columns := strings.Split(strings.Trim(line, "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case strings.TrimSpace(columns[len(columns)-1]) == "test":
			inside = true
		case inside && !strings.HasPrefix(line, "|---"):
			rows[i+1] = columns
		}
	}
	return rows
}

func TestPromisesAreShownByTests(t *testing.T) {
	page, err := os.ReadFile("../../" + consistency)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[[2]string]bool{}
	for _, f := range allFiles(t) {
		if !f.isTest() {
			continue
		}
		for _, name := range testFunctions(f) {
			tests[[2]string{f.dir(), name}] = true
		}
	}
	has := func(dir, test string) bool { return tests[[2]string{dir, test}] }
	for _, message := range unproven(string(page), has) {
		t.Error(message)
	}
	if n := len(tableRows(string(page))); n < 40 {
		t.Errorf("%s has %d promises: the tables are not read", consistency, n)
	}
}

func TestUnprovenPromisesAreFound(t *testing.T) {
	has := func(dir, test string) bool { return dir == "a/b" && test == "TestA" }
	const head = "| call | guarantee | test |\n|---|---|---|\n"
	for _, tc := range []struct {
		name, page string
		wrong      int
	}{
		{"shown", head + "| put | is put | `a/b.TestA` |\n", 0},
		{"shown by several", head + "| put | is put | `a/b.TestA` `a/b.TestA` |\n", 0},
		{"not shown", head + "| put | is put | |\n", 1},
		{"no such test", head + "| put | is put | `a/b.TestB` |\n", 1},
		{"elsewhere", head + "| put | is put | `b.TestA` |\n", 1},
		{"no directory", head + "| put | is put | `TestA` |\n", 1},
		{"in the text", "See `a/b.TestB`.\n", 1},
		{"another table", "| word | meaning |\n|---|---|\n| put | is put |\n", 0},
	} {
		if got := unproven(tc.page, has); len(got) != tc.wrong {
			t.Errorf("%s: got %d messages, want %d: %q", tc.name, len(got), tc.wrong, got)
		}
	}
}

// testFunctions are the names of a file's tests.
func testFunctions(f *file) (names []string) {
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
			names = append(names, fn.Name.Name)
		}
	}
	return names
}
