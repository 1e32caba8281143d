// Package client is the Go library of Ringfort: it routes each key straight to
// the leader of its shard, sends calls that are made at the same time together,
// and repeats them until they have an answer, without applying a write twice.
//
// It does not resolve conflicts or know about Raft and storage, and it does not
// administer clusters: that is the admin service's.
//
// # What a caller can rely on
//
//	call               when it returns without error                                repeated by itself
//	Get, GetMany, TTL  saw every write acknowledged before the call (linearizable)  always
//	Put, PutMany,      durable on a majority of the shard's replicas,               under its request id:
//	Delete, Add, …     applied exactly once                                         applied at most once
//	… If…              the same, and the condition held when it was applied         the same
//	Txn, Batch         the same, for all their keys at one point of history         the same
//	Scan, Count        of each shard one snapshot, at the level asked for; after an     always, behind the last key
//	                   interruption a newer one: unchanged keys come exactly once
//	DeleteRange        every key found is deleted, each by itself                   as Delete
//	Watch              of each shard all changes behind the beginning, once and in      always, behind the last change;
//	                   order, groups whole; else ErrCompacted, or a Reset               ErrUnavailable after a minute
//	… WithRequestID    the same, also across restarts of the caller                 the same
//	… WithoutRequestID durable, applied                                             only if certainly not applied
//
//	error              the write                                 what to do
//	InDoubt is false   was not applied and never will be         try again, if Kind is not ErrInvalid
//	InDoubt is true    may have been applied, or may be yet      read, or repeat under its WithRequestID
//
// Each key of GetMany, PutMany and DeleteMany is a call of its own; they are not
// a transaction. One is made by Txn or Batch, of keys in one slot: such as share
// the hash tag, which is the part between the first { and the next }.
//
// A condition that fails (ErrConditionFailed), a value that is no number
// (ErrNotANumber) and a sum out of range (ErrOverflow) are decided together with
// the write: when such an error comes, no attempt was or will be applied, even if
// the answers to earlier ones were lost.
//
// # Read levels
//
//	level              the answer reflects
//	Linearizable()     every write acknowledged, to anybody, before the call; the default
//	InSession(s),      everything that the session has seen, such as its own writes
//	AtLeast(token)     and what it read before
//	BoundedStale(d)    every write acknowledged, to anybody, d before the call
//	Any()              what the replica that is asked has applied
//
// Each of them may be served by the leader, or, with FromFollower or Nearest, by
// another replica: that chooses the place, not the promise. Item.Served says how it
// was. A replica that cannot keep the promise refuses or asks the leader; the client
// goes on to another one within the call's context. A machine that stood still as a
// whole (a suspended virtual machine) is outside the bound of BoundedStale.
//
// # The cache
//
// WithCache keeps what Get and GetMany have read, keys without a value included, and
// weakens no level:
//
//	level              is served from the cache if
//	Linearizable()     a node, asked with the version, says that it is still so: one
//	                   round trip, without the value's bytes
//	InSession(s), …    the shard version that the entry reflects is not below the token's
//	BoundedStale(d)    the request that brought it was sent at most d ago, by a clock
//	                   that goes on while the machine is suspended
//	Any()              there is an entry
//
// A value whose deadline has come, by the client's estimate of shard time, is not
// served. Writes of the same client replace or remove what they make old before they
// return. Of reads that find nothing one goes and the others wait for it. Results are
// copies. WithoutCache passes by; Stats counts hits, misses and refusals.
//
// # Scans
//
// Keys lie in shards by their hash tag, so keys that are neighbours by name usually
// do not lie together. Prefix("{user17}") is one seek in one shard; a prefix over
// many slots asks every shard to look for it. ByKey merges the shards' streams,
// BySlot takes one shard after the other and is cheaper; WithReport tells the cost.
//
// # Watches
//
// A watch has a stream per shard, from any replica that can serve it, and hands on
// what comes; between shards there is no order. Every Changes has a Token, and so has
// a finished scan: From it the same process or another one continues, also after
// splits. Replicas remember changes for a while. When none remembers enough the
// watch says ErrCompacted, or, WithResync, shows what there is now as Reset and goes
// on behind that. It is never silent about a gap.
//
// # Deadlines
//
// A key with a deadline (WithTTL, Expire) is gone when its shard's time has
// passed it and the expiry was applied, which is an event that a watch sees. Shard
// time is agreed on by the replicas. It is never early; outages make it late.
//
// # Duties of the caller
//
// Open one Client and share it; Close it. Give every call a context with a
// deadline, or choose WithTimeout. Leave a value alone until its call returns.
// Use WithTransportCredentials unless all nodes listen on loopback.
//
// # Invariants
//
//   - P3: a write has one number and one expiry for all its attempts. A new pair
//     is taken only after a first attempt was refused as expired. The number stays
//     open, and so protected, until the caller has the final answer.
//   - P4: an error says InDoubt unless every attempt certainly had no effect:
//     was never put into a frame, or was answered by a refusal.
//   - P7: C1 to C3, in cache.go: no older fact replaces a newer one, none that an own
//     acknowledged write has made old comes in, and age counts from the request.
//   - P6: a watch moves its position only with what its loop was given, and asks
//     for what is behind the position. A stream that brings nothing, not even its
//     progress, for watchSilence is broken off and taken up elsewhere.
//   - Every call given to a connection comes back to its driver exactly once, and
//     has at most one attempt under way.
//
// # At the bounds
//
// A full connection makes callers wait. A client id with laneSpan numbers between
// its oldest open write and its newest hands over to a fresh one. Keys, values
// and frames are held to the limits that the nodes name. The pauses between
// attempts grow and are jittered: to half a second for connecting to a node, to a
// fifth of a second for a call. A scan holds one page per shard, and beyond that
// what the flow control of its streams lets through; a loop that stands still stops
// the nodes, which break off after a while. The same goes for a watch, which queues
// nothing itself; cut off, it resumes where it was if replicas still remember.
//
// # Goroutines and locks
//
// A connection has two goroutines, one that connects and reads and one that
// writes; Close waits for all of them. Calls and scans run in their callers'
// goroutines. Scans have gRPC streams of their own beside that of calls, on the same
// connection; breaking off their loop ends them. A watch has a goroutine for each
// shard, which its loop waits for when it ends, and Close too. The
// locks are topology.mu, then conn.mu, then the leaves numbers.mu, shardTime.mu,
// random.mu, Session.mu, a cache stripe's and Client.life. None is held while waiting for a channel, a timer or
// gRPC. Routes are looked up without a lock.
package client
