package client

import (
	"errors"
	"time"

	"google.golang.org/grpc"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// scanPatience is how long a scan's stream may be silent before another node is
// asked; each further time it is twice as long.
const scanPatience = 5 * time.Second

// errStop ends a scan whose loop wants nothing more.
var errStop = errors.New("stop")

// strand is a scan of one arc, which has always been in one shard since it was
// begun. After an interruption it goes on behind the last key received; if by then
// other shards have a part of its arc, so do other strands, all behind that key.
type strand struct {
	scan   *scan
	arc    shardmap.Arc
	after  []byte // the last key received
	course course

	stream   grpc.ServerStreamingClient[kvv1.ScanPage]
	cut      cut
	begun    bool // a stream has brought a page before
	seeks    uint64
	examined uint64

	segments []segment
	items    []*kvv1.ScanItem // received, not yet taken
	served   Served
	done     bool // nothing more will be received
}

// segment says that a strand was read at a version behind a key, up to the next
// segment's.
type segment struct {
	after   []byte // empty at the beginning
	version uint64
}

func (s *scan) newStrand(arc shardmap.Arc) *strand {
	st := &strand{scan: s, arc: arc, course: newCourse(s.client, s.verb, s.first(arc), s.replicas)}
	if _, ok := s.ctx.Deadline(); !ok {
		st.course.patience = s.client.cfg.timeout
	}
	return st
}

// next makes sure that there is an item to take, and returns false at the end.
// When the arc turns out to be in several shards, the strand keeps the first part
// and also gets those behind it.
func (st *strand) next(also func([]*strand)) (bool, error) {
	for len(st.items) == 0 {
		if st.done {
			return false, nil
		}
		if _, err := st.receive(also); err != nil {
			return false, err
		}
	}
	return true, nil
}

// take returns the next item. REQUIRES: there is one.
func (st *strand) take() Item {
	i := st.items[0]
	st.items = st.items[1:]
	return Item{
		Key: string(i.GetKey()), Value: i.GetValue(), Version: i.GetVersion(), Expires: shardInstant(i.GetExpiresUs()),
		Served: st.served,
	}
}

// receive gets the next page, from whichever node has it, and returns how many
// keys it counted.
func (st *strand) receive(also func([]*strand)) (counted uint64, err error) {
	st.course.since = st.scan.client.now() // a slow loop is no silence of the node's
	for {
		if st.stream == nil {
			if err := st.open(also); err != nil {
				return 0, err
			}
		}
		if st.done {
			return 0, nil
		}
		disarm := st.cut.after(scanPatience << min(st.course.probe.late, 4))
		page, err := st.stream.Recv()
		disarm()
		switch {
		case err == nil && page.GetError() == nil:
			st.accept(page)
			return page.GetCount(), nil
		case err == nil:
			st.course.news(page.GetRecord(), page.GetLeader())
			err = wire.ErrorFromProto(page.GetError())
		case st.cut.silent():
			st.course.probe.late++
			err = silence(scanPatience)
		default:
			err = streamError(err)
		}
		st.close()
		if err := st.course.failed(st.scan.ctx, err); err != nil {
			return 0, err
		}
	}
}

// open begins a stream where the arc's shard is.
func (st *strand) open(also func([]*strand)) error {
	s := st.scan
	for {
		st.trim()
		if st.done {
			return nil
		}
		service, r, err := st.course.next(s.ctx)
		if err != nil {
			return err
		}
		if rest := st.narrow(r); len(rest) > 0 {
			also(rest)
		}
		st.cut = newCut(s.ctx)
		st.stream, err = service.Scan(st.cut.ctx, st.request(r))
		if err == nil {
			s.report.Streams++
			if st.begun {
				s.report.Resumed++
			}
			st.seeks, st.examined = 0, 0
			return nil
		}
		st.close()
		if err := st.course.failed(s.ctx, streamError(err)); err != nil {
			return err
		}
	}
}

func (st *strand) close() {
	st.cut.cancel(nil)
	st.stream = nil
}

// trim leaves out the slots that are behind the strand already.
func (st *strand) trim() {
	s := st.scan
	if s.order == kvv1.ScanOrder_SCAN_ORDER_SLOT && len(st.after) > 0 {
		if slot := shardmap.SlotOf(st.after); s.reverse {
			st.arc.To = min(st.arc.To, slot+1)
		} else {
			st.arc.From = max(st.arc.From, slot)
		}
	}
	st.done = st.done || st.arc.From >= st.arc.To
	if !st.done {
		st.course.probe.slot = s.first(st.arc)
	}
}

// narrow leaves the strand with the part of its arc that follows the route from
// its first slot on, and returns a strand for the rest, if there is any.
func (st *strand) narrow(r *route) []*strand {
	s, t, rest := st.scan, &st.scan.client.topology, st.arc
	if s.bySlot && s.reverse {
		from := t.reachBack(r, st.arc)
		st.arc.From, rest.To = from, from
	} else {
		to := t.reach(r, st.arc)
		st.arc.To, rest.From = to, to
	}
	if rest.From >= rest.To {
		return nil
	}
	other := s.newStrand(rest)
	other.after, other.begun = st.after, st.begun
	return []*strand{other}
}

func (st *strand) request(r *route) *kvv1.ScanRequest {
	s := st.scan
	req := &kvv1.ScanRequest{
		Shard: uint64(r.record.Shard), ArcEpoch: r.record.ArcEpoch,
		Slots: &kvv1.Arc{From: uint32(st.arc.From), To: uint32(st.arc.To)},
		From:  []byte(s.keys.from), To: []byte(s.keys.to), After: st.after,
		Reverse: s.reverse, Order: s.order, Limit: s.left(),
		KeysOnly: s.keysOnly, CountOnly: s.count,
		Level: s.level, MaxAgeUs: s.maxAge, AnyReplica: s.replicas != replicaLeader,
	}
	if s.level == kvv1.ReadLevel_READ_LEVEL_SESSION {
		switch {
		case s.inSession:
			req.MinVersion = s.session.Token().most(st.arc)
		case s.token != nil:
			req.MinVersion = s.token.most(st.arc)
		}
	}
	return req
}

// accept takes in a page.
func (st *strand) accept(page *kvv1.ScanPage) {
	s := st.scan
	st.course.progressed()
	if !st.begun {
		st.begun = true
		at := &s.report.position
		at.cluster, at.exact = s.client.topology.cluster(), true
		at.marks = raised(at.marks, st.arc, page.GetVersion())
	}
	if s.session != nil {
		s.session.saw(s.client.topology.cluster(), st.arc, page.GetVersion())
	}
	s.client.shardTime.saw(page.GetVersion())
	s.report.Seeks += page.GetSeeks() - st.seeks
	s.report.Examined += page.GetExamined() - st.examined
	st.seeks, st.examined = page.GetSeeks(), page.GetExamined()
	if n := len(st.segments); n == 0 || st.segments[n-1].version != page.GetVersion() {
		st.segments = append(st.segments, segment{st.after, page.GetVersion()})
	}
	st.items = page.GetItems()
	st.served = Served{By: servedBy(page.GetServedBy()), Node: string(st.course.probe.try.conn.name()), ShardVersion: page.GetVersion()}
	switch {
	case len(page.GetLast()) > 0:
		st.after = page.GetLast()
	case len(st.items) > 0:
		st.after = st.items[len(st.items)-1].GetKey()
	}
	if page.GetDone() {
		st.done = true
		st.close()
	}
}
