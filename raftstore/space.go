package raftstore

import (
	"fmt"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/diskspace"
	"github.com/ringfort/ringfort/raftstore/state"
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
)

// Admits says whether the disk has room for an operation of this kind that is
// proposed here now, and its databases keep up with it: nil unless this replica
// leads. While a database is near a stall puts are refused as Overloaded, during one
// deletes too, whatever the shard but the system's. When space is low, puts are
// refused; when it is critical, everything is. The system shard, whose entries are
// few and which must go on, is refused only then. Propose asks by itself and
// refuses a Write whole; who would rather have a part of it applied asks before.
func (g *Group) Admits(kind state.OpKind) error {
	bound := diskspace.Critical
	if kind == state.OpPut && g.shard != shardmap.SystemShard {
		bound = diskspace.Low
	}
	if g.store.space.Level() < bound || g.tenure.Load() == nil {
		return g.keepsUp(kind)
	}
	goesOn := "reads and deletes go on"
	if bound == diskspace.Critical {
		goesOn = "reads go on"
	}
	s := g.store
	return &kverr.Error{Kind: kverr.NoSpace, Shard: uint64(g.shard), Node: string(s.opts.Self), RetryAfter: noSpaceRetry,
		Message: fmt.Sprintf("no space left: %s; free disk space on node %s (directory %s)", goesOn, s.opts.Self.Short(), s.opts.Dir)}
}

// keepsUp refuses what the databases cannot take on now.
func (g *Group) keepsUp(kind state.OpKind) error {
	if !g.store.pressed(kind != state.OpPut) || g.shard == shardmap.SystemShard || g.tenure.Load() == nil {
		return nil
	}
	return &kverr.Error{Kind: kverr.Overloaded, Shard: uint64(g.shard), Node: string(g.store.opts.Self), RetryAfter: pressureRetry,
		Message: "the node's databases cannot keep up with what is written; try again shortly"}
}

// admitsAll is Admits for a whole Write.
func (g *Group) admitsAll(ops []state.Op) error {
	if g.store.space.Level() == diskspace.OK && !g.store.pressed(false) {
		return nil
	}
	for i := range ops {
		if err := g.Admits(ops[i].Kind); err != nil {
			return err
		}
	}
	return nil
}

// takesEntries decides for the transport whether a follower here takes entries: its
// log must not meet a full disk while the others of the quorum could go on.
func (s *Store) takesEntries(bytes int) bool {
	if s.space.Level() < diskspace.Critical || bytes <= smallEntries && !s.space.InReserve() {
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
