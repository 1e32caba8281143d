package raftstore

import (
	"strings"
	"sync/atomic"

	"github.com/ringfort/ringfort/internal/dbevents"
	"github.com/ringfort/ringfort/raftstore/diskhealth"
	"github.com/ringfort/ringfort/raftstore/diskspace"
	"github.com/ringfort/ringfort/raftstore/transport"
)

// diskState is what the store knows of its disk.
type diskState struct {
	logHangs atomic.Bool // the disk gate is shut for all groups
	hangs    atomic.Uint64
	declined atomic.Uint64 // appends of peers, for want of space
}

// Disk is what a store knows of its disk. It is read from memory.
type Disk struct {
	Silent         bool   // log syncs hang: all replicas here are silent (rule D1)
	SilentReplicas int    // replicas that are silent, for whichever reason
	Silences       uint64 // times that replicas here fell silent: all at once counts once
	Declined       uint64 // appends of peers declined for want of space
	Space          diskspace.Status
}

// Disk returns what is known now.
func (s *Store) Disk() Disk {
	d := Disk{
		Silent: s.disk.logHangs.Load(), Silences: s.disk.hangs.Load(),
		Declined: s.disk.declined.Load(), Space: s.space.Status(),
	}
	for _, g := range s.Groups() {
		if g.silent.Load() {
			d.SilentReplicas++
		}
	}
	return d
}

// DatabaseEvents are what the two databases have reported since Open. Unlike
// Databases they never wait for the disk.
func (s *Store) DatabaseEvents() (log, state dbevents.Events) {
	return s.events.log.Events(), s.events.state.Events()
}

// Snapshots are the transfers of whole replicas, of this node's network.
func (s *Store) Snapshots() transport.Stats { return s.opts.Network.Stats() }

// slowDisk notes an operation of the disk that takes long. What belongs to neither
// database, such as a snapshot that is received, is logged only.
func (s *Store) slowDisk(slow diskhealth.Slow) {
	db := "none"
	switch under := func(sub string) bool {
		return strings.HasPrefix(slow.Path, s.opts.FS.PathJoin(s.opts.Dir, sub))
	}; {
	case under("log"):
		db = "log"
		s.events.log.DiskSlow()
	case under("state"):
		db = "state"
		s.events.state.DiskSlow()
	}
	s.opts.Logger.Warn("the disk is slow", "db", db, "operation", slow.Op, "file", slow.Path, "for", slow.For)
}
