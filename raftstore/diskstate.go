package raftstore

import "sync/atomic"

// diskState is what the store knows of its disk.
type diskState struct {
	logHangs atomic.Bool // the disk gate is shut for all groups
	hangs    atomic.Uint64
}
