package transport

import (
	"math"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// isHeartbeat reports whether raft sent this to keep its leadership: it says
// nothing about the log.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && r.LeaderCommitIndex == 0 && len(r.Entries) == 0
}

// verifiedCommit is how far a follower that accepts the request may commit: up
// to the last entry that the request shows to be the leader's (S2). Raft's
// followers take the minimum of what they are told and their own last index,
// and that may be a stale entry the leader never had.
func verifiedCommit(r *raft.AppendEntriesRequest) uint64 {
	return min(r.LeaderCommitIndex, r.PrevLogEntry+uint64(len(r.Entries)))
}

// trimEntries shortens the request to about appendBytes and at least one entry,
// and returns the bytes of those that are left. Raft reads back from the request
// which entries the follower has taken, and goes on with the next one: to it
// this is the same as having had fewer to send.
func trimEntries(r *raft.AppendEntriesRequest) (bytes int) {
	for i, e := range r.Entries {
		size := len(e.Data) + len(e.Extensions)
		if i > 0 && bytes+size > appendBytes {
			r.Entries = r.Entries[:i]
			return bytes
		}
		bytes += size
	}
	return bytes
}

func appendToProto(r *raft.AppendEntriesRequest) *peerv1.AppendEntries {
	a := &peerv1.AppendEntries{
		Protocol:     uint32(r.ProtocolVersion),
		Term:         r.Term,
		PrevIndex:    r.PrevLogEntry,
		PrevTerm:     r.PrevLogTerm,
		LeaderCommit: verifiedCommit(r),
	}
	if len(r.Entries) == 0 {
		return a
	}
	entries := make([]peerv1.Entry, len(r.Entries))
	a.Entries = make([]*peerv1.Entry, len(r.Entries))
	for i, l := range r.Entries {
		e := &entries[i]
		e.Index, e.Term, e.Type, e.Data, e.Extensions = l.Index, l.Term, uint32(l.Type), l.Data, l.Extensions
		a.Entries[i] = e
	}
	return a
}

// appendFromProto refuses what no leader sends: raft would store a gap in its
// log without a question.
func appendFromProto(h raft.RPCHeader, a *peerv1.AppendEntries) (*raft.AppendEntriesRequest, error) {
	r := &raft.AppendEntriesRequest{
		RPCHeader:         h,
		Term:              a.GetTerm(),
		PrevLogEntry:      a.GetPrevIndex(),
		PrevLogTerm:       a.GetPrevTerm(),
		LeaderCommitIndex: a.GetLeaderCommit(),
	}
	n := len(a.GetEntries())
	if n == 0 {
		return r, nil
	}
	if a.GetPrevIndex() > math.MaxUint64-uint64(n) {
		return nil, kverr.New(kverr.Invalid, "entries after index %d", a.GetPrevIndex())
	}
	logs := make([]raft.Log, n)
	r.Entries = make([]*raft.Log, n)
	for i, e := range a.GetEntries() {
		if want := a.GetPrevIndex() + 1 + uint64(i); e.GetIndex() != want {
			return nil, kverr.New(kverr.Invalid, "entry with index %d where %d belongs", e.GetIndex(), want)
		}
		if !knownLogType(e.GetType()) {
			return nil, kverr.New(kverr.Invalid, "entry %d is of the unknown type %d", e.GetIndex(), e.GetType())
		}
		if e.GetType() == uint32(raft.LogConfiguration) { // raft would panic, now and at each start
			if _, err := decodeConfiguration(e.GetData()); err != nil {
				return nil, kverr.New(kverr.Invalid, "entry %d: %w", e.GetIndex(), err)
			}
		}
		logs[i] = raft.Log{
			Index: e.GetIndex(), Term: e.GetTerm(), Type: raft.LogType(e.GetType()),
			Data: e.GetData(), Extensions: e.GetExtensions(),
		}
		r.Entries[i] = &logs[i]
	}
	return r, nil
}

// knownLogType leaves out the two deprecated peer entries: raft would look
// addresses up through the transport, and no group here ever wrote one.
func knownLogType(t uint32) bool {
	switch t {
	case uint32(raft.LogCommand), uint32(raft.LogNoop), uint32(raft.LogBarrier), uint32(raft.LogConfiguration):
		return true
	}
	return false
}

// requestFromProto is the command for raft in a message from the named replica.
// Its errors must never contain "unexpected command": a raft that gets this text
// back for a pre-vote counts the vote as granted.
func requestFromProto(from raft.ServerID, m *peerv1.Message) (any, error) {
	header := func(protocol uint32) raft.RPCHeader {
		// Versions are small numbers; what does not fit becomes one that raft refuses.
		version := raft.ProtocolVersion(min(protocol, math.MaxInt16))
		return raft.RPCHeader{ProtocolVersion: version, ID: []byte(from), Addr: []byte(from)}
	}
	switch {
	case m.GetAppend() != nil:
		r, err := appendFromProto(header(m.GetAppend().GetProtocol()), m.GetAppend())
		if err != nil {
			return nil, err // without a typed nil
		}
		return r, nil
	case m.GetVote() != nil:
		v := m.GetVote()
		return &raft.RequestVoteRequest{
			RPCHeader: header(v.GetProtocol()), Term: v.GetTerm(),
			LastLogIndex: v.GetLastLogIndex(), LastLogTerm: v.GetLastLogTerm(),
			LeadershipTransfer: v.GetLeadershipTransfer(),
		}, nil
	case m.GetPreVote() != nil:
		v := m.GetPreVote()
		return &raft.RequestPreVoteRequest{
			RPCHeader: header(v.GetProtocol()), Term: v.GetTerm(),
			LastLogIndex: v.GetLastLogIndex(), LastLogTerm: v.GetLastLogTerm(),
		}, nil
	case m.GetTimeoutNow() != nil:
		return &raft.TimeoutNowRequest{RPCHeader: header(m.GetTimeoutNow().GetProtocol())}, nil
	}
	return nil, kverr.New(kverr.Invalid, "a message without a request that this build knows")
}

// answerToProto is raft's answer as a message body; nil for what raft never
// answers.
func answerToProto(response any) *peerv1.Message {
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		return &peerv1.Message{AppendResult: &peerv1.AppendEntriesResult{
			Protocol: uint32(r.ProtocolVersion), Term: r.Term, LastLog: r.LastLog,
			Success: r.Success, NoRetryBackoff: r.NoRetryBackoff,
		}}
	case *raft.RequestVoteResponse:
		return &peerv1.Message{VoteResult: &peerv1.VoteResult{
			Protocol: uint32(r.ProtocolVersion), Term: r.Term, Granted: r.Granted,
		}}
	case *raft.RequestPreVoteResponse:
		return &peerv1.Message{PreVoteResult: &peerv1.VoteResult{
			Protocol: uint32(r.ProtocolVersion), Term: r.Term, Granted: r.Granted,
		}}
	case *raft.TimeoutNowResponse:
		return &peerv1.Message{TimeoutNowResult: &peerv1.TimeoutNowResult{Protocol: uint32(r.ProtocolVersion)}}
	}
	return nil
}
