package client

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// model is a cluster that does what the contract says, from memory: every shard
// has a log of change sets, and every node a replica that has applied a part of it.
type model struct {
	w *world

	mu      sync.Mutex
	shards  []*modelShard
	changed chan struct{} // closed at the next change of anything

	// before is asked about every operation; an answer or drop keeps it from the
	// model. after may replace an answer, or drop it by nil.
	before func(n *fakeNode, op *kvv1.Operation) (a *kvv1.Answer, drop bool)
	after  func(n *fakeNode, op *kvv1.Operation, a *kvv1.Answer) *kvv1.Answer

	streams modelStreams
}

type modelShard struct {
	record   shardmap.Record
	leader   int // index of a node
	term     uint64
	log      []modelSet
	replicas []*modelReplica // one per node
	tables   map[string]map[uint64]*kvv1.Answer
}

// modelSet is the changes of one version.
type modelSet struct {
	version uint64
	changes []*kvv1.Change
}

type modelReplica struct {
	lag     bool // applies only what it must
	applied int  // of the log
	version uint64
	fresh   time.Time // when it last knew that it had everything
	data    map[string]modelValue
}

type modelValue struct {
	value   []byte
	version uint64
	expires uint64
}

// newModel starts nodes with the given number of shards, all led by n1.
func newModel(t *testing.T, nodes, shards int) *model {
	m := &model{w: newWorld(t, nodes), changed: make(chan struct{})}
	m.streams.init()
	for i := range shards {
		from, to := i*shardmap.Slots/shards, (i+1)*shardmap.Slots/shards
		m.addShard(shardmap.ShardID(i+2), shardmap.Slot(from), shardmap.Slot(to), 1)
	}
	m.tellMap(1)
	for _, n := range m.w.nodes {
		n.script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer { return m.serve(s, op) })
		n.scan, n.watch = m.scan, m.watch
	}
	return m
}

func (m *model) addShard(id shardmap.ShardID, from, to shardmap.Slot, epoch uint64) *modelShard {
	s := &modelShard{record: m.w.record(id, from, to, epoch), term: 1, tables: make(map[string]map[uint64]*kvv1.Answer)}
	for range m.w.nodes {
		s.replicas = append(s.replicas, &modelReplica{data: make(map[string]modelValue), fresh: time.Now()})
	}
	m.shards = append(m.shards, s)
	return s
}

func (m *model) tellMap(epoch uint64) {
	var records []shardmap.Record
	for _, s := range m.shards {
		records = append(records, s.record)
	}
	m.w.setMap(epoch, records...)
}

func (m *model) now() uint64 { return uint64(time.Now().UnixMicro()) }

func (m *model) shardOf(slot shardmap.Slot) *modelShard {
	for _, s := range m.shards {
		if s.record.Arc.Contains(slot) {
			return s
		}
	}
	panic("no shard")
}

func (m *model) index(n *fakeNode) int { return slices.Index(m.w.nodes, n) }

// notify wakes the watches.
func (m *model) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// elect makes another node the leader of all shards.
func (m *model) elect(node int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shards {
		s.leader = node
		s.term++
		s.catchUp(node)
	}
	m.notify()
}

// split gives the slots from at on to a new shard, with its part of everything.
func (m *model) split(at shardmap.Slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent := m.shardOf(at)
	if parent.record.Arc.From == at {
		return
	}
	for i := range parent.replicas {
		parent.catchUp(i)
	}
	arc, epoch := parent.record.Arc, parent.record.ArcEpoch+1
	child := m.addShard(shardmap.ShardID(len(m.shards)+2), at, arc.To, epoch)
	child.leader, child.log = parent.leader, slices.Clone(parent.log)
	for id, table := range parent.tables {
		child.tables[id] = maps.Clone(table)
	}
	parent.record = m.w.record(parent.record.Shard, arc.From, at, epoch)
	m.tellMap(m.w.theMap().Epoch() + 1)
	for _, n := range m.w.nodes {
		n.push(&kvv1.ServerFrame{Map: wire.MapToProto(m.w.theMap())})
	}
	for i, r := range parent.replicas {
		*child.replicas[i] = *r
		child.replicas[i].data, r.data = make(map[string]modelValue), make(map[string]modelValue)
		for key, v := range m.replay(parent.log) {
			// The log tells also of slots that had left the shard before.
			switch slot := shardmap.SlotOf([]byte(key)); {
			case !arc.Contains(slot):
			case slot >= at:
				child.replicas[i].data[key] = v
			default:
				r.data[key] = v
			}
		}
	}
	m.notify()
}

func (m *model) replay(log []modelSet) map[string]modelValue {
	r := &modelReplica{data: make(map[string]modelValue)}
	for _, set := range log {
		r.apply(set)
	}
	return r.data
}

func (r *modelReplica) apply(set modelSet) {
	r.applied++
	r.version = set.version
	for _, c := range set.changes {
		switch c.GetKind() {
		case kvv1.ChangeKind_CHANGE_KIND_PUT:
			r.data[string(c.GetKey())] = modelValue{c.GetValue(), set.version, c.GetExpiresUs()}
		case kvv1.ChangeKind_CHANGE_KIND_DEADLINE:
			r.data[string(c.GetKey())] = modelValue{r.data[string(c.GetKey())].value, set.version, c.GetExpiresUs()}
		default:
			delete(r.data, string(c.GetKey()))
		}
	}
}

func (s *modelShard) catchUp(i int) *modelReplica {
	r := s.replicas[i]
	for r.applied < len(s.log) {
		r.apply(s.log[r.applied])
	}
	r.fresh = time.Now()
	return r
}

// append adds a change set and lets the replicas have it that do not lag.
func (m *model) append(s *modelShard, set modelSet) {
	s.log = append(s.log, set)
	for i, r := range s.replicas {
		if i == s.leader || !r.lag {
			s.catchUp(i)
		}
	}
	m.notify()
}

func (s *modelShard) lastVersion() uint64 {
	if len(s.log) == 0 {
		return 0
	}
	return s.log[len(s.log)-1].version
}

// sweep removes what is due.
func (m *model) sweep(s *modelShard) {
	var set modelSet
	for _, key := range slices.Sorted(maps.Keys(s.replicas[s.leader].data)) {
		if v := s.replicas[s.leader].data[key]; v.expires != 0 && v.expires <= m.now() {
			set.changes = append(set.changes, &kvv1.Change{Kind: kvv1.ChangeKind_CHANGE_KIND_EXPIRE, Key: []byte(key)})
		}
	}
	if len(set.changes) > 0 {
		set.version = max(m.now(), s.lastVersion()+1)
		m.append(s, set)
	}
}

func (m *model) serve(sess *fakeSession, op *kvv1.Operation) *kvv1.Answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.before != nil {
		if a, drop := m.before(sess.node, op); a != nil || drop {
			return a
		}
	}
	if len(op.GetClientId()) == 0 {
		op.ClientId = sess.hello.GetClientId()
	}
	a := m.execute(sess.node, op)
	a.Id = op.GetId()
	if m.after != nil {
		a = m.after(sess.node, op, a)
	}
	return a
}

func (m *model) execute(n *fakeNode, op *kvv1.Operation) *kvv1.Answer {
	s := m.shardOf(shardmap.SlotOf(op.GetKey()))
	if op.GetShard() != 0 && op.GetShard() != uint64(s.record.Shard) {
		a := refusal(op, kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD)
		a.Record = wire.RecordToProto(s.record)
		return a
	}
	leads := m.index(n) == s.leader
	if op.GetKind() != opGet {
		if !leads {
			return m.notLeader(op, s)
		}
		return m.write(s, op)
	}
	r, by := m.readable(s, m.index(n), op.GetLevel(), op.GetMinVersion(), op.GetMaxAgeUs(), op.GetAnyReplica())
	if r == nil {
		return m.notLeader(op, s)
	}
	v, found := r.data[string(op.GetKey())]
	a := &kvv1.Answer{Found: found, Version: v.version, ShardVersion: r.version, ServedBy: by, ExpiresUs: v.expires}
	switch {
	case found && op.GetIfNotVersion() == v.version:
		a.NotModified = true
	case !op.GetKeysOnly():
		a.Value = v.value
	}
	return a
}

func (m *model) notLeader(op *kvv1.Operation, s *modelShard) *kvv1.Answer {
	a := refusal(op, kvv1.ErrorKind_ERROR_KIND_NOT_LEADER)
	a.Leader = &kvv1.LeaderHint{Shard: uint64(s.record.Shard), Term: s.term, NodeId: string(m.w.nodes[s.leader].id)}
	return a
}

// readable is the replica on a node, brought to where the level wants it.
func (m *model) readable(s *modelShard, node int, level kvv1.ReadLevel, minVersion, maxAge uint64, any bool) (*modelReplica, kvv1.ServedBy) {
	r := s.replicas[node]
	if node == s.leader {
		m.sweep(s)
		return s.catchUp(node), kvv1.ServedBy_SERVED_BY_LEADER
	}
	switch level {
	case kvv1.ReadLevel_READ_LEVEL_LINEARIZABLE:
		if !any {
			return nil, 0
		}
		return s.catchUp(node), kvv1.ServedBy_SERVED_BY_FOLLOWER
	case kvv1.ReadLevel_READ_LEVEL_SESSION:
		if r.version < minVersion {
			return s.catchUp(node), kvv1.ServedBy_SERVED_BY_FOLLOWER
		}
	case kvv1.ReadLevel_READ_LEVEL_BOUNDED_STALE:
		if uint64(time.Since(r.fresh).Microseconds()) > maxAge {
			return s.catchUp(node), kvv1.ServedBy_SERVED_BY_FOLLOWER
		}
	}
	return r, kvv1.ServedBy_SERVED_BY_REPLICA
}

// write decides a write as apply does, and keeps the answer under its id.
func (m *model) write(s *modelShard, op *kvv1.Operation) *kvv1.Answer {
	m.sweep(s)
	id := string(op.GetClientId())
	if s.tables[id] == nil {
		s.tables[id] = make(map[uint64]*kvv1.Answer)
	}
	if first := s.tables[id][op.GetNumber()]; first != nil && op.GetNumber() != 0 {
		copied := &kvv1.Answer{
			Error: first.GetError(), Found: first.GetFound(), Version: first.GetVersion(), ShardVersion: first.GetShardVersion(),
			Counter: first.GetCounter(), Otherwise: first.GetOtherwise(), Repeated: true, ServedBy: first.GetServedBy(),
			Previous: first.GetPrevious(), Leaves: first.GetLeaves(),
		}
		if p := copied.GetPrevious(); len(p.GetValue()) > 4096 {
			copied.Previous, copied.DetailDropped = nil, true
		}
		return copied
	}
	version := max(m.now(), s.lastVersion()+1)
	tx := &modelTxn{data: s.replicas[s.leader].data, version: version, now: m.now(), over: make(map[string]*modelValue)}
	a := tx.run(op)
	if a.GetError() == nil {
		if len(tx.changes) > 0 {
			m.append(s, modelSet{version, tx.changes})
		}
		if a.Version == 0 {
			a.Version = version
		}
	}
	a.ServedBy, a.ShardVersion = kvv1.ServedBy_SERVED_BY_LEADER, s.lastVersion()
	s.tables[id][op.GetNumber()] = a
	return a
}

// modelTxn is one write that is being decided.
type modelTxn struct {
	data    map[string]modelValue
	over    map[string]*modelValue // what it has done so far; nil: removed
	version uint64
	now     uint64
	changes []*kvv1.Change
}

func (t *modelTxn) get(key []byte) (modelValue, bool) {
	if v, ok := t.over[string(key)]; ok {
		if v == nil {
			return modelValue{}, false
		}
		return *v, true
	}
	v, ok := t.data[string(key)]
	return v, ok
}

func (t *modelTxn) run(op *kvv1.Operation) *kvv1.Answer {
	if op.GetKind() == opTxn {
		return t.runTxn(op)
	}
	v, found := t.get(op.GetKey())
	holds := true
	switch op.GetCondition() {
	case kvv1.Condition_CONDITION_ABSENT:
		holds = !found
	case kvv1.Condition_CONDITION_PRESENT:
		holds = found
	case kvv1.Condition_CONDITION_VERSION:
		holds = found && v.version == op.GetIfVersion()
	}
	if !holds {
		a := refusal(op, kvv1.ErrorKind_ERROR_KIND_CONDITION_FAILED)
		a.Found, a.Version = found, v.version
		return a
	}
	leaf, refused := t.leaf(&kvv1.Leaf{
		Kind: op.GetKind(), Key: op.GetKey(), Value: op.GetValue(), Expiry: op.GetExpiry(), TtlUs: op.GetTtlUs(),
		Delta: op.GetDelta(), WantPrevious: op.GetWantPrevious(),
	})
	if refused != 0 {
		return refusal(op, refused)
	}
	return &kvv1.Answer{Found: leaf.GetFound(), Version: leaf.GetVersion(), Counter: leaf.GetCounter(), Previous: leaf.GetPrevious()}
}

func (t *modelTxn) runTxn(op *kvv1.Operation) *kvv1.Answer {
	leaves, otherwise := op.GetTxn().GetThen(), false
	for _, c := range op.GetTxn().GetCompares() {
		if !t.holds(c) {
			leaves, otherwise = op.GetTxn().GetOtherwise(), true
			break
		}
	}
	a := &kvv1.Answer{Otherwise: otherwise, Version: t.version}
	for _, l := range leaves {
		done, refused := t.leaf(l)
		if refused != 0 {
			return refusal(op, refused)
		}
		a.Leaves = append(a.Leaves, done)
	}
	return a
}

func (t *modelTxn) holds(c *kvv1.Compare) bool {
	v, found := t.get(c.GetKey())
	switch c.GetKind() {
	case kvv1.CompareKind_COMPARE_KIND_ABSENT:
		return !found
	case kvv1.CompareKind_COMPARE_KIND_PRESENT:
		return found
	case kvv1.CompareKind_COMPARE_KIND_VERSION_EQUAL:
		return v.version == c.GetVersion()
	case kvv1.CompareKind_COMPARE_KIND_VERSION_NOT_EQUAL:
		return v.version != c.GetVersion()
	case kvv1.CompareKind_COMPARE_KIND_VERSION_LESS:
		return v.version < c.GetVersion()
	case kvv1.CompareKind_COMPARE_KIND_VERSION_GREATER:
		return v.version > c.GetVersion()
	case kvv1.CompareKind_COMPARE_KIND_VALUE_EQUAL:
		return found && bytes.Equal(v.value, c.GetValue())
	case kvv1.CompareKind_COMPARE_KIND_VALUE_NOT_EQUAL:
		return !found || !bytes.Equal(v.value, c.GetValue())
	case kvv1.CompareKind_COMPARE_KIND_VALUE_LESS:
		return found && bytes.Compare(v.value, c.GetValue()) < 0
	case kvv1.CompareKind_COMPARE_KIND_VALUE_GREATER:
		return found && bytes.Compare(v.value, c.GetValue()) > 0
	}
	panic(fmt.Sprint("compare ", c))
}

func (t *modelTxn) leaf(l *kvv1.Leaf) (*kvv1.LeafAnswer, kvv1.ErrorKind) {
	v, found := t.get(l.GetKey())
	deadline := func() uint64 {
		switch l.GetExpiry() {
		case kvv1.Expiry_EXPIRY_KEEP:
			return v.expires
		case kvv1.Expiry_EXPIRY_AFTER:
			return t.now + l.GetTtlUs()
		}
		return 0
	}
	a := &kvv1.LeafAnswer{Version: t.version}
	if l.GetWantPrevious() {
		a.Previous = &kvv1.Previous{Found: found, Value: v.value, Version: v.version, ExpiresUs: v.expires}
	}
	switch l.GetKind() {
	case opGet:
		return &kvv1.LeafAnswer{Found: found, Value: v.value, Version: v.version, ExpiresUs: v.expires}, 0
	case opPut:
		t.set(l.GetKey(), l.GetValue(), deadline())
	case opDelete:
		t.over[string(l.GetKey())] = nil
		t.changes = append(t.changes, &kvv1.Change{Kind: kvv1.ChangeKind_CHANGE_KIND_DELETE, Key: l.GetKey()})
	case opAdd:
		var n int64
		if found {
			var err error
			if n, err = strconv.ParseInt(string(v.value), 10, 64); err != nil {
				return nil, kvv1.ErrorKind_ERROR_KIND_NOT_A_NUMBER
			}
		}
		if d := l.GetDelta(); d > 0 && n > math.MaxInt64-d || d < 0 && n < math.MinInt64-d {
			return nil, kvv1.ErrorKind_ERROR_KIND_OVERFLOW
		}
		a.Counter = n + l.GetDelta()
		t.set(l.GetKey(), strconv.AppendInt(nil, a.Counter, 10), v.expires)
	case opExpire:
		if a.Found = found; found {
			d := deadline()
			t.over[string(l.GetKey())] = &modelValue{v.value, t.version, d}
			t.changes = append(t.changes, &kvv1.Change{Kind: kvv1.ChangeKind_CHANGE_KIND_DEADLINE, Key: l.GetKey(), ExpiresUs: d})
		}
	}
	return a, 0
}

func (t *modelTxn) set(key, value []byte, expires uint64) {
	t.over[string(key)] = &modelValue{value, t.version, expires}
	t.changes = append(t.changes, &kvv1.Change{Kind: kvv1.ChangeKind_CHANGE_KIND_PUT, Key: key, Value: value, ExpiresUs: expires})
}
