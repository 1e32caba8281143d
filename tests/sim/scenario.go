package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/node"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// scenario is one plan being carried out. It lives in one synctest bubble.
type scenario struct {
	t        testing.TB
	plan     Plan
	cluster  *nodetest.Cluster
	mischief *mischief
	clocks   []*skewedClock
	fails    []*failpoint.Set
	cutAt    map[failpoint.Name]int // where armed failpoints cut the power
	lags     []*lag
	disks    []*disk
	work     *workload
	comparer *comparer
	mirrors  mirrors
	rng      *rand.Rand
	struck   map[Fault]int
	asked    asked
	hunts    int            // hunters started so far
	strands  sync.WaitGroup // hunters
	pending  []timed        // ends of faults and restarts, by time
	logger   *slog.Logger
}

// timed is something to do at a time since the start.
type timed struct {
	at time.Duration
	do func() error
}

// run carries the plan out and judges it.
func run(t testing.TB, p Plan, logger *slog.Logger) (Report, []Op, error) {
	s := &scenario{
		t: t, plan: p, mischief: newMischief(p.Seed), rng: rand.New(rand.NewPCG(p.Seed, 0xfa17)),
		struck: make(map[Fault]int), cutAt: make(map[failpoint.Name]int), logger: logger,
	}
	for i := range p.Nodes {
		s.clocks = append(s.clocks, &skewedClock{System: clock.NewVirtual()})
		s.fails = append(s.fails, new(failpoint.Set))
		s.lags = append(s.lags, newLag(p.Seed, i))
		s.disks = append(s.disks, new(disk))
	}
	s.cluster = nodetest.Start(t, nodetest.Options{
		Nodes: p.Nodes, Shards: p.Shards, Seed: p.Seed, Logger: logger,
		Tamper:   s.mischief.tamper,
		WrapDisk: func(i int, fs vfs.FS) vfs.FS { return s.disks[i].wrap(fs) },
		Clock:    func(i int) clock.Clock { return s.clocks[i] },
		Configure: func(i int, c *config.Config) {
			if i == p.Sluggish {
				c.ElectionTimeout = 4 * time.Second
			}
		},
		Tune: func(i int, o *raftstore.Options) {
			o.MemTableBytes, o.DiskExit = 256<<10, diskExit
			p.Storage.tune(o, s.fails[i])
			hang := o.BeforeApply
			o.BeforeApply = func(shard shardmap.ShardID) {
				hang(shard)
				s.lags[i].beforeApply(shard)
			}
		},
	})
	shards := s.cluster.Servers[0].Node().Map()
	s.work = newWorkload(time.Now(), func(key string) shardmap.ShardID {
		rec, _ := shards.Lookup(shardmap.SlotOf([]byte(key)))
		return rec.Shard
	})
	s.comparer = &comparer{cluster: s.cluster, rng: rand.New(rand.NewPCG(p.Seed, 0xc0))}
	stopWork, err := s.startClients()
	if err != nil {
		return Report{}, nil, err
	}
	err = s.strike()
	stopWork()
	s.strands.Wait()
	if err == nil {
		err = s.recover()
	}
	err = errors.Join(err, s.mirrors.finish(err == nil))
	ops := s.work.history.all()
	report := s.report(ops)
	return report, ops, errors.Join(err, s.comparer.differ, checkLinearizable(ops), checkVersions(ops), checkShards(ops), report.loud())
}

func (s *scenario) endpoints() string {
	target := "kv://"
	for i, srv := range s.cluster.Servers {
		if i > 0 {
			target += ","
		}
		target += srv.Address()
	}
	return target
}

func (s *scenario) open(seed uint64, more ...client.Option) (*client.Client, error) {
	random := rand.NewChaCha8([32]byte{byte(s.plan.Seed), byte(s.plan.Seed >> 8), byte(seed)})
	return client.Open(context.Background(), s.endpoints(), append([]client.Option{client.WithDialer(s.cluster.Dial), client.WithRand(random), client.WithClock(clock.NewVirtual())}, more...)...)
}

// startClients starts the workers; the function it returns waits for them.
func (s *scenario) startClients() (stop func(), err error) {
	quit := make(chan struct{})
	var workers sync.WaitGroup
	var clients []*client.Client
	for c := range s.plan.Clients {
		cl, err := s.open(uint64(c))
		if err != nil {
			close(quit)
			return nil, err
		}
		clients = append(clients, cl)
		for w := range workersPerClient {
			id := c*workersPerClient + w
			rng := rand.New(rand.NewPCG(s.plan.Seed, uint64(id)))
			workers.Go(func() { s.work.work(id, cl, rng, quit) })
		}
	}
	for i := range probes {
		p := s.newProbe(s.plan.Clients*workersPerClient+i, i == 0)
		workers.Go(func() { p.run(quit) })
	}
	workers.Go(func() { s.comparer.run(quit) })
	if err := s.startMirrors(&workers, quit); err != nil {
		close(quit)
		return nil, err
	}
	return func() {
		close(quit)
		workers.Wait()
		for _, cl := range clients {
			if err := cl.Close(); err != nil {
				s.t.Errorf("close client: %v", err)
			}
		}
	}, nil
}

// strike carries out the steps and their ends in the order of their times.
func (s *scenario) strike() error {
	steps := s.plan.Steps
	for {
		next, isStep := s.plan.Length, false
		if len(steps) > 0 && steps[0].At < next {
			next, isStep = steps[0].At, true
		}
		due := -1
		for i, p := range s.pending {
			if p.at < next || p.at == next && !isStep {
				next, due = p.at, i
			}
		}
		time.Sleep(time.Until(s.work.start.Add(next)))
		switch {
		case due >= 0:
			do := s.pending[due].do
			s.pending = append(s.pending[:due], s.pending[due+1:]...)
			if err := do(); err != nil {
				return err
			}
		case isStep:
			if err := s.inflict(steps[0]); err != nil {
				return err
			}
			steps = steps[1:]
		default:
			return nil
		}
	}
}

func (s *scenario) after(step Step, do func() error) {
	s.pending = append(s.pending, timed{step.At + step.For, do})
}

// inflict makes one fault strike. One that cannot strike now (the node is down
// already) is not counted.
func (s *scenario) inflict(step Step) error {
	srv := s.cluster.Servers[step.Nodes[0]]
	net := s.cluster.Network
	switch step.Fault {
	case FaultCrash, FaultCrashAll:
		return s.crash(step, step.Amount)
	case FaultDisk:
		if !srv.Up() {
			return nil
		}
		srv.BreakDisk(breaksOn(step.Amount))
		s.after(step, func() error { return s.crash(Step{Nodes: step.Nodes, At: step.At + step.For}, 0) })
	case FaultHang:
		if !srv.Up() {
			return nil
		}
		if step.Amount == 0 {
			srv.HangLog()
		} else {
			srv.HangApply()
		}
		s.after(step, func() error {
			srv.Unhang()
			if srv.Fatal() == nil {
				return nil
			}
			s.struck[FaultHangEnds]++
			return s.crash(Step{Nodes: step.Nodes, At: step.At + step.For}, 0)
		})
	case FaultFull:
		s.fill(step)
	case FaultStop:
		if !srv.Up() {
			return nil
		}
		if err := srv.Stop(); err != nil && srv.Fatal() == nil {
			s.logger.Warn("stop", "node", srv.Name, "err", err) // its disk or network may be broken
		}
		s.after(step, func() error { return s.restart(step.Nodes[0]) })
	case FaultHold:
		s.isolate(step, nodetest.Outside)
	case FaultSplit:
		s.isolate(step)
	case FaultDepose, FaultDeafen:
		if !s.depose(step) {
			return nil
		}
	case FaultLag:
		l := s.lags[step.Nodes[0]]
		l.set(time.Duration(step.Amount) * time.Millisecond)
		s.after(step, func() error { l.set(0); return nil })
		s.hunt(step, func(p *probe, until time.Duration) { p.huntLagging(step.Nodes[0], until) })
	case FaultOneWay:
		net.Cut(step.Nodes[0], step.Nodes[1])
		s.after(step, func() error { net.Heal(step.Nodes[0], step.Nodes[1]); return nil })
	case FaultMessages:
		s.mischief.set(step.Amount)
		s.after(step, func() error { s.mischief.set(0); return nil })
	case FaultClock:
		s.clocks[step.Nodes[0]].jump(time.Duration(step.Amount) * time.Second)
		s.after(step, func() error {
			s.clocks[step.Nodes[0]].jump(-time.Duration(step.Amount) * time.Second)
			return nil
		})
	case FaultClockDown:
		s.clocks[step.Nodes[0]].jump(-time.Duration(step.Amount) * time.Second) // for good
		if err := s.crash(step, 0); err != nil {
			return err
		}
	case FaultFailpoint:
		s.arm(step)
		return nil // counted when it strikes
	case FaultTransfer:
		s.transfer(nil)
	}
	s.struck[step.Fault]++
	return nil
}

// isolate cuts the step's node off from the other nodes, and from whom else is
// named, until the step ends.
func (s *scenario) isolate(step Step, also ...int) {
	node, others := step.Nodes[0], also
	for i := range s.cluster.Servers {
		if i != node {
			others = append(others, i)
		}
	}
	for _, o := range others {
		s.cluster.Network.CutBoth(node, o)
	}
	s.after(step, func() error {
		for _, o := range others {
			s.cluster.Network.HealBoth(node, o)
		}
		return nil
	})
}

func (s *scenario) crash(step Step, keep int) error {
	for _, i := range step.Nodes {
		srv := s.cluster.Servers[i]
		if !srv.Up() {
			continue
		}
		srv.Crash(keep, s.rng)
		s.struck[FaultCrash]++
		s.after(step, func() error { return s.restart(i) })
	}
	return nil
}

func (s *scenario) restart(i int) error {
	srv := s.cluster.Servers[i]
	if srv.Up() {
		return nil
	}
	if s.disks[i].isFull() && s.startFull(i) {
		return nil
	}
	if err := srv.Start(); err != nil {
		return fmt.Errorf("restart %s: %w", srv.Name, err)
	}
	return nil
}

// transfer has leaders hand their shards over, one after another: half of them to
// anybody, or all to one node.
func (s *scenario) transfer(to *node.Node) {
	var target shardmap.NodeID
	if to != nil {
		target = to.Self().ID
	}
	for _, srv := range s.cluster.Servers {
		if !srv.Up() {
			continue
		}
		for _, g := range srv.Node().Store().Groups() {
			if g.Status().Ready && (to != nil || s.rng.IntN(2) == 0) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				if err := g.TransferLeadership(ctx, target); err != nil {
					s.logger.Info("transfer", "shard", g.Shard(), "err", err)
				}
				cancel()
			}
		}
	}
}

// recover ends all faults, and judges what must be true when they are over:
// every key is served, and all replicas of a shard hold the same.
func (s *scenario) recover() error {
	s.mischief.set(0)
	for _, p := range s.pending {
		if err := p.do(); err != nil {
			return err
		}
	}
	for i, srv := range s.cluster.Servers {
		if srv.Fatal() != nil {
			srv.Crash(0, s.rng)
		}
		if err := s.restart(i); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.cluster.AwaitLeaders(ctx); err != nil {
		return fmt.Errorf("a minute after the last fault: %w", err)
	}
	cl, err := s.open(0xff)
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, key := range s.work.usedKeys() {
		if op := s.work.do(-1, cl, Get, key, ""); op.Outcome != Done {
			return fmt.Errorf("after the faults, get %s: %s", key, op.Error)
		}
	}
	return s.compareReplicas()
}

// compareReplicas waits until all replicas of every shard are at one index and
// compares their hashes.
func (s *scenario) compareReplicas() error {
	type state struct{ index, hash uint64 }
	var differ error
	for range 200 {
		differ = nil
		for _, rec := range s.cluster.Servers[0].Node().Map().Records() {
			seen := make(map[state][]string)
			for _, srv := range s.cluster.Servers {
				if g, ok := srv.Node().Store().Group(rec.Shard); ok {
					index, hash, err := g.Hash()
					if err != nil {
						return err
					}
					seen[state{index, hash}] = append(seen[state{index, hash}], srv.Name)
				}
			}
			if len(seen) != 1 {
				differ = errors.Join(differ, fmt.Errorf("shard %d: replicas differ: %v", rec.Shard, seen))
			}
		}
		if differ == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return differ
}

// diskExit is shorter than in production, so that a scenario sees its end.
const diskExit = 5 * time.Second
