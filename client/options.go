package client

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ringfort/ringfort/internal/clock"
)

// DefaultTimeout bounds a call whose context has no deadline, unless
// WithTimeout says otherwise.
const DefaultTimeout = 10 * time.Second

// Clock is what a client estimates shard time and the age of its cache from. Timers
// and deadlines are not taken from it but from package time.
type Clock interface {
	// WallMicros is the wall clock in microseconds since the Unix epoch.
	WallMicros() uint64
	// Mono is a monotonic clock from an arbitrary start.
	Mono() time.Duration
	// Boot is like Mono and goes on while the machine is suspended. The age of what
	// the cache holds is measured by it.
	Boot() time.Duration
}

// Option configures a Client at Open.
type Option func(*config)

type config struct {
	timeout     time.Duration
	block       bool
	clusterID   string
	logger      *slog.Logger
	clock       Clock
	random      io.Reader
	credentials credentials.TransportCredentials
	dialer      func(ctx context.Context, address string) (net.Conn, error)
	dialOptions []grpc.DialOption
	cacheBytes  int64
}

func newConfig(opts []Option) (config, error) {
	cfg := config{
		timeout:     DefaultTimeout,
		logger:      slog.New(slog.DiscardHandler),
		clock:       clock.NewSystem(),
		random:      rand.Reader,
		credentials: insecure.NewCredentials(),
	}
	for _, opt := range opts {
		opt(&cfg)
	}
	if cfg.timeout <= 0 {
		return cfg, invalid("open", "", "the timeout must be positive, not %v", cfg.timeout)
	}
	if cfg.cacheBytes < 0 {
		return cfg, invalid("open", "", "the cache cannot have %d bytes", cfg.cacheBytes)
	}
	return cfg, nil
}

// WithTimeout bounds every call whose context has no deadline of its own. The
// default is DefaultTimeout.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithBlock makes Open wait, within its context or else the timeout, until one
// endpoint has answered. Without it Open connects nothing.
func WithBlock() Option { return func(c *config) { c.block = true } }

// WithClusterID makes the client refuse nodes of any other cluster, with
// ErrWrongCluster. Empty, the default, takes the first cluster that answers.
func WithClusterID(id string) Option { return func(c *config) { c.clusterID = id } }

// WithLogger sends what happens to connections to l. Keys and values are never
// logged. The default discards.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithClock replaces the machine's clocks.
func WithClock(k Clock) Option { return func(c *config) { c.clock = k } }

// WithRand replaces crypto/rand as the source of client ids and of jitter. It
// is read at Open only, 32 bytes.
func WithRand(r io.Reader) Option { return func(c *config) { c.random = r } }

// WithTransportCredentials sets up TLS, or another transport security. The
// default is none at all, meant for nodes that listen on loopback only.
func WithTransportCredentials(t credentials.TransportCredentials) Option {
	return func(c *config) { c.credentials = t }
}

// WithDialer replaces the way connections are made, for proxies and in-memory
// networks. The address is the endpoint as written in the target or the map.
func WithDialer(dial func(ctx context.Context, address string) (net.Conn, error)) Option {
	return func(c *config) { c.dialer = dial }
}

// WithCache gives the client a cache of that many bytes for what Get and GetMany
// read; 0, the default, is none. It weakens no level: see the package's
// documentation. The least recently used goes first.
func WithCache(bytes int64) Option { return func(c *config) { c.cacheBytes = bytes } }

// WithDialOptions adds gRPC dial options, after the client's own.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(c *config) { c.dialOptions = append(c.dialOptions, opts...) }
}
