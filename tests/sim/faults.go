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
	counts map[string]int
}

func newMischief(seed uint64) *mischief {
	return &mischief{rng: rand.New(rand.NewPCG(seed, 0xbad)), counts: make(map[string]int)}
}

func (m *mischief) set(percent int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.share = percent
}

// tamper is one node's transport.Tamper.
func (m *mischief) tamper(int) transport.Tamper {
	return func(_ shardmap.NodeID, msg *peerv1.Message, send func(*peerv1.Message)) {
		switch what, delay := m.draw(); what {
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

func (m *mischief) draw() (what string, delay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
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
