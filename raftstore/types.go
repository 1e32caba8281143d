package raftstore

import (
	"time"

	"github.com/ringfort/ringfort/internal/histogram"
	"github.com/ringfort/ringfort/internal/kverr"
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

// ReadLevel says what a read must show. All of them show whole entries and never
// go back on one replica.
type ReadLevel uint8

// The levels.
const (
	// Linearizable: every write acknowledged before the read was handed over.
	Linearizable ReadLevel = iota
	// Session: the version MinVersion.
	Session
	// BoundedStale: every write acknowledged MaxAge before the read was handed over.
	BoundedStale
	// Any: whatever is applied here.
	Any
)

// ReadSpec is a level with what belongs to it.
type ReadSpec struct {
	Level ReadLevel
	// MinVersion is the shard version that a Session read waits for. One that the
	// shard has not given out is not waited for for ever: the answer's shard version
	// is then below it.
	MinVersion uint64
	// MaxAge bounds a BoundedStale read, on a clock that goes on while the machine is
	// suspended (R4). It reads as if linearizable when that is shorter than the way to
	// the leader.
	MaxAge time.Duration
	// AnyReplica lets a replica that does not lead serve a Linearizable read. Those
	// of other levels always may.
	AnyReplica bool
}

func (r *ReadSpec) validate() error {
	switch {
	case r.Level > Any:
		return kverr.New(kverr.Invalid, "read level %d is not known to this node", r.Level)
	case r.MaxAge < 0:
		return kverr.New(kverr.Invalid, "a read may not be %s old", r.MaxAge)
	}
	return nil
}

// ServedBy says how it was known that an answer is as new as its level asks.
type ServedBy uint8

// The ways.
const (
	ByLeader   ServedBy = 1 // by a confirm round of this replica, which leads
	ByFollower ServedBy = 2 // by the leader, which was asked for its index
	ByReplica  ServedBy = 3 // by what was applied here already
	numServed           = 4
)

// Read is the point reads of one frame for one shard, at one level.
type Read struct {
	ReadSpec
	// Keys are borrowed until Done.
	Keys     [][]byte
	Deadline time.Time
	// Done is called exactly once, with one value per key from a single view, or
	// with an error as in Write (never OutcomeUnknown). It must not block. Data
	// is the caller's to keep.
	Done func(values []Value, shardVersion uint64, err error)
	// Served is set before Done is called without an error.
	Served ServedBy
}

// Value is the answer to one point read.
type Value struct {
	Found      bool
	WrongShard bool // the key's slot is outside the shard's arc in this view
	Version    uint64
	Expires    uint64 // shard time in µs from which the key is due; 0 for never
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
	// WatchBytes is what is remembered for those who watch, of the changes after
	// WatchFloor.
	WatchBytes int64
	WatchFloor uint64
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
	// ReadsBy* are the keys read, by how it was known that they are new enough.
	ReadsByLeader, ReadsByFollower, ReadsByReplica uint64
	Views                                          int // open now
	// IndexFlights are the messages by which leaders on other nodes were asked for
	// indexes, IndexFailures those without an answer.
	IndexFlights, IndexFailures uint64
	ElectionsWon                uint64
	TermChanges                 uint64 // seen by replicas here, of any role
	GroupRestarts               uint64 // replicas restarted in place, whatever for
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
