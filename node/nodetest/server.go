package nodetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/node"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/transport"
)

// Server is one node of a Cluster through all its lives. Methods that start and
// end it need one caller at a time.
type Server struct {
	// Index is its number, Name its name: n1 has index 0.
	Index int
	Name  string

	cluster *Cluster
	random  io.Reader
	clock   clock.Clock
	cfg     config.Config
	disk    *vfs.MemFS
	faults  *faults // of the current life's disk

	logHang, applyHang hang // of the disk, in any life

	node *node.Node // of the current or last life
	life *life      // nil while it is down

	running atomic.Pointer[node.Node]
}

// life is one process, so to speak.
type life struct {
	end  context.CancelCauseFunc
	done chan struct{} // closed when Run has returned
	err  error         // Run's, after done

	mu    sync.Mutex
	fatal error
}

// Node is the node of the current life, or of the last one.
func (s *Server) Node() *node.Node { return s.node }

// Address is where its gRPC listener is.
func (s *Server) Address() string { return s.cfg.Advertise }

// Up reports whether it runs.
func (s *Server) Up() bool { return s.life != nil }

// Running is the node of the current life once it answers, nil while it is down.
// Any goroutine may ask.
func (s *Server) Running() *node.Node { return s.running.Load() }

// Done is closed when the current life has ended by itself.
func (s *Server) Done() <-chan struct{} { return s.life.done }

// Fatal is what the node gave as the reason why it cannot go on, nil while it can.
func (s *Server) Fatal() error {
	if s.life == nil {
		return nil
	}
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	return s.life.fatal
}

// Start begins a life on what the disk holds and returns when the node answers.
func (s *Server) Start() error {
	if s.life != nil {
		return errors.New(s.Name + " runs already")
	}
	l := &life{done: make(chan struct{})}
	n, err := node.New(s.cfg, s.deps(l))
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(context.Background())
	l.end = end
	s.node, s.life = n, l
	go func() {
		defer close(l.done)
		l.err = n.Run(ctx)
	}()
	select {
	case <-n.Started():
		s.running.Store(n)
		return nil
	case <-l.done:
		s.life = nil
		end(nil)
		return fmt.Errorf("%s: %w", s.Name, l.err)
	}
}

// deps is the world of one life; an earlier life's disk and listeners are not
// its.
func (s *Server) deps(l *life) node.Deps {
	c := s.cluster
	var tamper transport.Tamper
	if c.options.Tamper != nil {
		tamper = c.options.Tamper(s.Index)
	}
	logger := c.options.Logger
	if logger != nil {
		logger = logger.With("node", s.Name)
	}
	return node.Deps{
		FS: s.brittle(), Clock: s.clock, Random: s.random, Logger: logger, Tamper: tamper, Version: "test",
		LogLevel:    c.options.LogLevel,
		Listen:      func(address string) (net.Listener, error) { return c.Network.listen(s.Index, address), nil },
		Dial:        c.Network.dialer(s.Index),
		StartGossip: c.hub.start(s.Index),
		Fatal: func(err error) {
			l.mu.Lock()
			if l.fatal == nil {
				l.fatal = err
			}
			l.mu.Unlock()
			c.Network.sever(s.Index) // whatever it does from now on, nobody hears of it
		},
		TuneStore: func(o *raftstore.Options) {
			o.FullDiskPatience = 0 // nothing may wait below Pebble in a bubble (M1)
			o.CacheBytes, o.MemTableBytes = 1<<20, 1<<20
			s.tuneHangs(o)
			if c.options.Tune != nil {
				c.options.Tune(s.Index, o)
			}
		},
	}
}

// Stop ends the node gracefully and returns what Run returned.
func (s *Server) Stop() error { return s.finish(nil) }

// Crash ends the node as a power cut would. keepUnsynced is the chance in percent
// that a block or directory entry that was not synced survives.
func (s *Server) Crash(keepUnsynced int, rng *rand.Rand) {
	if s.life == nil {
		return
	}
	s.cluster.Network.sever(s.Index)
	after := s.faults.left()
	if after == nil {
		after = s.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keepUnsynced, RNG: rng})
	}
	_ = s.finish(node.ErrCrash) // on a disk that nobody will read again
	s.disk = after
}

func (s *Server) finish(cause error) error {
	l := s.life
	if l == nil {
		return nil
	}
	s.running.Store(nil)
	s.Unhang() // a stop waits for the disk
	l.end(cause)
	<-l.done
	s.cluster.Network.sever(s.Index)
	s.life = nil
	return l.err
}

// Move makes the next life listen at other addresses.
func (s *Server) Move(address, gossipAddress string) {
	s.cfg.Listen, s.cfg.Advertise, s.cfg.GossipListen = address, address, gossipAddress
}

// Configure changes the next life's configuration.
func (s *Server) Configure(change func(*config.Config)) { change(&s.cfg) }

// Wipe empties the disk; the next life is a new node.
func (s *Server) Wipe() { s.disk = vfs.NewCrashableMem() }
