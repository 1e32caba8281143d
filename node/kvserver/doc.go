// Package kvserver is the server side of the data API (kv.v1.KV): it takes
// frames of operations from clients, hands them to the shards' groups and
// brings the answers back.
//
// It decides nothing about data. Ownership of a slot, request identities and
// versions are decided where an entry is applied; what is checked here can only
// refuse, early and with better directions. It does not retry, cache or reorder
// on purpose, and it opens no connection: peers are reached through Peers.
//
// # Duties of the caller
//
//   - The gRPC server must be built with grpc.MaxRecvMsgSize(MaxFrameBytes), so
//     that a larger frame is refused before it is buffered.
//   - Every new map goes to PushMap and every leader that this node learns of,
//     itself included, to PushLeader.
//   - To stop: GoingAway, hand leaderships over, Close, and only then stop the
//     groups.
//
// # Invariants
//
//   - K1 Every operation of a frame gets exactly one answer, whatever is wrong
//     with it; a bad operation never ends a stream. The exceptions end the
//     stream with a status: no or a refused hello, a frame over MaxFrameBytes,
//     a client that does not read.
//   - K2 A batch stays a batch: one Write, one Read and so one wake-up per frame
//     and shard, never per key. Answers that wait travel together.
//   - K3 Done never blocks and calls nothing but the stream's own outbox: it may
//     run in a group's apply loop. The outbox needs no bound of its own, since an
//     operation is in flight from its admission until its answer was handed to
//     gRPC, and admission is bounded. Answers that carry values are bounded in
//     bytes too (see outbox).
//   - K4 Operations of a stream are never forwarded. A unary operation travels
//     at most one hop, and a forwarded one none.
//   - P8 Operations of a shard that answers slowly, or never, hold up those of
//     others that come behind them on a stream once, for slowPatience (see share).
//   - K5 An error tells the truth: whatever may have reached another node or a
//     group and was not answered by it is OUTCOME_UNKNOWN for a write.
//
// # Scans
//
// A Scan is a stream of pages from one view of a replica. It holds its view and one
// page, not a place in a group's queue. What gRPC's window takes is all that is sent
// ahead; a client that takes nothing for StallTimeout, and a view that the store
// gives up, end it with Unavailable, and the client goes on behind the last key. A
// call at the wrong place is answered with directions in its first page.
//
// # Watches
//
// A Watch is a stream of what one replica applies, of which the node remembers a
// bounded part. Frames end between versions, and each says up to where all was sent.
// A watch sends a mark each second in which it has nothing else to send. Where nothing
// happens at all that is only after the replica has learnt that it is not cut off; when it does not know that for 3 s the watch ends
// (P6). A client that reads slowly falls behind what is remembered and is told
// Compacted; one that takes nothing for StallTimeout is told Overloaded. Each watch
// looks at each change of its shard.
//
// # At the bounds
//
// A stream with too much in flight is not read from, and HTTP/2 flow control
// carries that to the client. Back-pressure comes first because it costs nothing
// and keeps the order of arrival; OVERLOADED answers would come back as more
// frames. OVERLOADED is for what cannot be foreseen or pushed back: values that
// turn out larger than the stream may hold, a shard's full queue, too many unary
// calls or streams, and the bound of what all clients together may hold in memory
// (see held): a stream may hold a share of what is free and is not read from above
// it, but one that has nothing under way would wait for others, who tell it nothing,
// so it is refused. A client that takes no frame for StallTimeout is cut.
//
// Back-pressure stops a stream for all shards alike, so it must not come from one
// that is in trouble. A shard may have as much of a stream's room as it leaves free,
// and what waits for room that does not come for slowPatience is refused (see
// share). A client that wants neither the pause nor the refusals keeps to the same
// shares itself, as package client does: then a node meets its own bounds only where
// the client has given up what a group has not.
//
// # Goroutines and locks
//
// A scan or a watch has two: gRPC's handler and the one that sends; the Server waits for that,
// too. A stream has three goroutines: gRPC's handler, which waits for the end of the
// other two's work; a reader; a writer. A handler must return before gRPC frees
// the other two from Recv and Send, so the Server, not the handler, waits for
// them: Close returns when all are gone.
//
// Server.mu is taken before outbox.mu, never after. No lock is held across a
// call to a Group, to gRPC, or to a channel that could block.
package kvserver
