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
func (m *Machine) ApplyEntry(w Writer, index, term uint64, data []byte) (Entry, []Result, error) {
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
	if err := m.applyOps(w, &e, results); err != nil {
		return Entry{}, nil, m.fail(err)
	}
	return e, results, nil
}

func (m *Machine) applyOps(w Writer, e *Entry, results []Result) error {
	m.position.ShardTime = max(m.position.ShardTime, e.ShardTime)
	m.requests.begin(m.position.Index, m.position.ShardTime, len(e.Ops))
	for i := range e.Ops {
		res, err := m.applyOp(w, &e.Ops[i])
		if err != nil {
			return err
		}
		results[i] = res
	}
	m.requests.commit()
	err := m.writeRequests(w)
	m.trimScratch()
	return err
}

func (m *Machine) applyOp(w Writer, op *Op) (Result, error) {
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
		if refusal, admitted := m.requests.admit(&op.Request, m.position.ShardTime); !admitted {
			return refusal, nil
		}
	}
	version := max(m.position.ShardTime, m.position.LastVersion+1)
	if version > MaxVersion {
		return Result{}, corrupt("shard %d has used up its versions", m.record.Shard)
	}
	m.position.LastVersion = version
	if err := m.write(w, slot, op, version); err != nil {
		return Result{}, err
	}
	if numbered {
		m.requests.record(&op.Request, version)
	}
	return Result{Verdict: Applied, Version: version}, nil
}

// write puts an operation's effect into the batch. It reads nothing.
func (m *Machine) write(w Writer, slot shardmap.Slot, op *Op, version uint64) error {
	m.key = DataKey(m.key[:0], slot, op.Key)
	if op.Kind == OpDelete {
		m.changed(Change{Kind: ChangeDelete, Version: version, Key: op.Key})
		return w.Delete(m.key)
	}
	v := Value{Version: version, Data: op.Value}
	m.changed(Change{Kind: ChangePut, Version: version, Key: op.Key, Value: op.Value})
	m.value = v.AppendTo(m.value[:0])
	return w.Set(m.key, m.value)
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
