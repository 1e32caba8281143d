package logstore

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

// faultyDisk fails the operations that match once it is broken.
type faultyDisk struct {
	vfs.FS
	broken atomic.Bool
}

func newFaultyDisk(base vfs.FS, match func(errorfs.Op) bool) *faultyDisk {
	d := &faultyDisk{}
	d.FS = errorfs.Wrap(base, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if d.broken.Load() && match(op) {
			return errorfs.ErrInjected
		}
		return nil
	}))
	return d
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
}

// deadly are options whose Fatal counts.
func deadly(t testing.TB, fs vfs.FS) (Options, *atomic.Int32) {
	o, deaths := options(t, fs), new(atomic.Int32)
	o.Fatal = func(error) { deaths.Add(1) }
	return o, deaths
}

// Every change that a broken disk meets kills the database once and is never
// answered to raft, with no matter which error.
func TestLS1_DiskErrorIsNeverAnAnswer(t *testing.T) {
	wal := func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }
	faults := map[string]func(errorfs.Op) bool{
		"wal sync":  func(op errorfs.Op) bool { return wal(op) && isSync(op) },
		"wal write": func(op errorfs.Op) bool { return wal(op) && op.Kind == errorfs.OpFileWrite },
		"mark": func(op errorfs.Op) bool {
			return strings.Contains(op.Path, highWaterName) && op.Kind == errorfs.OpFileWrite
		},
	}
	calls := map[string]func(*Group) error{
		"append":   func(g *Group) error { return g.StoreLogs(entries(21, 1, 5)) },
		"conflict": func(g *Group) error { return g.StoreLogs(entries(15, 1, 6)) },
		"truncate": func(g *Group) error { return g.DeleteRange(15, 20) },
		"term":     func(g *Group) error { return g.SetUint64([]byte(keyCurrentTerm), 9) },
		"vote":     func(g *Group) error { return castVote(g, 5, "a") },
	}
	for fault, match := range faults {
		for call, fn := range calls {
			if lowers := call == "conflict" || call == "truncate"; fault == "mark" && !lowers || call == "truncate" && fault != "mark" {
				continue // does not wait for that file
			}
			t.Run(fault+"/"+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					disk := newFaultyDisk(vfs.NewCrashableMem(), match)
					o, deaths := deadly(t, disk)
					d := mustOpen(t, o)
					g := born(t, d, 7)
					must(t, g.StoreLogs(entries(11, 10, 5)))
					time.Sleep(2 * markInterval) // the mark says 20
					disk.broken.Store(true)
					answered, ended := false, false
					go func() {
						defer func() { ended = true }()
						fn(g)
						answered = true
					}()
					time.Sleep(time.Minute)
					if answered || ended || deaths.Load() != 1 {
						t.Errorf("before close: answered %t, ended %t, %d deaths", answered, ended, deaths.Load())
					}
					var l raft.Log
					must(t, g.GetLog(14, &l)) // what needs no disk is still there
					if term, _ := lastVote(t, g); last(t, g) > 20 || currentTerm(t, g) > 5 || term > 0 {
						t.Error("LS2: what failed is visible")
					}
					if err := d.Birth([]Birth{{8, 1, 10, 5}}); err == nil {
						t.Error("a birth on a dead database")
					}
					if err := d.Close(); !errors.Is(err, kverr.Internal) {
						t.Errorf("close says %v", err)
					}
					synctest.Wait()
					if answered || !ended {
						t.Errorf("after close: answered %t, ended %t", answered, ended)
					}
				})
			})
		}
	}
}

// An append that breaks L1 would become a hole at which raft panics at the next
// start, together with all other groups.
func TestL1_BrokenLogsStopTheDatabase(t *testing.T) {
	for name, fn := range map[string]func(*DB){
		"unborn":       func(d *DB) { d.Group(9).StoreLogs(entries(1, 1, 1)) },
		"gap":          func(d *DB) { d.Group(7).StoreLogs(entries(22, 1, 5)) },
		"at boundary":  func(d *DB) { d.Group(7).StoreLogs(entries(10, 2, 5)) },
		"below":        func(d *DB) { d.Group(7).StoreLogs(entries(3, 1, 5)) },
		"unordered":    func(d *DB) { d.Group(7).StoreLogs(append(entries(21, 1, 5), entries(21, 1, 5)...)) },
		"hole":         func(d *DB) { d.Group(7).DeleteRange(12, 14) },
		"lost on disk": func(d *DB) { d.Group(7).GetLog(20, &raft.Log{}) },
	} {
		t.Run(name, func(t *testing.T) {
			o, deaths := deadly(t, vfs.NewMem())
			o.LogCacheBytes = -1
			d := mustOpen(t, o)
			must(t, born(t, d, 7).StoreLogs(entries(11, 10, 5)))
			if name == "lost on disk" {
				must(t, d.pebble.Delete(entryKey(7, 20), nil))
			}
			died := make(chan bool)
			go func() { died <- neverAnswers(func() { fn(d) }) }()
			<-d.dead
			d.Close()
			if !<-died || deaths.Load() != 1 {
				t.Errorf("answered, or %d deaths", deaths.Load())
			}
		})
	}
}

// Whatever Pebble itself does with a failing disk, the process lives, the bubble's
// time goes on, and there is one death: a failed flush is repeated at once and
// for ever, a failed rotation of the log is a panic.
func TestFailuresInsidePebble(t *testing.T) {
	has := func(suffix string, kinds ...errorfs.OpKind) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, suffix) && slices.Contains(kinds, op.Kind) }
	}
	for name, match := range map[string]func(errorfs.Op) bool{
		"table create":   has(".sst", errorfs.OpCreate),
		"table write":    has(".sst", errorfs.OpFileWrite),
		"table sync":     has(".sst", errorfs.OpFileSync, errorfs.OpFileSyncData),
		"log create":     has(".log", errorfs.OpCreate, errorfs.OpReuseForWrite),
		"log sync":       has(".log", errorfs.OpFileSync, errorfs.OpFileSyncData),
		"directory sync": has("/"+databaseName, errorfs.OpFileSync),
		"manifest sync":  func(op errorfs.Op) bool { return strings.Contains(op.Path, "MANIFEST") && isSync(op) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := vfs.NewCrashableMem()
				disk := newFaultyDisk(fs, match)
				o, deaths := deadly(t, disk)
				d := mustOpen(t, o)
				g := born(t, d, 7)
				must(t, g.StoreLogs(entries(11, 10, 5)))
				must(t, g.DeleteRange(10, 15))
				time.Sleep(flushDelay - time.Second)
				must(t, g.StoreLogs(entries(21, 1, 5)))
				before := newestLog(t, fs)
				disk.broken.Store(true) // the first to meet it is a rotation and flush, or a probe
				time.Sleep(2 * flushDelay)
				if deaths.Load() != 1 {
					t.Errorf("%d deaths", deaths.Load())
				}
				if after := newestLog(t, fs); name == "log sync" && after != before {
					t.Errorf("after the failure of %s the log went on in %s", before, after)
				}
				left := crashed(fs)
				d.Close()
				wantEntries(t, openDisk(t, left).Group(7), 15, entries(15, 7, 5))
			})
		})
	}
}

// newestLog is the name of the log with the highest number.
func newestLog(t testing.TB, fs vfs.FS) string {
	t.Helper()
	names, err := fs.List(testDir + "/" + databaseName)
	must(t, err)
	return slices.Max(slices.DeleteFunc(names, func(name string) bool { return !isLog(name) }))
}

func TestCorruptTableKills(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o, deaths := deadly(t, fs)
	o.LogCacheBytes = -1
	d := mustOpen(t, o)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 100, 5)))
	must(t, d.pebble.Flush())
	mustClose(t, d)
	dir := testDir + "/" + databaseName
	names, err := fs.List(dir)
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			b := readFile(t, fs, dir+"/"+name)
			for i := range len(b) / 2 {
				b[i] ^= 0xff
			}
			writeFile(t, fs, dir+"/"+name, b)
		}
	}
	d, err = Open(o)
	if err == nil {
		died := make(chan bool)
		go func() { died <- neverAnswers(func() { d.Group(7).GetLog(50, &raft.Log{}) }) }()
		<-d.dead
		d.Close()
		<-died
	}
	if deaths.Load() != 1 {
		t.Errorf("open says %v, %d deaths", err, deaths.Load())
	}
}

// The disk fails under raft itself, in each of its writes: the process must live
// (raft panics when the term cannot be stored) and raft must be stoppable.
func TestLS1_RaftSurvivesADeadDatabase(t *testing.T) {
	for _, after := range []int32{1, 2, 3, 4, 5, 6} { // which sync of the WAL fails, over three elections and writes
		synctest.Test(t, func(t *testing.T) {
			var syncs atomic.Int32
			disk := newFaultyDisk(vfs.NewCrashableMem(), func(op errorfs.Op) bool {
				return strings.HasSuffix(op.Path, ".log") && isSync(op) && syncs.Add(1) > after
			})
			o, deaths := deadly(t, disk)
			d := mustOpen(t, o)
			born(t, d, 7)
			disk.broken.Store(true)
			n := startRaft(t, d, 7, "n1", nil, raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "n1"}}})
			time.Sleep(10 * time.Second)
			n.raft.Apply([]byte("x"), time.Second)
			time.Sleep(10 * time.Second)
			if deaths.Load() != 1 {
				t.Errorf("%d deaths after %d syncs", deaths.Load(), syncs.Load())
			}
			stopped := n.raft.Shutdown()
			d.Close()
			must(t, stopped.Error())
		})
	}
}

// raftNode is a raft on our store, with a state machine in memory and the
// snapshot that every group is born from.
type raftNode struct {
	raft  *raft.Raft
	trans *raft.InmemTransport
	fsm   *memoryFSM
}

type memoryFSM struct {
	mu   sync.Mutex
	list []string
}

func (f *memoryFSM) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, string(l.Data))
	return nil
}

func (f *memoryFSM) applied() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

func (f *memoryFSM) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (f *memoryFSM) Restore(r io.ReadCloser) error       { return r.Close() }

type nothing struct{}

func (nothing) Persist(s raft.SnapshotSink) error { return s.Close() }
func (nothing) Release()                          {}

// startRaft starts a replica; trans may be nil for a new one.
func startRaft(t testing.TB, d *DB, group uint64, id string, trans *raft.InmemTransport, conf raft.Configuration) *raftNode {
	t.Helper()
	n := &raftNode{fsm: &memoryFSM{}, trans: trans}
	if trans == nil {
		_, n.trans = raft.NewInmemTransport(raft.ServerAddress(id))
	}
	snaps := raft.NewInmemSnapshotStore()
	sink, err := snaps.Create(raft.SnapshotVersionMax, 10, 5, conf, 10, n.trans)
	must(t, err)
	must(t, sink.Close())
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = raft.ServerID(id), hclog.NewNullLogger()
	c.NoSnapshotRestoreOnStart, c.ShutdownOnRemove, c.TrailingLogs = true, false, 5
	n.raft, err = raft.NewRaft(c, n.fsm, d.Group(group), d.Group(group), snaps, n.trans)
	must(t, err)
	return n
}
