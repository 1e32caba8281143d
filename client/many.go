package client

import (
	"context"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// KV is a key and the value to put there.
type KV struct {
	Key   string
	Value []byte
}

// GetResult is one key's part of GetMany: an item, or why there is none.
type GetResult struct {
	Item Item
	Err  error // ErrNotFound when the key has no value
}

// WriteResult is one key's part of PutMany.
type WriteResult struct {
	Version uint64
	Err     error
}

// GetMany reads keys and returns a result for each, in order. Every read is
// linearizable by itself; together they are not one snapshot. The error is nil
// when every key has an answer, be it ErrNotFound, and otherwise that of one key
// without.
func (c *Client) GetMany(ctx context.Context, keys []string) ([]GetResult, error) {
	calls := make([]call, len(keys))
	for i, key := range keys {
		calls[i].fill(c, kvv1.OperationKind_OPERATION_KIND_GET, key, nil)
	}
	newDriver(c, calls).run(ctx)
	results := make([]GetResult, len(keys))
	for i := range calls {
		if calls[i].err != nil {
			results[i].Err = calls[i].err
			continue
		}
		results[i].Item, results[i].Err = item(keys[i], calls[i].answer)
	}
	return results, worst(calls)
}

// PutMany writes pairs and returns a result for each, in order. Every write is
// applied once or not at all, each by itself; two to the same key have no order.
// The error is nil when every write was applied. Otherwise it is that of one
// which was not, of one in doubt if there is any.
func (c *Client) PutMany(ctx context.Context, pairs []KV) ([]WriteResult, error) {
	calls := make([]call, len(pairs))
	for i, kv := range pairs {
		calls[i].fill(c, kvv1.OperationKind_OPERATION_KIND_PUT, kv.Key, kv.Value)
	}
	newDriver(c, calls).run(ctx)
	results := make([]WriteResult, len(pairs))
	for i := range calls {
		results[i] = WriteResult{Version: calls[i].answer.GetVersion(), Err: calls[i].err}
	}
	return results, worst(calls)
}

// worst returns the error that a caller who looks at only one must know.
func worst(calls []call) error {
	var first error
	for i := range calls {
		if calls[i].err == nil {
			continue
		}
		if calls[i].doubt {
			return calls[i].err
		}
		if first == nil {
			first = calls[i].err
		}
	}
	return first
}
