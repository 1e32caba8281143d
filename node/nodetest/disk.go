package nodetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faults is what can go wrong with a disk in one life.
type faults struct {
	disk *vfs.MemFS
	cut  func() // fences the node

	mu     sync.Mutex
	broken bool
	once   func(errorfs.Op) bool // an operation that fails, one; nil for none
	strike func(errorfs.Op) bool // whether the power is cut at this write; nil for never
	after  *vfs.MemFS            // what the power cut left, nil before it
}

var _ errorfs.Injector = (*faults)(nil)

func (f *faults) String() string { return "nodetest" }

// MaybeError implements errorfs.Injector. It is called before each operation.
func (f *faults) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after == nil && f.strike != nil && f.strike(op) {
		// The old life goes on, on a disk nobody will read and unheard by anybody.
		f.cut()
		f.after = f.disk.CrashClone(vfs.CrashCloneCfg{})
	}
	if f.once != nil && f.once(op) {
		f.once = nil
		return errorfs.ErrInjected
	}
	if f.broken {
		return errorfs.ErrInjected
	}
	return nil
}

func (f *faults) left() *vfs.MemFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.after
}

// brittle is the disk of a new life.
func (s *Server) brittle() vfs.FS {
	s.faults = &faults{disk: s.disk, cut: func() { s.cluster.Network.sever(s.Index) }}
	fs := vfs.FS(errorfs.Wrap(s.disk, s.faults))
	if wrap := s.cluster.options.WrapDisk; wrap != nil {
		fs = wrap(s.Index, fs)
	}
	return fs
}

// BreakDisk makes the next writing operation for which when is true fail; with nil,
// everything that writes to the disk fails for the rest of this life.
func (s *Server) BreakDisk(when func(errorfs.Op) bool) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.once, s.faults.broken = when, when == nil
}

// CutPower ends this life before the first writing operation for which when is
// true: the node is fenced and the next life gets what was synced then. Crash must
// still be called. PowerCut tells whether it has happened.
func (s *Server) CutPower(when func(errorfs.Op) bool) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.strike = when
}

// CutPowerNow ends this life at once, as CutPower does; keepUnsynced is as in
// Crash. Any goroutine may call it, the node's own too.
func (s *Server) CutPowerNow(keepUnsynced int, rng *rand.Rand) {
	f := s.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after == nil {
		f.cut()
		f.after = f.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keepUnsynced, RNG: rng})
	}
}

// AtWrite is true at the n-th call, for CutPower.
func AtWrite(n int) func(errorfs.Op) bool {
	return func(errorfs.Op) bool {
		n--
		return n == 0
	}
}

// AtFile is true at operations on files whose path ends so, for CutPower.
func AtFile(suffix string) func(errorfs.Op) bool {
	return func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, suffix) }
}

// PowerCut reports whether CutPower has struck.
func (s *Server) PowerCut() bool { return s.life != nil && s.faults.left() != nil }

// quiet is Pebble's logger where nobody reads.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("nodetest: pebble: "+format, args...))
}

// EditState changes the state database of a node that is down, behind the back of
// everything that keeps replicas alike.
func (s *Server) EditState(edit func(*pebble.DB) error) (err error) {
	if s.life != nil {
		return errors.New(s.Name + " runs")
	}
	db, err := pebble.Open(s.cfg.DataDir+"/store/state", &pebble.Options{
		FS: s.disk, FormatMajorVersion: pebble.FormatNewest, DisableWAL: true, ErrorIfNotExists: true,
		Logger: quiet{},
	})
	if err != nil {
		return err
	}
	return errors.Join(edit(db), db.Flush(), db.Close())
}

// Image is a copy of the disk of a node that is down, and SetImage gives it one for
// its next life, to be kept from then on.
func (s *Server) Image() *vfs.MemFS {
	return s.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
}

// SetImage is for a node that is down, see Image.
func (s *Server) SetImage(disk *vfs.MemFS) { s.disk = disk }
