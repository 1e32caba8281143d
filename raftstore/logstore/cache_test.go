package logstore

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func TestCacheIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCache(10_000)
		newest := make(map[cacheKey]uint64) // term of the last put
		for range rapid.IntRange(1, 300).Draw(t, "puts") {
			key := cacheKey{rapid.Uint64Range(1, 3).Draw(t, "group"), rapid.Uint64Range(1, 40).Draw(t, "index")}
			size := rapid.IntRange(0, 1500).Draw(t, "size")
			l := raft.Log{Index: key.index, Term: rapid.Uint64().Draw(t, "term"), Data: make([]byte, size)}
			c.put(key.group, &l)
			newest[key] = l.Term

			var used int64
			count := 0
			for e := c.oldest; e != nil; e = e.next {
				used += cachedSize(&e.log)
				count++
			}
			if used != c.used || used > c.limit || count != len(c.entries) {
				t.Fatalf("holds %d bytes in %d entries, counts %d in %d, limit %d", used, count, c.used, len(c.entries), c.limit)
			}
		}
		for key, term := range newest {
			var l raft.Log
			if c.get(key.group, key.index, &l) && (l.Term != term || l.Index != key.index) {
				t.Fatalf("%v: a stale entry %+v", key, l)
			}
		}
	})
}

func TestCacheDropsTheOldestFirst(t *testing.T) {
	c := newCache(20 * (cachedOverhead + 100))
	for i := range uint64(30) {
		c.put(i%3, &raft.Log{Index: i, Data: make([]byte, 100)})
	}
	var l raft.Log
	for i := range uint64(30) {
		if got := c.get(i%3, i, &l); got != (i >= 10) {
			t.Errorf("entry %d cached: %t", i, got)
		}
	}
}

func TestReadsWithoutCache(t *testing.T) {
	o := options(t, vfs.NewMem())
	o.LogCacheBytes = -1
	d := mustOpen(t, o)
	defer mustClose(t, d)
	g := born(t, d, 7)
	logs := entries(11, 30, 5)
	must(t, g.StoreLogs(logs))
	wantEntries(t, g, 10, logs)
	must(t, g.DeleteRange(10, 20))
	must(t, d.pebble.Flush())
	wantEntries(t, g, 20, logs[9:])
}
