package client

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/grpc"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// modelStreams is how the model serves scans and watches, and what it can be
// told to do wrong.
type modelStreams struct {
	page     int               // items per page
	floors   map[[2]int]uint64 // by shard's index and node: the lowest after_version remembered
	progress time.Duration     // between marks; 0: none

	scans   []*kvv1.ScanRequest
	watches []*kvv1.WatchRequest
	// onPage and onFrame are asked before each is sent; an error ends the stream.
	onPage  func(n *fakeNode, r *kvv1.ScanRequest, count int) error
	onFrame func(n *fakeNode, r *kvv1.WatchRequest, count int) error
}

func (s *modelStreams) init() {
	s.page, s.progress = 3, time.Second
	s.floors = make(map[[2]int]uint64)
}

// owner finds the shard that a stream is for, or says why it is not here.
func (m *model) owner(shard uint64, arc *kvv1.Arc) (s *modelShard, wrong *kvv1.ShardRecord) {
	owner := m.shardOf(shardmap.Slot(arc.GetFrom()))
	if uint64(owner.record.Shard) != shard || shardmap.Slot(arc.GetTo()) > owner.record.Arc.To {
		return nil, wire.RecordToProto(owner.record)
	}
	return owner, nil
}

func (m *model) scan(n *fakeNode, r *kvv1.ScanRequest, st grpc.ServerStreamingServer[kvv1.ScanPage]) error {
	m.mu.Lock()
	m.streams.scans = append(m.streams.scans, r)
	s, wrong := m.owner(r.GetShard(), r.GetSlots())
	if wrong != nil {
		m.mu.Unlock()
		return st.Send(&kvv1.ScanPage{Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD}, Record: wrong})
	}
	replica, by := m.readable(s, m.index(n), r.GetLevel(), r.GetMinVersion(), r.GetMaxAgeUs(), r.GetAnyReplica())
	if replica == nil {
		a := m.notLeader(&kvv1.Operation{}, s)
		m.mu.Unlock()
		return st.Send(&kvv1.ScanPage{Error: a.GetError(), Leader: a.GetLeader()})
	}
	items := m.collect(replica, r)
	page := &kvv1.ScanPage{Version: replica.version, ServedBy: by, Seeks: 1}
	size, onPage := m.streams.page, m.streams.onPage
	m.mu.Unlock()
	for count := 0; ; count++ {
		if onPage != nil {
			if err := onPage(n, r, count); err != nil {
				return err
			}
		}
		n.waitThawed()
		part := items[:min(size, len(items))]
		items = items[len(part):]
		page.Examined += uint64(len(part))
		out := &kvv1.ScanPage{Version: page.Version, ServedBy: by, Seeks: 1, Examined: page.Examined, Done: len(items) == 0}
		out.Last = r.GetAfter()
		if len(part) > 0 {
			out.Last = part[len(part)-1].GetKey()
			page.Last = out.Last
		} else if page.Last != nil {
			out.Last = page.Last
		}
		if r.GetCountOnly() {
			out.Count = uint64(len(part))
		} else {
			out.Items = part
		}
		if err := st.Send(out); err != nil || out.Done {
			return err
		}
	}
}

// collect is what a scan shows, in its order.
func (m *model) collect(replica *modelReplica, r *kvv1.ScanRequest) (items []*kvv1.ScanItem) {
	order := func(a, b []byte) int {
		by := cmp.Compare(string(a), string(b))
		if r.GetOrder() == kvv1.ScanOrder_SCAN_ORDER_SLOT {
			by = cmp.Or(cmp.Compare(shardmap.SlotOf(a), shardmap.SlotOf(b)), by)
		}
		if r.GetReverse() {
			by = -by
		}
		return by
	}
	for key, v := range replica.data {
		slot := uint32(shardmap.SlotOf([]byte(key)))
		switch {
		case slot < r.GetSlots().GetFrom() || slot >= r.GetSlots().GetTo():
		case key < string(r.GetFrom()) || len(r.GetTo()) > 0 && key >= string(r.GetTo()):
		case len(r.GetAfter()) > 0 && order([]byte(key), r.GetAfter()) <= 0:
		case v.expires != 0 && v.expires <= m.now():
		default:
			item := &kvv1.ScanItem{Key: []byte(key), Version: v.version, ExpiresUs: v.expires}
			if !r.GetKeysOnly() {
				item.Value = v.value
			}
			items = append(items, item)
		}
	}
	slices.SortFunc(items, func(a, b *kvv1.ScanItem) int { return order(a.GetKey(), b.GetKey()) })
	if r.GetLimit() > 0 {
		items = items[:min(len(items), int(r.GetLimit()))]
	}
	return items
}

func (m *model) watch(n *fakeNode, r *kvv1.WatchRequest, st grpc.ServerStreamingServer[kvv1.WatchFrame]) error {
	m.mu.Lock()
	m.streams.watches = append(m.streams.watches, r)
	s, wrong := m.owner(r.GetShard(), r.GetSlots())
	if wrong != nil {
		m.mu.Unlock()
		return st.Send(&kvv1.WatchFrame{Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD}, Record: wrong})
	}
	after := r.GetAfterVersion()
	if r.GetFromNow() {
		after = s.lastVersion()
	}
	floor := m.streams.floors[[2]int{slices.Index(m.shards, s), m.index(n)}]
	m.mu.Unlock()
	if after < floor {
		return wire.StatusFromError(kverr.New(kverr.Compacted, "changes before %d are gone", floor))
	}
	for count := 0; ; count++ {
		m.mu.Lock()
		// A shard that gave slots away tells so.
		if _, wrong := m.owner(r.GetShard(), r.GetSlots()); wrong != nil {
			m.mu.Unlock()
			return st.Send(&kvv1.WatchFrame{Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD}, Record: wrong})
		}
		frame := &kvv1.WatchFrame{Progress: after}
		replica := s.replicas[m.index(n)]
		for _, set := range s.log[:replica.applied] {
			if set.version <= after {
				continue
			}
			frame.Progress = set.version
			if out := selectChanges(r, set); len(out.GetChanges()) > 0 {
				frame.Sets = append(frame.Sets, out)
			}
		}
		moved := frame.GetProgress() > after || count == 0
		changed, onFrame, pause := m.changed, m.streams.onFrame, m.streams.progress
		m.mu.Unlock()
		if moved || pause > 0 {
			if onFrame != nil {
				if err := onFrame(n, r, count); err != nil {
					return err
				}
			}
			n.waitThawed()
			if err := st.Send(frame); err != nil {
				return err
			}
			after = frame.GetProgress()
		}
		if pause == 0 {
			pause = time.Hour
		}
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-timer.C:
		case <-st.Context().Done():
			timer.Stop()
			return st.Context().Err()
		}
		timer.Stop()
	}
}

func selectChanges(r *kvv1.WatchRequest, set modelSet) *kvv1.ChangeSet {
	out := &kvv1.ChangeSet{Version: set.version}
	for _, c := range set.changes {
		slot, key := uint32(shardmap.SlotOf(c.GetKey())), string(c.GetKey())
		if slot < r.GetSlots().GetFrom() || slot >= r.GetSlots().GetTo() ||
			key < string(r.GetFrom()) || len(r.GetTo()) > 0 && key >= string(r.GetTo()) {
			continue
		}
		change := &kvv1.Change{Kind: c.GetKind(), Key: c.GetKey(), ExpiresUs: c.GetExpiresUs()}
		if !r.GetKeysOnly() {
			change.Value = c.GetValue()
		}
		out.Changes = append(out.Changes, change)
	}
	return out
}
