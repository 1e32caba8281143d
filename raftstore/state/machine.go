package state

import "github.com/ringfort/ringfort/shardmap"

// Machine is the state machine of one shard on one replica. It is used by one
// goroutine at a time.
type Machine struct {
	record   shardmap.Record
	position AppliedState
	written  AppliedState // as of the last Finish or Load
	requests *table
	err      error // set once; memory and batch may disagree from then on

	marks      []VerifyID // of the last entry applied
	changes    []Change   // likewise
	key, value []byte     // scratch
}

// Load reads the machine of the shard whose arc begins at from; found is false
// when there is none. An error of kind Format or Internal means that the state
// cannot be trusted and the replica must not start.
func Load(r Reader, from shardmap.Slot) (m *Machine, found bool, err error) {
	return load(r, from, defaultLimits)
}

func load(r Reader, from shardmap.Slot, l limits) (*Machine, bool, error) {
	rec, found, err := ReadRecord(r, from)
	if err != nil {
		return nil, false, err
	}
	position, applied, err := LoadApplied(r, from)
	if err != nil {
		return nil, false, err
	}
	if found != applied {
		return nil, false, corrupt("slot %d has a record (%t) without an applied position (%t) or the reverse: "+
			"they were not written in one batch", from, found, applied)
	}
	if !found {
		return nil, false, nil
	}
	requests, err := loadTable(r, from, &position, l)
	if err != nil {
		return nil, false, err
	}
	return &Machine{record: rec, position: position, written: position, requests: requests}, true, nil
}

// Record is the shard's record, shared and read-only.
func (m *Machine) Record() shardmap.Record { return m.record }

// Applied is the index and term of the last entry applied.
func (m *Machine) Applied() (index, term uint64) { return m.position.Index, m.position.Term }

// ShardTime is the shard's clock in µs as of the last entry applied.
func (m *Machine) ShardTime() uint64 { return m.position.ShardTime }

// LastVersion is the highest version given out, 0 before the first write.
func (m *Machine) LastVersion() uint64 { return m.position.LastVersion }

// Configuration is the latest raft configuration, shared and read-only, and the
// index of the entry that brought it.
func (m *Machine) Configuration() (raw []byte, index uint64) {
	return m.position.Configuration, m.position.ConfigurationIndex
}

// Marks are the ids of the verifications in the last entry applied, until the
// next one is. What they ask for is the state at exactly that entry's index, so
// the caller ends its batch there.
func (m *Machine) Marks() []VerifyID { return m.marks }

// Requests is the size of the request table.
func (m *Machine) Requests() RequestStats { return m.requests.stats() }

// ApplyConfiguration records a raft configuration entry.
func (m *Machine) ApplyConfiguration(w Writer, index, term uint64, configuration []byte) error {
	if err := m.advance(index, term); err != nil {
		return err
	}
	if err := checkConfiguration(configuration); err != nil {
		return m.fail(err)
	}
	m.position.Configuration = append([]byte(nil), configuration...)
	m.position.ConfigurationIndex = index
	m.value = appendConfiguration(m.value[:0], index, configuration)
	return m.fail(w.Set(ConfigurationKey(m.record.Arc.From), m.value))
}

// Finish writes the applied position, once for all entries applied to w since
// the last Finish. RS1: it must go into the same batch as their effects, and the
// batch must not be committed without it.
func (m *Machine) Finish(w Writer) error {
	if m.err != nil || m.position.Index == m.written.Index {
		return m.err
	}
	if err := m.position.follows(&m.written); err != nil {
		return m.fail(err)
	}
	m.value = m.position.appendPosition(m.value[:0])
	if err := w.Set(AppliedKey(m.record.Arc.From), m.value); err != nil {
		return m.fail(err)
	}
	m.written = m.position
	return nil
}

// advance moves to the entry at index, before it is applied.
func (m *Machine) advance(index, term uint64) error {
	if m.err != nil {
		return m.err
	}
	if index <= m.position.Index || term < m.position.Term {
		return m.fail(corrupt("entry (index %d, term %d) comes after (%d, %d) was applied",
			index, term, m.position.Index, m.position.Term))
	}
	m.position.Index, m.position.Term = index, term
	return nil
}

// fail keeps the first error: after it nothing may be applied or finished.
func (m *Machine) fail(err error) error {
	if m.err == nil {
		m.err = err
	}
	return err
}
