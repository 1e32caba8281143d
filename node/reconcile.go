package node

import (
	"context"
	"slices"
	"time"

	"github.com/ringfort/ringfort/shardmap"
)

// reconcileRetry is how soon a failed creation is tried again.
const reconcileRetry = time.Second

// reconcile brings replicas to life that the map names on this node. It never
// takes one away (F3).
func (n *Node) reconcile(ctx context.Context) {
	for {
		changed := n.maps.changed.next()
		var again <-chan time.Time
		if err := n.createMissing(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("creating replicas", "error", err)
			again = time.After(reconcileRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

func (n *Node) createMissing(ctx context.Context) error {
	store := n.store.Load()
	var local []shardmap.Record
	for _, g := range store.Groups() {
		local = append(local, g.Record())
	}
	missing, unborn := missingReplicas(n.maps.Map(), n.self.ID, local, store.Barred)
	for _, rec := range unborn {
		n.log.Warn("the map names a replica here that cannot be created: its shard has changed members since its birth",
			"shard", rec.Shard, "member_epoch", rec.MemberEpoch)
	}
	if len(missing) == 0 {
		return nil
	}
	if err := store.Create(ctx, missing); err != nil {
		return err
	}
	n.log.Info("created replicas", "count", len(missing))
	return nil
}

// missingReplicas returns the records whose replica should be created here (N1),
// and those whose replica is missing and must not be: a synthetic birth is only
// true for a replica of the shard's first members, so every other has to get the
// shard's state from a peer. The system shard's replicas are born by formation
// only; a missing one was lost. One that is barred, which is quarantined or retired,
// stays away for ever, and would have the creation of all others refused.
func missingReplicas(m *shardmap.Map, self shardmap.NodeID, local []shardmap.Record,
	barred func(shardmap.ShardID, shardmap.ReplicaID) bool,
) (missing, unborn []shardmap.Record) {
	for _, rec := range m.Records() {
		member, here := rec.On(self)
		covered := slices.ContainsFunc(local, func(l shardmap.Record) bool {
			return l.Shard == rec.Shard || l.Arc.Overlaps(rec.Arc)
		})
		switch {
		case !here || covered || rec.Shard == shardmap.SystemShard || barred(rec.Shard, member.ID):
		case rec.MemberEpoch != 1 || rec.ArcEpoch != 1:
			unborn = append(unborn, rec)
		default:
			missing = append(missing, rec)
		}
	}
	return missing, unborn
}
