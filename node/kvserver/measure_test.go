package kvserver

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
)

// tally is Results without the zeros.
func tally(s *Server) map[Op]map[kverr.Kind]uint64 {
	out := map[Op]map[kverr.Kind]uint64{}
	for _, c := range s.Results() {
		if c.Count > 0 {
			if out[c.Op] == nil {
				out[c.Op] = map[kverr.Kind]uint64{}
			}
			out[c.Op][c.Result] = c.Count
		}
	}
	return out
}

// Every kind of error has a place of its own.
func TestResultsCoverAllKinds(t *testing.T) {
	if n := len(kverr.Kinds()) + 1; n != numResults {
		t.Fatalf("there are %d kinds of answer and %d counters", n, numResults)
	}
}

// Every operation is counted once, by what it is and how it was answered, and its
// time with it.
func TestResultsCountEveryOperationOnce(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.lower.refuseAll(kverr.New(kverr.NotLeader, "no"))
		// Of each pair of writes in the upper shard the second one is expired.
		e.upper.set(func() {
			e.upper.onWrite = func(w *raftstore.Write) {
				results := make([]state.Result, len(w.Ops))
				for i := range results {
					results[i] = state.Result{Verdict: state.Applied, Version: 1}
					if i%2 == 1 {
						results[i].Verdict = state.Expired
					}
				}
				time.Sleep(3 * time.Millisecond)
				w.Done(results, 1, nil)
			}
		})
		c := e.open()
		c.do(
			put(1, "foo", "1"), put(2, "foo", "2"), del(3, "foo"), del(4, "foo"), get(5, "foo"), get(6, "foo"),
			put(7, "bar", "1"), del(8, "bar"), get(9, "bar"),
			put(10, "", "no key"), get(11, ""), &kvv1.Operation{Id: 12, Kind: 77, Key: []byte("foo")},
		)
		if _, err := e.client.Get(e.t.Context(), &kvv1.GetRequest{Key: []byte("foo")}); err != nil {
			e.t.Fatal(err)
		}
		want := map[Op]map[kverr.Kind]uint64{
			OpGet:     {kverr.None: 3, kverr.NotLeader: 1, kverr.Invalid: 1},
			OpPut:     {kverr.None: 1, kverr.Expired: 1, kverr.NotLeader: 1, kverr.Invalid: 1},
			OpDelete:  {kverr.None: 1, kverr.Expired: 1, kverr.NotLeader: 1},
			OpUnknown: {kverr.Invalid: 1},
		}
		got := tally(e.server)
		for op, results := range want {
			if !maps.Equal(got[op], results) {
				e.t.Errorf("%s: %v, want %v", op, got[op], results)
			}
		}
		l := e.server.Latencies()
		if l.Reads.Count != 3 || l.Writes.Count != 2 || l.Failures.Count != 8 {
			e.t.Errorf("times of %d reads, %d writes, %d failures", l.Reads.Count, l.Writes.Count, l.Failures.Count)
		}
		if l.Writes.Sum != 2*3*time.Millisecond || l.Writes.Cumulative[4] != 0 || l.Writes.Cumulative[5] != 2 { // 1.6, 3.2 ms
			e.t.Errorf("writes of 3 ms: %+v", l.Writes)
		}
	})
}

// What is under way is counted while it is, and no longer.
func TestInFlight(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		var held []*raftstore.Write
		e.upper.onWrite = func(w *raftstore.Write) { held = append(held, w) }
		c := e.open()
		c.ops(put(1, "foo", "12345"), put(2, "foo", "12345"))
		synctest.Wait()
		got := e.server.InFlight()
		if got.Streams != 1 || got.Operations != 2 || got.Batches != 1 || got.RequestBytes != 2*(opOverhead+8) || got.AnswerBytes != 0 {
			e.t.Errorf("%+v", got)
		}
		e.upper.apply(held[0])
		c.answers(2)
		synctest.Wait()
		if got := e.server.InFlight(); got != (InFlight{Streams: 1}) {
			e.t.Errorf("left: %+v", got)
		}
	})
}
