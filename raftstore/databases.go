package raftstore

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Databases is what Pebble says about a node's two databases, as of one moment.
// Metrics are shared and read-only.
type Databases struct {
	At    time.Time
	Log   *pebble.Metrics // nil once the log database is closed
	State *pebble.Metrics
}

// LogBytes is what the logs of all shards take on disk.
func (d Databases) LogBytes() uint64 { return DiskBytes(d.Log) }

// StateBytes is what the data of all shards takes on disk.
func (d Databases) StateBytes() uint64 { return DiskBytes(d.State) }

// DiskBytes is what all files of a database take; 0 for nil.
func DiskBytes(m *pebble.Metrics) uint64 {
	if m == nil {
		return 0
	}
	return m.DiskSpaceUsage() - m.WAL.PhysicalSize + WALBytes(m)
}

// WALBytes is the size of the write-ahead log. Pebble's physical size has the
// newest file as it was when it was opened: empty, or recycled and longer than
// what is in it.
func WALBytes(m *pebble.Metrics) uint64 { return max(m.WAL.PhysicalSize, m.WAL.Size) }

// sampleAge is how old a sample may be to be taken for the present.
const sampleAge = time.Second

// Databases returns a sample that is at most a second old, or, if the disk does
// not let Pebble answer within patience, the last one that could be had.
func (s *Store) Databases(patience time.Duration) Databases { return s.sampler.get(patience) }

func (s *Store) sample() Databases {
	d := Databases{At: time.Now(), State: s.state.Metrics()}
	d.Log, _ = s.log.Metrics()
	s.judge(d)
	return d
}

// sampler reads Pebble's metrics on a goroutine of its own. Pebble collects them
// under locks that it holds while it writes its manifest, so with a hung disk the
// reader hangs too; those who look into such a node must not.
type sampler struct {
	read func() Databases
	kick chan struct{} // capacity 1: a fresh sample is wanted
	stop chan struct{}
	loop sync.WaitGroup

	mu struct {
		sync.Mutex
		last Databases
		next chan struct{} // closed when last is replaced
	}
}

// newSampler takes the first sample before it returns.
func newSampler(read func() Databases) *sampler {
	p := &sampler{read: read, kick: make(chan struct{}, 1), stop: make(chan struct{})}
	p.mu.last, p.mu.next = read(), make(chan struct{})
	p.loop.Go(p.run)
	return p
}

func (p *sampler) run() {
	for {
		select {
		case <-p.kick:
			fresh := p.read()
			p.mu.Lock()
			p.mu.last = fresh
			close(p.mu.next)
			p.mu.next = make(chan struct{})
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

func (p *sampler) get(patience time.Duration) Databases {
	p.mu.Lock()
	last, next := p.mu.last, p.mu.next
	p.mu.Unlock()
	if time.Since(last.At) <= sampleAge {
		return last
	}
	signal(p.kick)
	patient := time.NewTimer(patience)
	defer patient.Stop()
	select {
	case <-next:
	case <-patient.C:
	case <-p.stop:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.last
}

// refresh has a sample taken, and does not wait for it.
func (p *sampler) refresh() { signal(p.kick) }

func (p *sampler) close() {
	close(p.stop)
	p.loop.Wait()
}
