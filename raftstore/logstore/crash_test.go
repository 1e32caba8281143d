package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// twin is one group, kept the dumb way. It is a value: every step makes a new one.
type twin struct {
	boundary uint64
	logs     []*raft.Log // from the boundary on; the first is the boundary
	term     uint64
	voteTerm uint64
	voteFor  string
}

func (m twin) last() uint64 { return m.boundary + uint64(len(m.logs)) - 1 }

// step is one call on a group. at and n are read against the twin's state.
type step struct {
	kind    string
	at, n   int
	size    int
	retract bool // an append that replaces the log's end
}

func drawStep(t *rapid.T) step {
	kinds := []string{"append", "append", "append", "append", "end", "beginning", "term", "vote", "pause"}
	return step{
		kind:    rapid.SampledFrom(kinds).Draw(t, "kind"),
		at:      rapid.IntRange(0, 1000).Draw(t, "at"),
		n:       rapid.IntRange(1, 4).Draw(t, "n"),
		size:    rapid.SampledFrom([]int{0, 10, 300, 9000}).Draw(t, "size"),
		retract: rapid.IntRange(0, 9).Draw(t, "retract") == 0,
	}
}

// apply returns the twin after the step, the call that does it, and whether its
// return promises durability of all that went before.
func (m twin) apply(s step) (next twin, call func(*Group) error, synced bool) {
	next = m
	switch s.kind {
	case "append":
		from := m.last() + 1
		if s.retract {
			from = m.boundary + 1 + uint64(s.at)%(m.last()-m.boundary+1)
		}
		logs := entries(from, s.n, m.term)
		for _, l := range logs {
			l.Data = append(l.Data, bytes.Repeat([]byte{byte(s.at)}, s.size)...)
		}
		next.logs = append(slices.Clip(m.logs[:from-m.boundary]), logs...)
		return next, func(g *Group) error { return g.StoreLogs(logs) }, true
	case "end":
		from, end := m.boundary+1+uint64(s.at)%(m.last()-m.boundary+1), m.last()
		next.logs = slices.Clip(m.logs[:from-m.boundary])
		return next, func(g *Group) error { return g.DeleteRange(from, end) }, false
	case "beginning":
		start, to := m.boundary, m.boundary+uint64(s.at)%(m.last()-m.boundary+1)
		next.boundary, next.logs = to, slices.Clip(m.logs[to-m.boundary:])
		return next, func(g *Group) error { return g.DeleteRange(start, to) }, false
	case "term":
		next.term += uint64(s.n)
		return next, func(g *Group) error { return g.SetUint64([]byte(keyCurrentTerm), next.term) }, true
	case "vote":
		if m.voteTerm < m.term {
			next.voteTerm, next.voteFor = m.term, fmt.Sprint("candidate ", s.at)
		}
		return next, func(g *Group) error { return castVote(g, next.voteTerm, next.voteFor) }, next.voteTerm != m.voteTerm
	default:
		return next, func(*Group) error { time.Sleep(time.Duration(s.at) * time.Millisecond); return nil }, false
	}
}

func newbornTwin() twin {
	return twin{boundary: 10, logs: []*raft.Log{{Index: 10, Term: 5, Type: LogBoundary}}, term: 5}
}

// read turns a group back into a twin.
func readTwin(g *Group) (twin, error) {
	info := g.db.Info(g.id)
	m := twin{boundary: info.Boundary, term: info.CurrentTerm}
	for index := info.Boundary; index <= info.LastIndex; index++ {
		l := new(raft.Log)
		if err := g.GetLog(index, l); err != nil {
			return m, fmt.Errorf("entry %d of %d..%d: %w", index, info.Boundary, info.LastIndex, err)
		}
		m.logs = append(m.logs, l)
	}
	for _, index := range []uint64{info.Boundary - 1, info.LastIndex + 1} {
		if err := g.GetLog(index, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			return m, fmt.Errorf("entry %d outside %d..%d: %w", index, info.Boundary, info.LastIndex, err)
		}
	}
	var err error
	if m.voteTerm, err = g.GetUint64([]byte(keyLastVoteTerm)); err != nil {
		return m, err
	}
	candidate, err := g.Get([]byte(keyLastVoteCand))
	m.voteFor = string(candidate)
	return m, err
}

func (m twin) equal(o twin) bool {
	return m.boundary == o.boundary && m.term == o.term && m.voteTerm == o.voteTerm && m.voteFor == o.voteFor &&
		slices.EqualFunc(m.logs, o.logs, func(a, b *raft.Log) bool {
			return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data)
		})
}

func (m twin) String() string {
	return fmt.Sprintf("log %d..%d, term %d, vote %d %q", m.boundary, m.last(), m.term, m.voteTerm, m.voteFor)
}

// run is one group's life: the states it went through, the last of them that may
// be in flight, and the one that is promised to be durable.
type groupRun struct {
	group   *Group
	steps   []step
	states  []twin // written before the call, so the crash may show it
	issued  atomic.Int32
	durable atomic.Int32
}

func (r *groupRun) run(done func()) error {
	for _, s := range r.steps {
		next, call, synced := r.states[len(r.states)-1].apply(s)
		r.states = append(r.states, next)
		r.issued.Add(1)
		if err := call(r.group); err != nil {
			return fmt.Errorf("group %d: %s: %w", r.group.id, s.kind, err)
		}
		if synced {
			r.durable.Store(r.issued.Load())
		}
		got, err := readTwin(r.group)
		if err != nil || !got.equal(next) {
			return fmt.Errorf("group %d after %s: %s, want %s: %w", r.group.id, s.kind, got, next, err)
		}
		done()
	}
	return nil
}

// life runs all groups at once on a disk, takes the disk as a crash would leave
// it after so many steps, and says which states each group may come back in.
func life(fs *vfs.MemFS, o Options, groups map[uint64]*groupRun, crashAfter int32, cfg vfs.CrashCloneCfg) (*vfs.MemFS, error) {
	o.FS = fs
	d, err := Open(o)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	var births []Birth
	for id, r := range groups {
		r.group = d.Group(id)
		births = append(births, Birth{id, 1, 10, 5})
		if d.Info(id).Exists {
			births = births[:len(births)-1]
			got, err := readTwin(r.group)
			low, high := int(r.durable.Load()), int(r.issued.Load())
			at := slices.IndexFunc(r.states[low:high+1], got.equal)
			if err != nil || at < 0 {
				return nil, errors.Join(fmt.Errorf("group %d came back as %s: %w; acknowledged %s, in flight %s",
					id, got, err, r.states[low], r.states[high]), d.Close())
			}
			r.states = []twin{got}
		} else {
			r.states = []twin{newbornTwin()}
		}
		r.issued.Store(0)
		r.durable.Store(0)
	}
	if err := d.Birth(births); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	crash := make(chan struct{})
	var steps atomic.Int32
	step := func() {
		if steps.Add(1) == crashAfter {
			close(crash)
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(groups))
	for _, r := range groups {
		wg.Go(func() { errs <- r.run(step) })
	}
	<-crash
	bounds := make(map[uint64]int32)
	for id, r := range groups {
		bounds[id] = r.durable.Load()
	}
	left := fs.CrashClone(cfg)
	issued := make(map[uint64]int32)
	for id, r := range groups {
		issued[id] = r.issued.Load()
	}
	wg.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	for id, r := range groups {
		r.durable.Store(bounds[id])
		r.issued.Store(issued[id])
	}
	return left, errors.Join(err, d.Close())
}

// TestCrashKeepsWhatWasAcknowledged: random calls on several groups at once, a
// crash in their midst that keeps none, half or all of what was not synced, and
// again on what is left. Each group must come back in a state it was in between
// the last acknowledged call and the one in flight.
func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type plan struct {
			steps map[uint64][]step
			crash int32
			kept  int
			seed  uint64
		}
		var plans []plan
		for range 3 {
			p := plan{steps: make(map[uint64][]step), kept: rapid.SampledFrom([]int{0, 50, 100}).Draw(rt, "kept percent"),
				seed: rapid.Uint64().Draw(rt, "seed")}
			total := 0
			for group := range uint64(3) {
				p.steps[group] = rapid.SliceOfN(rapid.Custom(drawStep), 1, 25).Draw(rt, "steps")
				total += len(p.steps[group])
			}
			p.crash = int32(rapid.IntRange(1, total).Draw(rt, "crash"))
			plans = append(plans, p)
		}
		var err error
		synctest.Test(t, func(t *testing.T) {
			groups := make(map[uint64]*groupRun)
			for group := range uint64(3) {
				groups[group] = &groupRun{}
			}
			fs := vfs.NewCrashableMem()
			for _, p := range plans {
				for group, steps := range p.steps {
					groups[group].steps = steps
				}
				cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: p.kept, RNG: rand.New(rand.NewPCG(p.seed, 1))}
				if fs, err = life(fs, options(t, fs), groups, p.crash, cfg); err != nil {
					return
				}
			}
			_, err = life(fs, options(t, fs), groups, 1, vfs.CrashCloneCfg{})
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}
