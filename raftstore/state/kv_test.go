package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// store is a Reader over a plain map; a batch is its Writer.
type store map[string]string

func (s store) Get(key []byte) ([]byte, bool, error) {
	v, ok := s[string(key)]
	return []byte(v), ok, nil
}

func (s store) Scan(from, to []byte, fn func(key, value []byte) error) error {
	// The same two slices for every pair: who keeps them without copying is found
	// out.
	var k, v []byte
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if key < string(from) || key >= string(to) {
			continue
		}
		k, v = append(k[:0], key...), append(v[:0], s[key]...)
		if err := fn(k, v); err != nil {
			return err
		}
	}
	clear(k)
	clear(v)
	return nil
}

// oneBuffer is a store whose Get overwrites what it returned before.
type oneBuffer struct {
	store
	buffer []byte
}

func (o *oneBuffer) Get(key []byte) ([]byte, bool, error) {
	clear(o.buffer)
	v, ok := o.store[string(key)]
	o.buffer = append(o.buffer[:0], v...)
	return o.buffer, ok, nil
}

func (o *oneBuffer) Scan(from, to []byte, fn func(key, value []byte) error) error {
	clear(o.buffer)
	return o.store.Scan(from, to, fn)
}

// dump is the whole store as text.
func (s store) dump() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%x=%x\n", k, s[k])
	}
	return b.String()
}

// batch is a Batch over a store, or a mere Writer when it has none: then reading
// is an error.
type batch struct {
	base    store
	buffer  []byte // what Get returned last
	sets    map[string]string
	deletes map[string]bool
	writes  int
	reads   int
}

func newBatch(base ...store) *batch {
	b := &batch{sets: make(map[string]string), deletes: make(map[string]bool)}
	if len(base) > 0 {
		b.base = base[0]
	}
	return b
}

func (b *batch) Get(key []byte) ([]byte, bool, error) {
	b.reads++
	if b.base == nil {
		return nil, false, errors.New("this batch is for writing only")
	}
	clear(b.buffer)
	v, ok := b.sets[string(key)]
	if !ok && !b.deletes[string(key)] {
		v, ok = b.base[string(key)]
	}
	b.buffer = append(b.buffer[:0], v...)
	return b.buffer, ok, nil
}

func (b *batch) Set(key, value []byte) error {
	b.writes++
	delete(b.deletes, string(key))
	b.sets[string(key)] = string(value)
	return nil
}

func (b *batch) Delete(key []byte) error {
	b.writes++
	delete(b.sets, string(key))
	b.deletes[string(key)] = true
	return nil
}

func (b *batch) commit(s store) {
	maps.Copy(s, b.sets)
	for k := range b.deletes {
		delete(s, k)
	}
}

// has reports whether the batch sets a key.
func (b *batch) has(key []byte) bool {
	_, ok := b.sets[string(key)]
	return ok
}

// without returns the store less the keys that begin with prefix.
func (s store) without(prefix []byte) store {
	c := maps.Clone(s)
	maps.DeleteFunc(c, func(k, _ string) bool { return bytes.HasPrefix([]byte(k), prefix) })
	return c
}

// failing is a Writer whose n-th call fails.
type failing struct {
	*batch
	left int
	err  error
}

func (f *failing) Set(key, value []byte) error {
	if f.left--; f.left < 0 {
		return f.err
	}
	return f.batch.Set(key, value)
}

func (f *failing) Delete(key []byte) error {
	if f.left--; f.left < 0 {
		return f.err
	}
	return f.batch.Delete(key)
}
