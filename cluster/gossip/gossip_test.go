package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fast makes a death visible in about a second.
var fast = Timing{
	Probe: 100 * time.Millisecond, ProbeTimeout: 50 * time.Millisecond, Spread: 20 * time.Millisecond,
	PushPull: 500 * time.Millisecond, Rejoin: 200 * time.Millisecond, Dial: 500 * time.Millisecond,
}

func nodeID(n int) shardmap.NodeID { return shardmap.NodeID(fmt.Sprintf("%040x", n)) }

func options(n int, cluster string, seeds ...string) Options {
	return Options{
		Listen:  "127.0.0.1:0",
		Self:    shardmap.Node{ID: nodeID(n), Name: fmt.Sprintf("n%d", n), Address: fmt.Sprintf("127.0.0.1:%d", 9000+n), Zone: "z"},
		Cluster: cluster,
		Run:     uint64(time.Now().UnixNano()),
		Seeds:   func(context.Context) []string { return append([]string(nil), seeds...) },
		Timing:  fast,
	}
}

func start(t *testing.T, o Options) *Gossip {
	t.Helper()
	g, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// await re-examines the view at every change until ok.
func await(t *testing.T, g *Gossip, what string, ok func([]Member) bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !ok(g.Members()) {
		select {
		case <-g.Changed():
		case <-limit:
			t.Fatalf("%s: never; members %+v", what, g.Members())
		}
	}
}

func sees(ids ...int) func([]Member) bool {
	return func(ms []Member) bool {
		if len(ms) != len(ids) {
			return false
		}
		for i, id := range ids {
			if ms[i].ID != nodeID(id) {
				return false
			}
		}
		return true
	}
}

func find(ms []Member, n int) Member {
	for _, m := range ms {
		if m.ID == nodeID(n) {
			return m
		}
	}
	return Member{}
}

func TestMembersEpochsAndClusterSpread(t *testing.T) {
	a := start(t, options(1, ""))
	b := start(t, options(2, "", a.Address()))
	c := start(t, options(3, "", a.Address()))
	for _, g := range []*Gossip{a, b, c} {
		await(t, g, "all three", sees(1, 2, 3))
	}
	if m := find(a.Members(), 2); m.Address != "127.0.0.1:9002" || m.Name != "n2" || m.Zone != "z" || m.Gossip != b.Address() {
		t.Fatalf("a sees %+v", m)
	}
	c.SetEpoch(7)
	c.SetEpoch(5) // never back
	for _, g := range []*Gossip{a, b, c} {
		await(t, g, "epoch 7 of n3", func(ms []Member) bool { return find(ms, 3).Epoch == 7 })
	}
	if err := b.SetCluster("cafe"); err != nil {
		t.Fatal(err)
	}
	await(t, a, "n2's cluster", func(ms []Member) bool { return find(ms, 2).Cluster == "cafe" })

	if err := b.Leave(time.Second); err != nil {
		t.Fatal(err)
	}
	await(t, a, "n2 left", sees(1, 3))
	if err := c.Close(); err != nil { // a crash, as far as the others can tell
		t.Fatal(err)
	}
	await(t, a, "n3 dead", sees(1))
}

// Two clusters must not merge through a stale address (hashicorp/consul#843).
func TestG_CLUSTERForeignNodesStayOut(t *testing.T) {
	a := start(t, options(1, "aaaa"))
	b := start(t, options(2, "aaaa", a.Address()))
	await(t, a, "its own", sees(1, 2))
	x := start(t, options(8, "xxxx", a.Address()))
	// A node of no cluster knows both and must not carry one into the other.
	bridge := start(t, options(9, "", a.Address(), x.Address()))
	await(t, bridge, "both clusters", sees(1, 2, 8, 9))
	if _, err := x.Join([]string{b.Address()}); err != nil {
		t.Fatal(err)
	}
	await(t, x, "the bridge only", sees(8, 9))
	for _, g := range []*Gossip{a, b} {
		await(t, g, "its own and the bridge", sees(1, 2, 9))
		if ms := g.list.Members(); len(ms) != 3 {
			t.Fatalf("memberlist itself admitted a stranger: %v", ms)
		}
	}
	// Once it joins the other cluster it is a stranger too.
	if err := bridge.SetCluster("xxxx"); err != nil {
		t.Fatal(err)
	}
	await(t, a, "the bridge gone", sees(1, 2))
	await(t, bridge, "the others gone", sees(8, 9))
}

// A process killed and started on another address is seen there at once, while
// its old name is still held to be alive (memberlist#157).
func TestRestartOnAnotherAddressIsSeenAtOnce(t *testing.T) {
	a := start(t, options(1, "c"))
	old := start(t, options(2, "c", a.Address()))
	await(t, a, "both", sees(1, 2))
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	o := options(2, "c", a.Address())
	o.Self.Address = "127.0.0.1:9999"
	began := time.Now()
	start(t, o)
	await(t, a, "the new address", func(ms []Member) bool { return find(ms, 2).Address == "127.0.0.1:9999" })
	if d := time.Since(began); d > reclaimAfter/2 {
		t.Fatalf("took %v", d)
	}
	await(t, a, "old run gone, new one still there", func(ms []Member) bool {
		return a.view.size() == 2 && find(ms, 2).Address == "127.0.0.1:9999"
	})
}

// A seed that was down when the node started is joined when it comes up.
func TestSeedsAreJoinedAgain(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	later := probe.Addr().String()
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	a := start(t, options(1, "", later))
	o := options(2, "")
	o.Listen = later
	start(t, o)
	await(t, a, "the late seed", sees(1, 2))
}

func TestAddressInUseIsTyped(t *testing.T) {
	a := start(t, options(1, ""))
	o := options(2, "")
	o.Listen = a.Address()
	if _, err := Start(o); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("got %v", err)
	}
}

func TestBadSelfIsRefused(t *testing.T) {
	o := options(1, "")
	o.Self.ID = "short"
	o.Self.Zone = strings.Repeat("z", MaxZone+1)
	if _, err := Start(o); err == nil || !strings.Contains(err.Error(), "node id") || !strings.Contains(err.Error(), "zone") {
		t.Fatalf("want both faults, got %v", err)
	}
}
