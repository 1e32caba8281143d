// Package mirror is a workload that knows what it must see: a worker is the only
// writer of some keys, does one operation after another on them, and keeps a plain
// model of what they hold. Every answer, at every read level, and every event of a
// watch is compared with the model.
//
// It runs against any cluster, in the simulator or of real processes; it neither
// brings about faults nor judges concurrency of writers, which is for histories and
// their checkers.
//
// # What is judged
//
//   - Answers of puts, deletes, adds, deadlines, conditions, transactions, gets,
//     scans and counts are those of the model (model.go).
//   - A read in the worker's session, at any replica, sees all of its writes. A read
//     of bounded staleness sees those acknowledged early enough, one at level Any
//     some state that there was (reads.go).
//   - A watch shows each change once, in order, whole, and nothing else; what a reset
//     brings is what there was at its version (events.go).
//   - A deadline takes effect never early, where the caller says that clocks are
//     honest; how late is not judged here, for there are faults.
//
// An operation of unknown outcome may take effect at any later time, so the worker
// leaves the keys alone from there on (an epoch ends), and judges that the one
// operation is all that can still have happened to them.
//
// The judges are tested on wrong answers and wrong events (mirror_test.go).
package mirror
