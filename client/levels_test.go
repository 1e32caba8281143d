package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// lagging makes all replicas but the leaders' apply only what they must.
func (m *model) lagging() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shards {
		for i, r := range s.replicas {
			r.lag = i != s.leader
		}
	}
}

func TestReadLevels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 1)
		m.lagging()
		c, ctx := m.w.open("n1:7400,n2:7400,n3:7400"), context.Background()
		s := NewSession()
		first, err := c.Put(ctx, "a", []byte("1"), WithSession(s))
		if err != nil {
			t.Fatal(err)
		}
		get := func(want string, by ServedBy, opts ...ReadOption) Item {
			t.Helper()
			item, err := c.Get(ctx, "a", opts...)
			if err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			if string(item.Value) != want || item.Served.By != by || item.Served.Node == "" {
				t.Fatalf("read %q by %v; want %q by %v", item.Value, item.Served, want, by)
			}
			return item
		}
		get("1", ServedByLeader)
		get("1", ServedByLeader, Linearizable())
		get("1", ServedByLeader, InSession(s))
		for range 2 { // both followers, in turn: neither has applied anything
			get("", ServedByReplica, Any(), FromFollower())
		}
		get("1", ServedByFollower, InSession(s), FromFollower())
		get("1", ServedByFollower, AtLeast(s.Token()), FromFollower())
		get("1", ServedByReplica, InSession(s), FromFollower()) // has it by now
		if _, err := c.Put(ctx, "a", []byte("2")); err != nil {
			t.Fatal(err)
		}
		// Somebody else's write need not be seen in the session.
		get("1", ServedByReplica, InSession(s), FromFollower())
		time.Sleep(time.Second)
		get("1", ServedByReplica, BoundedStale(time.Minute), FromFollower())
		get("2", ServedByFollower, BoundedStale(time.Millisecond), FromFollower())
		if _, err := c.Put(ctx, "a", []byte("3")); err != nil {
			t.Fatal(err)
		}
		item := get("3", ServedByFollower, FromFollower(), WithSession(s))
		if item.Served.ShardVersion != item.Version || s.Token().at(5) != item.Version || item.Version <= first.Version {
			t.Fatalf("%+v, %v", item, s.Token())
		}
		same, err := c.Get(ctx, "a", IfNotVersion(item.Version))
		if err != nil || !same.NotModified || same.Value != nil || same.Version != item.Version {
			t.Fatalf("%+v, %v", same, err)
		}
		if other, err := c.Get(ctx, "a", IfNotVersion(item.Version-1)); err != nil || other.NotModified || string(other.Value) != "3" {
			t.Fatalf("%+v, %v", other, err)
		}
		if bare, err := c.Get(ctx, "a", KeysOnly()); err != nil || bare.Value != nil || bare.Version != item.Version {
			t.Fatalf("%+v, %v", bare, err)
		}
		all, err := c.GetMany(ctx, []string{"a", "b"}, InSession(s), FromFollower())
		if err != nil || string(all[0].Item.Value) != "3" || !errors.Is(all[1].Err, ErrNotFound) {
			t.Fatal(all, err)
		}
	})
}

// A read that prefers followers goes on to others, and in the end to the leader.
func TestReplicaReadsFindTheirWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 1)
		c := m.w.open("n1:7400,n2:7400,n3:7400")
		if _, err := c.Put(within(t, time.Minute), "a", nil); err != nil {
			t.Fatal(err)
		}
		for name, kind := range map[string]kvv1.ErrorKind{
			"not leader": kvv1.ErrorKind_ERROR_KIND_NOT_LEADER, "unavailable": kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE,
		} {
			m.before = func(n *fakeNode, op *kvv1.Operation) (*kvv1.Answer, bool) {
				if m.index(n) != 0 {
					return refusal(op, kind), false
				}
				return nil, false
			}
			began, before := time.Now(), c.Stats()
			item, err := c.Get(within(t, time.Minute), "a", Any(), FromFollower())
			if asked := c.Stats().Operations - before.Operations; asked != 3 {
				t.Errorf("%s: it took %d attempts to come to the leader", name, asked)
			}
			if err != nil || item.Served.By != ServedByLeader || time.Since(began) > time.Second {
				t.Errorf("%s: %+v, %v after %v", name, item, err, time.Since(began))
			}
			if w, err := c.Put(within(t, time.Minute), "a", nil); err != nil || w.Repeated {
				t.Errorf("%s: the leader is forgotten: %v", name, err)
			}
		}
		m.before = nil
		m.w.nodes[1].down()
		m.w.nodes[2].down()
		if item, err := c.Get(within(t, time.Minute), "a", FromFollower()); err != nil || item.Served.By != ServedByLeader {
			t.Errorf("followers down: %+v, %v", item, err)
		}
	})
}

func TestNearestIsTheFastest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 1)
		for i, n := range m.w.nodes {
			serve := n.serve
			n.script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
				time.Sleep(time.Duration(10*((i+1)%3)) * time.Millisecond) // n3 answers at once
				return serve(s, op)
			})
		}
		c := m.w.open("n1:7400,n2:7400,n3:7400")
		var third int
		for range 100 {
			item, err := c.Get(within(t, time.Minute), "a", Nearest())
			if !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			if item.Served.Node == string(m.w.nodes[2].id) {
				third++
			}
		}
		if third < 90 || third == 100 {
			t.Errorf("the fastest replica served %d of 100", third)
		}
	})
}

func TestTokensOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c, ctx := m.w.open("n1:7400"), context.Background()
		alien := NewSession()
		alien.saw("elsewhere", shardmap.Arc{From: 0, To: 5}, 7)
		get := func(opts ...ReadOption) error { _, err := c.Get(ctx, "a", opts...); return err }
		for name, err := range map[string]error{
			"token":   get(AtLeast(alien.Token())),
			"session": get(InSession(alien)),
			"write":   func() error { _, err := c.Put(ctx, "a", nil, WithSession(alien)); return err }(),
			"merge": func() error {
				s := NewSession()
				s.saw("test", shardmap.Arc{From: 0, To: 5}, 7)
				return s.Merge(alien.Token())
			}(),
		} {
			if !errors.Is(err, ErrBadToken) || !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "elsewhere") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if ops := m.w.nodes[0].operations(); len(ops) != 0 {
			t.Errorf("sent %v", ops)
		}
		if err := get(AtLeast(Token{})); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestReadOptionsThatMakeNoSense(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, ctx := newModel(t, 1, 1).w.open("n1:7400"), context.Background()
		get := func(opts ...ReadOption) error { _, err := c.Get(ctx, "a", opts...); return err }
		for name, row := range map[string]struct {
			err  error
			says string
		}{
			"two levels":        {get(Any(), Linearizable()), "more than one read level"},
			"no time":           {get(BoundedStale(0)), "not by 0s"},
			"negative":          {get(BoundedStale(-time.Second)), "-1s"},
			"absurd":            {get(BoundedStale(math.MaxInt64)), "100 years"},
			"two places":        {get(Nearest(), FromFollower()), "both"},
			"no session":        {get(InSession(nil)), "NewSession"},
			"two sessions":      {get(InSession(NewSession()), WithSession(NewSession())), "more than one session"},
			"version 0":         {get(IfNotVersion(0)), "version 0"},
			"keys only for TTL": {func() error { _, err := c.TTL(ctx, "a", KeysOnly()); return err }(), "does not go with ttl"},
		} {
			if !errors.Is(row.err, ErrInvalid) || !strings.Contains(fmt.Sprint(row.err), row.says) {
				t.Errorf("%s: %v", name, row.err)
			}
		}
		if s := c.Stats(); s.Frames != 0 {
			t.Errorf("%d frames were sent", s.Frames)
		}
	})
}
