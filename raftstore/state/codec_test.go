package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func wantKind(t interface {
	Helper()
	Fatalf(string, ...any)
}, what string, err error, kind kverr.Kind) {
	t.Helper()
	if err == nil || !errors.Is(err, kind) {
		t.Fatalf("%s: got error %v, want kind %v", what, err, kind)
	}
}

// checkStrict asserts that decode accepts good and nothing near it: no prefix,
// nothing appended, no other format.
func checkStrict(t *rapid.T, good []byte, decode func([]byte) error) {
	if err := decode(good); err != nil {
		t.Fatalf("decoding %x: %v", good, err)
	}
	for n := range good {
		if err := decode(good[:n]); err == nil {
			t.Fatalf("%x decodes cut at %d", good, n)
		}
	}
	wantKind(t, "appended byte", decode(append(bytes.Clone(good), 0)), kverr.Internal)
	newer := bytes.Clone(good)
	newer[0]++
	wantKind(t, "newer format", decode(newer), kverr.Format)
}

func TestValueRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.Uint64Range(1, MaxVersion).Draw(t, "version")
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		want := Value{Version: version, Expires: rapid.Uint64Max(MaxVersion).Draw(t, "deadline"), Data: data}
		v, err := DecodeValue(want.AppendTo(nil))
		if err != nil || v.Version != version || v.Expires != want.Expires || !bytes.Equal(v.Data, data) {
			t.Fatalf("%+v decodes as %+v, %v", want, v, err)
		}
	})
}

func TestValueRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		b    []byte
		kind kverr.Kind
	}{
		{"empty", nil, kverr.Internal},
		{"format 0", append([]byte{0, 0}, make([]byte, 8)...), kverr.Format},
		{"format 2", stored(1, nil)[:1:1], kverr.Internal},
		{"newer format", []byte{2}, kverr.Format},
		{"unknown flag", []byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 1}, kverr.Format},
		{"cut short", []byte{1, 0, 0, 0, 0, 0, 0, 0, 0}, kverr.Internal},
		{"no room for a deadline", []byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0}, kverr.Internal},
		{"deadline 0", append(stored(1, nil)[:1:1], 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), kverr.Internal},
		{"version 0", stored(0, []byte("x")), kverr.Internal},
		{"version 2^53", stored(MaxVersion+1, []byte("x")), kverr.Internal},
	} {
		_, err := DecodeValue(tc.b)
		wantKind(t, tc.name, err, tc.kind)
	}
}

func FuzzDecodeValue(f *testing.F) {
	f.Add(stored(1, []byte("value")))
	f.Add(stored(MaxVersion, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := DecodeValue(b); err == nil && !bytes.Equal(v.AppendTo(nil), b) {
			t.Fatalf("%x decodes to what is written as %x", b, v.AppendTo(nil))
		}
	})
}

func drawRecord(t *rapid.T) shardmap.Record {
	rec := shardmap.Record{
		Shard:       shardmap.SystemShard,
		Arc:         shardmap.SystemArc,
		ArcEpoch:    rapid.Uint64().Draw(t, "arc epoch"),
		MemberEpoch: rapid.Uint64().Draw(t, "member epoch"),
	}
	if rapid.Bool().Draw(t, "data shard") {
		rec.Shard = shardmap.ShardID(rapid.Uint64Min(2).Draw(t, "shard"))
		rec.Arc.From = shardmap.Slot(rapid.Uint16Max(shardmap.Slots-1).Draw(t, "from"))
		rec.Arc.To = shardmap.Slot(rapid.Uint16Range(uint16(rec.Arc.From)+1, shardmap.Slots).Draw(t, "to"))
	}
	ids := rapid.SliceOfNDistinct(rapid.Uint64Min(1), 1, 5, rapid.ID).Draw(t, "replicas")
	nodes := rapid.SliceOfNDistinct(rapid.StringMatching(`[0-9a-f]{40}`), len(ids), len(ids), rapid.ID).Draw(t, "nodes")
	for i, id := range ids {
		rec.Replicas = append(rec.Replicas, shardmap.Replica{
			ID:   shardmap.ReplicaID(id),
			Node: shardmap.NodeID(nodes[i]),
			Role: rapid.SampledFrom([]shardmap.Role{shardmap.Voter, shardmap.Learner}).Draw(t, "role"),
		})
	}
	return rec
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawRecord(t)
		b := appendRecord(nil, &rec)
		got, err := decodeRecord(b)
		if err != nil || !cmp.Equal(got, rec) {
			t.Fatalf("%v\n%s", err, cmp.Diff(rec, got))
		}
		checkStrict(t, b, func(b []byte) error { _, err := decodeRecord(b); return err })
	})
}

func TestRecordRefused(t *testing.T) {
	good := testRecord()
	for name, change := range map[string]func(*shardmap.Record){
		"no shard":              func(r *shardmap.Record) { r.Shard = 0 },
		"empty arc":             func(r *shardmap.Record) { r.Arc.To = r.Arc.From },
		"data shard, system":    func(r *shardmap.Record) { r.Arc = shardmap.SystemArc },
		"data shard, over end":  func(r *shardmap.Record) { r.Arc.To = shardmap.SlotEnd },
		"system shard, data":    func(r *shardmap.Record) { r.Shard = shardmap.SystemShard },
		"system shard, too big": func(r *shardmap.Record) { r.Shard, r.Arc.To = shardmap.SystemShard, shardmap.SlotEnd },
		"no replica":            func(r *shardmap.Record) { r.Replicas = nil },
		"too many replicas":     func(r *shardmap.Record) { r.Replicas = make([]shardmap.Replica, maxReplicas+1) },
		"replica id 0":          func(r *shardmap.Record) { r.Replicas[0].ID = 0 },
		"replica without node":  func(r *shardmap.Record) { r.Replicas[0].Node = "" },
		"replica without role":  func(r *shardmap.Record) { r.Replicas[0].Role = 0 },
		"replica id twice":      func(r *shardmap.Record) { r.Replicas[0].ID = r.Replicas[1].ID },
		"node twice":            func(r *shardmap.Record) { r.Replicas[0].Node = r.Replicas[1].Node },
	} {
		rec := good.Clone()
		change(&rec)
		_, err := decodeRecord(appendRecord(nil, &rec))
		wantKind(t, name+", decoded", err, kverr.Internal)
		wantKind(t, name+", born", Birth(newBatch(), rec, 10, 5, []byte("c")), kverr.Internal)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	rec := testRecord()
	f.Add(appendRecord(nil, &rec))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rec, err := decodeRecord(b); err == nil && !bytes.Equal(appendRecord(nil, &rec), b) {
			t.Fatalf("%x decodes to %+v", b, rec)
		}
	})
}

func TestPositionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := AppliedState{
			Index:       rapid.Uint64Min(1).Draw(t, "index"),
			Term:        rapid.Uint64Min(1).Draw(t, "term"),
			ShardTime:   rapid.Uint64Max(MaxVersion).Draw(t, "shard time"),
			LastVersion: rapid.Uint64Max(MaxVersion).Draw(t, "last version"),
		}
		b := a.appendPosition(nil)
		if got, err := decodePosition(b); err != nil || !cmp.Equal(got, a) {
			t.Fatalf("%+v decodes as %+v, %v", a, got, err)
		}
		checkStrict(t, b, func(b []byte) error { _, err := decodePosition(b); return err })
	})
}

func FuzzDecodePosition(f *testing.F) {
	a := AppliedState{Index: 10, Term: 5, ShardTime: 1 << 40, LastVersion: 1 << 41}
	f.Add(a.appendPosition(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := decodePosition(b); err == nil && !bytes.Equal(a.appendPosition(nil), b) {
			t.Fatalf("%x decodes to %+v", b, a)
		}
	})
}

func FuzzDecodeConfiguration(f *testing.F) {
	f.Add(appendConfiguration(nil, 10, []byte("configuration")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if raw, index, err := decodeConfiguration(b); err == nil && !bytes.Equal(appendConfiguration(nil, index, raw), b) {
			t.Fatalf("%x decodes to %d, %x", b, index, raw)
		}
	})
}

func TestCursorNearIsItsInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, v := rapid.Uint64().Draw(t, "base"), rapid.Uint64().Draw(t, "v")
		c := cursor{b: appendNear(nil, base, v)}
		if got := c.near(base); got != v || c.finish("it") != nil {
			t.Fatalf("%d from %d came back as %d", v, base, got)
		}
	})
}

func TestCursorRefusesNeedlessBytes(t *testing.T) {
	c := cursor{b: []byte{0x81, 0x00}}
	if c.uvarint(); c.ok() {
		t.Error("1 in two bytes was accepted")
	}
	c = cursor{b: binary.AppendUvarint(nil, 1<<20)}
	if c.count(1<<21, 1); c.ok() {
		t.Error("a count of more than the bytes left was accepted")
	}
}

// stored is the stored form of a value without a deadline.
func stored(version uint64, data []byte) []byte {
	v := Value{Version: version, Data: data}
	return v.AppendTo(nil)
}
