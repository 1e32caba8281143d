package kvserver

import (
	"context"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state/scan"
	"github.com/ringfort/ringfort/shardmap"
)

// A page holds at most so much; one value more may pass pageBytes. A page is made
// while gRPC sends the one before, so one is ahead of what the client's window takes.
const (
	pageItems = 1000
	pageBytes = 256 << 10
	// pageSteps bounds the work between looks at whether somebody still waits.
	pageSteps = 8192
	// pageEvery is how long a scan that finds nothing is silent.
	pageEvery = time.Second
)

// Scan implements kvv1.KVServer.
func (s *Server) Scan(r *kvv1.ScanRequest, rpc kvv1.KV_ScanServer) error {
	return s.serveFeed(rpc.Context(), feedScan, s.limits.MaxScans, func(f *feed) error {
		err := f.scan(r, rpc.Send)
		shard, slot := shardmap.ShardID(r.GetShard()), shardmap.Slot(min(r.GetSlots().GetFrom(), shardmap.Slots-1))
		if a, is := s.misrouted(err, shard, slot); is {
			return f.sending(func() error {
				return rpc.Send(&kvv1.ScanPage{Error: a.Error, Record: a.Record, Leader: a.Leader})
			})
		}
		if err != nil {
			s.counters.scansFailed.Add(1)
		}
		return err
	})
}

// scanSpec is what a request asks for, or why there can be no such scan.
func (s *Server) scanSpec(ctx context.Context, r *kvv1.ScanRequest) (spec scan.Spec, err error) {
	spec = scan.Spec{
		Shard: shardmap.ShardID(r.GetShard()), From: r.GetFrom(), To: r.GetTo(), Reverse: r.GetReverse(), After: r.GetAfter(),
		Limit: r.GetLimit(), KeysOnly: r.GetKeysOnly(), CountOnly: r.GetCountOnly(),
	}
	if spec.Slots, err = feedArc(r.GetSlots()); err != nil {
		return spec, err
	}
	switch r.GetOrder() {
	case kvv1.ScanOrder_SCAN_ORDER_SLOT:
		spec.Order = scan.BySlot
	case kvv1.ScanOrder_SCAN_ORDER_KEY:
		spec.Order = scan.ByKey
	default:
		return spec, kverr.New(kverr.Invalid, "order %d of a scan is not known to this node", r.GetOrder())
	}
	if err = checkLevel(r.GetLevel(), r.GetMaxAgeUs(), r.GetMinVersion()); err != nil {
		return spec, err
	}
	if err = spec.Validate(); err != nil {
		return spec, err
	}
	if s.opts.AuthorizeRange != nil {
		err = s.opts.AuthorizeRange(ctx, VerbScan, spec.From, spec.To)
	}
	return spec, err
}

func (f *feed) scan(r *kvv1.ScanRequest, send func(*kvv1.ScanPage) error) error {
	s := f.server
	spec, err := s.scanSpec(f.ctx, r)
	if err != nil {
		return err
	}
	group, err := s.feedGroup(spec.Shard, spec.Slots.From)
	if err != nil {
		return err
	}
	view, err := f.view(group, r)
	if err != nil {
		return err
	}
	defer view.Close()
	info := view.Info()
	if err := inside(info.Record, spec.Slots); err != nil {
		return err
	}
	spec.Now = info.ShardTime
	var under *scan.Scan
	sent := time.Now()
	for done := false; !done; {
		if err := f.ctx.Err(); err != nil {
			return kverr.New(kverr.Deadline, "nobody waits for the scan any more: %w", err)
		}
		var page scan.Page
		err := view.Use(func(at scan.Cursor) (err error) {
			if under == nil {
				under = scan.New(spec, at)
			}
			page, err = under.Page(scan.Bounds{Items: pageItems, Bytes: pageBytes, Steps: pageSteps})
			return err
		})
		if err != nil {
			return err
		}
		done = page.Done
		if !done && page.Count == 0 && time.Since(sent) < pageEvery {
			continue
		}
		if err := f.hold(page.Bytes + under.Held()); err != nil {
			return err
		}
		message := scanPage(&page, under.Cost(), spec.CountOnly)
		message.Version, message.ServedBy = info.Version, servedBy(info.Served)
		if err := f.sending(func() error { return send(message) }); err != nil {
			return err
		}
		if err := f.hold(under.Held()); err != nil {
			return err
		}
		s.counters.scanItems.Add(uint64(len(page.Items)))
		s.counters.scanBytes.Add(uint64(page.Bytes))
		sent = time.Now()
	}
	s.counters.scanSeeks.Add(under.Cost().Seeks)
	s.counters.scanExamined.Add(under.Cost().Examined)
	return nil
}

// view waits for a view no longer than an operation without a time of its own.
func (f *feed) view(group Group, r *kvv1.ScanRequest) (View, error) {
	ctx, cancel := context.WithTimeout(f.ctx, DefaultTimeLeft)
	defer cancel()
	return group.View(ctx, readSpec(r.GetLevel(), r.GetMinVersion(), r.GetMaxAgeUs(), r.GetAnyReplica()))
}

func scanPage(p *scan.Page, cost scan.Cost, counted bool) *kvv1.ScanPage {
	page := &kvv1.ScanPage{Last: p.Last, Done: p.Done, Seeks: cost.Seeks, Examined: cost.Examined}
	if counted {
		page.Count = p.Count
	}
	if len(p.Items) == 0 {
		return page
	}
	items := make([]kvv1.ScanItem, len(p.Items))
	page.Items = make([]*kvv1.ScanItem, len(p.Items))
	for i, item := range p.Items {
		m := &items[i]
		m.Key, m.Value, m.Version, m.ExpiresUs = item.Key, item.Value, item.Version, item.Expires
		page.Items[i] = m
	}
	return page
}
