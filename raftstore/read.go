package raftstore

import (
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// sessionPatience is how long a session read waits for its version to be applied
// here before it asks how far the shard is: a replica that gets its log is rarely
// further behind than that.
const sessionPatience = 20 * time.Millisecond

// Get reads keys. See Read for how and when it is answered.
func (g *Group) Get(r *Read) {
	c := &readCall{Read: r}
	if len(r.Keys) == 0 {
		c.refuse(phaseWaiting, kverr.New(kverr.Invalid, "a read without keys"))
		return
	}
	g.read(c)
}

// read brings a read to where its level is proven: to what is applied here, to the
// next confirm round, or to the leader.
func (g *Group) read(c *readCall) {
	err := c.validate()
	if err == nil && c.Level == Linearizable && !c.AnyReplica && !g.serves() {
		err = g.unavailable()
	}
	if err == nil {
		if err = g.reads.admit(c); kverr.KindOf(err) == kverr.Overloaded {
			g.store.counters.overloaded.Add(uint64(c.weight()))
		}
	}
	if err != nil {
		c.refuse(phaseWaiting, err)
		return
	}
	switch c.Level {
	case Any:
		g.run([]*readCall{c})
	case Session:
		if c.MinVersion <= g.view.Load().version {
			g.run([]*readCall{c})
			return
		}
		g.reads.lag(c, sessionPatience, func() {
			if g.reads.leaveLag(c) {
				g.confirm(c)
			}
		})
		g.run(g.reached()) // it may have been applied meanwhile
	case BoundedStale:
		if known := g.known.Load(); known != nil && g.store.opts.Clock.Boot()-known.at <= c.MaxAge {
			g.release(known.index, []*readCall{c})
			return
		}
		g.confirm(c)
	default:
		g.confirm(c)
	}
}

// serves reports whether this replica leads and may serve as the leader.
func (g *Group) serves() bool {
	t := g.tenure.Load()
	return t != nil && t.ready.Load()
}

// confirm has an admitted read wait until it is known how far the shard is.
func (g *Group) confirm(c *readCall) {
	if g.serves() {
		g.reads.pend(c)
		g.store.confirmer.enqueue(g)
		return
	}
	if c.Level == Linearizable && !c.AnyReplica { // its leadership is over
		g.drop(c, g.unavailable())
		return
	}
	g.ask(c)
}

// drop refuses an admitted read.
func (g *Group) drop(c *readCall, err error) {
	c.refuse(phaseWaiting, err)
	g.reads.gone(c)
}

// knownIndex is an index that covers every write that was acknowledged before a
// moment of the clock that goes on during suspend (rule R4).
type knownIndex struct {
	at    time.Duration
	index uint64
}

// learn notes an index that was found after at.
func (g *Group) learn(at time.Duration, index uint64) {
	for {
		known := g.known.Load()
		if known != nil && known.at >= at {
			return
		}
		if g.known.CompareAndSwap(known, &knownIndex{at, index}) {
			return
		}
	}
}

// release lets reads run once an index is applied (R2).
func (g *Group) release(index uint64, calls []*readCall) {
	g.reads.park(index, calls)
	g.run(g.reached())
}

func (g *Group) reached() []*readCall {
	v := g.view.Load()
	return g.reads.reached(v.applied, v.version)
}

func (g *Group) run(calls []*readCall) {
	if len(calls) > 0 {
		g.store.readers.submit(readTask{g, calls})
	}
}

// execute answers reads of one group from one view.
func (g *Group) execute(calls []*readCall) {
	ready := calls[:0]
	for _, c := range calls {
		if !c.move(phaseWaiting, phaseBusy) {
			continue
		}
		if len(c.Keys) == 0 { // it wants to know only that it may be served now
			c.Served = c.served()
			c.move(phaseBusy, phaseAnswered)
			g.reads.gone(c)
			c.Done(nil, 0, nil)
			continue
		}
		ready = append(ready, c)
	}
	if len(ready) == 0 {
		return
	}
	excisions := g.excisions.Load()
	snap := g.store.state.NewSnapshot()
	defer snap.Close()
	view := kvReader{snap}
	// The arc is judged in the view that answers: a split applied meanwhile has
	// changed both together.
	rec, found, err := state.ReadRecord(view, g.Record().Arc.From)
	var applied state.AppliedState
	if err == nil && found {
		applied, found, err = state.LoadApplied(view, rec.Arc.From)
	}
	g.store.readFailed(err)
	if err == nil && !found {
		err = kverr.New(kverr.Internal, "shard %d: its record is gone", g.shard)
	}
	if g.store.dead.Load() {
		err = kverr.New(kverr.Unavailable, "shard %d: the node has failed", g.shard)
	}
	l := lookup{group: g, view: view, record: rec}
	answered := ready[:0]
	for _, c := range ready {
		var values []Value
		if err == nil {
			l.now = g.dueFrom(c)
			values, err = l.read(c.Keys)
		}
		if err == nil && (excisions%2 == 1 || g.excisions.Load() != excisions) {
			// An ingest or a removal takes data out of open snapshots too.
			err = kverr.New(kverr.Unavailable, "shard %d: its replica here was replaced while the read ran", g.shard)
		}
		if err == nil && len(l.due) > 0 {
			g.again(c, l.due)
			continue
		}
		answered = append(answered, c)
		if err != nil {
			c.refuse(phaseBusy, err)
			continue
		}
		c.Served = c.served()
		g.store.counters.reads[c.Served].Add(uint64(len(c.Keys)))
		if c.move(phaseBusy, phaseAnswered) {
			c.Done(values, applied.LastVersion, nil)
		}
	}
	g.reads.gone(answered...)
}

// dueFrom is the shard time from which a key's deadline has come for a read; 0
// for one that shows what is applied, whatever the deadlines say.
func (g *Group) dueFrom(c *readCall) uint64 {
	if c.Level != Linearizable || !c.led || c.repeated {
		return 0
	}
	return g.shardNow()
}

// again has due keys' expiry applied and then runs the read once more: a key is
// gone when its expiry is applied, not before, and a leader's linearizable read
// does not show one that is due.
func (g *Group) again(c *readCall, due []state.Op) {
	c.repeated = true
	c.move(phaseBusy, phaseWaiting) // its deadline counts again
	g.store.expirer.expire(g, due, c.Deadline, func(err error) {
		if err != nil {
			g.drop(c, err)
			return
		}
		g.run([]*readCall{c})
	})
}

// lookup reads keys from one view.
type lookup struct {
	group  *Group
	view   kvReader
	record shardmap.Record
	now    uint64     // shard time by which keys are due; 0: none is
	due    []state.Op // sweeps of what the last read found due
	buf    []byte
}

func (l *lookup) read(keys [][]byte) ([]Value, error) {
	g := l.group
	values := make([]Value, len(keys))
	l.due = nil
	for i, k := range keys {
		slot := state.SlotFor(l.record.Shard, k)
		if !l.record.Arc.Contains(slot) {
			values[i].WrongShard = true
			continue
		}
		l.buf = state.DataKey(l.buf[:0], slot, k)
		raw, found, err := l.view.Get(l.buf)
		if err != nil {
			g.store.readFailed(err)
			return nil, kverr.New(kverr.Internal, "shard %d: read: %w", g.shard, err)
		}
		if !found {
			continue
		}
		val, err := state.DecodeValue(raw)
		if err != nil {
			return nil, kverr.New(kverr.Internal, "shard %d: stored value: %w", g.shard, err)
		}
		if l.now != 0 && val.Due(l.now) {
			l.due = append(l.due, state.Op{Kind: state.OpSweep, Key: k, Deadline: val.Expires})
		}
		values[i] = Value{Found: true, Version: val.Version, Expires: val.Expires, Data: val.Data}
	}
	return values, nil
}
