package raftstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/time/rate"

	"github.com/ringfort/ringfort/internal/dbevents"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/diskhealth"
	"github.com/ringfort/ringfort/raftstore/diskspace"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/snapshot"
	"github.com/ringfort/ringfort/shardmap"
)

// sweepEvery is how late a passed deadline may be noticed.
const sweepEvery = 20 * time.Millisecond

// Store is the replicas of one node: two databases and the groups on them.
// Safe for concurrent use.
type Store struct {
	opts   Options
	health *diskhealth.Watch
	space  *diskspace.Guard
	// trickle is what is still taken on when the disk is critical.
	trickle *rate.Limiter
	events  struct{ log, state dbevents.Counter }
	cache   *pebble.Cache
	files   *pebble.FileCache
	state   *pebble.DB
	log     *logstore.DB

	confirmer *confirmer
	readers   *readPool
	views     *views
	asker     *asker
	flusher   *flusher
	inspector *inspector
	expirer   *expirer
	source    *snapshot.Source  // of what is sent to peers
	staging   *snapshot.Staging // of what peers send
	sampler   *sampler
	verifier  *verifier
	loops     sync.WaitGroup // sweep, flusher, inspector, expirer, watchdog
	stopSweep chan struct{}
	gate      sync.WaitGroup
	stopGate  chan struct{}
	disk      diskState
	proposals atomic.Uint64
	counters  struct {
		entriesProposed, writesProposed, readRounds, readsConfirmed, electionsWon, overloaded atomic.Uint64
		termChanges, groupRestarts                                                            atomic.Uint64
		stuckTransfers, commitStalls, wedgedFollowers, laggingReplicas                        atomic.Uint64

		reads [numServed]atomic.Uint64 // keys

		indexFlights, indexFailures atomic.Uint64
	}
	stateOpen atomic.Bool   // the state database has been opened
	dead      atomic.Bool   // Fatal was called: nothing may be acknowledged any more
	died      chan struct{} // closed then
	stopping  chan struct{} // closed by Stop
	closing   chan struct{} // closed when the state database is about to be closed

	writes, reads nodeBound    // of all groups
	watchShare    atomic.Int64 // what the ring of each may hold
	logsFull      atomic.Bool  // the logs are far above their bound
	nearStall     atomic.Bool  // puts must wait for the state database
	appliedBytes  atomic.Uint64
	quarantined   quarantine

	births   chan struct{}  // capacity 1, full while a Create, restart or removal runs
	restarts sync.WaitGroup // groups that restart stops

	watchdog *watchdog
	history  restartHistory

	mu struct {
		sync.RWMutex
		groups  map[shardmap.ShardID]*Group
		stopped bool
	}
}

// Open opens the databases in o.Dir and starts every group found there. Errors
// name what is wrong with which group; nothing is started then.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Store{opts: o, births: make(chan struct{}, 1), stopSweep: make(chan struct{}), died: make(chan struct{}),
		stopGate: make(chan struct{}), stopping: make(chan struct{}), closing: make(chan struct{})}
	s.mu.groups = make(map[shardmap.ShardID]*Group)
	s.writes.maxOps, s.writes.maxBytes = int64(o.MaxNodeQueuedOps), o.MaxNodeQueuedBytes
	s.reads.maxOps = int64(o.MaxNodeQueuedReads)
	s.flusher, s.inspector, s.watchdog = newFlusher(s), newInspector(s), newWatchdog(s)
	s.expirer = &expirer{store: s, soon: make(chan struct{}, 1)}
	s.trickle = newTrickle()
	s.watchShare.Store(min(o.WatchBytesPerShard, o.MaxWatchBytes))
	if err := s.openDatabases(); err != nil {
		return nil, err
	}
	s.sampler = newSampler(s.sample)
	s.verifier = newVerifier(s)
	s.confirmer = newConfirmer(s)
	s.readers = newReadPool(o.ReadWorkers)
	s.views, s.asker = newViews(o.MaxViews), newAsker(s)
	for _, loop := range []func(){s.sweep, s.flusher.run, s.inspector.run, s.expirer.run} {
		s.loops.Go(loop)
	}
	if !o.unwatched {
		s.loops.Go(s.watchdog.run)
	}
	s.gate.Go(newDiskGate(s).run)
	s.space.Start()
	o.Network.OnConfirm(s.confirm)
	o.Network.OnReadIndex(s.answerIndexes)
	o.Network.OnEntries(s.takesEntries)
	o.Network.OnSnapshot(s.admitSnapshot)
	if err := s.boot(); err != nil {
		return nil, errors.Join(err, s.Stop(context.Background()))
	}
	return s, nil
}

func (s *Store) openDatabases() (err error) {
	dir := s.opts.Dir
	if err := makeDurableDirs(s.opts.FS, dir); err != nil {
		return err
	}
	s.health = diskhealth.New(s.opts.DiskSilence/2, s.slowDisk)
	s.space = diskspace.New(diskspace.Options{
		FS: s.health.FS(s.opts.FS), Dir: dir, LowBytes: s.opts.LowSpaceBytes, BallastBytes: s.opts.BallastBytes,
		FullPatience: s.opts.FullDiskPatience,
		Changed:      s.spaceChanged, Logger: s.opts.Logger,
	})
	if err := s.space.MayOpen(); err != nil {
		return err
	}
	fs := s.space.FS()
	s.cache = pebble.NewCache(s.opts.CacheBytes)
	s.files = pebble.NewFileCache(4, 1024)
	s.log, err = logstore.Open(logstore.Options{
		FS: fs, Dir: fs.PathJoin(dir, "log"),
		SyncPacing: s.opts.SyncPacing, Logger: s.opts.Logger, Events: &s.events.log, Fatal: s.fatal, Failpoints: s.opts.Failpoints,
		MaxPinnedBytes: max(s.opts.MaxLogBytes/8, 2*s.opts.LogBytesPerShard), BeforeSync: s.opts.BeforeSync,
	})
	if err == nil {
		options := s.stateOptions()
		if s.state, err = pebble.Open(fs.PathJoin(dir, "state"), options); err != nil {
			err = fmt.Errorf("raftstore: open state database: %w", err)
		} else {
			s.stateOpen.Store(true)
			if err = s.openSnapshots(options); err != nil {
				close(s.closing)
				err = errors.Join(err, s.state.Close())
			}
		}
		if err != nil {
			err = errors.Join(err, s.log.Close())
		}
	}
	if err != nil {
		// Pebble does not wait for a goroutine that it started in a failed Open (v2.1.7,
		// collectTableStats), which panics on a file cache that is gone.
		time.Sleep(openRest)
		s.files.Unref()
		s.cache.Unref()
	}
	return err
}

// openRest is what the rests of a failed opening have to come to an end.
const openRest = 100 * time.Millisecond

// openSnapshots prepares what sends and receives snapshots.
func (s *Store) openSnapshots(options *pebble.Options) (err error) {
	s.source = snapshot.NewSource(snapshot.SourceOptions{
		DB: s.state, Options: options, Limiter: snapshot.NewLimiter(max(s.opts.SnapshotBytesPerSecond, 0)),
		Failpoints: s.opts.Failpoints,
	})
	s.staging, err = snapshot.OpenStaging(snapshot.StagingOptions{
		FS: s.space.FS(), Dir: s.opts.FS.PathJoin(s.opts.Dir, "staging"), Nonce: s.opts.Nonce,
		TableFormat: uint32(s.state.TableFormat()), Room: s.space.Room, Logger: s.opts.Logger, Failpoints: s.opts.Failpoints,
	})
	return err
}

// makeDurableDirs makes the directories of both databases so that a power cut
// cannot take a directory away with the synced files in it.
func makeDurableDirs(fs vfs.FS, dir string) error {
	for _, sub := range []string{"log", "state"} {
		if err := fs.MkdirAll(fs.PathJoin(dir, sub), 0o700); err != nil {
			return fmt.Errorf("raftstore: make %s: %w", fs.PathJoin(dir, sub), err)
		}
	}
	for _, d := range []string{dir, fs.PathDir(dir)} {
		f, err := fs.OpenDir(d)
		if err != nil {
			return fmt.Errorf("raftstore: open directory %s: %w", d, err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("raftstore: sync directory %s: %w", d, err)
		}
	}
	return nil
}

// fatal takes the node out of service for good (P10).
func (s *Store) fatal(err error) {
	if s.dead.CompareAndSwap(false, true) {
		close(s.died)
	}
	s.opts.Logger.Error("the node cannot go on", "err", err)
	s.opts.Fatal(err)
}

// Group returns the local replica of a shard.
func (s *Store) Group(id shardmap.ShardID) (*Group, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g, ok := s.mu.groups[id]
	return g, ok
}

// Groups returns all local replicas by shard.
func (s *Store) Groups() []*Group {
	s.mu.RLock()
	defer s.mu.RUnlock()
	groups := make([]*Group, 0, len(s.mu.groups))
	for _, g := range s.mu.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *Group) int { return int(a.shard) - int(b.shard) })
	return groups
}

// Counters returns running totals since Open.
func (s *Store) Counters() Counters {
	log := s.log.Stats()
	return Counters{
		EntriesProposed: s.counters.entriesProposed.Load(),
		WritesProposed:  s.counters.writesProposed.Load(),
		LogSyncs:        log.Syncs,
		LogEntries:      log.Entries,
		LogBytes:        log.Bytes,
		ReadRounds:      s.counters.readRounds.Load(),
		ReadsConfirmed:  s.counters.readsConfirmed.Load(),
		ReadsByLeader:   s.counters.reads[ByLeader].Load(),
		ReadsByFollower: s.counters.reads[ByFollower].Load(),
		ReadsByReplica:  s.counters.reads[ByReplica].Load(),
		Views:           s.views.count(),
		IndexFlights:    s.counters.indexFlights.Load(),
		IndexFailures:   s.counters.indexFailures.Load(),
		ElectionsWon:    s.counters.electionsWon.Load(),
		Overloaded:      s.counters.overloaded.Load(),
		TermChanges:     s.counters.termChanges.Load(),
		GroupRestarts:   s.counters.groupRestarts.Load(),
		StuckTransfers:  s.counters.stuckTransfers.Load(),
		CommitStalls:    s.counters.commitStalls.Load(),
		WedgedFollowers: s.counters.wedgedFollowers.Load(),
		LaggingReplicas: s.counters.laggingReplicas.Load(),
		SyncTimes:       log.SyncTimes,

		OldestPendingSync: s.log.OldestPendingSync(),
	}
}

// sweep answers calls whose deadline has passed and brings reads of a lost
// confirm round into the next one.
func (s *Store) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stopSweep:
			return
		case now := <-tick.C:
			for _, g := range s.Groups() {
				g.queue.expire(now)
				g.waiters.expire(now)
				g.reads.expire(now, g.unavailable)
				if g.reads.hasPending() {
					s.confirmer.enqueue(g)
				}
				if g.reads.hasAsking() {
					g.askAgain()
				}
			}
			s.asker.sweep(now)
			s.views.sweep(now)
		}
	}
}

// HandOver transfers the leadership of every group led here to another voter,
// all at once, until ctx ends. Those that could not be handed over are elected
// anew when this node is gone.
func (s *Store) HandOver(ctx context.Context) {
	var wg sync.WaitGroup
	for _, g := range s.Groups() {
		t := g.tenure.Load()
		if t == nil {
			continue
		}
		wg.Go(func() {
			if err := g.handOver(ctx, t, "", ""); err != nil {
				s.opts.Logger.Warn("leadership not handed over", "shard", g.shard, "err", err)
			}
		})
	}
	wg.Wait()
}

// Stop stops every group, flushes the state so that a restart replays nothing,
// and closes the databases. Call HandOver first for a graceful stop. The error
// joins all that went wrong; after a Fatal nothing is flushed.
func (s *Store) Stop(ctx context.Context) error {
	s.mu.Lock()
	if s.mu.stopped {
		s.mu.Unlock()
		return nil
	}
	s.mu.stopped = true
	groups := s.mu.groups
	s.mu.groups = make(map[shardmap.ShardID]*Group)
	s.mu.Unlock()

	close(s.stopping)
	close(s.stopSweep)
	groupsStopped := make(chan struct{})
	var undertaker sync.WaitGroup
	undertaker.Go(func() { s.releaseWhenDead(groupsStopped) })
	s.loops.Wait()
	s.births <- struct{}{} // nothing is being born or restarted from here on
	var wg sync.WaitGroup
	errs := make(chan error, len(groups))
	for _, g := range groups {
		wg.Go(func() { errs <- g.stop() })
	}
	wg.Wait()
	s.restarts.Wait()
	s.watchdog.cures.Wait()
	close(groupsStopped)
	undertaker.Wait()
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	s.confirmer.close()
	s.readers.close()
	s.views.close()
	s.verifier.close()
	if !s.dead.Load() {
		err = errors.Join(err, s.lastFlush(ctx))
	}
	s.space.Close()
	close(s.closing)
	s.sampler.close() // it may have waited for what closing lets go on
	err = errors.Join(err, s.state.Close(), s.log.Close())
	close(s.stopGate) // until here: a stop that meets a hung disk must end too
	s.gate.Wait()
	s.files.Unref()
	s.cache.Unref()
	return err
}

// releaseWhenDead closes the log of a store that is dead or dies while its groups
// stop: raft waits for log writes that will never be answered, and closing the
// database ends the goroutines that wait.
func (s *Store) releaseWhenDead(groupsStopped <-chan struct{}) {
	select {
	case <-s.died:
		s.logFault(s.log.Close())
	case <-groupsStopped:
	}
}

// haltIfDead keeps the calling goroutine, Raft's, from going on after Fatal has
// returned, as it does in tests: what it would do next must not be believed.
func (s *Store) haltIfDead() {
	if s.dead.Load() {
		<-s.stopping
		runtime.Goexit()
	}
}

// logFault notes an error of a store that is dead already.
func (s *Store) logFault(err error) {
	if err != nil {
		s.opts.Logger.Warn("closing a failed store", "err", err)
	}
}

func (s *Store) register(g *Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.stopped {
		return kverr.New(kverr.Closed, "raftstore: the store is stopped")
	}
	s.mu.groups[g.shard] = g
	s.shareWatchesLocked()
	return nil
}

// unregister takes a group out of service and reports whether it was in it.
func (s *Store) unregister(g *Group) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.groups[g.shard] != g {
		return false
	}
	delete(s.mu.groups, g.shard)
	s.shareWatchesLocked()
	return true
}
