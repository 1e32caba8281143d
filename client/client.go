package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Client is a connection to a cluster. It is safe for concurrent use and meant
// to be opened once and shared: calls made at the same time travel together.
type Client struct {
	cfg       config
	log       *slog.Logger
	started   time.Time // what instants count from
	random    *random
	numbers   *numbers
	shardTime *shardTime
	limits    limits
	topology  topology
	counters  counters
	cache     *cache    // nil: none
	drivers   sync.Pool // of *driver, for calls with one key; channels and timers stay within one synctest bubble

	closed      atomic.Bool
	closing     chan struct{} // closed by Close
	firstHello  chan struct{} // closed when the first node was reached
	reachedOnce sync.Once

	life struct {
		sync.Mutex
		ended bool
		wg    sync.WaitGroup // the connections' goroutines
	}
}

// Open returns a client of the cluster whose nodes, or some of them, listen at
// the target's endpoints: "kv://host:port,host:port" or the same without
// "kv://". Any node will do, the others are learnt from it.
//
// Nothing is connected before the first call, so only a target or option that
// makes no sense is an error. With WithBlock, Open waits until one node has
// answered and fails with ErrTimeout, and the reason, when none does in time.
func Open(ctx context.Context, target string, opts ...Option) (*Client, error) {
	endpoints, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	random, err := newRandom(cfg.random)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, log: cfg.logger, started: time.Now(), random: random,
		numbers: newNumbers(random), shardTime: newShardTime(cfg.clock),
		closing: make(chan struct{}), firstHello: make(chan struct{}),
	}
	if cfg.cacheBytes > 0 {
		c.cache = newCache(cfg.cacheBytes, c.shardTime, cfg.clock.Boot)
	}
	c.limits.init()
	c.drivers.New = func() any { return newDriver(c, nil) }
	c.topology.init(c, endpoints)
	if cfg.block {
		if err := c.connect(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Close ends all connections and waits for the client's goroutines. Calls under
// way end with ErrClosed, in doubt where they are, and so does every later call.
// Closing again does nothing.
func (c *Client) Close() error {
	c.life.Lock()
	if !c.life.ended {
		c.life.ended = true
		c.closed.Store(true)
		close(c.closing)
	}
	c.life.Unlock()
	c.topology.closeAll()
	c.life.wg.Wait()
	return nil
}

func (c *Client) isClosed() bool { return c.closed.Load() }

// spawn runs f in a goroutine that Close waits for. It returns false when the
// client is closed.
func (c *Client) spawn(f func()) bool {
	c.life.Lock()
	defer c.life.Unlock()
	if c.life.ended {
		return false
	}
	c.life.wg.Go(f)
	return true
}

func (c *Client) now() instant { return time.Since(c.started) }

// reached notes that a node has said hello.
func (c *Client) reached() { c.reachedOnce.Do(func() { close(c.firstHello) }) }

// connect asks all endpoints at once and waits for the first answer.
func (c *Client) connect(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.timeout)
		defer cancel()
	}
	seeds := *c.topology.everyone.Load()
	for _, n := range seeds {
		n.start()
	}
	select {
	case <-c.firstHello:
		return nil
	case <-ctx.Done():
	}
	var causes []error
	for _, n := range seeds {
		causes = append(causes, n.lastCause())
	}
	return &Error{Op: "open", Kind: endKind(ctx.Err()), Err: errors.Join(causes...)}
}
