// Package transport carries the messages of all Raft groups of a node over a few
// long-lived gRPC streams: two lanes to each other node, whatever the number of
// groups, and a shard's snapshot over a stream of its own.
//
// It keeps nothing on disk: it carries the pieces of a snapshot from the view that
// raft's store opened to a receiver that the owner admits, and knows neither. It
// does not watch disks and does not judge whether a replica should speak; its owner
// does, see SetVoice (rule D1).
//
// # What the owner does
//
// The owner makes connections with DialOptions and servers with ServerOptions,
// hands each Exchange stream to Serve and each SendSnapshot stream to
// ServeSnapshot, and sets OnConfirm, OnReadIndex and OnSnapshot before there is traffic. It
// registers a Group for each local replica, gives it to raft, closes it before it
// shuts raft down (a group that leaves late holds raft up for a whole RPC deadline), and closes the Network last. It names replicas that must
// never come back to Retire at each start, before streams are served. Bytes of
// log entries that its log store returns must not change afterwards: they may
// wait in a queue after raft has given the append up.
//
// # Streams
//
// A node opens one stream per lane to a peer, for its own RPCs; the answers come
// back on the same stream. Control takes heartbeats, votes, pre-votes,
// TimeoutNow, confirms and questions for indexes; log takes every other append. So a vote never queues
// behind a megabyte of entries. The first envelope each way is a hello; format,
// cluster, both nodes and the lane must match. Envelopes pack what waits, with
// no delay added (see sendAll).
//
// A stream is opened when something is to be sent and again when it breaks,
// while somebody wants it. RPCs whose message had left fail with the stream, at
// once; those that had not wait for the next one, up to their own limit. Votes
// and heartbeats wait for at most raft's heartbeat timeout, appends up to 10 s
// longer (see appendPatience), TimeoutNow and confirms not at all. An append
// after one that failed waits, however long, until the follower answers a
// heartbeat again, so that raft's backoff stays short (see peer); what ends it is
// the end of the leadership, which the owner reports to Withdraw, of the
// membership (Retain) or of the group, and Interrupt. An RPC number
// is never used twice between two processes, so an answer that comes late or
// twice belongs to nobody (rule R3 relies on it).
//
// # Snapshots
//
// InstallSnapshot streams a view, at most MaxSnapshotsOut at a time and others in
// turn, on a stream of its own, so that heartbeats never wait for it. The receiver
// admits the offer or refuses it; keeps the pieces; and when all are kept gives
// raft a descriptor through Consumer, as any RPC, and returns raft's answer. What
// is meant to happen in trouble:
//
//   - A peer that is down or busy is waited for, for 10 s: after a failure raft
//     sleeps, and twice as long after the next. A peer that is down holds no turn.
//   - The end of the sender's group, its leadership or its voice, of the
//     connection, or of progress for SnapshotStall, ends the transfer at both ends. The receiver gives signs of
//     life while raft works, which has no limit.
//   - Until raft begins to read the descriptor it can be taken back, and is after
//     10 s or when the sender is gone. Afterwards nothing is taken away from under
//     raft; only its answer ends the transfer, or the end of its group.
//   - One transfer per replica is under way (rule L4), from the offer until raft
//     has done with it. The owner's Check runs before raft gets the descriptor and
//     once more when raft begins to read it.
//   - A newer InstallSnapshot of a group for the same target ends the older one,
//     which belongs to a tenure that is over.
//
// # What raft gets
//
//   - S1: SetHeartbeatHandler does nothing; heartbeats pass through Consumer, so
//     that only raft's main loop touches term, state and log.
//   - S2: an append speaks of a commit index no higher than the last entry it
//     shows to be the leader's.
//   - An RPC whose group cannot take it is refused: unknown or retired replica,
//     full queue, closing. Nothing here waits for one group.
//   - Entries that do not follow each other without a gap never reach raft.
//
// There is no append pipeline. Raft then sends one append at a time to each
// follower and starts the next as soon as the answer is there; entries written
// meanwhile are announced by a channel that keeps one signal, and each append
// round runs until the follower has all. A pipeline would keep several in
// flight, but our groups merge what waits into one entry and have few entries in
// flight, so there is nothing more to send before the answer. In return the
// wedges of hashicorp/raft#611 and #612, in which a follower gets no entry until
// the leader restarts, cannot happen, failed appends cannot pass for contact with
// the follower, and rule D2 has no object. The price: raft asks for a pipeline
// after each append that succeeds, which costs a call and is not logged; and its
// idle commit ticks, one empty append per CommitTimeout and follower, cannot be
// left out, so CommitTimeout should not be shorter than followers need it.
//
// # Goroutines and locks
//
// Each link (a lane to a node) has one goroutine that connects and receives and,
// while a stream is up, one that sends. A stream being served has its handler, a
// receiver and a sender. A snapshot being sent has two beside raft's own that sends:
// one receives answers, one notices that it must end; one being served has its
// handler and a receiver. Each Group has one that returns raft's answers. All are
// waited for by Network.Close; so is every deadline of a Confirm.
//
// No lock is held while anything blocks. Order: link before outbox; Network's
// and Group's locks are held alone.
package transport
