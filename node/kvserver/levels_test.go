package kvserver

import (
	"context"
	"math"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
)

// level gives a get a level.
func level(op *kvv1.Operation, l kvv1.ReadLevel) *kvv1.Operation {
	op.Level = l
	return op
}

const (
	session = kvv1.ReadLevel_READ_LEVEL_SESSION
	bounded = kvv1.ReadLevel_READ_LEVEL_BOUNDED_STALE
	anyAge  = kvv1.ReadLevel_READ_LEVEL_ANY
)

// TestK2_OneReadPerLevel: reads of one frame and shard that one Read can serve go
// together, as strict as the strictest of them.
func TestK2_OneReadPerLevel(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		var specs []raftstore.ReadSpec
		var keys []int
		e.upper.onRead = func(r *raftstore.Read) {
			specs, keys = append(specs, r.ReadSpec), append(keys, len(r.Keys))
			r.Served = raftstore.ByFollower
			r.Done(make([]raftstore.Value, len(r.Keys)), 50, nil)
		}
		age := func(id, us uint64) *kvv1.Operation {
			op := level(get(id, "foo"), bounded)
			op.MaxAgeUs = us
			return op
		}
		token := func(id, version uint64) *kvv1.Operation {
			op := level(get(id, "foo"), session)
			op.MinVersion = version
			return op
		}
		near := get(9, "foo")
		near.AnyReplica = true
		loose := level(get(10, "foo"), anyAge)
		loose.MinVersion = 1000 // means nothing at this level
		a := e.open().do(get(1, "foo"), age(2, 5000), token(3, 40), get(4, "foo"), age(5, 1000), token(6, 20), loose, near, token(8, 51), token(7, 1<<53))
		want := map[raftstore.ReadSpec]int{
			{}: 2,
			{Level: raftstore.BoundedStale, MaxAge: time.Millisecond}: 2,
			{Level: raftstore.Session, MinVersion: 51}:                3,
			{Level: raftstore.Any}:                                    1,
			{AnyReplica: true}:                                        1,
		}
		if len(specs) != len(want) {
			t.Errorf("%d reads: %+v", len(specs), specs)
		}
		for i, spec := range specs {
			if want[spec] != keys[i] {
				t.Errorf("read %+v of %d keys", spec, keys[i])
			}
		}
		for id := range a {
			if id != 7 && (a[id].Error != nil || a[id].ServedBy != kvv1.ServedBy_SERVED_BY_FOLLOWER) {
				t.Errorf("answer %d: %v", id, a[id])
			}
		}
		// The shard is at 50, and the group has served 51 as far as the leader was: a
		// token of many shards may name what only another of them has given out.
		if a[8].ShardVersion != 50 {
			t.Errorf("answer 8 is as of %d", a[8].ShardVersion)
		}
		wantKind(t, a[7], kverr.Invalid, "no shard")
	})
}

// TestReadWishes: what a get asks for beside the value.
func TestReadWishes(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.data["foo"] = raftstore.Value{Found: true, Version: 7, Expires: 99, Data: []byte("v")}
		e.upper.version = 8
		known := func(id, version uint64) *kvv1.Operation {
			op := get(id, "foo")
			op.IfNotVersion = version
			return op
		}
		keysOnly := get(3, "foo")
		keysOnly.KeysOnly = true
		missing := known(5, 7)
		missing.Key = []byte("{foo}-")
		a := e.open().do(known(1, 7), known(2, 6), keysOnly, get(4, "foo"), missing)
		for id, want := range map[uint64]struct {
			value       string
			notModified bool
		}{1: {"", true}, 2: {"v", false}, 3: {"", false}, 4: {"v", false}} {
			got := a[id]
			if string(got.Value) != want.value || got.NotModified != want.notModified || !got.Found || got.Version != 7 || got.ExpiresUs != 99 {
				t.Errorf("answer %d: %v", id, got)
			}
		}
		if a[5].Found || a[5].NotModified || a[5].Error != nil {
			t.Errorf("a missing key: %v", a[5])
		}
		r, err := e.client.Get(context.Background(), &kvv1.GetRequest{Key: []byte("foo"), IfNotVersion: 7})
		if err != nil || !r.NotModified || r.Value != nil || r.ExpiresUs != 99 {
			t.Errorf("unary: %v, %v", r, err)
		}
		r, err = e.client.Get(context.Background(), &kvv1.GetRequest{Key: []byte("foo"), KeysOnly: true, Level: anyAge})
		if err != nil || !r.Found || r.Value != nil || r.ServedBy != kvv1.ServedBy_SERVED_BY_REPLICA {
			t.Errorf("unary: %v, %v", r, err)
		}
		_, err = e.client.Get(context.Background(), &kvv1.GetRequest{Key: []byte("foo"), Level: session, MinVersion: 1 << 53})
		if kverr.KindOf(wire.ErrorFromStatus(err, wire.Unsent)) != kverr.Invalid {
			t.Errorf("unary with a version that cannot be: %v", err)
		}
	})
}

func TestLevelsThatMeanNothing(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		age := level(get(2, "foo"), bounded)
		age.MaxAgeUs = math.MaxUint64
		a := e.open().do(level(get(1, "foo"), 4), age, level(get(3, "foo"), -1))
		for id := range a {
			wantKind(t, a[id], kverr.Invalid, "")
		}
		if _, reads := e.upper.calls(); len(reads) != 0 {
			t.Errorf("%d reads reached the group", len(reads))
		}
	})
}
