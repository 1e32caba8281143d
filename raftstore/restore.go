package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/snapshot"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// pinGrace is how long a log is kept for a follower after its snapshot was
// installed: it has yet to be sent what was written meanwhile, and would otherwise
// need another snapshot, and another.
const pinGrace = 30 * time.Second

// snapshots is what raft reads the group's snapshots from and installs them to.
func (s *Store) snapshots(g *Group, from shardmap.Slot) *snapshot.Store {
	return snapshot.NewStore(snapshot.StoreOptions{
		Group:   uint64(g.shard),
		Durable: func() (state.AppliedState, bool, error) { return s.durableApplied(from) },
		Open:    func() (*snapshot.View, error) { return s.source.Open(uint64(g.shard), g.Record().Arc.From) },
		Pin: func(index uint64) (release func()) {
			unpin := g.log.Pin(index)
			return func() { s.flusher.later(pinGrace, unpin) }
		},
		OpenFailed: func(err error) {
			s.opts.Logger.Error("a follower gets no snapshot", "shard", g.shard, "err", err)
			if pebble.IsCorruptionError(err) {
				s.restarts.Go(func() { s.quarantineRunning(g, err) })
			}
		},
		Logger: s.opts.Logger,
	})
}

// admitSnapshot judges an offer from a peer (rule L4, G1).
func (s *Store) admitSnapshot(o transport.SnapshotOffer) (transport.SnapshotReceiver, error) {
	g, ok := s.Group(shardmap.ShardID(o.Group))
	if !ok {
		return nil, kverr.New(kverr.Conflict, "shard %d: no replica of it runs here", o.Group)
	}
	if err := g.admits(o.To, o.Index); err != nil {
		return nil, err
	}
	for _, other := range s.Groups() {
		if other != g && other.Record().Arc.Overlaps(o.Arc) {
			return nil, kverr.New(kverr.Conflict, "shard %d: the snapshot covers %s, and shard %d has %s here",
				o.Group, o.Arc, other.shard, other.Record().Arc)
		}
	}
	in, err := s.staging.Begin(snapshot.Offer{
		Group: o.Group, Replica: o.To, Index: o.Index, Term: o.IndexTerm, Arc: o.Arc,
		Bytes: o.Bytes, TableFormat: o.TableFormat,
	})
	if err != nil {
		return nil, err
	}
	return snapshotReceiver{in, func() error { return g.admits(o.To, o.Index) }}, nil
}

// snapshotReceiver is a staging that asks once more before raft hears of it.
type snapshotReceiver struct {
	*snapshot.Incoming
	check func() error
}

func (r snapshotReceiver) Check() error { return r.check() }

// Restore implements raft.FSM: it replaces the replica's state by a snapshot that
// lies complete in the staging directory. What raft hands over is only its
// descriptor. Raft calls it on the apply loop while its main loop waits, so
// nothing is applied and nothing is appended meanwhile.
//
// An error says that the replica is as it was; raft then tells the leader, which
// tries again. What cannot be undone does not return.
func (f *fsm) Restore(r io.ReadCloser) error {
	g := (*Group)(f)
	d, err := snapshot.ReadDescriptor(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("shard %d: %w", g.shard, err)
	}
	err = g.ingest(d)
	g.store.haltIfDead()
	return err
}

// ingestFlush is how long an ingest waits for its flush.
const ingestFlush = 15 * time.Second

// ingest is rule L2's order: marker in the log database → flush → ingest and
// excise, atomic → the log is cut up to the snapshot and the marker cleared, in
// one batch. A crash between two of them is settled at the next boot by comparing
// the marker with the applied index.
func (g *Group) ingest(d snapshot.Descriptor) error {
	s := g.store
	if err := g.admits(d.Replica, d.Index); err != nil { // L4, again: time has passed since the offer
		return err
	}
	paths, err := s.staging.Take(d)
	if err != nil {
		return fmt.Errorf("shard %d: %w", g.shard, err)
	}
	// Taken and not given back, it would keep every later snapshot of the shard out.
	defer g.unstage(d)
	group := uint64(g.shard)
	if err := s.log.MarkIngest(group, d.Index, d.Term); err != nil {
		return fmt.Errorf("shard %d: mark the ingest: %w", g.shard, err)
	}
	s.opts.Failpoints.Hit(failpoint.IngestMarked)
	// What the ingest replaces must not be in a memtable: it would be flushed above
	// the new tables, or make every shard's applies wait for its flush.
	// Raft waits meanwhile, for its votes too, so a flush that a full disk holds up is
	// given up: the leader sends another snapshot.
	ctx, cancel := context.WithTimeout(context.Background(), ingestFlush)
	err = s.flushWithin(ctx)
	cancel()
	if err != nil {
		return errors.Join(fmt.Errorf("shard %d: before an ingest: %w", g.shard, err), s.log.DropIngest(group))
	}
	s.opts.Failpoints.Hit(failpoint.IngestFlushed)
	g.excisions.Add(1)
	old := g.Record().Arc
	from, to := state.Span(shardmap.Arc{From: min(old.From, d.Arc.From), To: max(old.To, d.Arc.To)})
	err = s.cut(from, to, func(span pebble.KeyRange) error {
		_, err := s.state.IngestAndExcise(context.Background(), paths, nil, nil, span)
		return err
	})
	g.excisions.Add(1)
	if err != nil {
		return errors.Join(fmt.Errorf("shard %d: ingest: %w", g.shard, err), s.log.DropIngest(group))
	}
	s.opts.Failpoints.Hit(failpoint.IngestDone)
	// From here on the replica is the snapshot's, whatever its log says.
	if err := s.log.FinishIngest(group); err != nil {
		s.fatal(fmt.Errorf("raftstore: shard %d: finish the ingest at %d: %w", g.shard, d.Index, err))
		return err
	}
	s.opts.Failpoints.Hit(failpoint.IngestLogged)
	if err := g.reload(d); err != nil {
		s.fatal(fmt.Errorf("raftstore: shard %d: after an ingest: %w", g.shard, err))
		return err
	}
	g.unstage(d)
	s.opts.Failpoints.Hit(failpoint.IngestCleaned)
	s.opts.Logger.Info("installed a snapshot", "shard", g.shard, "index", d.Index, "bytes", d.Bytes)
	return nil
}

// unstage removes what was staged. What it cannot remove the next start does.
func (g *Group) unstage(d snapshot.Descriptor) {
	if err := g.store.staging.Done(d); err != nil {
		g.store.opts.Logger.Warn("removing a staged snapshot", "shard", g.shard, "err", err)
	}
}

// reload makes the ingested state the one that applies go on from.
func (g *Group) reload(d snapshot.Descriptor) error {
	machine, found, err := state.Load(kvReader{g.store.state}, d.Arc.From)
	if err != nil || !found {
		return fmt.Errorf("load state (found %t): %w", found, err)
	}
	if index, term := machine.Applied(); index != d.Index || term != d.Term {
		return kverr.New(kverr.Internal, "the snapshot of index %d, term %d holds state of index %d, term %d",
			d.Index, d.Term, index, term)
	}
	g.machine = machine
	g.deadlines.forget()
	g.changes.reset(machine.LastVersion())
	g.publish()
	// L6: entries of ours may be among what the snapshot jumped over.
	g.waiters.abandon()
	g.run(g.reached())
	if g.store.opts.Events.Applied != nil && g.shard == shardmap.SystemShard {
		g.store.opts.Events.Applied(g.shard)
	}
	return nil
}

// admits is rule L4: a snapshot that does not bring the replica forward never
// reaches raft, which would go back to it.
func (g *Group) admits(replica shardmap.ReplicaID, index uint64) error {
	if replica != g.replica || g.isClosing() {
		return kverr.New(kverr.Conflict, "shard %d: a snapshot for replica %d, and %d is here", g.shard, replica, g.replica)
	}
	if applied := g.view.Load().applied; index <= applied {
		return kverr.New(kverr.Conflict, "shard %d: a snapshot at %d, and %d is applied", g.shard, index, applied)
	}
	return nil
}
