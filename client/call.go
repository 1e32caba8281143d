package client

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// instant is a reading of the client's own monotonic clock: the time since Open.
type instant = time.Duration

// identity is what makes a write repeatable.
type identity uint8

const (
	identityNumbered identity = iota // a number of this client's
	identityGiven                    // the application's, by WithRequestID
	identityNone                     // sent at most once into doubt
)

// call is one operation of one caller, from its start to its only answer.
//
// It belongs to its driver's goroutine. While an attempt is under way (from
// conn.submit until the driver gets it back) the fields that a frame is built
// from and all of try are guarded by the connection's mutex instead. A call has
// at most one attempt under way, so try can be part of it.
type call struct {
	// The request. key is the call's own copy; value is the caller's slice and is
	// read only until the attempt has been put into a frame.
	verb     verb
	key      []byte
	value    []byte
	slot     shardmap.Slot
	delta    int64     // of an add
	txn      *kvv1.Txn // immutable
	txnBytes int
	deadline instant
	*params  // shared by the calls of one method; never nil, and not changed once they run
	// Of a read: the version that the answer must reflect, at the level Session, and
	// the one whose value is known already.
	minVersion, knownVersion uint64

	// Identity of a numbered write, set when it is put into a frame. notAfter
	// stays the same for all attempts under one number: with a later one on a
	// late copy, that copy could be applied after the record of the first is gone.
	ticket   ticket
	notAfter uint64

	attempts int  // times put into a frame
	doubt    bool // some attempt may have been applied
	renewed  bool // was answered Expired before, and had its time renewed

	live bool // an attempt is under way

	// How the next attempt is placed.
	late     int   // attempts given up because no answer came
	hops     int   // immediate repetitions since the last wait
	waits    int   // waits so far
	refusals int   // refusals in a row that the same node would repeat
	turn     int   // rotates through the replicas
	avoid    *conn // who refused or failed last
	waiting  bool  // until wake
	wake     instant

	last     error // last thing that went wrong
	lastNode *conn

	// The end: answer or err.
	finished bool
	answer   *kvv1.Answer
	err      error

	alone bool // of a read through the cache: it is the flight that others wait for

	try attempt
}

func (c *call) isWrite() bool { return c.verb.isWrite() }

// attempt is one try of a call at one node.
type attempt struct {
	owner    *driver
	conn     *conn
	shard    shardmap.ShardID // 0: sent without a route
	arcEpoch uint64
	route    *route
	leader   *leadership // the hint that it followed, if any

	stage      stage
	id         uint64        // on the stream, when sent
	at         instant       // when queued, then when sent
	boot       time.Duration // by the cache's clock: before it was sent
	line       *line         // of its shard, at the connection
	cost       int           // what it is charged with, when sent
	prev, next *call         // in the line

	event  event
	cause  error
	answer *kvv1.Answer
}

// stage is how far an attempt has come.
type stage uint8

const (
	stageNone   stage = iota // not under way: the driver has it
	stageQueued              // waits at a connection; certainly not applied
	stageSent                // put into a frame; it may be applied
)

// event is how an attempt ended.
type event uint8

const (
	eventAnswered event = iota + 1 // the node answered
	eventRerouted                  // not sent: a better place is known by now
	eventUnsent                    // not sent: the connection cannot take it
	eventBroken                    // sent, but no answer will come or be waited for
)

// callQueue is a list of calls through their attempts: first in, first out, and
// a caller can take its own back from the middle.
type callQueue struct {
	head, tail *call
	count      int
}

func (q *callQueue) push(c *call) {
	c.try.prev, c.try.next = q.tail, nil
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.try.next = c
	}
	q.tail = c
	q.count++
}

func (q *callQueue) remove(c *call) {
	if c.try.prev == nil {
		q.head = c.try.next
	} else {
		c.try.prev.try.next = c.try.next
	}
	if c.try.next == nil {
		q.tail = c.try.prev
	} else {
		c.try.next.try.prev = c.try.prev
	}
	c.try.prev, c.try.next = nil, nil
	q.count--
}

func (q *callQueue) pop() *call {
	c := q.head
	if c != nil {
		q.remove(c)
	}
	return c
}
