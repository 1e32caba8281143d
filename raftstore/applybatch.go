package raftstore

import (
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/raftstore/state"
)

// applyBatch is the state batch that entries are applied to. It becomes an indexed
// one, which costs more per write, when an entry first reads: most never do.
type applyBatch struct {
	db      *pebble.DB
	batch   *pebble.Batch
	indexed bool
	value   []byte // what Get returned last
}

var _ state.Batch = (*applyBatch)(nil)

func newApplyBatch(db *pebble.DB) *applyBatch { return &applyBatch{db: db, batch: db.NewBatch()} }

// Set implements state.Writer.
func (b *applyBatch) Set(k, v []byte) error { return b.batch.Set(k, v, nil) }

// Delete implements state.Writer.
func (b *applyBatch) Delete(k []byte) error { return b.batch.Delete(k, nil) }

// Get implements state.Batch. The apply loop is the only writer of its shard's
// keys, so what the database shows besides the batch does not change meanwhile.
func (b *applyBatch) Get(key []byte) ([]byte, bool, error) {
	if !b.indexed {
		indexed := b.db.NewIndexedBatch()
		if err := indexed.Apply(b.batch, nil); err != nil {
			return nil, false, errors.Join(err, indexed.Close())
		}
		plain := b.batch
		b.batch, b.indexed = indexed, true
		if err := plain.Close(); err != nil {
			return nil, false, err
		}
	}
	v, closer, err := b.batch.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	b.value = append(b.value[:0], v...)
	return b.value, true, closer.Close()
}

func (b *applyBatch) Len() int                            { return b.batch.Len() }
func (b *applyBatch) Commit(o *pebble.WriteOptions) error { return b.batch.Commit(o) }
func (b *applyBatch) Close() error                        { return b.batch.Close() }
