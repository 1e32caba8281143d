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
//     the process (L1). Ids of replicas are never used twice.
//   - Raft is shut down before its replica is retired.
//   - Truncate not past what the state database holds durably, FinishIngest not
//     before it holds the snapshot durably.
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
//     given at birth and moves with every truncation of the log's beginning and
//     every ingest of a snapshot.
//   - L2: Birth is one synced batch {boundary, first term} for all its groups.
//     It lowers no term and no vote, and refuses a group that has another
//     boundary or another replica's log. An ingest up to S is a synced marker
//     (S, term), then one synced batch {delete entries up to S, boundary S, clear
//     marker}; what lies above S stays. A retirement is one synced batch
//     {tombstone, delete everything of the group}. Tombstones are of replicas,
//     not of groups, stay for ever, and are also written for replicas that were
//     never here (F3).
//   - L3: a file outside the database, the high-water mark, states what each
//     group's log reached, and how many replicas were retired or quarantined. A
//     database that opens with less is corrupt: Pebble takes some damage at the
//     end of its log for the end. The file never says more than the database
//     has: it is raised after a sync, and lowered before what takes something
//     back. The loss of an ingest's end alone is no corruption: the marker is
//     back, and boot ends the ingest again.
//   - LS3: what is excised from the tables is truncated durably. Boundaries are
//     looked up and synced by the writer before the flush, and looked at again by
//     it when it excises, since another replica's log begins lower.
//   - L5: the log's beginning is cut only up to what pins allow, as long as they
//     keep no more than MaxPinnedBytes, and not while an ingest is marked.
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
// A boundary whose entry is not stored, of a birth or an ingest, answers as an
// entry of type LogBoundary. It is only ever compared as the previous entry, by
// its index and term: to send it, a leader must first read the entry before it,
// which does not exist. That argument fails once a boundary moves under a
// running leader, which may have read S-1 before S became the boundary. So a
// truncation up to S keeps the entry S itself, and what is sent is the truth. An
// ingest cannot: the entry that was at S may be another one than the snapshot's.
// Who ships what it reads then is a deposed leader's replicator, and what it
// reads is a type that receivers refuse.
//
// Raft looks at the type in three more places, none of which sees a boundary:
// its scan for configurations at start and its applying begin after the applied
// index, which is at or above every boundary (a panic ends the process if not),
// and the scan for conflicts begins after a previous entry that it could read.
//
// # Goroutines, queues and locks
//
// The writer is the only goroutine that changes the database or a group's
// published state. It takes what waits in a queue of 1024 requests (full: the
// caller waits; a group has at most two), at most one request per group and
// about 4 MiB, and commits it as one batch with one fsync. Births, retirements
// and quarantines have a batch of their own. The keeper refreshes the high-water
// mark and Pebble's figures, at most once per second. The sweeper takes truncated
// entries out of the tables after each flush, and flushes an idle database for
// that. All three end with Close.
//
// DB.mu guards the set of groups and who is inside; Group.mu guards what readers
// of a group see; the cache, the marks and the set of known replicas have one
// each. None is held while another is taken, nor over I/O or a channel.
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
