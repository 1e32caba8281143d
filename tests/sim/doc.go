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
// faults.go and scenario.go make it happen, workload.go is the clients,
// history.go what they saw, probe.go reads and repeated writes past the library, check.go the judge. The judge is tested on hand-made
// histories, good and bad.
//
// What is judged: linearizability of every key (porcupine), the order of versions
// (a linear check over all operations), equal state hashes on all replicas after
// the faults end, that the cluster serves every key again, and that the run had
// load and faults at all: a quiet run fails.
//
// Not simulated: a process that is stopped as a whole. Hold stops all bytes to
// and from a node while its timers go on; a node with a long election timeout
// stands for a leader that has not noticed time passing. Slow and hanging disks
// are for tests of real processes.
package sim
