package raftstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// settle finishes or drops an ingest that a crash interrupted and judges whether
// the replica may start. A fault is a reason for quarantine, which is for ever. An
// error is none: what could not be read now, or by this build, may be sound.
func (s *Store) settle(rec shardmap.Record) (rebirth bool, fault, err error) {
	group := uint64(rec.Shard)
	_, found, err := state.Load(kvReader{s.state}, rec.Arc.From)
	if err != nil || !found {
		fault, err = condemns("load its state", found, err)
		return false, fault, err
	}
	applied, found, err := state.LoadApplied(kvReader{s.state}, rec.Arc.From)
	if err != nil || !found {
		fault, err = condemns("read its applied index", found, err)
		return false, fault, err
	}
	if m := s.log.Info(group).Ingest; m != nil {
		if fault, err := s.settleIngest(group, *m, applied); fault != nil || err != nil {
			return false, fault, err
		}
	}
	rebirth, fault = checkBoot(rec.Shard, applied, s.log.Info(group))
	return rebirth, fault, nil
}

// condemns tells what is damaged or missing, a fault, from what only could not be
// read: a format of a newer build, a disk that answers with an error.
func condemns(what string, found bool, cause error) (fault, err error) {
	switch {
	case cause == nil && !found:
		return kverr.New(kverr.Internal, "%s: there is none", what), nil
	case damaged(cause):
		return kverr.New(kverr.Internal, "%s: %w", what, cause), nil
	}
	return nil, fmt.Errorf("%s: %w", what, cause)
}

// damaged reports whether an error says that what was read is not what was written:
// Pebble's checksums do, and so do our decoders.
func damaged(err error) bool {
	var ours *kverr.Error
	return pebble.IsCorruptionError(err) || errors.As(err, &ours) && ours.Kind != kverr.Format
}

// readFailed judges an error of a client's read (P10). What is damaged is the
// inspector's business; a disk that answers with an error ends the process, since a
// leader that stays would go on failing while the others could serve.
func (s *Store) readFailed(err error) {
	if err == nil || damaged(err) || kverr.KindOf(err) == kverr.Format {
		return
	}
	s.fatal(fmt.Errorf("raftstore: read the state database: %w", err))
}

// settleIngest is rule L2: the marker was synced before the ingest and is cleared
// after it, so the applied index tells whether the ingest happened.
func (s *Store) settleIngest(group uint64, m logstore.Marker, applied state.AppliedState) (fault, err error) {
	switch {
	case applied.Index < m.Index:
		return nil, s.log.DropIngest(group)
	case applied.Index == m.Index && applied.Term == m.Term:
		return nil, s.log.FinishIngest(group)
	}
	return kverr.New(kverr.Internal, "state is applied up to %d of term %d while a snapshot at %d of term %d was being ingested",
		applied.Index, applied.Term, m.Index, m.Term), nil
}

// checkBoot judges what a crash may have left of a group (L2). A record at its
// birth without a log is a birth to be redone; an applied index past the log's
// end is a log that lost acknowledged entries.
func checkBoot(shard shardmap.ShardID, applied state.AppliedState, log logstore.Info) (rebirth bool, err error) {
	if !log.Exists {
		if applied.Index == birthIndex {
			return true, nil
		}
		return false, kverr.New(kverr.Internal,
			"shard %d: state is applied up to %d and its log is gone: the log database is incomplete",
			shard, applied.Index)
	}
	if applied.Index > log.LastIndex {
		return false, kverr.New(kverr.Internal,
			"shard %d: state is applied up to %d and the log ends at %d: the log database lost entries",
			shard, applied.Index, log.LastIndex)
	}
	if log.Boundary > applied.Index {
		return false, kverr.New(kverr.Internal,
			"shard %d: the log begins at %d and state is applied only up to %d: entries between are gone",
			shard, log.Boundary, applied.Index)
	}
	return false, nil
}
