package client

import (
	"context"
	"iter"
	"slices"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// ScanOption configures a Scan or a Count.
type ScanOption interface{ scan(c *scanConfig) }

type scanConfig struct {
	params
	reverse bool
	bySlot  bool
	ordered bool // the order was chosen
	limit   uint64
	count   bool
	report  *ScanReport
}

type scanOption func(c *scanConfig)

func (o scanOption) scan(c *scanConfig) { o(c) }

// Reverse scans from the last key to the first.
func Reverse() ScanOption { return scanOption(func(c *scanConfig) { c.reverse = true }) }

// Limit ends a scan after n items; n is at least 1.
func Limit(n int) ScanOption {
	return scanOption(func(c *scanConfig) {
		if n < 1 {
			c.spoil("a limit is at least 1, not %d", n)
			return
		}
		c.limit = uint64(n)
	})
}

// ByKey scans in the order of the keys' bytes, which is the default. Where the keys
// lie in several shards, the shards' streams are merged.
func ByKey() ScanOption { return scanOption(func(c *scanConfig) { c.setOrder(false) }) }

// BySlot scans one shard after the other, and in each by slot and then by key: the
// cheapest order over many slots, one pass over each shard.
func BySlot() ScanOption { return scanOption(func(c *scanConfig) { c.setOrder(true) }) }

func (c *scanConfig) setOrder(bySlot bool) {
	if c.ordered && c.bySlot != bySlot {
		c.spoil("both ByKey and BySlot")
	}
	c.ordered, c.bySlot = true, bySlot
}

// WithReport makes the scan tell in r what it has cost so far and where a watch can
// go on from. It is written by the goroutine that runs the loop, between items.
func WithReport(r *ScanReport) ScanOption { return scanOption(func(c *scanConfig) { c.report = r }) }

// ScanReport is what a scan tells about itself.
type ScanReport struct {
	Items    uint64 // given out, or counted
	Seeks    uint64 // positions that the nodes sought in their storage
	Examined uint64 // keys that the nodes looked at
	Streams  int    // streams begun, one per shard, and after each interruption another
	Resumed  int    // streams that took over from an interrupted one
	position Token
}

// Token is the position of the scan: for each shard read so far, the version of the
// snapshot that it was read from. A watch From it shows every change that the scan
// does not. After an interruption the part read later may be newer than that; the
// watch then repeats changes that the scan has shown. It is complete when the scan
// has finished, and for ByKey from the first item on.
func (r *ScanReport) Token() Token { return r.position }

// Scan gives out the items of the chosen keys, in order, by streams that read a
// page at a time:
//
//	for item, err := range c.Scan(ctx, client.Prefix("user/")) { … }
//
// An error is the last thing that the loop sees. Within one shard the scan is of one
// snapshot; shards are read each at a time of its own. A stream that is interrupted,
// by a leader change or because the loop took long, goes on behind the last key at
// a newer snapshot: no key that stays unchanged is repeated or passed over. Due
// keys are not shown.
//
// Memory is bounded by one page per shard, and what the connections have under way.
// The context ends the whole scan; without a deadline a scan ends with ErrTimeout
// when nothing at all comes for the client's timeout.
func (c *Client) Scan(ctx context.Context, keys Keys, opts ...ScanOption) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		s, cancel, err := c.newScan(ctx, verbScan, keys, opts)
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer cancel()
		if s.bySlot {
			err = s.inTurn(func(st *strand) error { return s.drain(st, yield) })
		} else {
			err = s.merge(yield)
		}
		if err != nil && err != errStop {
			yield(Item{}, err)
		}
	}
}

// scan is one scan under way; it belongs to the goroutine of the loop.
type scan struct {
	scanConfig
	client *Client
	verb   verb
	ctx    context.Context
	keys   Keys
	order  kvv1.ScanOrder
	given  uint64    // items given out
	todo   []*strand // in the order of the scan
}

func (c *Client) newScan(ctx context.Context, v verb, keys Keys, opts []ScanOption) (*scan, context.CancelFunc, error) {
	s := &scan{client: c, verb: v, keys: keys}
	for _, opt := range opts {
		opt.scan(&s.scanConfig)
	}
	flaw := s.params.check(v)
	if flaw == "" {
		flaw = keys.check(&c.limits)
	}
	if flaw == "" && v != verbScan && (s.reverse || s.limit != 0 || s.ordered) {
		flaw = "order and limit do not go with " + v.String()
	}
	if flaw != "" {
		return nil, nil, invalid(v.String(), "", "%s", flaw)
	}
	if s.bound() {
		if err := c.checkCluster(ctx, &s.params); err != nil {
			err.Op = v.String()
			return nil, nil, err
		}
	}
	if s.report == nil {
		s.report = new(ScanReport)
	}
	*s.report = ScanReport{}
	s.count, s.bySlot = v == verbCount, s.bySlot || v != verbScan
	s.order = kvv1.ScanOrder_SCAN_ORDER_KEY
	if s.bySlot || keys.one { // within a slot the orders are the same
		s.order = kvv1.ScanOrder_SCAN_ORDER_SLOT
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(ctx)
	if !keys.nothing {
		s.todo = []*strand{s.newStrand(keys.arc())}
	}
	return s, cancel, nil
}

// begin begins the streams of all strands, so that the nodes work at the same time.
func (s *scan) begin() error {
	for i := 0; i < len(s.todo); i++ {
		err := s.todo[i].open(func(rest []*strand) { s.todo = append(s.todo, rest...) })
		if err != nil {
			return err
		}
	}
	return nil
}

// inTurn lets use have each strand to its end, in the order of the slots. Strands
// that turn out to lie in several shards become several.
func (s *scan) inTurn(use func(*strand) error) error {
	for len(s.todo) > 0 {
		st := s.todo[0]
		s.todo = s.todo[1:]
		if err := use(st); err != nil {
			return err
		}
	}
	return nil
}

// soon puts strands that have split off where the scan comes to them next.
func (s *scan) soon(rest []*strand) { s.todo = append(rest, s.todo...) }

// drain gives out all items of a strand.
func (s *scan) drain(st *strand, yield func(Item, error) bool) error {
	for {
		ok, err := st.next(s.soon)
		if err != nil || !ok {
			return err
		}
		if err := s.give(st.take(), yield); err != nil {
			return err
		}
	}
}

// give hands one item to the loop. The error is errStop when there is to be no
// further one.
func (s *scan) give(item Item, yield func(Item, error) bool) error {
	s.given++
	s.report.Items++
	if !yield(item, nil) || s.given == s.limit {
		return errStop
	}
	return nil
}

// left is how many items may still be given out; 0 for any number.
func (s *scan) left() uint64 {
	if s.limit == 0 {
		return 0
	}
	return s.limit - s.given
}

// behind puts strands that have split off where they belong: behind the i-th.
func (s *scan) behind(i int) func([]*strand) {
	return func(rest []*strand) { s.todo = slices.Insert(s.todo, i+1, rest...) }
}

// first is the slot at which the scan of an arc begins.
func (s *scan) first(arc shardmap.Arc) shardmap.Slot {
	if s.bySlot && s.reverse {
		return arc.To - 1
	}
	return arc.From
}
