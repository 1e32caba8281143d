package kvtest

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state/scan"
	"github.com/ringfort/ringfort/shardmap"
)

// A page holds at most so much, as on a node.
const (
	pageItems = 1000
	pageBytes = 256 << 10
	pageSteps = 8192
)

// progressEvery is how often a watch tells how far it is when nothing else does.
const progressEvery = time.Second

// begin lets the faults strike a stream of its own and finds its shard.
func (s *Server) begin(ctx context.Context, kind Kind, asked uint64, slots *kvv1.Arc, from, to []byte) (sh *shard, arc shardmap.Arc, by struck, err error) {
	by = s.faults.strike(kind, func(m *Match) bool { return m.fitsRange(from, to) })
	if by.delay != nil {
		timer := time.NewTimer(by.delay.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-by.delay.over:
		case <-s.closing:
		case <-ctx.Done():
		}
	}
	if by.refusal != nil {
		return nil, arc, by, wire.ErrorFromProto(by.refusal.GetError())
	}
	if f, t := slots.GetFrom(), slots.GetTo(); f >= t || t > shardmap.Slots {
		return nil, arc, by, kverr.New(kverr.Invalid, "slots [%d,%d) are none of %d", f, t, shardmap.Slots)
	}
	arc = shardmap.Arc{From: shardmap.Slot(slots.GetFrom()), To: shardmap.Slot(slots.GetTo())}
	if asked == 0 {
		return nil, arc, by, kverr.New(kverr.Invalid, "the call names no shard")
	}
	sh = s.byID(shardmap.ShardID(asked))
	if sh == nil || !sh.record.Arc.Contains(arc.From) {
		return s.shardOf(arc.From), arc, by, wrongShard(shardmap.ShardID(asked), arc.From)
	}
	if arc.To > sh.record.Arc.To {
		return s.shardOf(sh.record.Arc.To), arc, by, wrongShard(sh.record.Shard, sh.record.Arc.To)
	}
	return sh, arc, by, nil
}

// stallTimeout is how long a client may leave a page or frame unread, as on a node.
const stallTimeout = 30 * time.Second

// sender guards a Send against clients that take nothing.
type sender func(send func() error) error

// feed runs a call in which the server streams, in a goroutine of its own: the handler
// must be able to return for gRPC to free that from Send.
func (s *Server) feed(progress *atomic.Int64, most int64, what string, run func(sender) error) error {
	leave, err := enter(progress, most, what)
	if err != nil {
		return wire.StatusFromError(err)
	}
	stalled := make(chan struct{}, 1)
	stall := time.AfterFunc(stallTimeout, func() { signal(stalled) })
	stall.Stop()
	ended := make(chan error, 1)
	s.running.Go(func() {
		defer leave()
		ended <- run(func(send func() error) error {
			stall.Reset(stallTimeout)
			defer stall.Stop()
			return send()
		})
	})
	select {
	case err := <-ended:
		return wire.StatusFromError(err)
	case <-stalled:
		e := kverr.New(kverr.Unavailable, "what was sent lay unread for %s; go on behind what was received", stallTimeout)
		e.Node = nodeID
		return wire.StatusFromError(e)
	case <-s.closing:
		return wire.StatusFromError(stopping())
	}
}

// Scan implements the data API.
func (s *Server) Scan(r *kvv1.ScanRequest, rpc grpc.ServerStreamingServer[kvv1.ScanPage]) error {
	return s.feed(&s.scans, maxScans, "scans", func(sending sender) error {
		err := s.scan(r, rpc, sending)
		if a, is := s.directions(err); is {
			return rpc.Send(&kvv1.ScanPage{Error: a.GetError(), Record: a.GetRecord(), Leader: a.GetLeader()})
		}
		return err
	})
}

func (s *Server) scan(r *kvv1.ScanRequest, rpc grpc.ServerStreamingServer[kvv1.ScanPage], sending sender) error {
	sh, arc, by, err := s.begin(rpc.Context(), Scan, r.GetShard(), r.GetSlots(), r.GetFrom(), r.GetTo())
	if err != nil {
		return misrouted{sh, err}
	}
	spec := scan.Spec{
		Shard: sh.record.Shard, Slots: arc, From: r.GetFrom(), To: r.GetTo(), Reverse: r.GetReverse(), After: r.GetAfter(),
		Limit: r.GetLimit(), KeysOnly: r.GetKeysOnly(), CountOnly: r.GetCountOnly(),
	}
	switch r.GetOrder() {
	case kvv1.ScanOrder_SCAN_ORDER_SLOT:
		spec.Order = scan.BySlot
	case kvv1.ScanOrder_SCAN_ORDER_KEY:
		spec.Order = scan.ByKey
	default:
		return kverr.New(kverr.Invalid, "order %d of a scan is not known to this node", r.GetOrder())
	}
	if err := checkLevel(r.GetLevel(), r.GetMaxAgeUs(), r.GetMinVersion()); err != nil {
		return err
	}
	if err := spec.Validate(); err != nil {
		return err
	}
	var view store
	var version uint64
	var servedBy kvv1.ServedBy
	if err := sh.ask(func() {
		view, version, spec.Now = sh.store.clone(), sh.machine.LastVersion(), sh.now()
		servedBy = sh.serves(r.GetLevel(), r.GetMaxAgeUs())
	}); err != nil {
		return err
	}
	if by.drop {
		return status.Error(codes.Unavailable, errLost.Error())
	}
	under := scan.New(spec, &cursor{store: view})
	for done := false; !done; {
		page, err := under.Page(scan.Bounds{Items: pageItems, Bytes: pageBytes, Steps: pageSteps})
		if err != nil {
			return err
		}
		cost := under.Cost()
		message := &kvv1.ScanPage{
			Version: version, ServedBy: servedBy,
			Last: page.Last, Done: page.Done, Seeks: cost.Seeks, Examined: cost.Examined,
		}
		if spec.CountOnly {
			message.Count = page.Count
		}
		for _, item := range page.Items {
			message.Items = append(message.Items,
				&kvv1.ScanItem{Key: item.Key, Value: item.Value, Version: item.Version, ExpiresUs: item.Expires})
		}
		if err := sending(func() error { return rpc.Send(message) }); err != nil {
			return err
		}
		done = page.Done
	}
	return nil
}

// misrouted is an error with the shard that the call should have been for.
type misrouted struct {
	shard *shard
	error
}

func (m misrouted) Unwrap() error { return m.error }

// directions says whether an error is one that the call's first message brings, and
// what it says.
func (s *Server) directions(err error) (*kvv1.Answer, bool) {
	m, is := err.(misrouted)
	if !is || kverr.KindOf(err) != kverr.WrongShard {
		return nil, false
	}
	a := &kvv1.Answer{}
	m.shard.refuse(a, m.error)
	return a, true
}

// Watch implements the data API.
func (s *Server) Watch(r *kvv1.WatchRequest, rpc grpc.ServerStreamingServer[kvv1.WatchFrame]) error {
	return s.feed(&s.watches, maxWatches, "watches", func(sending sender) error {
		err := s.watch(r, rpc, sending)
		if a, is := s.directions(err); is {
			return rpc.Send(&kvv1.WatchFrame{Error: a.GetError(), Record: a.GetRecord(), Leader: a.GetLeader()})
		}
		return err
	})
}

func (s *Server) watch(r *kvv1.WatchRequest, rpc grpc.ServerStreamingServer[kvv1.WatchFrame], sending sender) error {
	sh, arc, by, err := s.begin(rpc.Context(), Watch, r.GetShard(), r.GetSlots(), r.GetFrom(), r.GetTo())
	if err != nil {
		return misrouted{sh, err}
	}
	bounds := scan.Spec{Slots: arc, From: r.GetFrom(), To: r.GetTo()}
	if err := bounds.Validate(); err != nil {
		return err
	}
	var last uint64
	if err := sh.ask(func() { last = sh.machine.LastVersion() }); err != nil {
		return err
	}
	after := r.GetAfterVersion()
	if r.GetFromNow() {
		after = last
	} else if after > last {
		return neverGiven(after, last)
	}
	told := false // where the watch begins
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for due := true; ; {
		sets, upTo, more, err := sh.changes.take(after, frameTarget)
		if err != nil {
			return err
		}
		frame := &kvv1.WatchFrame{Progress: upTo}
		if !told {
			frame.Progress, sets = after, nil
		}
		for _, set := range sets {
			if picked := pick(r, set); picked != nil {
				frame.Sets = append(frame.Sets, picked)
			}
		}
		if by.drop && len(frame.Sets) > 0 {
			return status.Error(codes.Unavailable, errLost.Error())
		}
		if due || len(frame.Sets) > 0 {
			if err := sending(func() error { return rpc.Send(frame) }); err != nil {
				return err
			}
		}
		after, due = frame.Progress, false
		if !told || len(sets) > 0 {
			told = true
			continue
		}
		select {
		case <-more:
		case <-tick.C:
			due = true
		case <-rpc.Context().Done():
			return status.FromContextError(rpc.Context().Err()).Err()
		case <-s.closing:
			return stopping()
		}
	}
}

// pick is what of a version's changes a watch asks for; nil for none.
func pick(r *kvv1.WatchRequest, s set) *kvv1.ChangeSet {
	var out *kvv1.ChangeSet
	from, to := string(r.GetFrom()), string(r.GetTo())
	for i := range s.changes {
		c := &s.changes[i]
		slot, key := uint32(shardmap.SlotOf(c.Key)), string(c.Key)
		if slot < r.GetSlots().GetFrom() || slot >= r.GetSlots().GetTo() || key < from || to != "" && key >= to {
			continue
		}
		change := &kvv1.Change{Kind: kvv1.ChangeKind(c.Kind), Key: c.Key, ExpiresUs: c.Expires}
		if !r.GetKeysOnly() {
			change.Value = c.Value
		}
		if out == nil {
			out = &kvv1.ChangeSet{Version: s.version}
		}
		out.Changes = append(out.Changes, change)
	}
	return out
}
