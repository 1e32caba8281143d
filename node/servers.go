package node

import (
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/node/doorway"
	"github.com/ringfort/ringfort/raftstore/transport"
)

// Bounds of the listener.
const (
	maxClientConns    = 4096
	maxPeerConns      = 1024
	maxStreamsPerConn = 4096 // calls and streams open on one connection
	maxHeaderBytes    = 16 << 10
	handshakeTimeout  = 10 * time.Second
)

// servers are the two gRPC servers behind one listener.
type servers struct {
	door    *doorway.Door
	clients *grpc.Server
	peers   *grpc.Server
	health  *health.Server
	serving sync.WaitGroup
}

// serverOptions are those of both servers; maxMessage bounds what is buffered of
// one message.
func serverOptions(creds credentials.TransportCredentials, maxMessage int) []grpc.ServerOption {
	return append(transport.ServerOptions(),
		grpc.Creds(creds),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreamsPerConn),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		// Stop returns only when no handler runs any more: they use what is closed
		// next.
		grpc.WaitForHandlers(true),
	)
}

// openServers begins to answer on the listener.
func (n *Node) openServers(l net.Listener, creds credentials.TransportCredentials) {
	s := &servers{
		door:    doorway.Open(l, doorway.Limits{MaxClients: maxClientConns, MaxPeers: maxPeerConns}),
		clients: grpc.NewServer(serverOptions(creds, n.kv.Limits().MaxFrameBytes)...),
		peers:   grpc.NewServer(serverOptions(creds, transport.MaxEnvelopeBytes)...),
		health:  health.NewServer(),
	}
	kvv1.RegisterKVServer(s.clients, n.kv)
	for _, server := range []*grpc.Server{s.clients, s.peers} {
		adminv1.RegisterAdminServer(server, adminService{n: n})
		healthv1.RegisterHealthServer(server, s.health)
	}
	peerv1.RegisterPeerServer(s.peers, peerService{n: n})
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	s.health.SetServingStatus(kvv1.KV_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_NOT_SERVING)
	n.servers = s
	for server, side := range map[*grpc.Server]net.Listener{s.clients: s.door.Clients(), s.peers: s.door.Peers()} {
		s.serving.Go(func() {
			if err := server.Serve(side); err != nil && !errors.Is(err, grpc.ErrServerStopped) && !n.stopping.Load() {
				n.fail(errStart("serve gRPC", err))
			}
		})
	}
}

// setServing tells load balancers that data is served here.
func (n *Node) setServing() {
	if !n.stopping.Load() {
		n.servers.health.SetServingStatus(kvv1.KV_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	}
}
