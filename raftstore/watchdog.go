package raftstore

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// watchedPerTick bounds what one tick looks at; the next one goes on from there.
	watchedPerTick = 256
	// diskTrouble is from when on a pending log sync explains everything, and rule
	// D1 is in charge.
	diskTrouble = time.Second
	// wedgePatience is how long a follower that answers may stay where it is although
	// its leader has more, before its calls are ended; then it has lagPatience to
	// restart itself and wedgeLimit until its leader gives up the leadership.
	wedgePatience = 10 * time.Second
	lagPatience   = 15 * time.Second
	wedgeLimit    = 25 * time.Second
	// stallLimit is the least time for a leader without commits. See stallPatience.
	stallLimit = 5 * time.Second
)

// watchdog looks for replicas that no longer do their work although nothing that
// anybody can see keeps them from it, and cures them. Raft has states that it
// cannot leave by itself, and there may be more than those that are known. It is
// the last line: each known trap is closed where it is.
//
//   - A leader that refuses writes because a leadership transfer got stuck
//     (upstream #696) is restarted in place.
//   - A leader whose proposals are not committed although a majority of the voters
//     answers it and has disk space hands over; if that does not end its tenure it is restarted.
//   - A leader ends its calls to a follower that answers and does not move; if
//     that does not help it hands the leadership over or is restarted.
//   - A follower that hears its leader and does not move while the leader's
//     commit index does is restarted.
//
// It does nothing while the disk is slow, when time has jumped over several of its
// ticks (a process that was stopped) or when the store is being stopped. Each cure
// is counted, logged with its reason, and tried on one replica at most once a
// minute, half as often each time it has to be repeated. One cure runs at a time.
type watchdog struct {
	store   *Store
	pending func() time.Duration // how long the oldest log sync has waited
	cures   sync.WaitGroup
	idle    chan struct{} // capacity 1, empty while a cure runs

	// Below is the watchdog goroutine's alone.

	last    time.Time // the latest tick
	next    int       // where the latest tick stopped
	patient map[shardmap.ShardID]*patient
}

// patient is what the watchdog remembers of one replica.
type patient struct {
	group     *Group // a new one after a restart
	tenure    *tenure
	commit    uint64
	applied   uint64
	moved     time.Time // when one of the two last rose, or there was nothing to wait for
	asked     time.Time // when raft was last asked for its transfer flag
	followers map[raft.ServerID]*wedge
	budgets   map[cure]*budget
}

// wedge is a follower that has less than its leader.
type wedge struct {
	acked, committed uint64
	since            time.Time
	interrupted      bool
}

// cure is a kind of action.
type cure string

const (
	cureTransfer  cure = "stuck leadership transfer"
	cureStall     cure = "proposals are not committed"
	cureInterrupt cure = "follower does not move"
	cureWedge     cure = "follower still does not move"
	cureLag       cure = "this follower does not move"
)

func newWatchdog(s *Store) *watchdog {
	pending := func() time.Duration { return s.log.OldestPendingSync() } // s.log is opened later
	w := &watchdog{store: s, pending: pending, idle: make(chan struct{}, 1), patient: make(map[shardmap.ShardID]*patient)}
	w.idle <- struct{}{}
	return w
}

// every is the time between two ticks.
func (w *watchdog) every() time.Duration {
	return max(w.store.opts.ElectionTimeout/2, 50*time.Millisecond)
}

// transferPatience and stallPatience are how long a leader may go without a commit
// although it has something to commit.
func (w *watchdog) transferPatience() time.Duration { return 3 * w.store.opts.ElectionTimeout }

func (w *watchdog) stallPatience() time.Duration {
	return max(10*w.store.opts.ElectionTimeout, stallLimit)
}

func (w *watchdog) run() {
	tick := time.NewTicker(w.every())
	defer tick.Stop()
	for {
		select {
		case <-w.store.stopping:
			return
		case <-w.store.died:
			return
		case <-tick.C:
			w.tick(time.Now())
		}
	}
}

func (w *watchdog) tick(now time.Time) {
	late := !w.last.IsZero() && now.Sub(w.last) > 4*w.every()
	w.last = now
	if late || w.pending() >= diskTrouble {
		// Whatever stood still had a reason: all patience begins anew.
		for _, p := range w.patient {
			p.excuse(now)
		}
		return
	}
	groups := w.store.Groups()
	if w.next >= len(groups) {
		w.next = 0
		w.discharge(groups)
	}
	seen := groups[w.next:min(w.next+watchedPerTick, len(groups))]
	w.next += len(seen)
	for _, g := range seen {
		w.examine(g, now)
	}
}

// discharge forgets replicas that are gone. One that is being restarted is not in
// the table either; what is forgotten of it is no more than how often a cure may
// be repeated, and restart has a limit of its own.
func (w *watchdog) discharge(groups []*Group) {
	if len(w.patient) <= len(groups) {
		return
	}
	here := make(map[shardmap.ShardID]bool, len(groups))
	for _, g := range groups {
		here[g.shard] = true
	}
	for shard := range w.patient {
		if !here[shard] {
			delete(w.patient, shard)
		}
	}
}

func (w *watchdog) examine(g *Group, now time.Time) {
	p := w.patient[g.shard]
	if p == nil {
		p = &patient{budgets: make(map[cure]*budget)}
		w.patient[g.shard] = p
	}
	// A silent replica is rule D1's.
	if t := g.tenure.Load(); p.group != g || p.tenure != t || g.silent.Load() {
		p.group, p.tenure = g, t
		p.excuse(now)
	}
	if commit, applied := g.raft.CommitIndex(), g.view.Load().applied; commit != p.commit || applied != p.applied {
		p.commit, p.applied, p.moved = commit, applied, now
	}
	if p.tenure != nil {
		w.examineLeader(p, now)
		w.examineFollowers(p, now)
	} else {
		w.examineSelf(p, now)
	}
}

// excuse begins all patience anew.
func (p *patient) excuse(now time.Time) {
	p.moved, p.asked, p.followers = now, now, nil
}

// examineLeader looks for proposals that are not committed. A leader that is not
// ready has one too, unless it still asks for the voters' clocks. While an entry is being applied it is rule
// D1's to judge whether that takes too long.
func (w *watchdog) examineLeader(p *patient, now time.Time) {
	entries, bytes := p.group.waiters.inFlight(p.tenure.term)
	if entries == 0 || p.group.applying.Load() {
		p.moved = now
		return
	}
	stood := now.Sub(p.moved)
	if stood < w.transferPatience() || p.group.transferring.Load() || !p.group.hasQuorum(p.tenure) {
		return
	}
	switch {
	case stood >= w.stallPatience()+timeToSend(bytes):
		w.treat(p, cureStall, now, stood, p.group.cureStall)
	case now.Sub(p.asked) >= w.transferPatience():
		w.treat(p, cureTransfer, now, stood, p.group.cureTransfer)
	}
}

// timeToSend allows for a slow line to each follower, half a MiB in a second.
func timeToSend(bytes int) time.Duration { return time.Duration(bytes) * time.Second >> 19 }

// hasQuorum reports whether a majority of the voters, this replica included, has
// answered the leader within an election timeout and has room for entries. Heartbeats
// have their own goroutines, so this is so as well when raft's main loop hangs. Without
// disk space on a majority nothing can be committed; the leader must stay, or there
// would be nobody to read from.
func (g *Group) hasQuorum(t *tenure) bool {
	e, err := g.electorate()
	if err != nil {
		return false
	}
	answer := 0
	if e.self {
		answer++
	}
	for _, v := range e.others {
		p, known := g.trans.PeerProgress(transport.ServerID(v.node, v.replica))
		if known && p.Term == t.term && !p.NoSpace && time.Since(p.Contact) <= g.store.opts.ElectionTimeout {
			answer++
		}
	}
	return answer > e.voters/2
}

// examineFollowers looks for followers that answer and do not move although this
// leader has more.
func (w *watchdog) examineFollowers(p *patient, now time.Time) {
	g, term := p.group, p.tenure.term
	last := g.raft.LastIndex()
	g.trans.Followers(func(id raft.ServerID, f transport.Progress) {
		alive := f.Term == term && time.Since(f.Contact) <= g.store.opts.ElectionTimeout
		if !alive || f.Snapshot || f.NoSpace || f.Acked >= last && f.Committed >= p.commit {
			delete(p.followers, id)
			return
		}
		v := p.followers[id]
		if v == nil || v.acked != f.Acked || v.committed != f.Committed {
			if p.followers == nil {
				p.followers = make(map[raft.ServerID]*wedge)
			}
			p.followers[id] = &wedge{acked: f.Acked, committed: f.Committed, since: now}
		}
	})
	t := p.tenure
	for id, v := range p.followers {
		stood := now.Sub(v.since)
		switch {
		case stood >= wedgeLimit:
			w.treat(p, cureWedge, now, stood, func() outcome { return g.cureWedge(t, id) })
		case stood >= wedgePatience && !v.interrupted:
			v.interrupted = w.treat(p, cureInterrupt, now, stood, func() outcome { return g.cureInterrupt(id) })
		}
	}
}

// examineSelf looks whether this replica, though it hears its leader, stays where
// it is while the leader commits. A snapshot on its way explains that.
func (w *watchdog) examineSelf(p *patient, now time.Time) {
	g := p.group
	heard := g.trans.Heard()
	if heard.Term != g.raft.CurrentTerm() || time.Since(heard.At) > g.store.opts.ElectionTimeout ||
		heard.Commit <= p.commit || g.trans.Receiving() || g.trans.Declining() {
		p.moved = now
		return
	}
	if stood := now.Sub(p.moved); stood >= lagPatience {
		w.treat(p, cureLag, now, stood, g.cureLag)
	}
}
