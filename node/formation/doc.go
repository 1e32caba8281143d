// Package formation makes a cluster out of nodes that belong to none, once,
// however many administrators try and whatever crashes in between (rule F1).
//
// A coordinator (any node that is asked to) writes a plan: cluster id, nodes,
// replica ids. Every node of the plan accepts it, durably; then every node is
// told to start. A started member of the plan's system record brings its replica
// of the system shard to life. What happens then (the shard's leader writes the
// founding entries) is not this package's business.
//
//	          Accept: synced               Start: replica born, then synced
//	blank ───────────────────▶ planned ───────────────────────────────────▶ started
//
// Form may be repeated by anyone at any time: it collects the plans that nodes
// hold and finishes exactly that one.
//
// # Invariants (F1)
//
//   - F1a: a node accepts one plan, ever, and no cluster beside it.
//   - F1b: nobody is told to start before all nodes of the plan accepted it, in
//     this attempt or an earlier one. So no other plan that shares a node with it
//     can ever start.
//   - F1c: replicas are born from the plan's record alone, so all are identical.
//   - F1d: a node is started only after its replica is durable. A node that comes
//     back planned may therefore be started again without harm.
//
// Plans are offered to the first node (by id) before the others. Of two
// coordinators that see the same nodes one is so turned away before it has
// stored anything, and finishes the other's plan instead. Two that see different
// nodes may each get some nodes to accept; neither plan can start then, and Form
// names the nodes on either side: the operator empties the data directories of
// one side, which hold nothing yet.
//
// # Goroutines and locks
//
// A Member serialises its changes with a one-element channel, not a mutex: they
// wait for disks. Form's goroutines end before it returns.
package formation
