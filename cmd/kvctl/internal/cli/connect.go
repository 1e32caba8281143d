package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/internal/kverr"
)

// probeTimeout is how long one endpoint may take to show that it lives before
// the next one is asked.
const probeTimeout = 2 * time.Second

// refusedPatience is how long all endpoints may refuse connections before a
// verb that reads or writes keys gives up, unless --timeout says otherwise: a
// node that restarts is back within it.
const refusedPatience = 2 * time.Second

// openClient gives up early when every endpoint refuses connections: nobody
// should wait for a cluster that does not run. It does so at once when nobody
// named a cluster and none is where the default says.
func (a *app) openClient(ctx context.Context) (*client.Client, error) {
	patience := refusedPatience
	switch {
	case a.target.Default:
		patience = 0
	case a.settings.TimeoutGiven:
		patience = a.settings.Timeout
	}
	if !a.someoneListens(ctx, patience) {
		if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, context.Cause(ctx)
		}
		refused := &commandError{
			code: exitUnavailable,
			err:  fmt.Errorf("no node at %s: connection refused", strings.Join(a.target.Endpoints, ", ")),
			hint: a.runningHint(),
		}
		if a.target.Default {
			refused.hint = "kvctl local up starts a cluster here, --endpoints names another one"
		}
		return nil, refused
	}
	return client.Open(ctx, "kv://"+strings.Join(a.target.Endpoints, ","), client.WithTimeout(a.settings.Timeout),
		client.WithClusterID(a.target.ClusterID))
}

// someoneListens is false when all endpoints refuse connections for as long as
// patience says, or until ctx ends. One that says nothing at all may only be
// slow: the client finds out.
func (a *app) someoneListens(ctx context.Context, patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	for refused := false; ; refused = true {
		if !a.allRefuse(ctx) {
			// A dial that ended with our time is no word of anybody's. It may notice
			// before the context does.
			end, bounded := ctx.Deadline()
			over := ctx.Err() != nil || bounded && !time.Now().Before(end)
			return !over || !refused
		}
		pause := min(refusedPause, time.Until(deadline))
		if pause <= 0 {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

const refusedPause = 100 * time.Millisecond

// allRefuse asks all endpoints at the same time.
func (a *app) allRefuse(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var wait sync.WaitGroup
	var other atomic.Bool
	for _, address := range a.target.Endpoints {
		wait.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.Close()
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				other.Store(true)
				cancel() // the others need not be waited for
			}
		})
	}
	wait.Wait()
	return !other.Load()
}

// withClient opens a client for one operation bounded by the timeout.
func (a *app) withClient(ctx context.Context, do func(context.Context, *client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.settings.Timeout)
	defer cancel()
	c, err := a.openClient(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, c), c.Close())
}

// records is a client as import sees it.
type records struct{ client *client.Client }

func (r records) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	var opts []client.WriteOption
	if ttl != 0 {
		opts = append(opts, client.WithTTL(ttl))
	}
	_, err := r.client.Put(ctx, key, value, opts...)
	return err
}

func (r records) Get(ctx context.Context, key string) ([]byte, error) {
	return store(r).Get(ctx, key)
}

// store is a client as the loads of bench see it.
type store struct{ client *client.Client }

func (s store) Put(ctx context.Context, key string, value []byte) error {
	_, err := s.client.Put(ctx, key, value)
	return err
}

func (s store) Get(ctx context.Context, key string) ([]byte, error) {
	item, err := s.client.Get(ctx, key)
	return item.Value, err
}

func dialAdmin(address string) (admin adminv1.AdminClient, closeConn func(), err error) {
	// gRPC's own patience must be longer than ours, whose end says what happened.
	conn, err := grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 2 * probeTimeout}))
	if err != nil {
		return nil, nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return adminv1.NewAdminClient(conn), func() { conn.Close() }, nil
}

// adminCall is something asked of one node.
type adminCall func(context.Context, adminv1.AdminClient) error

// askAdmin calls the first endpoint that shows that it lives. sent says whether
// the call changes something: then it goes to one node only.
func (a *app) askAdmin(ctx context.Context, sent wire.Sent, call adminCall) error {
	var causes []error
	for _, address := range a.target.Endpoints {
		lives, err := a.askOne(ctx, address, sent, call)
		if err == nil || lives && (sent == wire.MaybeSent || !isPassing(err)) {
			return err
		}
		causes = append(causes, err)
		if ctx.Err() != nil {
			break
		}
	}
	return cmp.Or(errors.Join(causes...), context.Cause(ctx))
}

func (a *app) askOne(ctx context.Context, address string, sent wire.Sent, call adminCall) (lives bool, err error) {
	admin, closeConn, err := dialAdmin(address)
	if err != nil {
		return false, err
	}
	defer closeConn()
	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	status, err := admin.NodeStatus(probe, &adminv1.NodeStatusRequest{})
	if err != nil {
		err = wire.ErrorFromStatus(err, wire.Unsent)
		if ctx.Err() == nil && probe.Err() != nil {
			// Our own impatience, not the caller's time.
			err = kverr.New(kverr.Unavailable, "no answer within %v", probeTimeout)
		}
		return false, fmt.Errorf("%s: %w", address, err)
	}
	if is, want := status.GetClusterId(), a.target.ClusterID; want != "" && is != "" && is != want {
		return false, kverr.New(kverr.WrongCluster, "%s: the node there belongs to cluster %s, and %s is for cluster %s",
			address, is, a.target.From, want)
	}
	if err := call(ctx, admin); err != nil {
		return true, &answered{fmt.Errorf("%s: %w", address, wire.ErrorFromStatus(err, sent))}
	}
	return true, nil
}

// answered is an error of a node that was there to be asked.
type answered struct{ err error }

func (e *answered) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *answered) Unwrap() error { return e.err }

// isPassing reports whether another node may do better.
func isPassing(err error) bool {
	switch kverr.KindOf(err) {
	case kverr.Unavailable, kverr.Overloaded, kverr.NotLeader, kverr.Closed:
		return true
	}
	return false
}
