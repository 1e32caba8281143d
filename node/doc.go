// Package node wires one server: data directory, stores, transport, gossip,
// services, and the loops that turn the shard map into local replicas.
//
// It decides nothing about data (raftstore and kvserver do) and plans no
// placement (shardmap does). What it adds is order: of starting, of stopping, and
// of becoming a member.
//
//	n, err := node.New(config, deps)   // checks what it is given, opens nothing
//	err = n.Run(ctx)                   // starts, serves until ctx ends, stops
//
// Everything that touches the world comes in through Deps, so that a whole
// cluster runs in one testing/synctest bubble (see node/nodetest).
//
// # Order of starting
//
// Data directory (lock, identity) → listener → stored map → admin listener →
// connections, transport → stores, which start the groups found on disk → gossip →
// gRPC servers → loops. An address in use is so found before anything is replayed,
// nobody is served before the groups exist, and a long replay can be looked into:
// the admin listener answers from its opening on, "starting" at first.
//
// # Order of stopping
//
//  1. Health says NOT_SERVING and clients are told that we go away.
//  2. Leaderships are handed over; peers are still served.
//  3. The client side closes: what is in progress is answered.
//  4. Loops end. 5. Groups stop, the state is flushed, the databases close.
//  6. The transport closes. 7. Gossip says goodbye.
//  8. The peer side, the listener and connections close; then the admin listener,
//     so that a stop that hangs can be looked into, and the directory.
//
// Steps 1 to 3 share Config.StopTimeout; after it the rest happens without grace,
// which loses nothing: it is what a crash would do.
//
// # Becoming a member
//
//	uninitialized   knows only its id; gossips and answers init
//	forming         holds a plan (rule F1), or waits for the founding map
//	serving         holds a map
//	stopping
//
// A node is started by StartPlan, or finds out by itself that another node of its
// plan has started; or it joins a formed cluster through a seed. The leader of the
// system shard writes the founding entries as soon as it serves: whoever leads
// finishes, and all would write the same.
//
// # Invariants
//
//   - F1 (see package formation): nothing starts before all accepted one plan.
//   - F3: a shard's absence from the map deletes nothing here.
//   - N1: a replica is created only when the map names it on this node, its record
//     is newborn, and no local record covers its slots.
//   - N2: the map held here only rises in epoch, and is of this node's cluster.
//   - N3: operations of clients never reach the system shard.
//   - N4: gossip and stored copies only say whom to ask; who leads, what is
//     stored and who is a member come from the shards.
//
// # Goroutines and locks
//
// Node.Run owns all loops (follow, listen, fetch, publish, reconcile, found,
// enrol) and waits for them. The gRPC servers wait for their handlers. Locks here are leaves:
// nothing is called, sent or written under them.
package node
