package raftstore

import "sync/atomic"

// diskState is what the store knows of its disk.
type diskState struct {
	logHangs atomic.Bool // the disk gate is shut for all groups
	hangs    atomic.Uint64
	refused  atomic.Uint64 // operations of clients, for want of space
	declined atomic.Uint64 // appends of peers, likewise
}
