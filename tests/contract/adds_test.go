package contract

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/cluster/local"
)

const (
	adders      = 16
	counters    = 6
	addsPerKill = 4_000
	// everyAnswer bounds how long a write is repeated: less than its id is valid.
	everyAnswer = 4 * time.Minute
)

// open returns a client whose connections break, or, without lines, do not.
func open(t *testing.T, c *local.Cluster, l *lines, first int) *client.Client {
	endpoints, err := c.Endpoints()
	if err != nil {
		t.Error(err)
	}
	first %= len(endpoints)
	options := []client.Option{}
	if l != nil {
		options = append(options, client.WithDialer(l.dial))
	}
	all := append(append([]string{}, endpoints[first:]...), endpoints[:first]...)
	cl, err := client.Open(t.Context(), "kv://"+strings.Join(all, ","), options...)
	if err != nil {
		t.Error(err)
	}
	return cl
}

// adding is one run of TestAddsCountOnce.
type adding struct {
	faults  *faults
	wanted  int64
	kills   int64
	tickets atomic.Int64
	tries   atomic.Int64 // calls
	doubts  atomic.Int64 // calls that ended in doubt
	known   atomic.Int64 // answers that were given before, and lost
	sums    [counters]struct {
		sync.Mutex
		seen []int64 // by sum - 1: how often it was answered
	}
}

// Every Add is repeated under its id until it has an answer. The sums that are
// answered must be 1, 2, 3 and so on, each once, and the last of them is what
// there is in the end: an Add that is counted twice, or not at all, or answered
// with another one's sum, breaks that.
func TestAddsCountOnce(t *testing.T) {
	seed, began := newSeed(t), time.Now()
	c := newCluster(t)
	a := &adding{wanted: int64(*addsWanted), kills: max(2, int64(*addsWanted)/addsPerKill)}
	for i := range a.sums {
		a.sums[i].seen = make([]int64, a.wanted+1)
	}
	f := &faults{}
	stop := f.start(t, c, seed)
	a.faults = f
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work sync.WaitGroup
	var clients []*client.Client
	for range 3 {
		clients = append(clients, open(t, c, &f.lines, len(clients)))
	}
	for w := range adders {
		work.Go(func() {
			if err := a.work(ctx, clients[w%len(clients)], random(seed, 100+uint64(w))); err != nil {
				t.Error(err)
				cancel()
			}
		})
	}
	work.Wait()
	took := time.Since(began)
	stop()
	var retries, redirects uint64
	for _, cl := range clients {
		stats := cl.Stats()
		retries, redirects = retries+stats.Retries, redirects+stats.Redirects
		cl.Close()
	}
	t.Logf("%d adds in %v: %d kills, %d leaderships moved, %d connections reset with an answer; %d calls, %d in doubt, %d answers repeated, %d retries and %d redirects inside",
		a.wanted, took.Round(100*time.Millisecond), f.kills.Load(), f.moves.Load(), f.lines.lost.Load(),
		a.tries.Load(), a.doubts.Load(), a.known.Load(), retries, redirects)
	if t.Failed() {
		return
	}
	a.judge(t, c)
	if f.kills.Load() < a.kills || f.moves.Load() == 0 || f.lines.lost.Load() == 0 || retries == 0 {
		t.Error("too quiet a run")
	}
}

func (a *adding) work(ctx context.Context, cl *client.Client, r *rand.Rand) error {
	for {
		ticket := a.tickets.Add(1)
		if ticket > a.wanted {
			return nil
		}
		a.faults.await(ctx, due(ticket, a.wanted, a.kills))
		counter := r.IntN(counters)
		added, err := a.add(ctx, cl, counterKey(counter), r)
		if err != nil {
			return fmt.Errorf("add %d: %w", ticket, err)
		}
		if added.Value < 1 || added.Value > a.wanted {
			return fmt.Errorf("add %d to %s: %d", ticket, counterKey(counter), added.Value)
		}
		s := &a.sums[counter]
		s.Lock()
		s.seen[added.Value-1]++
		s.Unlock()
	}
}

func counterKey(i int) string { return fmt.Sprintf("counter/%d", i) }

// add calls Add under one id, each time with little patience, until it is
// answered.
func (a *adding) add(ctx context.Context, cl *client.Client, key string, r *rand.Rand) (client.AddResult, error) {
	id := cl.NewRequestID()
	var added client.AddResult
	err := untilAnswered(ctx, r, func(ctx context.Context) (err error) {
		a.tries.Add(1)
		added, err = cl.Add(ctx, key, 1, client.WithRequestID(id))
		if errors.Is(err, client.ErrInDoubt) {
			a.doubts.Add(1)
		}
		return err
	})
	if added.Repeated {
		a.known.Add(1)
	}
	return added, err
}

// untilAnswered repeats a call that names its write by a request id.
func untilAnswered(ctx context.Context, r *rand.Rand, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, everyAnswer)
	defer cancel()
	for {
		impatient, cancel := context.WithTimeout(ctx, between(r, 2*time.Millisecond, 500*time.Millisecond))
		err := call(impatient)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("no answer in all the time there was: %w", err)
		case errors.Is(err, client.ErrTimeout), errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrInDoubt),
			errors.Is(err, client.ErrOverloaded):
			// Once more.
		default:
			return err
		}
	}
}

func (a *adding) judge(t *testing.T, c *local.Cluster) {
	cl := open(t, c, nil, 0)
	defer cl.Close()
	var total int64
	for i := range a.sums {
		var n, wrong int64
		for sum, times := range a.sums[i].seen {
			n += times
			if times > 1 {
				wrong++
				t.Errorf("%s: %d adds were answered with %d", counterKey(i), times, sum+1)
			}
			if wrong > 10 {
				break
			}
		}
		if last := a.sums[i].seen[max(0, n-1)]; n > 0 && last != 1 && wrong == 0 {
			t.Errorf("%s: of %d adds none was answered with %d: a sum was passed over", counterKey(i), n, n)
		}
		for _, place := range [][]client.ReadOption{nil, {client.FromFollower()}} {
			item, err := cl.Get(t.Context(), counterKey(i), place...)
			if held := string(item.Value); err != nil || held != strconv.FormatInt(n, 10) {
				t.Errorf("%s holds %q after %d adds (%v)", counterKey(i), held, n, err)
			}
		}
		total += n
	}
	if total != a.wanted {
		t.Errorf("%d adds were answered, of %d", total, a.wanted)
	}
}
