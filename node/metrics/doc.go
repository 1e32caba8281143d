// Package metrics is what a node tells Prometheus: a book of all metrics with
// their meaning, and the registry that serves them.
//
// The book is the only place where a metric is written down. docs/metrics.md is
// made from it by `go test ./node/metrics -update`, and a test fails when the two
// differ.
//
// # Adding metrics
//
// A section is metrics that are read from one value, which is taken once per
// scrape; a section with labels has a value for each row:
//
//	s := section(b, "Snapshots", "Transfers of whole replicas.", one(func() (Stats, bool) { … }))
//	s.counter("ringfort_snapshots_sent_total", "Snapshots sent to other nodes.",
//		"Rises while a replica catches up; a steady rise means that it never does.", func(v Stats) float64 { return v.Sent })
//
// For a shard's replica it is one line in shards.go.
//
// # Rules
//
//   - Names are ringfort_…, in base units, as promlint wants them (a test asks it).
//   - No label but those of a bounded set: shard, db, op, result, path, cure, served. Never a key,
//     client or peer address. A test bounds the series of a node by its shards.
//   - What is read must not wait for the disk: a hung disk is when metrics are
//     wanted most. NaN leaves a series out, for what is not known.
//
// # Goroutines
//
// None. Collect is called by scrapes, several at a time.
package metrics
