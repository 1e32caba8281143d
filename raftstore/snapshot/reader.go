package snapshot

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/raftstore/state"
)

// reader reads a Pebble view as the state machine's small interface.
type reader struct{ pebble.Reader }

var _ state.Reader = reader{}

// Get implements state.Reader.
func (r reader) Get(key []byte) ([]byte, bool, error) {
	v, closer, err := r.Reader.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	v = append([]byte(nil), v...) // outlives the closer
	return v, true, closer.Close()
}

// Scan implements state.Reader.
func (r reader) Scan(from, to []byte, fn func(key, value []byte) error) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	return it.Error()
}
