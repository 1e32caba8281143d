package logstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// describe says all that a database answers.
func describe(d *DB) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "retired %v, quarantined %v\n", d.Retired(), d.Quarantined())
	for _, group := range d.Groups() {
		info := d.Info(group)
		info.Bytes = 0 // an estimate
		ingest := info.Ingest
		info.Ingest = nil
		var m twin
		if info.Boundary != 0 {
			var err error
			if m, err = readTwin(d.Group(group)); err != nil {
				return "", err
			}
			m.retired = 0 // listed above
		}
		fmt.Fprintf(&b, "group %d: %+v, ingest %v, %s:", group, info, ingest, m)
		for _, l := range m.logs {
			fmt.Fprintf(&b, " %d/%d/%d/%s", l.Index, l.Term, l.Type, l.Data)
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// change is one call that must be whole or not at all wherever a crash falls.
type change struct {
	name  string
	setup func(*DB) error
	call  func(*DB) error
	lazy  bool // it may be lost after it was answered
	heals bool // a loss of it brings back the marker by which boot does it again
}

func changes() []change {
	nothing := func(*DB) error { return nil }
	long := func(d *DB) error { return d.Group(7).StoreLogs(entries(16, 20, 6)) }
	mark := func(index uint64) func(*DB) error { return func(d *DB) error { return d.MarkIngest(7, index, 9) } }
	both := func(calls ...func(*DB) error) func(*DB) error {
		return func(d *DB) error {
			for _, call := range calls {
				if err := call(d); err != nil {
					return err
				}
			}
			return nil
		}
	}
	retire := func(group, replica uint64) func(*DB) error {
		return func(d *DB) error { return d.Retire(group, replica) }
	}
	quarantine := func(group, replica uint64) func(*DB) error {
		return func(d *DB) error { return d.Quarantine(group, replica, "bad") }
	}
	finish := func(d *DB) error { return d.FinishIngest(7) }
	drop := func(d *DB) error { return d.DropIngest(7) }
	birth := func(group, replica, index uint64) func(*DB) error {
		return func(d *DB) error { return d.Birth([]Birth{{group, replica, index, 5}}) }
	}
	truncate := func(upTo uint64) func(*DB) error {
		return func(d *DB) error { return d.Group(7).Truncate(upTo) }
	}
	flush := func(d *DB) error { return d.pebble.Flush() }
	synced := func(d *DB) error { return d.Group(8).SetUint64([]byte(keyCurrentTerm), 6) }
	sweep := func(d *DB) error {
		due, err := d.truncatedSpans()
		return errors.Join(err, d.excise(due))
	}
	return []change{
		{"mark", nothing, mark(50), false, false},
		{"drop", mark(50), drop, false, true},
		{"drop after truncation", both(long, truncate(20), mark(50)), drop, false, true},
		{"mark again after drop", both(mark(50), drop), mark(40), false, false},
		{"finish past the end", mark(50), finish, false, true},
		{"finish at the end", both(long, mark(35)), finish, false, true},
		{"finish, tail left", both(long, mark(20)), finish, false, true},
		{"finish after conflict", both(long, func(d *DB) error { return d.Group(7).StoreLogs(entries(18, 2, 7)) }, mark(18)), finish, false, true},
		{"finish a second one", both(mark(50), finish, mark(60)), finish, false, true},
		{"append after ingest", both(mark(50), finish), func(d *DB) error { return d.Group(7).StoreLogs(entries(51, 2, 9)) }, false, false},
		{"conflict after ingest", both(long, mark(20), finish), func(d *DB) error { return d.Group(7).StoreLogs(entries(21, 2, 9)) }, false, false},
		{"suffix after ingest", both(long, mark(20), finish), func(d *DB) error { return d.Group(7).DeleteRange(21, 35) }, true, false},
		{"truncate", long, truncate(20), true, false},
		{"truncate after ingest", both(long, mark(20), finish), truncate(30), true, false},
		{"sweep", both(long, flush, truncate(20), flush), sweep, true, false},
		{"sweep what is not flushed", both(long, truncate(20), synced), sweep, true, false},
		{"sweep after ingest", both(long, mark(20), finish, flush), sweep, true, false},
		{"sweep a retired log", both(long, flush, retire(7, 1), flush), sweep, true, false},
		{"retire", long, retire(7, 1), false, false},
		{"retire during ingest", mark(50), retire(7, 1), false, false},
		{"retire from quarantine", quarantine(7, 1), retire(7, 1), false, false},
		{"retire a newborn", birth(9, 4, 10), retire(9, 4), false, false},
		{"retire a stranger", nothing, retire(7, 3), false, false},
		{"retire another group", nothing, retire(99, 1), false, false},
		{"quarantine", nothing, quarantine(7, 1), false, false},
		{"quarantine a stranger", retire(7, 3), quarantine(7, 4), false, false},
		{"birth", nothing, birth(9, 4, 10), false, false},
		{"birth after voting", func(d *DB) error { return d.Group(9).SetUint64([]byte(keyCurrentTerm), 8) }, birth(9, 4, 10), false, false},
		{"rebirth below", both(long, retire(7, 1)), birth(7, 2, 10), false, false},
		{"rebirth and append", both(long, retire(7, 1), birth(7, 2, 12)), func(d *DB) error { return d.Group(7).StoreLogs(entries(13, 1, 5)) }, false, false},
		{"retire the second", both(retire(7, 1), birth(7, 2, 20)), retire(7, 2), false, false},
	}
}

// TestL2_L3_CrashAtEveryStep takes the disk before every write, sync and rename
// that a change makes, with none, half or all of what is not synced. What is left
// opens, is as before or as after, and the change can be made again.
func TestL2_L3_CrashAtEveryStep(t *testing.T) {
	for _, c := range changes() {
		for _, marks := range []string{"fresh", "stale"} {
			t.Run(c.name+"/"+marks+" marks", func(t *testing.T) {
				crashAtEveryStep(t, c, marks == "fresh")
			})
		}
	}
}

func crashAtEveryStep(t *testing.T, c change, fresh bool) {
	fs := vfs.NewCrashableMem()
	var mu sync.Mutex
	armed, seed := false, uint64(0)
	type left struct {
		fs  *vfs.MemFS
		how string
	}
	var clones []left
	take := func(at string) {
		for _, kept := range []int{0, 50, 100} {
			seed++
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rand.New(rand.NewPCG(seed, 1))}
			clones = append(clones, left{fs.CrashClone(cfg), fmt.Sprintf("%s, %d %% kept", at, kept)})
		}
	}
	disk := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			take(fmt.Sprintf("before operation %d on %s", op.Kind, op.Path))
		}
		return nil
	}))
	o := options(t, disk)
	d := mustOpen(t, o)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 5, 5)))
	setTerm(t, g, 6)
	must(t, castVote(g, 6, "a"))
	must(t, born(t, d, 8).StoreLogs(entries(11, 3, 5)))
	must(t, c.setup(d))
	if fresh {
		must(t, d.marks.write())
	}
	before, err := describe(d)
	must(t, err)
	mu.Lock()
	armed = true
	mu.Unlock()
	must(t, c.call(d))
	mu.Lock()
	armed = false
	steps := len(clones)
	take("after the answer")
	mu.Unlock()
	after, err := describe(d)
	must(t, err)
	mustClose(t, d)
	if !c.lazy && steps < 6 {
		t.Errorf("only %d crashes", steps)
	}
	for i, clone := range clones {
		o.FS = clone.fs
		d, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %v", clone.how, err)
		}
		got, err := describe(d)
		if err != nil || got != before && got != after {
			t.Fatalf("%s: %v\n%s\nwant before\n%sor after\n%s", clone.how, err, got, before, after)
		}
		if i >= steps && got != after && !c.lazy {
			t.Errorf("%s: it was answered and is gone", clone.how)
		}
		if got == before && before != after {
			err := c.call(d)
			got, err2 := describe(d)
			if err = errors.Join(err, err2); err != nil || got != after {
				t.Errorf("%s, made again: %v\n%s\nwant\n%s", clone.how, err, got, after)
			}
		}
		mustClose(t, d)
		o.FS = crashed(clone.fs)
		d, err = Open(o) // and what is made again is as sound
		if err != nil {
			t.Fatalf("%s, then once more: %v", clone.how, err)
		}
		mustClose(t, d)
	}
}
