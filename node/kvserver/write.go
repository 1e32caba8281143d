package kvserver

import (
	"runtime"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

// load is what the writer has taken from the outbox and not yet sent. Its slices
// are used again and again.
type load struct {
	answers   []*kvv1.Answer
	redirects []redirect
	unasked   unasked
}

// write sends what waits, together, until the stream is over. No knob and no
// delay: while one frame is being sent the next one gathers.
func (st *stream) write() {
	defer st.leave()
	stall := time.AfterFunc(st.server.opts.StallTimeout, st.stalled)
	defer stall.Stop()
	stall.Stop()
	var l load
	frame := &kvv1.ServerFrame{}
	for {
		done := st.box.take(&l)
		if len(l.answers) == 0 && l.unasked.empty() {
			if done {
				st.end(st.goodEnd())
				return
			}
			select {
			case <-st.box.wake:
				// Those who are about to deliver get to it first: the answers of one
				// instant then travel in one frame.
				runtime.Gosched()
				continue
			case <-st.over:
				return
			}
		}
		for i := range l.redirects {
			st.server.direct(&l.redirects[i])
		}
		clear(l.redirects)
		if !st.send(frame, &l, stall) {
			return
		}
	}
}

// send sends one load in frames of about frameTarget bytes.
func (st *stream) send(frame *kvv1.ServerFrame, l *load, stall *time.Timer) bool {
	l.unasked.moveTo(frame)
	for rest := l.answers; ; {
		n, bytes := 0, 0
		for n < len(rest) && (n == 0 || bytes+answerBytes(rest[n]) <= frameTarget) {
			bytes += answerBytes(rest[n])
			n++
		}
		frame.Answers = rest[:n]
		stall.Reset(st.server.opts.StallTimeout)
		err := st.rpc.Send(frame)
		stall.Stop()
		if err != nil {
			st.end(err)
			return false
		}
		st.box.release(n, bytes)
		clear(rest[:n])
		if rest = rest[n:]; len(rest) == 0 {
			return true
		}
		(&unasked{}).moveTo(frame)
	}
}

// moveTo makes the unasked fields of frame those of u.
func (u *unasked) moveTo(frame *kvv1.ServerFrame) {
	frame.Hello, frame.Map, frame.GoingAway, frame.Leaders = u.hello, u.shardMap, u.goAway, nil
	for _, h := range u.leaders {
		frame.Leaders = append(frame.Leaders, wire.HintToProto(h))
	}
	*u = unasked{}
}

// stalled cuts a client that did not take one frame in time: what it has in
// flight would otherwise be held for as long as it likes.
func (st *stream) stalled() {
	st.server.counters.stalled.Add(1)
	st.server.opts.Logger.Warn("cut a client that does not read its answers", "after", st.server.opts.StallTimeout)
	st.end(st.server.fault(kverr.Overloaded, "the client took no frame for %s", st.server.opts.StallTimeout))
}

// goodEnd is the status of a stream on which nothing is left to do.
func (st *stream) goodEnd() error {
	if st.server.stopped() {
		return wire.StatusFromError(st.server.stopping())
	}
	return nil
}

// deliver implements sink: it is where Done callbacks end.
func (st *stream) deliver(d delivery) {
	if shed := st.box.deliver(d); shed > 0 {
		st.server.counters.overloaded.Add(uint64(shed))
		st.server.counters.shed.Add(uint64(shed))
	}
}
