package raftstore

import (
	"fmt"
	"time"

	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// gateEvery is how often the disk gate looks, and how exact its ages are.
	gateEvery = 100 * time.Millisecond
	// gateStride is the most that one look adds to an age. A process that was
	// stopped or starved as a whole does not hold that against its disk.
	gateStride = 5 * gateEvery
)

// HungDiskError is the reason of a Fatal by rule D1: a write or a command did not
// come to its end in time.
type HungDiskError struct {
	// Shard is the shard whose committed entries are not applied, 0 when the log
	// of all shards is not synced.
	Shard shardmap.ShardID
	For   time.Duration
	Dir   string // where the databases are
}

// Error says what hangs, where, and what to look at.
func (e *HungDiskError) Error() string {
	what := "a sync of the log"
	if e.Shard != 0 {
		what = fmt.Sprintf("applying committed entries of shard %d", e.Shard)
	}
	return fmt.Sprintf("raftstore: %s has hung for %s: the disk under %s is not trusted any more; check it, then start again",
		what, e.For.Round(gateEvery), e.Dir)
}

// diskGate is rule D1. Raft does not notice a disk that hangs: heartbeats have
// goroutines of their own, so a leader whose log or state machine is stuck would
// keep its followers for ever, and a transfer would wait in the same main loop.
//
// The gate looks at the oldest log sync that has not ended (all groups are
// concerned) and at each group's committed entries that are not applied. Past
// Options.DiskSilence the groups concerned fall silent: their transport sends
// nothing, their tenure ends, and they are no candidates. Past Options.DiskExit
// the node goes down. Silence ends by itself some time after the trouble.
//
// Ages count while the gate itself runs, see gateStride: after a pause of the
// whole process nothing looks older than before.
type diskGate struct {
	store *Store
	log   hangTimer
	quiet gateLatch // for the log
	awake time.Duration
	state feeling
}

func newDiskGate(s *Store) *diskGate {
	return &diskGate{store: s, quiet: newGateLatch(s.opts.DiskSilence)}
}

// run looks until the store is closed or dead.
func (d *diskGate) run() {
	tick := time.NewTicker(gateEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-d.store.stopGate:
			return
		case <-d.store.died:
			return
		case <-tick.C:
		}
		now := time.Now()
		d.look(now.Sub(last))
		last = now
	}
}

// look judges everything once; passed is the time since it last did.
func (d *diskGate) look(passed time.Duration) {
	step := stride(passed)
	d.awake += step
	s := d.store
	s.health.Look()
	d.state.feel(s)
	s.flusher.judge() // it may be waiting for a flush itself, for which logs grow meanwhile
	hung := d.log.pending(s.log.OldestPendingSync(), step)
	wasQuiet := d.quiet.on // in a statement of its own: set changes it
	logQuiet := d.quiet.set(hung, step)
	if logQuiet != wasQuiet {
		d.announce(logQuiet)
	}
	if hung >= s.opts.DiskExit {
		s.fatal(&HungDiskError{For: hung, Dir: s.opts.Dir})
		return
	}
	for _, g := range s.Groups() {
		lag := g.lag.look(g.progress(), d.awake, step)
		if stuck := g.lag.stuck(); stuck >= s.opts.DiskExit {
			s.fatal(&HungDiskError{Shard: g.shard, For: stuck, Dir: s.opts.Dir})
			return
		}
		g.lookForRoom()
		wasQuiet := g.lag.quiet.on
		quiet := g.lag.quiet.set(lag, step)
		if quiet != wasQuiet {
			g.announce(quiet)
		}
		switch {
		case quiet || logQuiet:
			g.fallSilent(!quiet)
		case g.silent.Load():
			g.trans.SetVoice(transport.Speaking)
			g.silent.Store(false) // the watch goroutine begins a tenure if raft leads
		}
	}
}

func (d *diskGate) announce(quiet bool) {
	s := d.store
	s.disk.logHangs.Store(quiet)
	if quiet {
		s.disk.hangs.Add(1)
		s.opts.Logger.Warn("the disk hangs in a sync of the log: this node falls silent, so that others lead its shards",
			"after", s.opts.DiskSilence, "dir", s.opts.Dir)
		return
	}
	s.opts.Logger.Info("the disk syncs the log again: this node speaks", "dir", s.opts.Dir)
}

func (g *Group) announce(quiet bool) {
	s := g.store
	if quiet {
		s.disk.hangs.Add(1)
		s.opts.Logger.Warn("the disk hangs in applying committed entries: this replica falls silent, so that another one leads",
			"shard", g.shard, "after", s.opts.DiskSilence, "dir", s.opts.Dir)
		return
	}
	s.opts.Logger.Info("committed entries are applied again: this replica speaks", "shard", g.shard)
}

// stride is what a look adds to ages when so much time has passed since the last.
func stride(passed time.Duration) time.Duration { return min(passed, gateStride) }

// hangTimer tells for how long something has been under way, counted in strides.
type hangTimer struct{ seen time.Duration }

// pending takes the age of the oldest thing under way, 0 for none.
func (h *hangTimer) pending(age, step time.Duration) time.Duration {
	h.seen = min(h.seen+step, age)
	return h.seen
}

// still adds a stride while the same thing goes on.
func (h *hangTimer) still(same bool, step time.Duration) time.Duration {
	if same {
		h.seen += step
	} else {
		h.seen = 0
	}
	return h.seen
}

// gateLatch is on from when an age passes its limit until ages have been small for
// a while: a disk that hangs again and again must not be trusted in between, or
// followers would never wait long enough to elect another leader.
type gateLatch struct {
	limit time.Duration
	on    bool
	calm  time.Duration
}

func newGateLatch(limit time.Duration) gateLatch { return gateLatch{limit: limit} }

func (l *gateLatch) set(age, step time.Duration) bool {
	switch {
	case age >= l.limit:
		l.on, l.calm = true, 0
	case age >= l.limit/4:
		l.calm = 0
	default:
		l.calm += step
	}
	if l.calm >= l.limit/2 {
		l.on = false
	}
	return l.on
}

// fallSilent ends the group's part in its shard but for answering others. A
// leader without work in progress names a successor, if farewell allows it: its
// raft is free to do so, and followers need not wait for their timeout.
func (g *Group) fallSilent(farewell bool) {
	first := !g.silent.Swap(true) // before the tenure ends, or watch would begin another
	voice := transport.Silent
	if t := g.tenure.Load(); first && t != nil {
		g.endTenure(t)
		if farewell && g.idle(t) && g.nameSuccessor(t) {
			voice = transport.Farewell
		}
	}
	g.trans.SetVoice(voice)
}

// idle reports whether nothing of the tenure is on its way through raft.
func (g *Group) idle(t *tenure) bool {
	entries, _ := g.waiters.inFlight(t.term)
	return entries == 0 && g.queue.idle() && g.raft.LastIndex() == g.raft.CommitIndex()
}

// nameSuccessor asks raft for a transfer and waits for nothing.
func (g *Group) nameSuccessor(t *tenure) bool {
	v, err := g.fitVoter(t, "", "", true)
	if err == nil {
		g.transferTo(v)
	}
	return err == nil
}
