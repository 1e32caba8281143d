package client

import (
	"bytes"
	"context"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// cached reports whether a call goes through the cache.
func (c *Client) cached(p *params) bool {
	return c.cache != nil && p.flaw == "" && p.used&(optWithoutCache|optKeysOnly|optIfNotVersion) == 0
}

// getCached is Get through the cache. The call is filled in.
func (c *Client) getCached(ctx context.Context, d *driver, one *call, key string) (Item, error) {
	if one.bound() && !one.finished {
		one.bind(ctx, c)
	}
	if one.finished {
		return Item{}, one.err
	}
	f, v, err := c.fromCache(ctx, one, key)
	if err != nil {
		return Item{}, err
	}
	if v == cacheServes {
		return one.shown(c, key, f)
	}
	var brought *fact
	defer func() { c.cache.end(key, one.alone, brought) }()
	d.run(ctx)
	if one.err != nil {
		return Item{}, one.err
	}
	item, known, err := one.learned(c, key, f, v)
	brought = &known
	return item, err
}

// getManyCached is GetMany through the cache. No key waits for another's flight.
func (c *Client) getManyCached(ctx context.Context, calls []call, keys []string) []GetResult {
	results, brought := make([]GetResult, len(calls)), make([]*fact, len(calls))
	before, verdicts := make([]fact, len(calls)), make([]verdict, len(calls))
	for i := range calls {
		one := &calls[i]
		if one.bound() && !one.finished {
			one.bind(ctx, c)
		}
		if one.finished {
			continue
		}
		before[i], verdicts[i] = c.cache.look(keys[i], one.params, one.minVersion)
		c.cache.stats.note(verdicts[i])
		if verdicts[i] == cacheServes {
			one.finished = true
			continue
		}
		one.knownVersion = before[i].version
		c.cache.begin(keys[i], false)
		defer func() { c.cache.end(keys[i], false, brought[i]) }()
	}
	newDriver(c, calls).run(ctx)
	for i := range calls {
		one, r := &calls[i], &results[i]
		switch {
		case one.err != nil:
			r.Err = one.err
		case verdicts[i] == cacheServes:
			r.Item, r.Err = one.shown(c, keys[i], before[i])
		default:
			var known fact
			r.Item, known, r.Err = one.learned(c, keys[i], before[i], verdicts[i])
			brought[i] = &known
		}
	}
	return results
}

// fromCache decides how a read begins: it is served, or it is registered as one that
// will bring a fact. Of those with nothing to show one goes, and the others wait
// for it; one that then still has nothing goes by itself, so nobody waits twice.
func (c *Client) fromCache(ctx context.Context, one *call, key string) (fact, verdict, error) {
	k := c.cache
	for waited := false; ; waited = true {
		f, v := k.look(key, one.params, one.minVersion)
		if v == cacheServes {
			k.stats.note(v)
			return f, v, nil
		}
		// A linearizable read may not have the answer to a request that was sent before
		// it came. It waits only for a value that it can then ask about.
		one.alone = !waited && v != cacheAsks
		wait := k.begin(key, one.alone)
		if wait == nil {
			k.stats.note(v)
			if v == cacheAsks {
				one.knownVersion = f.version // 0 when there was no value: any is news
			}
			return f, v, nil
		}
		if err := c.waitFlight(ctx, wait); err != nil {
			return f, v, &Error{Op: one.verb.String(), Key: key, Kind: endKind(err)}
		}
	}
}

func (c *Client) waitFlight(ctx context.Context, flight <-chan struct{}) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.timeout)
		defer cancel()
	}
	select {
	case <-flight:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.closing:
		return ErrClosed
	}
}

// shown is the result of a read that the cache serves.
func (c *call) shown(client *Client, key string, f fact) (Item, error) {
	if c.session != nil {
		c.session.saw(client.topology.cluster(), f.arc, f.shardVersion)
	}
	served := Served{By: ServedByCache, Node: f.node, ShardVersion: f.shardVersion}
	if !f.found {
		return Item{Key: key, Served: served}, c.notFound(key)
	}
	return Item{
		Key: key, Value: bytes.Clone(f.value), Version: f.version, Expires: shardInstant(f.expires), Served: served,
	}, nil
}

// learned is the result of a read that went to a node, and what the cache learns
// from it. before is what it knew, for an answer that only says that this is still so.
func (c *call) learned(client *Client, key string, before fact, v verdict) (Item, fact, error) {
	a := c.answer
	f := fact{
		found: a.GetFound(), version: a.GetVersion(), expires: a.GetExpiresUs(),
		shardVersion: a.GetShardVersion(), fresh: neverFresh, arc: c.arc(), node: c.served().Node,
	}
	switch c.level {
	case kvv1.ReadLevel_READ_LEVEL_LINEARIZABLE:
		f.fresh = c.try.boot
	case kvv1.ReadLevel_READ_LEVEL_BOUNDED_STALE:
		f.fresh = c.try.boot - time.Duration(c.maxAge)*time.Microsecond
	}
	item, err := c.item(key)
	if a.GetNotModified() {
		f.value = before.value
		item.Value, item.NotModified = bytes.Clone(before.value), false
	} else if f.found {
		f.value = bytes.Clone(a.GetValue())
	}
	if v == cacheAsks {
		if a.GetNotModified() || !f.found && !before.found {
			client.cache.stats.validated.Add(1)
		} else {
			client.cache.stats.misses.Add(1)
		}
	}
	return item, f, err
}

// note counts what the cache said. What comes of asking is counted afterwards.
func (s *cacheCounters) note(v verdict) {
	switch v {
	case cacheServes:
		s.hits.Add(1)
	case cacheOld:
		s.refused.Add(1)
		s.misses.Add(1)
	case cacheEmpty:
		s.misses.Add(1)
	}
}

// arc is the slots of the shard that answered, as far as known.
func (c *call) arc() shardmap.Arc {
	if r := c.try.route; r != nil {
		return r.record.Arc
	}
	return shardmap.Arc{From: c.slot, To: c.slot + 1}
}

// ended lets the cache know of the end of a write.
func (k *cache) ended(c *call) {
	switch {
	case !c.isWrite():
	case c.err != nil:
		if c.doubt {
			k.forget(c, func(key string) { k.drop(key) })
		}
	case c.verb == verbPut && c.expiry == kvv1.Expiry_EXPIRY_NONE, c.verb == verbDelete:
		now := fact{
			found: c.verb == verbPut, shardVersion: c.answer.GetVersion(), fresh: neverFresh,
			arc: c.arc(), node: c.served().Node,
		}
		if now.found {
			now.value, now.version = c.value, c.answer.GetVersion()
		}
		if c.attempts == 1 && !c.answer.GetRepeated() {
			now.fresh = c.try.boot
		}
		k.wrote(string(c.key), c.answer.GetVersion(), &now)
	default:
		k.forget(c, func(key string) { k.wrote(key, c.answer.GetVersion(), nil) })
	}
}

// forget calls f for every key that a write may have changed.
func (k *cache) forget(c *call, f func(key string)) {
	if c.txn == nil {
		f(string(c.key))
		return
	}
	for _, leaves := range [][]*kvv1.Leaf{c.txn.GetThen(), c.txn.GetOtherwise()} {
		for _, leaf := range leaves {
			if leaf.GetKind() != kvv1.OperationKind_OPERATION_KIND_GET {
				f(string(leaf.GetKey()))
			}
		}
	}
}
