package shardmap

import "slices"

// A change copies the map, alters the copy, checks it and returns it. Nothing
// is changed in place, so readers of the old map need no lock. Each change
// carries the epoch that the new map has: the version of the system shard's
// write that made it. A change that alters nothing returns the map it was asked
// of, whatever the epoch.

// WithRecords returns the map with these records put in, all or none of them. A
// record replaces that of the same shard when its epochs are higher; the same
// record again alters nothing. An older one is refused with ErrStale, one that
// differs at equal epochs with a *Violation of SM6. Offer all records of a split
// or merge in one call: the map must be sound after it.
func (m *Map) WithRecords(epoch uint64, records ...Record) (*Map, error) {
	return m.change(epoch, func(spec *MapSpec) (changed bool, err error) {
		for _, rec := range records {
			put, err := spec.putRecord(rec)
			if err != nil {
				return false, err
			}
			changed = changed || put
		}
		return changed, nil
	})
}

// WithNode returns the map with a node registered, or with its entry replaced.
func (m *Map) WithNode(epoch uint64, node Node) (*Map, error) {
	return m.change(epoch, func(spec *MapSpec) (bool, error) {
		i := slices.IndexFunc(spec.Nodes, func(n Node) bool { return n.ID == node.ID })
		switch {
		case i < 0:
			spec.Nodes = append(spec.Nodes, node)
		case spec.Nodes[i] == node:
			return false, nil
		default:
			spec.Nodes[i] = node
		}
		return true, nil
	})
}

// change applies edit to a copy. The map is checked before and after, so that a
// fault shows where it was made: before means that somebody wrote to a shared,
// read-only slice.
func (m *Map) change(epoch uint64, edit func(*MapSpec) (changed bool, err error)) (*Map, error) {
	var spec MapSpec
	if m != nil {
		if err := m.spec.check(); err != nil {
			return nil, err
		}
		spec = m.spec.clone()
	}
	changed, err := edit(&spec)
	if err != nil {
		return nil, err
	}
	if !changed {
		return m, nil
	}
	if epoch <= m.Epoch() {
		return nil, stale("a change at epoch %d to the map of epoch %d", epoch, m.Epoch())
	}
	spec.Epoch = epoch
	return NewMap(spec)
}

// putRecord puts a record in by its epochs and reports whether that changed
// anything (SM6).
func (s *MapSpec) putRecord(rec Record) (changed bool, err error) {
	i := slices.IndexFunc(s.Records, func(r Record) bool { return r.Shard == rec.Shard })
	if i < 0 {
		s.Records = append(s.Records, rec.Clone())
		return true, nil
	}
	old := s.Records[i]
	if rec.ArcEpoch < old.ArcEpoch || rec.MemberEpoch < old.MemberEpoch {
		return false, stale("shard %d: epochs (%d,%d) offered, (%d,%d) held",
			rec.Shard, rec.ArcEpoch, rec.MemberEpoch, old.ArcEpoch, old.MemberEpoch)
	}
	if rec.ArcEpoch == old.ArcEpoch && rec.Arc != old.Arc {
		return false, violation("SM6", "shard %d: arc %v offered, %v held, both of arc epoch %d",
			rec.Shard, rec.Arc, old.Arc, rec.ArcEpoch)
	}
	if rec.MemberEpoch == old.MemberEpoch && !slices.Equal(rec.Replicas, old.Replicas) {
		return false, violation("SM6", "shard %d: other replicas offered than held, both of member epoch %d",
			rec.Shard, rec.MemberEpoch)
	}
	if rec.ArcEpoch == old.ArcEpoch && rec.MemberEpoch == old.MemberEpoch {
		return false, nil
	}
	s.Records[i] = rec.Clone()
	return true, nil
}
