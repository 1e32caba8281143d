package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
)

// compareFor is how long a comparison waits for replicas to come to its entry.
const compareFor = 2 * time.Second

// comparer compares the replicas of one shard after the other in the middle of
// everything, each time at one index of the log, as `kvctl cluster verify` does.
// Replicas that are down or cut off are left out.
type comparer struct {
	cluster *nodetest.Cluster
	rng     *rand.Rand
	pairs   int   // replicas compared with a first one
	differ  error // the first difference
}

func (c *comparer) run(stop <-chan struct{}) {
	for {
		pause := time.NewTimer(between(c.rng, 100*time.Millisecond, 700*time.Millisecond))
		select {
		case <-stop:
			pause.Stop()
			return
		case <-pause.C:
			c.once()
		}
	}
}

func (c *comparer) once() {
	var leader *raftstore.Group
	var id state.VerifyID
	binary.BigEndian.PutUint64(id[:], c.rng.Uint64())
	waits := make(map[string]*raftstore.Verification)
	for _, i := range c.rng.Perm(len(c.cluster.Servers)) {
		n := c.cluster.Servers[i].Running()
		if n == nil || leader != nil {
			continue
		}
		for _, g := range n.Store().Groups() {
			if g.Status().Ready && (leader == nil || c.rng.IntN(2) == 0) {
				leader = g
			}
		}
	}
	if leader == nil {
		return
	}
	for _, srv := range c.cluster.Servers {
		if n := srv.Running(); n != nil {
			if w, err := n.Store().ExpectVerify(leader.Shard(), id); err == nil {
				defer w.Close()
				waits[srv.Name] = w
			}
		}
	}
	proposed := make(chan struct{})
	leader.Propose(&raftstore.Write{
		Ops: []state.Op{{Kind: state.OpVerify, Key: id[:]}}, Deadline: time.Now().Add(compareFor),
		Done: func([]state.Result, uint64, error) { close(proposed) }, // it may come all the same
	})
	<-proposed
	patience := time.After(compareFor)
	var first raftstore.Verified
	for name, w := range waits {
		select {
		case got := <-w.Done():
			switch {
			case got.Err != nil: // its node stopped
			case first.Index == 0:
				first = got
			case got.Index != first.Index || got.Digest != first.Digest:
				c.differ = fmt.Errorf("shard %d: replica %d on %s has %+v at index %d, replica %d has %+v at %d",
					leader.Shard(), got.Replica, name, got.Digest, got.Index, first.Replica, first.Digest, first.Index)
			default:
				c.pairs++
			}
		case <-patience:
			return
		}
	}
}
