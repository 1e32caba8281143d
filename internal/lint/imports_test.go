package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// directions says, by area of the module, which other areas it may import. An
// area is a directory and what is below it; the longest one that fits counts,
// on both sides. Packages within one area may import each other.
var directions = map[string][]string{
	"shardmap":        {},
	"internal":        {},
	"api":             {},
	"api/wire":        {"api", "shardmap", "internal"},
	"raftstore/state": {"shardmap", "internal"},
	"raftstore":       {"raftstore/state", "shardmap", "api", "api/wire", "internal"},
	"cluster":         {"shardmap", "api", "api/wire", "internal"},
	"cluster/local":   {"shardmap", "api", "api/wire", "internal"},
	"node":            {"raftstore", "raftstore/state", "raftstore/kvop", "cluster", "shardmap", "api", "api/wire", "internal"},
	"client":          {"api", "api/wire", "shardmap", "internal"},
	"raftstore/kvop":  {"raftstore/state", "shardmap", "api", "internal"},
	"client/kvtest":   {"client", "raftstore/state", "raftstore/kvop", "api", "api/wire", "shardmap", "internal"},
	"cmd/kvnode":      {"node", "cluster", "shardmap", "api", "api/wire", "internal"},
	"cmd/kvctl":       {"client", "cluster/local", "tests/torture", "shardmap", "api", "api/wire", "internal"},
	"tests":           {"client", "cluster/local", "shardmap", "api", "api/wire", "internal"},
	"tests/torture":   {"tests", "client", "cluster/local", "shardmap", "api", "api/wire", "internal"},
	"tests/damage":    {"tests", "node", "raftstore", "client", "shardmap", "internal"},
	"tests/sim":       {"tests", "node", "raftstore", "raftstore/state", "cluster", "client", "shardmap", "api", "api/wire", "internal"},
}

// testsMay adds to directions for the _test.go files of an area.
var testsMay = map[string][]string{
	"node":      {"client", "client/kvtest"},
	"cmd/kvctl": {"node"},
	"client":    {"client/kvtest"},
}

// unwanted lists, by area, packages of others that it must not import itself, and
// what to do instead.
var unwanted = map[string]map[string]string{
	"shardmap": {
		"os": pureValues, "net": pureValues, "time": pureValues, "math/rand": pureValues, "sync": pureValues, "context": pureValues,
	},
	"raftstore/state": {
		"math/rand":   "apply depends on entry and state alone: draw at the proposer and put it in the entry",
		"sync":        "the machine belongs to one goroutine: let its owner lock",
		raft:          "the machine knows no raft: let raftstore translate",
		pebble:        "the machine knows no Pebble: use its Reader and Writer",
		"context":     "apply cannot be cancelled half-way: finish the entry",
		"os":          "the machine does no I/O: use its Reader and Writer",
		"crypto/rand": "apply depends on entry and state alone: draw at the proposer and put it in the entry",
	},
}

const (
	pureValues = "shardmap holds pure values: take what you need as an argument"

	raft       = "github.com/hashicorp/raft"
	pebble     = "github.com/cockroachdb/pebble"
	memberlist = "github.com/hashicorp/memberlist"
	prometheus = "github.com/prometheus"
)

// hidden lists, by area, packages that it must not even reach through others:
// everybody who imports it would have to build and link them.
var hidden = map[string][]string{
	"client":          {raft, pebble, memberlist, prometheus},
	"api":             {raft, pebble, memberlist},
	"shardmap":        {raft, pebble, memberlist, "google.golang.org/grpc", "google.golang.org/protobuf"},
	"raftstore":       {memberlist},
	"cluster":         {raft, pebble},
	"cmd/kvctl":       {raft, memberlist},
	"tests/cli":       {raft, pebble, memberlist},
	"internal":        {raft, memberlist, "google.golang.org/grpc"},
	"raftstore/state": {raft, memberlist, "google.golang.org/grpc"},
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range allPackages(t) {
		for _, message := range checkDirections(p) {
			t.Error(message)
		}
	}
}

func TestUnwantedImports(t *testing.T) {
	for _, p := range allPackages(t) {
		for _, message := range append(checkUnwanted(p), checkHidden(p)...) {
			t.Error(message)
		}
	}
}

// areaOf returns the longest area of a table that holds a package.
func areaOf[V any](table map[string]V, of string) (area string, found bool) {
	for candidate := range table {
		if within(of, candidate) && len(candidate) >= len(area) {
			area, found = candidate, true
		}
	}
	return area, found
}

// within reports whether an import path is another one or below it.
func within(importPath, above string) bool {
	return importPath == above || strings.HasPrefix(importPath, above+"/")
}

func checkDirections(p *pkg) (messages []string) {
	from, known := areaOf(directions, p.area())
	if !known {
		return []string{fmt.Sprintf("%s: no rule says what it may import: give its area a line in directions (internal/lint)", p.area())}
	}
	look := func(imports, may []string) {
		for _, imported := range imports {
			if !within(imported, module) {
				continue
			}
			to, _ := areaOf(directions, strings.TrimPrefix(imported, module+"/"))
			if to != from && !slices.Contains(may, to) {
				messages = append(messages, fmt.Sprintf("%s imports %s: it may import %s; "+
					"declare a small interface where it is used and let the package above both join them",
					p.area(), strings.TrimPrefix(imported, module+"/"), list(may)))
			}
		}
	}
	look(p.Imports, directions[from])
	testing := slices.Concat(directions[from], testsMay[from])
	look(p.TestImports, testing)
	look(p.XTestImports, testing)
	return messages
}

func list(areas []string) string {
	if len(areas) == 0 {
		return "nothing of ours outside of itself"
	}
	return "only " + strings.Join(areas, ", ")
}

func checkUnwanted(p *pkg) (messages []string) {
	area, _ := areaOf(unwanted, p.area())
	for _, imported := range p.Imports {
		for bad, instead := range unwanted[area] {
			if within(imported, bad) {
				messages = append(messages, fmt.Sprintf("%s imports %s: %s", p.area(), imported, instead))
			}
		}
	}
	return messages
}

func checkHidden(p *pkg) (messages []string) {
	area, _ := areaOf(hidden, p.area())
	for _, dep := range p.Deps {
		for _, bad := range hidden[area] {
			if within(dep, bad) {
				messages = append(messages, fmt.Sprintf("%s reaches %s through its imports: "+
					"find the way with `go mod why -m` or `go list -deps`, and move what is needed to a leaf package", p.area(), dep))
			}
		}
	}
	return messages
}

func TestImportRulesThemselves(t *testing.T) {
	ours := func(areas ...string) (paths []string) {
		for _, a := range areas {
			paths = append(paths, module+"/"+a)
		}
		return paths
	}
	for _, tc := range []struct {
		name  string
		pkg   pkg
		wrong int
	}{
		{"node may import what is below it", pkg{ImportPath: module + "/node/kvserver", Imports: ours("raftstore", "raftstore/state", "cluster/gossip", "node/config")}, 0},
		{"raftstore imports cluster", pkg{ImportPath: module + "/raftstore", Imports: ours("cluster/gossip")}, 1},
		{"cluster imports raftstore", pkg{ImportPath: module + "/cluster/gossip", Imports: ours("raftstore/transport")}, 1},
		{"cluster imports the machine", pkg{ImportPath: module + "/cluster/gossip", Imports: ours("raftstore/state")}, 1},
		{"client imports raftstore", pkg{ImportPath: module + "/client", Imports: ours("raftstore")}, 1},
		{"client imports the machine", pkg{ImportPath: module + "/client", Imports: ours("raftstore/state")}, 1},
		{"kvtest imports the machine", pkg{ImportPath: module + "/client/kvtest", Imports: ours("raftstore/state")}, 0},
		{"kvctl imports node", pkg{ImportPath: module + "/cmd/kvctl/internal/cli", Imports: ours("node")}, 1},
		{"kvctl imports gossip", pkg{ImportPath: module + "/cmd/kvctl", Imports: ours("cluster/gossip")}, 1},
		{"kvctl imports local", pkg{ImportPath: module + "/cmd/kvctl", Imports: ours("cluster/local")}, 0},
		{"shardmap imports ours", pkg{ImportPath: module + "/shardmap", Imports: ours("internal/kverr")}, 1},
		{"shardmap reads the clock", pkg{ImportPath: module + "/shardmap", Imports: []string{"time", "fmt"}}, 1},
		{"shardmap draws", pkg{ImportPath: module + "/shardmap", Imports: []string{"math/rand/v2", "math"}}, 1},
		{"shardmap locks", pkg{ImportPath: module + "/shardmap", Imports: []string{"sync/atomic"}}, 1},
		{"state imports raft", pkg{ImportPath: module + "/raftstore/state", Imports: []string{raft}}, 1},
		{"state imports pebble", pkg{ImportPath: module + "/raftstore/state", Imports: []string{pebble + "/v2"}}, 1},
		{"state imports its parent", pkg{ImportPath: module + "/raftstore/state", Imports: ours("raftstore")}, 1},
		{"wire may import shardmap", pkg{ImportPath: module + "/api/wire", Imports: ours("shardmap", "api/kv/v1", "internal/kverr")}, 0},
		{"contracts import nothing", pkg{ImportPath: module + "/api/kv/v1", Imports: ours("shardmap")}, 1},
		{"leaves import nothing", pkg{ImportPath: module + "/internal/kverr", Imports: ours("shardmap")}, 1},
		{"tests may import the client", pkg{ImportPath: module + "/tests/cli", TestImports: ours("client")}, 0},
		{"tests import node", pkg{ImportPath: module + "/tests/cli", TestImports: ours("node")}, 1},
		{"the simulator may import node", pkg{ImportPath: module + "/tests/sim", Imports: ours("node", "node/nodetest")}, 0},
		{"node's tests may import the client", pkg{ImportPath: module + "/node", XTestImports: ours("client")}, 0},
		{"client reaches pebble", pkg{ImportPath: module + "/client", Deps: []string{"fmt", pebble + "/v2/vfs"}}, 1},
		{"client reaches prometheus", pkg{ImportPath: module + "/client", Deps: []string{prometheus + "/client_golang/prometheus"}}, 1},
		{"client reaches memberlist", pkg{ImportPath: module + "/client", Deps: []string{memberlist}}, 1},
		{"raft-wal is not raft", pkg{ImportPath: module + "/client", Deps: []string{raft + "-wal"}}, 0},
		{"a place without rule", pkg{ImportPath: module + "/util"}, 1},
	} {
		got := slices.Concat(checkDirections(&tc.pkg), checkUnwanted(&tc.pkg), checkHidden(&tc.pkg))
		if len(got) != tc.wrong {
			t.Errorf("%s: got %d messages, want %d: %q", tc.name, len(got), tc.wrong, got)
		}
	}
}
