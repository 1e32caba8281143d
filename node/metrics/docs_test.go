package metrics

import (
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/internal/version"
	"github.com/ringfort/ringfort/node/kvserver"
	"github.com/ringfort/ringfort/raftstore"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

const (
	docPage        = "../../docs/metrics.md"
	operationsPage = "../../docs/operations.md"
	begin          = "<!-- From here on the page is made by `go test ./node/metrics -update`. -->\n"
	nameForm       = `ringfort_[a-z0-9_]+`
)

// nobody is the sources of a node that has not started.
func nobody() Sources {
	return Sources{
		Build: version.Info{Version: "v1", Commit: "abc", Go: "go1"},
		Node:  func() (NodeFacts, bool) { return NodeFacts{}, false },
		KV:    func() (*kvserver.Server, bool) { return nil, false },
		Store: func() (*raftstore.Store, bool) { return nil, false },
	}
}

// reference is the generated part of the page.
func reference(b *book) string {
	var out strings.Builder
	out.WriteString(begin)
	for _, s := range b.sections {
		title, about, labels, entries := s.facts()
		fmt.Fprintf(&out, "\n## %s\n\n%s", title, about)
		if len(labels) > 0 {
			fmt.Fprintf(&out, " Labels: `%s`.", strings.Join(labels, "`, `"))
		}
		out.WriteString("\n\n| metric | kind | unit | what | look at it when |\n|---|---|---|---|---|\n")
		for _, e := range entries {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", e.name, e.kind, unit(e.name), cell(e.help), cell(e.look))
		}
	}
	return out.String()
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// unit is in a metric's name, as Prometheus wants it.
func unit(name string) string {
	name = strings.TrimSuffix(name, "_total")
	for _, u := range []string{"seconds", "bytes"} {
		if strings.HasSuffix(name, "_"+u) {
			return u
		}
	}
	return "number"
}

// docs/metrics.md lists every metric, as the registry has them, and what it says
// by hand names none that does not exist.
func TestDocumentationIsThatOfTheRegistry(t *testing.T) {
	raw, err := os.ReadFile(docPage)
	if err != nil {
		t.Fatal(err)
	}
	byHand, listed, found := strings.Cut(string(raw), begin)
	if !found {
		t.Fatalf("%s lacks the line %q", docPage, begin)
	}
	b := newBook(nobody())
	want := reference(b)
	if *update {
		if err := os.WriteFile(docPage, []byte(byHand+want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if begin+listed != want {
		t.Errorf("%s is not what the registry has: run go test ./node/metrics -update", docPage)
	}
	names := map[string]bool{}
	for _, s := range b.sections {
		_, _, _, entries := s.facts()
		for _, e := range entries {
			if names[e.name] {
				t.Errorf("%s is there twice", e.name)
			}
			names[e.name] = true
			if e.help == "" || !strings.HasSuffix(e.help, ".") || !regexp.MustCompile("^"+nameForm+"$").MatchString(e.name) {
				t.Errorf("%s: %q", e.name, e.help)
			}
		}
	}
	operations, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, mentioned := range regexp.MustCompile(nameForm).FindAllString(byHand+string(operations), -1) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(mentioned, suffix); names[base] {
				mentioned = base
			}
		}
		if !names[mentioned] {
			t.Errorf("the pages speak of %s, which is no metric", mentioned)
		}
	}
}

// Everything can be registered at once, and a node that has not started shows
// what build it is and no more.
func TestRegistryBeforeTheStart(t *testing.T) {
	families, err := Registry(nobody()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "ringfort_") {
			ours = append(ours, f.GetName())
		}
	}
	if fmt.Sprint(ours) != "[ringfort_build_info]" {
		t.Errorf("%v", ours)
	}
}

// Label values of results are words of one kind each.
func TestResultNames(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range append(kverr.Kinds(), kverr.None) {
		name := resultName(kind)
		if seen[name] || !regexp.MustCompile(`^[a-z_]+$`).MatchString(name) {
			t.Errorf("%v: %q", kind, name)
		}
		seen[name] = true
	}
}

// What is not known is left out, rather than shown as a number.
func TestUnknownIsLeftOut(t *testing.T) {
	b := &book{}
	s := section(b, "t", "t", func() []row[float64] {
		return []row[float64]{{[]string{"a"}, 1}, {[]string{"b"}, math.NaN()}}
	}, "l")
	s.gauge("ringfort_t", "T.", "", func(v float64) float64 { return v })
	ch := make(chan prometheus.Metric, 8)
	b.Collect(ch)
	if len(ch) != 1 {
		t.Errorf("%d series", len(ch))
	}
}
