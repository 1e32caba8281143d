package state

import "slices"

// The request table is a function of its pages on disk, and the pages are a
// function of the log: however entries were batched, and however often the table
// was loaded again in between, the same entry finds the same table and leaves
// the same keys (RS4).
//
// A page is what one log entry added, and one key. It mentions the clients the
// entry touched, each with its state after the entry, and lists the answers the
// entry recorded. The newest page that mentions a client is the client's home:
// the only place from which its state is read. A page is deleted
//
//   - as soon as none of its answers is open and no client lives in it, and
//   - at the old end of the list, once shard time has passed its horizon.
//
// A page's horizon is never below its predecessor's, so pages expire in log
// order and nothing is sorted by time. And so, when a client's home expires, no
// older page mentions the client any more: it cannot come back, with an old
// lowest-open number, from a page that outlived its home. The price: an answer
// may stay after its own not-after, until the pages before it have expired.

// page is what one log entry added to the table.
type page struct {
	index      uint64 // of the entry
	horizon    uint64 // when shard time is past it, nothing here is needed
	mentions   []*client
	recorded   []recorded // in the order of their versions
	open       int        // answers recorded here and still open
	residents  int        // clients whose home this is
	thinning   bool       // is in table.thinning
	prev, next *page
}

type recorded struct {
	client  *client
	number  uint64
	version uint64
	detail  string
}

// sparse reports whether a page holds so much more than is still needed that it
// is worth writing anew. Without that, one idle client could keep the closed
// answers of everybody who was served in the same entry. A page at least halves
// each time, so the work is paid for when it is first written.
func (p *page) sparse(slack int) bool {
	return len(p.recorded)+len(p.mentions) > 2*(p.open+p.residents)+slack
}

// touch makes the current entry's page the client's home, because the entry
// changes the client.
func (t *table) touch(c *client) {
	if t.current == nil {
		t.current = &page{index: t.index}
	}
	if c.home == t.current {
		return
	}
	old := c.home
	c.home = t.current
	t.current.residents++
	t.touched = append(t.touched, c)
	if old != nil {
		old.residents--
		t.shrunk(old)
	}
}

// shrunk follows up after a page has lost an answer or a resident.
func (t *table) shrunk(p *page) {
	switch {
	case p == t.current:
		// Not on disk yet, and it has a resident.
	case p.open == 0 && p.residents == 0:
		t.release(p)
	case !p.thinning && p.sparse(t.limits.slack):
		p.thinning = true
		t.thinning = append(t.thinning, p)
	}
}

// commit ends the entry and leaves its changes to disk in written and released.
func (t *table) commit() {
	for _, p := range t.thinning {
		if p.thinning { // still there
			p.thinning = false
			p.thin()
			t.written = append(t.written, p)
		}
	}
	if t.current != nil {
		t.seal(t.current)
		t.written = append(t.written, t.current)
		t.current = nil
	}
	clear(t.thinning)
	t.thinning = t.thinning[:0]
}

// seal completes the current page and appends it to the list.
func (t *table) seal(p *page) {
	p.mentions = slices.Clone(t.touched)
	// What the entry recorded and closed again was never needed.
	p.recorded = make([]recorded, 0, p.open)
	for _, r := range t.fresh {
		if r.isOpen() {
			p.recorded = append(p.recorded, r)
		}
	}
	for _, c := range p.mentions {
		p.horizon = max(p.horizon, c.notAfter)
	}
	if t.pages.newest != nil {
		p.horizon = max(p.horizon, t.pages.newest.horizon)
	}
	t.pages.append(p)
	clear(t.fresh)
	clear(t.touched)
	t.fresh, t.touched = t.fresh[:0], t.touched[:0]
}

// isOpen reports whether an answer that has not expired is still open.
func (r *recorded) isOpen() bool { return r.number >= r.client.lowestOpen }

// thin forgets closed answers, and clients without an answer or a home here.
func (p *page) thin() {
	for _, c := range p.mentions {
		c.mention = 0
		if c.home == p {
			c.mention = 1
		}
	}
	open := make([]recorded, 0, p.open)
	for _, r := range p.recorded {
		if r.isOpen() {
			open = append(open, r)
			r.client.mention = 1
		}
	}
	p.recorded = open
	p.mentions = slices.Clone(slices.DeleteFunc(p.mentions, func(c *client) bool { return c.mention == 0 }))
}

// expire drops the oldest page with everything in it.
func (t *table) expire(p *page) {
	for _, r := range p.recorded {
		if a, ok := r.client.answers.remove(r.number); ok {
			t.records--
			t.detail -= len(a.detail)
		}
	}
	for _, c := range p.mentions {
		if c.home == p {
			delete(t.clients, c.id)
		}
	}
	t.release(p)
}

func (t *table) release(p *page) {
	p.thinning = false
	t.pages.remove(p)
	t.released = append(t.released, p.index)
}

// pageList is all sealed pages in log order.
type pageList struct {
	oldest, newest *page
	count          int
}

func (l *pageList) append(p *page) {
	p.prev = l.newest
	if l.newest == nil {
		l.oldest = p
	} else {
		l.newest.next = p
	}
	l.newest = p
	l.count++
}

func (l *pageList) remove(p *page) {
	if p.prev == nil {
		l.oldest = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.newest = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.prev, p.next = nil, nil
	l.count--
}
