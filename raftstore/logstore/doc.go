// Package logstore keeps the Raft logs and the votes of all groups of a node in
// one Pebble database, so that groups share their fsyncs.
//
// It does not know what entries mean, does not take snapshots, and does not
// start or stop groups. It is no raft.MonotonicLogStore: raft would then wipe
// logs after a snapshot and keep its idea of the last index (upstream #697).
//
// # What the caller owes
//
//   - Birth before the first entry of a group; entries without a boundary stop
//     the process (L1).
//   - Data and Extensions of a stored entry are never changed afterwards: the
//     cache keeps them, as raft itself does.
//   - One process per directory. Options.Fatal ends the process; where it
//     returns (tests) the database is dead, see below.
//   - Raft is shut down before Close, or the database is dead.
//
// # Invariants
//
//   - L1: a log is boundary, boundary+1, …, last, without a hole. The boundary
//     is an index whose term is known and below which nothing exists. It is
//     given at birth and moves with every truncation of the log's beginning.
//   - L2: Birth is one synced batch {boundary, first term} for all its groups.
//     It lowers no term and no vote, and refuses a group that has another
//     boundary or was removed.
//   - L3: a file outside the database, the high-water mark, states what each
//     group's log reached. A database that opens with less is corrupt: Pebble
//     takes some damage at the end of its log for the end.
//   - S3: a vote is one record, written in one synced batch (upstream #661).
//   - LS1: StoreLogs and DeleteRange return nil or do not return. A failed append
//     after a truncation would leave raft with a wrong last index (#666), and a
//     leader that merely steps down is elected again on the same bad disk.
//   - LS2: nothing that was added is visible to readers before it is durable.
//     What is truncated is invisible from before that.
//
// # Why FirstIndex and LastIndex are the boundary after birth
//
// Raft reads LastIndex and that entry's term when it starts and compares them in
// elections, so a newborn must answer (boundary, its term), exactly as its peers
// expect of a log that ends there. FirstIndex is where raft begins to truncate
// and an entry that it may read, so it is the boundary too: always present, and
// never past LastIndex, which boundary+1 would be.
//
// A boundary of birth answers as an empty no-op. It is only ever compared as the
// previous entry: to send it, a leader must first read the entry before it,
// which does not exist. That argument fails once a boundary moves under a
// running leader, which may have read S-1 before S became the boundary. So a
// truncation up to S keeps the entry S itself, and what is sent is the truth.
//
// # Goroutines, queues and locks
//
// The writer is the only goroutine that changes the database or a group's
// published state. It takes what waits in a queue of 1024 requests (full: the
// caller waits; a group has at most two), at most one request per group and
// about 4 MiB, and commits it as one batch with one fsync. The keeper refreshes
// the high-water mark, at most once per second. Both end with Close.
//
// DB.mu guards the set of groups and who is inside; Group.mu guards what readers
// of a group see; the cache and the marks have one each. None is held while
// another is taken, nor over I/O or a channel.
//
// # Death
//
// After an I/O error, damage or a broken invariant the database is dead:
// Options.Fatal was called and nothing is acknowledged any more. A call from
// raft that cannot be answered, because the database is dead or closed, does not
// return: an error would make raft panic (CurrentTerm, GetLog) or believe that
// nothing was written. It waits for Close and then ends its goroutine by
// runtime.Goexit. So after a death: Close first, then wait for raft's shutdown.
//
// Pebble panics when it cannot rotate its log, and repeats a failed flush at once
// and for ever. A process that ends at Fatal sees neither; for tests that inject
// errors the file system is wrapped, see guardedFS.
package logstore
