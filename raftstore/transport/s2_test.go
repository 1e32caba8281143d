package transport

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// TestS2_CommitIsClampedOnTheWire: no message tells a follower to commit beyond
// what the same message shows to be the leader's.
func TestS2_CommitIsClampedOnTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawAppend(t)
		m := appendToProto(r)
		verified := r.PrevLogEntry + uint64(len(r.Entries))
		if m.GetLeaderCommit() > verified {
			t.Fatalf("commit %d leaves for a follower that has verified %d", m.GetLeaderCommit(), verified)
		}
		if r.LeaderCommitIndex <= verified && m.GetLeaderCommit() != r.LeaderCommitIndex {
			t.Fatalf("commit %d became %d though %d is verified", r.LeaderCommitIndex, m.GetLeaderCommit(), verified)
		}
	})
}

// TestS2_ClampFollowsTheTrim: entries that are left for the next request are not
// verified by this one.
func TestS2_ClampFollowsTheTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commit uint64
		l, a, b := pair(t, func(_ int, x *testNode) {
			x.opts.Tamper = func(_ shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) {
				if m.GetAppend() != nil {
					commit = m.GetAppend().GetLeaderCommit()
				}
				send(m)
			}
		})
		defer l.close()
		go answerAll(b)
		data := make([]byte, appendBytes/2)
		req := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, LeaderCommitIndex: 9, Entries: []*raft.Log{
			{Index: 2, Data: data}, {Index: 3, Data: data}, {Index: 4, Data: data}}}
		if err := a.AppendEntries("", b.LocalAddr(), req, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		if len(req.Entries) != 2 || commit != 3 {
			t.Errorf("%d entries and commit %d were sent, expected 2 and 3", len(req.Entries), commit)
		}
	})
}

// staleFollower is a raft whose last entry, 3, was never committed and is not in
// the log of the leader of term 2. It answers what the follower applied after an
// empty append that verifies entry 2 and speaks of commit index 3.
func staleFollower(t *testing.T, trans raft.Transport, voters []raft.ServerID,
	send func(*raft.AppendEntriesRequest) error) []string {
	var conf raft.Configuration
	for _, id := range voters {
		conf.Servers = append(conf.Servers, raft.Server{ID: id, Address: raft.ServerAddress(id)})
	}
	store, fsm := raft.NewInmemStore(), &journal{}
	if err := store.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	if err := store.StoreLogs([]*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)},
		{Index: 2, Term: 1, Data: []byte("good")}, {Index: 3, Term: 1, Data: []byte("stale")},
	}); err != nil {
		t.Fatal(err)
	}
	c := raftConfig(&testNode{id: "n1"})
	c.LocalID = voters[0]
	r, err := raft.NewRaft(c, fsm, store, store, raft.NewInmemSnapshotStore(), trans)
	if err != nil {
		t.Fatal(err)
	}
	err = send(&raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(voters[1]), Addr: []byte(voters[1])},
		Term:      2, PrevLogEntry: 2, PrevLogTerm: 1, LeaderCommitIndex: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if closer, ok := trans.(raft.WithClose); ok {
		_ = closer.Close()
	}
	if err := r.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	return fsm.lines()
}

// TestS2_FollowerDoesNotApplyItsStaleEntry sends the same request through a
// transport that leaves it alone, where the follower applies an entry that no
// leader committed, and through ours.
func TestS2_FollowerDoesNotApplyItsStaleEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, follower := raft.NewInmemTransport("f")
		_, leader := raft.NewInmemTransport("l")
		leader.Connect("f", follower)
		applied := staleFollower(t, follower, []raft.ServerID{"f", "l", "x"}, func(r *raft.AppendEntriesRequest) error {
			return leader.AppendEntries("f", "f", r, &raft.AppendEntriesResponse{})
		})
		if want := []string{"2/1 good", "3/1 stale"}; !slices.Equal(applied, want) {
			t.Errorf("the defect did not show: applied %q", applied)
		}
		_ = leader.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		voters := []raft.ServerID{b.self, a.self, "n3/r103"}
		applied := staleFollower(t, b, voters, func(r *raft.AppendEntriesRequest) error {
			return a.AppendEntries(b.self, b.LocalAddr(), r, &raft.AppendEntriesResponse{})
		})
		if want := []string{"2/1 good"}; !slices.Equal(applied, want) {
			t.Errorf("applied %q, expected %q", applied, want)
		}
	})
}
