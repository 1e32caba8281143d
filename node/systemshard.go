package node

import (
	"context"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/registry"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// systemTimeout bounds one operation on the system shard.
	systemTimeout = 5 * time.Second
	// systemBatchBytes is where a write of many entries is cut. The cuts do not
	// show: nothing counts before the last entry is there (REG3).
	systemBatchBytes = 1 << 20
)

// systemShard is the local replica of the system shard, as its leader uses it.
type systemShard struct{ group *raftstore.Group }

func (n *Node) systemShard() (systemShard, bool) {
	g, ok := n.group(shardmap.SystemShard)
	return systemShard{g}, ok
}

// write puts entries in order. They are plain puts without identity: every caller
// would write the same again. Errors are the group's.
func (s systemShard) write(ctx context.Context, entries []registry.Entry) error {
	for len(entries) > 0 {
		var ops []state.Op
		size := 0
		for len(entries) > 0 && (len(ops) == 0 || size < systemBatchBytes) {
			e := entries[0]
			entries = entries[1:]
			ops = append(ops, state.Op{Kind: state.OpPut, Key: e.Key, Value: e.Value})
			size += len(e.Key) + len(e.Value)
		}
		if err := s.propose(ctx, ops); err != nil {
			return err
		}
	}
	return nil
}

func (s systemShard) propose(ctx context.Context, ops []state.Op) error {
	type answer struct {
		results []state.Result
		err     error
	}
	done := make(chan answer, 1)
	s.group.Propose(&raftstore.Write{
		Ops: ops, Deadline: deadline(ctx),
		Done: func(results []state.Result, _ uint64, err error) { done <- answer{results, err} },
	})
	a := <-done // the deadline bounds it
	if a.err != nil {
		return a.err
	}
	for _, r := range a.results {
		if r.Verdict != state.Applied {
			return kverr.New(kverr.Unavailable, "system shard: a write was not applied: %s", r.Verdict)
		}
	}
	return nil
}

// has reads linearizably whether a key exists.
func (s systemShard) has(ctx context.Context, key []byte) (bool, error) {
	type answer struct {
		values []raftstore.Value
		err    error
	}
	done := make(chan answer, 1)
	s.group.Get(&raftstore.Read{
		Keys: [][]byte{key}, Deadline: deadline(ctx),
		Done: func(values []raftstore.Value, _ uint64, err error) { done <- answer{values, err} },
	})
	a := <-done // the deadline bounds it
	if a.err != nil {
		return false, a.err
	}
	return a.values[0].Found, nil
}

func deadline(ctx context.Context) time.Time {
	bound := time.Now().Add(systemTimeout)
	if at, ok := ctx.Deadline(); ok && at.Before(bound) {
		return at
	}
	return bound
}
