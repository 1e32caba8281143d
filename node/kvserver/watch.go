package kvserver

import (
	"bytes"
	"context"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/state/scan"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// watchBytes is about what a frame holds; one version's changes may pass it.
	watchBytes = 256 << 10
	// markEvery is how long a watch without changes is silent.
	markEvery = time.Second
	// silentFor is for how long the replica may not know whether it is cut off before
	// its watches end, so that clients look for another one (P6).
	silentFor = 3 * time.Second
)

// Watch implements kvv1.KVServer.
func (s *Server) Watch(r *kvv1.WatchRequest, rpc kvv1.KV_WatchServer) error {
	return s.serveFeed(rpc.Context(), feedWatch, s.limits.MaxWatches, func(f *feed) error {
		err := f.watch(r, rpc.Send)
		shard, slot := shardmap.ShardID(r.GetShard()), shardmap.Slot(min(r.GetSlots().GetFrom(), shardmap.Slots-1))
		if a, is := s.misrouted(err, shard, slot); is {
			return f.sending(func() error {
				return rpc.Send(&kvv1.WatchFrame{Error: a.Error, Record: a.Record, Leader: a.Leader})
			})
		}
		if kverr.KindOf(err) == kverr.Compacted {
			s.counters.watchesCompacted.Add(1)
		}
		return err
	})
}

// watch is one Watch call under way.
type watch struct {
	feed  *feed
	send  func(*kvv1.WatchFrame) error
	group Group
	from  Watch
	slots shardmap.Arc
	all   bool // slots are the whole arc
	span  scan.Spec
	keys  bool // without values

	sent    time.Time    // the last frame
	check   <-chan error // whether the replica is cut off; nil while nobody asks
	asked   time.Time
	failing time.Time // since when it is not known; zero while it is
}

func (f *feed) watch(r *kvv1.WatchRequest, send func(*kvv1.WatchFrame) error) error {
	w := &watch{feed: f, send: send, keys: r.GetKeysOnly()}
	if err := w.open(r); err != nil {
		return err
	}
	if err := w.emit(nil, 0, w.from.UpTo()); err != nil {
		return err
	}
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for mark := false; ; {
		ready := w.from.Ready() // before looking, so that nothing is missed
		parts, err := w.from.Take(watchBytes)
		if err != nil {
			return err
		}
		if len(parts) > 0 {
			if err := w.pass(parts); err != nil {
				return err
			}
			if err := f.ctx.Err(); err != nil {
				return noWatcher(err)
			}
			if time.Since(w.sent) < markEvery {
				continue
			}
			// Nobody asked for what comes. It shows that the replica goes on, and the
			// client, who sees none of it, has to be told.
			if err := inside(w.from.Record(), w.slots); err != nil {
				return err
			}
			mark = true
		}
		if mark {
			mark = false
			if err := w.emit(nil, 0, w.from.UpTo()); err != nil {
				return err
			}
			if len(parts) > 0 {
				continue
			}
		}
		select {
		case <-ready:
		case <-tick.C:
			if err := inside(w.from.Record(), w.slots); err != nil {
				return err
			}
			if w.check == nil && time.Since(w.sent) >= markEvery {
				w.asked, w.check = time.Now(), w.from.Confirm(markEvery, silentFor)
			}
		case err := <-w.check:
			w.check = nil
			if mark, err = w.judge(err); err != nil {
				return err
			}
		case <-f.ctx.Done():
			return noWatcher(f.ctx.Err())
		}
	}
}

func noWatcher(err error) error { return kverr.New(kverr.Deadline, "nobody watches any more: %w", err) }

func (w *watch) open(r *kvv1.WatchRequest) (err error) {
	s := w.feed.server
	if w.slots, err = feedArc(r.GetSlots()); err != nil {
		return err
	}
	w.span = scan.Spec{Shard: shardmap.ShardID(r.GetShard()), Slots: w.slots, From: r.GetFrom(), To: r.GetTo()}
	if err = w.span.Validate(); err != nil {
		return err
	}
	if s.opts.AuthorizeRange != nil {
		if err = s.opts.AuthorizeRange(w.feed.ctx, VerbWatch, w.span.From, w.span.To); err != nil {
			return err
		}
	}
	if w.group, err = s.feedGroup(w.span.Shard, w.slots.From); err != nil {
		return err
	}
	rec := w.group.Record()
	if err = inside(rec, w.slots); err != nil {
		return err
	}
	w.all = rec.Arc == w.slots
	ctx, cancel := context.WithTimeout(w.feed.ctx, DefaultTimeLeft)
	defer cancel()
	w.from, err = w.group.Watch(ctx, r.GetAfterVersion(), r.GetFromNow())
	return err
}

// judge takes the answer to the question whether the replica is cut off. Only one
// that is not may say how far it is.
func (w *watch) judge(err error) (mark bool, _ error) {
	if err == nil {
		w.failing = time.Time{}
		return true, nil
	}
	if w.failing.IsZero() {
		w.failing = w.asked
	}
	if time.Since(w.failing) < silentFor {
		return false, nil // the next tick asks again: there may be an election
	}
	w.feed.server.counters.watchesCutOff.Add(1)
	return false, &kverr.Error{Kind: kverr.Unavailable, Shard: uint64(w.span.Shard), Node: string(w.feed.server.opts.Self), Err: err,
		Message: "this replica does not know whether it is cut off from its shard; watch another: " + err.Error()}
}

// wants reports whether a change is one that was asked for.
func (w *watch) wants(c *state.Change) bool {
	return bytes.Compare(c.Key, w.span.From) >= 0 && (len(w.span.To) == 0 || bytes.Compare(c.Key, w.span.To) < 0) &&
		(w.all || w.slots.Contains(state.SlotFor(w.span.Shard, c.Key)))
}

// pass sends what was asked for of some entries, in frames that end between versions.
func (w *watch) pass(parts [][]state.Change) error {
	var sets []*kvv1.ChangeSet
	size := 0
	var last *kvv1.ChangeSet
	for _, changes := range parts {
		for i := range changes {
			c := &changes[i]
			if !w.wants(c) {
				continue
			}
			if last == nil || last.Version != c.Version {
				if size >= watchBytes { // what is there is whole: a version's changes come together
					if err := w.emit(sets, size, last.Version); err != nil {
						return err
					}
					sets, size = nil, 0
				}
				last = &kvv1.ChangeSet{Version: c.Version}
				sets = append(sets, last)
			}
			m := &kvv1.Change{Kind: kvv1.ChangeKind(c.Kind), Key: c.Key, ExpiresUs: c.Expires}
			if !w.keys {
				m.Value = c.Value
			}
			last.Changes = append(last.Changes, m)
			size += changeOverhead + len(m.Key) + len(m.Value)
		}
	}
	if len(sets) == 0 {
		return nil
	}
	return w.emit(sets, size, w.from.UpTo())
}

const changeOverhead = 128

// emit sends one frame.
func (w *watch) emit(sets []*kvv1.ChangeSet, size int, progress uint64) error {
	if err := w.feed.hold(size); err != nil {
		return err
	}
	if err := w.feed.sending(func() error { return w.send(&kvv1.WatchFrame{Sets: sets, Progress: progress}) }); err != nil {
		return err
	}
	_ = w.feed.hold(0) // less is never refused
	w.sent = time.Now()
	for _, set := range sets {
		w.feed.server.counters.watchChanges.Add(uint64(len(set.Changes)))
	}
	w.feed.server.counters.watchBytes.Add(uint64(size))
	return nil
}
