// Package gossip spreads three hints between the nodes of a cluster: who is
// alive, where they listen, and how new the shard map is that they hold.
//
// It decides nothing. No replica moves and no read is trusted because of
// gossip, which is why it may be wrong for a while: a paused node looks dead, a
// dead one alive. It carries no map either; whoever shows a higher epoch is
// asked for it over gRPC. It wraps hashicorp/memberlist, whose sharp edges stay
// in here:
//
//   - A member's name is the node's id and the process's run, so a node that
//     restarts on another address at once is not refused as a conflict with the
//     name its dead predecessor still holds. The view keeps the newest run of
//     every node.
//   - Callbacks arrive under memberlist's own lock. They touch only the view and
//     a one-element channel, and nothing here calls memberlist while it holds
//     the view.
//   - memberlist forgets dead nodes, so after a long partition nobody would call
//     anybody again: the seeds are joined again and again.
//   - Metadata over 512 bytes makes memberlist panic: its parts are bounded here.
//
// The caller starts one Gossip per process and calls Leave (or not: then it
// looks like a crash), then Close.
//
// # Invariants
//
//   - G-CLUSTER: a member of another cluster is never in the view, and does not
//     enter memberlist's own view either (two clusters must not merge through a
//     stale address). Nodes of no cluster yet are visible to everyone.
//   - G-META: encoded metadata is at most MaxMeta bytes.
//
// # Goroutines and locks
//
// One goroutine of our own (worker) joins seeds and announces changed metadata;
// Close waits for it. Lock order: memberlist's locks, then view.mu, a leaf.
package gossip
