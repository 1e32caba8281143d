// Package registry says how the cluster's own truth is kept in the system shard:
// which keys there are, how their values are encoded, and how a shard map comes
// out of them.
//
//	cluster        how the cluster was formed; its presence says that it was
//	node/<id>      a member node and its addresses
//	shard/<id>     a shard's record, as last indexed
//
// It holds only pure functions: who reads and writes the shard is the caller's
// business. Keys that this version does not know are ignored, since a later one
// may have put them there.
//
// Invariants:
//
//   - REG1: the map's epoch is the highest version among its keys, so it rises
//     with every change and is the same on every replica that applied it.
//   - REG2: Founding depends on the plan alone. Whichever leader finishes a
//     formation writes the same entries, however often.
//   - REG3: the cluster entry is the last one written, and without it there is
//     no map.
package registry
