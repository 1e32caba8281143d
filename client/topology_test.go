package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

func TestNodeMovesToAnotherAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for _, n := range w.nodes {
			n.script(leads(w.nodes[1], 1))
		}
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Put(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		w.nodes[1].down()
		time.Sleep(time.Second)
		w.nodes[1].move("moved:1")
		w.nodes[1].up()
		w.setMap(2, w.record(2, 0, shardmap.Slots, 1))
		w.nodes[0].push(&kvv1.ServerFrame{Map: wire.MapToProto(w.theMap())})
		began := time.Now()
		if _, err := c.Put(ctx, "a", nil); err != nil || time.Since(began) > time.Second {
			t.Fatal(err, time.Since(began))
		}
	})
}

// The name in the target may stop working while the map's address does not.
func TestSeedIsFoundUnderTheMapsAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		var gone atomic.Bool
		dial := func(ctx context.Context, address string) (net.Conn, error) {
			if address == "alias:1" {
				if gone.Load() {
					return nil, errors.New("no such host")
				}
				address = w.nodes[0].addr
			}
			return w.dial(ctx, address)
		}
		c := w.open("alias:1", WithDialer(dial))
		ctx := context.Background()
		if _, err := c.Put(ctx, "a", nil); err != nil || c.Stats().Connects != 1 {
			t.Fatal(err, "or two streams to one node")
		}
		gone.Store(true)
		w.nodes[0].down()
		w.nodes[0].up()
		for range 3 {
			if _, err := c.Put(ctx, "a", nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSeedAddressGivenToAnotherNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Put(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		// The second node moves in where the first one was, and leads.
		w.nodes[0].down()
		w.nodes[1].down()
		w.nodes[0].move("nowhere:1")
		w.nodes[1].move("n1:7400")
		w.setMap(2, w.record(2, 0, shardmap.Slots, 1))
		w.nodes[1].up()
		if _, err := c.Put(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		c.topology.mu.Lock()
		defer c.topology.mu.Unlock()
		if seed := c.topology.seeds[0]; seed.name() != w.nodes[1].id || c.topology.nodes[w.nodes[0].id] == seed {
			t.Fatal("the seed is still taken for the old node")
		}
	})
}

// An endpoint may be a balancer that leads elsewhere each time.
func TestSeedBehindABalancer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for _, n := range w.nodes {
			n.script(leads(w.nodes[0], 1))
		}
		var dials atomic.Int64
		dial := func(ctx context.Context, address string) (net.Conn, error) {
			if address == "balancer:1" {
				address = w.nodes[min(dials.Add(1), 2)-1].addr
			}
			return w.dial(ctx, address)
		}
		c := w.open("balancer:1", WithDialer(dial))
		for range 3 {
			if _, err := c.Put(within(t, time.Second), "a", nil); err != nil {
				t.Fatal(err)
			}
			w.nodes[0].down()
			time.Sleep(100 * time.Millisecond)
			w.nodes[0].up()
		}
		if n := len(w.nodes[0].operations()); n != 3 {
			t.Fatalf("the leader got %d operations", n)
		}
	})
}

func TestMergedShardIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.setMap(1, w.record(2, 0, 8000, 1), w.record(3, 8000, shardmap.Slots, 1))
		c := w.open("n1:7400", WithBlock())
		w.setMap(2, w.record(2, 0, shardmap.Slots, 2))
		w.nodes[0].push(&kvv1.ServerFrame{Map: wire.MapToProto(w.theMap())})
		time.Sleep(time.Second)
		c.topology.mu.Lock()
		known := len(c.topology.routes)
		c.topology.mu.Unlock()
		if r := c.topology.lookup(9000); r == nil || r.record.Shard != 2 || known != 1 {
			t.Fatalf("slot 9000 follows %+v of %d routes", r, known)
		}
		// A record that the map has not caught up with stays, and its shard too.
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			if op.GetShard() == 4 {
				return success(op)
			}
			a := refusal(op, kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD)
			a.Record = wire.RecordToProto(w.record(4, 100, shardmap.Slots, 3))
			return a
		})
		if _, err := c.Put(context.Background(), keyIn(100, shardmap.Slots), nil); err != nil {
			t.Fatal(err)
		}
		w.setMap(3, w.record(2, 0, shardmap.Slots, 2))
		w.nodes[0].push(&kvv1.ServerFrame{Map: wire.MapToProto(w.theMap())})
		time.Sleep(time.Second)
		if r := c.topology.lookup(9000); r.record.Shard != 4 || c.Stats().MapEpoch != 3 {
			t.Fatalf("an older record came back: %+v", r.record)
		}
	})
}

func TestCloseRacesCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for range 30 {
			c := w.open("n1:7400,n2:7400")
			done := make(chan error)
			for range 8 {
				go func() {
					for {
						if _, err := c.Put(context.Background(), "a", nil); err != nil {
							done <- err
							return
						}
					}
				}()
			}
			for range 2 {
				go func() { _ = c.Close() }()
			}
			for range 8 {
				if err := <-done; !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
			}
		}
	})
}

// countingDialOption shows that dial options reach gRPC.
func countingDialOption(calls *atomic.Int64) grpc.DialOption {
	return grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn,
		method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		calls.Add(1)
		return streamer(ctx, desc, cc, method, opts...)
	})
}

func TestTLSLoggerAndDialOptions(t *testing.T) {
	server, roots := testCertificate(t)
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].down()
		w.nodes[0].up(grpc.Creds(credentials.NewTLS(server)))
		var log bytes.Buffer
		var streams atomic.Int64
		c := w.open("n1:7400", WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "n1"})),
			WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			WithDialOptions(countingDialOption(&streams)))
		if _, err := c.Put(context.Background(), "secret-key", []byte("secret-value")); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if streams.Load() != 1 || !strings.Contains(log.String(), "connected") || strings.Contains(log.String(), "secret") {
			t.Fatalf("%d streams; logged %q", streams.Load(), log.String())
		}
		// Without TLS, or with another name, it is refused, and says why.
		plain := w.open("n1:7400")
		_, err := plain.Get(within(t, time.Second), "a")
		checkError(t, err, ErrTimeout, false)
		other := w.open("n1:7400", WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "n2"})))
		if _, err = other.Get(within(t, time.Second), "a"); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Fatal(err)
		}
	})
}

func testCertificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"n1"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}
