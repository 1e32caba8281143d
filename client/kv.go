package client

import (
	"context"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// Item is a key with its value.
type Item struct {
	Key   string
	Value []byte // the caller's to keep and change
	// Version of the write that produced the value. Versions rise per key and are
	// below 2^53.
	Version uint64
}

// PutResult tells about a put that was applied.
type PutResult struct {
	Version  uint64 // of the write
	Repeated bool   // an earlier try under the same id had been applied; this is its answer
}

// DeleteResult tells about a delete that was applied, be there a value or not.
type DeleteResult struct {
	Version  uint64
	Repeated bool
}

// Get reads a key. The read is linearizable: it sees every write that was
// acknowledged, to anybody, before the call. Without a value the error is
// ErrNotFound.
func (c *Client) Get(ctx context.Context, key string, _ ...ReadOption) (Item, error) {
	d := c.driver()
	defer c.release(d)
	one := d.request(kvv1.OperationKind_OPERATION_KIND_GET, key, nil, nil)
	d.run(ctx)
	if one.err != nil {
		return Item{}, one.err
	}
	return item(key, one.answer)
}

// Put writes a key and returns when the write is durable on a majority of its
// shard's replicas. It is sent as often as needed and applied once. The value is
// not touched after the call has returned.
func (c *Client) Put(ctx context.Context, key string, value []byte, opts ...WriteOption) (PutResult, error) {
	d := c.driver()
	defer c.release(d)
	one := d.request(kvv1.OperationKind_OPERATION_KIND_PUT, key, value, opts)
	d.run(ctx)
	if one.err != nil {
		return PutResult{}, one.err
	}
	return PutResult{Version: one.answer.GetVersion(), Repeated: one.answer.GetRepeated()}, nil
}

// Delete removes a key, in every other respect like Put. Deleting a key without
// a value succeeds.
func (c *Client) Delete(ctx context.Context, key string, opts ...WriteOption) (DeleteResult, error) {
	d := c.driver()
	defer c.release(d)
	one := d.request(kvv1.OperationKind_OPERATION_KIND_DELETE, key, nil, opts)
	d.run(ctx)
	if one.err != nil {
		return DeleteResult{}, one.err
	}
	return DeleteResult{Version: one.answer.GetVersion(), Repeated: one.answer.GetRepeated()}, nil
}

func item(key string, a *kvv1.Answer) (Item, error) {
	if !a.GetFound() {
		return Item{}, &Error{Op: "get", Key: key, Kind: ErrNotFound}
	}
	return Item{Key: key, Value: a.GetValue(), Version: a.GetVersion()}, nil
}

// driver borrows a driver for one call.
func (c *Client) driver() *driver { return c.drivers.Get().(*driver) }

func (c *Client) release(d *driver) {
	one := &d.single[0]
	key := one.key[:0]
	if cap(key) > defaultMaxKey {
		key = nil
	}
	*one = call{key: key} // holds on to nothing of the caller's
	c.drivers.Put(d)
}

// request fills in the single call of a pooled driver. A request that is
// invalid has ended before it began.
func (d *driver) request(kind kvv1.OperationKind, key string, value []byte, opts []WriteOption) *call {
	one := &d.single[0]
	for _, opt := range opts {
		opt(one)
	}
	one.fill(d.client, kind, key, value)
	return one
}

func (c *call) fill(client *Client, kind kvv1.OperationKind, key string, value []byte) {
	c.kind, c.value = kind, value
	err := client.limits.check(kind, key, value)
	if err == nil && c.identity == identityGiven && c.given.IsZero() {
		err = invalid(opName(kind), key, "the request id is the zero value: use NewRequestID")
	}
	if err != nil {
		c.finished, c.err = true, err
		return
	}
	c.key = append(c.key[:0], key...)
}
