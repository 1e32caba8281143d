package damage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore"
)

const (
	victim, laggard, third = 0, 1, 2

	// settle is longer than the high-water mark of a log is behind.
	settle = 2 * time.Second
)

// base is a loaded cluster that is down, the disks it left, and what every key must
// answer: its value, or "" for none.
type base struct {
	cluster *nodetest.Cluster
	images  []*vfs.MemFS
	want    map[string]string
	fails   []*failpoint.Set
	clients byte // opened so far: each has an identity of its own
}

// Where the victim of a base with a staged snapshot loses its power.
var installSteps = []failpoint.Name{
	failpoint.SnapshotFileKept, failpoint.SnapshotStaged, failpoint.IngestMarked, failpoint.IngestFlushed,
	failpoint.IngestDone, failpoint.IngestLogged,
}

// newBase loads a cluster. With a step of an install the victim loses its power
// there; without, it is the laggard who misses the last writes. What was flushed
// does not show that a log has lost its end: flushes are every so often, or never.
func newBase(t testing.TB, seed uint64, step failpoint.Name, flushes time.Duration) *base {
	b := &base{want: make(map[string]string)}
	for range 3 {
		b.fails = append(b.fails, new(failpoint.Set))
	}
	b.cluster = nodetest.Start(t, nodetest.Options{
		Seed: seed, Tune: func(i int, o *raftstore.Options) {
			o.MemTableBytes, o.Failpoints = 256<<10, b.fails[i]
			if step != "" {
				o.LogBytesPerShard, o.FlushBytes, o.MaxLogBytes = 2<<10, 4<<10, 256<<10
			}
			o.FlushInterval = flushes
		},
	})
	rng := rand.New(rand.NewPCG(seed, 0xda))
	b.load(t, rng, "early", 60)
	time.Sleep(settle) // some of it is flushed
	b.load(t, rng, "later", 40)
	absent := laggard
	if step != "" {
		absent = victim
	}
	for _, other := range []int{victim, laggard, third} {
		if other != absent {
			b.cluster.Network.CutBoth(absent, other)
		}
	}
	last := 10
	if step != "" {
		last = 60 // more than the entries that a log keeps however long they are
	}
	for i := range 6 { // logs are cut at flushes
		b.load(t, rng, fmt.Sprint("last-", i), last)
		time.Sleep(settle)
	}
	if step != "" {
		b.interrupt(t, step)
	}
	for _, s := range b.cluster.Servers {
		s.Crash(100, rng)
	}
	for _, other := range []int{victim, laggard, third} {
		if other != absent {
			b.cluster.Network.HealBoth(absent, other)
		}
	}
	for _, s := range b.cluster.Servers {
		b.images = append(b.images, s.Image())
	}
	return b
}

// interrupt lets the victim, who is behind, catch up until it comes to the step.
func (b *base) interrupt(t testing.TB, step failpoint.Name) {
	var cut atomic.Bool
	srv := b.cluster.Servers[victim]
	b.fails[victim].Hook(func(at failpoint.Name) {
		if at == step && cut.CompareAndSwap(false, true) {
			srv.CutPowerNow(100, rand.New(rand.NewPCG(1, 1)))
		}
	})
	b.cluster.Network.HealBoth(victim, laggard)
	b.cluster.Network.HealBoth(victim, third)
	for start := time.Now(); !cut.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("the victim needed no snapshot: it never came to %s", step)
		}
	}
	b.fails[victim].Hook(nil)
}

// load writes keys, writes some of them again and deletes some.
func (b *base) load(t testing.TB, rng *rand.Rand, name string, keys int) {
	cl := b.open(t)
	defer closeClient(t, cl)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for round := range 2 {
		for i := range keys {
			key := fmt.Sprintf("%s-%d", name, i)
			if round > 0 && i%3 > 0 {
				continue
			}
			value := randomText(rng, []int{20, 1000}[i%2])
			_, err := cl.Put(ctx, key, []byte(value))
			if round > 0 && i%6 == 0 {
				value = ""
				_, err = cl.Delete(ctx, key)
			}
			if err != nil {
				t.Fatalf("load %s: %v", key, err)
			}
			b.want[key] = value
		}
	}
}

func randomText(rng *rand.Rand, n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = byte('a' + rng.IntN(26))
	}
	return string(text)
}

func (b *base) open(t testing.TB) *client.Client {
	target := "kv://"
	for i, srv := range b.cluster.Servers {
		if i > 0 {
			target += ","
		}
		target += srv.Address()
	}
	b.clients++
	cl, err := client.Open(context.Background(), target, client.WithDialer(b.cluster.Dial),
		client.WithRand(rand.NewChaCha8([32]byte{b.clients})))
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func closeClient(t testing.TB, cl *client.Client) {
	if err := cl.Close(); err != nil {
		t.Errorf("close the client: %v", err)
	}
}

// readAll reads every key and judges what was answered. unanswered is how many
// keys had no answer; lie is about the first wrong one.
func (b *base) readAll(cl *client.Client, patience time.Duration) (unanswered int, lie error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	keys := slices.Sorted(maps.Keys(b.want))
	results, _ := cl.GetMany(ctx, keys) // every key has an error of its own
	for i, r := range results {
		want := b.want[keys[i]]
		switch {
		case errors.Is(r.Err, client.ErrNotFound):
			if want != "" {
				return 0, fmt.Errorf("get %s: not found; %d bytes were acknowledged", keys[i], len(want))
			}
		case r.Err != nil:
			unanswered++
		case string(r.Item.Value) != want:
			return 0, fmt.Errorf("get %s: got %q, want %q", keys[i], r.Item.Value, want)
		}
	}
	return unanswered, nil
}
