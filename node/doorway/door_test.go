package doorway

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/test/bufconn"

	_ "github.com/ringfort/ringfort/internal/racebubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs fn with a door whose listener is dialled by dial.
func bubble(t *testing.T, limits Limits, fn func(t *testing.T, d *Door, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 10)
		d := Open(l, limits)
		defer func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}()
		fn(t, d, func() net.Conn {
			conn, err := l.Dial()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn
		})
	})
}

func say(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(conn, what); err != nil {
		t.Fatal(err)
	}
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func wantRead(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func wantClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatalf("read %d bytes from a connection that should be closed", n)
	}
}

var roomy = Limits{MaxClients: 10, MaxPeers: 10}

func TestClientsAndPeersAreToldApart(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, d *Door, dial func() net.Conn) {
		client, peer := dial(), dial()
		say(t, client, "PRI * HTTP/2.0")
		if err := Knock(peer); err != nil {
			t.Fatal(err)
		}
		say(t, peer, "PRI")
		wantRead(t, accept(t, d.Clients()), "PRI * HTTP/2.0")
		wantRead(t, accept(t, d.Peers()), "PRI")
	})
}

func TestSilentAndWrongKnocksAreClosed(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, d *Door, dial func() net.Conn) {
		silent, wrong, half := dial(), dial(), dial()
		say(t, wrong, "RFN9")
		say(t, half, "RF")
		began := time.Now()
		wantClosed(t, wrong)
		if time.Since(began) > 0 {
			t.Error("a wrong knock was closed late")
		}
		wantClosed(t, silent)
		wantClosed(t, half)
		if d := time.Since(began); d != knockTimeout {
			t.Errorf("silence was borne for %v", d)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	bubble(t, Limits{MaxClients: 2, MaxPeers: 1}, func(t *testing.T, d *Door, dial func() net.Conn) {
		first, second, third := dial(), dial(), dial()
		for _, c := range []net.Conn{first, second} {
			say(t, c, "P")
			synctest.Wait()
		}
		say(t, third, "P")
		wantClosed(t, third)
		accepted := accept(t, d.Clients())
		if err := errors.Join(accepted.Close(), accepted.Close()); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Fatal(err)
		}
		fourth := dial()
		say(t, fourth, "Px")
		accept(t, d.Clients())
		wantRead(t, accept(t, d.Clients()), "Px")

		var undecided []net.Conn
		for range maxUndecided {
			undecided = append(undecided, dial())
		}
		synctest.Wait()
		wantClosed(t, dial())
		for _, c := range undecided {
			c.Close()
		}
	})
}

func TestOneSideClosesAlone(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, d *Door, dial func() net.Conn) {
		waiting := dial()
		say(t, waiting, "P")
		synctest.Wait()
		if err := d.Clients().Close(); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, waiting)
		if _, err := d.Clients().Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("got %v", err)
		}
		late, peer := dial(), dial()
		say(t, late, "P")
		wantClosed(t, late)
		if err := Knock(peer); err != nil {
			t.Fatal(err)
		}
		accept(t, d.Peers())
	})
}

func TestCloseEndsEverything(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, d *Door, dial func() net.Conn) {
		silent := dial()
		synctest.Wait()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, silent)
		if _, err := d.Peers().Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}
