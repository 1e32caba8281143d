package raftstore

import (
	"errors"
	"testing"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

func openQueue(ops, bytes int) *writeQueue {
	q := newWriteQueue(ops, bytes)
	q.open(func() bool { return true })
	return q
}

func sizedWrite(bytes int) (*writeCall, *answerLog) {
	c, log := loggedWrite(1, time.Now().Add(time.Hour))
	c.Ops = []state.Op{{Kind: state.OpPut, Key: []byte("k"), Value: make([]byte, bytes)}}
	return c, log
}

func TestQueueRefusesBeyondItsBounds(t *testing.T) {
	q := openQueue(2, 1<<20)
	var calls []*writeCall
	for range 2 {
		c, _ := sizedWrite(10)
		calls = append(calls, c)
		if err := q.put(c); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := sizedWrite(10)
	err := q.put(c)
	var e *kverr.Error
	if !errors.As(err, &e) || e.Kind != kverr.Overloaded || e.RetryAfter <= 0 {
		t.Fatalf("a full queue answered %v; want overloaded with a retry hint", err)
	}
	// Taken is not answered: the account stays until the log has told.
	taken, _ := q.take(1 << 20)
	if err := q.put(c); kverr.KindOf(err) != kverr.Overloaded {
		t.Fatalf("what is in flight left the account: %v", err)
	}
	q.release(taken)
	if err := q.put(c); err != nil {
		t.Fatalf("after release: %v", err)
	}
	if len(taken) != len(calls) {
		t.Fatalf("took %d of %d", len(taken), len(calls))
	}
}

func TestQueueMergesUpToTheLimit(t *testing.T) {
	q := openQueue(100, 1<<20)
	for range 5 {
		c, _ := sizedWrite(1000)
		if err := q.put(c); err != nil {
			t.Fatal(err)
		}
	}
	calls, bytes := q.take(3500)
	if len(calls) != 3 || bytes > 3500 {
		t.Fatalf("took %d calls of %d bytes; want 3 within 3500", len(calls), bytes)
	}
	if calls, _ := q.take(1); len(calls) != 1 {
		t.Fatalf("a call larger than the limit must go alone, took %d", len(calls))
	}
}

func TestQueueClosesTruthfully(t *testing.T) {
	q := openQueue(100, 1<<20)
	waiting, log := sizedWrite(1)
	if err := q.put(waiting); err != nil {
		t.Fatal(err)
	}
	lost := kverr.New(kverr.NotLeader, "lost")
	q.close(lost)
	if log.times != 1 || !errors.Is(log.err, kverr.NotLeader) {
		t.Fatalf("a write that was never proposed: %d answers, %v", log.times, log.err)
	}
	late, _ := sizedWrite(1)
	if err := q.put(late); !errors.Is(err, kverr.NotLeader) {
		t.Fatalf("a closed queue answered %v", err)
	}
	q.open(func() bool { return false })
	if err := q.put(late); err == nil {
		t.Fatal("a tenure that had ended opened the queue")
	}
	if !q.idle() {
		t.Fatal("the account does not come back to zero")
	}
}

func TestQueueDeadline(t *testing.T) {
	q := openQueue(100, 1<<20)
	c, log := sizedWrite(1)
	if err := q.put(c); err != nil {
		t.Fatal(err)
	}
	q.expire(c.Deadline.Add(time.Second))
	if log.times != 1 || !errors.Is(log.err, kverr.Deadline) {
		t.Fatalf("%d answers, %v; want deadline, which means not applied", log.times, log.err)
	}
	if calls, _ := q.take(1 << 20); len(calls) != 0 || !q.idle() {
		t.Fatal("an answered write was taken or kept in the account")
	}
}
