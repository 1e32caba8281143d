package client

import (
	"context"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// Item is a key with its value.
type Item struct {
	Key   string
	Value []byte // the caller's to keep and change
	// Version of the write that produced the value. Versions rise per key and are
	// below 2^53.
	Version uint64
	// Expires is the value's deadline in shard time; zero when it has none.
	Expires time.Time
	// NotModified: the value has the version that IfNotVersion named; it is not
	// repeated here.
	NotModified bool
	// Served tells where the answer came from.
	Served Served
}

// PutResult tells about a put that was applied.
type PutResult struct {
	Version  uint64 // of the write
	Repeated bool   // an earlier try under the same id had been applied; this is its answer
	// Previous is what the write replaced, with WithPrevious; nil when there was
	// nothing, or when PreviousLost.
	Previous *Item
	// PreviousLost: the answer is Repeated, and the previous value was too large
	// for the shard to remember it.
	PreviousLost bool
}

// DeleteResult tells about a delete that was applied, be there a value or not.
type DeleteResult struct {
	Version      uint64
	Repeated     bool
	Previous     *Item // as in PutResult
	PreviousLost bool
}

// Get reads a key. Unless an option chooses another level the read is
// linearizable: it sees every write that was acknowledged, to anybody, before the
// call. Without a value the error is ErrNotFound, and the item says only how it
// was Served.
func (c *Client) Get(ctx context.Context, key string, opts ...ReadOption) (Item, error) {
	d := c.driver()
	defer c.release(d)
	one := &d.single[0]
	for _, opt := range opts {
		opt.read(one.params)
	}
	one.fill(c, verbGet, key, nil)
	if c.cached(one.params) {
		return c.getCached(ctx, d, one, key)
	}
	d.run(ctx)
	if one.err != nil {
		return Item{}, one.err
	}
	return one.item(key)
}

// Put writes a key and returns when the write is durable on a majority of its
// shard's replicas. It is sent as often as needed and applied once. The value is
// not touched after the call has returned.
func (c *Client) Put(ctx context.Context, key string, value []byte, opts ...WriteOption) (PutResult, error) {
	d := c.driver()
	defer c.release(d)
	one := d.write(verbPut, key, value, opts)
	d.run(ctx)
	if one.err != nil {
		return PutResult{}, one.err
	}
	return PutResult(one.written()), nil
}

// Delete removes a key, in every other respect like Put. Deleting a key without
// a value succeeds, unless IfPresent or IfVersion asks for one.
func (c *Client) Delete(ctx context.Context, key string, opts ...WriteOption) (DeleteResult, error) {
	d := c.driver()
	defer c.release(d)
	one := d.write(verbDelete, key, nil, opts)
	d.run(ctx)
	if one.err != nil {
		return DeleteResult{}, one.err
	}
	return one.written(), nil
}

// written reads the answer of a put or delete.
func (c *call) written() DeleteResult {
	a := c.answer
	return DeleteResult{
		Version: a.GetVersion(), Repeated: a.GetRepeated(),
		Previous: previousItem(c.key, a.GetPrevious()), PreviousLost: c.previous && a.GetDetailDropped(),
	}
}

func previousItem[K string | []byte](key K, p *kvv1.Previous) *Item {
	if !p.GetFound() {
		return nil
	}
	return &Item{Key: string(key), Value: p.GetValue(), Version: p.GetVersion(), Expires: shardInstant(p.GetExpiresUs())}
}

func (c *call) item(key string) (Item, error) {
	a := c.answer
	if !a.GetFound() {
		return Item{Key: key, Served: c.served()}, c.notFound(key)
	}
	return Item{
		Key: key, Value: a.GetValue(), Version: a.GetVersion(), Expires: shardInstant(a.GetExpiresUs()),
		NotModified: a.GetNotModified(), Served: c.served(),
	}, nil
}

func (c *call) notFound(key string) *Error {
	return &Error{Op: c.verb.String(), Key: key, Kind: ErrNotFound}
}

// shardInstant is a shard time as other programs write times; 0 is the zero time.
func shardInstant(us uint64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us))
}

// driver borrows a driver for one call.
func (c *Client) driver() *driver { return c.drivers.Get().(*driver) }

func (c *Client) release(d *driver) {
	one := &d.single[0]
	key := one.key[:0]
	if cap(key) > defaultMaxKey {
		key = nil
	}
	d.params = params{} // hold on to nothing of the caller's
	*one = call{key: key, params: &d.params}
	c.drivers.Put(d)
}

// write fills in the single call of a pooled driver. A request that is invalid
// has ended before it began.
func (d *driver) write(v verb, key string, value []byte, opts []WriteOption) *call {
	one := &d.single[0]
	for _, opt := range opts {
		opt.write(one.params)
	}
	one.fill(d.client, v, key, value)
	return one
}

func (c *call) fill(client *Client, v verb, key string, value []byte) {
	if c.params == nil {
		c.params = new(params)
	}
	c.verb, c.value, c.knownVersion = v, value, c.ifNotVersion
	err := client.limits.check(v, key, value)
	if err == nil && (c.used != 0 || c.flaw != "") {
		if flaw := c.params.check(v); flaw != "" {
			err = invalid(v.String(), key, "%s", flaw)
		}
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.key = append(c.key[:0], key...)
}

// fail ends a call before it began.
func (c *call) fail(err *Error) { c.finished, c.err = true, err }
