package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/shardmap"
)

func testNode(n int) shardmap.NodeID { return shardmap.NodeID(fmt.Sprintf("%040x", n)) }

// record is a shard on nodes 1 to 3.
func record(shard shardmap.ShardID, arc shardmap.Arc, epochs uint64) shardmap.Record {
	rec := shardmap.Record{Shard: shard, Arc: arc, ArcEpoch: epochs, MemberEpoch: epochs}
	for i := range 3 {
		rec.Replicas = append(rec.Replicas, shardmap.Replica{
			ID: shardmap.ReplicaID(uint64(shard)*10) + shardmap.ReplicaID(i), Node: testNode(i + 1), Role: shardmap.Voter,
		})
	}
	return rec
}

func buildMap(t *testing.T, epoch uint64, cluster string, records ...shardmap.Record) *shardmap.Map {
	t.Helper()
	spec := shardmap.MapSpec{Epoch: epoch, ClusterID: cluster, ReplicationFactor: 3, Records: records}
	for i := range 4 {
		spec.Nodes = append(spec.Nodes, shardmap.Node{ID: testNode(i + 1)})
	}
	m, err := shardmap.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestN1OnlyNewbornUncoveredReplicasAreCreated(t *testing.T) {
	system := record(shardmap.SystemShard, shardmap.SystemArc, 1)
	newborn := record(2, shardmap.Arc{From: 0, To: 100}, 1)
	changed := record(3, shardmap.Arc{From: 100, To: 200}, 2)
	split := record(4, shardmap.Arc{From: 200, To: 300}, 1)
	m := buildMap(t, 9, "c", system, newborn, changed, split)
	// A local shard still covers the slots of shard 4: its split is not applied here.
	parent := record(7, shardmap.Arc{From: 150, To: 300}, 1)
	for _, c := range []struct {
		name            string
		self            shardmap.NodeID
		local           []shardmap.Record
		barred          shardmap.ShardID
		missing, unborn string
	}{
		{"nothing here yet", testNode(1), nil, 0, "[2 4]", "[3]"},
		{"named nowhere on this node", testNode(4), nil, 0, "[]", "[]"},
		{"all here", testNode(1), []shardmap.Record{system, newborn, changed, split}, 0, "[]", "[]"},
		{"covered by another shard", testNode(2), []shardmap.Record{parent}, 0, "[2]", "[]"},
		{"one quarantined", testNode(1), nil, 2, "[4]", "[3]"},
	} {
		missing, unborn := missingReplicas(m, c.self, c.local, func(shard shardmap.ShardID, replica shardmap.ReplicaID) bool {
			return shard == c.barred && replica != 0
		})
		if got := ids(missing); got != c.missing {
			t.Errorf("%s: missing %s, want %s", c.name, got, c.missing)
		}
		if got := ids(unborn); got != c.unborn {
			t.Errorf("%s: unborn %s, want %s", c.name, got, c.unborn)
		}
	}
}

func ids(records []shardmap.Record) string {
	out := []shardmap.ShardID{}
	for _, r := range records {
		out = append(out, r.Shard)
	}
	return fmt.Sprint(out)
}

func TestN2MapOnlyRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &mapHolder{cluster: func() string { return "c" }, logger: slog.New(slog.DiscardHandler)}
		if h.offer(nil) || h.Map() != nil {
			t.Fatal("took no map for a map")
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if m, err := h.await(t.Context()); err != nil || m.Epoch() != 5 {
				t.Errorf("awaited %d, %v", m.Epoch(), err)
			}
		}()
		synctest.Wait()
		for _, c := range []struct {
			m     *shardmap.Map
			taken bool
			epoch uint64
		}{
			{buildMap(t, 9, "other"), false, 0},
			{buildMap(t, 5, "c"), true, 5},
			{buildMap(t, 5, "c"), false, 5},
			{buildMap(t, 4, "c"), false, 5},
			{buildMap(t, 6, "c"), true, 6},
		} {
			if taken := h.offer(c.m); taken != c.taken || h.Map().Epoch() != c.epoch {
				t.Errorf("offered %d of %s: taken %v, now %d", c.m.Epoch(), c.m.ClusterID(), taken, h.Map().Epoch())
			}
			synctest.Wait()
		}
		<-done
	})
}

func TestSeedsVerdict(t *testing.T) {
	type answers map[string]seedAnswer // of addresses a, b, c
	of := func(node int, cluster string) seedAnswer { return seedAnswer{node: testNode(node), cluster: cluster} }
	foreign := answers{"a": of(2, "y"), "b": of(3, "y"), "c": of(4, "y")}
	for _, c := range []struct {
		name    string
		own     string
		mates   bool
		answers answers
		wrong   string // part of the error; empty for none
	}{
		{"nobody answered", "x", false, nil, ""},
		{"blank among blanks", "", false, answers{"a": of(2, ""), "b": of(3, "")}, ""},
		{"blank, one cluster", "", false, answers{"a": of(2, "y"), "b": of(3, "")}, ""},
		{"blank, two clusters", "", false, answers{"a": of(2, "y"), "b": of(3, "z")}, "different clusters (y: a; z: b)"},
		{"one stale address", "x", false, answers{"a": of(2, "y"), "b": of(3, "x"), "c": of(4, "x")}, ""},
		{"others still silent", "x", false, answers{"a": of(2, "y"), "b": of(3, "y")}, ""},
		{"all foreign", "x", false, foreign, "belongs to cluster x"},
		{"all but itself", "x", false, answers{"a": of(1, "x"), "b": of(3, "y"), "c": of(4, "y")}, "belongs to cluster x"},
		{"all foreign, mates known", "x", true, foreign, ""},
		{"only itself", "x", false, answers{"a": of(1, "x"), "b": of(1, "x"), "c": of(1, "x")}, ""},
	} {
		s := &seeds{addresses: []string{"a", "b", "c"}, self: testNode(1), answers: c.answers}
		err := s.verdict(c.own, c.mates)
		refused := errors.Is(err, kverr.WrongCluster)
		if refused != (c.wrong != "") || refused != (err != nil) || (refused && !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestDepsFaultsAreAllListed(t *testing.T) {
	d := Deps{}
	err := d.validate()
	for _, want := range []string{"FS", "Clock", "Random", "Listen", "Dial", "StartGossip", "Fatal"} {
		if err == nil || !strings.Contains(err.Error(), "Deps."+want+" is required") {
			t.Errorf("%s is not in: %v", want, err)
		}
	}
}

func TestAdminAddressIsOneThatCanBeReached(t *testing.T) {
	for _, c := range []struct{ asked, bound, advertised, want string }{
		{"127.0.0.1:7481", "127.0.0.1:7481", "127.0.0.1:7401", "127.0.0.1:7481"},
		{"127.0.0.1:7481", "127.0.0.1:40000", "127.0.0.1:7401", "127.0.0.1:40000"}, // the default was taken
		{"127.0.0.1:0", "127.0.0.1:40000", "127.0.0.1:7401", "127.0.0.1:40000"},
		{":7481", "[::]:7481", "10.0.0.1:7401", "10.0.0.1:7481"},
		{"0.0.0.0:0", "0.0.0.0:40000", "a.example:7401", "a.example:40000"},
		{"[::]:9", "[::]:9", "[2001:db8::1]:7401", "[2001:db8::1]:9"},
		{"n1.test:9", "bufconn", "n1.test:7401", "n1.test:9"},
	} {
		if got := adminAddress(c.asked, textAddr(c.bound), c.advertised); got != c.want {
			t.Errorf("%s bound to %s: %s, want %s", c.asked, c.bound, got, c.want)
		}
	}
}

type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

// Nobody asked for the default admin address, so it keeps no node from starting;
// one that was asked for does.
func TestOnlyTheDefaultAdminAddressMayGiveWay(t *testing.T) {
	taken := &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
	for _, c := range []struct {
		wanted string
		err    error
		opened string
	}{
		{config.DefaultAdminListen, nil, config.DefaultAdminListen},
		{config.DefaultAdminListen, taken, "127.0.0.1:0"},
		{config.DefaultAdminListen, syscall.EACCES, ""},
		{"127.0.0.1:9", taken, ""},
	} {
		n := &Node{log: slog.New(slog.DiscardHandler), cfg: config.Config{AdminListen: c.wanted}}
		opened := ""
		n.deps.Listen = func(address string) (net.Listener, error) {
			if address == c.wanted && c.err != nil {
				return nil, c.err
			}
			opened = address
			return nil, nil
		}
		_, err := n.listenAdmin()
		if opened != c.opened || (err == nil) != (c.opened != "") || err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s, %v: opened %q, %v", c.wanted, c.err, opened, err)
		}
	}
}

// What a node is told of clients' bounds reaches the server of the data API.
func TestFlagsReachTheServer(t *testing.T) {
	n := &Node{cfg: config.Config{MaxKeyBytes: 17, MaxValueBytes: 1818, MaxClientMemory: 99 << 20}}
	if l := n.kvOptions().Limits; l.MaxKeyBytes != 17 || l.MaxValueBytes != 1818 || l.MaxHeldBytes != 99<<20 {
		t.Errorf("%+v", l)
	}
}
