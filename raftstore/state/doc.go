// Package state is the deterministic state machine of a shard: the layout of its
// keys, the encoding of its values and log entries, and what applying an entry
// does to them.
//
// It knows nothing of Raft, Pebble, clocks or goroutines: it is handed log
// entries in order and a [Writer] for their effects, and everything it decides
// follows from the entries so far. Ownership of a key, the identity of a
// request, its expiry and the version of a write are all decided here, when an
// entry is applied, because only then is their order settled. So are conditions,
// sums, transactions and expiries, and only they read ([Batch.Get]): a plain put or
// delete, with a deadline or without, reads nothing.
//
// # A newcomer's path
//
// keys.go draws the key layout. types.go has the words: an [Entry] is the
// payload of one Raft log entry and holds the [Op]s of many callers, each of
// which gets its own [Result]. apply.go is the whole of applying, a page long, and
// decide.go what is different for operations that read.
// requests.go has the rules of a numbered request, pages.go how their memory is
// kept on disk. [Birth] makes a shard, [Load] brings it back.
//
// # Duties of the caller
//
//   - Entries and configurations are applied in log order, each once. After a
//     restart the log is replayed from anywhere; what is at or below
//     [Machine.Applied] is skipped by the caller and refused here.
//   - The writes of ApplyEntry, ApplyConfiguration and Finish belong to one
//     batch, committed as a whole. After a failed commit the machine is ahead of
//     the store: throw it away and Load again.
//   - An error from a Machine stops the group. Another replica might decide
//     otherwise, and guessing is divergence. The machine repeats the error.
//   - The proposer lets no operation into an entry that [Op.Validate] refuses,
//     keeps the sum of [OpSize] within bounds, and stamps the term it leads in
//     and its shard time (rule T1). An entry that lands in another term is
//     [Superseded] as a whole: its stamps were made in ignorance of whoever led
//     in between.
//   - No node keeps a fact of its own in a shard's span.
//   - A Machine is used by one goroutine at a time and starts none. What it
//     returns as shared is never changed afterwards.
//
// # Invariants
//
//   - RS1: the applied position is in the same batch as the effects it covers.
//   - RS2: bytes and answers follow from the entries alone. No clock, random
//     number or map order is consulted, so [Hash] is equal on all replicas that
//     have applied the same index.
//   - RS3: a numbered request takes effect at most once, and every attempt that
//     arrives while its caller may wait gets the first one's answer.
//   - RS4: the request table in memory is a function of its keys on disk. How
//     entries were batched and when a replica restarted shows in neither.
//
// Positions, versions and table pages are checked when written and again when
// read: positions only rise, versions and shard time never fall, and no page is
// ahead of the position or of use to nobody.
//
// # Deadlines
//
// A deadline is shard time, counted from the entry that set it. A key is gone
// exactly when its expiry is applied, and that happens in one of two ways: a leader
// proposes an [OpSweep] for what the index of deadlines shows to be due, or an
// operation that reads meets the due key, which is expired first. Both are a change
// of kind [ChangeExpire]. A plain put reads nothing, so it leaves the index entry of
// the deadline that it overwrites; the sweep of that entry finds another deadline,
// or none, and takes the entry away.
//
// # Exactly once
//
// The request table follows RIFL (Lee et al., "Implementing Linearizability at
// Large Scale and Low Latency", SOSP 2015). There, too, a client numbers its
// requests, a server keeps a durable record of each answer with the data it is
// about, finds it when the request comes again, and forgets it when the client
// says that all numbers below some number have their answers. RIFL's clients
// also register: a lease server hands out their ids, and a server may forget a
// client whose lease has run out. That takes a service that every server must
// ask before it forgets.
//
// Here nobody registers. A client id is 128 random bits, and each request
// carries its own lease: a not-after, in shard time, at most [MaxRequestAhead]
// away. Past it the request is refused as [Expired], so its record is of no
// use and goes; and when the largest not-after of a client has passed, no old
// attempt of it can be admitted and the client goes. Shard time is replicated,
// so all replicas forget at the same entry. An outage makes expiry late, never
// early.
//
// What the client owes in return:
//
//   - a number names one operation for ever, and all its attempts carry the same
//     not-after;
//   - LowestOpen is never above a number whose caller still waits. It may lag,
//     at the price of room in the table: a client that lets it lag by more than
//     [MaxRecordsPerClient] answers of one shard is answered [TableFull] until
//     it catches up or its requests expire.
//
// A verdict speaks of the attempt: all but Applied mean that this attempt had no
// effect. After TableFull or TooFar no attempt had one. After the others an
// earlier attempt may have had one, and after Expired or StaleDuplicate its
// answer is forgotten: a caller that never got an answer must call its outcome
// unknown.
package state
