package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ringfort/ringfort/internal/quotafs"
)

const (
	// FaultFull fills the disks of some nodes up to a few KiB, and later frees them.
	FaultFull Fault = "full"
	// FaultFullEnds counts the nodes that a full disk ended.
	FaultFullEnds Fault = "full to the end"

	// FaultFullStart counts the nodes that started on a full disk.
	FaultFullStart Fault = "start on a full disk"

	// fullStart is when the disk of a node that starts on a full one is freed.
	fullStart = 2 * time.Second

	kib      = 1 << 10
	diskSize = 64 << 20 // at 16 MiB free puts are refused, at 8 MiB deletes
)

// What FaultDisk breaks, by Step.Amount: all writes from then on, or the next one
// of some kind only. A store whose log sync or manifest failed must not go on; one
// whose table failed makes another.
const (
	breakAll = iota
	breakSync
	breakLog
	breakTable
	breakManifest
	diskBreaks // how many there are
)

func drawFull(rng *rand.Rand, s *Step, nodes int) {
	s.For = between(rng, time.Second, 5*time.Second)
	switch rng.IntN(4) {
	case 0: // all
		s.Nodes = rng.Perm(nodes)
	case 1: // a majority
		s.Nodes = rng.Perm(nodes)[:nodes/2+1]
	}
	s.Amount = []int{0, 1 * kib, 4 * kib, 12 * kib}[rng.IntN(4)] // KiB left: none, reserve, critical, low
}

// breaksOn says at which operations a disk breaks.
func breaksOn(amount int) func(errorfs.Op) bool {
	name := func(op errorfs.Op, part string) bool { return strings.Contains(op.Path, part) }
	switch amount {
	case breakSync:
		return func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData }
	case breakLog:
		return func(op errorfs.Op) bool { return name(op, ".log") }
	case breakTable:
		return func(op errorfs.Op) bool { return name(op, ".sst") }
	case breakManifest:
		return func(op errorfs.Op) bool { return name(op, "MANIFEST") }
	}
	return nil
}

// disk is one node's disk of limited size through all its lives.
type disk struct {
	mu   sync.Mutex
	life *quotafs.FS
	full bool
	left int64 // when it was filled
}

// wrap is called at the start of a life.
func (d *disk) wrap(base vfs.FS) vfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	life, err := quotafs.New(base, "/", diskSize)
	if err != nil {
		panic(fmt.Sprintf("sim: count what a disk in memory holds: %v", err))
	}
	d.life = life
	if d.full {
		d.life.FillUp(d.left)
	}
	return life
}

func (d *disk) fill(left int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.left = true, left
	d.life.FillUp(left)
}

func (d *disk) free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = false
	d.life.Fill(0)
}

func (d *disk) isFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.full
}

// fill fills the disks of the step's nodes until it ends. A node that such a disk
// has ended starts again then.
func (s *scenario) fill(step Step) {
	for _, i := range step.Nodes {
		s.disks[i].fill(int64(step.Amount) * kib)
	}
	s.after(step, func() error {
		for _, i := range step.Nodes {
			s.disks[i].free()
			srv := s.cluster.Servers[i]
			if srv.Up() && srv.Fatal() != nil {
				s.struck[FaultFullEnds]++
				srv.Crash(0, s.rng)
			}
			if err := s.restart(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// startFull starts a node on a full disk. It may wait for room, and this goroutine
// with it, until the disk is freed; one without room for even a few bytes says so
// and ends.
func (s *scenario) startFull(i int) bool {
	s.struck[FaultFullStart]++
	defer time.AfterFunc(fullStart, s.disks[i].free).Stop()
	err := s.cluster.Servers[i].Start()
	if err != nil {
		s.logger.Info("did not start on a full disk", "node", s.cluster.Servers[i].Name, "err", err)
		s.disks[i].free()
	}
	return err == nil
}
