package node

import (
	"errors"

	"github.com/ringfort/ringfort/raftstore"
)

// HungDisk reports whether the reason that Deps.Fatal is told is a disk that hangs
// (rule D1), as against one that fails.
func HungDisk(reason error) bool {
	var hung *raftstore.HungDiskError
	return errors.As(reason, &hung)
}
