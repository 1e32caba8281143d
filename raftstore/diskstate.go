package raftstore

import (
	"sync/atomic"

	"github.com/ringfort/ringfort/raftstore/diskspace"
)

// diskState is what the store knows of its disk.
type diskState struct {
	logHangs atomic.Bool // the disk gate is shut for all groups
	hangs    atomic.Uint64
	refused  atomic.Uint64 // operations of clients, for want of space
	declined atomic.Uint64 // appends of peers, likewise
}

// DiskStats is what a store knows of its disk. Getting it does not wait for the disk.
type DiskStats struct {
	diskspace.Status
	Refused  uint64 // operations of clients, for want of space
	Declined uint64 // appends of peers, likewise
	Hangs    uint64 // times that the node or a replica fell silent (rule D1)
}

// Disk returns what is known of the disk.
func (s *Store) Disk() DiskStats {
	return DiskStats{Status: s.space.Status(), Refused: s.disk.refused.Load(), Declined: s.disk.declined.Load(), Hangs: s.disk.hangs.Load()}
}
