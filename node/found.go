package node

import (
	"context"
	"time"

	"github.com/ringfort/ringfort/node/registry"
)

// foundRetry is how soon a leader of the system shard looks again whether it can
// write the founding entries. It runs only between start and first map.
const foundRetry = 20 * time.Millisecond

// found writes the founding entries if this node leads the system shard of a
// cluster that is not formed yet. It returns when there is a map: then somebody
// has. Every node runs it, so it does not matter who began and died.
func (n *Node) found(ctx context.Context) {
	for n.maps.Map() == nil {
		changed, mapChanged := n.changed.next(), n.maps.changed.next()
		var again <-chan time.Time
		if n.clusterID() != "" && n.dir.Plan() != nil {
			if err := n.foundOnce(ctx); err != nil {
				n.log.Warn("founding the cluster", "error", err)
			}
			again = time.After(foundRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-mapChanged:
		case <-again:
		}
	}
}

func (n *Node) foundOnce(ctx context.Context) error {
	system, ok := n.systemShard()
	if !ok || !system.group.Status().Ready {
		return nil
	}
	// Linearizable: a former leader's entries may be committed and not yet seen.
	formed, err := system.has(ctx, registry.ClusterKey())
	if err != nil || formed {
		return err
	}
	entries, err := registry.Founding(n.dir.Plan())
	if err != nil {
		return err
	}
	if err := system.write(ctx, entries); err != nil {
		return err
	}
	n.log.Info("cluster formed", "cluster", n.clusterID(), "shards", n.dir.Plan().GetShards())
	return nil
}
