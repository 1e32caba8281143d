// Package bench puts a closed loop of clients on a cluster and says what they
// got: latencies, throughput, errors, the longest gap in service, and how well
// work was merged on its way.
//
// Closed loop means: each of N clients does one operation after the other, so
// a stall delays the operations behind it instead of piling them up, and the
// latencies are those of the operations that were made. The gap in service is
// there to show what a closed loop hides.
//
// It does not open clients, print or choose exit codes. Load comes through the
// KV interface and the counters of the nodes through Probe.
//
// # The longest gap
//
// For every shard that holds a key of the run: the longest time during which no
// operation on its keys succeeded, from the start of the measurement or one
// success to the next one or the end. The report has the longest of all shards
// with its shard and its start, and the longest during which nothing at all
// succeeded. A gap grows also when no client happened to ask for the shard: with
// few clients, many shards or slow operations it is an upper bound.
//
// # Goroutines and locks
//
// Run starts its clients and waits for them. Recorders and gap trackers have a
// mutex each, held for a few instructions.
package bench
