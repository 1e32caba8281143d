package transport

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// journal is a state machine that keeps what it applied.
type journal struct {
	mu      sync.Mutex
	applied []string
}

func (j *journal) Apply(l *raft.Log) any {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.applied = append(j.applied, fmt.Sprintf("%d/%d %s", l.Index, l.Term, l.Data))
	return nil
}

func (j *journal) Snapshot() (raft.FSMSnapshot, error) { return noSnapshot{}, nil }
func (j *journal) Restore(r io.ReadCloser) error       { return r.Close() }

func (j *journal) lines() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.applied)
}

type noSnapshot struct{}

func (noSnapshot) Persist(s raft.SnapshotSink) error { return s.Close() }
func (noSnapshot) Release()                          {}

// member of a raft group under test.
type raftMember struct {
	node  *testNode
	group *Group
	raft  *raft.Raft
	store *raft.InmemStore
	fsm   *journal
}

// raftGroup runs one group on all nodes of a lan.
type raftGroup struct {
	t       testing.TB
	members []*raftMember
}

// startRaft starts group id on every node.
func (l *lan) startRaft(id uint64, configure func(i int, c *raft.Config), wrap func(i int, g *Group) raft.Transport) *raftGroup {
	return startRaft(l.nodes, id, configure, wrap)
}

// startRaft starts group id on the given nodes. wrap may put something between raft
// and the transport, configure may change a member's configuration.
func startRaft(nodes []*testNode, id uint64, configure func(i int, c *raft.Config),
	wrap func(i int, g *Group) raft.Transport) *raftGroup {
	t := nodes[0].lan.t
	rg := &raftGroup{t: t}
	var servers raft.Configuration
	for _, x := range nodes {
		sid := ServerID(x.id, x.replica())
		servers.Servers = append(servers.Servers, raft.Server{ID: sid, Address: raft.ServerAddress(sid)})
	}
	for i, x := range nodes {
		m := &raftMember{node: x, group: x.group(id), store: raft.NewInmemStore(), fsm: &journal{}}
		var trans raft.Transport = m.group
		if wrap != nil {
			trans = wrap(i, m.group)
		}
		c := raftConfig(x)
		if configure != nil {
			configure(i, c)
		}
		snaps := raft.NewInmemSnapshotStore()
		if err := raft.BootstrapCluster(c, m.store, m.store, snaps, trans, servers); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(c, m.fsm, m.store, m.store, snaps, trans)
		if err != nil {
			t.Fatal(err)
		}
		m.raft = r
		rg.members = append(rg.members, m)
	}
	return rg
}

func raftConfig(x *testNode) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = ServerID(x.id, x.replica())
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = time.Second, time.Second, time.Second
	c.CommitTimeout = 100 * time.Millisecond
	c.NoLegacyTelemetry = true
	c.Logger = hclog.NewNullLogger()
	return c
}

func (rg *raftGroup) stop() {
	for _, m := range rg.members {
		_ = m.group.Close()
	}
	for _, m := range rg.members {
		if err := m.raft.Shutdown().Error(); err != nil {
			rg.t.Error(err)
		}
	}
}

// leader waits for one among the members that ok admits.
func (rg *raftGroup) leader(ok func(*raftMember) bool) *raftMember {
	rg.t.Helper()
	var found *raftMember
	eventually(rg.t, 60*time.Second, "a leader", func() bool {
		for _, m := range rg.members {
			if m.raft.State() == raft.Leader && (ok == nil || ok(m)) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (m *raftMember) apply(s string) error { return m.raft.Apply([]byte(s), time.Second).Error() }

// put applies s on whoever leads, again and again until it is accepted.
func (rg *raftGroup) put(s string) {
	rg.t.Helper()
	eventually(rg.t, 60*time.Second, "put "+s, func() bool { return rg.leader(nil).apply(s) == nil })
}

// settle waits until all members have applied the same, and fails on any
// difference between what two members applied.
func (rg *raftGroup) settle(limit time.Duration) {
	rg.t.Helper()
	rg.put("settle")
	eventually(rg.t, limit, "equal journals", func() bool {
		first := rg.members[0].fsm.lines()
		for _, m := range rg.members {
			lines := m.fsm.lines()
			if conflict(first, lines) {
				rg.t.Fatalf("diverged:\n%s %q\n%s %q", rg.members[0].node.id, first, m.node.id, lines)
			}
			if len(lines) != len(first) || m.raft.CommitIndex() != rg.members[0].raft.CommitIndex() {
				return false
			}
		}
		return true
	})
}

// conflict reports whether two members applied different things; one may be
// behind the other.
func conflict(a, b []string) bool {
	n := min(len(a), len(b))
	return !slices.Equal(a[:n], b[:n])
}

func TestRaft_ElectsAndReplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 3, nil)
		defer l.close()
		rg := l.startRaft(testGroup, nil, nil)
		defer rg.stop()
		rg.leader(nil)
		start := time.Now()
		for i := range 100 {
			rg.put(fmt.Sprint("v", i))
		}
		// Entries leave when they are written, without a pipeline too, and not with
		// the commit tick of 100 ms.
		if d := time.Since(start); d > 50*time.Millisecond {
			t.Errorf("100 writes took %s", d)
		}
		rg.settle(5 * time.Second)
		if n := len(rg.members[2].fsm.lines()); n < 101 {
			t.Fatalf("third member applied %d entries", n)
		}
	})
}

// TestRaft_ManyGroups: 32 groups share the same six streams.
func TestRaft_ManyGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 3, nil)
		defer l.close()
		var groups []*raftGroup
		for id := range uint64(32) {
			rg := l.startRaft(id+1, nil, nil)
			defer rg.stop()
			groups = append(groups, rg)
		}
		groups[0].members[1].group.Campaign()
		for i := range 10 {
			for _, rg := range groups {
				rg.put(fmt.Sprint("v", i))
			}
		}
		for _, rg := range groups {
			rg.settle(10 * time.Second)
		}
		for _, x := range l.nodes {
			if n := len(x.net.mu.links); n != 4 {
				t.Errorf("%s has %d links, expected two lanes to each of two peers", x.id, n)
			}
		}
	})
}

// TestRaft_CampaignElectsAtOnce: no election timeout passes.
func TestRaft_CampaignElectsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 3, nil)
		defer l.close()
		rg := l.startRaft(testGroup, nil, nil)
		defer rg.stop()
		rg.members[2].group.Campaign()
		start := time.Now()
		if m := rg.leader(nil); m != rg.members[2] || time.Since(start) > 100*time.Millisecond {
			t.Errorf("%s leads after %s", m.node.id, time.Since(start))
		}
	})
}

// TestRaft_CatchesUpSoonAfterAnOutage: failed appends make raft sleep ever
// longer; waiting for the peer instead keeps that short.
func TestRaft_CatchesUpSoonAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for outage := 5 * time.Second; outage < time.Minute; outage += 6 * time.Second {
			l := newLAN(t, 3, nil)
			rg := l.startRaft(testGroup, nil, nil)
			rg.members[0].group.Campaign()
			rg.put("before")
			leader := rg.leader(nil)
			gone := rg.members[(slices.Index(rg.members, leader)+1)%3]
			gone.node.stopServer()
			time.Sleep(outage)
			rg.put("meanwhile")
			if rg.leader(nil) != leader {
				t.Fatal("the leader changed; the test shows nothing")
			}
			gone.node.startServer()
			start := time.Now()
			eventually(t, 30*time.Second, "the follower catches up", func() bool { return len(gone.fsm.lines()) == 2 })
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("after an outage of %s the follower got its entries %s after it was back", outage, d)
			}
			rg.stop()
			l.close()
		}
	})
}

// TestRaft_CatchUpOfLargeEntries: a follower that missed far more than one append
// takes gets all of it.
func TestRaft_CatchUpOfLargeEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeather(1)
		l := newLAN(t, 3, w.over)
		defer l.close()
		rg := l.startRaft(testGroup, nil, nil)
		defer rg.stop()
		rg.put("first")
		leader := rg.leader(nil)
		w.isolate(rg.members[(slices.Index(rg.members, leader)+1)%3].node.id)
		big := strings.Repeat("x", appendBytes/3)
		for range 20 {
			rg.put(big)
		}
		w.heal()
		rg.settle(30 * time.Second)
	})
}
