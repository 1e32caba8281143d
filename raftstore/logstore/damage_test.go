package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

// A flipped bit or a missing byte in any record, or in its key, is refused at
// start: each of them decides who votes or what a log is.
func TestDamagedRecordsAreRefused(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := mustOpen(t, options(t, fs))
	must(t, born(t, d, 7).StoreLogs(entries(11, 3, 5)))
	must(t, castVote(d.Group(7), 5, "a"))
	must(t, d.MarkIngest(7, 40, 6))
	must(t, d.Retire(8, 3))
	must(t, d.Quarantine(9, 4, "bad"))
	mustClose(t, d)
	path := testDir + "/" + databaseName
	records := map[string][]byte{
		"boundary": recordKey(7, kindBoundary), "term": recordKey(7, kindTerm), "vote": recordKey(7, kindVote),
		"marker":    recordKey(7, kindIngest),
		"tombstone": memberKey(kindRetired, Member{8, 3}), "quarantine": memberKey(kindQuarantined, Member{9, 4}),
	}
	for name, key := range records {
		t.Run(name, func(t *testing.T) {
			damage := func(what string, change func(p *pebble.DB, value []byte) error) {
				hurt := crashed(fs)
				p, err := pebble.Open(path, &pebble.Options{FS: hurt, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{d}})
				must(t, err)
				v, closer, err := p.Get(key)
				must(t, err)
				v = bytes.Clone(v)
				must(t, closer.Close())
				must(t, change(p, v))
				must(t, p.Close())
				d, err := Open(options(t, hurt))
				if err == nil {
					mustClose(t, d)
				}
				var lost *CorruptError
				if !errors.As(err, &lost) && !errors.Is(err, kverr.Format) {
					t.Errorf("%s: opened with %v", what, err)
				}
			}
			for i := range key {
				damage(fmt.Sprintf("bit in byte %d of the key", i), func(p *pebble.DB, v []byte) error {
					other := bytes.Clone(key)
					other[i] ^= 1
					return errors.Join(p.Delete(key, nil), p.Set(other, v, pebble.Sync))
				})
			}
			var size int
			damage("last byte", func(p *pebble.DB, v []byte) error {
				size = len(v)
				return p.Set(key, v[:len(v)-1], pebble.Sync)
			})
			for i := range size {
				damage(fmt.Sprintf("bit in byte %d of %d", i, size), func(p *pebble.DB, v []byte) error {
					v[i] ^= 1
					return p.Set(key, v, pebble.Sync)
				})
			}
			damage("one byte more", func(p *pebble.DB, v []byte) error { return p.Set(key, append(v, 0), pebble.Sync) })
			damage("empty", func(p *pebble.DB, _ []byte) error { return p.Set(key, nil, pebble.Sync) })
		})
	}
}

// A body of the wrong length is refused also where its checksum is right.
func TestRecordsOfAnotherLengthAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ key, body []byte }{
		"short boundary":            {recordKey(7, kindBoundary), numbers(10, 5)},
		"long term":                 {recordKey(7, kindTerm), numbers(5, 5)},
		"short vote":                {recordKey(7, kindVote), []byte{1}},
		"long marker":               {recordKey(7, kindIngest), numbers(40, 6, 1)},
		"long tombstone":            {memberKey(kindRetired, Member{8, 3}), []byte{1}},
		"old marker":                {recordKey(7, kindIngest), numbers(10, 5)},
		"tombstone of what is here": {memberKey(kindRetired, Member{7, 1}), nil},
		"marker without a birth":    {recordKey(9, kindIngest), numbers(10, 5)},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			d := mustOpen(t, options(t, fs))
			must(t, born(t, d, 7).StoreLogs(entries(11, 3, 5)))
			must(t, d.pebble.Set(c.key, seal(c.key, c.body), pebble.Sync))
			left := crashed(fs)
			mustClose(t, d)
			d, err := Open(options(t, left))
			if err == nil {
				mustClose(t, d)
			}
			var damage *CorruptError
			if !errors.As(err, &damage) {
				t.Errorf("opened with %v", err)
			}
		})
	}
}

// A flipped byte in what an acknowledged change wrote to the WAL is refused, or
// costs nothing.
func TestL3_FlippedByteOfAChange(t *testing.T) {
	for _, c := range changes() {
		if c.lazy {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			o := options(t, fs)
			o.MemTableBytes = 8 << 20
			d := mustOpen(t, o)
			g := born(t, d, 7)
			must(t, g.StoreLogs(entries(11, 5, 5)))
			must(t, castVote(g, 5, "a"))
			must(t, c.setup(d))
			old, err := describe(d)
			must(t, err)
			before := walEnd(t, fs)
			must(t, c.call(d))
			must(t, d.marks.write()) // a second later
			want, err := describe(d)
			must(t, err)
			disk := crashed(fs)
			mustClose(t, d)
			wal := newestWAL(t, disk)
			after := walEnd(t, disk)
			if after <= before {
				t.Fatalf("the change wrote nothing: %d to %d", before, after)
			}
			refused := 0
			for at := before; at < after; at++ {
				hurt := crashed(disk)
				b := readFile(t, hurt, wal)
				b[at] ^= 0x10
				writeFile(t, hurt, wal, b)
				o.FS = hurt
				d, err := Open(o)
				if err != nil {
					refused++
					continue
				}
				got, err := describe(d)
				if err != nil || got != want && !(c.heals && got == old) {
					t.Errorf("byte %d of %d..%d flipped: %v\n%s\nwant\n%s", at, before, after, err, got, want)
				}
				mustClose(t, d)
			}
			if refused == 0 && !c.heals {
				t.Error("no flip was refused")
			}
		})
	}
}

// walEnd is where the zeros begin that end the newest log.
func walEnd(t testing.TB, fs vfs.FS) int {
	t.Helper()
	return len(bytes.TrimRight(readFile(t, fs, newestWAL(t, fs)), "\x00"))
}
