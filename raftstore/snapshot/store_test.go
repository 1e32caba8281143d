package snapshot

import (
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// storeRig is a store on a database; durable is what it is told of it.
type storeRig struct {
	*Store
	db      *database
	durable state.AppliedState
	found   bool
	err     error
	failed  []error
	pins    []uint64
	pinned  int
}

func newStoreRig(t *testing.T) *storeRig {
	r := &storeRig{db: threeShards(t, vfs.NewMem(), "db", 1), found: true, durable: state.AppliedState{
		Index: testIndex - 10, Term: testTerm, ConfigurationIndex: 10, Configuration: raft.EncodeConfiguration(testConfiguration())}}
	source := r.db.source()
	r.Store = NewStore(StoreOptions{
		Group:   testShard,
		Durable: func() (state.AppliedState, bool, error) { return r.durable, r.found, r.err },
		Open:    func() (*View, error) { return source.Open(testShard, testArc.From) },
		Pin: func(i uint64) func() {
			r.pins, r.pinned = append(r.pins, i), r.pinned+1
			return func() { r.pinned-- }
		},
		OpenFailed: func(err error) { r.failed = append(r.failed, err) },
	})
	return r
}

// TestSN1_ListIsWhatIsDurable, and the view that is opened is at least as new.
func TestSN1_ListIsWhatIsDurable(t *testing.T) {
	r := newStoreRig(t)
	metas, err := r.List()
	if err != nil || len(metas) != 1 || metas[0].Index != testIndex-10 || metas[0].ConfigurationIndex != 10 {
		t.Fatal(metas, err)
	}
	meta, body, err := r.Open(metas[0].ID)
	fatal(t, err)
	if _, ok := body.(*View); !ok || meta.Index != testIndex || meta.ID != metas[0].ID || meta.ConfigurationIndex != testIndex {
		t.Errorf("got %+v", meta)
	}
	if len(r.pins) != 1 || r.pins[0] != testIndex-9 || r.pinned != 1 {
		t.Errorf("pinned %v, held %d", r.pins, r.pinned)
	}
	fatal(t, body.Close())
	fatal(t, body.Close())
	if r.pinned != 0 {
		t.Errorf("%d pins after close", r.pinned)
	}
	r.found = false
	if metas, err := r.List(); err != nil || len(metas) != 0 {
		t.Error(metas, err)
	}
	r.found, r.durable.Configuration = true, []byte{0xc1}
	_, err = r.List()
	wantKind(t, "malformed configuration", err, kverr.Internal)
}

// TestStore_FailingToOpenIsNeverSilent (hashicorp/raft#522).
func TestStore_FailingToOpenIsNeverSilent(t *testing.T) {
	for name, c := range map[string]struct {
		id   string
		harm func(r *storeRig)
		kind kverr.Kind
	}{
		"foreign id":         {"6-0690", func(*storeRig) {}, kverr.Invalid},
		"no id":              {"", func(*storeRig) {}, kverr.Invalid},
		"unreadable":         {"6-690", func(r *storeRig) { r.err = errors.New("EIO") }, kverr.Internal},
		"not durable":        {"6-690", func(r *storeRig) { r.durable.Index = 689 }, kverr.Internal},
		"nothing durable":    {"6-690", func(r *storeRig) { r.found = false }, kverr.Internal},
		"older than durable": {"6-701", func(r *storeRig) { r.durable.Index = testIndex + 1 }, kverr.Internal},
		"not sent here":      {"6-690", func(r *storeRig) { r.opts.Open = nil }, kverr.Unavailable},
		"no view": {"6-690", func(r *storeRig) {
			r.opts.Open = func() (*View, error) { return nil, kverr.New(kverr.Conflict, "no") }
		}, kverr.Conflict},
	} {
		r := newStoreRig(t)
		c.harm(r)
		meta, body, err := r.Open(c.id)
		wantKind(t, name, err, c.kind)
		if meta != nil || body != nil || len(r.failed) != 1 || !errors.Is(r.failed[0], err) || r.pinned != 0 {
			t.Errorf("%s: %v, %v, told %v, %d pins", name, meta, body, r.failed, r.pinned)
		}
	}
}

func testDescriptor() Descriptor {
	return Descriptor{Group: testShard, Replica: testReplica, Index: testIndex, Term: testTerm, Arc: testArc,
		Name: "g2-r12-i700-4d-1", Files: 3, Bytes: 12345, Sum: 1 << 63}
}

func put(s *Store, index, term uint64, data []byte) (string, error) {
	sink, err := s.Create(1, index, term, testConfiguration(), 20, nil)
	if err != nil {
		return "", err
	}
	for _, half := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
		if _, err := sink.Write(half); err != nil {
			return sink.ID(), errors.Join(err, sink.Cancel())
		}
	}
	return sink.ID(), sink.Close()
}

func TestStore_KeepsTheLatestDescriptor(t *testing.T) {
	r := newStoreRig(t)
	d := testDescriptor()
	first, err := put(r.Store, testIndex, testTerm, d.Encode())
	fatal(t, err)
	meta, body, err := r.Open(first)
	fatal(t, err)
	if got, err := ReadDescriptor(body); err != nil || got != d || meta.Index != testIndex || meta.ConfigurationIndex != 20 ||
		meta.Size != int64(len(d.Encode())) {
		t.Errorf("%+v, %+v, %v", got, meta, err)
	}
	fatal(t, body.Close())
	for name, refused := range map[string]func() (string, error){
		"another index": func() (string, error) { return put(r.Store, testIndex+1, testTerm, d.Encode()) },
		"another term":  func() (string, error) { return put(r.Store, testIndex, testTerm+1, d.Encode()) },
		"another shard": func() (string, error) {
			e := d
			e.Group++
			return put(r.Store, testIndex, testTerm, e.Encode())
		},
		"empty":    func() (string, error) { return put(r.Store, testIndex, testTerm, nil) },
		"too long": func() (string, error) { return put(r.Store, testIndex, testTerm, make([]byte, 2*maxDescriptorBytes)) },
	} {
		id, err := refused()
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, _, err := r.Open(id); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	sink, err := r.Create(1, 1, 1, testConfiguration(), 1, nil)
	fatal(t, err)
	if n, err := sink.Write(make([]byte, maxDescriptorBytes+1)); n != 0 || err == nil {
		t.Errorf("a sink takes %d bytes, %v", n, err)
	}
	fatal(t, sink.Cancel())
	if n, err := sink.Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("a cancelled sink takes %d bytes, %v", n, err)
	}
	if _, _, err := r.Open(first); err != nil {
		t.Errorf("refused ones replaced it: %v", err)
	}
	d.Index++
	second, err := put(r.Store, testIndex+1, testTerm, d.Encode())
	fatal(t, err)
	_, _, err = r.Open(first)
	wantKind(t, "replaced", err, kverr.Internal)
	_, body, err = r.Open(second)
	fatal(t, err)
	b, err := io.ReadAll(body)
	fatal(t, err)
	if got, err := DecodeDescriptor(b); err != nil || got != d {
		t.Error(got, err)
	}
	if metas, err := r.List(); err != nil || len(metas) != 1 || metas[0].Index != testIndex-10 {
		t.Errorf("received ones are not listed: %v %v", metas, err)
	}
}
