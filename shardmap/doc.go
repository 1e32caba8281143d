// Package shardmap holds the values that say where data lives, and the pure
// functions on them: slots and hash tags, arcs, shard records, the shard map,
// and plans of which node should hold what.
//
// It does no I/O, starts no goroutine, takes no lock, reads no clock and no
// random source, and imports nothing of ours. It does not decide who is right:
// a shard's own log is the authority on its record, the system shard's log on
// which records the map lists.
//
// # The map
//
// A Map is immutable and may be shared freely. What its methods return is shared
// with it: callers read it, and Clone a Record before they change it. A change
// (WithRecords, WithNode) copies, alters the copy, checks it and returns it.
// Invariants, checked by NewMap and before and after every change; an error is a
// *Violation with the id:
//
//   - SM1: every arc is non-empty and on the ring; SystemArc belongs to
//     SystemShard, which owns nothing else, and no other arc reaches into it.
//   - SM2: no two records share a slot, so each key has at most one shard.
//   - SM3: shard ids are unique, replica ids are unique in the whole map; neither
//     is 0.
//   - SM4: a record has at most one replica on a node; each replica has a node and
//     a known role.
//   - SM5: node ids in the registry are unique and not empty; the replication
//     factor is not negative.
//   - SM6: epochs only rise: the map's with each change, a record's arc epoch and
//     member epoch with each change of arc and replicas, and the same epoch always
//     means the same content.
//
// A map need not cover all slots (Complete says whether it does), and a record
// may name nodes that the registry does not list (yet).
//
// # Placement
//
// Place and Replace plan by consistent hashing with bounded loads (Mirrokni,
// Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, SODA 2018): nodes
// have weighted points on the ring, and an arc goes clockwise to the first nodes
// that are in different zones and not full. We depart from the paper in two
// points. The result is stored in the map, never computed again from the hash, so
// a change is planned from what is there: the paper bounds the expected number of
// moves when a node joins, but recomputing with caps cascades and now and then
// moves far more; Replace never does. And nodes fill up to their fair share
// before any goes on to its cap, so loads differ by one where the paper's are
// anywhere below the cap; a cap that shrinks when a node joins then evicts
// nothing. Promises:
//
//   - PL1: each arc is on as many different nodes as the replication factor says.
//   - PL2: an arc's replicas are spread over zones as evenly as the zones' sizes
//     allow; all in different zones when there are enough.
//   - PL3: no node holds more than its cap, ceil(LoadFactor · fair share). The fair
//     share is arcs · factor · weight / total weight, unless PL1 and PL2 force more
//     or less on a node, as for the only node of a zone.
//   - PL4: a node that joins takes at most its fair share, rounded down, and no
//     other replica moves; a node that leaves moves only its own replicas; both
//     apart from what goes above a cap or can be spread better over zones.
//   - PL5: preferred leaders are spread over nodes in proportion to weight, as
//     evenly as the replicas allow.
//
// PL1 to PL3 are checked before a plan is returned. With equal weights and zones
// of equal size loads differ by at most one between nodes after Place, and so do
// leaderships; joining nodes keep it so; leaving nodes may widen it, never beyond
// the cap.
package shardmap
