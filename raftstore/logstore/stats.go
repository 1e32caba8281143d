package logstore

import "github.com/ringfort/ringfort/internal/histogram"

// Stats are totals since Open, but for LogBytes and DiskBytes, which are what is
// there now. Four are Pebble's, as of the last second in which the
// database was written to: asking Pebble can wait for a hung disk.
type Stats struct {
	Syncs      uint64 // synced commits, probes of an idle disk not counted
	Entries    uint64 // entries they made durable
	Bytes      uint64 // bytes of all commits, as batches
	LogBytes   int64  // bytes of log of all groups, see Group.Bytes
	PinsBroken uint64 // pins that kept more than MaxPinnedBytes
	// SyncTimes are those of all synced commits, probes included: from handing the
	// batch to Pebble until it is durable.
	SyncTimes histogram.Snapshot

	// Of Pebble:
	WALBytes     uint64 // written to the write-ahead log
	FlushBytes   uint64 // written by flushes
	CompactBytes uint64 // written by compactions
	DiskBytes    uint64 // that the database takes on disk
	ExcisedBytes uint64 // of truncated entries taken out of tables
}

type usage struct {
	wal, flush, compact, disk uint64
	flushes                   int64
}

// Stats returns the totals.
func (d *DB) Stats() Stats {
	s := Stats{
		Syncs: d.syncs.Load(), Entries: d.entries.Load(), Bytes: d.bytes.Load(),
		PinsBroken: d.pinsBroken.Load(), SyncTimes: d.syncTimes.Snapshot(),
	}
	s.ExcisedBytes = d.excised.Load()
	for _, g := range d.all() {
		s.LogBytes += g.Bytes()
	}
	if u := d.usage.Load(); u != nil {
		s.WALBytes, s.FlushBytes, s.CompactBytes, s.DiskBytes = u.wal, u.flush, u.compact, u.disk
	}
	return s
}

// measure asks Pebble for its figures.
func (d *DB) measure() {
	m := d.pebble.Metrics()
	u := &usage{wal: m.WAL.BytesWritten, disk: m.DiskSpaceUsage()}
	for _, l := range m.Levels {
		u.flush += l.TableBytesFlushed + l.BlobBytesFlushed
		u.compact += l.TableBytesCompacted + l.BlobBytesCompacted
	}
	u.flushes = m.Flush.Count
	if old := d.usage.Swap(u); old != nil && old.flushes != u.flushes {
		select {
		case d.flushed <- struct{}{}:
		default:
		}
	}
}
