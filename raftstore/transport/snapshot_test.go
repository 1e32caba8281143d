package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func TestSnapshot_ArrivesWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		resp, err := s.send()
		if err != nil || !resp.Success || resp.Term != 10 || string(resp.ID) != string(s.b.LocalAddr()) {
			t.Fatalf("%+v, %v", resp, err)
		}
		want := SnapshotOffer{
			Node: "n1", Group: testGroup, From: 101, To: 102, Term: 9, Index: 700, IndexTerm: 8,
			Configuration:      raft.Configuration{Servers: []raft.Server{{ID: "n1/r101", Address: "n1/r101"}}},
			ConfigurationIndex: 650, Arc: shardmap.Arc{From: 5, To: 50}, Bytes: 12000, TableFormat: 7,
		}
		if diff := cmp.Diff([]SnapshotOffer{want}, s.offers); diff != "" {
			t.Error(diff)
		}
		r := s.installed[0]
		if string(r.ID) != "n1/r101" || string(r.Addr) != "n1/r101" || r.ProtocolVersion != 3 || r.SnapshotVersion != 1 ||
			r.Term != 9 || r.LastLogIndex != 700 || r.LastLogTerm != 8 || r.ConfigurationIndex != 650 {
			t.Errorf("raft got %+v", r)
		}
		if diff := cmp.Diff(testRequest().Configuration, r.Configuration); diff != "" {
			t.Error(diff)
		}
		s.wantWhole()
		s.wantIdle()
		sent, received := s.nodes[0].net.Stats(), s.nodes[1].net.Stats()
		if sent != (Stats{SnapshotsSent: 2, SnapshotBytesSent: 24000}) ||
			received != (Stats{SnapshotsReceived: 2, SnapshotBytesReceived: 24000}) {
			t.Errorf("%+v, %+v", sent, received)
		}
	})
}

// TestSnapshot_SourceDiesAtEveryStep: whatever the sender had sent when its group
// closed, the receiver keeps nothing and takes the next one.
func TestSnapshot_SourceDiesAtEveryStep(t *testing.T) {
	for _, how := range []string{"group closed", "network closed", "view broken"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				probe := &fakeView{files: 3, pieces: 4, size: 1000}
				for n := range probe.steps() {
					s := newShipment(t, nil)
					s.raft(s.b)
					broken := errors.New("unreadable")
					s.view.before = func(step int) {
						if step != n {
							return
						}
						synctest.Wait()
						switch how {
						case "group closed":
							_ = s.a.Close()
						case "network closed":
							go s.nodes[0].net.Close()
							synctest.Wait() // until all that it cancels is cancelled
						case "view broken":
							s.a.mu.Lock()
							s.a.mu.sending[s.b.LocalAddr()].cancel(broken)
							s.a.mu.Unlock()
						}
					}
					start := time.Now()
					_, err := s.send()
					if err == nil || time.Since(start) > 0 {
						t.Errorf("step %d: %v after %s", n, err, time.Since(start))
					}
					if how == "view broken" && !errors.Is(err, broken) {
						t.Errorf("step %d: %v", n, err)
					}
					s.wantIdle()
					if r := s.last(); !r.wasAborted() || len(s.installed) != 0 {
						t.Errorf("step %d: aborted %t, installed %d", n, r.wasAborted(), len(s.installed))
					}
					if how == "group closed" {
						s.a = s.nodes[0].group(testGroup)
					}
					if how != "network closed" {
						s.wantWhole()
					}
					s.close()
				}
			})
		})
	}
}

// TestSnapshot_TargetDiesAtEveryStep: the sender hears of it at once, in whatever
// way the receiver dies or fails, and what was received is given up.
func TestSnapshot_TargetDiesAtEveryStep(t *testing.T) {
	for _, how := range []string{"group closed", "network closed", "connection cut", "disk full"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				probe := &fakeView{files: 3, pieces: 4, size: 1000}
				for n := range probe.steps() {
					s := newShipment(t, nil)
					s.raft(s.b)
					s.prepare = func(r *fakeReceiver) {
						r.at = func(step int) error {
							if step != n {
								return nil
							}
							switch how {
							case "group closed":
								_ = s.b.Close()
							case "network closed":
								go s.nodes[1].net.Close()
								<-s.b.closed
							case "connection cut":
								go s.nodes[1].stopServer()
								time.Sleep(time.Millisecond)
							case "disk full":
								return kverr.New(kverr.Unavailable, "no space left")
							}
							return nil
						}
					}
					start := time.Now()
					_, err := s.send()
					if err == nil || time.Since(start) > 10*time.Millisecond {
						t.Errorf("step %d: %v after %s", n, err, time.Since(start))
					}
					if how == "disk full" && (kverr.KindOf(err) != kverr.Unavailable || !strings.Contains(err.Error(), "no space left")) {
						t.Errorf("step %d: %v", n, err)
					}
					s.wantIdle()
					if r := s.last(); !r.wasAborted() || len(s.installed) != 0 {
						t.Errorf("step %d: aborted %t, installed %d", n, r.wasAborted(), len(s.installed))
					}
					switch how {
					case "group closed":
						s.b = s.nodes[1].group(testGroup)
						s.raft(s.b)
					case "connection cut":
						s.nodes[1].startServer()
					}
					if how != "network closed" {
						s.wantWhole()
					}
					s.close()
				}
			})
		})
	}
}

// TestL4_RefusedAtTheOfferBeforeRaftAndByRaft: a snapshot that is not above what
// was applied is refused whenever that turns out.
func TestL4_RefusedAtTheOfferBeforeRaftAndByRaft(t *testing.T) {
	for _, c := range []struct {
		when  string
		calls int // of the hook and of Check that still agree
	}{{"at the offer", 0}, {"before raft gets it", 1}, {"when raft reads it", 2}} {
		t.Run(c.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShipment(t, nil)
				defer s.close()
				s.raft(s.b)
				calls := 0
				check := func() error {
					if calls++; calls > c.calls {
						return kverr.New(kverr.Conflict, "applied is 1010")
					}
					return nil
				}
				s.refuse = func(SnapshotOffer) error { return check() }
				s.prepare = func(r *fakeReceiver) { r.check = check }
				start := time.Now()
				_, err := s.send()
				wantKind(t, c.when, err, kverr.Unavailable)
				if err == nil || !strings.Contains(err.Error(), "applied is 1010") || !errors.Is(err, errRefused) {
					t.Errorf("got %v", err)
				}
				if time.Since(start) != 0 || len(s.offers) != 1 || len(s.installed) != 0 {
					t.Errorf("after %s: %d offers, %d installed", time.Since(start), len(s.offers), len(s.installed))
				}
				s.wantIdle()
				if r := s.last(); c.calls > 0 && !r.wasAborted() {
					t.Error("kept")
				}
				s.wantWhole()
			})
		})
	}
}

// TestSN4_OneTransferPerReplica: a second one waits for its end and is then
// admitted, or gives up after ten seconds.
func TestSN4_OneTransferPerReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		// A second sender, as a new leader would be.
		third := s.lan.join(t)
		other := third.group(testGroup)
		slow := 8 * time.Second
		s.view.before = func(step int) {
			if step == 2 {
				time.Sleep(slow)
			}
		}
		first := s.sending()
		time.Sleep(time.Millisecond)
		view := &fakeView{files: 1, pieces: 1, size: 10}
		var resp raft.InstallSnapshotResponse
		start := time.Now()
		err := other.InstallSnapshot("", s.b.LocalAddr(), testRequest(), &resp, view)
		if took := time.Since(start); err != nil || took < slow-time.Second || took > slow+2*time.Second {
			t.Errorf("second after %s: %v", took, err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		if len(s.receivers) != 2 || len(s.installed) != 2 {
			t.Errorf("%d admitted, %d installed", len(s.receivers), len(s.installed))
		}

		// Busy with installing, and longer than that.
		s.view.before = nil
		s.ingest = 30 * time.Second
		first = s.sending()
		time.Sleep(time.Millisecond)
		start = time.Now()
		err = other.InstallSnapshot("", s.b.LocalAddr(), testRequest(), &resp, view)
		wantKind(t, "second", err, kverr.Overloaded)
		if took := time.Since(start); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("gave up after %s", took)
		}
		if err := <-first; err != nil { // signs of life keep the sender waiting
			t.Error(err)
		}
		if len(s.receivers) != 3 || len(s.installed) != 3 {
			t.Errorf("%d admitted, %d installed", len(s.receivers), len(s.installed))
		}
		s.wantIdle()
	})
}

// TestSnapshot_BusyIsAskedAgain, within bounds; another refusal is not.
func TestSnapshot_BusyIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		free := time.Now().Add(6 * time.Second)
		s.refuse = func(SnapshotOffer) error {
			if time.Now().Before(free) {
				return refusal(kverr.Overloaded)
			}
			return nil
		}
		if resp, err := s.send(); err != nil || !resp.Success || time.Since(free) > time.Second {
			t.Errorf("%v, %s late", err, time.Since(free))
		}
		for kind, want := range map[kverr.Kind]time.Duration{
			kverr.Overloaded: 10 * time.Second, kverr.Conflict: 0, kverr.Format: 0, kverr.Unavailable: 0, kverr.Closed: 0,
		} {
			s.refuse = func(SnapshotOffer) error { return refusal(kind) }
			start := time.Now()
			if _, err := s.send(); err == nil || time.Since(start) < want || time.Since(start) > want+time.Second {
				t.Errorf("%s: %v after %s", kind, err, time.Since(start))
			}
		}
		if st := s.nodes[1].net.Stats(); st.SnapshotOffersRefused < 20 || st.SnapshotReceivesFailed != 0 {
			t.Errorf("%+v", st)
		}
		s.wantWhole()
	})
}

func TestSnapshot_WhatIsNotAdmitted(t *testing.T) {
	for name, c := range map[string]struct {
		bend func(s *shipment, o *peerv1.SnapshotChunk)
		want string // of the error or the refusal
	}{
		"":                      {func(*shipment, *peerv1.SnapshotChunk) {}, "admitted"},
		"no offer":              {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer, o.Data = nil, []byte("x") }, "no hello"},
		"another cluster":       {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.Hello.ClusterId = "c2" }, "belongs to cluster"},
		"newer format":          {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.Hello.Format++ }, "speaks"},
		"another lane":          {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.Hello.Lane = peerv1.Lane_LANE_LOG }, "lane"},
		"for another node":      {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.Hello.ToNode = "n7" }, "not here"},
		"unknown group":         {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.Group++ }, "UNKNOWN_REPLICA"},
		"unknown replica":       {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.To++ }, "UNKNOWN_REPLICA"},
		"retired replica":       {func(s *shipment, _ *peerv1.SnapshotChunk) { s.nodes[1].net.Retire(testGroup, 102) }, "UNKNOWN_REPLICA"},
		"garbled configuration": {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.Configuration = []byte{0xc1} }, "malformed"},
		"no configuration":      {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.Configuration = nil }, "malformed"},
		"slots past the end":    {func(_ *shipment, o *peerv1.SnapshotChunk) { o.Offer.ArcTo = 1 << 20 }, "slots"},
		"nobody to admit":       {func(s *shipment, _ *peerv1.SnapshotChunk) { s.nodes[1].net.admit.Store(nil) }, "BUSY"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShipment(t, nil)
				defer s.close()
				hello, err := s.nodes[0].net.hello("n2", peerv1.Lane_LANE_BULK)
				if err != nil {
					t.Fatal(err)
				}
				r := testRequest()
				m := &peerv1.SnapshotChunk{Offer: &peerv1.SnapshotOffer{Hello: hello, Group: testGroup, From: 101, To: 102,
					Protocol: 3, SnapshotVersion: 1, Term: 1, LastIndex: 700, Configuration: r.Configuration, ArcTo: 9}}
				c.bend(s, m)
				got := s.offer(m)
				if !strings.Contains(got, c.want) {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if admitted := len(s.receivers); (admitted == 1) != (c.want == "admitted") {
					t.Errorf("%d admitted", admitted)
				}
				s.wantIdle()
				if st := s.nodes[1].net.Stats(); (st.SnapshotOffersRefused == 1) != (c.want != "admitted") {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func (s *shipment) offered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.offers)
}

// offer makes a bare offer and tells what came of it.
func (s *shipment) offer(m *peerv1.SnapshotChunk) string {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	conn, err := s.conn("n1", "n2")
	if err != nil {
		s.t.Fatal(err)
	}
	stream, err := peerv1.NewPeerClient(conn).SendSnapshot(ctx)
	if err != nil {
		return err.Error()
	}
	_ = stream.Send(m)
	a, err := stream.Recv()
	switch {
	case err != nil:
		return err.Error()
	case a.GetRefusal() == peerv1.Refusal_REFUSAL_NONE:
		return "admitted"
	}
	return a.GetRefusal().String() + " " + a.GetDetail()
}

// TestSnapshot_SilentSendersAreGivenUp: one that makes no offer, and one that
// stops in the middle.
func TestSnapshot_SilentSendersAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		conn, err := s.conn("n1", "n2")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		stream, err := peerv1.NewPeerClient(conn).SendSnapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := stream.Recv(); err == nil || time.Since(start) != openTimeout {
			t.Errorf("no offer: %v, %v after %s", a, err, time.Since(start))
		}
		s.view.before = func(step int) {
			if step == 3 {
				time.Sleep(25 * time.Second)
			}
		}
		done := s.sending()
		time.Sleep(11 * time.Second)
		if !s.last().wasAborted() {
			t.Error("a silent transfer holds its place")
		}
		wantKind(t, "silent", <-done, kverr.Unavailable)
		done = s.sending()
		time.Sleep(time.Second)
		_ = s.b.Close() // in the middle of the silence
		time.Sleep(time.Second)
		if !s.last().wasAborted() {
			t.Error("a closed group goes on receiving")
		}
		wantKind(t, "closed", <-done, kverr.Unavailable)
		s.b = s.nodes[1].group(testGroup)
		s.raft(s.b)
		s.wantWhole()
	})
}

// TestSnapshot_WaitsForRaft: as long as raft does not begin to read the descriptor
// it is taken back after a while, and raft then reads nothing; once it has begun it
// may take its time.
func TestSnapshot_WaitsForRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		start := time.Now()
		_, err := s.send() // there is no raft
		wantKind(t, "no raft", err, kverr.Overloaded)
		if took := time.Since(start); took < raftPatience || took > raftPatience+time.Second {
			t.Errorf("after %s", took)
		}
		if !s.last().wasAborted() || len(s.offers) != 1 {
			t.Errorf("aborted %t, %d offers", s.last().wasAborted(), len(s.offers))
		}
		rpc := <-s.b.Consumer()
		if data, err := io.ReadAll(rpc.Reader); err == nil || len(data) > 0 {
			t.Errorf("read %q of a snapshot that was given up", data)
		}
		rpc.Respond(nil, errors.New("short read"))

		for range cap(s.b.consumer) { // as while its disk hangs
			s.b.Campaign()
		}
		start = time.Now()
		_, err = s.send()
		wantKind(t, "queue full", err, kverr.Overloaded)
		if took := time.Since(start); took < raftPatience || took > raftPatience+time.Second || !s.last().wasAborted() {
			t.Errorf("after %s, aborted %t", took, s.last().wasAborted())
		}
		time.AfterFunc(5*time.Second, func() { s.raft(s.b) })
		if resp, err := s.send(); err != nil || !resp.Success {
			t.Errorf("raft is back: %v", err)
		}
		s.install = func(rpc raft.RPC, r *raft.InstallSnapshotRequest) {
			_, _ = rpc.Reader.Read(make([]byte, 1))
			time.Sleep(10 * time.Minute)
			rpc.Respond(&raft.InstallSnapshotResponse{Term: 9, Success: true}, nil)
		}
		start = time.Now()
		if resp, err := s.send(); err != nil || !resp.Success || time.Since(start) != 10*time.Minute {
			t.Errorf("slow ingest: %v after %s", err, time.Since(start))
		}
		s.wantWhole()
	})
}

// TestSnapshot_RaftSaysNo: an error of raft's is passed on, a plain no is an
// answer, and in both cases nothing is kept.
func TestSnapshot_RaftSaysNo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		s.install = func(rpc raft.RPC, _ *raft.InstallSnapshotRequest) {
			_, _ = io.Copy(io.Discard, rpc.Reader)
			rpc.Respond(&raft.InstallSnapshotResponse{Term: 11}, nil)
		}
		if resp, err := s.send(); err != nil || resp.Success || resp.Term != 11 || !s.last().wasAborted() {
			t.Errorf("%+v, %v", resp, err)
		}
		s.install = func(rpc raft.RPC, _ *raft.InstallSnapshotRequest) {
			_, _ = io.Copy(io.Discard, rpc.Reader)
			rpc.Respond(&raft.InstallSnapshotResponse{Term: 11}, errors.New("failed to restore"))
		}
		_, err := s.send()
		if err == nil || !strings.Contains(err.Error(), "failed to restore") || !s.last().wasAborted() {
			t.Error(err)
		}
		if st := s.nodes[1].net.Stats(); st.SnapshotReceivesFailed != 2 || st.SnapshotsReceived != 0 {
			t.Errorf("%+v", st)
		}
		if st := s.nodes[0].net.Stats(); st.SnapshotSendsFailed != 2 || st.SnapshotsSent != 0 {
			t.Errorf("%+v", st)
		}
		s.wantWhole()
	})
}

// TestSnapshot_GroupClosesWhileRaftIngests: what raft is using is not taken away
// from under it; what it has not begun to read is.
func TestSnapshot_GroupClosesWhileRaftIngests(t *testing.T) {
	for _, begun := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newShipment(t, nil)
			defer s.close()
			done := s.sending()
			rpc := <-s.b.Consumer()
			if begun {
				_, _ = rpc.Reader.Read(make([]byte, 1))
			}
			_ = s.b.Close()
			wantKind(t, "closed", <-done, kverr.Unavailable)
			if got := s.last().wasAborted(); got == begun {
				t.Errorf("begun %t, aborted %t", begun, got)
			}
			if n, err := rpc.Reader.Read(make([]byte, 100)); (n > 0) != begun {
				t.Errorf("begun %t: raft reads %d bytes, %v", begun, n, err)
			}
		})
	}
}

// TestSnapshot_SenderGoneBeforeRaftTookIt: nobody would hear of the success.
func TestSnapshot_SenderGoneBeforeRaftTookIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		done := s.sending()
		time.Sleep(time.Second)
		_ = s.a.Close()
		wantKind(t, "closed", <-done, kverr.Closed)
		synctest.Wait()
		if !s.last().wasAborted() {
			t.Error("kept")
		}
		s.wantIdle()
		rpc := <-s.b.Consumer()
		_, err := io.ReadAll(rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{}, err)
		if err == nil {
			t.Error("raft reads what was given up")
		}
		s.a = s.nodes[0].group(testGroup)
		s.raft(s.b)
		s.wantWhole()
	})
}

// slowConn lets so many bytes per second through, or none while it is held.
type slowConn struct {
	net.Conn
	perSecond int
	held      *atomic.Bool
}

func (c slowConn) Write(b []byte) (int, error) {
	for c.held.Load() {
		time.Sleep(100 * time.Millisecond)
	}
	if c.perSecond > 0 {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(c.perSecond))
	}
	return c.Conn.Write(b)
}

// TestSnapshot_SlowLink: a transfer may last as long as it gets on; a link that
// carries nothing ends it.
func TestSnapshot_SlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held atomic.Bool
		s := newShipment(t, func(i int, x *testNode) {
			if i == 1 {
				x.wrap = func(c net.Conn) net.Conn { return slowConn{c, 20 << 10, &held} }
			}
		})
		defer s.close()
		s.raft(s.b)
		s.view.size = 64 << 10
		start := time.Now()
		resp, err := s.send()
		if took := time.Since(start); err != nil || !resp.Success || took < 30*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		s.view.before = func(step int) {
			if step == 5 {
				held.Store(true)
			}
		}
		start = time.Now()
		_, err = s.send()
		wantKind(t, "held", err, kverr.Unavailable)
		if took := time.Since(start); took > 60*time.Second {
			t.Errorf("given up after %s", took)
		}
		held.Store(false)
		time.Sleep(20 * time.Second)
		s.view.size = 1000
		s.wantWhole()
		s.wantIdle()
	})
}

// TestSnapshot_ReceiversDiskHangs: the connection is well, and nothing gets on.
func TestSnapshot_ReceiversDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		s.view.size, s.view.pieces, s.view.files = 256<<10, 15, 8 // more than all windows and buffers hold
		s.prepare = func(r *fakeReceiver) {
			r.at = func(step int) error {
				if step == 2 {
					time.Sleep(time.Minute)
				}
				return nil
			}
		}
		start := time.Now()
		_, err := s.send()
		wantKind(t, "hanging disk", err, kverr.Unavailable)
		if took := time.Since(start); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("given up after %s", took)
		}
		time.Sleep(time.Minute)
		s.view.size, s.view.pieces, s.view.files = 1000, 4, 3
		s.wantWhole()
	})
}

// TestSnapshot_Turns: two at a time leave a node; a third waits, without being
// offered, until there is a turn or its group closes.
func TestSnapshot_Turns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		const groups = 5
		var from, to []*Group
		for id := range uint64(groups) {
			from, to = append(from, s.nodes[0].group(100+id)), append(to, s.nodes[1].group(100+id))
			s.raft(to[id])
		}
		s.view.before = func(step int) {
			if step == 1 {
				time.Sleep(5 * time.Second)
			}
		}
		start := time.Now()
		errs := make(chan error, groups)
		for i := range groups {
			go func() {
				_, err := s.sendTo(from[i], to[i].LocalAddr())
				errs <- err
			}()
			time.Sleep(time.Millisecond)
		}
		if n := s.offered(); n != 2 || s.nodes[0].net.Stats().SnapshotsSending != groups {
			t.Errorf("%d offers at a time", n)
		}
		_ = from[4].Close()
		wantKind(t, "closed while it waits", <-errs, kverr.Closed)
		for range groups - 1 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start).Round(time.Second); took != 10*time.Second || s.offered() != 4 {
			t.Errorf("%d transfers took %s", s.offered(), took)
		}
	})
}

// TestSnapshot_ANodeThatIsDownHoldsNoTurn, and is waited for: raft would sleep
// longer and longer after each failure.
func TestSnapshot_ANodeThatIsDownHoldsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		down := s.lan.join(t)
		down.stopServer()
		errs := make(chan error, 3)
		start := time.Now()
		for id := range uint64(3) {
			g := s.nodes[0].group(100 + id)
			go func() {
				_, err := s.sendTo(g, raft.ServerAddress(ServerID(down.id, down.replica())))
				errs <- err
			}()
		}
		unknown := s.nodes[0].group(99)
		go func() {
			_, err := s.sendTo(unknown, "n9/r109")
			if took := time.Since(start); took < offerPatience-time.Second {
				t.Errorf("a node without address is given up after %s", took)
			}
			errs <- err
		}()
		time.Sleep(time.Millisecond)
		s.wantWhole()
		if took := time.Since(start); took > time.Second {
			t.Errorf("a healthy node waited %s", took)
		}
		for range 4 {
			wantKind(t, "down", <-errs, kverr.Unavailable)
		}
		if took := time.Since(start); took < offerPatience || took > offerPatience+2*time.Second {
			t.Errorf("given up after %s", took)
		}
		s.nodes[1].stopServer()
		done := s.sending()
		time.Sleep(7 * time.Second)
		s.nodes[1].startServer()
		if err := <-done; err != nil {
			t.Errorf("a node that comes back within %s: %v", offerPatience, err)
		}
	})
}

// TestSnapshot_ANewerOneSupersedes: what an earlier tenure still sends would only
// keep the receiver busy.
func TestSnapshot_ANewerOneSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		s.view.before = func(step int) {
			if step == 2 {
				time.Sleep(9 * time.Second)
			}
		}
		first := s.sending()
		time.Sleep(time.Second)
		second := &fakeView{files: 1, pieces: 1, size: 10}
		var resp raft.InstallSnapshotResponse
		start := time.Now()
		if err := s.a.InstallSnapshot("", s.b.LocalAddr(), s.request(), &resp, second); err != nil || !resp.Success || time.Since(start) > time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		wantKind(t, "the first", <-first, kverr.Closed)
		s.wantIdle()
		if len(s.a.mu.sending) != 0 {
			t.Error("not forgotten")
		}
	})
}

// TestSnapshot_OtherTrafficGoesOn while a transfer fills all windows and its
// receiver's disk is slow.
func TestSnapshot_OtherTrafficGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.raft(s.b)
		s.view.size, s.view.pieces, s.view.files = 256<<10, 15, 4
		s.prepare = func(r *fakeReceiver) {
			r.at = func(int) error { time.Sleep(200 * time.Millisecond); return nil }
		}
		other, others := s.nodes[0].group(500), s.nodes[1].group(500)
		s.raft(others)
		done := s.sending()
		for range 50 {
			start := time.Now()
			if err := heartbeat(other, others); err != nil || time.Since(start) > 0 {
				t.Fatalf("%v after %s", err, time.Since(start))
			}
			time.Sleep(200 * time.Millisecond)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// join adds a node that can reach all and be reached.
func (l *lan) join(t *testing.T) *testNode {
	t.Helper()
	x := &testNode{lan: l, id: nodeName(len(l.nodes))}
	x.cluster.Store("c1")
	x.opts = Options{
		Self: x.id, ClusterID: func() string { return "c1" },
		Dial: func(_ context.Context, to shardmap.NodeID) (*grpc.ClientConn, error) { return l.conn(x.id, to) },
	}
	l.nodes = append(l.nodes, x)
	x.start()
	return x
}
