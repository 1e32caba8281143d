package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// fakeView streams files of numbered pieces.
type fakeView struct {
	files, pieces, size int
	before              func(step int) // on the streaming goroutine
	mu                  sync.Mutex
	sent                bytes.Buffer
	streams             int
}

func (v *fakeView) Read([]byte) (int, error) { panic("a view is not read") }
func (v *fakeView) Close() error             { return nil }
func (v *fakeView) Arc() shardmap.Arc        { return shardmap.Arc{From: 5, To: 50} }
func (v *fakeView) EstimatedBytes() uint64   { return uint64(v.files * v.pieces * v.size) }
func (v *fakeView) TableFormat() uint32      { return 7 }

// steps is how many a stream has.
func (v *fakeView) steps() int { return v.files*(v.pieces+1) + 1 }

func (v *fakeView) Stream(ctx context.Context, to SnapshotSink) error {
	v.mu.Lock()
	v.streams++
	v.sent.Reset()
	v.mu.Unlock()
	step := 0
	next := func() error {
		if v.before != nil {
			v.before(step)
		}
		step++
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	for f := range v.files {
		for p := range v.pieces {
			if err := next(); err != nil {
				return err
			}
			data := bytes.Repeat([]byte{byte(f<<4 + p)}, v.size)
			if err := to.Chunk(data, uint32(100*f+p)); err != nil {
				return err
			}
			v.mu.Lock()
			v.sent.Write(data)
			v.mu.Unlock()
		}
		if err := next(); err != nil {
			return err
		}
		if err := to.EndFile(uint64(v.pieces*v.size), uint64(f)); err != nil {
			return err
		}
	}
	if err := next(); err != nil {
		return err
	}
	return to.End(uint64(v.files), v.EstimatedBytes(), 99)
}

// fakeReceiver keeps what comes.
type fakeReceiver struct {
	t     testing.TB
	check func() error
	at    func(step int) error

	mu       sync.Mutex
	got      bytes.Buffer
	steps    int
	files    int
	complete bool
	aborted  int
}

func (r *fakeReceiver) step() error {
	r.mu.Lock()
	n := r.steps
	r.steps++
	if r.complete || r.aborted > 0 {
		r.t.Error("a step after the end")
	}
	r.mu.Unlock()
	if r.at != nil {
		return r.at(n)
	}
	return nil
}

func (r *fakeReceiver) Chunk(data []byte, crc uint32) error {
	r.mu.Lock()
	if len(data) > 0 && crc != uint32(100*int(data[0]>>4)+int(data[0]&15)) {
		r.t.Errorf("piece %x with checksum %d", data[0], crc)
	}
	r.got.Write(data)
	r.mu.Unlock()
	return r.step()
}

func (r *fakeReceiver) EndFile(_, sum uint64) error {
	r.mu.Lock()
	if sum != uint64(r.files) {
		r.t.Errorf("file %d with sum %d", r.files, sum)
	}
	r.files++
	r.mu.Unlock()
	return r.step()
}

func (r *fakeReceiver) End(files, bytes, sum uint64) error {
	err := r.step()
	r.mu.Lock()
	defer r.mu.Unlock()
	if int(files) != r.files || int(bytes) != r.got.Len() || sum != 99 {
		r.t.Errorf("the end of %d files, %d bytes, sum %d", files, bytes, sum)
	}
	r.complete = err == nil
	return err
}

func (r *fakeReceiver) Descriptor() []byte { return []byte("descriptor") }

func (r *fakeReceiver) Check() error {
	if r.check != nil {
		return r.check()
	}
	return nil
}

func (r *fakeReceiver) Abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.aborted++; r.aborted > 1 {
		r.t.Error("aborted twice")
	}
}

func (r *fakeReceiver) wasAborted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aborted > 0
}

// shipment is two nodes, a's raft sending to b's.
type shipment struct {
	*lan
	t    *testing.T
	a, b *Group
	view *fakeView

	mu        sync.Mutex
	tenures   uint64
	receivers []*fakeReceiver
	offers    []SnapshotOffer
	refuse    func(SnapshotOffer) error
	prepare   func(*fakeReceiver)
	installed []*raft.InstallSnapshotRequest
	ingest    time.Duration                                // how long raft works on it
	install   func(raft.RPC, *raft.InstallSnapshotRequest) // default: read it and agree
}

func newShipment(t *testing.T, change func(i int, x *testNode)) *shipment {
	s := &shipment{t: t, view: &fakeView{files: 3, pieces: 4, size: 1000}}
	s.lan, s.a, s.b = pair(t, change)
	s.nodes[1].net.OnSnapshot(s.admit)
	return s
}

func (s *shipment) admit(o SnapshotOffer) (SnapshotReceiver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers = append(s.offers, o)
	if s.refuse != nil {
		if err := s.refuse(o); err != nil {
			return nil, err
		}
	}
	r := &fakeReceiver{t: s.t}
	if s.prepare != nil {
		s.prepare(r)
	}
	s.receivers = append(s.receivers, r)
	return r, nil
}

// raft takes what arrives for a group until it is closed.
func (s *shipment) raft(g *Group) {
	go func() {
		for {
			select {
			case <-g.closed:
				return
			case rpc := <-g.Consumer():
				r, ok := rpc.Command.(*raft.InstallSnapshotRequest)
				if !ok {
					answer(rpc)
					continue
				}
				if s.install != nil {
					s.install(rpc, r)
					continue
				}
				s.agree(rpc, r)
			}
		}
	}()
}

// agree is raft that installs.
func (s *shipment) agree(rpc raft.RPC, r *raft.InstallSnapshotRequest) {
	data, err := io.ReadAll(rpc.Reader)
	if err == nil && (string(data) != "descriptor" || r.Size != int64(len(data))) {
		err = fmt.Errorf("%q of %d bytes", data, r.Size)
	}
	time.Sleep(s.ingest)
	s.mu.Lock()
	if err == nil {
		s.installed = append(s.installed, r)
	}
	s.mu.Unlock()
	rpc.Respond(&raft.InstallSnapshotResponse{Term: r.Term + 1, Success: err == nil}, err)
}

func testRequest() *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3}, SnapshotVersion: 1, Term: 9, LastLogIndex: 700, LastLogTerm: 8,
		Configuration:      raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n1/r101", Address: "n1/r101"}}}),
		ConfigurationIndex: 650,
	}
}

// request is that of a new tenure: within one, what follows a failure waits until
// the follower answers heartbeats, and there are none here.
func (s *shipment) request() *raft.InstallSnapshotRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := testRequest()
	r.Term += s.tenures
	s.tenures++
	return r
}

func (s *shipment) send() (*raft.InstallSnapshotResponse, error) {
	return s.sendTo(s.a, s.b.LocalAddr())
}

func (s *shipment) sendTo(from *Group, to raft.ServerAddress) (*raft.InstallSnapshotResponse, error) {
	var resp raft.InstallSnapshotResponse
	err := from.InstallSnapshot(raft.ServerID(to), to, s.request(), &resp, s.view)
	return &resp, err
}

// sending is a send that goes on meanwhile.
func (s *shipment) sending() <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.send()
		done <- err
	}()
	return done
}

func (s *shipment) last() *fakeReceiver {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.receivers) == 0 {
		return nil
	}
	return s.receivers[len(s.receivers)-1]
}

// wantIdle checks that nothing of a transfer stays behind, and that the next one
// succeeds.
func (s *shipment) wantIdle() {
	s.t.Helper()
	time.Sleep(time.Second)
	for _, x := range s.nodes {
		if st := x.net.Stats(); st.SnapshotsSending != 0 || st.SnapshotsReceiving != 0 {
			s.t.Errorf("%s: %+v", x.id, st)
		}
	}
}

// wantWhole sends once more, with nothing in the way.
func (s *shipment) wantWhole() {
	s.t.Helper()
	s.mu.Lock()
	s.refuse, s.prepare, s.install, s.view.before = nil, nil, nil, nil
	s.installed, s.ingest = nil, 0
	s.mu.Unlock()
	resp, err := s.send()
	if err != nil || !resp.Success {
		s.t.Fatalf("the next one: %+v, %v", resp, err)
	}
	r := s.last()
	if !bytes.Equal(r.got.Bytes(), s.view.sent.Bytes()) || !r.complete || r.wasAborted() || len(s.installed) != 1 {
		s.t.Errorf("received %d of %d bytes, complete %t, aborted %t, %d times", r.got.Len(), s.view.sent.Len(),
			r.complete, r.wasAborted(), len(s.installed))
	}
}

func refusal(k kverr.Kind) error { return kverr.New(k, "not now") }
