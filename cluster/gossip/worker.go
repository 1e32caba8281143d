package gossip

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// rejoinAtMost bounds the seeds contacted in one round, each of which may block
// for Timing.Dial. One that answers tells of all others.
const rejoinAtMost = 3

// work joins seeds and announces changed metadata: the two calls into
// memberlist that block.
func (g *Gossip) work(ctx context.Context) {
	defer close(g.done)
	rejoin := time.NewTimer(0)
	defer rejoin.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.reannounce:
			// A timeout of 0 would wait for ever. A miss is repaired by the next
			// exchange of whole states, which carries the metadata too.
			if err := g.list.UpdateNode(g.options.Timing.Dial); err != nil {
				g.logger.Debug("gossip: announcing changed metadata", "error", err)
			}
		case <-rejoin.C:
			alone := g.joinSeeds(ctx)
			rejoin.Reset(g.rejoinDelay(alone))
		}
	}
}

// rejoinDelay is jittered so that nodes started together do not call together.
// A node that sees nobody else asks ten times as often.
func (g *Gossip) rejoinDelay(alone bool) time.Duration {
	d := g.options.Timing.Rejoin
	if alone {
		d /= 10
	}
	return d/2 + rand.N(d)
}

// joinSeeds contacts seeds that are not already in view and reports whether the
// node is still alone.
func (g *Gossip) joinSeeds(ctx context.Context) (alone bool) {
	if g.options.Seeds != nil {
		g.joinSome(ctx, g.options.Seeds(ctx))
	}
	return g.view.size() < 2
}

func (g *Gossip) joinSome(ctx context.Context, seeds []string) {
	known := map[string]bool{g.Address(): true}
	for _, m := range g.view.list() {
		known[m.Gossip] = true
	}
	rand.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	left := rejoinAtMost
	for _, seed := range seeds {
		if ctx.Err() != nil || left == 0 {
			return
		}
		ip, port, err := resolve(seed)
		if err != nil {
			g.logger.Debug("gossip: a seed's address", "seed", seed, "error", err)
			continue
		}
		address := net.JoinHostPort(ip, strconv.Itoa(port))
		if known[address] {
			continue
		}
		known[address] = true
		left--
		if _, err := g.list.Join([]string{address}); err != nil {
			g.logger.Debug("gossip: joining a seed", "seed", seed, "error", err)
		}
	}
}
