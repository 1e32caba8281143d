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

	replica     uint64 // 0: not born; ids are given in order from 1
	retired     uint64 // how many of them were retired
	quarantined bool
	ingest      Marker
	pin         uint64 // 0: none; only in memory
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
	kinds := []string{
		"append", "append", "append", "append", "append", "append", "end", "beginning", "truncate", "term", "vote", "pause",
		"mark", "finish", "drop", "pin", "retire", "quarantine", "sweep",
	}
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
	if m.replica == 0 && s.kind != "pause" {
		birth := Birth{Replica: m.retired + 1, Index: 10 + uint64(s.at)%40, Term: 5}
		next = newbornTwin()
		next.boundary, next.replica, next.retired = birth.Index, birth.Replica, m.retired
		next.logs = []*raft.Log{{Index: birth.Index, Term: 5, Type: LogBoundary}}
		return next, func(g *Group) error {
			birth.Group = g.id
			return g.db.Birth([]Birth{birth})
		}, true
	}
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
		return m.cut(to), func(g *Group) error { return g.DeleteRange(start, to) }, false
	case "truncate":
		to := m.boundary - 5 + uint64(s.at)%(m.last()-m.boundary+10)
		return m.cut(to), func(g *Group) error { return g.Truncate(to) }, false
	case "mark":
		marker := Marker{m.boundary + 1 + uint64(s.at)%(2*(m.last()-m.boundary)+3), m.term}
		if m.ingest != (Marker{}) {
			marker = m.ingest
		}
		next.ingest = marker
		return next, func(g *Group) error { return g.db.MarkIngest(g.id, marker.Index, marker.Term) }, m.ingest == Marker{}
	case "finish":
		if m.ingest == (Marker{}) {
			return next, func(g *Group) error { return nil }, false
		}
		next.boundary, next.ingest = m.ingest.Index, Marker{}
		next.logs = []*raft.Log{{Index: m.ingest.Index, Term: m.ingest.Term, Type: LogBoundary}}
		if m.last() > m.ingest.Index {
			next.logs = append(next.logs, m.logs[m.ingest.Index+1-m.boundary:]...)
		}
		if m.pin <= next.boundary {
			next.pin = 0
		}
		return next, func(g *Group) error { return g.db.FinishIngest(g.id) }, true
	case "drop":
		next.ingest = Marker{}
		return next, func(g *Group) error { return g.db.DropIngest(g.id) }, m.ingest != Marker{}
	case "pin":
		if m.pin == 0 {
			next.pin = m.boundary + uint64(s.at)%(m.last()-m.boundary+1)
			return next, func(g *Group) error { g.Pin(next.pin); return nil }, false
		}
		next.pin = 0
		return next, func(g *Group) error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.pins = nil
			return nil
		}, false
	case "retire":
		return twin{retired: m.replica}, func(g *Group) error { return g.db.Retire(g.id, m.replica) }, true
	case "sweep": // with or without the flush that should come before
		return next, func(g *Group) error {
			due, err := g.db.truncatedSpans()
			if err == nil && s.at%2 == 0 {
				err = g.db.pebble.Flush()
			}
			return errors.Join(err, g.db.excise(due))
		}, false
	case "quarantine":
		next.quarantined = true
		return next, func(g *Group) error { return g.db.Quarantine(g.id, m.replica, "bad") }, !m.quarantined
	case "term":
		next.term += uint64(s.n)
		return next, func(g *Group) error { return g.SetUint64([]byte(keyCurrentTerm), next.term) }, true
	case "vote":
		if m.quarantined {
			return next, func(*Group) error { return nil }, false
		}
		if m.voteTerm < m.term {
			next.voteTerm, next.voteFor = m.term, fmt.Sprint("candidate ", s.at)
		}
		return next, func(g *Group) error { return castVote(g, next.voteTerm, next.voteFor) }, next.voteTerm != m.voteTerm
	default:
		return next, func(*Group) error { time.Sleep(time.Duration(s.at) * time.Millisecond); return nil }, false
	}
}

// cut is a truncation of the beginning, as far as it is allowed.
func (m twin) cut(to uint64) twin {
	to = min(to, m.last())
	if m.pin != 0 {
		to = min(to, m.pin-1)
	}
	if to > m.boundary && m.ingest == (Marker{}) {
		m.boundary, m.logs = to, slices.Clip(m.logs[to-m.boundary:])
	}
	return m
}

func newbornTwin() twin {
	return twin{replica: 1, boundary: 10, logs: []*raft.Log{{Index: 10, Term: 5, Type: LogBoundary}}, term: 5}
}

// read turns a group back into a twin.
func readTwin(g *Group) (twin, error) {
	info := g.db.Info(g.id)
	m := twin{boundary: info.Boundary, term: info.CurrentTerm, replica: info.Replica, quarantined: info.Quarantined != ""}
	for _, r := range g.db.Retired() {
		if r.Group == g.id {
			m.retired++
		}
	}
	if info.Ingest != nil {
		m.ingest = *info.Ingest
	}
	if info.Replica == 0 {
		if info != (Info{}) {
			return m, fmt.Errorf("left of an unborn group: %+v", info)
		}
		return m, nil
	}
	if info.Bytes < 0 || info.Bytes > 0 && info.LastIndex == info.Boundary {
		return m, fmt.Errorf("%d bytes in a log %d..%d", info.Bytes, info.Boundary, info.LastIndex)
	}
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
		m.replica == o.replica && m.retired == o.retired && m.quarantined == o.quarantined && m.ingest == o.ingest &&
		slices.EqualFunc(m.logs, o.logs, func(a, b *raft.Log) bool {
			return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data)
		})
}

func (m twin) String() string {
	return fmt.Sprintf("replica %d (%d retired, quarantined %t), log %d..%d, term %d, vote %d %q, ingest %v, pin %d",
		m.replica, m.retired, m.quarantined, m.boundary, m.last(), m.term, m.voteTerm, m.voteFor, m.ingest, m.pin)
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
		r.group = r.group.db.Group(r.group.id) // another one after a retirement
		if err := call(r.group); err != nil {
			return fmt.Errorf("group %d: %s: %w", r.group.id, s.kind, err)
		}
		if synced {
			r.durable.Store(r.issued.Load())
		}
		got, err := readTwin(r.group.db.Group(r.group.id))
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
		if r.states != nil {
			got, err := readTwin(r.group)
			low, high := int(r.durable.Load()), int(r.issued.Load())
			at := slices.IndexFunc(r.states[low:high+1], got.equal)
			if err != nil || at < 0 {
				return nil, errors.Join(fmt.Errorf("group %d came back as %s: %w; acknowledged %s, in flight %s",
					id, got, err, r.states[low], r.states[high]), d.Close())
			}
			r.states = []twin{got}
		} else {
			births = append(births, Birth{id, 1, 10, 5})
			r.states = []twin{newbornTwin()}
		}
		r.issued.Store(0)
		r.durable.Store(0)
	}
	if err := d.Birth(births); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	crash := make(chan struct{})
	crashNow := sync.OnceFunc(func() { close(crash) })
	var steps atomic.Int32
	step := func() {
		if steps.Add(1) == crashAfter {
			crashNow()
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(groups))
	for _, r := range groups {
		wg.Go(func() {
			err := r.run(step)
			if err != nil {
				crashNow() // its steps are missing
			}
			errs <- err
		})
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
