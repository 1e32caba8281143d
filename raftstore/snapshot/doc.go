// Package snapshot turns the state of one shard into files, and files back into
// something that can be ingested: the sender's view of a shard and its stream of
// tables, the receiver's staging directory, and Raft's store of snapshots, which
// sees neither.
//
// It does not carry bytes between nodes (package transport does, through the
// methods it declares), does not decide who may send what to whom, and does not
// ingest: its owner takes staged files and ingests them in the order of rule L2.
//
// # A snapshot on its way
//
// Raft's leader lists the one snapshot that the durable state amounts to and opens
// it: Store.Open answers a View, whose position and configuration are the applied
// record inside that very view. The transport calls View.Stream, which builds
// tables as it goes and hands them over in small pieces. On the other node the
// pieces arrive at an Incoming, which writes them into a directory of its own.
// When all of it is synced and checked the receiver's raft is given a Descriptor
// instead of the data; it comes back in the state machine's Restore, where
// ReadDescriptor and Staging.Take make file names of it.
//
// # What the owner does
//
// It gives Source the options that the state database was opened with; closes
// views before the database; calls Staging.Recover once at each start, before
// anything arrives, and tells it which stagings an ingest marker refers to; calls
// Staging.Done after every Take, whether the staging was ingested or not: until
// then no other snapshot of that shard is admitted. Its Restore must check
// rule L4 once more, since entries may be applied after the last check here.
//
// # Invariants
//
//   - SN1: List is read from what is durable in the state database, never from a
//     separate file, so it cannot claim more than a crash would leave.
//   - SN2: a view's position, configuration and arc are those inside it.
//   - SN3: a staging counts only with its manifest, which is written and synced
//     after all files are; Take reads every byte again and answers nothing when one
//     is missing or wrong.
//   - SN4: one staging per replica is being received at a time, and few per node.
//   - SN5: what is announced and has not come yet fits the disk, as its guard sees it.
//     A failed write refuses the transfer and leaves nothing behind.
//
// # Goroutines and locks
//
// The package starts none, but for the one that each table writer of Pebble has
// while it writes, and that has ended when Stream returns. Source, Staging and
// Store may be used from any goroutine; a View and an Incoming belong to one at a
// time. Staging and Store have one lock each, which is not held during I/O.
package snapshot
