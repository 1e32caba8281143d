package transport

import (
	"math/rand/v2"
	"sync"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// weather is a Tamper for all nodes of a lan: what befalls their messages.
type weather struct {
	mu        sync.Mutex
	rng       *rand.Rand
	drop, dup float64 // chance per message
	maxDelay  time.Duration
	appends   time.Duration // extra delay of appends that are not heartbeats
	lost      map[[2]shardmap.NodeID]bool
	holding   map[[2]shardmap.NodeID]bool
	held      []func()

	dropped, doubled, delayed, heldBack int
}

func newWeather(seed uint64) *weather {
	return &weather{
		rng:     rand.New(rand.NewPCG(seed, 1)),
		lost:    map[[2]shardmap.NodeID]bool{},
		holding: map[[2]shardmap.NodeID]bool{},
	}
}

// over is for newLAN.
func (w *weather) over(_ int, x *testNode) {
	x.opts.Tamper = func(to shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) { w.tamper(x.id, to, m, send) }
}

func (w *weather) tamper(from, to shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := [2]shardmap.NodeID{from, to}
	if w.lost[path] || w.rng.Float64() < w.drop {
		w.dropped++
		return
	}
	if w.holding[path] {
		w.heldBack++
		w.held = append(w.held, func() { send(m) })
		return
	}
	copies := 1
	if w.rng.Float64() < w.dup {
		w.doubled++
		copies = 2
	}
	for range copies {
		delay := time.Duration(0)
		if w.maxDelay > 0 { // messages overtake each other
			delay = time.Duration(w.rng.Int64N(int64(w.maxDelay)))
		}
		if a := m.GetAppend(); a != nil && (a.GetPrevIndex() > 0 || len(a.GetEntries()) > 0) {
			delay += w.appends
		}
		if delay == 0 {
			send(m)
			continue
		}
		w.delayed++
		time.AfterFunc(delay, func() { send(m) })
	}
}

func (w *weather) isolate(node shardmap.NodeID) {
	for i := range 5 {
		w.cut(node, nodeName(i))
		w.cut(nodeName(i), node)
	}
}

func (w *weather) cut(from, to shardmap.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost[[2]shardmap.NodeID{from, to}] = true
}

func (w *weather) hold(from, to shardmap.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holding[[2]shardmap.NodeID{from, to}] = true
}

func (w *weather) slowAppends(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.appends = d
}

func (w *weather) noise(drop, dup float64, maxDelay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop, w.dup, w.maxDelay = drop, dup, maxDelay
}

// heal ends all cuts and lets go what was held, in random order.
func (w *weather) heal() {
	w.mu.Lock()
	clear(w.lost)
	clear(w.holding)
	held := w.held
	w.held = nil
	w.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	w.mu.Unlock()
	for _, release := range held {
		release()
	}
}
