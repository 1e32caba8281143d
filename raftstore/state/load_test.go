package state

import (
	"errors"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func TestBirthLoadsBack(t *testing.T) {
	for _, rec := range []shardmap.Record{testRecord(), fullRecord()} {
		s := born(t, rec)
		m, found, err := Load(s, rec.Arc.From)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		if diff := cmp.Diff(rec, m.Record()); diff != "" {
			t.Error(diff)
		}
		want := AppliedState{Index: birthIndex, Term: birthTerm,
			Configuration: []byte("first configuration"), ConfigurationIndex: birthIndex}
		got, found, err := LoadApplied(s, rec.Arc.From)
		if diff := cmp.Diff(want, got); err != nil || !found || diff != "" {
			t.Error(found, err, diff)
		}
		if index, term := m.Applied(); index != birthIndex || term != birthTerm {
			t.Errorf("newborn is at index %d, term %d", index, term)
		}
		if raw, index := m.Configuration(); string(raw) != "first configuration" || index != birthIndex {
			t.Errorf("newborn has configuration %q of index %d", raw, index)
		}
		if m.ShardTime() != 0 || m.LastVersion() != 0 || m.Requests() != (RequestStats{}) {
			t.Errorf("newborn has a past: %d, %d, %+v", m.ShardTime(), m.LastVersion(), m.Requests())
		}
	}
}

func TestNothingThere(t *testing.T) {
	s := make(store)
	if _, found, err := Load(s, 0); found || err != nil {
		t.Error(found, err)
	}
	if _, found, err := LoadApplied(s, 0); found || err != nil {
		t.Error(found, err)
	}
	if _, found, err := ReadRecord(s, 0); found || err != nil {
		t.Error(found, err)
	}
}

func TestLoadRefusesHalfAShard(t *testing.T) {
	s := born(t, testRecord())
	elsewhere := store{
		string(RecordKey(7)):        s[string(RecordKey(0))],
		string(AppliedKey(7)):       s[string(AppliedKey(0))],
		string(ConfigurationKey(7)): s[string(ConfigurationKey(0))],
	}
	at := func(a AppliedState) store {
		c := maps.Clone(s)
		c[string(AppliedKey(0))] = string(a.appendPosition(nil))
		return c
	}
	ahead := s.without(ConfigurationKey(0))
	ahead[string(ConfigurationKey(0))] = string(appendConfiguration(nil, birthIndex+1, []byte("c")))
	for name, s := range map[string]store{
		"no record":               s.without(RecordKey(0)),
		"no position":             s.without(AppliedKey(0)),
		"no configuration":        s.without(ConfigurationKey(0)),
		"record of another slot":  elsewhere,
		"configuration too young": ahead,
		"index 0":                 at(AppliedState{Term: 5}),
		"term 0":                  at(AppliedState{Index: 10}),
		"version too high":        at(AppliedState{Index: 10, Term: 5, LastVersion: MaxVersion + 1}),
		"shard time too high":     at(AppliedState{Index: 10, Term: 5, ShardTime: MaxVersion + 1}),
	} {
		from := shardmap.Slot(0)
		if name == "record of another slot" {
			from = 7
		}
		_, _, err := Load(s, from)
		wantKind(t, name, err, kverr.Internal)
	}
}

func TestBirthRefused(t *testing.T) {
	rec := testRecord()
	for name, err := range map[string]error{
		"no index":         Birth(newBatch(), rec, 0, 5, []byte("c")),
		"no term":          Birth(newBatch(), rec, 10, 0, []byte("c")),
		"no configuration": Birth(newBatch(), rec, 10, 5, nil),
	} {
		wantKind(t, name, err, kverr.Internal)
	}
	broken := errors.New("disk full")
	for n := range 3 {
		if err := Birth(&failing{batch: newBatch(), left: n, err: broken}, rec, 10, 5, []byte("c")); !errors.Is(err, broken) {
			t.Errorf("write %d fails: %v", n, err)
		}
	}
}

// unreadable is a Reader whose n-th call fails.
type unreadable struct {
	store
	left int
	err  error
}

func (u *unreadable) Get(key []byte) ([]byte, bool, error) {
	if u.left--; u.left < 0 {
		return nil, false, u.err
	}
	return u.store.Get(key)
}

func (u *unreadable) Scan(from, to []byte, fn func(key, value []byte) error) error {
	if u.left--; u.left < 0 {
		return u.err
	}
	return u.store.Scan(from, to, fn)
}

func TestReadErrorsAreReported(t *testing.T) {
	s, broken := born(t, testRecord()), errors.New("disk gone")
	const calls = 4 // record, position, configuration, request table
	for n := range calls {
		if _, _, err := Load(&unreadable{s, n, broken}, 0); !errors.Is(err, broken) {
			t.Errorf("call %d fails: %v", n, err)
		}
	}
	if _, found, err := Load(&unreadable{s, calls, broken}, 0); err != nil || !found {
		t.Errorf("nothing fails: %t, %v", found, err)
	}
	if _, err := Hash(&unreadable{s, 0, broken}, testRecord().Arc); !errors.Is(err, broken) {
		t.Errorf("hash: %v", err)
	}
}
