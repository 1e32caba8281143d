// Command testsummary reads `go test -json` on standard input, prints a line for
// every package and the output of every test that failed or never ended because
// its process died, and ends on one line that counts tests: "N passed, N failed,
// N skipped". It exits 1 unless every package passed and at least one test ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	if !summarize(os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

// event is one line of go test -json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// testKey names a test, or a package when Test is empty.
type testKey struct{ pkg, test string }

type tally struct {
	passed, failed, skipped int
	brokenPackages          int
	output                  map[testKey][]string
}

// summarize copies what matters from in to out and reports success.
func summarize(in io.Reader, out io.Writer) bool {
	t := tally{output: make(map[testKey][]string)}
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if len(line) > 0 {
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprint(out, string(line)) // not JSON: the go command itself speaks
			} else {
				t.take(e, out)
			}
		}
		if err != nil {
			break
		}
	}
	if t.brokenPackages > 0 && t.failed == 0 {
		t.failed = t.brokenPackages // did not build, or crashed outside a test
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	return t.failed == 0 && t.brokenPackages == 0 && t.passed > 0
}

func (t *tally) take(e event, out io.Writer) {
	key := testKey{e.Package, e.Test}
	switch e.Action {
	case "output", "build-output":
		if e.Action == "build-output" {
			fmt.Fprint(out, e.Output)
			return
		}
		t.output[key] = append(t.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.endPackage(e, out)
		} else {
			t.endTest(e, key, out)
		}
		delete(t.output, key)
	}
}

func (t *tally) endTest(e event, key testKey, out io.Writer) {
	switch e.Action {
	case "pass":
		t.passed++
	case "skip":
		t.skipped++
		fmt.Fprintf(out, "skip\t%s %s: %s\n", e.Package, e.Test, strings.TrimSpace(strings.Join(t.output[key], " ")))
	case "fail":
		t.failed++
		fmt.Fprintf(out, "FAIL\t%s %s\n%s", e.Package, e.Test, strings.Join(t.output[key], ""))
	}
}

func (t *tally) endPackage(e event, out io.Writer) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(out, "ok\t%s\t%.1fs\n", e.Package, e.Elapsed)
	case "fail":
		t.brokenPackages++
		fmt.Fprintf(out, "FAIL\t%s\t%.1fs\n%s", e.Package, e.Elapsed, strings.Join(t.output[testKey{e.Package, ""}], ""))
		t.cutShort(e.Package, out)
	}
}

// cutShort prints what the tests said whose end nobody reported: their process
// died, and what it died of is in their output.
func (t *tally) cutShort(pkg string, out io.Writer) {
	var unfinished []string
	for key := range t.output {
		if key.pkg == pkg && key.test != "" {
			unfinished = append(unfinished, key.test)
		}
	}
	slices.Sort(unfinished)
	for _, test := range unfinished {
		key := testKey{pkg, test}
		fmt.Fprintf(out, "DIED\t%s %s\n%s", pkg, test, strings.Join(t.output[key], ""))
		delete(t.output, key)
	}
}
