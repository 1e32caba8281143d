package raftstore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// Group is the local replica of one shard. Safe for concurrent use.
type Group struct {
	shard   shardmap.ShardID
	replica shardmap.ReplicaID
	self    raft.ServerID
	store   *Store
	raft    *raft.Raft
	trans   *transport.Group
	log     *logstore.Group

	machine *state.Machine       // the apply loop's alone
	view    atomic.Pointer[view] // what the apply loop has published
	elapsed atomic.Pointer[elapsed]

	deadlines deadlines   // of the shard's keys
	sweeping  atomic.Bool // a sweep of due keys is under way
	sweepMore atomic.Bool // more was due than one sweep takes
	changes   *ring       // what it did lately, for those who watch

	queue   *writeQueue
	waiters *waiters
	reads   *readBacklog
	known   atomic.Pointer[knownIndex] // how far the shard is known to be
	landed  chan struct{}              // capacity 1: a proposal left the table

	observations chan raft.Observation
	elected      chan struct{} // capacity 1: a tenure began
	tenure       atomic.Pointer[tenure]
	leader       atomic.Pointer[shardmap.LeaderHint] // last reported
	leaderless   atomic.Int64                        // clock.Mono at which the leader was lost, +1; 0 while there is one
	transferring atomic.Bool
	inRound      atomic.Bool // a confirm round with this group is open
	applying     atomic.Bool // entries are being applied
	// excisions counts what takes keys out of open snapshots of the state database,
	// and is odd while that is under way. A read is good if it was even before its
	// snapshot and the same after its last key.
	excisions atomic.Uint64

	lag applyLag
	// starved tells a leader that so many followers have no disk space that nothing
	// can be committed.
	starved atomic.Bool
	silent  atomic.Bool // D1: the disk hangs, nothing is led or campaigned for

	closing chan struct{}
	workers sync.WaitGroup
}

// view is what readers may know of the applied state without asking Pebble.
type view struct {
	applied uint64
	version uint64
	time    uint64
	record  shardmap.Record

	requests state.RequestStats
}

// open starts the group on what is on disk. Its record, boundary and stable
// store must have passed the boot checks.
func (s *Store) open(rec shardmap.Record) (*Group, error) {
	member, ok := rec.On(s.opts.Self)
	if !ok {
		return nil, kverr.New(kverr.Internal, "shard %d: its record places no replica on this node", rec.Shard)
	}
	machine, found, err := state.Load(kvReader{s.state}, rec.Arc.From)
	if err != nil || !found {
		return nil, fmt.Errorf("shard %d: load state (found %t): %w", rec.Shard, found, err)
	}
	g := &Group{
		shard:        rec.Shard,
		replica:      member.ID,
		self:         transport.ServerID(s.opts.Self, member.ID),
		store:        s,
		log:          s.log.Group(uint64(rec.Shard)),
		machine:      machine,
		queue:        newWriteQueue(s.opts.MaxQueuedOps, s.opts.MaxQueuedBytes),
		reads:        newReadBacklog(s.opts.MaxQueuedReads),
		landed:       make(chan struct{}, 1),
		observations: make(chan raft.Observation, 8),
		elected:      make(chan struct{}, 1),
		closing:      make(chan struct{}),
	}
	g.changes = newRing(&s.watchShare, machine.LastVersion())
	g.queue.node, g.reads.node = &s.writes, &s.reads
	g.waiters = newWaiters(g.proposalLeft)
	g.lag.quiet = newGateLatch(s.opts.DiskSilence)
	g.leaderless.Store(int64(s.opts.Clock.Mono()) + 1)
	g.publish()
	if g.trans, err = s.opts.Network.Group(uint64(rec.Shard), member.ID); err != nil {
		return nil, fmt.Errorf("shard %d: register with the transport: %w", rec.Shard, err)
	}
	g.raft, err = raft.NewRaft(s.raftConfig(g), (*fsm)(g), g.log, g.log, s.snapshots(g, rec.Arc.From), g.trans)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("shard %d: start raft: %w", rec.Shard, err), g.trans.Close())
	}
	g.trans.SetCommitIndex(g.raft.CommitIndex)
	g.raft.RegisterObserver(raft.NewObserver(g.observations, false, wantedObservation))
	g.workers.Go(g.watch)
	g.workers.Go(g.lead)
	return g, nil
}

func (s *Store) raftConfig(g *Group) *raft.Config {
	c := raft.DefaultConfig()
	c.ProtocolVersion = raft.ProtocolVersionMax
	c.LocalID = g.self
	c.HeartbeatTimeout = s.opts.ElectionTimeout
	c.ElectionTimeout = s.opts.ElectionTimeout
	c.LeaderLeaseTimeout = s.opts.ElectionTimeout // S1: see doc.go
	c.CommitTimeout = min(100*time.Millisecond, s.opts.ElectionTimeout/4)
	c.MaxAppendEntries = 64
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true
	c.SnapshotThreshold = 1<<63 - 1 // raft itself never takes one
	c.SnapshotInterval = 365 * 24 * time.Hour
	c.TrailingLogs = 64 // L5
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(s.opts.Logger, g.shard, g.closing)
	return c
}

// stop ends the group: no new work, transport first so that nothing is in the
// air, then raft, then everybody who still waits is told.
func (g *Group) stop() error {
	return g.stopSaying(kverr.New(kverr.Closed, "shard %d: the node is stopping", g.shard))
}

// stopSaying is stop with another answer to those who wait.
func (g *Group) stopSaying(why error) error {
	close(g.closing)
	g.changes.end(why)
	g.endTenure(nil)
	g.queue.close(why)
	err := g.trans.Close()
	if e := g.raft.Shutdown().Error(); e != nil {
		err = errors.Join(err, e)
	}
	g.workers.Wait()
	g.endTenure(nil) // the watch goroutine may have begun one in the meantime
	g.queue.close(why)
	g.waiters.abandon()
	g.reads.close(why)
	g.store.views.endOf(g, why)
	return err
}

func (g *Group) isClosing() bool {
	select {
	case <-g.closing:
		return true
	default:
		return false
	}
}

// Shard is the shard this group replicates.
func (g *Group) Shard() shardmap.ShardID { return g.shard }

// Replica is the id of the local replica.
func (g *Group) Replica() shardmap.ReplicaID { return g.replica }

// Record is the shard's record as last applied here.
func (g *Group) Record() shardmap.Record { return g.view.Load().record }

// Leader is the leader as this replica sees it, or false while it knows none.
func (g *Group) Leader() (shardmap.LeaderHint, bool) {
	h := g.leader.Load()
	if h == nil || h.Node == "" || h.Node == g.store.opts.Self && g.silent.Load() {
		return shardmap.LeaderHint{}, false
	}
	return *h, true
}

// Leads reports whether this replica leads, whether or not it serves yet.
func (g *Group) Leads() bool { return g.raft.State() == raft.Leader }

// Status describes the local replica now.
func (g *Group) Status() Status {
	v := g.view.Load()
	st := Status{
		Shard: g.shard, Replica: g.replica, State: stateName(g.raft.State()),
		Term: g.raft.CurrentTerm(), LastIndex: g.raft.LastIndex(), Commit: g.raft.CommitIndex(),
		Applied: v.applied, Version: v.version, NoQuorumFor: g.noQuorumFor(),
		LogBytes: g.log.Bytes(), Requests: v.requests,
	}
	st.FirstIndex, _ = g.log.FirstIndex() // from memory: it does not fail
	st.QueuedWrites, st.QueuedBytes = g.queue.size()
	st.QueuedReads = g.reads.size()
	st.WatchBytes, st.WatchFloor, _ = g.changes.size()
	if h, ok := g.Leader(); ok {
		st.Leader = h.Node
	}
	t := g.tenure.Load()
	st.Ready = t != nil && t.ready.Load()
	st.Restarts, st.LastRestart = g.store.history.of(g.shard)
	st.Problem = g.problem()
	return st
}

// problem says in words what keeps a replica that runs from doing its part.
func (g *Group) problem() string {
	switch {
	case g.silent.Load() && g.store.disk.logHangs.Load():
		return "silent: the node's disk hangs in a sync of the log"
	case g.silent.Load():
		return "silent: the disk hangs in applying committed entries"
	case g.starved.Load() && g.shard != shardmap.SystemShard:
		return "refuses writes: a majority of the shard's replicas has no disk space"
	}
	return ""
}

func stateName(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Follower:
		return "follower"
	}
	return "shutdown"
}

// noQuorumFor is how long this replica has known no leader.
func (g *Group) noQuorumFor() time.Duration {
	since := g.leaderless.Load()
	if since == 0 {
		return 0
	}
	return max(g.store.opts.Clock.Mono()-time.Duration(since-1), time.Microsecond)
}

// unavailable is the answer while this replica cannot serve: NotLeader when
// somebody else is known to lead, otherwise how long nobody has.
func (g *Group) unavailable() error {
	if h, ok := g.Leader(); ok && h.Node != g.store.opts.Self {
		return &kverr.Error{Kind: kverr.NotLeader, Shard: uint64(g.shard), Node: string(h.Node),
			Message: fmt.Sprintf("shard %d: node %s leads", g.shard, h.Node.Short())}
	}
	if g.silent.Load() {
		return &kverr.Error{Kind: kverr.NotLeader, Shard: uint64(g.shard),
			Message: fmt.Sprintf("shard %d: the disk of node %s hangs, another node has to lead", g.shard, g.store.opts.Self.Short())}
	}
	gone := g.noQuorumFor()
	if gone == 0 && g.transferring.Load() {
		return &kverr.Error{Kind: kverr.Unavailable, Shard: uint64(g.shard),
			Message: fmt.Sprintf("shard %d: its leadership is being handed over", g.shard)}
	}
	if gone == 0 { // leading, and not ready yet
		return &kverr.Error{Kind: kverr.Unavailable, Shard: uint64(g.shard),
			Message: fmt.Sprintf("shard %d: its new leader is not ready yet", g.shard)}
	}
	wall := time.UnixMicro(int64(g.store.opts.Clock.WallMicros())).Add(-gone).UTC()
	return &kverr.Error{Kind: kverr.Unavailable, Shard: uint64(g.shard),
		Message: fmt.Sprintf("shard %d: no quorum since %s (%s ago)",
			g.shard, wall.Format("15:04:05.000Z07:00"), gone.Round(time.Millisecond))}
}

// ScanLocal walks the data of the local replica's applied state in key order,
// from one view. It is for the system shard, whose replicas all may read it.
func (g *Group) ScanLocal(fn func(key, value []byte, version uint64) error) error {
	snap := g.store.state.NewSnapshot()
	defer snap.Close()
	from, to := state.SlotDataSpan(g.Record().Arc.From)
	return kvReader{snap}.Scan(from, to, func(k, v []byte) error {
		_, key, ok := state.ParseDataKey(k)
		if !ok {
			return kverr.New(kverr.Internal, "shard %d: malformed key in its data span", g.shard)
		}
		val, err := state.DecodeValue(v)
		if err != nil {
			return err
		}
		return fn(key, val.Data, val.Version)
	})
}

// Hash is the hash of the replica's state and the index it is at.
func (g *Group) Hash() (index, hash uint64, err error) {
	snap := g.store.state.NewSnapshot()
	defer snap.Close()
	r := kvReader{snap}
	arc := g.Record().Arc
	applied, ok, err := state.LoadApplied(r, arc.From)
	if err != nil || !ok {
		return 0, 0, fmt.Errorf("shard %d: load applied state (found %t): %w", g.shard, ok, err)
	}
	hash, err = state.Hash(r, arc)
	return applied.Index, hash, err
}

// durableApplied reads what a crash would leave.
func (s *Store) durableApplied(from shardmap.Slot) (state.AppliedState, bool, error) {
	return state.LoadApplied(durableReader{s.state}, from)
}

// kvReader reads a Pebble view as the state machine's small interface.
type kvReader struct{ pebble.Reader }
