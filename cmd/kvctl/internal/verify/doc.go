// Package verify compares the replicas of shards with each other while they are
// written to.
//
// For each shard it has every replica's node wait for an entry with a fresh id,
// has the leader write that entry, and collects the hashes that the replicas took
// of their states right after it. They are equal on sound replicas, since what an
// entry does follows from the entries alone.
//
// It does not say which replica is right, only which are alike, and not which
// keys differ. It changes no data.
//
// An attempt fails without saying anything about the replicas when the leader
// changes, or a replica is too far behind, or gets its state by snapshot instead
// of by that entry. Such shards are tried again, with more patience, until the
// caller's time is over; a node that cannot be reached is not.
//
// # Goroutines
//
// One per replica and attempt; an attempt waits for its own.
package verify
