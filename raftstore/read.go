package raftstore

import (
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// Get reads keys linearizably. See Read for how and when it is answered.
func (g *Group) Get(r *Read) {
	c := &readCall{Read: r, since: time.Now()}
	if len(r.Keys) == 0 {
		c.refuse(phaseWaiting, kverr.New(kverr.Invalid, "a read without keys"))
		return
	}
	if t := g.tenure.Load(); t == nil || !t.ready.Load() {
		c.refuse(phaseWaiting, g.unavailable())
		return
	}
	if err := g.reads.add(c); err != nil {
		g.store.counters.overloaded.Add(uint64(len(r.Keys)))
		c.refuse(phaseWaiting, err)
		return
	}
	g.store.confirmer.enqueue(g)
}

// release lets confirmed reads run once their index is applied (R2).
func (g *Group) release(index uint64, calls []*readCall) {
	g.reads.park(index, calls)
	g.run(g.reads.reached(g.view.Load().applied))
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
		if c.move(phaseWaiting, phaseBusy) {
			ready = append(ready, c)
		}
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
	var key []byte
	for _, c := range ready {
		if err != nil {
			c.refuse(phaseBusy, err)
			continue
		}
		var values []Value
		values, key, err = g.lookup(view, rec, c.Keys, key)
		if err == nil && (excisions%2 == 1 || g.excisions.Load() != excisions) {
			// An ingest or a removal takes data out of open snapshots too.
			err = kverr.New(kverr.Unavailable, "shard %d: its replica here was replaced while the read ran", g.shard)
		}
		if err != nil {
			c.refuse(phaseBusy, err)
			continue
		}
		if c.move(phaseBusy, phaseAnswered) {
			c.Done(values, applied.LastVersion, nil)
		}
	}
	g.reads.gone(ready...)
}

func (g *Group) lookup(view kvReader, rec shardmap.Record, keys [][]byte, buf []byte) ([]Value, []byte, error) {
	values := make([]Value, len(keys))
	for i, k := range keys {
		slot := state.SlotFor(rec.Shard, k)
		if !rec.Arc.Contains(slot) {
			values[i].WrongShard = true
			continue
		}
		buf = state.DataKey(buf[:0], slot, k)
		raw, found, err := view.Get(buf)
		if err != nil {
			g.store.readFailed(err)
			return nil, buf, kverr.New(kverr.Internal, "shard %d: read: %w", g.shard, err)
		}
		if !found {
			continue
		}
		val, err := state.DecodeValue(raw)
		if err != nil {
			return nil, buf, kverr.New(kverr.Internal, "shard %d: stored value: %w", g.shard, err)
		}
		values[i] = Value{Found: true, Version: val.Version, Data: val.Data}
	}
	return values, buf, nil
}
