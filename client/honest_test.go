package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// honest is a cluster in one object: it keeps the promises about request ids as
// the shards do, while its network loses, delays, copies and cuts, its leaders
// change, its nodes stop, and its shard splits.
type honest struct {
	w *world

	mu      sync.Mutex
	rng     *rand.Rand
	shards  []*honestShard
	leader  map[shardmap.ShardID]int
	term    uint64
	version uint64
	applied map[string]int // by value: every write has its own
	calm    bool           // no more trouble
}

type honestShard struct {
	record shardmap.Record
	data   map[string]*kvv1.Answer
	tables map[string]*honestTable // by client id
}

type honestTable struct {
	lowest  uint64
	answers map[uint64]*kvv1.Answer
}

func newHonest(t *testing.T, nodes int, seed uint64) *honest {
	w := newWorld(t, nodes)
	h := &honest{
		w: w, rng: rand.New(rand.NewPCG(seed, 1)), term: 1,
		leader: map[shardmap.ShardID]int{2: 0}, applied: make(map[string]int),
	}
	rec := w.record(2, 0, shardmap.Slots, 1)
	h.shards = []*honestShard{{record: rec, data: make(map[string]*kvv1.Answer), tables: make(map[string]*honestTable)}}
	for _, n := range w.nodes {
		n.script(h.serve)
	}
	return h
}

// chance draws true once in n times, unless the cluster is calm.
func (h *honest) chance(n int) bool { return !h.calm && h.rng.IntN(n) == 0 }

// serve is what happens to an operation that reached a node.
func (h *honest) serve(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
	if len(op.GetClientId()) == 0 {
		op.ClientId, op.LowestOpen = s.hello.GetClientId(), s.frame.GetLowestOpen()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	pause := time.Duration(h.rng.IntN(4000)) * time.Millisecond
	switch {
	case h.chance(30): // lost on the way there
		return nil
	case h.chance(30): // lost on the way back
		h.execute(s, op)
		return nil
	case h.chance(60): // cut before
		s.finish(io.ErrUnexpectedEOF)
		return nil
	case h.chance(60): // cut after
		h.execute(s, op)
		s.finish(io.ErrUnexpectedEOF)
		return nil
	case h.chance(20): // slow
		go h.later(s, op, pause, true)
		return nil
	case op.GetNumber() != 0 && h.chance(20): // comes twice, the second time much later
		a := h.execute(s, op)
		if a.GetError() == nil {
			// Not so after a refusal: no transport of ours makes copies, and nothing
			// could keep a copy of a refused attempt from being applied.
			go h.later(s, op, pause*5, false)
		}
		return a
	case h.chance(30):
		return refusal(op, kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE)
	case h.chance(30):
		return refusal(op, kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN)
	case h.chance(30):
		h.execute(s, op)
		return refusal(op, kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN)
	}
	return h.execute(s, op)
}

func (h *honest) later(s *fakeSession, op *kvv1.Operation, pause time.Duration, answer bool) {
	time.Sleep(pause)
	h.mu.Lock()
	a := h.execute(s, op)
	h.mu.Unlock()
	if answer {
		s.send(&kvv1.ServerFrame{Answers: []*kvv1.Answer{a}})
	}
}

// execute decides about an operation as a shard's apply does (protocol order:
// ownership, expiry, closed, recorded, else apply and record).
func (h *honest) execute(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
	slot := shardmap.SlotOf(op.GetKey())
	var shard *honestShard
	for _, candidate := range h.shards {
		if candidate.record.Arc.Contains(slot) {
			shard = candidate
		}
	}
	leader := h.w.nodes[h.leader[shard.record.Shard]]
	if op.GetShard() != 0 && op.GetShard() != uint64(shard.record.Shard) {
		a := refusal(op, kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD)
		a.Record = wire.RecordToProto(shard.record)
		return a
	}
	if s.node != leader {
		a := refusal(op, kvv1.ErrorKind_ERROR_KIND_NOT_LEADER)
		if !h.chance(3) {
			a.Leader = &kvv1.LeaderHint{Shard: uint64(shard.record.Shard), Term: h.term, NodeId: string(leader.id)}
		}
		return a
	}
	if op.GetKind() == opGet {
		if a := shard.data[string(op.GetKey())]; a != nil {
			return &kvv1.Answer{Id: op.GetId(), Found: true, Value: a.GetValue(), Version: a.GetVersion()}
		}
		return &kvv1.Answer{Id: op.GetId()}
	}
	return h.write(shard, op)
}

func (h *honest) write(shard *honestShard, op *kvv1.Operation) *kvv1.Answer {
	now := uint64(time.Now().UnixMicro())
	if op.GetNumber() != 0 {
		table := shard.tables[string(op.GetClientId())]
		if table == nil {
			table = &honestTable{answers: make(map[uint64]*kvv1.Answer)}
			shard.tables[string(op.GetClientId())] = table
		}
		table.lowest = max(table.lowest, op.GetLowestOpen())
		for number := range table.answers {
			if number < table.lowest {
				delete(table.answers, number)
			}
		}
		switch first, recorded := table.answers[op.GetNumber()]; {
		case now > op.GetNotAfterUs():
			return refusal(op, kvv1.ErrorKind_ERROR_KIND_EXPIRED)
		case op.GetNotAfterUs() > now+600e6:
			return refusal(op, kvv1.ErrorKind_ERROR_KIND_INVALID)
		case op.GetNumber() < table.lowest:
			return refusal(op, kvv1.ErrorKind_ERROR_KIND_STALE_DUPLICATE)
		case recorded:
			return &kvv1.Answer{Id: op.GetId(), Version: first.GetVersion(), Repeated: true}
		}
	}
	h.version = max(h.version+1, now)
	a := &kvv1.Answer{Id: op.GetId(), Version: h.version, ShardVersion: h.version}
	h.applied[string(op.GetValue())]++
	shard.data[string(op.GetKey())] = &kvv1.Answer{Value: op.GetValue(), Version: h.version}
	if op.GetNumber() != 0 {
		shard.tables[string(op.GetClientId())].answers[op.GetNumber()] = a
	}
	return a
}

// elect gives each shard a leader, in a new term, and tells whoever listens.
func (h *honest) elect() {
	h.mu.Lock()
	h.term++
	f := &kvv1.ServerFrame{}
	for _, shard := range h.shards {
		h.leader[shard.record.Shard] = h.rng.IntN(len(h.w.nodes))
		f.Leaders = append(f.Leaders, &kvv1.LeaderHint{
			Shard: uint64(shard.record.Shard), Term: h.term, NodeId: string(h.w.nodes[h.leader[shard.record.Shard]].id),
		})
	}
	teller := h.w.nodes[h.rng.IntN(len(h.w.nodes))]
	h.mu.Unlock()
	teller.push(f)
}

// split gives the upper half of the first shard to a new one, with a copy of the
// request tables.
func (h *honest) split() {
	h.mu.Lock()
	defer h.mu.Unlock()
	parent := h.shards[0]
	id := shardmap.ShardID(len(h.shards) + 2)
	at := parent.record.Arc.To / 2
	epoch := parent.record.ArcEpoch + 1
	child := &honestShard{
		record: h.w.record(id, at, parent.record.Arc.To, epoch),
		data:   parent.data, // keys are never in two shards, so sharing is harmless
		tables: make(map[string]*honestTable),
	}
	for client, table := range parent.tables {
		fresh := &honestTable{lowest: table.lowest, answers: make(map[uint64]*kvv1.Answer)}
		for number, a := range table.answers {
			fresh.answers[number] = a
		}
		child.tables[client] = fresh
	}
	parent.record = h.w.record(parent.record.Shard, parent.record.Arc.From, at, epoch)
	h.shards = append(h.shards, child)
	h.leader[id] = h.leader[parent.record.Shard]
}

// trouble makes things happen to nodes until the context ends.
func (h *honest) trouble(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
		n := h.w.nodes[rng.IntN(len(h.w.nodes))]
		switch rng.IntN(8) {
		case 0:
			n.down()
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			n.up()
		case 1:
			n.freeze()
			h.elect()
			time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
			n.thaw()
		case 2:
			n.push(&kvv1.ServerFrame{GoingAway: true})
			h.elect()
			time.Sleep(100 * time.Millisecond)
			n.down()
			n.up()
		case 3:
			if len(h.shards) < 4 {
				h.split()
			}
		default:
			h.elect()
		}
	}
	h.mu.Lock()
	h.calm = true
	h.mu.Unlock()
	for _, n := range h.w.nodes {
		n.thaw()
	}
}

// honestWrite is what a worker was told about one write.
type honestWrite struct {
	value string
	err   error
}

// TestP3_RandomHistories lets workers write through all that trouble and then
// compares what they were told with what was applied: an acknowledged write
// exactly once, one in doubt at most once, one refused never. While it runs, each
// worker checks that its keys read as its answers say.
func TestP3_RandomHistories(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { randomHistory(t, seed) })
		})
	}
}

func randomHistory(t *testing.T, seed uint64) {
	h := newHonest(t, 3+int(seed%3), seed)
	c := h.w.open("n1:7400,n2:7400,n3:7400", WithRand(rand.NewChaCha8([32]byte{byte(seed)})))
	ctx, stop := context.WithCancel(context.Background())
	var wg, troubles sync.WaitGroup
	troubles.Go(func() { h.trouble(ctx, rand.New(rand.NewPCG(seed, 2))) })
	all := make([][]honestWrite, 6)
	for i := range all {
		wg.Go(func() { all[i] = honestWorker(t, c, i, rand.New(rand.NewPCG(seed, uint64(10+i)))) })
	}
	wg.Wait()
	stop()
	troubles.Wait()
	time.Sleep(time.Minute) // late copies land
	h.mu.Lock()
	defer h.mu.Unlock()
	var acked, doubt int
	for _, writes := range all {
		for _, w := range writes {
			n := h.applied[w.value]
			switch {
			case w.err == nil:
				acked++
				if n != 1 {
					t.Errorf("%s was acknowledged and applied %d times", w.value, n)
				}
			case errors.Is(w.err, ErrInDoubt):
				doubt++
				if n > 1 {
					t.Errorf("%s is in doubt and was applied %d times", w.value, n)
				}
			case n != 0:
				t.Errorf("%s was applied %d times and not in doubt: %v", w.value, n, w.err)
			}
		}
	}
	s := c.Stats()
	if acked < 100 || s.Retries < 20 {
		t.Errorf("too quiet a run: %d acknowledged, %d in doubt, %+v", acked, doubt, s)
	}
	checkNumbersClosed(t, c)
}

// checkNumbersClosed asserts that no ended call keeps a number.
func checkNumbersClosed(t *testing.T, c *Client) {
	t.Helper()
	if l := c.numbers.lane(); l.next != l.lowest.Load() {
		t.Errorf("numbers [%d, %d) are still open", l.lowest.Load(), l.next)
	}
}

// honestWorker makes calls on keys of its own and returns its writes.
func honestWorker(t *testing.T, c *Client, id int, rng *rand.Rand) (writes []honestWrite) {
	const keys = 4
	var (
		last  [keys]string   // last acknowledged
		maybe [keys][]string // in doubt: may come true at any time, also after last
	)
	note := func(key int, value string, err error) {
		writes = append(writes, honestWrite{value, err})
		switch {
		case err == nil:
			last[key] = value
		case errors.Is(err, ErrInDoubt):
			maybe[key] = append(maybe[key], value)
		}
	}
	for step := range 40 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+rng.IntN(6000))*time.Millisecond)
		name := func(key int) string { return fmt.Sprintf("w%d/%d", id, key) }
		value := func(key int) string { return fmt.Sprintf("w%d/%d step %d", id, key, step) }
		key := rng.IntN(keys)
		switch rng.IntN(4) {
		case 0:
			item, err := c.Get(ctx, name(key))
			if err != nil && !errors.Is(err, ErrNotFound) {
				break
			}
			known := string(item.Value) == last[key]
			for _, v := range maybe[key] {
				known = known || string(item.Value) == v
			}
			if !known {
				t.Errorf("%s reads %q; last acknowledged %q, in doubt %q", name(key), item.Value, last[key], maybe[key])
			}
		case 1:
			pairs := make([]KV, keys)
			for k := range pairs {
				pairs[k] = KV{name(k), []byte(value(k))}
			}
			results, _ := c.PutMany(ctx, pairs)
			for k := range results {
				note(k, value(k), results[k].Err)
			}
		case 2:
			_, err := c.Put(ctx, name(key), []byte(value(key)), WithoutRequestID())
			note(key, value(key), err)
		default:
			_, err := c.Put(ctx, name(key), bytes.Clone([]byte(value(key))))
			note(key, value(key), err)
		}
		cancel()
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
	}
	return writes
}
