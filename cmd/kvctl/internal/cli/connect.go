package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
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

// openClient fails at once when nobody named a cluster and none is where the
// default says: a newcomer should not wait for what cannot come.
func (a *app) openClient(ctx context.Context) (*client.Client, error) {
	if a.target.Default {
		conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, "tcp", a.target.Endpoints[0])
		if err != nil {
			return nil, &commandError{
				code: exitUnavailable, err: fmt.Errorf("no node at %s: %w", a.target.Endpoints[0], err),
				hint: "kvctl local up starts a cluster here, --endpoints names another one",
			}
		}
		conn.Close()
	}
	return client.Open(ctx, "kv://"+strings.Join(a.target.Endpoints, ","), client.WithTimeout(a.settings.Timeout))
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

// store is a client as the loads of import and bench see it.
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
	conn, err := grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: probeTimeout}))
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
		lives, err := askOne(ctx, address, sent, call)
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

func askOne(ctx context.Context, address string, sent wire.Sent, call adminCall) (lives bool, err error) {
	admin, closeConn, err := dialAdmin(address)
	if err != nil {
		return false, err
	}
	defer closeConn()
	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if _, err := admin.NodeStatus(probe, &adminv1.NodeStatusRequest{}); err != nil {
		err = wire.ErrorFromStatus(err, wire.Unsent)
		if ctx.Err() == nil && probe.Err() != nil {
			// Our own impatience, not the caller's time.
			err = kverr.New(kverr.Unavailable, "no answer within %v", probeTimeout)
		}
		return false, fmt.Errorf("%s: %w", address, err)
	}
	if err := call(ctx, admin); err != nil {
		return true, fmt.Errorf("%s: %w", address, wire.ErrorFromStatus(err, sent))
	}
	return true, nil
}

// isPassing reports whether another node may do better.
func isPassing(err error) bool {
	switch kverr.KindOf(err) {
	case kverr.Unavailable, kverr.Overloaded, kverr.NotLeader, kverr.Closed:
		return true
	}
	return false
}
