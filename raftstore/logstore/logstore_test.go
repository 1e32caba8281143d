package logstore

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

func TestL1_NewbornAnswersItsBoundary(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	check := func(g *Group) {
		t.Helper()
		wantEntries(t, g, 10, nil)
		var l raft.Log
		must(t, g.GetLog(10, &l))
		if l.Index != 10 || l.Term != 5 || l.Type != LogBoundary || l.Data != nil {
			t.Errorf("boundary answers %+v", l)
		}
		if currentTerm(t, g) != 5 {
			t.Errorf("current term %d, want the birth's", currentTerm(t, g))
		}
	}
	check(g)
	check(openDisk(t, crashed(fs)).Group(7))
	if d.Group(7) != g {
		t.Error("another pointer for the same group")
	}
	if _, ok := any(g).(raft.MonotonicLogStore); ok {
		t.Error("a monotonic log store makes raft wipe logs (#697)")
	}
}

func TestL1_TruncationMovesTheBoundary(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	logs := append(entries(11, 10, 5), entries(21, 10, 6)...)
	must(t, g.StoreLogs(logs))
	must(t, g.DeleteRange(first(t, g), 20))
	wantEntries(t, g, 20, logs[9:])
	must(t, g.DeleteRange(first(t, g), 20)) // raft repeats itself when nothing came since
	must(t, g.DeleteRange(5, 8))
	wantEntries(t, g, 20, logs[9:])
	must(t, g.StoreLogs(entries(31, 1, 6))) // makes the truncation durable, too
	wantEntries(t, openDisk(t, crashed(fs)).Group(7), 20, append(logs[9:], entries(31, 1, 6)...))

	must(t, g.DeleteRange(first(t, g), 31)) // the whole log: no trailing entries
	wantEntries(t, g, 31, entries(31, 1, 6))
	must(t, g.StoreLogs(entries(32, 1, 7)))
	again := openDisk(t, crashed(fs))
	wantEntries(t, again.Group(7), 31, append(entries(31, 1, 6), entries(32, 1, 7)...))
	want := Info{Boundary: 31, BoundaryTerm: 6, FirstIndex: 31, LastIndex: 32, CurrentTerm: 5, Exists: true, Replica: 1}
	info := again.Info(7)
	if want.Bytes = info.Bytes; info != want {
		t.Errorf("info %+v", info)
	}
}

// A replicator reads the previous entry, then the entry. When the log is cut up
// to that entry in between, the follower must still get the entry, not a blank
// of the same index and term.
func TestL1_TruncationBetweenPreviousAndEntry(t *testing.T) {
	g := born(t, openDisk(t, vfs.NewMem()), 7)
	logs := entries(11, 10, 5)
	must(t, g.StoreLogs(logs))
	var previous, entry raft.Log
	must(t, g.GetLog(14, &previous))
	must(t, g.DeleteRange(first(t, g), 15))
	must(t, g.GetLog(15, &entry))
	if entry.Type != raft.LogCommand || string(entry.Data) != string(logs[4].Data) {
		t.Errorf("would ship %+v for %+v", entry, *logs[4])
	}
}

func TestL1_ConflictingEndIsReplaced(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 10, 5)))
	must(t, g.DeleteRange(15, 20))
	wantEntries(t, g, 10, entries(11, 4, 5))
	must(t, g.StoreLogs(entries(15, 2, 6)))
	want := append(entries(11, 4, 5), entries(15, 2, 6)...)
	wantEntries(t, g, 10, want)
	wantEntries(t, openDisk(t, crashed(fs)).Group(7), 10, want)

	must(t, g.StoreLogs(entries(13, 1, 7))) // raft forgot the end without deleting it
	want = append(entries(11, 2, 5), entries(13, 1, 7)...)
	wantEntries(t, g, 10, want)
	wantEntries(t, openDisk(t, crashed(fs)).Group(7), 10, want)

	must(t, g.DeleteRange(11, 13)) // all that came after birth
	wantEntries(t, g, 10, nil)
}

func TestEntriesKeepAllTheirParts(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	logs := entries(11, 4, 5)
	logs[0].Type, logs[0].Data = raft.LogNoop, nil
	logs[1].Type, logs[1].Extensions = raft.LogConfiguration, []byte("ext")
	logs[2].Data, logs[2].Extensions = nil, []byte("ext only")
	logs[3].Data = make([]byte, 100<<10) // above what the cache or half a memtable takes
	must(t, g.StoreLogs(logs))
	wantEntries(t, g, 10, logs)
	wantEntries(t, openDisk(t, crashed(fs)).Group(7), 10, logs)
}

func TestL2_BirthIsOneSyncedBatch(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	births := []Birth{{1, 1, 10, 5}, {2, 1, 10, 5}, {3, 1, 40, 9}}
	before := d.Stats().Syncs
	must(t, d.Birth(births))
	if n := d.Stats().Syncs - before; n != 1 {
		t.Errorf("%d syncs for one call", n)
	}
	must(t, d.Birth(nil))
	again := openDisk(t, crashed(fs))
	if got := again.Groups(); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("groups %v", got)
	}
	for _, b := range births {
		want := Info{
			Boundary: b.Index, BoundaryTerm: b.Term, FirstIndex: b.Index, LastIndex: b.Index,
			CurrentTerm: b.Term, Exists: true, Replica: b.Replica,
		}
		if got := again.Info(b.Group); got != want {
			t.Errorf("group %d: %+v", b.Group, got)
		}
	}
	if got := again.Info(99); got != (Info{}) {
		t.Errorf("unknown group: %+v", got)
	}
}

func TestL2_BirthLowersNothing(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := d.Group(1) // a blank joiner votes before it has a log
	setTerm(t, g, 9)
	must(t, castVote(g, 9, "n2/r5"))
	must(t, d.Birth([]Birth{{1, 1, 10, 5}}))
	for _, g := range []*Group{g, openDisk(t, crashed(fs)).Group(1)} {
		if term, cand := lastVote(t, g); currentTerm(t, g) != 9 || term != 9 || cand != "n2/r5" {
			t.Errorf("after birth: term %d, vote %d for %s", currentTerm(t, g), term, cand)
		}
	}
	must(t, g.StoreLogs(entries(11, 5, 9)))
	must(t, d.Birth([]Birth{{1, 1, 10, 5}})) // repeated after a crash
	wantEntries(t, g, 10, entries(11, 5, 9))
}

func TestL2_BirthRefusals(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	must(t, d.Birth([]Birth{{1, 1, 10, 5}}))
	must(t, d.Retire(3, 1))
	must(t, d.Quarantine(4, 1, "checksum of a block"))
	d = openDisk(t, crashed(fs))
	for name, c := range map[string]struct {
		births []Birth
		want   kverr.Kind
	}{
		"another index":      {[]Birth{{2, 1, 10, 5}, {1, 1, 11, 5}}, kverr.Conflict},
		"another term":       {[]Birth{{2, 1, 10, 5}, {1, 1, 10, 6}}, kverr.Conflict},
		"another replica":    {[]Birth{{2, 1, 10, 5}, {1, 2, 10, 5}}, kverr.Conflict},
		"no replica":         {[]Birth{{2, 0, 10, 5}}, kverr.Invalid},
		"retired":            {[]Birth{{2, 1, 10, 5}, {3, 1, 10, 5}}, kverr.Conflict},
		"in quarantine":      {[]Birth{{2, 1, 10, 5}, {4, 1, 10, 5}}, kverr.Conflict},
		"twice":              {[]Birth{{2, 1, 10, 5}, {2, 1, 10, 5}}, kverr.Invalid},
		"index 1 is shipped": {[]Birth{{2, 1, 1, 5}}, kverr.Invalid},
		"no term":            {[]Birth{{2, 1, 10, 0}}, kverr.Invalid},
	} {
		if err := d.Birth(c.births); kverr.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if d.Info(2).Exists {
			t.Fatalf("%s: group 2 was born in a refused call", name)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	for name, change := range map[string]func(*DB) error{
		"store": func(d *DB) error {
			return d.pebble.Set(formatKey, binary.BigEndian.AppendUint32(nil, storeFormat+1), pebble.Sync)
		},
		"value":     func(d *DB) error { return d.pebble.Set(entryKey(7, 12), []byte{valueFormat + 1, 0}, pebble.Sync) },
		"kind":      func(d *DB) error { return d.pebble.Set(recordKey(7, 9), []byte{valueFormat}, pebble.Sync) },
		"key space": func(d *DB) error { return d.pebble.Set([]byte{9, 9}, nil, pebble.Sync) },
		"high-water mark": func(d *DB) error {
			d.marks.turn <- struct{}{}
			b := encodeHighWater(highWaterFile{})
			b[4]++
			b = resum(b)
			return replaceFile(d.opts.FS, testDir, testDir+"/"+highWaterName, b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			d := mustOpen(t, options(t, fs))
			must(t, born(t, d, 7).StoreLogs(entries(11, 2, 5)))
			must(t, change(d))
			_, err := Open(options(t, crashed(fs)))
			if !errors.Is(err, kverr.Format) || !strings.Contains(err.Error(), "build") {
				t.Errorf("opened with %v", err)
			}
			if name == "high-water mark" {
				<-d.marks.turn
			}
			mustClose(t, d)
		})
	}
}

func TestDamagedRecordsAreCorruption(t *testing.T) {
	for name, change := range map[string]func(*pebble.DB) error{
		"short boundary": func(p *pebble.DB) error { return p.Set(recordKey(7, kindBoundary), []byte{valueFormat}, pebble.Sync) },
		"long term":      func(p *pebble.DB) error { return p.Set(recordKey(7, kindTerm), make([]byte, 30), pebble.Sync) },
		"no boundary":    func(p *pebble.DB) error { return p.Delete(recordKey(7, kindBoundary), pebble.Sync) },
		"hole":           func(p *pebble.DB) error { return p.Delete(entryKey(7, 11), pebble.Sync) },
		"bad format key": func(p *pebble.DB) error { return p.Set(formatKey, nil, pebble.Sync) },
		"empty entry":    func(p *pebble.DB) error { return p.Set(entryKey(7, 12), []byte{valueFormat}, pebble.Sync) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			d := openDisk(t, fs)
			must(t, born(t, d, 7).StoreLogs(entries(11, 2, 5)))
			must(t, change(d.pebble))
			_, err := Open(options(t, crashed(fs)))
			var damage *CorruptError
			if !errors.As(err, &damage) && !errors.Is(err, kverr.Format) {
				t.Errorf("opened with %v", err)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := options(t, vfs.NewMem())
	for _, spoil := range []func(*Options){
		func(o *Options) { o.Dir = "" }, func(o *Options) { o.Fatal = nil }, func(o *Options) { o.SyncPacing = -1 },
	} {
		o := good
		spoil(&o)
		if _, err := Open(o); !errors.Is(err, kverr.Invalid) {
			t.Errorf("opened with %v", err)
		}
	}
}

func TestCloseTwiceAndAfter(t *testing.T) {
	fs := vfs.NewMem()
	d := mustOpen(t, options(t, fs))
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 3, 5)))
	mustClose(t, d)
	mustClose(t, d)
	if err := d.Birth([]Birth{{8, 1, 10, 5}}); !errors.Is(err, kverr.Closed) {
		t.Errorf("birth after close: %v", err)
	}
	if !neverAnswers(func() { g.StoreLogs(entries(14, 1, 5)) }) {
		t.Error("raft was answered after close")
	}
	wantEntries(t, openDisk(t, fs).Group(7), 10, entries(11, 3, 5))
}

// neverAnswers runs fn in a goroutine and reports that it ended it.
func neverAnswers(fn func()) bool {
	answered, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		fn()
		answered = true
	}()
	<-ended
	return !answered
}

// Readers run beside truncations: what they find missing must be truncated by
// then, or it would be taken for damage and stop the node.
func TestReadersMeetTruncations(t *testing.T) {
	o := options(t, vfs.NewMem())
	o.LogCacheBytes = -1
	d := mustOpen(t, o)
	defer mustClose(t, d)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 1, 5)))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var l raft.Log
			for {
				select {
				case <-stop:
					return
				default:
				}
				low, _ := g.FirstIndex()
				high, _ := g.LastIndex()
				for index := high; index >= low; index-- {
					if err := g.GetLog(index, &l); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
						t.Errorf("entry %d: %v", index, err)
						return
					}
				}
			}
		})
	}
	for range 300 {
		end := last(t, g)
		must(t, g.StoreLogs(entries(end+1, 4, 5)))
		must(t, g.DeleteRange(end+3, end+4))
		must(t, g.DeleteRange(first(t, g), end+1))
	}
	close(stop)
	wg.Wait()
}
