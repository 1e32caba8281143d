package client

import "github.com/ringfort/ringfort/shardmap"

const (
	// maxInFlight and maxInFlightBytes bound what one connection has sent and
	// not had answered. What is beyond waits in line, which holds nothing but
	// callers that wait: that is the back-pressure.
	maxInFlight      = 8192
	maxInFlightBytes = 16 << 20
	// callOverhead is what a call in flight is charged with beside its key, its
	// value and what it is thought to bring. The nodes charge the same.
	callOverhead = 512
	// firstReadEstimate is how many bytes a read is thought to bring before a
	// connection has seen any.
	firstReadEstimate = 4 << 10
	// manyLines is at how many lines those that are not used are forgotten.
	manyLines = 1024
)

// line is the calls for one shard at a connection: those that wait, and the
// account of those in flight. Calls of which the shard is not known are a line
// too.
//
// A shard may have as much in flight as it leaves free (P8). So one that does not
// answer, whatever is asked of it, comes to half of the room, the next one to half of
// what is left, and there is always room for shards that answer.
type line struct {
	shard      shardmap.ShardID
	queue      callQueue
	sent       int // in flight
	bytes      int // of those
	prev, next *line
	listed     bool // in the connection's list of lines in which calls wait
}

// lines is all lines of one connection.
type lines struct {
	byShard    map[shardmap.ShardID]*line
	head, tail *line // those in which calls wait, in the order of their turns
	waiting    int   // lines in the list
	queued     int   // calls that wait
	sent       int   // calls in flight
	bytes      int   // of those
	estimate   int   // bytes that the next read will bring
}

func (ls *lines) init() {
	ls.byShard = make(map[shardmap.ShardID]*line)
	ls.estimate = firstReadEstimate
}

// of is the shard's line.
func (ls *lines) of(shard shardmap.ShardID) *line {
	l := ls.byShard[shard]
	if l == nil {
		if len(ls.byShard) >= manyLines {
			ls.forget()
		}
		l = &line{shard: shard}
		ls.byShard[shard] = l
	}
	return l
}

// forget drops the lines in which there is nothing.
func (ls *lines) forget() {
	for shard, l := range ls.byShard {
		if l.queue.count == 0 && l.sent == 0 {
			delete(ls.byShard, shard)
		}
	}
}

// push puts a call at the end of its shard's line.
func (ls *lines) push(l *line, c *call) {
	c.try.line = l
	l.queue.push(c)
	ls.queued++
	if !l.listed {
		ls.list(l)
	}
}

// remove takes a waiting call out of its line.
func (ls *lines) remove(c *call) {
	l := c.try.line
	l.queue.remove(c)
	ls.queued--
	if l.queue.count == 0 {
		ls.unlist(l)
	}
}

func (ls *lines) list(l *line) {
	l.prev, l.next, l.listed = ls.tail, nil, true
	if ls.tail == nil {
		ls.head = l
	} else {
		ls.tail.next = l
	}
	ls.tail = l
	ls.waiting++
}

func (ls *lines) unlist(l *line) {
	if l.prev == nil {
		ls.head = l.next
	} else {
		l.prev.next = l.next
	}
	if l.next == nil {
		ls.tail = l.prev
	} else {
		l.next.prev = l.prev
	}
	l.prev, l.next, l.listed = nil, nil, false
	ls.waiting--
}

// turn gives the next line its turn.
func (ls *lines) turn(l *line) {
	if ls.waiting > 1 {
		ls.unlist(l)
		ls.list(l)
	}
}

// cost is what a call will be charged with.
func (ls *lines) cost(c *call) int {
	cost := callOverhead + len(c.key) + len(c.value) + c.txnBytes
	if !c.isWrite() {
		cost += ls.estimate
	}
	return cost
}

// full reports whether a call of this cost must wait for any other's answer. One
// may always go, whatever its size.
func (ls *lines) full(cost int) bool {
	return ls.sent > 0 && (ls.sent >= maxInFlight || ls.bytes+cost > maxInFlightBytes)
}

// shareFull reports whether it must wait for the answer of one of its own line.
func (ls *lines) shareFull(l *line, cost int) bool {
	return l.sent > 0 && (l.sent+1 > maxInFlight-ls.sent-1 || l.bytes+cost > maxInFlightBytes-ls.bytes-cost)
}

// charge notes that a call goes into flight.
func (ls *lines) charge(c *call, cost int) {
	l := c.try.line
	c.try.cost = cost
	l.sent++
	l.bytes += cost
	ls.sent++
	ls.bytes += cost
}

// discharge notes that it is in flight no longer.
func (ls *lines) discharge(c *call) {
	l := c.try.line
	l.sent--
	l.bytes -= c.try.cost
	ls.sent--
	ls.bytes -= c.try.cost
}

// brought takes in how large the largest value was that a frame brought.
func (ls *lines) brought(largest int) { ls.estimate = max(largest, ls.estimate-ls.estimate/8) }
