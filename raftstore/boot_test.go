package raftstore

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

func TestL2_BootJudgesWhatACrashLeft(t *testing.T) {
	sound := logstore.Info{Exists: true, Boundary: 10, FirstIndex: 10, LastIndex: 20}
	cases := []struct {
		name    string
		applied uint64
		log     logstore.Info
		rebirth bool
		refused bool
	}{
		{"newborn without a log", birthIndex, logstore.Info{}, true, false},
		{"state older than the log", 15, sound, false, false},
		{"state level with the log", 20, sound, false, false},
		{"state ahead of the log", 21, sound, false, true},
		{"used state without a log", 15, logstore.Info{}, false, true},
		{"log that begins after the state", 15, logstore.Info{Exists: true, Boundary: 16, FirstIndex: 16, LastIndex: 20}, false, true},
	}
	for _, c := range cases {
		rebirth, err := checkBoot(2, state.AppliedState{Index: c.applied}, c.log)
		if rebirth != c.rebirth || (err != nil) != c.refused {
			t.Errorf("%s: rebirth %t, error %v; want %t, refused %t", c.name, rebirth, err, c.rebirth, c.refused)
		}
	}
}

// A power cut between the record's flush and the log's boundary leaves a record
// without a log; the next start finishes the birth.
func TestL2_BirthIsFinishedAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		rec := record(2, wholeRing, 1, 2, 3)
		conf := raft.EncodeConfiguration(configurationOf(rec))
		for _, n := range c.nodes {
			batch := n.store.state.NewBatch()
			if err := state.Birth(batchWriter{batch}, rec, birthIndex, birthTerm, conf); err != nil {
				t.Fatal(err)
			}
			if err := batch.Commit(pebble.NoSync); err != nil {
				t.Fatal(err)
			}
			if err := n.store.state.Flush(); err != nil {
				t.Fatal(err)
			}
			n.crash()
		}
		for _, n := range c.nodes {
			n.start()
		}
		mustPut(t, c.leader(2), "a", "1")
	})
}

// A crash at any moment of a birth leaves either nothing or something that the
// next start makes whole: never a log without its record.
func TestL2_RecordIsDurableBeforeTheLogExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		rec := record(2, wholeRing, 1, 2, 3)
		c.create(rec)
		for _, n := range c.nodes {
			n.crash() // only synced bytes survive; nothing was ever written to the shard
		}
		for _, n := range c.nodes {
			n.start()
			if len(n.store.Groups()) != 1 {
				t.Fatal("the group's record was not durable although its log was")
			}
		}
		mustPut(t, c.leader(2), "a", "1")
	})
}

func TestL2_ALogWithoutARecordIsNeverCleaned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		n := c.nodes[nodeID(1)]
		if err := n.store.Create(context.Background(), []shardmap.Record{record(2, wholeRing, 1)}); err != nil {
			t.Fatal(err)
		}
		mustPut(t, c.leader(2), "a", "1")
		n.stop()
		if err := n.fs.RemoveAll("data/state"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second start must find the log as the first did
			n.listen()
			n.start()
			held := n.store.Quarantined()
			if len(held) != 1 || held[0].Shard != 2 || held[0].Replica != 200 {
				t.Fatalf("quarantined: %+v", held)
			}
			if _, runs := n.store.Group(2); runs {
				t.Fatal("a replica without its record runs")
			}
			if err := n.store.Create(context.Background(), []shardmap.Record{record(2, wholeRing, 1)}); kverr.KindOf(err) != kverr.Conflict {
				t.Fatalf("it was born again: %v", err)
			}
			if info := n.store.log.Info(2); info.LastIndex <= birthIndex {
				t.Fatalf("its log was cleaned: %+v", info)
			}
			n.stop()
		}
	})
}
