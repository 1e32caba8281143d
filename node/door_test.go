package node_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/node/registry"
	"github.com/ringfort/ringfort/shardmap"
)

// exchange sends one frame on a new stream and returns the answers to it.
func exchange(t *testing.T, client kvv1.KVClient, ops ...*kvv1.Operation) ([]*kvv1.Answer, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := client.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: 1, ClientId: make([]byte, 16)}}); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&kvv1.ClientFrame{Operations: ops}); err != nil {
		return nil, err
	}
	var answers []*kvv1.Answer
	for len(answers) < len(ops) {
		frame, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		answers = append(answers, frame.GetAnswers()...)
	}
	return answers, nil
}

// An operation that names the system shard, and claims to know better where its
// slots are, must not reach the cluster's registry.
func TestN3ClientsCannotReachTheSystemShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		leader := leaderOf(c, shardmap.SystemShard)
		group, _ := leader.Node().Store().Group(shardmap.SystemShard)
		before := group.Status().Applied
		answers, err := exchange(t, dial(t, c, leader.Index), &kvv1.Operation{
			Id: 1, Kind: kvv1.OperationKind_OPERATION_KIND_PUT, Key: registry.ClusterKey(), Value: []byte("mine"),
			Shard: uint64(shardmap.SystemShard), ArcEpoch: 1 << 60,
		})
		if err != nil {
			t.Fatal(err)
		}
		if answers[0].GetError() == nil || group.Status().Applied != before {
			t.Fatalf("answered %v, applied %d after %d", answers[0], group.Status().Applied, before)
		}
	})
}

// A client's frame above the limit is refused before it is buffered; nodes among
// themselves may send larger messages through the same listener.
func TestOversizeFramesAreRefusedToClientsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		client := dial(t, c, 0)
		large := make([]byte, 5<<20)
		_, err := exchange(t, client, &kvv1.Operation{
			Id: 1, Kind: kvv1.OperationKind_OPERATION_KIND_PUT, Key: []byte("k"), Value: large,
		})
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("a frame of 5 MiB: %v", err)
		}
		client.put("k", "still served")
		// The peer service is not there for those who did not knock.
		conn := c.Conn(0)
		defer func() { _ = conn.Close() }()
		_, err = peerv1.NewPeerClient(conn).StoredPlan(t.Context(), &peerv1.StoredPlanRequest{})
		if status.Code(err) != codes.Unimplemented {
			t.Fatalf("the peer service answers clients: %v", err)
		}
	})
}

func TestHealthFollowsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, nodetest.Options{Logger: logger()})
		for _, s := range c.Servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		conn := c.Conn(1)
		defer func() { _ = conn.Close() }()
		check := func(service string) healthv1.HealthCheckResponse_ServingStatus {
			resp, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetStatus()
		}
		const serving, not = healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING
		if check("") != serving || check("kv.v1.KV") != not {
			t.Fatalf("before init: %v, %v", check(""), check("kv.v1.KV"))
		}
		st, err := adminv1.NewAdminClient(conn).NodeStatus(t.Context(), &adminv1.NodeStatusRequest{})
		if err != nil || st.GetPhase() != "uninitialized" || len(st.GetMembers()) != 3 {
			t.Fatalf("%+v, %v", st, err)
		}
		initAgain(t, c)
		wantOneCluster(t, c)
		if check("kv.v1.KV") != serving {
			t.Fatal("not serving after init")
		}
		watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{Service: "kv.v1.KV"})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := watch.Recv(); err != nil || resp.GetStatus() != serving {
			t.Fatalf("%v, %v", resp, err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- c.Servers[1].Stop() }()
		if resp, err := watch.Recv(); err != nil || resp.GetStatus() != not {
			t.Errorf("load balancers were not told: %v, %v", resp, err)
		}
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
	})
}

func TestLeaderTransferThroughAdmin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		from := leaderOf(c, 2)
		to := c.Servers[(from.Index+1)%3]
		_, err := dial(t, c, from.Index).TransferLeader(t.Context(), &adminv1.TransferLeaderRequest{
			Shard: 2, ToNode: string(to.Node().Self().ID),
		})
		if err != nil {
			t.Fatal(err)
		}
		await(t, "the new leader", func() bool { return leaderOf(c, 2) == to })
		_, err = dial(t, c, 0).TransferLeader(t.Context(), &adminv1.TransferLeaderRequest{Shard: 99})
		if status.Code(err) != codes.InvalidArgument {
			t.Fatalf("a shard that is not here: %v", err)
		}
	})
}

// writeCertificate makes a self-signed certificate for the nodes' names.
func writeCertificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"n1.test", "n2.test", "n3.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	for path, data := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return cert, key, pool
}

func TestTLSForClientsAndPeers(t *testing.T) {
	cert, key, pool := writeCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, nodetest.Options{Logger: logger(), Configure: func(_ int, cfg *config.Config) {
			cfg.TLSCert, cfg.TLSKey, cfg.TLSCA = cert, key, cert
		}})
		for _, s := range c.Servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Init(t.Context(), 0); status.Code(err) != codes.Unavailable {
			t.Fatalf("a client without TLS: %v", err)
		}
		conn, err := grpc.NewClient("passthrough:///"+c.Servers[0].Address(), grpc.WithContextDialer(c.Dial),
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool})))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := adminv1.NewAdminClient(conn).Init(t.Context(), &adminv1.InitRequest{Shards: 1}); err != nil {
			t.Fatal(err)
		}
		awaitServed(t, c)
		if _, err := kvv1.NewKVClient(conn).Put(t.Context(), &kvv1.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	})
}
