package client

import (
	"errors"
	"slices"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// watchSilence is how long a watch's stream may be without any frame: nodes
	// tell their progress more often than that.
	watchSilence = 5 * time.Second
	// watchPatience is how long a shard may be out of reach before the watch says
	// that it cannot go on.
	watchPatience = time.Minute
)

// tap follows one arc of a watch, in one shard, by one stream after the other.
type tap struct {
	watch   *watch
	arc     shardmap.Arc
	version uint64 // every change up to it was delivered
	known   bool   // version means something; otherwise it begins now
	// refused are the nodes that have forgotten the changes behind version.
	refused []*conn
	// shown is what a reset scan has shown already; see filter.
	shown  []segment
	course course
}

func (t *tap) run() {
	w := t.watch
	t.course = newCourse(w.client, verbWatch, t.arc.From, w.replicas)
	t.course.patience = watchPatience
	for {
		err := t.attempt()
		var final *Error
		switch {
		case err == errStop || errors.As(err, &final):
		case kverr.KindOf(err) == kverr.Compacted:
			err = t.forgotten(err)
		default:
			err = t.course.failed(w.ctx, err)
		}
		if err == errStop {
			return
		}
		if err != nil {
			to := w.out
			if !t.known {
				to = w.ready
			}
			w.deliver(to, delivery{err: err})
			return
		}
	}
}

// attempt serves one stream and returns how it ended: errStop when the loop is
// gone.
func (t *tap) attempt() error {
	w := t.watch
	t.course.probe.slot = t.arc.From
	service, r, err := t.open()
	if err != nil {
		return err
	}
	t.cede(w.client.topology.reach(r, t.arc))
	c := newCut(w.ctx)
	defer c.cancel(nil)
	stream, err := service.Watch(c.ctx, t.request(r))
	if err != nil {
		return streamError(err)
	}
	for {
		disarm := c.after(watchSilence)
		frame, err := stream.Recv()
		disarm()
		switch {
		case c.silent():
			w.client.log.Debug("watch: breaking off a silent stream")
			return silence(watchSilence)
		case err != nil:
			return streamError(err)
		case frame.GetError() != nil:
			t.course.news(frame.GetRecord(), frame.GetLeader())
			return wire.ErrorFromProto(frame.GetError())
		}
		t.refused = nil
		if !t.accept(frame) {
			return errStop
		}
		t.course.progressed() // only now: a slow loop is no silence of the node's
	}
}

// open connects to where the stream should come from. Where nodes have forgotten,
// the others are asked one after the other.
func (t *tap) open() (kvv1.KVClient, *route, error) {
	service, r, err := t.course.next(t.watch.ctx)
	if err != nil || len(t.refused) == 0 {
		return service, r, err
	}
	for _, n := range r.conns {
		if slices.Contains(t.refused, n) {
			continue
		}
		service, err := n.await(t.watch.ctx)
		if err != nil {
			t.refused = append(t.refused, n) // nobody can ask it
			continue
		}
		t.course.probe.try.conn, t.course.probe.lastNode = n, n
		return service, r, nil
	}
	return nil, nil, kverr.Compacted
}

// forgotten decides what follows when a node does not remember the changes behind
// version: nil means that the next attempt may begin.
func (t *tap) forgotten(cause error) error {
	w := t.watch
	if err := t.course.over(w.ctx); err != nil {
		return err
	}
	if n := t.course.probe.try.conn; !slices.Contains(t.refused, n) {
		t.refused = append(t.refused, n)
	}
	r := w.client.topology.lookup(t.arc.From)
	for _, n := range r.replicas() {
		if !slices.Contains(t.refused, n) {
			return nil
		}
	}
	if !w.resync {
		return failure(&t.course.probe, ErrCompacted, cause)
	}
	t.refused = nil
	return t.resync()
}

// cede leaves the tap with the slots before to, and lets another one follow the
// rest, if there is any.
func (t *tap) cede(to shardmap.Slot) {
	if to >= t.arc.To {
		return
	}
	t.watch.follow(&tap{
		arc: shardmap.Arc{From: to, To: t.arc.To}, version: t.version, known: t.known, shown: t.shown,
	})
	t.arc.To = to
}

func (t *tap) request(r *route) *kvv1.WatchRequest {
	w := t.watch
	return &kvv1.WatchRequest{
		Shard: uint64(r.record.Shard), ArcEpoch: r.record.ArcEpoch,
		Slots: &kvv1.Arc{From: uint32(t.arc.From), To: uint32(t.arc.To)},
		From:  []byte(w.keys.from), To: []byte(w.keys.to),
		AfterVersion: t.version, FromNow: !t.known, KeysOnly: w.keysOnly,
	}
}

// accept hands on what a frame brings, and returns false when the loop is gone.
func (t *tap) accept(frame *kvv1.WatchFrame) bool {
	w := t.watch
	w.client.shardTime.saw(frame.GetProgress())
	if !t.known {
		t.known, t.version = true, frame.GetProgress()
		if sets := frame.GetSets(); len(sets) > 0 {
			t.version = min(t.version, sets[0].GetVersion()-1)
		}
		if !w.deliver(w.ready, delivery{changes: Changes{Version: t.version, arc: t.arc}}) {
			return false
		}
	}
	for _, set := range frame.GetSets() {
		if set.GetVersion() <= t.version {
			continue // a frame of a replica that began before what it was asked for
		}
		t.version = set.GetVersion()
		d := delivery{changes: Changes{Kind: ChangeSet, Version: t.version, Events: t.filter(set), arc: t.arc}, moves: true}
		d.silent = len(d.changes.Events) == 0
		if !w.deliver(w.out, d) {
			return false
		}
	}
	if p := frame.GetProgress(); p > t.version {
		t.version = p
		d := delivery{changes: Changes{Kind: Progress, Version: p, arc: t.arc}, moves: true, silent: !w.progress}
		return w.deliver(w.out, d)
	}
	return true
}

// filter returns the events of a set, without those that a reset has shown: behind
// the keys at which its scan was interrupted it was of a newer snapshot than the
// position that the tap goes on from.
func (t *tap) filter(set *kvv1.ChangeSet) []Event {
	events := make([]Event, 0, len(set.GetChanges()))
	for _, c := range set.GetChanges() {
		if set.GetVersion() > shownUpTo(t.shown, c.GetKey()) {
			events = append(events, eventOf(c))
		}
	}
	if n := len(t.shown); n > 0 && set.GetVersion() >= t.shown[n-1].version {
		t.shown = nil
	}
	return events
}

// shownUpTo is the version at which a scan in the order of slots has shown a key.
func shownUpTo(segments []segment, key []byte) (v uint64) {
	for _, s := range segments {
		if len(s.after) > 0 && compareBySlot(key, s.after) <= 0 {
			break
		}
		v = s.version
	}
	return v
}
