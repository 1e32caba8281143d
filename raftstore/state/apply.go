package state

import "github.com/ringfort/ringfort/shardmap"

// maxScratch is how much of a large value's buffer is kept for the next entry.
const maxScratch = 64 << 10

// ApplyEntry applies the entry of one Raft log entry: index and term are the
// log's, data is what AppendTo wrote. It returns the decoded entry, which
// aliases data, and one result per operation.
//
// Everything is decided from the entries so far and nothing else (RS2). An
// error means damage, a format of a newer build or a failing writer: some
// replicas might decide otherwise, so the caller must stop the group. The
// machine refuses all further work with the same error.
func (m *Machine) ApplyEntry(b Batch, index, term uint64, data []byte) (Entry, []Result, error) {
	m.marks, m.changes = m.marks[:0], m.changes[:0]
	if err := m.advance(index, term); err != nil {
		return Entry{}, nil, err
	}
	e, err := DecodeEntry(data)
	if err != nil {
		return Entry{}, nil, m.fail(err)
	}
	results := make([]Result, len(e.Ops))
	if e.Term != term {
		// Raft stamped the entry with a later term than its proposer led in: what
		// the proposer knew, its shard time too, may be outdated by a leader between.
		for i := range results {
			results[i].Verdict = Superseded
		}
		return e, results, nil
	}
	if err := m.applyOps(b, &e, results); err != nil {
		return Entry{}, nil, m.fail(err)
	}
	return e, results, nil
}

func (m *Machine) applyOps(b Batch, e *Entry, results []Result) error {
	m.position.ShardTime = max(m.position.ShardTime, e.ShardTime)
	m.requests.begin(m.position.Index, m.position.ShardTime, len(e.Ops))
	for i := range e.Ops {
		res, err := m.applyOp(b, &e.Ops[i])
		if err != nil {
			return err
		}
		results[i] = res
	}
	m.requests.commit()
	err := m.writeRequests(b)
	m.trimScratch()
	return err
}

func (m *Machine) applyOp(b Batch, op *Op) (Result, error) {
	if op.Kind == OpVerify {
		m.marks = append(m.marks, VerifyID(op.Key))
		return Result{Verdict: Applied}, nil
	}
	slot := SlotFor(m.record.Shard, op.Key)
	if !m.record.Arc.Contains(slot) {
		return Result{Verdict: WrongShard}, nil
	}
	numbered := op.Request.Number != 0
	if numbered {
		if known, admitted := m.requests.admit(&op.Request, op.mayDetail(), m.position.ShardTime); !admitted {
			return known, nil
		}
	}
	res, err := m.perform(b, slot, op)
	if err != nil {
		return Result{}, err
	}
	if numbered {
		m.requests.record(&op.Request, &res)
	}
	return res, nil
}

// perform puts an operation's effect into the batch.
func (m *Machine) perform(b Batch, slot shardmap.Slot, op *Op) (Result, error) {
	if op.Kind == OpSweep {
		return m.sweep(b, slot, op)
	}
	if op.reads() {
		return m.decide(b, slot, op)
	}
	version, err := m.nextVersion()
	if err != nil {
		return Result{}, err
	}
	return Result{Verdict: Applied, Version: version}, m.write(b, slot, op, version)
}

// nextVersion gives out a version. What is decided takes one even where nothing
// changes: it is the decision's place among the shard's writes.
func (m *Machine) nextVersion() (uint64, error) {
	version := max(m.position.ShardTime, m.position.LastVersion+1)
	if version > MaxVersion {
		return 0, corrupt("shard %d has used up its versions", m.record.Shard)
	}
	m.position.LastVersion = version
	return version, nil
}

// write puts a plain put or delete into the batch. It reads nothing.
func (m *Machine) write(w Writer, slot shardmap.Slot, op *Op, version uint64) error {
	if op.Kind == OpDelete {
		m.changed(Change{Kind: ChangeDelete, Version: version, Key: op.Key})
		m.key = DataKey(m.key[:0], slot, op.Key)
		return w.Delete(m.key)
	}
	v := Value{Version: version, Expires: m.deadline(op, 0), Data: op.Value}
	m.changed(Change{Kind: ChangePut, Version: version, Expires: v.Expires, Key: op.Key, Value: op.Value})
	return m.set(w, slot, op.Key, &v)
}

// set writes a value, and its deadline into the index.
func (m *Machine) set(w Writer, slot shardmap.Slot, key []byte, v *Value) error {
	m.key = DataKey(m.key[:0], slot, key)
	m.value = v.AppendTo(m.value[:0])
	if err := w.Set(m.key, m.value); err != nil || v.Expires == 0 {
		return err
	}
	m.key = DeadlineKey(m.key[:0], slot, v.Expires, key)
	return w.Set(m.key, deadlineFormat)
}

// writeRequests puts the entry's changes of the request table into the batch.
func (m *Machine) writeRequests(w Writer) error {
	from := m.record.Arc.From
	for _, index := range m.requests.released {
		m.key = appendRequestKey(m.key[:0], from, index)
		if err := w.Delete(m.key); err != nil {
			return err
		}
	}
	for _, p := range m.requests.written {
		m.key = appendRequestKey(m.key[:0], from, p.index)
		m.value = p.appendTo(m.value[:0])
		if err := w.Set(m.key, m.value); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) trimScratch() {
	if cap(m.value) > maxScratch {
		m.value = nil
	}
}
