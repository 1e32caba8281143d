// Package raftstore is the replicas of one node: many Raft groups, one per
// shard, on two Pebble databases.
//
// The log database (package logstore) holds the Raft logs and votes of all
// groups and syncs them together. The state database holds the data of all
// shards and has no write-ahead log: the Raft log is its log. What a crash
// leaves of it is a prefix in commit order, and Raft replays the rest. What each
// command means is decided by package state, which knows none of this.
//
// It does not know other nodes' addresses, shard placement, clients or gRPC
// services; package node joins it with those.
//
// # The life of a write
//
// Propose puts a Write, all of one frame for one shard, into the group's bounded
// queue. The lead goroutine, the only proposer, takes what waits as soon as
// another entry may be in flight, stamps it with shard time and hands it to Raft
// as one entry. While one small entry is in flight the next one grows: small
// entries in flight cost a sync each and are slower than one larger entry. When
// Raft has committed the entry, the apply loop applies it together with the
// applied index in one Pebble batch and completes the Write by its proposal id.
// Raft's future is never waited for, since it may never resolve.
//
// # The life of a read
//
// Get puts a Read into the group's backlog and asks the node's confirmer for a
// round (see confirmer). The round proves that no later leader had been elected
// when it began; the read then waits until the commit index noted at that
// moment is applied and is answered from one Pebble view, together with the
// record that says whether the key is still the shard's.
//
// That is a linearizable read of the leader. A session read is answered as soon as
// its version is applied here, and asks as if linearizable when that takes longer
// than 20 ms; a bounded-stale read is answered by the index that was found last, if
// it was asked for lately enough, and asks otherwise; a read of any age is answered
// at once. ReadLevel has the promises, ServedBy says which way it went.
//
// A replica that does not lead asks the leader for the index (see asker): one message
// per pair of nodes carries the questions of all shards and readers that wait, and
// the leader answers each after a confirm round that began when it came. The replica
// waits until that index is applied and answers from its own state.
//
// # What is remembered
//
// Each replica keeps its newest changes in memory, for those who watch (ring): at
// most 4 MiB, and 256 MiB on a node. The apply loop appends and waits for nobody. A
// start, a restart in place and an installed snapshot begin anew; whoever needs more
// is told Compacted. Many keys of one moment come from a View.
//
// # What is refused
//
// A shard's queues are bounded, and those of all shards together are (nodeBound), so
// that a shard that stands still leaves room for the others. While the state
// database is near a stall, which would stop the apply loops of all shards, leaders
// here take no puts; during a stall they take no writes (pressure.go). Refusals are
// Overloaded with a hint and mean "not applied".
//
// # The life of a log
//
// The flusher watches how much log has been appended since the state database was
// last flushed, flushes it for all groups at once, and cuts each log up to what is
// durable, less what is kept for followers that lag (ADR 0003). Raft takes no part.
//
// A follower that needs more than is left gets a snapshot: its leader opens a view
// of the shard (package snapshot), the transport streams it into the follower's
// staging directory, and raft there is handed a descriptor, which comes back in
// Restore (restore.go). What a crash leaves between the two databases is settled
// by boot.
//
// # The end of a replica
//
// Retire removes one for ever and remembers its id. A replica whose data or log
// cannot be trusted is quarantined instead: it stops, neither serves nor votes
// again, and what it has is kept until it is retired.
//
// # What hashicorp/raft needs around it
//
// Version 1.8.0 has defects that are neutralised here and in the packages
// beside, without a fork:
//
//   - S1: its heartbeat fast path changes term and state on another goroutine
//     (upstream #695). The transport never calls it, so heartbeats queue behind
//     slow appends; LeaderLeaseTimeout therefore equals HeartbeatTimeout.
//   - S2: followers may commit past what was verified; the transport clamps.
//   - S3: a vote is two writes (upstream #661); logstore makes them one.
//   - S4: VerifyLeader counts answers to requests sent before the call. It is
//     never called, nor are Barrier and Raft's lease; reads have their own index.
//
// # When raft does not go on
//
// Raft has states it cannot leave: an append pipeline that is wedged, a transfer
// flag that stays set, a sleep of ten seconds that nothing ends, futures that
// never resolve. Each known one is closed where it is: the transport offers no
// pipeline and holds appends back while a follower is silent; leadership is
// handed only to a voter that answers and has the log; no future is waited for.
// Behind that, a watchdog looks for replicas that stand still without a visible
// reason and cures them, in the end by a restart in place: the group is stopped,
// checked as at boot and opened again, with everybody who waited told the truth.
//
// # Invariants
//
//   - RS1: the applied index is in the same batch as the effect of its entry.
//   - RS3: nothing is acknowledged before its entry is committed, and an entry
//     counts for a majority only where the log database has synced it.
//   - L2: births write the record and flush it before the log's boundary, and the
//     boundary before the group acts; an ingest is marked in the log database before
//     it begins; a removal takes log and votes first and the record last. Boot
//     finishes what a crash may have left.
//   - L4: a snapshot that does not bring the replica forward never reaches raft.
//   - F3: only Retire removes a replica, and it may come before the replica does.
//   - L6: a waiter is completed by (replica, process nonce, counter) only; at a
//     restart of its group as unknown; when a later term's entry is applied first,
//     as not applied. An entry applies only in the term its proposer led.
//   - R1 to R3: a round's majority is of the voters of the latest configuration;
//     the index is Raft's commit index; a round's readers are fixed before its
//     first message, and so are those of a question to a leader.
//   - R4: the age of an index counts from before its round began, on a clock that
//     goes on while the machine is suspended.
//   - P6: a watch gets every change after its version once and in order, those of one
//     version together, or Compacted.
//   - T1: a leader stamps nothing before a clock round of its own term, nor after
//     its clocks have drifted apart.
//
// # Goroutines and locks
//
// A Store runs the confirmer, the read workers, a sweeper for deadlines, the
// flusher, the inspector of damaged tables, a sampler of Pebble's metrics, a worker
// that hashes states, and the watchdog with at most one of its cures. A Group runs
// watch (Raft's state), lead (the proposer) and Raft's own. Callbacks of Write and
// Read run on the apply loop, a read worker, the sweeper or the
// caller's goroutine. No lock is held while calling out, waiting or doing I/O;
// each structure has one lock and none is taken inside another.
package raftstore
