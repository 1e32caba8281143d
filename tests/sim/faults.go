package sim

import (
	"math/rand/v2"
	"sync"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// mischief tampers with the messages between nodes: a share of them is dropped,
// delayed (and so reordered), duplicated, or held and released much later.
type mischief struct {
	mu     sync.Mutex
	rng    *rand.Rand
	share  int // percent of messages; 0 leaves all alone
	deaf   map[int]shardmap.NodeID
	counts map[string]int
}

func newMischief(seed uint64) *mischief {
	return &mischief{rng: rand.New(rand.NewPCG(seed, 0xbad)),
		deaf: make(map[int]shardmap.NodeID), counts: make(map[string]int)}
}

func (m *mischief) set(percent int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.share = percent
}

// tamper is one node's transport.Tamper.
func (m *mischief) tamper(from int) transport.Tamper {
	return func(to shardmap.NodeID, msg *peerv1.Message, send func(*peerv1.Message)) {
		switch what, delay := m.draw(from, to, msg); what {
		case "drop":
		case "delay", "hold":
			time.AfterFunc(delay, func() { send(msg) })
		case "duplicate":
			send(msg)
			time.AfterFunc(delay, func() { send(msg) })
		default:
			send(msg)
		}
	}
}

// deafen takes Raft's messages from and to a node, until hear. Its confirm rounds
// still get through, the answers late: a leader that can ask, is told nothing
// unasked, and is told what was true a moment ago.
func (m *mischief) deafen(node int, id shardmap.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf[node] = id
}

func (m *mischief) hear(node int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.deaf, node)
}

func (m *mischief) draw(from int, to shardmap.NodeID, msg *peerv1.Message) (what string, delay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for node, id := range m.deaf {
		switch {
		case node != from && id != to:
		case msg.GetConfirmResult() != nil && id == to:
			return "delay", between(m.rng, 100*time.Millisecond, 400*time.Millisecond)
		case msg.GetConfirm() == nil && msg.GetConfirmResult() == nil:
			return "drop", 0
		}
	}
	if m.share == 0 || m.rng.IntN(100) >= m.share {
		return "", 0
	}
	switch n := m.rng.IntN(100); {
	case n < 40:
		what = "drop"
	case n < 70:
		what, delay = "delay", between(m.rng, 100*time.Microsecond, 100*time.Millisecond)
	case n < 95:
		what, delay = "duplicate", between(m.rng, 0, 300*time.Millisecond)
	default: // an old message that turns up when nobody thinks of it any more
		what, delay = "hold", between(m.rng, time.Second, 5*time.Second)
	}
	m.counts[what]++
	return what, delay
}

func (m *mischief) tally() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]int, len(m.counts))
	for k, v := range m.counts {
		out[k] = v
	}
	return out
}

// lag makes the state machines of one node fall behind their logs: while it is
// set, each batch of committed entries waits before it is applied.
type lag struct {
	mu   sync.Mutex
	rng  *rand.Rand
	most time.Duration // 0: no lag
	over chan struct{} // closed at the next change
}

func newLag(seed uint64, node int) *lag {
	return &lag{rng: rand.New(rand.NewPCG(seed, 0x1a9+uint64(node))), over: make(chan struct{})}
}

func (l *lag) set(most time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = most
	close(l.over)
	l.over = make(chan struct{})
}

// beforeApply is the store's hook. It runs above Pebble and holds no lock while
// it waits (rule M1).
func (l *lag) beforeApply(shardmap.ShardID) {
	l.mu.Lock()
	if l.most == 0 {
		l.mu.Unlock()
		return
	}
	wait := time.NewTimer(between(l.rng, l.most/2, l.most))
	over := l.over
	l.mu.Unlock()
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-over:
	}
}

// skewedClock is a node's clock whose wall time can be moved.
type skewedClock struct {
	*clock.System
	mu   sync.Mutex
	skew time.Duration
}

func (c *skewedClock) WallMicros() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.System.WallMicros() + uint64(c.skew/time.Microsecond) // a negative skew wraps round to itself
}

func (c *skewedClock) jump(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += by
}
