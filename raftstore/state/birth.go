package state

import "github.com/ringfort/ringfort/shardmap"

// Birth writes a new shard: its record, and the position and configuration it
// starts from, as if it had applied everything up to index. The caller commits
// and flushes w before the group does anything else (rule L2).
func Birth(w Writer, rec shardmap.Record, index, term uint64, configuration []byte) error {
	if err := checkRecord(&rec); err != nil {
		return err
	}
	if err := checkConfiguration(configuration); err != nil {
		return err
	}
	if index == 0 || term == 0 {
		return corrupt("birth of shard %d at index %d, term %d", rec.Shard, index, term)
	}
	from := rec.Arc.From
	if err := w.Set(RecordKey(from), appendRecord(nil, &rec)); err != nil {
		return err
	}
	position := AppliedState{Index: index, Term: term}
	if err := w.Set(AppliedKey(from), position.appendPosition(nil)); err != nil {
		return err
	}
	return w.Set(ConfigurationKey(from), appendConfiguration(nil, index, configuration))
}
