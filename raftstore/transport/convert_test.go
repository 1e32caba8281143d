package transport

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// overTheWire is the message as the other side gets it.
func overTheWire(t interface{ Fatal(...any) }, m *peerv1.Message) *peerv1.Message {
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got := new(peerv1.Message)
	if err := proto.Unmarshal(raw, got); err != nil {
		t.Fatal(err)
	}
	return got
}

func drawAppend(t *rapid.T) *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{
		RPCHeader:         raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1/r1"), Addr: []byte("n1/r1")},
		Term:              rapid.Uint64().Draw(t, "term"),
		PrevLogEntry:      rapid.Uint64Max(math.MaxUint64-100).Draw(t, "prev"),
		PrevLogTerm:       rapid.Uint64().Draw(t, "prev term"),
		LeaderCommitIndex: rapid.Uint64().Draw(t, "commit"),
	}
	types := []raft.LogType{raft.LogCommand, raft.LogNoop, raft.LogBarrier, raft.LogConfiguration}
	for i := range rapid.IntRange(0, 5).Draw(t, "entries") {
		r.Entries = append(r.Entries, &raft.Log{
			Index: r.PrevLogEntry + 1 + uint64(i), Term: rapid.Uint64().Draw(t, "entry term"),
			Type: rapid.SampledFrom(types).Draw(t, "type"),
			Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"), Extensions: rapid.SliceOf(rapid.Byte()).Draw(t, "ext"),
		})
		if l := r.Entries[i]; l.Type == raft.LogConfiguration {
			l.Data = raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(l.Data), Address: "n1/r1"}}})
		}
	}
	return r
}

func TestConvert_AppendRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := drawAppend(t)
		got, err := requestFromProto("n1/r1", overTheWire(t, &peerv1.Message{Append: appendToProto(sent)}))
		if err != nil {
			t.Fatal(err)
		}
		want := *sent
		want.LeaderCommitIndex = min(sent.LeaderCommitIndex, sent.PrevLogEntry+uint64(len(sent.Entries)))
		if diff := cmp.Diff(&want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestConvert_AnswersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		term, last := rapid.Uint64().Draw(t, "term"), rapid.Uint64().Draw(t, "last")
		yes, fast := rapid.Bool().Draw(t, "success"), rapid.Bool().Draw(t, "no backoff")
		header := raft.RPCHeader{ProtocolVersion: 3}
		a := overTheWire(t, answerToProto(&raft.AppendEntriesResponse{
			RPCHeader: header, Term: term, LastLog: last, Success: yes, NoRetryBackoff: fast})).GetAppendResult()
		if a.GetTerm() != term || a.GetLastLog() != last || a.GetSuccess() != yes || a.GetNoRetryBackoff() != fast {
			t.Fatalf("append: %v", a)
		}
		v := overTheWire(t, answerToProto(&raft.RequestVoteResponse{RPCHeader: header, Term: term, Granted: yes})).GetVoteResult()
		if v.GetTerm() != term || v.GetGranted() != yes || v.GetProtocol() != 3 {
			t.Fatalf("vote: %v", v)
		}
		p := overTheWire(t, answerToProto(&raft.RequestPreVoteResponse{RPCHeader: header, Term: term, Granted: yes})).GetPreVoteResult()
		if p.GetTerm() != term || p.GetGranted() != yes || p.GetProtocol() != 3 {
			t.Fatalf("pre-vote: %v", p)
		}
		if overTheWire(t, answerToProto(&raft.TimeoutNowResponse{RPCHeader: header})).GetTimeoutNowResult().GetProtocol() != 3 {
			t.Fatal("timeout now")
		}
	})
	for _, odd := range []any{nil, &raft.InstallSnapshotResponse{}, 7} {
		if m := answerToProto(odd); m != nil {
			t.Errorf("%T became %v", odd, m)
		}
	}
}

// TestConvert_FieldsAreKnown fails when raft grows a field that we would drop.
func TestConvert_FieldsAreKnown(t *testing.T) {
	for _, c := range []struct {
		v      any
		fields int
	}{
		{raft.AppendEntriesRequest{}, 7}, {raft.AppendEntriesResponse{}, 5}, // Leader repeats the header's Addr
		{raft.RequestVoteRequest{}, 6}, {raft.RequestVoteResponse{}, 4}, // so does Candidate; Peers is for protocol 0
		{raft.RequestPreVoteRequest{}, 4}, {raft.RequestPreVoteResponse{}, 3},
		{raft.TimeoutNowRequest{}, 1}, {raft.TimeoutNowResponse{}, 1},
		{raft.RPCHeader{}, 3}, {raft.Log{}, 6}, // AppendedAt is a statistic
	} {
		if n := reflect.TypeOf(c.v).NumField(); n != c.fields {
			t.Errorf("%T has %d fields, the conversion knows %d", c.v, n, c.fields)
		}
	}
}

func TestConvert_RefusesWhatNoLeaderSends(t *testing.T) {
	entry := func(index uint64, typ uint32) *peerv1.Entry { return &peerv1.Entry{Index: index, Type: typ} }
	for name, m := range map[string]*peerv1.Message{
		"gap":           {Append: &peerv1.AppendEntries{PrevIndex: 4, Entries: []*peerv1.Entry{entry(6, 0)}}},
		"hole inside":   {Append: &peerv1.AppendEntries{PrevIndex: 4, Entries: []*peerv1.Entry{entry(5, 0), entry(7, 0)}}},
		"nil entry":     {Append: &peerv1.AppendEntries{PrevIndex: 4, Entries: []*peerv1.Entry{nil}}},
		"overflow":      {Append: &peerv1.AppendEntries{PrevIndex: math.MaxUint64, Entries: []*peerv1.Entry{entry(0, 0)}}},
		"peer entry":    {Append: &peerv1.AppendEntries{Entries: []*peerv1.Entry{entry(1, uint32(raft.LogAddPeerDeprecated))}}},
		"unknown entry": {Append: &peerv1.AppendEntries{Entries: []*peerv1.Entry{entry(1, 256)}}},
		"nothing":       {},
		"an answer":     {VoteResult: &peerv1.VoteResult{}},
	} {
		_, err := requestFromProto("n1/r1", m)
		if kverr.KindOf(err) != kverr.Invalid {
			t.Errorf("%s: error %v", name, err)
		} else if strings.Contains(err.Error(), "unexpected command") {
			t.Errorf("%s: raft would take %q for a granted pre-vote", name, err)
		}
	}
}

// Raft panics at a configuration that it cannot read, when it gets the entry and
// again at every start that finds it in the log.
func TestConvert_RefusesAMalformedConfiguration(t *testing.T) {
	m := &peerv1.AppendEntries{PrevIndex: 7, Entries: []*peerv1.Entry{
		{Index: 8, Term: 1, Type: uint32(raft.LogConfiguration), Data: []byte{0xc1}},
	}}
	if _, err := appendFromProto(raft.RPCHeader{}, m); kverr.KindOf(err) != kverr.Invalid {
		t.Errorf("let in: %v", err)
	}
}

func TestTrimEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 400<<10), 0, 20).Draw(t, "sizes")
		r := &raft.AppendEntriesRequest{}
		buf := make([]byte, 400<<10)
		for i, n := range sizes {
			r.Entries = append(r.Entries, &raft.Log{Index: uint64(i + 1), Data: buf[:n]})
		}
		bytes, sum := trimEntries(r), 0
		for _, n := range sizes[:len(r.Entries)] {
			sum += n
		}
		switch {
		case bytes != sum:
			t.Fatalf("says %d bytes, has %d", bytes, sum)
		case len(sizes) > 0 && len(r.Entries) == 0:
			t.Fatal("nothing left to send")
		case len(r.Entries) > 1 && sum > appendBytes:
			t.Fatalf("%d bytes left", sum)
		case len(r.Entries) < len(sizes) && sum+sizes[len(r.Entries)] <= appendBytes:
			t.Fatalf("stopped at %d entries, %d bytes: the next would fit", len(r.Entries), sum)
		}
	})
}

// FuzzRequestFromProto: whatever a peer sends, converting it never panics, and
// what is accepted has no gap.
func FuzzRequestFromProto(f *testing.F) {
	for _, m := range []*peerv1.Message{
		{}, {Append: &peerv1.AppendEntries{}},
		{Append: &peerv1.AppendEntries{Protocol: math.MaxUint32, PrevIndex: math.MaxUint64, Entries: []*peerv1.Entry{{}}}},
		{Append: &peerv1.AppendEntries{PrevIndex: 4, Entries: []*peerv1.Entry{{Index: 5, Type: 5, Data: []byte("x")}, {Index: 6}}}},
		{Vote: &peerv1.Vote{Term: math.MaxUint64}}, {PreVote: &peerv1.Vote{}}, {TimeoutNow: &peerv1.TimeoutNow{}},
		{Confirm: &peerv1.Confirm{Questions: []*peerv1.TermQuestion{{}}}}, {Refusal: 99, Detail: "x"},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(peerv1.Message)
		if proto.Unmarshal(raw, m) != nil {
			return
		}
		_ = refusalError("n1", m)
		command, err := requestFromProto("n1/r1", m)
		if (err == nil) == (command == nil) {
			t.Fatalf("command %v, error %v", command, err)
		}
		if r, ok := command.(*raft.AppendEntriesRequest); ok {
			for i, e := range r.Entries {
				if e.Index != r.PrevLogEntry+1+uint64(i) {
					t.Fatalf("entry %d has index %d after %d", i, e.Index, r.PrevLogEntry)
				}
			}
		}
	})
}
