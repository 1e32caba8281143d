package raftstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// cut takes a span of keys out of the state database by an excise, or by an ingest
// with one.
//
// Pebble cuts each table that reaches over an end of the span in two, and to know
// where the rest begins it reads the block beside the cut. If it cannot, it takes
// the rest for empty (version 2.1.7 does not ask its iterator for an error): all
// that the table holds of the neighbouring shards would be gone, without a word and
// without a trace of the damage. So what lies beside the span is read first, which
// leaves it in the block cache, and nothing is cut where that fails.
func (s *Store) cut(from, to []byte, do func(pebble.KeyRange) error) error {
	if err := s.readBeside(from, to); err != nil {
		return fmt.Errorf("raftstore: nothing is cut out of the state database, what lies beside it cannot be read: %w", err)
	}
	return do(pebble.KeyRange{Start: from, End: to})
}

// readBeside reads, in every table that reaches over an end of a span, the last
// block before it and the first one after it. An iterator looks into each level.
func (s *Store) readBeside(from, to []byte) error {
	it, err := s.state.NewIter(&pebble.IterOptions{})
	if err != nil {
		return err
	}
	it.SeekLT(from)
	err = it.Error()
	if err == nil {
		it.SeekGE(to)
		err = it.Error()
	}
	return errors.Join(err, it.Close())
}
