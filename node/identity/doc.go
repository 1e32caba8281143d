// Package identity keeps what a node must never forget about itself: its id,
// the cluster it belongs to and the plan it accepted while forming one.
//
// It does not touch the databases; it only names the directory they live in
// and refuses to pass off existing ones as a new node's.
//
// The caller opens the directory once per process and closes it last: while it
// is open no other process can be this node.
//
// # Invariants
//
//   - I-LOCK: one process at a time holds the directory.
//   - I-WIPED: a wiped directory is a new node. An id is drawn only when there
//     is neither an identity nor a database; a node that lost its votes must not
//     come back under the id that cast them.
//   - I-ONCE: cluster and plan are written once. Setting the same again is fine,
//     anything else is refused.
//   - F1: an accepted plan is synced before AcceptPlan returns.
//
// # Files
//
//	identity   text: format, node id, cluster id, checksum
//	plan       the accepted plan, protobuf in an envelope
//	map        the last shard map seen, a hint: lost or damaged it is ignored
//	store/     the databases
//	lock
//
// Every file is replaced as a whole: written beside, synced, renamed, directory
// synced. So a crash leaves the old one or the new one.
//
// # Locks
//
// Dir.mu guards the values in memory. Files are written outside it; that each has
// one writer at a time is the caller's to see to.
package identity
