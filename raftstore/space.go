package raftstore

import (
	"cmp"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/time/rate"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/diskspace"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// noSpaceRetry is the hint for who was refused: the free space is looked at each
	// second.
	noSpaceRetry = time.Second
	// smallEntries is how many bytes of entries a follower takes even when its disk
	// is critical, above the reserve: a new leader's first entries, without which no
	// shard could be read, must not need space that a put would.
	smallEntries = 512
	// A node whose disk is critical goes on taking entries in a trickle, down to its
	// last bytes: as a follower what leaders had proposed before they ran out of space,
	// and the first entries of new leaders, as a leader deletes. Where all disks are
	// full, no leader could open its tenure otherwise, and reads would end with the
	// leaders of before. trickleBurst is more than the largest merged entry,
	// trickleRate a megabyte in half a minute; half of the ballast is the end of it.
	trickleBurst = 512 << 10
	trickleRate  = 32 << 10 // bytes per second
	// entryCost is what an entry takes beside its data, generously.
	entryCost = 256
	// deleteCost is what a leader counts for a delete: about a thousand at once, then
	// sixty a second.
	deleteCost = 512
)

func newTrickle() *rate.Limiter { return rate.NewLimiter(trickleRate, trickleBurst) }

// Admits says whether the disk has room for an operation of this kind that is
// proposed here now, and its databases keep up with it: nil unless this replica
// leads. While a database is near a stall puts are refused as Overloaded, during one
// deletes too, whatever the shard but the system's. When space is low, puts are
// refused; when it is critical, everything is but a trickle of deletes. The system
// shard, whose entries are few and which must go on, is refused only then. So is
// everything but the system shard's while a majority of the shard's replicas has no
// disk space. Propose asks by itself and refuses a Write whole; who would rather have
// a part of it applied asks before.
func (g *Group) Admits(kind state.OpKind) error {
	bound := diskspace.Critical
	if takesSpace(kind) && g.shard != shardmap.SystemShard {
		bound = diskspace.Low
	}
	starved := g.starved.Load() && g.shard != shardmap.SystemShard
	s := g.store
	if s.space.Level() < bound && !starved || g.tenure.Load() == nil {
		return g.keepsUp(kind)
	}
	if frees(kind) && !starved && s.trickles(1) {
		return g.keepsUp(kind)
	}
	if s.space.Level() < bound {
		e := g.noSpace()
		e.Message = "no space left: reads go on; a majority of the shard's replicas has no disk space: free some on their nodes"
		return e
	}
	return g.noSpace()
}

// frees reports whether operations of a kind make room in the end.
func frees(kind state.OpKind) bool { return kind == state.OpDelete || kind == state.OpSweep }

// takesSpace reports whether they may leave more behind than there was. A transaction
// counts as a put, whatever is in it.
func takesSpace(kind state.OpKind) bool { return !frees(kind) && kind != state.OpVerify }

// noSpace refuses a write for want of space here, and says what is still taken.
func (g *Group) noSpace() *kverr.Error {
	s := g.store
	goesOn := "reads and deletes go on"
	switch {
	case s.space.AtTheLast():
		goesOn = "reads go on"
	case s.space.Level() >= diskspace.Critical:
		goesOn = "reads go on, and a few deletes each second"
	}
	return &kverr.Error{Kind: kverr.NoSpace, Shard: uint64(g.shard), Node: string(s.opts.Self), RetryAfter: noSpaceRetry,
		Message: fmt.Sprintf("no space left: %s; free disk space on node %s (directory %s)",
			goesOn, cmp.Or(s.opts.Name, s.opts.Self.Short()), s.opts.Dir)}
}

// lookForRoom notes whether a leader's followers leave it without a majority that has
// disk space: what it took on then would only wait, and be in doubt in the end. The
// entry that is being offered to them tells when that is over.
func (g *Group) lookForRoom() {
	t, full := g.tenure.Load(), false
	if t != nil {
		g.trans.Followers(func(_ raft.ServerID, f transport.Progress) { full = full || f.NoSpace && f.Term == t.term })
	}
	if !full {
		g.starved.Store(false)
		return
	}
	e, err := g.electorate()
	if err != nil {
		return // what was known still is
	}
	room := 0
	if e.self {
		room++
	}
	for _, v := range e.others {
		p, known := g.trans.PeerProgress(transport.ServerID(v.node, v.replica))
		if !known || !p.NoSpace || p.Term != t.term {
			room++
		}
	}
	g.starved.Store(room <= e.voters/2)
}

// keepsUp refuses what the databases cannot take on now.
func (g *Group) keepsUp(kind state.OpKind) error {
	if !g.store.pressed(!takesSpace(kind)) || g.shard == shardmap.SystemShard || g.tenure.Load() == nil {
		return nil
	}
	return &kverr.Error{Kind: kverr.Overloaded, Shard: uint64(g.shard), Node: string(g.store.opts.Self), RetryAfter: pressureRetry,
		Message: "the node's databases cannot keep up with what is written; try again shortly"}
}

// admitsAll is Admits for a whole Write.
func (g *Group) admitsAll(ops []state.Op) error {
	if g.store.space.Level() == diskspace.OK && !g.starved.Load() && !g.store.pressed(false) {
		return nil
	}
	for i := range ops {
		if err := g.Admits(ops[i].Kind); err != nil {
			return err
		}
	}
	if g.store.space.Level() < diskspace.Critical || g.tenure.Load() == nil || g.shard == shardmap.SystemShard {
		return nil
	}
	if cost := len(ops) * deleteCost; !g.store.trickle.AllowN(time.Now(), cost) {
		return g.noSpace()
	}
	return nil
}

// trickles reports whether the disk, which is critical, has room for so many deletes.
func (s *Store) trickles(deletes int) bool {
	return !s.space.AtTheLast() && s.trickle.Tokens() >= float64(deletes*deleteCost)
}

// takesEntries decides for the transport whether a follower here takes entries: its
// log must not meet a full disk while the others of the quorum could go on. It may be
// called by several goroutines.
func (s *Store) takesEntries(bytes int) bool {
	if s.space.Level() < diskspace.Critical || bytes <= smallEntries && !s.space.InReserve() {
		return true
	}
	if !s.space.AtTheLast() && s.trickle.AllowN(time.Now(), bytes+entryCost) {
		return true
	}
	s.disk.declined.Add(1)
	return false
}

// spaceChanged is called by the guard of the disk. What a flush frees is worth more
// now than later.
func (s *Store) spaceChanged(level diskspace.Level) {
	if level > diskspace.OK {
		signal(s.flusher.pressed)
	}
}
