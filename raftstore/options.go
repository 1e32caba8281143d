package raftstore

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// Events tell the owner of a Store what happened. They are called from the
// store's goroutines, must not block and must not call back into the store.
type Events struct {
	// Leader is called when this node learns of a shard's leader.
	Leader func(shardmap.LeaderHint)
	// Applied is called after a batch of the system shard was applied.
	Applied func(shardmap.ShardID)
}

// Options configure a Store. Zero means the default where one is named.
type Options struct {
	Dir     string          // holds the log and state databases
	FS      vfs.FS          // default: the machine's
	Self    shardmap.NodeID // this node
	Name    string          // this node's for people, in messages; default: the beginning of Self
	Clock   clock.Clock
	Nonce   uint64 // random, new for every process start (rule L6)
	Logger  *slog.Logger
	Network *transport.Network
	Events  Events

	// Fatal is called when the node must not go on (rule P10: a failed log
	// write, a corrupt entry). In production it ends the process; in tests it
	// marks the node dead, and the store answers nobody from then on.
	Fatal func(error)

	// ElectionTimeout is how long a follower waits for a silent leader before
	// it campaigns: between one and two of it. It is the heartbeat timeout and
	// the leader's lease as well (rule S1). Default 500 ms. Raising it makes
	// failover slower, lowering it makes a busy disk look like a dead leader.
	ElectionTimeout time.Duration
	// SyncPacing lets a log sync wait for company from other groups. Default 0.
	SyncPacing time.Duration
	// EntriesInFlight is how many small entries a shard has in flight. Default
	// 1: what waits meanwhile is merged into the next, larger entry.
	EntriesInFlight int
	// MaxEntryBytes is where merging stops. Default 256 KiB.
	MaxEntryBytes int
	// MaxQueuedBytes and MaxQueuedOps bound the writes of one shard that wait
	// or are in flight; beyond them writes are refused as Overloaded. Defaults
	// 32 MiB and 16384.
	MaxQueuedBytes int
	MaxQueuedOps   int
	// MaxQueuedReads bounds the keys of one shard's reads that wait. Default 16384.
	MaxQueuedReads int
	// MaxNodeQueuedBytes and MaxNodeQueuedOps bound the same for all shards together,
	// MaxNodeQueuedReads the reads. A shard holds at most as much as it leaves free, so
	// shards that stand still do not keep everything from the others. Defaults 256 MiB,
	// 131072 and 131072; bytes are at least MaxWriteBytes.
	MaxNodeQueuedBytes int64
	MaxNodeQueuedOps   int
	MaxNodeQueuedReads int
	// CacheBytes is the block cache that both databases share. Default 256 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one state memtable. Default 64 MiB.
	MemTableBytes uint64
	// ReadWorkers execute confirmed reads. Default 4.
	ReadWorkers int
	// WatchBytesPerShard is what a replica remembers of its newest changes, for those
	// who watch, beside the newest log entry; MaxWatchBytes bounds all of a node, which
	// share it equally. Less makes watchers that were away begin anew. Defaults 4 MiB
	// and 256 MiB.
	WatchBytesPerShard int64
	MaxWatchBytes      int64
	// MaxViews bounds the views open on the node, which scans hold; beyond them they
	// are refused as Overloaded. Each may pin the memtables of its moment. Default 64.
	MaxViews int
	// FlushBytes and FlushInterval bound what a restart replays: the state is
	// flushed after so much new log, all shards together, or after so long.
	// Defaults 64 MiB and 30 s.
	FlushBytes    int64
	FlushInterval time.Duration
	// LogBytesPerShard is how much log a shard keeps behind what is durable in the
	// state, for followers that were away: more saves snapshots, less saves disk.
	// Default 16 MiB, and less where MaxLogBytes asks for it.
	LogBytesPerShard int64
	// MaxLogBytes is what the logs of all shards may take on this node. Past it the
	// state is flushed and logs are cut earlier; at one and a half times it, leaders
	// here refuse writes as Overloaded until the disk has caught up. Default 256 MiB.
	MaxLogBytes int64
	// SnapshotBytesPerSecond limits what is sent to followers that need a snapshot,
	// each. Default 64 MiB/s; negative is no limit.
	SnapshotBytesPerSecond int64
	// unwatched leaves the watchdogs out, to see in tests what they are good for.
	unwatched bool
	// DiskSilence and DiskExit are rule D1: for how long a log sync, or the oldest
	// committed entry of a shard that is not applied, may be under way before the
	// replicas concerned fall silent, so that others lead, and before Fatal is
	// called with a *HungDiskError. Defaults 2 s and 15 s. Shorter ones make slow
	// disks look like broken ones.
	DiskSilence time.Duration
	DiskExit    time.Duration
	// LowSpaceBytes is the free space on the disk of Dir below which leaders here
	// refuse puts; below half of it they take few deletes, and followers decline
	// entries. 0: 5 % of the disk, at least 16 MiB and at most 4 GiB; negative: never.
	LowSpaceBytes int64
	// BallastBytes is the size of a file in Dir that is thrown off at the first write
	// that meets a full disk. 0: 1 % of the disk, at most 256 MiB; negative: none.
	BallastBytes int64
	// FullDiskPatience is how long a write that met a full disk waits for space when
	// there is no ballast; 0 is not at all. Less than DiskExit, or a full disk is told
	// as one that hangs. It is waited for below Pebble, with its locks held, so not in
	// bubbles (M1).
	FullDiskPatience time.Duration
	// BeforeSync and BeforeApply inject delays and hangs in tests (M1): before each
	// synced commit of the log, and before each state batch of a shard. They may
	// block and must not call back into the store. Nil in production.
	BeforeSync  func()
	BeforeApply func(shardmap.ShardID)
	// Failpoints let a test crash the node between steps. Nil in production.
	Failpoints *failpoint.Set
}

func (o Options) withDefaults() Options {
	setDefault(&o.ElectionTimeout, 500*time.Millisecond)
	setDefault(&o.EntriesInFlight, 1)
	setDefault(&o.MaxEntryBytes, 256<<10)
	setDefault(&o.MaxQueuedBytes, 32<<20)
	setDefault(&o.MaxQueuedOps, 16384)
	setDefault(&o.MaxQueuedReads, 16384)
	setDefault(&o.MaxNodeQueuedBytes, 256<<20)
	setDefault(&o.MaxNodeQueuedOps, 131072)
	setDefault(&o.MaxNodeQueuedReads, 131072)
	setDefault(&o.CacheBytes, 256<<20)
	setDefault(&o.MemTableBytes, 64<<20)
	setDefault(&o.ReadWorkers, 4)
	setDefault(&o.MaxViews, 64)
	setDefault(&o.WatchBytesPerShard, 4<<20)
	setDefault(&o.MaxWatchBytes, 256<<20)
	setDefault(&o.FlushBytes, 64<<20)
	setDefault(&o.FlushInterval, 30*time.Second)
	setDefault(&o.LogBytesPerShard, 16<<20)
	setDefault(&o.MaxLogBytes, 256<<20)
	setDefault(&o.SnapshotBytesPerSecond, 64<<20)
	setDefault(&o.DiskSilence, 2*time.Second)
	setDefault(&o.DiskExit, 15*time.Second)
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	switch {
	case o.Dir == "":
		return kverr.New(kverr.Invalid, "raftstore: no directory given")
	case o.Self == "":
		return kverr.New(kverr.Invalid, "raftstore: no node id given")
	case o.Clock == nil || o.Network == nil || o.Fatal == nil:
		return kverr.New(kverr.Invalid, "raftstore: clock, network and fatal handler are required")
	case o.DiskSilence < 0 || o.DiskExit <= o.DiskSilence:
		return kverr.New(kverr.Invalid, "raftstore: the disk is given %s before silence and %s before the end; the second must be longer",
			o.DiskSilence, o.DiskExit)
	case o.MaxNodeQueuedBytes < MaxWriteBytes:
		return kverr.New(kverr.Invalid, "raftstore: all shards may queue %d bytes; one write may have %d", o.MaxNodeQueuedBytes, MaxWriteBytes)
	case o.Nonce == 0:
		return kverr.New(kverr.Invalid, "raftstore: the process nonce must be random, not 0")
	}
	return nil
}
