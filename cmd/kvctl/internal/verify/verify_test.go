package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCluster has two shards of three replicas on nodes a, b and c.
type fakeCluster struct {
	mu       sync.Mutex
	ids      int
	index    uint64
	down     string                // node that is not reachable
	slow     map[string]int        // entries that a node comes to too late
	odd      string                // node with another state
	refusals int                   // proposals that are refused
	leaders  func() string         // default: a
	waits    map[[16]byte][]string // nodes that wait
	broken   error                 // of Shards
	live     int                   // waits whose context has not ended
}

func newFake() *fakeCluster {
	return &fakeCluster{slow: map[string]int{}, waits: map[[16]byte][]string{}, leaders: func() string { return "a" }}
}

func (f *fakeCluster) Shards(context.Context) ([]Shard, error) {
	if f.broken != nil {
		return nil, f.broken
	}
	var shards []Shard
	for id := range uint64(2) {
		s := Shard{ID: id + 1, Leader: f.leaders()}
		for i, node := range []string{"a", "b", "c"} {
			s.Replicas = append(s.Replicas, Replica{ID: uint64(i), Node: node, NodeID: node})
		}
		shards = append(shards, s)
	}
	return shards, nil
}

func (f *fakeCluster) NewID() [16]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids++
	return [16]byte{byte(f.ids), byte(f.ids >> 8)}
}

func (f *fakeCluster) Watch(ctx context.Context, shard uint64, r Replica, id [16]byte) (Watch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.NodeID == f.down {
		return nil, fmt.Errorf("node %s: %w", r.Node, ErrNothing)
	}
	f.waits[id] = append(f.waits[id], r.NodeID)
	f.live++
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.live--
	})
	return &fakeWatch{f, ctx, r.NodeID, 0}, nil
}

func (f *fakeCluster) Propose(_ context.Context, _ uint64, leader string, id [16]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refusals > 0 || leader == f.down {
		f.refusals--
		return errors.New("not leader")
	}
	want := 3
	if f.down != "" {
		want = 2
	}
	if len(f.waits[id]) != want {
		return fmt.Errorf("proposed while only %v waited", f.waits[id])
	}
	f.index++
	return nil
}

type fakeWatch struct {
	f     *fakeCluster
	ctx   context.Context
	node  string
	index uint64
}

func (w *fakeWatch) Taken() error {
	w.f.mu.Lock()
	late := w.f.slow[w.node] > 0
	w.f.slow[w.node]--
	w.index = w.f.index
	w.f.mu.Unlock()
	if late {
		<-w.ctx.Done()
		return w.ctx.Err()
	}
	return nil
}

func (w *fakeWatch) Hashed() (Taken, error) {
	select {
	case <-time.After(time.Minute): // longer than any patience: it is no sign of trouble
	case <-w.ctx.Done():
		return Taken{}, w.ctx.Err()
	}
	t := Taken{Index: w.index, Hash: 1, Keys: 2, Bytes: 3}
	if w.node == w.f.odd {
		t.Hash = 9
	}
	return t, nil
}

// run verifies with the caller's time.
func run(t *testing.T, f *fakeCluster, timeout time.Duration) (r *Report, settled int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	r, err := Run(ctx, f, func(Result) { settled++ })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	synctest.Wait()
	if f.live != 0 {
		t.Errorf("%d waits go on after the end", f.live)
	}
	if limit := 2 * (8 + int(timeout/longestPause)); f.ids > limit {
		t.Errorf("%d entries were written in %s", f.ids, timeout)
	}
	return r, settled
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name            string
		fake            func(*fakeCluster)
		timeout         time.Duration
		agree, complete bool
		result          string
		attempts        int
	}{
		{"all equal", func(*fakeCluster) {}, time.Hour, true, true, Equal, 1},
		{"one differs", func(f *fakeCluster) { f.odd = "b" }, time.Hour, false, true, Different, 1},
		{"a node is down, and not tried again", func(f *fakeCluster) { f.down = "c" }, time.Hour, true, false, Incomplete, 1},
		{"a node is down and another differs", func(f *fakeCluster) { f.down, f.odd = "c", "b" }, time.Hour, false, false, Different, 1},
		{"the leader refused once", func(f *fakeCluster) { f.refusals = 2 }, time.Hour, true, true, Equal, 2},
		{"the leader refuses for ever", func(f *fakeCluster) { f.refusals = 1 << 30 }, 5 * time.Minute, true, false, Incomplete, -1},
		{"no leader for ever", func(f *fakeCluster) { f.leaders = func() string { return "" } }, 10 * time.Second, true, false, Incomplete, -1},
		{"a replica is behind", func(f *fakeCluster) { f.slow["b"] = 2 }, time.Hour, true, true, Equal, 2},
		{"a replica is behind for ever", func(f *fakeCluster) { f.slow["b"] = 1 << 30 }, 10 * time.Minute, true, false, Incomplete, -1},
		{"a replica is behind and another differs", func(f *fakeCluster) { f.slow["b"], f.odd = 1<<30, "c" }, time.Hour, false, false, Different, 1},
		{"no time to hash", func(*fakeCluster) {}, 30 * time.Second, true, false, Incomplete, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				c.fake(f)
				r, settled := run(t, f, c.timeout)
				if r.Agree != c.agree || r.Complete != c.complete || len(r.Shards) != 2 {
					t.Fatalf("%+v", r)
				}
				for _, s := range r.Shards {
					if s.Result != c.result || c.attempts > 0 && s.Attempts != c.attempts || c.attempts < 0 && s.Attempts < 1 {
						t.Errorf("%+v", s)
					}
					if len(s.Replicas) != 3 || s.Problem == "" && s.Index == 0 && s.Result == Equal {
						t.Errorf("%+v", s)
					}
				}
				if settled > 2 || c.result != Incomplete && settled != 2 {
					t.Errorf("%d shards settled", settled)
				}
			})
		})
	}
}

// A shard without a leader does not keep the others from being verified first.
func TestTroubleInOneShardDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		asked := 0
		f.leaders = func() string {
			if asked++; asked%2 == 1 {
				return "" // always the first of two
			}
			return "a"
		}
		r, _ := run(t, f, 3*time.Minute)
		if !slices.Equal([]string{r.Shards[0].Result, r.Shards[1].Result}, []string{Incomplete, Equal}) {
			t.Fatalf("%+v", r)
		}
	})
}

func TestNothingCanBeAsked(t *testing.T) {
	f := newFake()
	f.broken = errors.New("no node answers")
	if _, err := Run(t.Context(), f, func(Result) {}); !errors.Is(err, f.broken) {
		t.Fatal(err)
	}
}

// Replicas taken at different indexes say nothing about each other.
func TestDifferentIndexesAreNotCompared(t *testing.T) {
	s := Shard{ID: 1, Replicas: make([]Replica, 2)}
	r := s.result([]replicaTry{{taken: Taken{Index: 1, Hash: 1}}, {taken: Taken{Index: 2, Hash: 2}}}, nil)
	if r.Result != Incomplete || r.complete() {
		t.Fatalf("%+v", r)
	}
}
