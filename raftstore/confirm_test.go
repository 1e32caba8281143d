package raftstore

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

func server(n int, suffrage raft.ServerSuffrage) raft.Server {
	id := transport.ServerID(nodeID(n), shardmap.ReplicaID(n))
	return raft.Server{ID: id, Address: raft.ServerAddress(id), Suffrage: suffrage}
}

// With four voters, a leader that has appended its own removal is not one of
// them: itself and one old voter once looked like a majority.
func TestR1_MajorityIsOfTheLatestVoters(t *testing.T) {
	self := server(1, raft.Voter)
	cases := []struct {
		name    string
		servers []raft.Server
		need    int // yeses from others
	}{
		{"three voters", []raft.Server{self, server(2, raft.Voter), server(3, raft.Voter)}, 1},
		{"four voters", []raft.Server{self, server(2, raft.Voter), server(3, raft.Voter), server(4, raft.Voter)}, 2},
		{"removed leader of three", []raft.Server{server(2, raft.Voter), server(3, raft.Voter), server(4, raft.Voter)}, 2},
		{"removed leader of four", []raft.Server{server(2, raft.Voter), server(3, raft.Voter), server(4, raft.Voter),
			server(5, raft.Voter)}, 3},
		{"demoted leader", []raft.Server{server(1, raft.Nonvoter), server(2, raft.Voter), server(3, raft.Voter)}, 2},
		{"learners do not count", []raft.Server{self, server(2, raft.Voter), server(3, raft.Voter),
			server(4, raft.Nonvoter)}, 1},
		{"single voter", []raft.Server{self}, 0},
	}
	for _, c := range cases {
		e, err := votersOf(raft.Configuration{Servers: c.servers}, self.ID)
		if err != nil {
			t.Fatal(err)
		}
		m := roundMember{electorate: e}
		m.countSelf(1)
		got := 0
		for ; !m.majority(); got++ {
			m.yes++
		}
		if got != c.need {
			t.Errorf("%s: a round is decided by %d other voters; want %d", c.name, got, c.need)
		}
	}
}

// A read that arrives while an entry is committed and not yet applied must wait
// for it: another replica may have applied it and shown it to somebody.
func TestR2_ReadWaitsForTheCommitIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold atomic.Bool
		resume := make(chan struct{})
		c := newTestCluster(t, 3)
		n := c.nodes[nodeID(1)]
		n.stop()
		n.opts = func(o *Options) {
			o.BeforeApply = func(shardmap.ShardID) {
				if hold.Load() {
					<-resume
				}
			}
		}
		n.start()
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		if g.store.opts.Self != nodeID(1) {
			t.Fatal("the test needs node 1 to lead")
		}
		mustPut(t, g, "a", "1")
		hold.Store(true)
		done := make(chan struct{})
		go func() {
			defer close(done)
			mustPut(t, g, "a", "2")
		}()
		applied := g.Status().Applied
		for g.raft.CommitIndex() <= applied {
			time.Sleep(time.Millisecond)
		}
		read := make(chan Value, 1)
		g.Get(&Read{Keys: [][]byte{[]byte("a")}, Deadline: time.Now().Add(time.Minute),
			Done: func(v []Value, _ uint64, err error) {
				if err != nil {
					t.Error(err)
					close(read)
					return
				}
				read <- v[0]
			}})
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		select {
		case v := <-read:
			t.Errorf("read %q while a later entry was committed and not applied", v.Data)
			read <- v
		default:
		}
		close(resume)
		if v := <-read; string(v.Data) != "2" {
			t.Errorf("read %q; want the committed value", v.Data)
		}
		<-done
	})
}

// A read joins the round that begins after it, never one that is under way.
func TestR3_LateReadersWaitForTheNextRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		early := &readCall{Read: &Read{Keys: [][]byte{[]byte("a")}, Deadline: time.Now().Add(time.Minute)}}
		late := &readCall{Read: &Read{Keys: [][]byte{[]byte("a")}, Deadline: time.Now().Add(time.Minute)}}
		answered := make(chan string, 2)
		early.Done = func([]Value, uint64, error) { answered <- "early" }
		late.Done = func([]Value, uint64, error) { answered <- "late" }

		// A confirmer without a loop: the test is the loop.
		conf := &confirmer{store: g.store, kick: make(chan struct{}, 1), ended: make(chan struct{}, 1)}
		conf.mu.groups = map[*Group]struct{}{}
		conf.mu.clocks = map[*Group][]chan<- clockAnswer{}
		conf.mu.rtt = map[shardmap.NodeID]time.Duration{}
		if err := g.reads.admit(early); err != nil {
			t.Fatal(err)
		}
		g.reads.pend(early)
		conf.enqueue(g)
		r := conf.begin()
		if err := g.reads.admit(late); err != nil {
			t.Fatal(err)
		}
		g.reads.pend(late)
		conf.enqueue(g)
		conf.ask(r, r.firstWave(conf.order()))
		<-r.finished
		synctest.Wait()
		if who := <-answered; who != "early" || len(answered) != 0 {
			t.Fatalf("the round answered %q and %d more; a confirm sent before a read proves nothing for it", who, len(answered))
		}
		r = conf.begin()
		conf.ask(r, r.firstWave(conf.order()))
		<-r.finished
		if who := <-answered; who != "late" {
			t.Fatalf("the second round answered %q", who)
		}
	})
}

func TestConfirmRoundsSurviveASlowVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		c.agree(2) // a replica born after the election would still say no
		for _, silent := range []int{2, 3} {
			c.isolate(nodeID(silent), true)
			for range 20 {
				start := time.Now()
				mustGet(t, g, "a", "1")
				if took := time.Since(start); took > 10*time.Millisecond {
					t.Fatalf("with node %d silent a read took %v; the other voter was there to ask", silent, took)
				}
			}
			c.isolate(nodeID(silent), false)
			time.Sleep(3 * time.Second)
			g = c.leader(2)
		}
	})
}

func TestCreateIsRepeatable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		rec := record(2, wholeRing, 1, 2, 3)
		c.create(rec)
		mustPut(t, c.leader(2), "a", "1")
		c.create(rec)
		mustGet(t, c.leader(2), "a", "1")
		other := record(2, wholeRing, 3, 2, 1)
		for i := range other.Replicas {
			other.Replicas[i].ID += 50
		}
		store := c.nodes[nodeID(1)].store
		if err := store.Create(context.Background(), []shardmap.Record{other}); err == nil {
			t.Error("another replica of a shard that is here was created")
		}
		overlap := record(3, shardmap.Arc{From: 5, To: 6}, 1, 2, 3)
		if err := store.Create(context.Background(), []shardmap.Record{overlap}); err == nil {
			t.Error("a second replica of a covered slot was created (G1)")
		}
	})
}

// Rounds of a shard without a quorum wait for their timeout; they must not take
// the places of other shards' rounds (P8).
func TestP8_AShardWithoutQuorumDelaysNoOtherReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 5)
		sick := record(2, shardmap.Arc{From: 0, To: 8000}, 1, 2, 3)
		sound := record(3, shardmap.Arc{From: 8000, To: shardmap.Slots}, 1, 4, 5)
		for _, n := range c.nodes {
			for _, rec := range []shardmap.Record{sick, sound} {
				if _, here := rec.On(n.id); here {
					if err := n.store.Create(context.Background(), []shardmap.Record{rec}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		ill, well := c.leader(2), c.leader(3)
		if ill.store != well.store {
			t.Fatal("the test needs both shards led by node 1")
		}
		c.isolate(nodeID(2), true)
		c.isolate(nodeID(3), true)
		stop := make(chan struct{})
		var flood sync.WaitGroup
		flood.Go(func() { // reads that no round can release
			for range 300 {
				ill.Get(&Read{Keys: [][]byte{[]byte("a")}, Deadline: time.Now().Add(time.Second), Done: func([]Value, uint64, error) {}})
				time.Sleep(time.Millisecond)
			}
			close(stop)
		})
		for reading := true; reading; {
			start := time.Now()
			if _, err := get(well, "b"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 20*time.Millisecond {
				t.Fatalf("a read of a healthy shard took %v", took)
			}
			select {
			case <-stop:
				reading = false
			default:
				time.Sleep(time.Millisecond)
			}
		}
		flood.Wait()
	})
}

func TestTransferToOneselfOrNobodyDisturbsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		if err := c.nodes[nodeID(1)].store.Create(context.Background(), []shardmap.Record{record(2, wholeRing, 1)}); err != nil {
			t.Fatal(err)
		}
		g := c.leader(2)
		if err := g.TransferLeadership(context.Background(), nodeID(1)); err != nil {
			t.Errorf("transfer to the leader itself: %v", err)
		}
		if err := g.TransferLeadership(context.Background(), ""); err == nil {
			t.Error("there is nobody to hand it to")
		}
		if now, ok := g.store.Group(2); !ok || now != g || !g.Status().Ready {
			t.Error("the group was restarted or lost its tenure")
		}
		mustPut(t, g, "a", "1")
	})
}
