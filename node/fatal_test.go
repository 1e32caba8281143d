package node

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/ringfort/ringfort/raftstore"
)

func TestD1_AHungDiskIsToldFromAFailingOne(t *testing.T) {
	if !HungDisk(fmt.Errorf("store: %w", &raftstore.HungDiskError{})) {
		t.Error("a hung disk is not known as one")
	}
	if HungDisk(syscall.EIO) {
		t.Error("a failing disk is taken for a hung one")
	}
}
