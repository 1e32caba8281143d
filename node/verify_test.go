package node_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// verified asks the nodes for the hashes of a shard's replicas at one index, as
// kvctl does.
func verified(t *testing.T, c *nodetest.Cluster, shard shardmap.ShardID, id byte) map[string]*adminv1.VerifyReplicaResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	raw := make([]byte, 16)
	raw[0] = id
	streams := map[string]adminv1.Admin_VerifyReplicaClient{}
	for i, s := range c.Servers {
		stream, err := dial(t, c, i).VerifyReplica(ctx, &adminv1.VerifyReplicaRequest{Shard: uint64(shard), Id: raw})
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil || first.GetStage() != adminv1.VerifyStage_VERIFY_STAGE_WAITING || first.GetNodeId() != string(s.Node().Self().ID) {
			t.Fatalf("%v, %v", first, err)
		}
		streams[s.Name] = stream
	}
	leader := leaderOf(c, shard)
	if _, err := dial(t, c, leader.Index).ProposeVerify(ctx, &adminv1.ProposeVerifyRequest{Shard: uint64(shard), Id: raw}); err != nil {
		t.Fatal(err)
	}
	found := map[string]*adminv1.VerifyReplicaResponse{}
	for name, stream := range streams {
		for found[name].GetStage() != adminv1.VerifyStage_VERIFY_STAGE_HASHED {
			said, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			found[name] = said
		}
	}
	return found
}

// Equal replicas verify as equal under load; what was changed behind their backs
// in one of them is found, and nothing else is blamed.
func TestVerifyFindsWhatWasPlantedInOneReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 2})
		stop := make(chan struct{})
		var load sync.WaitGroup
		defer load.Wait()
		defer close(stop)
		for i := range 3 {
			client := dial(t, c, i)
			load.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
						client.put(fmt.Sprintf("key%d", n%50), fmt.Sprint(i, n))
					}
				}
			})
		}
		time.Sleep(time.Second)
		for _, shard := range []shardmap.ShardID{1, 2, 3} {
			found := verified(t, c, shard, 1)
			for name, v := range found {
				if v.GetIndex() != found["n1"].GetIndex() || v.GetHash() != found["n1"].GetHash() || v.GetKeys() < 3 {
					t.Errorf("shard %d on %s: %v; n1: %v", shard, name, v, found["n1"])
				}
			}
		}

		victim := c.Servers[1]
		if err := victim.Stop(); err != nil {
			t.Fatal(err)
		}
		slot := shardmap.SlotOf([]byte("planted"))
		err := victim.EditState(func(db *pebble.DB) error {
			return db.Set(state.DataKey(nil, slot, []byte("planted")), []byte("x"), pebble.NoSync)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		awaitServed(t, c)
		rec, _ := c.Servers[0].Node().Map().Lookup(slot)
		for _, shard := range []shardmap.ShardID{1, 2, 3} {
			found := verified(t, c, shard, 2)
			if found["n1"].GetIndex() != found["n2"].GetIndex() || found["n1"].GetHash() != found["n3"].GetHash() {
				t.Errorf("shard %d: %v", shard, found)
			}
			if differs := found["n2"].GetHash() != found["n1"].GetHash(); differs != (shard == rec.Shard) {
				t.Errorf("shard %d: n2 differs: %t, and it was changed in shard %d", shard, differs, rec.Shard)
			}
		}
	})
}

func TestVerifyRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 1})
		client := dial(t, c, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		id := make([]byte, 16)
		watch := func(shard uint64, id []byte) error {
			stream, err := client.VerifyReplica(ctx, &adminv1.VerifyReplicaRequest{Shard: shard, Id: id})
			for err == nil {
				_, err = stream.Recv()
			}
			return wire.ErrorFromStatus(err, wire.Unsent)
		}
		propose := func(index int, shard uint64, id []byte) error {
			_, err := dial(t, c, index).ProposeVerify(ctx, &adminv1.ProposeVerifyRequest{Shard: shard, Id: id})
			return wire.ErrorFromStatus(err, wire.MaybeSent)
		}
		follower := (leaderOf(c, 2).Index + 1) % 3
		await(t, "the follower knows its leader", func() bool {
			g, _ := c.Servers[follower].Node().Store().Group(2)
			_, known := g.Leader()
			return known
		})
		for _, c := range []struct {
			name string
			err  error
			want kverr.Kind
		}{
			{"a short id", watch(2, id[1:]), kverr.Invalid},
			{"a shard that is not here", watch(9, id), kverr.Invalid},
			{"proposed with a short id", propose(0, 2, id[1:]), kverr.Invalid},
			{"proposed for a shard that is not here", propose(0, 9, id), kverr.NotLeader},
			{"proposed to a follower", propose(follower, 2, id), kverr.NotLeader},
			{"an entry that never comes", watch(2, id), kverr.Deadline},
		} {
			if got := kverr.KindOf(c.err); got != c.want {
				t.Errorf("%s: %v (%v), want %v", c.name, got, c.err, c.want)
			}
		}
	})
}
