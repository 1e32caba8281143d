package raftstore

import (
	"time"

	"github.com/ringfort/ringfort/internal/histogram"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// Write is the writes of one frame for one shard: handed over once, waited for
// once, answered once.
type Write struct {
	// Ops are borrowed until Done; at most MaxWriteBytes encoded in all.
	Ops []state.Op
	// Deadline is when the caller stops waiting. A write still queued then is
	// answered Deadline, one already proposed OutcomeUnknown.
	Deadline time.Time
	// Done is called exactly once: with one result per operation and the shard's
	// last applied version, or with an error that holds for all of them (a
	// *kverr.Error: NotLeader, Unavailable, Overloaded, Deadline, Closed mean
	// "not applied", OutcomeUnknown means what it says). It may be called before
	// Propose returns and from the group's apply loop, so it must not block.
	Done func(results []state.Result, shardVersion uint64, err error)
}

// Read is the linearizable point reads of one frame for one shard.
type Read struct {
	// Keys are borrowed until Done.
	Keys     [][]byte
	Deadline time.Time
	// Done is called exactly once, with one value per key from a single view, or
	// with an error as in Write (never OutcomeUnknown). It must not block. Data
	// is the caller's to keep.
	Done func(values []Value, shardVersion uint64, err error)
}

// Value is the answer to one point read.
type Value struct {
	Found      bool
	WrongShard bool // the key's slot is outside the shard's arc in this view
	Version    uint64
	Data       []byte
}

// Status is a group as its local replica sees it.
type Status struct {
	Shard     shardmap.ShardID
	Replica   shardmap.ReplicaID
	State     string // "leader", "follower", "candidate", "shutdown"
	Term      uint64
	LastIndex uint64
	Commit    uint64
	Applied   uint64
	Version   uint64          // the shard's last version, as applied here
	Leader    shardmap.NodeID // empty when unknown
	Ready     bool            // leads, and its own term's first entry is applied
	// Restarts is how often the replica was restarted in place since the process
	// started, LastRestart why it was the last time.
	Restarts    uint64
	LastRestart string
	// FirstIndex is the oldest index whose term the log still knows.
	FirstIndex uint64
	// LogBytes is the size of the log, negative while it is not known.
	LogBytes int64
	// QueuedWrites and QueuedBytes wait for the proposer or are in flight.
	QueuedWrites, QueuedBytes int
	// QueuedReads is the keys of reads that wait.
	QueuedReads int
	// Requests is the size of the request table as of Applied.
	Requests state.RequestStats
	// NoQuorumFor is how long the group has had no leader with a quorum, as far
	// as this replica can tell; 0 while it has one.
	NoQuorumFor time.Duration
	// Problem is what is wrong with the replica, in words; empty when nothing is.
	Problem string
}

// Counters are running totals of one store.
type Counters struct {
	EntriesProposed uint64 // by leaders here
	WritesProposed  uint64 // operations inside them
	LogSyncs        uint64
	LogEntries      uint64 // entries those syncs made durable, all roles
	LogBytes        uint64
	ReadRounds      uint64 // confirm rounds
	ReadsConfirmed  uint64 // reads they released
	ElectionsWon    uint64
	TermChanges     uint64 // seen by replicas here, of any role
	GroupRestarts   uint64 // replicas restarted in place, whatever for
	// What the watchdogs acted on (see watchdog).
	StuckTransfers  uint64
	CommitStalls    uint64
	WedgedFollowers uint64
	LaggingReplicas uint64
	// SyncTimes are those of the log's syncs, probes of an idle disk included.
	SyncTimes histogram.Snapshot
	// OldestPendingSync is how long the oldest write has waited for the log's disk.
	OldestPendingSync time.Duration
	Overloaded        uint64 // writes and reads refused for a full queue
}
