package client

import "context"

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

// WriteResult is one key's part of PutMany and DeleteMany.
type WriteResult struct {
	Version      uint64
	Repeated     bool
	Previous     *Item // as in PutResult
	PreviousLost bool
	Err          error
}

// GetMany reads keys and returns a result for each, in order. Every read is
// linearizable by itself; together they are not one snapshot. The error is nil
// when every key has an answer, be it ErrNotFound, and otherwise that of one key
// without.
func (c *Client) GetMany(ctx context.Context, keys []string, opts ...ReadOption) ([]GetResult, error) {
	var asked params
	for _, opt := range opts {
		opt.read(&asked)
	}
	calls := make([]call, len(keys))
	for i, key := range keys {
		calls[i].params = &asked
		calls[i].fill(c, verbGet, key, nil)
	}
	if c.cached(&asked) {
		results := c.getManyCached(ctx, calls, keys)
		return results, worst(calls)
	}
	newDriver(c, calls).run(ctx)
	results := make([]GetResult, len(keys))
	for i := range calls {
		if calls[i].err != nil {
			results[i].Err = calls[i].err
			continue
		}
		results[i].Item, results[i].Err = calls[i].item(keys[i])
	}
	return results, worst(calls)
}

// PutMany writes pairs and returns a result for each, in order. Every write is
// applied once or not at all, each by itself; two to the same key have no order.
// Options hold for each of them; WithRequestID is refused, since an id names one
// write. The error is nil when every write was applied. Otherwise it is that of
// one which was not, of one in doubt if there is any.
func (c *Client) PutMany(ctx context.Context, pairs []KV, opts ...WriteOption) ([]WriteResult, error) {
	calls := make([]call, len(pairs))
	asked := writeMany(opts)
	for i, kv := range pairs {
		calls[i].params = &asked
		calls[i].fill(c, verbPut, kv.Key, kv.Value)
	}
	return c.finishMany(ctx, calls)
}

// DeleteMany removes keys, in every other respect like PutMany.
func (c *Client) DeleteMany(ctx context.Context, keys []string, opts ...WriteOption) ([]WriteResult, error) {
	calls := make([]call, len(keys))
	asked := writeMany(opts)
	for i, key := range keys {
		calls[i].params = &asked
		calls[i].fill(c, verbDelete, key, nil)
	}
	return c.finishMany(ctx, calls)
}

func writeMany(opts []WriteOption) (asked params) {
	for _, opt := range opts {
		opt.write(&asked)
	}
	if asked.identity == identityGiven {
		asked.spoil("a request id names one write: give each key a call of its own")
	}
	return asked
}

func (c *Client) finishMany(ctx context.Context, calls []call) ([]WriteResult, error) {
	newDriver(c, calls).run(ctx)
	results := make([]WriteResult, len(calls))
	for i := range calls {
		if results[i].Err = calls[i].err; calls[i].err == nil {
			w := calls[i].written()
			results[i] = WriteResult{Version: w.Version, Repeated: w.Repeated, Previous: w.Previous, PreviousLost: w.PreviousLost}
		}
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
