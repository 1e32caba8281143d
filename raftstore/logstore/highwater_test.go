package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func readFile(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return b
}

func writeFile(t testing.TB, fs vfs.FS, path string, b []byte) {
	t.Helper()
	must(t, replaceFile(fs, fs.PathDir(path), path, b))
}

const highWaterPath = testDir + "/" + highWaterName

// Each case acknowledges something, loses it, and keeps the mark: what is left
// of a disk whose log ends in damage.
func TestL3_ShorterLogIsCorruption(t *testing.T) {
	for name, c := range map[string]struct {
		more func(*DB) error
		want CorruptError
	}{
		"ingest marker": {
			func(d *DB) error { return d.MarkIngest(7, 12, 6) },
			CorruptError{7, "index before the log", 10, 12, ""},
		},
		"finished ingest": {
			func(d *DB) error {
				return errors.Join(d.MarkIngest(7, 12, 6), d.FinishIngest(7))
			},
			CorruptError{7, "index before the log", 10, 12, ""},
		},
		"retirement": {
			func(d *DB) error { return d.Retire(8, 1) },
			CorruptError{0, "count of retired and quarantined replicas", 1, 3, ""},
		},
		"quarantine": {
			func(d *DB) error { return d.Quarantine(7, 1, "bad") },
			CorruptError{0, "count of retired and quarantined replicas", 1, 2, ""},
		},
		"retirement from quarantine": {
			func(d *DB) error { return d.Retire(8, 3) },
			CorruptError{0, "count of retired and quarantined replicas", 1, 2, ""},
		},
		"entries": {
			func(d *DB) error { return d.Group(7).StoreLogs(entries(16, 3, 5)) },
			CorruptError{7, "last index", 15, 18, ""},
		},
		"term": {
			func(d *DB) error { return d.Group(7).SetUint64([]byte(keyCurrentTerm), 9) },
			CorruptError{7, "current term", 6, 9, ""},
		},
		"vote": {
			func(d *DB) error { return castVote(d.Group(7), 6, "b") },
			CorruptError{7, "term of the last vote", 5, 6, ""},
		},
		"birth": {
			func(d *DB) error { return d.Birth([]Birth{{8, 1, 10, 5}}) },
			CorruptError{8, "last index", 0, 10, ""},
		},
		"conflict": {
			func(d *DB) error { return d.Group(7).StoreLogs(entries(14, 1, 6)) },
			CorruptError{7, "term of entry 14", 5, 6, ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			d := mustOpen(t, options(t, fs))
			g := born(t, d, 7)
			must(t, g.StoreLogs(entries(11, 5, 5)))
			must(t, castVote(g, 5, "a"))
			setTerm(t, g, 6)
			must(t, d.Quarantine(8, 3, "bad"))
			short := crashed(fs)
			must(t, c.more(d))
			mustClose(t, d)
			writeFile(t, short, highWaterPath, readFile(t, fs, highWaterPath))

			_, err := Open(options(t, short))
			var got *CorruptError
			if !errors.As(err, &got) || *got != c.want {
				t.Fatalf("opened with %v", err)
			}
			named := fmt.Sprintf("group %d", c.want.Group)
			if c.want.Group == 0 {
				named = c.want.What
			}
			if text := err.Error(); !strings.Contains(text, named) || !strings.Contains(text, "wipe") {
				t.Errorf("the error does not say what to do: %s", text)
			}
			boundary, logs := wholeLog(entries(11, 5, 5), name)
			wantEntries(t, openDisk(t, fs).Group(7), boundary, logs)
		})
	}
}

// wholeLog is the log after each case above, where nothing is lost.
func wholeLog(logs []*raft.Log, name string) (boundary uint64, _ []*raft.Log) {
	switch name {
	case "entries":
		return 10, append(logs, entries(16, 3, 5)...)
	case "conflict":
		return 10, append(logs[:3], entries(14, 1, 6)...)
	case "finished ingest":
		return 12, logs[2:]
	}
	return 10, logs
}

// A flipped byte anywhere in the newest WAL is refused, by Pebble or by the mark,
// or costs nothing. Without the flush at creation or without the mark it silently
// costs acknowledged entries.
func TestL3_FlippedByteInTheLog(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := options(t, fs)
	o.MemTableBytes = 8 << 20 // one WAL for all
	d := mustOpen(t, o)
	g := born(t, d, 7)
	want := entries(11, 1200, 5)
	for _, l := range want {
		l.Data = make([]byte, 100)
	}
	for i := range want {
		must(t, g.StoreLogs(want[i:i+1]))
	}
	must(t, d.marks.write())
	disk := crashed(fs)
	mustClose(t, d)
	wal := newestWAL(t, disk)
	size := len(readFile(t, disk, wal))
	refused := 0
	for _, where := range []float64{0.01, 0.3, 0.6, 0.9, 0.97, 0.98, 0.99, 0.999} {
		hurt := crashed(disk)
		b := readFile(t, hurt, wal)
		b[int(float64(size)*where)] ^= 0x40
		writeFile(t, hurt, wal, b)
		if where < 0.7 { // Pebble's own part, which the mark would hide
			p, err := pebble.Open(testDir+"/"+databaseName, &pebble.Options{
				FS: crashed(hurt), FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{d},
			})
			if err == nil {
				t.Errorf("Pebble opened a log with a flipped byte at %g of it", where)
				must(t, p.Close())
			}
		}
		o.FS = hurt
		d, err := Open(o)
		if err != nil {
			refused++
			continue
		}
		wantEntries(t, d.Group(7), 10, want)
		mustClose(t, d)
	}
	if refused < 6 {
		t.Errorf("only %d of 8 damaged logs refused", refused)
	}
}

// newestWAL finds the log with most bytes in it.
func newestWAL(t testing.TB, fs vfs.FS) string {
	t.Helper()
	dir := testDir + "/" + databaseName
	names, err := fs.List(dir)
	must(t, err)
	best, most := "", 0
	for _, name := range names {
		if n := len(readFile(t, fs, dir+"/"+name)); strings.HasSuffix(name, ".log") && n > most {
			best, most = dir+"/"+name, n
		}
	}
	return best
}

// The mark on disk must be lowered before the truncation can be durable, however
// the crash falls between them.
func TestL3_MarkFallsBeforeTruncation(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var afterLower, afterBatch *vfs.MemFS
	o := options(t, fs)
	armed := false
	o.BeforeSync = func() {
		if armed {
			afterLower = crashed(fs)
		}
	}
	d := mustOpen(t, o)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 10, 5)))
	must(t, d.marks.write())
	armed = true
	must(t, g.StoreLogs(entries(13, 2, 6)))
	armed = false
	afterBatch = crashed(fs)
	mustClose(t, d)
	wantEntries(t, openDisk(t, afterLower).Group(7), 10, entries(11, 10, 5))
	wantEntries(t, openDisk(t, afterBatch).Group(7), 10, append(entries(11, 2, 5), entries(13, 2, 6)...))
}

func TestL3_MarkIsRefreshedOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		d := mustOpen(t, options(t, fs))
		g := born(t, d, 7)
		markOf := func() mark {
			file, _, err := readHighWater(crashed(fs), testDir)
			must(t, err)
			return file.marks[7]
		}
		time.Sleep(3 * time.Second)
		must(t, g.StoreLogs(entries(11, 1, 5)))
		synctest.Wait()
		if m := markOf(); m.last != 11 {
			t.Errorf("after an idle time the mark is %+v", m)
		}
		must(t, g.StoreLogs(entries(12, 1, 5)))
		time.Sleep(markInterval / 2)
		if m := markOf(); m.last != 11 {
			t.Errorf("written again within a second: %+v", m)
		}
		time.Sleep(markInterval)
		if m := markOf(); m.last != 12 || m.lastTerm != 5 || m.term != 5 {
			t.Errorf("a second later the mark is %+v", m)
		}
		must(t, g.StoreLogs(entries(13, 1, 5)))
		mustClose(t, d)
		if m := markOf(); m.last != 13 {
			t.Errorf("after close the mark is %+v", m)
		}
	})
}

// A birth that is lost with all that followed it looks like a crash before the
// birth, which boot repairs by a second one: the votes would be forgotten.
func TestL3_MarkKnowsTheNewborn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		d := mustOpen(t, options(t, fs))
		born(t, d, 7)
		synctest.Wait() // the keeper pauses for a second now
		born(t, d, 8)
		file, _, err := readHighWater(crashed(fs), testDir)
		must(t, err)
		if want := (mark{last: 10, lastTerm: 5, term: 5, floor: 10}); file.marks[8] != want {
			t.Errorf("mark of the newborn is %+v", file.marks[8])
		}
		mustClose(t, d)
	})
}

// What keeps a replica from voting, or a stale entry from being sent, is known to
// the mark before it is answered.
func TestL3_MarkKnowsOrdersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		d := mustOpen(t, options(t, fs))
		born(t, d, 7)
		born(t, d, 8)
		synctest.Wait() // the keeper pauses for a second now
		file := func() highWaterFile {
			f, _, err := readHighWater(crashed(fs), testDir)
			must(t, err)
			return f
		}
		must(t, d.MarkIngest(7, 40, 6))
		if m := file().marks[7]; m.floor != 40 {
			t.Errorf("after an ingest was marked: %+v", m)
		}
		must(t, d.Quarantine(8, 1, "bad"))
		if n := file().members; n != 1 {
			t.Errorf("after a quarantine: %d", n)
		}
		must(t, d.Retire(8, 1))
		if f := file(); f.members != 2 || f.marks[8] != (mark{}) {
			t.Errorf("after a retirement: %+v", f)
		}
		mustClose(t, d)
	})
}

func TestL3_MissingMark(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := mustOpen(t, options(t, fs))
	mustClose(t, d)
	must(t, fs.Remove(highWaterPath)) // creation cut short: no group can exist
	d = mustOpen(t, options(t, fs))
	born(t, d, 7)
	mustClose(t, d)
	must(t, fs.Remove(highWaterPath))
	var damage *CorruptError
	if _, err := Open(options(t, fs)); !errors.As(err, &damage) {
		t.Errorf("opened with %v", err)
	}

	fs = vfs.NewCrashableMem() // nothing but tombstones
	d = mustOpen(t, options(t, fs))
	must(t, d.Retire(7, 1))
	mustClose(t, d)
	must(t, fs.Remove(highWaterPath))
	if _, err := Open(options(t, fs)); !errors.As(err, &damage) {
		t.Errorf("opened with %v", err)
	}
}

// A mark that lags, as after a crash before it was written, catches up.
func TestL3_LaggingMarkCatchesUp(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := mustOpen(t, options(t, fs))
	old := readFile(t, fs, highWaterPath)
	must(t, born(t, d, 7).StoreLogs(entries(11, 5, 5)))
	must(t, d.Retire(8, 1))
	mustClose(t, d)
	want := readFile(t, fs, highWaterPath)
	writeFile(t, fs, highWaterPath, old)
	mustClose(t, mustOpen(t, options(t, fs)))
	if got := readFile(t, fs, highWaterPath); string(got) != string(want) {
		t.Errorf("the mark says %x, want %x", got, want)
	}
}

func TestL3_DamagedMark(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := mustOpen(t, options(t, fs))
	born(t, d, 7)
	mustClose(t, d)
	good := readFile(t, fs, highWaterPath)
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		if _, err := decodeHighWater(bad); err == nil {
			t.Errorf("a flipped bit in byte %d of %d was accepted", i, len(good))
		}
		if _, err := decodeHighWater(good[:i]); err == nil {
			t.Errorf("%d of %d bytes were accepted", i, len(good))
		}
	}
	writeFile(t, fs, highWaterPath, good[:8])
	var damage *CorruptError
	if _, err := Open(options(t, fs)); !errors.As(err, &damage) {
		t.Errorf("opened with %v", err)
	}
}

func resum(b []byte) []byte {
	body := b[:len(b)-highWaterTrailer]
	return binary.BigEndian.AppendUint32(body[:len(body):len(body)], crc32.Checksum(body, castagnoli))
}

func TestHighWaterRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64()
		marks := rapid.MapOfN(u, rapid.Custom(func(t *rapid.T) mark {
			return mark{u.Draw(t, "last"), u.Draw(t, "last term"), u.Draw(t, "term"), u.Draw(t, "vote"), u.Draw(t, "floor")}
		}), 0, 20).Draw(t, "marks")
		file := highWaterFile{u.Draw(t, "members"), marks}
		got, err := decodeHighWater(encodeHighWater(file))
		if err != nil || got.members != file.members || !maps.Equal(got.marks, marks) {
			t.Fatalf("%v: %v", got, err)
		}
	})
}

func FuzzHighWater(f *testing.F) {
	f.Add(encodeHighWater(highWaterFile{}))
	f.Add(encodeHighWater(highWaterFile{3, map[uint64]mark{1: {2, 3, 4, 5, 6}, 6: {}}}))
	f.Add([]byte("RFHW"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > highWaterTrailer {
			b = resum(b) // or nothing would get past the checksum
		}
		file, err := decodeHighWater(b)
		if err == nil {
			again, err := decodeHighWater(encodeHighWater(file))
			if err != nil || again.members != file.members || !maps.Equal(again.marks, file.marks) {
				t.Fatalf("%v: %v", again, err)
			}
		}
	})
}
