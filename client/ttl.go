package client

import (
	"context"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// ExpireResult tells about a deadline that was set or removed.
type ExpireResult struct {
	Version  uint64 // the key's new one
	Repeated bool   // an earlier try under the same id had been applied; this is its answer
}

// Expire gives a key a deadline, as WithTTL does, and leaves its value alone.
// The key's version changes. Without a key the error is ErrNotFound.
func (c *Client) Expire(ctx context.Context, key string, ttl time.Duration, opts ...WriteOption) (ExpireResult, error) {
	d := c.driver()
	defer c.release(d)
	one := d.write(verbExpire, key, nil, opts)
	if flaw := ttlFlaw(ttl); flaw != "" && !one.finished {
		one.fail(invalid(verbExpire.String(), key, "%s", flaw))
	}
	one.expiry, one.ttl = kvv1.Expiry_EXPIRY_AFTER, ttlMicros(ttl)
	return d.settleDeadline(ctx, one, key)
}

// Persist removes a key's deadline, if it has one, and leaves its value alone.
// The key's version changes. Without a key the error is ErrNotFound.
func (c *Client) Persist(ctx context.Context, key string, opts ...WriteOption) (ExpireResult, error) {
	d := c.driver()
	defer c.release(d)
	return d.settleDeadline(ctx, d.write(verbPersist, key, nil, opts), key)
}

// settleDeadline runs the one call of Expire and Persist.
func (d *driver) settleDeadline(ctx context.Context, one *call, key string) (ExpireResult, error) {
	d.run(ctx)
	if one.err != nil {
		return ExpireResult{}, one.err
	}
	if !one.answer.GetFound() {
		return ExpireResult{}, one.notFound(key)
	}
	return ExpireResult{Version: one.answer.GetVersion(), Repeated: one.answer.GetRepeated()}, nil
}

// TTLResult is what is known of a key's deadline.
type TTLResult struct {
	// Limited says whether the key has a deadline at all.
	Limited bool
	// Expires is the deadline in shard time; zero when there is none.
	Expires time.Time
	// Left is the time until then by this client's estimate of shard time, which
	// may be off by as much as the machines' clocks differ. It is 0 when the key is
	// due and has not been removed yet.
	Left    time.Duration
	Version uint64
}

// TTL reads a key's deadline without its value. Without a key the error is
// ErrNotFound.
func (c *Client) TTL(ctx context.Context, key string, opts ...ReadOption) (TTLResult, error) {
	d := c.driver()
	defer c.release(d)
	one := &d.single[0]
	for _, opt := range opts {
		opt.read(one.params)
	}
	one.fill(c, verbTTL, key, nil)
	d.run(ctx)
	if one.err != nil {
		return TTLResult{}, one.err
	}
	if !one.answer.GetFound() {
		return TTLResult{}, one.notFound(key)
	}
	r := TTLResult{Version: one.answer.GetVersion()}
	if at := one.answer.GetExpiresUs(); at != 0 {
		r.Limited, r.Expires = true, shardInstant(at)
		if now := c.shardTime.now(); at > now {
			r.Left = time.Duration(at-now) * time.Microsecond
		}
	}
	return r, nil
}
