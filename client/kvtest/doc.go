// Package kvtest runs a Ringfort cluster in the memory of a test, for unit tests of
// code that uses package client:
//
//	func TestCart(t *testing.T) {
//		c := kvtest.NewServer(t).Client() // both are closed when the test ends
//		cart := NewCart(c)
//		…
//	}
//
// It is no imitation: what decides about the data is the state machine of a real node,
// and the client is a real one that speaks to it by gRPC, over a pipe in memory. So
// conditions, sums, transactions, deadlines, request ids, scans and watches do in the
// test what they do in production, down to the errors and limits, and a server starts
// in a millisecond. What is not there is what makes a cluster: Raft, disks, other nodes.
// There is one node, which leads every shard, so nothing is replicated, no leader
// changes and no shard splits.
//
// # What can be trusted
//
//	in a test                            as in a cluster
//	answers, errors, limits              yes: they are the same code's
//	transactions over keys of one slot   yes; others are ErrCrossSlot
//	scans over several shards            yes: each shard is read at a moment of its own
//	watches                              yes: in order, resumable, and ErrCompacted or a Reset
//	                                     for who comes too late (WithWatchHistory)
//	exactly once                         yes: DropReply shows it
//	read levels                          kept, and Item.Served is true; but the only replica
//	                                     is never behind, so that nothing is ever stale
//	durability, speed                    no
//
// # Time
//
// Deadlines go by shard time. By default that is the machine's clock, or that of the
// bubble of testing/synctest in which the server was made, and keys expire by
// themselves. WithVirtualTime has it stand still until Advance: then a key is gone
// exactly when its deadline was passed, its event is on its way when Advance returns,
// and versions are the same in every run. Everything works in a bubble and outside; a
// server made in a bubble is used in that bubble only.
//
// # Faults
//
// FailNext, Delay and DropReply strike the next request that fits a Match: by its kind,
// its key, or the beginning of its key. They show a program what a cluster does on a
// bad day:
//
//	refused, nothing applied      FailNext(m, client.ErrNoSpace)
//	refused, until the call ends  FailNext(m with Times: Forever, client.ErrUnavailable)
//	slow, or out of time          Delay(m, d), and Lift to go on
//	applied, but the answer lost  DropReply(m)
//
// Package client repeats what may be repeated, so many faults do not show: that is what
// it is for. A test that wants to see ErrInDoubt gives the write WithoutRequestID, or a
// context that ends.
//
// # Duties of the caller
//
// Close what was opened with Dial before the test ends; clients made by Client are
// closed by themselves. Loops over Watch must have ended by then, too.
//
// # Invariants
//
//   - P3, RS3: a request is decided about by its id, and repeated with its first answer.
//   - P6: a watch skips, repeats and reorders nothing. Who is below what is remembered is
//     told so.
//   - Answers leave after their changes can be watched and read.
//
// # Goroutines, locks and bounds
//
// Each shard has one apply loop, which alone touches its state; a stream has two
// goroutines beside gRPC's. The end of the test waits for all. The locks of a shard's
// queue, a ring, a stream and the faults are leaves. A stream has 8192 operations in
// flight at most and is not read from beyond; a shard remembers WithWatchHistory versions,
// or 4 MiB; scans hold one page, and 64 of them may be in progress. The data itself is as large as the test makes it, and
// so is the number of clients, up to 1024. Who takes nothing of a scan or watch for 30 s is
// cut off, and the client goes on, as with a node.
package kvtest
