// Package sim runs whole clusters in virtual time: real nodes with Raft, Pebble
// on crashable in-memory disks, gRPC over in-memory connections and the real
// client library, under faults drawn from a seed, and judges what the clients
// saw.
//
// A seed fixes the plan (which fault when, which operations in which order), not
// the schedule: goroutines still race. A failure therefore saves its history, and
// -sim.repeat runs one seed many times.
//
// The parts are apart from each other: plan.go draws what shall happen,
// scenario.go and faults.go make it happen, workload.go is the clients, history.go
// what they saw. probe.go reads and repeats writes past the library; depose.go and
// hunt.go bring about the moments at which only a guard of the read path keeps a
// read from being stale, and read then. check.go and checkshard.go are the judges,
// report.go is what the run really had. The judges are tested on hand-made
// histories, good and bad.
//
// Beside them work mirrors (package mirror): single writers of their keys that use the
// whole data API at every read level, through caches and watches, and know what they
// must see.
//
// What is judged: linearizability of every key (porcupine), the order of versions
// of every key and of views of every shard (linear checks over all operations),
// equal state hashes of replicas at one log index in the middle of it (compare.go)
// and of all replicas after the faults end, that the cluster serves every key again,
// and that the run had reads, writes and faults at all: a quiet run fails.
//
// Not simulated: a process that is stopped as a whole. Hold stops all bytes to
// and from a node while its timers go on; a node with a long election timeout
// stands for a leader that has not noticed time passing. Slow and hanging disks
// are for tests of real processes; lag delays applying, above Pebble (rule M1).
package sim
