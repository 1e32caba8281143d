package gossip

import (
	"fmt"
	"testing"

	"github.com/ringfort/ringfort/shardmap"
)

func TestViewIsBounded(t *testing.T) {
	v := newView("")
	for i := range MaxMembers {
		name := fmt.Sprintf("m%d", i)
		if !v.admits(name, "") {
			t.Fatalf("refused member %d", i)
		}
		v.put(name, Member{Node: shardmap.Node{ID: nodeID(i)}})
	}
	if v.admits("one more", "") {
		t.Fatal("admitted one past the bound")
	}
	if !v.admits("m3", "") {
		t.Fatal("refused an update of a member it has")
	}
	v.learn([]epochReport{{node: nodeID(3), epoch: 9}, {node: nodeID(MaxMembers + 1), epoch: 9}})
	if r := v.reports(); len(r) != 1 || r[0].node != nodeID(3) {
		t.Fatalf("kept a report about a node not in view: %v", r)
	}
	v.remove("m3")
	if r := v.reports(); len(r) != 0 {
		t.Fatalf("report outlived its member: %v", r)
	}
}

func TestViewShowsTheNewestRun(t *testing.T) {
	v := newView("c")
	run := func(n uint64) Member {
		return Member{Node: shardmap.Node{ID: nodeID(1), Address: fmt.Sprint(n)}, Cluster: "c", Run: n}
	}
	v.put("1-2", run(2))
	v.put("1-1", run(1))
	if got := v.list(); len(got) != 1 || got[0].Run != 2 {
		t.Fatalf("got %+v", got)
	}
	v.remove("1-2")
	if got := v.list(); len(got) != 1 || got[0].Run != 1 {
		t.Fatalf("got %+v", got)
	}
}

func TestG_CLUSTERViewHidesNodesThatJoinedAnother(t *testing.T) {
	v := newView("")
	v.put("a", Member{Node: shardmap.Node{ID: nodeID(1)}, Cluster: "x"})
	v.put("b", Member{Node: shardmap.Node{ID: nodeID(2)}, Cluster: "y"})
	v.put("c", Member{Node: shardmap.Node{ID: nodeID(3)}})
	if got := v.list(); len(got) != 3 {
		t.Fatalf("a node of no cluster sees %+v", got)
	}
	v.setCluster("x")
	if got := v.list(); len(got) != 2 || got[0].Cluster != "x" || got[1].Cluster != "" {
		t.Fatalf("a node of x sees %+v", got)
	}
}
