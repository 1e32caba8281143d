package kvtest

import (
	"bytes"

	"github.com/google/btree"
)

// store is a shard's keys in memory, as state.Batch and state.Reader. A clone costs
// nothing and stays as it is, so it is what scans look at.
type store struct{ tree *btree.BTreeG[pair] }

// pair is one key; neither slice is ever changed.
type pair struct{ key, value []byte }

const storeDegree = 32

func newStore() store {
	return store{btree.NewG(storeDegree, func(a, b pair) bool { return bytes.Compare(a.key, b.key) < 0 })}
}

func (s store) clone() store { return store{s.tree.Clone()} }

func (s store) Get(key []byte) (value []byte, found bool, err error) {
	p, found := s.tree.Get(pair{key: key})
	return p.value, found, nil
}

func (s store) Scan(from, to []byte, fn func(key, value []byte) error) (err error) {
	s.tree.AscendRange(pair{key: from}, pair{key: to}, func(p pair) bool {
		err = fn(p.key, p.value)
		return err == nil
	})
	return err
}

func (s store) Set(key, value []byte) error {
	s.tree.ReplaceOrInsert(pair{bytes.Clone(key), bytes.Clone(value)})
	return nil
}

func (s store) Delete(key []byte) error {
	s.tree.Delete(pair{key: key})
	return nil
}

// cursor is a position among a store's keys, as scan.Cursor.
type cursor struct {
	store store
	at    pair
	found bool
}

func (c *cursor) SeekGE(key []byte) bool {
	c.found = false
	c.store.tree.AscendGreaterOrEqual(pair{key: key}, func(p pair) bool {
		c.at, c.found = p, true
		return false
	})
	return c.found
}

func (c *cursor) SeekLT(key []byte) bool {
	c.found = false
	c.store.tree.DescendLessOrEqual(pair{key: key}, func(p pair) bool {
		if bytes.Equal(p.key, key) {
			return true
		}
		c.at, c.found = p, true
		return false
	})
	return c.found
}

func (c *cursor) Next() bool { return c.found && c.SeekGE(append(bytes.Clone(c.at.key), 0)) }
func (c *cursor) Prev() bool { return c.found && c.SeekLT(c.at.key) }

func (c *cursor) Key() []byte                  { return c.at.key }
func (c *cursor) ValueAndErr() ([]byte, error) { return c.at.value, nil }
func (c *cursor) Error() error                 { return nil }
