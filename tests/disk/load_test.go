package disk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	workersPerShard = 2
	keysPerWorker   = 100
	// pause keeps the load steady and the machine free for the nodes.
	pause = 5 * time.Millisecond
	// patience is how long a call may take. A leader that is lost must be replaced
	// within it, so a call that fails for want of one is a fault.
	patience = 10 * time.Second
)

// mix is how many of ten operations are gets and deletes; the others are puts.
type mix struct{ gets, deletes int }

// load writes to all shards until it is stopped, and remembers what must be there.
type load struct {
	t        *testing.T
	kv       *client.Client
	mix      mix
	size     int // of values
	stopping chan struct{}
	once     sync.Once
	wait     sync.WaitGroup

	mu       sync.Mutex
	known    map[string]*record // by key
	shards   map[uint64]*served
	refused  map[string]int // for want of space, by kind of operation
	failures []string
}

// record is what is known of a key. Only one worker writes to it.
type record struct {
	may    []string // what it may hold; "" for nothing. The first is acknowledged
	closed bool     // a write is in doubt, which may be applied at any time
}

// served is what a shard did.
type served struct {
	last   map[string]time.Time // successful operation of a kind
	counts map[string]int
	gap    time.Duration // longest time between two puts
}

// startLoad begins; the cluster's shards are those of its status.
func startLoad(t *testing.T, c *cluster, shards []shard, m mix, size int) *load {
	t.Helper()
	kv, err := client.Open(t.Context(), "kv://"+c.without(), client.WithTimeout(patience), client.WithBlock())
	if err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, kv: kv, mix: m, size: size, stopping: make(chan struct{}),
		known: map[string]*record{}, shards: map[uint64]*served{}, refused: map[string]int{}}
	t.Cleanup(func() { l.stop(); kv.Close() })
	for _, s := range shards {
		if s.System {
			continue
		}
		l.shards[s.ID] = &served{last: map[string]time.Time{}, counts: map[string]int{}}
		for w := range workersPerShard {
			l.wait.Go(func() { l.work(t.Context(), s.ID, fmt.Sprintf("%d-%d", s.ID, w), tagOf(s)) })
		}
	}
	return l
}

// tagOf finds a hash tag whose keys are the shard's.
func tagOf(s shard) string {
	for i := 0; ; i++ {
		tag := fmt.Sprintf("{t%d}", i)
		if slot := uint32(shardmap.SlotOf([]byte(tag))); slot >= s.From && slot < s.To {
			return tag
		}
	}
}

// stop ends the load and waits until each operation has its answer.
func (l *load) stop() {
	l.once.Do(func() { close(l.stopping) })
	l.wait.Wait()
}

func (l *load) work(ctx context.Context, shard uint64, name, tag string) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	generation := make([]int, keysPerWorker) // of keys: one in doubt is followed by another
	for i := 0; ; i++ {
		select {
		case <-l.stopping:
			return
		case <-tick.C:
		}
		slot := i % keysPerWorker
		key := fmt.Sprintf("%s%s/%d.%d", tag, name, slot, generation[slot])
		kind, value := "put", fmt.Sprintf("%s#%d#%s", name, i, strings.Repeat("x", l.size))
		switch turn := (i/keysPerWorker + i) % 10; {
		case turn < l.mix.gets:
			kind = "get"
		case turn < l.mix.gets+l.mix.deletes:
			kind, value = "delete", ""
		}
		if !l.operate(ctx, shard, kind, key, value) {
			generation[slot]++
		}
	}
}

// operate does one operation and notes what it led to. It reports whether the key may
// be written to again.
func (l *load) operate(ctx context.Context, shard uint64, kind, key, value string) bool {
	var err error
	var got string
	switch kind {
	case "get":
		var item client.Item
		item, err = l.kv.Get(ctx, key)
		got = string(item.Value)
		if errors.Is(err, client.ErrNotFound) {
			got, err = "", nil
		}
	case "delete":
		_, err = l.kv.Delete(ctx, key)
	default:
		_, err = l.kv.Put(ctx, key, []byte(value))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.known[key]
	if r == nil {
		r = &record{may: []string{""}}
		l.known[key] = r
	}
	switch {
	case err == nil:
		if kind == "get" {
			if !slices.Contains(r.may, got) {
				l.failures = append(l.failures, fmt.Sprintf("get %s: %.40q, but it may only be %.40q", key, got, r.may))
			}
		} else {
			r.may = []string{value}
		}
		l.shards[shard].note(kind)
	case errors.Is(err, client.ErrInDoubt):
		r.may, r.closed = append(r.may, value), true
		l.failures = append(l.failures, err.Error())
	case errors.Is(err, client.ErrNoSpace):
		l.refused[kind]++
	default:
		l.failures = append(l.failures, err.Error())
	}
	return !r.closed
}

func (s *served) note(kind string) {
	now := time.Now()
	if last, ok := s.last[kind]; ok && kind == "put" {
		s.gap = max(s.gap, now.Sub(last))
	}
	s.last[kind] = now
	s.counts[kind]++
}

// since reports whether operations of a kind have succeeded in all shards since then.
func (l *load) since(kind string, then time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shards {
		if !s.last[kind].After(then) {
			return false
		}
	}
	return true
}

// some reports the same of one shard at least.
func (l *load) some(kind string, then time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shards {
		if s.last[kind].After(then) {
			return true
		}
	}
	return false
}

// counts sums up successful operations by kind.
func (l *load) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := map[string]int{}
	for _, s := range l.shards {
		for kind, n := range s.counts {
			sum[kind] += n
		}
	}
	return sum
}

// refusals copies how many operations were refused for want of space, by kind.
func (l *load) refusals() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.refused)
}

// longestGap is the longest time between two puts of a shard.
func (l *load) longestGap() (gap time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shards {
		gap = max(gap, s.gap)
	}
	return gap
}

// judge reads every key that was ever written. The load must have stopped.
func (l *load) judge() {
	l.t.Helper()
	for _, f := range l.failures[:min(len(l.failures), 10)] {
		l.t.Error("load: " + f)
	}
	keys := slices.Sorted(maps.Keys(l.known))
	held, doubt := 0, 0
	for batch := range slices.Chunk(keys, 200) {
		results, err := l.kv.GetMany(l.t.Context(), batch)
		if err != nil {
			l.t.Fatal(err)
		}
		for i, result := range results {
			value := string(result.Item.Value)
			if result.Err != nil && !errors.Is(result.Err, client.ErrNotFound) {
				l.t.Fatal(result.Err)
			}
			r := l.known[batch[i]]
			if !slices.Contains(r.may, value) {
				l.t.Errorf("%s holds %.40q, but it may only be %.40q", batch[i], value, r.may)
			}
			if r.may[0] != "" {
				held++
			}
			if r.closed {
				doubt++
			}
		}
	}
	if held == 0 {
		l.t.Error("no put was ever acknowledged")
	}
	l.t.Logf("%d keys read back, %d of them with an acknowledged value, %d in doubt; acknowledged %v, refused for space %v",
		len(keys), held, doubt, l.counts(), l.refused)
}
