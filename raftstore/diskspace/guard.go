package diskspace

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	lookEvery = time.Second
	// lookBytes is how much may be written before the free space is asked for again.
	lookBytes = mib
	// ballastCalm is how long there must have been room before the ballast is written
	// again: who filled the disk may not be done. Where the file system gives space
	// without writing it, the ballast is made at once: the disk may be full again
	// within seconds, and then it is needed.
	ballastCalm = 10 * time.Second
)

// Options configure a Guard.
type Options struct {
	FS  vfs.FS // the disk
	Dir string // on it, where the ballast is kept; it must exist by Start
	// LowBytes is the free space at which Low begins. 0: 5 % of the disk, at least
	// 16 MiB and at most 4 GiB. Negative: never.
	LowBytes int64
	// BallastBytes is the size of the ballast. 0: 1 % of the disk, at most 256 MiB.
	// Negative: none.
	BallastBytes int64
	// FullPatience is how long a write to a full disk waits for space when there is no
	// ballast to throw off.
	FullPatience time.Duration
	// Changed is called after a change of the level, from the guard's goroutine.
	Changed func(Level)
	Logger  *slog.Logger
}

// Status is what a Guard knows of its disk.
type Status struct {
	Level         Level
	Known         bool   // the disk tells its free space
	Free, Total   uint64 // bytes, when last looked; Free is without what the ballast is owed
	LowAt         uint64
	CriticalAt    uint64
	Ballast       uint64 // bytes it takes up now
	FullHits      uint64 // writes that met a full disk and were repeated
	TablesRefused uint64 // tables that were refused the reserve
}

// Guard watches one disk. Safe for concurrent use.
type Guard struct {
	opts   Options
	logger *slog.Logger
	fs     vfs.FS // the disk behind OnDiskFull
	limits atomic.Pointer[limits]

	level      atomic.Int32
	avail      atomic.Uint64 // what the disk says
	free       atomic.Uint64 // the same, less the ballast while it is thrown off
	total      atomic.Uint64
	unseen     atomic.Int64 // bytes written since free was asked for
	ballast    atomic.Uint64
	spent      atomic.Bool               // the ballast was thrown off and is owed
	hopeless   atomic.Pointer[time.Time] // since when no write has a chance; nil while one has
	full       atomic.Uint64
	refused    atomic.Uint64
	started    atomic.Bool
	lastRest   atomic.Int64 // when a wait for room was last reported, in ns since 1970
	unknown    atomic.Bool  // the disk does not tell its free space
	looking    sync.Mutex
	kick       chan struct{} // capacity 1: look at the level now
	stop       chan struct{}
	loop       sync.WaitGroup
	closedOnce sync.Once
}

// New returns a guard that has looked once. It watches nothing before Start.
func New(o Options) *Guard {
	g := &Guard{opts: o, logger: o.Logger, kick: make(chan struct{}, 1), stop: make(chan struct{})}
	if g.logger == nil {
		g.logger = slog.New(slog.DiscardHandler)
	}
	g.limits.Store(&limits{})
	// A write is repeated once, and once more when others took what the ballast gave.
	g.fs = vfs.OnDiskFull(vfs.OnDiskFull(o.FS, g.throwOff), g.throwOff)
	g.look()
	return g
}

// Start begins to watch, and keeps tables off the reserve from now on.
func (g *Guard) Start() {
	if g.unknown.Load() {
		return
	}
	g.look()
	g.findBallast()
	g.started.Store(true)
	g.loop.Go(g.run)
}

// Close ends the watching and waits for it. Tables may use the reserve again.
func (g *Guard) Close() {
	g.closedOnce.Do(func() { close(g.stop) })
	g.loop.Wait()
	g.started.Store(false)
}

// Level is what the node may still take on, as of the last look.
func (g *Guard) Level() Level { return Level(g.level.Load()) }

// Room reports whether so many more bytes would leave the disk above Critical.
func (g *Guard) Room(bytes uint64) bool {
	free, critical := g.free.Load(), g.limits.Load().critical
	return g.unknown.Load() || free >= critical && free-critical >= bytes
}

// Status returns what is known.
func (g *Guard) Status() Status {
	l := g.limits.Load()
	return Status{
		Level: g.Level(), Known: !g.unknown.Load(), Free: g.free.Load(), Total: g.total.Load(),
		LowAt: l.low, CriticalAt: l.critical, Ballast: g.ballast.Load(),
		FullHits: g.full.Load(), TablesRefused: g.refused.Load(),
	}
}

// look asks the disk and judges. Somebody else's look that is under way will do.
func (g *Guard) look() {
	if g.looking.TryLock() {
		defer g.looking.Unlock()
		g.lookLocked()
	}
}

// lookNow looks after somebody else's look that is under way, which may have asked
// before what the caller knows of.
func (g *Guard) lookNow() {
	g.looking.Lock()
	defer g.looking.Unlock()
	g.lookLocked()
}

func (g *Guard) lookLocked() {
	g.unseen.Store(0)
	usage, err := g.opts.FS.GetDiskUsage(g.opts.Dir)
	switch {
	case errors.Is(err, vfs.ErrUnsupported):
		g.unknown.Store(true)
		return
	case err != nil:
		return // what was known still is
	}
	l := limitsFor(usage.TotalBytes, g.opts.LowBytes, g.opts.BallastBytes)
	g.limits.Store(&l)
	free := usage.AvailBytes
	if g.spent.Load() { // what it gave is for what cannot be refused
		free -= min(free, l.ballast)
	}
	g.total.Store(usage.TotalBytes)
	g.avail.Store(usage.AvailBytes)
	g.free.Store(free)
	if g.fit() {
		g.hopeless.Store(nil)
	}
	was := g.Level()
	if now := l.levelAt(free, was); now != was {
		g.level.Store(int32(now))
		g.signal()
	}
}

func (g *Guard) signal() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// wrote notes bytes that the disk has taken.
func (g *Guard) wrote(n int) {
	if g.unseen.Add(int64(n)) >= lookBytes {
		g.look()
	}
}

// run looks each second, tells of changes, and makes the ballast.
func (g *Guard) run() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var told Level
	roomySince := time.Time{} // zero: there is no room, or the ballast is there
	if g.ballast.Load() == 0 && !g.spent.Load() {
		roomySince = time.Now().Add(-ballastCalm) // the first one need not wait
	}
	for {
		if level := g.Level(); level != told {
			g.tell(told, level)
			told = level
		}
		switch l := g.limits.Load(); {
		case l.ballast == 0 || g.ballast.Load() > 0:
			roomySince = time.Time{}
		case !l.roomy(g.avail.Load()):
			roomySince = time.Time{}
		case roomySince.IsZero():
			roomySince = time.Now()
			g.makeBallast(l.ballast, false)
		case time.Since(roomySince) >= ballastCalm:
			g.makeBallast(l.ballast, true)
			roomySince = time.Time{}
		}
		select {
		case <-g.stop:
			return
		case <-g.kick:
		case <-tick.C:
			g.look()
		}
	}
}

func (g *Guard) tell(was, now Level) {
	s := g.Status()
	args := []any{"level", now.String(), "was", was.String(), "dir", g.opts.Dir,
		"free_bytes", s.Free, "total_bytes", s.Total, "low_at", s.LowAt, "critical_at", s.CriticalAt}
	switch now {
	case OK:
		g.logger.Info("disk space is back: everything is taken on again", args...)
	case Low:
		g.logger.Warn("disk space is low: shards led here take no new values; reads and deletes go on", args...)
	case Critical:
		g.logger.Error("disk space is critical: this node takes on next to nothing; free space in its directory", args...)
	}
	if g.opts.Changed != nil {
		g.opts.Changed(now)
	}
}
