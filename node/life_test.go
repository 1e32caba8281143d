package node_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/shardmap"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func TestLeaderCrashLosesNothingAndIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		leader := leaderOf(c, 2)
		other := c.Servers[(leader.Index+1)%3]
		client := dial(t, c, other.Index)
		for k := range 20 {
			client.put(fmt.Sprintf("key%d", k), "before")
		}
		crashed := time.Now()
		leader.Crash(30, rng(1))
		for k := range 20 {
			client.wantValue(fmt.Sprintf("key%d", k), "before")
		}
		client.put("key0", "after")
		// Raft looks for a silent leader once or twice per election timeout, so it
		// may take three of them.
		if gap := time.Since(crashed); gap > 4*time.Second {
			t.Errorf("keys could not be served for %v", gap)
		}
		st := client.status()
		for _, n := range st.GetNodes() {
			if down := n.GetNode().GetName() == leader.Name; n.GetReachable() == down || (n.GetNote() == "does not answer") != down {
				t.Errorf("node %+v", n)
			}
		}
		if err := leader.Start(); err != nil {
			t.Fatal(err)
		}
		awaitServed(t, c)
		back := dial(t, c, leader.Index)
		back.wantValue("key0", "after")
		back.wantValue("key7", "before")
	})
}

func TestAllNodesCrashAtOnce(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			c := nodetest.Start(t, nodetest.Options{Logger: logger(), Seed: seed})
			client := dial(t, c, 0)
			for k := range 20 {
				client.put(fmt.Sprintf("key%d", k), fmt.Sprint(seed))
			}
			random := rng(seed)
			for _, s := range c.Servers {
				s.Crash(random.IntN(101), random)
			}
			for _, s := range c.Servers {
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
			}
			awaitServed(t, c)
			client = dial(t, c, 1)
			for k := range 20 {
				client.wantValue(fmt.Sprintf("key%d", k), fmt.Sprint(seed))
			}
		})
	}
}

// A graceful stop hands leaderships over: no key waits for an election.
func TestGracefulStopHandsLeadershipsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 4})
		leaving := leaderOf(c, 2)
		client := dial(t, c, (leaving.Index+1)%3)
		for k := range 20 {
			client.put(fmt.Sprintf("key%d", k), "v")
		}
		began := time.Now()
		if err := leaving.Stop(); err != nil {
			t.Fatal(err)
		}
		for k := range 20 {
			client.put(fmt.Sprintf("key%d", k), "w")
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("stop and first writes after it took %v", took)
		}
		if err := leaving.Start(); err != nil {
			t.Fatal(err)
		}
		awaitServed(t, c)
	})
}

// All nodes come back at other addresses at once; the seed in --join and gossip
// bring them together, and the registry learns the new addresses.
func TestNodesRestartAtOtherAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		dial(t, c, 0).put("key", "value")
		for i, s := range c.Servers {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			s.Move(fmt.Sprintf("moved%d.test:1", i), fmt.Sprintf("moved%d.test:2", i))
		}
		for _, s := range c.Servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "the new addresses in every map", func() bool {
			for _, s := range c.Servers {
				for _, other := range c.Servers {
					entry, ok := s.Node().Map().Node(other.Node().Self().ID)
					if !ok || entry != other.Node().Self() {
						return false
					}
				}
			}
			return true
		})
		dial(t, c, 2).wantValue("key", "value")
	})
}

// The stored copy of the map is enough to find the others when gossip tells
// nothing.
func TestStoredMapFindsPeersWithoutGossip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		dial(t, c, 0).put("key", "value")
		for _, s := range c.Servers {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		c.SilenceGossip(true)
		for _, s := range c.Servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		awaitServed(t, c)
		dial(t, c, 1).wantValue("key", "value")
	})
}

// A node cut off from the others learns of a newer map when it is back, although
// it holds no replica of the system shard.
func TestMapReachesNodesWithoutASystemReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Nodes: 4, ReplicationFactor: 3})
		var outsider *nodetest.Server
		for _, s := range c.Servers {
			if _, ok := s.Node().Store().Group(shardmap.SystemShard); !ok {
				outsider = s
			}
		}
		for _, s := range c.Servers {
			if s != outsider {
				c.Network.CutBoth(outsider.Index, s.Index)
			}
		}
		moved := c.Servers[(outsider.Index+1)%4]
		before := outsider.Node().Map().Epoch()
		if err := moved.Stop(); err != nil {
			t.Fatal(err)
		}
		moved.Move("moved.test:1", "moved.test:2")
		if err := moved.Start(); err != nil {
			t.Fatal(err)
		}
		third := c.Servers[(outsider.Index+2)%4]
		await(t, "the change among the others", func() bool { return third.Node().Map().Epoch() > before })
		if outsider.Node().Map().Epoch() != before {
			t.Fatal("the cut let a map through")
		}
		for _, s := range c.Servers {
			c.Network.HealBoth(outsider.Index, s.Index)
		}
		healed := time.Now()
		await(t, "the newest map", func() bool {
			entry, _ := outsider.Node().Map().Node(moved.Node().Self().ID)
			return entry.Address == "moved.test:1"
		})
		// The old connections may have to be found dead first.
		if took := time.Since(healed); took > 15*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A failing log disk takes the node out of service at once; the others go on.
func TestP10FatalDiskTakesTheNodeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		sick := leaderOf(c, 2)
		client := dial(t, c, (sick.Index+1)%3)
		client.put("key", "before")
		sick.BreakDisk(nil)
		for i := range 40 { // some of these go to shards that the node leads
			client.put(fmt.Sprintf("key%d", i), "v")
		}
		await(t, "the node's end", func() bool { return sick.Fatal() != nil })
		sick.Crash(0, nil)
		for i := range 40 {
			client.wantValue(fmt.Sprintf("key%d", i), "v")
		}
	})
}
