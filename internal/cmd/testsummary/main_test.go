package main

import (
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	cases := []struct {
		name, in, last string
		ok             bool
		contains       string
	}{
		{"all pass", `{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Elapsed":1.5}`, "1 passed, 0 failed, 0 skipped", true, "ok\tp\t1.5s"},
		{"a failure shows its output", `{"Action":"output","Package":"p","Test":"A","Output":"because\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`, "0 passed, 1 failed, 0 skipped", false, "because"},
		{"a process that dies in a test", `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"SIGSEGV\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\n"}
{"Action":"fail","Package":"p"}`, "0 passed, 1 failed, 0 skipped", false, "DIED\tp A\nSIGSEGV\n"},
		{"a package that does not build", `{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}
{"Action":"build-output","ImportPath":"q","Output":"q.go:1: syntax error\n"}
{"Action":"fail","Package":"q"}`, "1 passed, 1 failed, 0 skipped", false, "syntax error"},
		{"nothing ran", ``, "0 passed, 0 failed, 0 skipped", false, ""},
		{"the go command speaks", "go: cannot find module\n", "0 passed, 0 failed, 0 skipped", false, "cannot find module"},
	}
	for _, c := range cases {
		var out strings.Builder
		ok := summarize(strings.NewReader(c.in), &out)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if ok != c.ok || lines[len(lines)-1] != c.last || !strings.Contains(out.String(), c.contains) {
			t.Errorf("%s: ok=%t, output:\n%s", c.name, ok, out.String())
		}
	}
}
