package sim

import (
	"errors"
	"fmt"

	"github.com/ringfort/ringfort/shardmap"
)

// checkShards judges the order of versions over all keys of a shard: it is one
// state machine, so a read is answered from a view of all of it, and that view is
// behind nothing that was answered, or applied on any replica, before the read
// began. A stale view is found whichever key is read. It takes for granted that
// no key changes its shard.
func checkShards(ops []Op) error {
	shards := make(map[shardmap.ShardID][]Op)
	for _, op := range ops {
		if op.Outcome == Done && op.Shard != 0 && level(op) != 0 {
			shards[op.Shard] = append(shards[op.Shard], op)
		}
	}
	var errs []error
	for shard, of := range shards {
		err := inOrder(of, level, judgeLevel)
		if err != nil {
			errs = append(errs, fmt.Errorf("shard %d: %w", shard, err))
		}
	}
	return errors.Join(errs...)
}

// level is how far the shard had come, at least, when the operation was answered.
func level(op Op) uint64 { return max(op.Version, op.View) }

func judgeLevel(op, before Op) error {
	stale := false
	switch op.Kind {
	case Put, Delete: // the value is given out at this operation, and higher than all
		stale = op.Version <= level(before)
	case Get:
		stale = op.View != 0 && op.View < level(before) // a client is not told the view
	}
	if !stale {
		return nil
	}
	return fmt.Errorf("%s of %s at %s was answered at %d although %s of %s that ended at %s was at %d",
		op.Kind, op.Key, op.Call, level(op), before.Kind, before.Key, before.Return, level(before))
}
