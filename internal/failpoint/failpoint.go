// Package failpoint names the places at which a test may crash a node: one
// before and after each step that must survive a crash.
//
// Code says where it is with Hit; a nil *Set, as in production, costs one
// comparison. A test gives a Set to the node under test, with a hook that crashes
// it (by fencing it and taking a clone of its disk) or only counts. There is no
// global state, so nodes and tests do not disturb each other.
//
// Goroutines and locks: Hit calls the hook on the caller's goroutine, with no lock
// held; the hook must not call back into the component that hit.
package failpoint

import (
	"slices"
	"sync"
)

// Name is a place in the code.
type Name string

// The places, in the order of the steps they stand between.
const (
	// Birth of a replica (rule L2).
	BirthWritten Name = "birth/record-written" // the record is in the memtable
	BirthFlushed Name = "birth/record-flushed"
	BirthLogged  Name = "birth/log-written" // boundary and first term are synced

	// Truncation of a log.
	FlushBegun      Name = "flush/begun"
	FlushDone       Name = "flush/done" // the state is durable, the log not cut yet
	LogCut          Name = "log/cut"    // boundary moved, in the memtable
	LogAppendBefore Name = "log/append-before-sync"
	LogAppendAfter  Name = "log/append-after-sync"
	VoteAfter       Name = "log/vote-after-sync"

	// A snapshot on its way and its ingest (rule L2).
	SnapshotOpened   Name = "snapshot/opened"    // sender has its view
	SnapshotFileSent Name = "snapshot/file-sent" // sender
	SnapshotStaging  Name = "snapshot/staging"   // receiver has begun a staging directory
	SnapshotFileKept Name = "snapshot/file-kept" // receiver has synced one file
	SnapshotStaged   Name = "snapshot/staged"    // all files and the manifest are synced
	IngestMarked     Name = "ingest/marked"      // the log database knows of it
	IngestFlushed    Name = "ingest/flushed"     // the old state is flushed
	IngestDone       Name = "ingest/ingested"    // the state is the snapshot's
	IngestLogged     Name = "ingest/log-written" // boundary is S, marker cleared
	IngestCleaned    Name = "ingest/cleaned"     // the staging directory is gone

	// Removal of a replica (rule L2).
	RemovalStopped    Name = "removal/stopped" // the group has stopped
	RemovalTombstoned Name = "removal/tombstoned"
	RemovalExcised    Name = "removal/excised"
	RemovalNoted      Name = "removal/noted"

	// Quarantine of a replica.
	QuarantineNoted Name = "quarantine/noted"
)

var all = []Name{
	BirthWritten, BirthFlushed, BirthLogged,
	FlushBegun, FlushDone, LogCut, LogAppendBefore, LogAppendAfter, VoteAfter,
	SnapshotOpened, SnapshotFileSent, SnapshotStaging, SnapshotFileKept, SnapshotStaged,
	IngestMarked, IngestFlushed, IngestDone, IngestLogged, IngestCleaned,
	RemovalStopped, RemovalTombstoned, RemovalExcised, RemovalNoted,
	QuarantineNoted,
}

// All lists every place.
func All() []Name { return slices.Clone(all) }

// Set is the failpoints of one node. The zero Set only counts; nil does nothing.
// Safe for concurrent use.
type Set struct {
	mu struct {
		sync.Mutex
		hits map[Name]int
		hook func(Name)
	}
}

// Hook makes Hit call fn from now on; nil ends that.
func (s *Set) Hook(fn func(Name)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.hook = fn
}

// Hit says that the code has come to a place.
func (s *Set) Hit(n Name) {
	if s == nil {
		return
	}
	s.mu.Lock()
	if s.mu.hits == nil {
		s.mu.hits = make(map[Name]int)
	}
	s.mu.hits[n]++
	hook := s.mu.hook
	s.mu.Unlock()
	if hook != nil {
		hook(n)
	}
}

// Hits is how often each place was come to.
func (s *Set) Hits() map[Name]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	hits := make(map[Name]int, len(s.mu.hits))
	for n, count := range s.mu.hits {
		hits[n] = count
	}
	return hits
}
