package state

// table is the request table: which numbered operations of which clients were
// applied, and what they were answered. It does no I/O; the machine writes the
// pages it names.
type table struct {
	limits  limits
	clients map[ClientID]*client // looked up, never ranged over (RS2)
	records int                  // open answers of all clients
	detail  int                  // bytes of their details
	pages   pageList

	// Of the entry between begin and commit.
	index    uint64
	current  *page      // what the entry adds; nil until it touches a client
	fresh    []recorded // its answers, in order
	touched  []*client  // its mentions, in order
	thinning []*page    // older pages that it may have left nearly empty
	written  []*page    // result: pages whose keys are to be written
	released []uint64   // result: pages whose keys are to be deleted
}

// client is one client id with something to remember.
type client struct {
	id         ClientID
	lowestOpen uint64 // every lower number is closed; never falls
	notAfter   uint64 // the largest of all its answers, open or closed; never falls
	home       *page  // the newest page that mentions it
	answers    answers
	mention    int // scratch of whoever walks a page
}

// limits are the table's bounds, equal on all replicas; tests lower them.
type limits struct {
	records          int
	recordsPerClient int
	detail           int
	detailPerClient  int
	clients          int
	sweep            int // expired records dropped per entry, at least
	slack            int // see page.sparse
}

var defaultLimits = limits{
	records:          MaxRecordsPerShard,
	recordsPerClient: MaxRecordsPerClient,
	detail:           MaxDetailPerShard,
	detailPerClient:  MaxDetailPerClient,
	clients:          MaxClients,
	sweep:            64,
	slack:            16,
}

func newTable(l limits) *table {
	return &table{limits: l, clients: make(map[ClientID]*client)}
}

// begin starts the entry at index with so many operations, and drops what has
// expired at shardTime: no more than a few times what the entry itself may add,
// so that a shard that wakes up does not pay for everything at once, and enough
// for a backlog to shrink under any load.
func (t *table) begin(index, shardTime uint64, ops int) {
	t.index, t.current = index, nil
	t.written, t.released = t.written[:0], t.released[:0]
	for budget := t.limits.sweep + 2*ops; budget > 0; {
		p := t.pages.oldest
		if p == nil || p.horizon >= shardTime {
			return
		}
		budget -= 1 + p.open
		t.expire(p)
	}
}

// admit decides about a numbered operation at shardTime, whose result may have a
// detail. It is to be performed and then recorded if and only if admitted is true;
// otherwise its answer is known.
//
// The order of the rules matters: an expired operation must not bring a client
// back, a closed number must not be looked up (its answer is gone), a repeated
// one must get its answer even from a full table, and closings must be heard
// even when the table is full, or it could not drain.
func (t *table) admit(r *RequestID, detailed bool, shardTime uint64) (known Result, admitted bool) {
	if shardTime > r.NotAfter {
		return Result{Verdict: Expired}, false
	}
	if r.NotAfter-shardTime > maxRequestAheadMicros {
		return Result{Verdict: TooFar}, false
	}
	c := t.clients[r.Client]
	lowestOpen := r.LowestOpen
	if c != nil {
		t.closeBelow(c, r.LowestOpen)
		lowestOpen = c.lowestOpen
	}
	if r.Number < lowestOpen {
		return Result{Verdict: StaleDuplicate}, false
	}
	if c != nil {
		if a, ok := c.answers.find(r.Number); ok {
			known, _ = kept(a.version, a.detail) // what was kept is sound
			known.Repeated = true
			return known, false
		}
	}
	if t.full(c, detailed) {
		return Result{Verdict: TableFull}, false
	}
	return Result{}, true
}

// full reports whether there is no room for another answer to a client, which is
// nil if it is unknown yet.
func (t *table) full(c *client, detailed bool) bool {
	if t.records >= t.limits.records || detailed && t.detail >= t.limits.detail {
		return true
	}
	if c == nil {
		return len(t.clients) >= t.limits.clients
	}
	return c.answers.count >= t.limits.recordsPerClient ||
		detailed && c.answers.detail >= t.limits.detailPerClient
}

// record remembers how an admitted operation was answered.
func (t *table) record(r *RequestID, res *Result) {
	c := t.clients[r.Client]
	if c == nil {
		c = t.addClient(r.Client)
		c.lowestOpen = r.LowestOpen
	}
	t.touch(c)
	c.notAfter = max(c.notAfter, r.NotAfter)
	t.remember(recorded{client: c, number: r.Number, version: res.Version, detail: res.keep()})
}

func (t *table) addClient(id ClientID) *client {
	c := &client{id: id}
	t.clients[id] = c
	return c
}

func (t *table) remember(r recorded) {
	r.client.answers.insert(answer{number: r.number, version: r.version, detail: r.detail, page: t.current})
	t.fresh = append(t.fresh, r)
	t.current.open++
	t.records++
	t.detail += len(r.detail)
}

// closeBelow closes a client's numbers below lowestOpen. Every record is closed
// at most once, so the work is bounded by what was recorded before.
func (t *table) closeBelow(c *client, lowestOpen uint64) {
	if lowestOpen <= c.lowestOpen {
		return
	}
	t.touch(c)
	c.lowestOpen = lowestOpen
	for a, ok := c.answers.popBelow(lowestOpen); ok; a, ok = c.answers.popBelow(lowestOpen) {
		t.records--
		t.detail -= len(a.detail)
		a.page.open--
		t.shrunk(a.page)
	}
}

// RequestStats is the size of a shard's request table.
type RequestStats struct {
	Clients int // at most MaxClients
	Records int // open answers, at most MaxRecordsPerShard
	Detail  int // bytes of what they hold beyond versions, about MaxDetailPerShard at most
	Bytes   int // estimate of the memory all take
}

// Estimated memory of one of each, with their part of maps and spare capacity.
const (
	clientBytes = 192
	recordBytes = 104
	pageBytes   = 160
)

func (t *table) stats() RequestStats {
	return RequestStats{
		Clients: len(t.clients),
		Records: t.records,
		Detail:  t.detail,
		Bytes:   t.detail + len(t.clients)*clientBytes + t.records*recordBytes + t.pages.count*pageBytes,
	}
}
